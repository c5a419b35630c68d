//! No space left: the watermark is put below what is free, then crossed by a file of the test's own. The broker takes
//! producers back a tenth above the watermark, so both lie that far apart.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use tests_process::{Broker, Options, directory, lines};

use crate::verify;

#[test]
fn below_the_watermark_producers_wait_reads_go_on_and_it_mends_itself() {
    let dir = directory();
    let free = free_bytes(dir.path());
    let watermark = free / 100 * 80;
    let options = Options::new(dir.path()).env("MILLSTREAM_FREE_SPACE_MIN", watermark);
    let broker = Broker::start(options);
    let cli = broker.cli();
    cli.create("space", 1);
    let sent = lines::real(2_000);
    cli.run_with(&["produce", "space"], lines::joined(&sent)).expect(0);

    let ballast = dir.path().join("ballast");
    take(&ballast, free / 100 * 25);
    broker.wait_for_stderr("space_short", Duration::from_secs(30));
    let refused = cli.run_with(&["produce", "space", "--timeout", "2"], b"refused\n".to_vec());
    refused.fails().says(&["free-space watermark"]);
    assert_eq!(cli.values("space"), lines::joined(&sent), "reads go on");

    let mut waiting = cli.spawn(&["produce", "space"]);
    waiting.write(b"waited\n").unwrap();
    fs::remove_file(&ballast).unwrap();
    waiting.finish(Duration::from_secs(60)).expect(0);
    let after: Vec<Vec<u8>> = sent.into_iter().chain([b"waited".to_vec()]).collect();
    verify::same_lines(&after, &cli.values("space"));
}

fn free_bytes(dir: &Path) -> u64 {
    let stat = statvfs(dir).unwrap();
    stat.blocks_available() * stat.fragment_size()
}

fn take(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, bytes.cast_signed()).unwrap();
}
