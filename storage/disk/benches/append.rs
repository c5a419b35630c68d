//! Durable appends through the log and this door, against fio on a file of the same kind, in one run.
//!
//! One append at a time, as fio writes: each is staged, written and answered before the next. Segments are recycled,
//! so both write where zeros or old data were, and change no extent. The two take turns, and medians are compared, so
//! that a busy machine is busy for both. fio's part is left out when it is not installed.
//!
//!     cargo bench -p millstream-storage-disk --bench append [-- DIRECTORY]

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bench_disk::{ProbeFile, fio};
use glommio::channels::local_channel::{LocalReceiver, LocalSender, new_unbounded};
use glommio::{LocalExecutorBuilder, Placement};
use storage_disk::{Disk, DiskConfig};
use storage_frame::{BatchBuilder, Frame, LeaderEpoch, LogId, Now, TimestampMs};
use storage_log::{DiskResult, Log, LogConfig, LogEvent, LogState, OpId};
use storage_ring::{Ring, Threads};

const LOG: LogId = LogId(1);
const SEGMENT_BYTES: u64 = 128 << 20;
/// Until every segment the log asks for is a recycled one.
const WARM_UP_BYTES: u64 = 5 * SEGMENT_BYTES;
/// Of one round of either.
const MEASURED: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
const BLOCK_SIZES: [usize; 3] = [4 << 10, 64 << 10, 256 << 10];

fn main() {
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    // Not the system's temporary directory, which may be memory.
    let base = given.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let dir = tempfile::tempdir_in(base).expect("a directory on the disk in question");
    fs::write(dir.path().join("identity"), [0; 4096]).expect("the disk can be written");
    let data = dir.path().to_owned();
    let threads = Threads::new("disk", 1).expect("a thread");
    let rows = LocalExecutorBuilder::new(Placement::Fixed(0))
        .io_memory(1 << 20)
        .preempt_timer(Duration::from_secs(1))
        .spawn(move || async move {
            let ring = Ring::new(Duration::ZERO).expect("a ring");
            ring.drive(appends(ring.clone(), threads, &data)).await
        })
        .expect("an executor")
        .join()
        .expect("the bench ran");
    println!(
        "{:>8} {:>12} {:>9} {:>9} {:>12} {:>7}",
        "block", "log MB/s", "p50 us", "p99 us", "fio MB/s", "ratio"
    );
    for Row { block_bytes, ours, fio } in rows {
        let (shown, ratio) = match fio {
            Some(mb) => (format!("{mb:.1}"), format!("{:.3}", ours.mb_per_second / mb)),
            None => ("no fio".to_owned(), "-".to_owned()),
        };
        let Figures { mb_per_second, p50_us, p99_us } = ours;
        println!("{block_bytes:>8} {mb_per_second:>12.1} {p50_us:>9} {p99_us:>9} {shown:>12} {ratio:>7}");
    }
    println!("caches below the block device are not visible from here");
}

struct Row {
    block_bytes: usize,
    ours: Figures,
    fio: Option<f64>,
}

struct Figures {
    mb_per_second: f64,
    p50_us: u128,
    p99_us: u128,
}

async fn appends(ring: Ring, threads: Threads, data: &Path) -> Vec<Row> {
    let disk =
        Disk::open(ring.clone(), threads, data, &data.join("identity"), 0, 1, DiskConfig::default()).await;
    let mut bench = Bench::new(ring, disk.expect("the disk opens"));
    bench.until(|log| *log.state() == LogState::Ready).await;
    let warm = bench.frame(256 << 10);
    while bench.written < WARM_UP_BYTES {
        bench.append(&warm).await;
    }
    let file = ProbeFile::make(&data.join("fio"), SEGMENT_BYTES, Duration::MAX).expect("the disk has room");
    let mut rows = Vec::new();
    for block_bytes in BLOCK_SIZES {
        let frame = bench.frame(block_bytes);
        let (mut ours, mut others, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(bench.round(&frame, &mut times).await);
            // Blocks this executor, which has nothing else to do.
            let theirs = fio::write(&file, block_bytes, MEASURED).expect("fio says what it did");
            others.extend(theirs.map(|theirs| theirs.mb_per_second));
        }
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_micros();
        let mb_per_second = median(&mut ours).expect("there were rounds");
        let ours = Figures { mb_per_second, p50_us: at(50), p99_us: at(99) };
        rows.push(Row { block_bytes, ours, fio: median(&mut others) });
    }
    rows
}

fn median(figures: &mut [f64]) -> Option<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// One log and its disk, as a core holds them.
struct Bench {
    ring: Ring,
    disk: Rc<Disk>,
    log: Log,
    start: Instant,
    done: LocalReceiver<(OpId, DiskResult)>,
    tell: Rc<LocalSender<(OpId, DiskResult)>>,
    events: Vec<LogEvent>,
    written: u64,
}

impl Bench {
    fn new(ring: Ring, disk: Disk) -> Bench {
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            segment_age_max: Duration::from_secs(3600),
            retention_bytes: Some(SEGMENT_BYTES),
            retention_age: None,
            write_back_delay: None,
        };
        let start = Instant::now();
        let (tell, done) = new_unbounded();
        let log = Log::open(LOG, "bench", config, now(start));
        Bench {
            ring,
            disk: Rc::new(disk),
            log,
            start,
            done,
            tell: Rc::new(tell),
            events: Vec::new(),
            written: 0,
        }
    }

    /// A frame of exactly `bytes`.
    fn frame(&self, bytes: usize) -> Frame {
        let sealed = |value: &[u8]| {
            let mut builder = BatchBuilder::new();
            builder.push(TimestampMs(0), None, Some(value), []).expect("it fits");
            builder.seal(None)
        };
        let overhead = sealed(&[0; 16]).header().frame_bytes() - 16;
        let frame = sealed(&vec![0xA5; bytes - overhead]);
        assert_eq!(frame.header().frame_bytes(), bytes);
        frame
    }

    /// MB per second.
    async fn round(&mut self, frame: &Frame, times: &mut Vec<Duration>) -> f64 {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < MEASURED {
            let before = Instant::now();
            self.append(frame).await;
            times.push(before.elapsed());
            count += 1;
        }
        (count * frame.header().frame_bytes()) as f64 / start.elapsed().as_secs_f64() / 1e6
    }

    async fn append(&mut self, frame: &Frame) {
        let mut frame = frame.clone();
        frame.assign(self.log.staged_end(), LeaderEpoch(1));
        self.written += frame.header().frame_bytes() as u64;
        self.log.append(now(self.start), frame);
        let end = self.log.staged_end();
        self.until(|log| log.durable_end() >= end).await;
        self.log.on_tick(now(self.start), &mut self.events);
        self.begin_operations();
    }

    async fn until(&mut self, reached: impl Fn(&Log) -> bool) {
        self.begin_operations();
        while !reached(&self.log) {
            let (op, result) = self.done.recv().await.expect("the sender lives as long");
            self.log.on_disk(now(self.start), op, result, &mut self.events);
            assert!(
                !self.events.iter().any(|event| matches!(event, LogEvent::Failed { .. })),
                "{:?}",
                self.log.state()
            );
            self.events.clear();
            self.begin_operations();
        }
    }

    fn begin_operations(&mut self) {
        let mut ops = Vec::new();
        self.log.take_ops(now(self.start), &mut ops);
        for (id, op) in ops {
            let (disk, tell) = (Rc::clone(&self.disk), Rc::clone(&self.tell));
            let run = async move {
                let result = disk.run(LOG, op).await;
                // Refused only when the bench has ended.
                let _ = tell.try_send((id, result));
            };
            self.ring.spawn(run).detach();
        }
    }
}

fn now(start: Instant) -> Now {
    Now { mono: start.elapsed(), wall: TimestampMs(0) }
}
