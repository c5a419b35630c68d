//! A file system that the kernel turns read-only under load, as it does when it meets an error in it.

use std::thread;
use std::time::Duration;

use millstream_client::{DeliveryError, ProduceError, Trouble};
use tests_process::clients::Load;
use tests_process::disks::Disk;
use tests_process::{Broker, Chance, Clients, Options, directory, scrape};

const DISK_MIB: u64 = 96;
const FREE_SPACE_MIN: u64 = 8 << 20;

#[test]
fn a_disk_that_goes_read_only_is_told_and_nothing_is_acknowledged_or_lost() {
    let mut chance = Chance::new(71);
    let dir = directory();
    let Some(disk) = Disk::mount(dir.path(), DISK_MIB) else { return };
    let options = Options::new(disk.path()).env("MILLSTREAM_FREE_SPACE_MIN", FREE_SPACE_MIN);
    let mut broker = Broker::start(options);
    broker.cli().create("read-only", 4);
    broker.cli().create("silent", 1);
    let clients = Clients::new(&broker.options);
    let mut load = Load::new(chance.draw());
    load.producer.delivery_timeout = Duration::from_secs(2);
    let producer = clients.produce("read-only", load.clone());
    clients.wait_for_acks(2_000 + chance.below(4_000) as usize);

    disk.go_read_only();
    broker.wait_for_stderr("Read-only file system", Duration::from_secs(30));
    // Whatever comes now is refused, of partitions that failed and of those that find out by it.
    let errors = producer.end(&clients);
    assert!(errors.iter().any(is_told), "{:?}", errors.first());
    let acked = clients.history().acked_count();
    let late = clients.produce("read-only", load);
    thread::park_timeout(Duration::from_secs(2));
    assert!(!late.end(&clients).is_empty());
    assert_eq!(clients.history().acked_count(), acked, "acknowledged, and not on any disk");
    // To the end of what was acknowledged; a reader that waits for more is told that none will come.
    clients.check("read-only");
    let (status, why) = scrape::get(broker.options.http, "/readyz").expect("it is there");
    assert!(status == 503 && why.contains("failed"), "{status} {why}");
    assert_eq!(scrape::get(broker.options.http, "/livez").expect("it is there").0, 200);
    let said = broker.stderr();
    assert!(said.lines().count() < 300, "{} lines about one fault", said.lines().count());

    // Restarting does not help, and says why.
    broker.kill9();
    match Broker::try_start(broker.options.clone()) {
        Ok(broker) => panic!("it started:\n{}", broker.stderr()),
        Err(done) => drop(done.expect(1).says(&["read-only", "cannot be written"])),
    }
    disk.mend();
    broker.restart();
    clients.check("read-only");
    let after = clients.produce("read-only", Load::new(chance.draw()));
    clients.wait_for_acks(2_000);
    assert_eq!(after.end(&clients), []);
    clients.check("read-only");
    broker.sigterm(Duration::from_secs(10)).expect(0);
}

/// As a refusal, or as the last thing heard before the record's time was over.
fn is_told(error: &DeliveryError) -> bool {
    let failed = |error: &ProduceError| matches!(error, ProduceError::StorageFailed { .. });
    match error {
        DeliveryError::Refused(error) | DeliveryError::RefusedOnRetry(error) => failed(error),
        DeliveryError::NotSent { last, .. } | DeliveryError::TimedOut { last, .. } => {
            matches!(last, Some(Trouble::Refused(error)) if failed(error))
        }
        DeliveryError::OffsetUnknown | DeliveryError::Closed { .. } => false,
    }
}
