//! SIGSTOP and SIGCONT: the broker is there and does nothing, as under a debugger, a full host, a paused machine.

use std::thread;
use std::time::Duration;

use millstream_client::DeliveryError;
use nix::sys::signal::Signal;
use tests_process::clients::Load;
use tests_process::{Broker, Chance, Clients, Options, directory};

/// Of the clients. The broker's own is 30 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

fn pause(broker: &Broker, span: Duration) {
    broker.signal(Signal::SIGSTOP);
    thread::park_timeout(span);
    broker.signal(Signal::SIGCONT);
}

/// Below the idle timeout, above it, and, in `make soak`, above the broker's own.
fn spans(chance: &mut Chance) -> Vec<Duration> {
    let mut short =
        |count: u64| (0..count).map(|_| Duration::from_millis(20 + chance.below(1_000))).collect();
    let mut spans: Vec<Duration> = short(if tests_process::soak() { 100 } else { 5 });
    spans.push(IDLE_TIMEOUT + Duration::from_millis(1500));
    if tests_process::soak() {
        spans.extend([Duration::from_secs(35), Duration::from_secs(60)]);
    }
    spans
}

#[test]
fn pauses_lose_nothing_double_nothing_and_clients_go_on() {
    let mut chance = Chance::new(19);
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.cli().create("paused", 4);
    let clients = Clients::new(&broker.options).idle_timeout(IDLE_TIMEOUT);
    let producer = clients.produce("paused", Load::new(chance.draw()));
    let follower = clients.follow("paused");
    for span in spans(&mut chance) {
        clients.wait_for_acks(1 + chance.below(2_000) as usize);
        pause(&broker, span);
    }
    clients.wait_for_acks(1_000);
    assert_eq!(producer.end(&clients), [], "every record is acknowledged in the end");
    follower.end(&clients);
    clients.check("paused");
    broker.kill9();
    broker.restart();
    clients.check("paused");
}

/// Records time out with an unknown outcome, or were never sent; those that come later are stored, in order and once.
#[test]
fn a_pause_above_the_delivery_timeout_leaves_no_duplicate() {
    let mut chance = Chance::new(20);
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.cli().create("late", 2);
    let clients = Clients::new(&broker.options).idle_timeout(IDLE_TIMEOUT);
    let mut load = Load::new(chance.draw());
    load.producer.delivery_timeout = Duration::from_millis(500);
    let producer = clients.produce("late", load);
    let follower = clients.follow("late");
    for span in [Duration::from_millis(1_500), IDLE_TIMEOUT + Duration::from_millis(1_500)] {
        clients.wait_for_acks(1_000);
        pause(&broker, span);
    }
    clients.wait_for_acks(1_000);
    let errors = producer.end(&clients);
    assert!(!errors.is_empty(), "a pause that long times out some");
    for error in errors {
        assert!(
            matches!(error, DeliveryError::TimedOut { .. } | DeliveryError::NotSent { .. }),
            "{error}: a pause refuses nothing"
        );
    }
    follower.end(&clients);
    clients.check("late");
    broker.kill9();
    broker.restart();
    clients.check("late");
}
