//! Bytes that change on the disk behind the broker's back.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests_process::{Broker, Options, directory, lines};

use crate::verify;

/// Past the segment's own block and the frames' first few headers.
const SPOT: u64 = 4096 + 50_000;

fn filled(dir: &Path) -> Broker {
    let broker = Broker::start(Options::new(dir));
    let cli = broker.cli();
    for topic in ["hurt", "whole"] {
        cli.create(topic, 1);
        // Two runs: a write that was begun proves that the one before it had been durable. Inside the very last write
        // damage could not be told from a write that never finished.
        for part in lines::real(20_000).chunks(10_000) {
            cli.run_with(&["produce", topic], lines::joined(part)).expect(0);
        }
    }
    broker
}

/// The segment of the topic that was created first; log 0 is the metadata's.
fn first_segment(broker: &Broker) -> PathBuf {
    broker.options.data.join("logs/0000000000000001/0000000001.seg")
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.sync_all().unwrap();
}

#[track_caller]
fn verify_log(broker: &Broker, code: i32) -> String {
    let data = broker.options.data.to_str().expect("UTF-8").to_string();
    let done = broker.cli().run(&["log", "verify", &data]).expect(code);
    done.text() + &done.stderr
}

/// What was acknowledged and is damaged is told as damage; nothing is cut off, and other topics go on.
#[test]
fn damage_is_reported_and_never_cut_off() {
    let dir = directory();
    let mut broker = filled(dir.path());
    broker.kill9();
    verify_log(&broker, 0);
    let segment = first_segment(&broker);
    let bytes_before = used_bytes(&segment);
    flip(&segment, SPOT);
    let said = verify_log(&broker, 1);
    assert!(said.contains("0000000001.seg"), "{said}");

    broker.restart();
    let cli = broker.cli();
    // Found when opening or, below a checkpoint, when read; what lies before it is served either way.
    let read = cli.run(&["consume", "hurt", "--from-beginning", "--exit-at-end"]);
    let sent = lines::real(20_000);
    verify::in_order(&sent, &read.stdout);
    let found_by_reading = !read.stderr.contains("readable up to");
    read.fails().says(&["damage"]);
    if !found_by_reading {
        cli.run_with(&["produce", "hurt"], b"no\n".to_vec()).fails().says(&["damage"]);
        let status = cli.run(&["cluster", "status"]);
        assert!((status.text() + &status.stderr).contains("damage"), "{status:?}");
    }
    verify::whole_topic(&cli, "whole", 1, &sent);
    broker.sigterm(Duration::from_secs(10)).expect(0);
    assert!(used_bytes(&segment) >= bytes_before, "nothing was cut off");
    assert!(broker.stderr().contains("damage"), "{}", broker.stderr());
}

/// Up to the last byte that is not zero.
pub(crate) fn used_bytes(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut end = 0;
    let (mut at, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        let bytes = file.read(&mut buffer).unwrap();
        if bytes == 0 {
            return end;
        }
        if let Some(last) = buffer[..bytes].iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        at += bytes as u64;
    }
}
