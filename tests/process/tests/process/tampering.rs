//! Files changed between two lives of the broker, at random places: bits, sectors, blocks, ends.
//!
//! Each must have the outcome that `storage/FORMAT.md` names: it is noticed, or it does not matter; what is served
//! is what was stored; other partitions do not notice; and nobody makes it worse by going on. A round begins with a
//! fresh copy of the same directory. `MILLSTREAM_TEST_SEED` repeats a run; what is done in each round is printed.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millstream_client::{DeliveryError, Offset, ProduceError, ReadError, Start};
use tests_process::clients::Load;
use tests_process::{Broker, Chance, Clients, History, Options, Place, directory};

use crate::damage::used_bytes;

const STOP_MAX: Duration = Duration::from_secs(10);
/// Log 0 is the metadata's; then come the two partitions of the topic made first.
const HURT_LOGS: [u64; 2] = [1, 2];
const SECTOR: usize = 512;
const BLOCK: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Written,
    Sealed,
    Index,
    Checkpoint,
    Spare,
    MetadataLog,
    MetadataCheckpoint,
    Identity,
}

const TARGETS: [Target; 8] = [
    Target::Written,
    Target::Sealed,
    Target::Index,
    Target::Checkpoint,
    Target::Spare,
    Target::MetadataLog,
    Target::MetadataCheckpoint,
    Target::Identity,
];

#[derive(Debug, Clone, Copy)]
enum Change {
    Bit,
    Sector,
    Zeros,
    Cut,
}

const CHANGES: [Change; 4] = [Change::Bit, Change::Sector, Change::Zeros, Change::Cut];

/// A directory that a broker left, and what its clients know.
struct Left {
    _dir: tempfile::TempDir,
    options: Options,
    history: History,
    /// Else it was killed: what was written last cannot be told from what was never answered.
    is_closed: bool,
}

impl Left {
    fn make(seed: u64, is_closed: bool) -> Left {
        let dir = directory();
        let mut broker = Broker::start(Options::new(dir.path()));
        let cli = broker.cli();
        for (topic, partitions) in [("hurt", "2"), ("whole", "1"), ("gone", "1")] {
            let small = ["--partitions", partitions, "--config", "segment.bytes=1048576"];
            cli.run(&[&["topic", "create", topic], &small[..]].concat()).expect(0);
        }
        let clients = Clients::new(&broker.options);
        let heavy = Load { value_bytes_max: 8_000, ..Load::new(seed) };
        let producers = ["hurt", "whole", "gone"].map(|topic| clients.produce(topic, heavy.clone()));
        clients.wait_for_acks(2_500);
        for producer in producers {
            assert_eq!(producer.end(&clients), []);
        }
        // The last two writes of each log: a few records.
        for _ in 0..2 {
            for (topic, partitions) in [("hurt", 2), ("whole", 1)] {
                let last = Load { records_max: 2 * partitions, ..Load::new(seed) };
                assert_eq!(clients.produce(topic, last).finish(&clients), []);
            }
        }
        let client = clients.client();
        let gone =
            Offset(clients.history().known_end(Place { topic: clients.topic("gone").id, partition: 0 }));
        clients.block_on(client.admin().delete_records("gone", 0, gone)).unwrap();
        let has_spares = || fs::read_dir(broker.options.data.join("spare")).is_ok_and(|dir| dir.count() > 0);
        clients.wait_until("spare", has_spares);
        if is_closed {
            broker.sigterm(STOP_MAX).expect(0);
        } else {
            broker.kill9();
        }
        let options = broker.options.clone();
        let history = clients.history().clone();
        Left { _dir: dir, options, history, is_closed }
    }

    /// The same directory again, elsewhere.
    fn copy(&self, to: &Path) -> Options {
        let options = Options { data: to.join("millstream-data"), ..self.options.clone() };
        let copied = Command::new("cp").arg("-a").arg(&self.options.data).arg(&options.data).status();
        assert!(copied.expect("cp").success());
        options
    }
}

/// What was done.
#[derive(Debug)]
#[expect(dead_code, reason = "printed, for the one who repeats it")]
struct Done {
    target: Target,
    change: Change,
    path: PathBuf,
    at: u64,
    file_bytes: u64,
    /// What was written last is hurt, perhaps as a whole: of a log that was not closed nobody can know.
    is_at_end: bool,
}

/// Above what the last writes of a log take.
const END_BYTES: u64 = 8192;

/// Changes something inside what is used of the file. Nothing when there is no such file.
fn tamper(chance: &mut Chance, data: &Path, target: Target, change: Change) -> Option<Done> {
    let path = pick(chance, data, target)?;
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let file_bytes = file.metadata().unwrap().len();
    let used = used_bytes(&path);
    let at = chance.below(used.max(1));
    let overwrite = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
    let left = (file_bytes - at) as usize;
    let changed_bytes = match change {
        Change::Bit => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            overwrite(at, &[byte[0] ^ 1 << chance.below(8)]);
            1
        }
        Change::Sector => {
            overwrite(at, &chance.bytes(SECTOR.min(left)));
            SECTOR
        }
        Change::Zeros => {
            overwrite(at, &vec![0; BLOCK.min(left)]);
            BLOCK
        }
        Change::Cut => {
            file.set_len(at).unwrap();
            left
        }
    };
    let is_at_end = at + changed_bytes as u64 + END_BYTES > used;
    Some(Done { target, change, path, at, file_bytes, is_at_end })
}

fn pick(chance: &mut Chance, data: &Path, target: Target) -> Option<PathBuf> {
    let log = |number: u64| data.join(format!("logs/{number:016x}"));
    let hurt = log(HURT_LOGS[chance.below(2) as usize]);
    let begun: Vec<PathBuf> = files(&hurt, "seg").into_iter().filter(|path| is_begun(path)).collect();
    match target {
        Target::Written => begun.last().cloned(),
        Target::Sealed => {
            let sealed = &begun[..begun.len() - 1];
            Some(sealed[chance.below(sealed.len() as u64) as usize].clone())
        }
        Target::Index => files(&hurt, "idx").pop(),
        Target::Checkpoint => Some(hurt.join("checkpoint")).filter(|path| path.exists()),
        Target::Spare => files(&data.join("spare"), "seg").pop(),
        Target::MetadataLog => files(&log(0), "seg").into_iter().rfind(|path| is_begun(path)),
        Target::MetadataCheckpoint => Some(log(0).join("checkpoint")).filter(|path| path.exists()),
        Target::Identity => Some(data.join("identity")),
    }
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

/// Made ahead it may hold a header of its former life: this one names log and segment.
fn is_begun(path: &Path) -> bool {
    let mut header = [0; 28];
    let whole = File::open(path).unwrap().read_exact(&mut header).is_ok();
    let name = |part: &std::ffi::OsStr| part.to_str().unwrap().to_string();
    let log = u64::from_str_radix(&name(path.parent().unwrap().file_name().unwrap()), 16).unwrap();
    let segment: u32 = name(path.file_stem().unwrap()).parse().unwrap();
    whole && header[16..24] == log.to_le_bytes() && header[24..28] == segment.to_le_bytes()
}

/// Starts on it and holds it against what FORMAT.md says.
fn judge(left: &Left, options: Options, done: &Done) {
    let told = Done { path: done.path.strip_prefix(&options.data).unwrap().into(), ..*done };
    eprintln!("{told:?}");
    let before = fs::read(&done.path).unwrap();
    let data = options.data.to_str().unwrap().to_string();
    let mut broker = match Broker::try_start(options.clone()) {
        Ok(broker) => broker,
        Err(refused) => {
            let may = matches!(done.target, Target::Identity | Target::MetadataLog);
            assert!(may, "{told:?}: refused to start: {}", refused.stderr);
            let word = if done.target == Target::Identity { "identity" } else { "log verify" };
            let refused = refused.expect(1).says(&[word]);
            assert_eq!(
                fs::read(&done.path).unwrap(),
                before,
                "{told:?}: refused, and changed: {}",
                refused.stderr
            );
            return;
        }
    };
    assert_ne!(done.target, Target::Identity, "{told:?}: it started:\n{}", broker.stderr());
    let clients = Clients::knowing(&options, left.history.clone());
    let is_noticed = look(left, &clients, done);
    write(&clients);
    let is_noticed = look(left, &clients, done) || is_noticed;
    if is_noticed {
        assert!(broker.stderr().contains("damage"), "{told:?}: noticed, not told:\n{}", broker.stderr());
    }
    broker.kill9();
    let verified = broker.cli().run(&["log", "verify", &data]);
    assert!(verified.code == Some(i32::from(is_noticed)) || !is_noticed, "{told:?}: {}", verified.text());
    broker.restart();
    look(left, &clients, done);
}

/// Whether something that was stored cannot be read.
fn look(left: &Left, clients: &Clients, done: &Done) -> bool {
    clients.check("whole");
    let topic = clients.topic("hurt");
    let client = clients.client();
    let troubled = clients.block_on(client.admin().describe_cluster()).unwrap().troubled;
    assert!(troubled.iter().all(|partition| partition.topic == "hurt"), "{done:?}: {troubled:?}");
    let mut is_noticed = !troubled.is_empty();
    for partition in 0..2 {
        let place = Place { topic: topic.id, partition };
        let known_end = clients.history().known_end(place);
        let read = clients.read("hurt", partition, Start::Beginning);
        let end = read.start + read.values.len() as u64;
        assert_eq!(read.start, 0, "{done:?}");
        let damaged = troubled.iter().find(|troubled| troubled.index == partition);
        match read.error {
            // Its log ends there for readers.
            None if damaged.is_some_and(|damaged| damaged.end.0 == end) => {
                clients.history().check_from(place, read.start, &read.values);
            }
            None if may_lose_its_end(left, done) && end < known_end => {
                clients.history().check_from(place, read.start, &read.values);
            }
            None => clients.history().check_whole(place, known_end, read.start, &read.values),
            Some(ReadError::Damaged { .. }) if matches!(done.target, Target::Written | Target::Sealed) => {
                is_noticed = true;
                clients.history().check_from(place, read.start, &read.values);
            }
            Some(error) => panic!("{done:?}: {error}"),
        }
    }
    is_noticed
}

fn may_lose_its_end(left: &Left, done: &Done) -> bool {
    !left.is_closed && done.target == Target::Written && done.is_at_end
}

/// A few more records, which a damaged partition refuses.
fn write(clients: &Clients) {
    let mut more = Load { records_max: 40, ..Load::new(9) };
    more.producer.delivery_timeout = Duration::from_secs(2);
    let errors = clients.produce("hurt", more).finish(clients);
    for error in errors {
        let DeliveryError::Refused(ProduceError::Damaged { .. }) = error else { panic!("{error}") };
    }
}

fn rounds(seed: u64, is_closed: bool, count: usize) {
    let mut chance = Chance::new(seed);
    let left = Left::make(chance.draw(), is_closed);
    for round in 0..count {
        let dir = directory();
        let options = left.copy(dir.path());
        let target = TARGETS[round % TARGETS.len()];
        let change = CHANGES[chance.below(4) as usize];
        match tamper(&mut chance, &options.data, target, change) {
            // The topics themselves may be what was written last.
            Some(done) if target == Target::MetadataLog && done.is_at_end && !is_closed => {}
            Some(done) => judge(&left, options, &done),
            None => eprintln!("no file: {target:?}"),
        }
    }
}

#[test]
fn what_was_closed_in_order_and_changed_is_noticed_or_harmless() {
    rounds(61, true, if tests_process::soak() { 800 } else { 16 });
}

#[test]
fn what_was_killed_and_changed_is_noticed_or_harmless() {
    rounds(62, false, if tests_process::soak() { 800 } else { 8 });
}
