//! SIGTERM.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests_process::{Broker, Options, directory, lines};

use crate::verify;

const STOP_MAX: Duration = Duration::from_secs(10);

/// What was accepted before the signal is there afterwards; the producer rides through with the rest.
#[test]
fn sigterm_under_load_exits_cleanly_and_keeps_what_was_acknowledged() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("stop", 4);
    let sent = lines::real(100_000);
    let mut producer = cli.spawn(&["produce", "stop"]);
    for part in sent.chunks(sent.len().div_ceil(3)) {
        producer.write(&lines::joined(part)).expect("the producer rides through");
        broker.sigterm(STOP_MAX).expect(0);
        broker.restart();
    }
    producer.finish(Duration::from_secs(120)).expect(0);
    verify::whole_topic(&cli, "stop", 4, &sent);
}

/// As supervisors do. A topic with `write.caching` has acknowledged what is not yet written: an orderly end
/// writes it.
#[test]
fn a_repeated_sigterm_does_not_cut_the_end_short() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    let caching = ["--config", "write.caching=true", "--config", "flush.ms=60000"];
    cli.run(&[&["topic", "create", "cached"], &caching[..]].concat()).expect(0);
    let sent = lines::real(1_000);
    cli.run_with(&["produce", "cached"], lines::joined(&sent)).expect(0);
    let start = std::time::Instant::now();
    broker.signal(Signal::SIGTERM);
    broker.wait_for_stderr("event=stopping", STOP_MAX);
    for _ in 0..3 {
        broker.signal(Signal::SIGTERM);
    }
    broker.wait(start, STOP_MAX).expect(0);
    broker.restart();
    verify::whole_topic(&cli, "cached", 1, &sent);
}

#[test]
fn sigterm_while_idle_is_quick() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let done = broker.sigterm(STOP_MAX).expect(0);
    assert!(done.took < Duration::from_secs(3), "{:?}", done.took);
}
