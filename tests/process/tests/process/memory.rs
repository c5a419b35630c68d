//! Resident size. The bounds here are wide enough for every build; with `--nocapture` the figures are printed.

use std::time::Duration;

use tests_process::process::{Unread, run};
use tests_process::{Broker, Options, directory};

const MIB: u64 = 1 << 20;

#[test]
fn an_idle_broker_is_small() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(1));
    let resident = broker.resident_bytes();
    eprintln!("idle, one core: {} MiB", resident / MIB);
    assert!(resident < 64 * MIB, "{} MiB", resident / MIB);
}

#[test]
fn ten_thousand_idle_partitions_fit_and_come_back() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    for topic in 0..10 {
        cli.create(&format!("idle-{topic}"), 1000);
    }
    let resident = broker.resident_bytes();
    eprintln!("10,000 partitions: {} MiB", resident / MIB);
    assert!(resident < 450 * MIB, "{} MiB", resident / MIB);
    broker.kill9();
    broker.restart();
    eprintln!("ready again after {:?}, {} MiB", broker.ready_after, broker.resident_bytes() / MIB);
    cli.run_with(&["produce", "idle-9"], b"still here\n".to_vec()).expect(0);
    assert_eq!(cli.values("idle-9"), b"still here\n");
}

/// Full load, and a reader who takes nothing: memory levels off. Ten minutes of it in `make soak`.
#[test]
fn memory_levels_off_under_load_with_a_slow_reader() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    let create = ["topic", "create", "load", "--partitions", "4", "--config", "retention.bytes=300000000"];
    cli.run(&create).expect(0);
    let _slow = Unread::spawn(cli.command(&["consume", "load", "--from-beginning"]));
    let load = |seconds: u64| {
        let seconds = seconds.to_string();
        let args = [
            "bench",
            "produce",
            "--topic",
            "load",
            "--rate",
            "max",
            "--record-bytes",
            "1000",
            "--warm-up",
            "0",
            "--duration",
            &seconds,
        ];
        run(cli.command(&args), Vec::new(), Duration::from_secs(900)).expect(0);
        broker.resident_bytes()
    };
    let (first, second) = if tests_process::soak() { (load(60), load(540)) } else { (load(4), load(6)) };
    eprintln!("after the first part {} MiB, after the second {} MiB", first / MIB, second / MIB);
    assert!(second < first + first / 4 + 64 * MIB, "{} MiB, then {} MiB", first / MIB, second / MIB);
}
