//! A disk that takes what it is given and does not answer: a file system in a file on another one, which is frozen.
//! What the broker writes then waits in the device, as behind a controller that resets.
//!
//! While it is frozen, the inner disk's file is what is on stable storage: a copy of it is what a loss of power
//! would leave.

use std::thread;
use std::time::{Duration, Instant};

use millstream_client::DeliveryError;
use tests_process::clients::Load;
use tests_process::disks::Disk;
use tests_process::{Broker, Chance, Clients, Options, directory};

const OUTER_MIB: u64 = 320;
const INNER_MIB: u64 = 96;
const FREE_SPACE_MIN: u64 = 8 << 20;
/// Long enough for everything that does not wait for the disk.
const STALL: Duration = Duration::from_millis(1_500);

/// The one below is frozen, the broker lives on the one above.
struct Stack {
    above: Disk,
    below: Disk,
}

fn stack(dir: &std::path::Path) -> Option<Stack> {
    let below = Disk::mount(dir, OUTER_MIB)?;
    let above = Disk::mount(below.path(), INNER_MIB)?;
    Some(Stack { above, below })
}

fn start(disk: &Disk) -> Broker {
    Broker::start(Options::new(disk.path()).env("MILLSTREAM_FREE_SPACE_MIN", FREE_SPACE_MIN))
}

/// Acks wait, records whose time is over say so in time, admin that writes nothing goes on; what was acknowledged up to any moment of the stall is on stable storage; afterwards all go on by themselves.
#[test]
fn while_a_disk_stalls_nothing_is_acknowledged_early() {
    let mut chance = Chance::new(51);
    let dir = directory();
    let Some(disks) = stack(dir.path()) else { return };
    let mut broker = start(&disks.above);
    broker.cli().create("stalled", 2);
    let clients = Clients::new(&broker.options);
    let follower = clients.follow("stalled");
    let patient = clients.produce("stalled", Load::new(chance.draw()));
    for round in 0..if tests_process::soak() { 20 } else { 2 } {
        clients.wait_for_acks(1 + chance.below(3_000) as usize);
        let mut hasty = Load::new(chance.draw());
        hasty.producer.delivery_timeout = Duration::from_millis(500);
        let hasty = clients.produce("stalled", hasty);
        clients.wait_for_acks(10);

        let frozen = disks.below.freeze();
        thread::park_timeout(STALL);
        let begun = Instant::now();
        let errors = hasty.end(&clients);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?} for half a second's timeout",
            begun.elapsed()
        );
        let in_time = |error: &DeliveryError| {
            matches!(error, DeliveryError::TimedOut { .. } | DeliveryError::NotSent { .. })
        };
        assert!(!errors.is_empty() && errors.iter().all(in_time), "{:?}", errors.first());
        let promised = clients.history().acked_count();
        let listed = broker.cli().run(&["topic", "list"]);
        assert!(listed.text().contains("stalled"), "{}\n{}", listed.stderr, broker.kernel_stacks());
        let power_lost = directory();
        let copy = disks.above.copy(power_lost.path());
        let left = start(&copy);
        let survivors = clients.elsewhere(&left.options);
        assert!(survivors.check("stalled") >= promised, "round {round}");
        drop(left);
        drop(frozen);
        clients.wait_for_acks(1_000);
    }
    assert_eq!(patient.end(&clients), []);
    follower.end(&clients);
    clients.check("stalled");
    broker.kill9();
    broker.restart();
    clients.check("stalled");
}

/// The dead process's writes are with the device still, its lock is gone, and the next process begins to open the
/// logs. `storage/FORMAT.md`, "A write that outlives its process".
#[test]
fn a_write_that_outlives_its_process_harms_nothing() {
    let mut chance = Chance::new(52);
    let dir = directory();
    let Some(disks) = stack(dir.path()) else { return };
    let mut broker = start(&disks.above);
    broker.cli().create("outlived", 4);
    let clients = Clients::new(&broker.options);
    let follower = clients.follow("outlived");
    let producer = clients.produce("outlived", Load::new(chance.draw()));
    for _ in 0..if tests_process::soak() { 30 } else { 4 } {
        clients.wait_for_acks(1 + chance.below(3_000) as usize);
        let frozen = disks.below.freeze();
        thread::park_timeout(Duration::from_millis(chance.below(300)));
        broker.kill9_without_waiting();
        let next = Broker::spawn(broker.options.clone(), broker.options.command());
        thread::park_timeout(Duration::from_millis(200 + chance.below(800)));
        drop(frozen);
        broker = next;
        if let Err(done) = broker.wait_for_readiness() {
            // The old one could not end before its disk answered, and held the lock.
            done.says(&["in use"]);
            broker.restart();
        }
        clients.check("outlived");
    }
    clients.wait_for_acks(1_000);
    assert_eq!(producer.end(&clients), []);
    follower.end(&clients);
    clients.check("outlived");
    broker.kill9();
    broker.restart();
    clients.check("outlived");
}
