use std::cell::Cell;
use std::os::unix::fs::MetadataExt;

use glommio::{LocalExecutorBuilder, Placement};

use super::*;

const LOG: LogId = LogId(0x1f);
const ONE: SegmentId = SegmentId(1);
const BLOCK: usize = BLOCK_BYTES;

thread_local! {
    /// Of the executor on this thread.
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

fn ring() -> Ring {
    RING.with_borrow(|ring| ring.clone().expect("on an executor"))
}

fn threads() -> Threads {
    Threads::new("disk-test", 2).unwrap()
}

/// Runs `test` on an executor of its own, with a fresh data directory.
fn with_data<F: Future<Output = ()> + 'static>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_path_buf();
    std::fs::write(data.join("identity"), vec![7; BLOCK]).unwrap();
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .preempt_timer(Duration::from_secs(1))
        .spawn(move || async move {
            let ring = Ring::new(Duration::ZERO).unwrap();
            RING.set(Some(ring.clone()));
            ring.drive(test(data)).await;
            RING.set(None);
        })
        .unwrap()
        .join()
        .unwrap();
}

async fn open(data: &Path, config: DiskConfig) -> Disk {
    Disk::open(ring(), threads(), data, &data.join("identity"), 0, 1, config).await.unwrap()
}

/// The spares of small test files are kept whatever the machine's free space.
fn config() -> DiskConfig {
    DiskConfig { spares_free_bytes_min: 0, ..DiskConfig::default() }
}

fn write(position: u64, parts: &[&[u8]]) -> DiskOp {
    let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
    DiskOp::Write { segment: ONE, position, parts }
}

async fn read(disk: &Disk, position: u64, bytes: usize) -> Bytes {
    let reply = disk.run(LOG, DiskOp::Read { segment: ONE, position, bytes }).await.unwrap();
    let DiskReply::Bytes(bytes) = reply else { panic!("{reply:?}") };
    bytes
}

async fn make(disk: &Disk, log: LogId, segment: SegmentId) -> (u64, Bytes) {
    let reply = disk.run(log, DiskOp::MakeSegment { segment }).await.unwrap();
    let DiskReply::Made { file_bytes, first_block } = reply else { panic!("{reply:?}") };
    (file_bytes, first_block)
}

#[test]
fn parts_are_written_back_to_back_and_padded_with_zeros() {
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        assert_eq!(make(&disk, LOG, ONE).await, (0, Bytes::new()));
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: 4 * BLOCK as u64, bulk: false })
            .await
            .unwrap();
        disk.run(LOG, write(BLOCK as u64, &[b"abc", b"", &[9; 5000]])).await.unwrap();
        // A shorter write of the same size class must not show what its buffer held before.
        disk.run(LOG, write(BLOCK as u64, &[b"abcd", &[8; 4097]])).await.unwrap();
        let bytes = read(&disk, BLOCK as u64, 3 * BLOCK).await;
        assert_eq!(&bytes[..4], b"abcd");
        assert!(bytes[4..4101].iter().all(|byte| *byte == 8));
        assert!(bytes[4101..].iter().all(|byte| *byte == 0), "padding and zeroed room");
        assert_eq!(
            std::fs::metadata(log_directory(&data, LOG).join("0000000001.seg")).unwrap().len(),
            4 * BLOCK as u64
        );
        let stats = disk.stats();
        assert_eq!(
            (stats.write.count, stats.write_bytes, stats.zero_bytes),
            (2, 5003 + 4101, 4 * BLOCK as u64)
        );
        assert_eq!((stats.open_files, stats.segments_created, stats.failed), (1, 1, 0));
    });
}

#[test]
fn reads_take_any_place_and_end_with_the_file() {
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        make(&disk, LOG, ONE).await;
        let content: Vec<u8> = (0..3 * 1024 * 1024 / 4).flat_map(|word: u32| word.to_le_bytes()).collect();
        disk.run(LOG, write(0, &[&content])).await.unwrap();
        for (from, bytes) in
            [(0, 1), (4095, 2), (1, 8192), (1 << 20, 100), (1_048_575, 1_048_578), (0, content.len())]
        {
            assert_eq!(
                read(&disk, from as u64, bytes).await,
                &content[from..from + bytes],
                "{bytes} bytes from {from}"
            );
        }
        assert_eq!(read(&disk, content.len() as u64 - 10, 1 << 30).await, &content[content.len() - 10..]);
        assert_eq!(read(&disk, content.len() as u64 + 1, 100).await, "");
    });
}

#[test]
fn large_rooms_are_zeroed_in_pieces() {
    with_data(|data| async move {
        let disk = open(&data, DiskConfig { zero_bytes_max: 64 << 10, ..config() }).await;
        make(&disk, LOG, ONE).await;
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: (1 << 20) + BLOCK as u64, bulk: false })
            .await
            .unwrap();
        let bytes = read(&disk, 0, 4 << 20).await;
        assert_eq!(bytes.len(), (1 << 20) + BLOCK);
        assert!(bytes.iter().all(|byte| *byte == 0));
    });
}

#[test]
fn room_for_large_writes_is_set_aside_and_reads_as_zeros() {
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        make(&disk, LOG, ONE).await;
        let room = 4 << 20;
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: room, bulk: true }).await.unwrap();
        let path = log_directory(&data, LOG).join(file_name(FileName::Segment(ONE)));
        let file = std::fs::metadata(path).unwrap();
        assert_eq!((file.len(), file.blocks() * 512 >= room), (room, true), "its blocks are its own");
        assert_eq!(disk.stats().zero_bytes, 0, "nothing was written twice");
        disk.run(LOG, write(1 << 20, &[b"in the middle"])).await.unwrap();
        let bytes = read(&disk, 0, room as usize).await;
        assert_eq!(bytes.len() as u64, room);
        assert_eq!(&bytes[1 << 20..(1 << 20) + 13], b"in the middle");
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 13);
    });
}

#[test]
fn room_is_filled_with_zeros_where_it_cannot_be_set_aside() {
    let is_refused = |errno| is_not_offered(&io::Error::from_raw_os_error(errno));
    assert!(is_refused(libc::EOPNOTSUPP) && is_refused(libc::ENOSYS) && is_refused(libc::EINVAL));
    assert!(!is_refused(libc::ENOSPC) && !is_refused(libc::EIO));
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        disk.inner.can_set_aside.set(false);
        make(&disk, LOG, ONE).await;
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: 2 << 20, bulk: true }).await.unwrap();
        assert_eq!(disk.stats().zero_bytes, 2 << 20);
        assert_eq!(read(&disk, 0, 4 << 20).await, vec![0; 2 << 20]);
    });
}

#[test]
fn a_retired_segment_comes_back_as_another_log_s_with_its_old_first_block() {
    with_data(|data| async move {
        let disk = open(&data, DiskConfig { spares_max: 1, ..config() }).await;
        for segment in [ONE, SegmentId(2)] {
            make(&disk, LOG, segment).await;
            disk.run(LOG, DiskOp::Zero { segment, from: 0, to: 1 << 20, bulk: false }).await.unwrap();
        }
        disk.run(LOG, write(0, &[b"former life"])).await.unwrap();
        disk.run(LOG, DiskOp::RetireSegment { segment: ONE }).await.unwrap();
        disk.run(LOG, DiskOp::RetireSegment { segment: SegmentId(2) }).await.unwrap();
        assert_eq!(disk.stats().spares, 1, "the second is above the bound");
        assert_eq!(disk.run(LOG, DiskOp::List).await, Ok(DiskReply::Listed(vec![])));
        drop(disk);

        let disk = open(&data, config()).await;
        assert_eq!(disk.stats().spares, 1, "adopted");
        let (file_bytes, first_block) = make(&disk, LogId(2), ONE).await;
        assert_eq!(file_bytes, 1 << 20);
        assert_eq!(first_block.len(), BLOCK);
        assert!(first_block.starts_with(b"former life"));
        assert_eq!(disk.stats().spares, 0);
        assert_eq!(make(&disk, LogId(2), SegmentId(2)).await, (0, Bytes::new()));
    });
}

#[test]
fn spares_are_given_up_when_space_is_short() {
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        make(&disk, LOG, ONE).await;
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: 1 << 20, bulk: false }).await.unwrap();
        disk.run(LOG, DiskOp::RetireSegment { segment: ONE }).await.unwrap();
        assert!(disk.free_bytes().await.unwrap() > 0);
        assert_eq!(disk.stats().spares, 1);
        drop(disk);
        let disk = open(&data, DiskConfig { spares_free_bytes_min: u64::MAX, ..config() }).await;
        disk.free_bytes().await.unwrap();
        assert_eq!(disk.stats().spares, 0);
        assert!(small::list_files(&data.join("spare")).unwrap().is_empty());
        make(&disk, LOG, ONE).await;
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: 1 << 20, bulk: false }).await.unwrap();
        disk.run(LOG, DiskOp::RetireSegment { segment: ONE }).await.unwrap();
        assert_eq!(disk.stats().spares, 0, "nor is another one kept");
    });
}

#[test]
fn small_files_are_listed_replaced_and_removed() {
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        let name = FileName::Checkpoint;
        assert_eq!(disk.run(LOG, DiskOp::List).await, Ok(DiskReply::Listed(vec![])));
        let absent = disk.run(LOG, DiskOp::ReadFile { name, bytes_max: 10 }).await.unwrap_err();
        assert_eq!(absent.kind, DiskErrorKind::NotFound);
        disk.run(LOG, DiskOp::ReplaceFile { name, bytes: Bytes::from_static(b"one") }).await.unwrap();
        disk.run(LOG, DiskOp::ReplaceFile { name, bytes: Bytes::from_static(b"three") }).await.unwrap();
        assert_eq!(
            disk.run(LOG, DiskOp::ReadFile { name, bytes_max: 10 }).await,
            Ok(DiskReply::Bytes(Bytes::from_static(b"three")))
        );
        assert_eq!(disk.run(LOG, DiskOp::List).await, Ok(DiskReply::Listed(vec![(name, 5)])));
        assert_eq!(disk.logs().await.unwrap(), [LOG]);
        disk.run(LOG, DiskOp::RemoveFile { name }).await.unwrap();
        disk.run(LOG, DiskOp::RemoveFile { name }).await.unwrap();
        make(&disk, LOG, ONE).await;
        disk.run(LOG, DiskOp::RemoveLog).await.unwrap();
        disk.run(LOG, DiskOp::RemoveLog).await.unwrap();
        assert_eq!(disk.logs().await.unwrap(), []);
    });
}

#[test]
fn errors_name_operation_file_and_cause() {
    with_data(|data| async move {
        let disk = open(&data, config()).await;
        let error = disk.run(LOG, write(0, &[b"x"])).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::NotFound);
        assert!(
            error.what.contains("000000000000001f/0000000001.seg") && error.what.contains("No such file"),
            "{}",
            error.what
        );
        make(&disk, LOG, ONE).await;
        disk.run(LOG, DiskOp::Zero { segment: ONE, from: 0, to: 4096, bulk: false }).await.unwrap();
        let error = disk.run(LOG, DiskOp::MakeSegment { segment: ONE }).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Io);
        assert!(error.what.contains("File exists"), "{}", error.what);
    });
}

#[test]
fn an_identity_file_too_short_is_refused() {
    with_data(|data| async move {
        std::fs::write(data.join("identity"), b"short").unwrap();
        let error = Disk::open(ring(), threads(), &data, &data.join("identity"), 0, 1, config())
            .await
            .map(drop)
            .unwrap_err();
        assert!(error.what.contains("identity"), "{}", error.what);
    });
}

#[test]
fn few_files_stay_open_and_idle_ones_are_closed() {
    with_data(|data| async move {
        let disk =
            open(&data, DiskConfig { open_files_max: 8, open_files_idle: Duration::ZERO, ..config() }).await;
        for round in 0..2 {
            for segment in (1..=20).map(SegmentId) {
                if round == 0 {
                    make(&disk, LOG, segment).await;
                }
                let parts = vec![Bytes::from(vec![segment.0 as u8; BLOCK])];
                disk.run(LOG, DiskOp::Write { segment, position: 0, parts }).await.unwrap();
                assert!(disk.stats().open_files <= 8);
            }
        }
        assert_eq!(read(&disk, 0, 1).await, &[1][..]);
        (0..TICKS_PER_SWEEP).for_each(|_| disk.tick());
        assert_eq!(disk.stats().open_files, 0);
    });
}

#[test]
fn many_operations_run_at_once_beside_removals() {
    with_data(|data| async move {
        let disk = open(&data, DiskConfig { operations_max: 4, open_files_max: 2, ..config() }).await;
        let answered = Rc::new(Cell::new(0));
        let mut tasks = Vec::new();
        for number in 0..24 {
            let (disk, answered) = (disk.clone(), Rc::clone(&answered));
            tasks.push(ring().spawn(async move {
                let log = LogId(number % 8);
                let segment = SegmentId(number as u32 + 1);
                make(&disk, log, segment).await;
                let parts = vec![Bytes::from(vec![number as u8; 3 * BLOCK])];
                disk.run(log, DiskOp::Write { segment, position: 0, parts }).await.unwrap();
                let read = disk.run(log, DiskOp::Read { segment, position: 10, bytes: 100 }).await;
                assert_eq!(read, Ok(DiskReply::Bytes(Bytes::from(vec![number as u8; 100]))));
                disk.run(log, DiskOp::RetireSegment { segment }).await.unwrap();
                answered.set(answered.get() + 1);
            }));
        }
        for task in tasks {
            task.await;
        }
        assert_eq!(answered.get(), 24);
        assert!(disk.inner.gates.is_empty(), "no gate is left behind");
    });
}
