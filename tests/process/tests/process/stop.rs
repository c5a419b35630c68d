//! SIGTERM.

use std::time::Duration;

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

#[test]
fn sigterm_while_idle_is_quick() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let done = broker.sigterm(STOP_MAX).expect(0);
    assert!(done.took < Duration::from_secs(3), "{:?}", done.took);
}
