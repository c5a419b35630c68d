//! Disks that take no more writes, for good: a file system that the kernel turns read-only, as it does when it meets
//! an error in it; a device that answers with errors.

use std::fs;
use std::thread;
use std::time::Duration;

use millstream_client::{DeliveryError, ProduceError, Trouble};
use tests_process::clients::Load;
use tests_process::disks::Disk;
use tests_process::{Broker, Chance, Clients, Options, directory, scrape};

const DISK_MIB: u64 = 96;
const STOP_MAX: Duration = Duration::from_secs(10);
const TOPIC: &str = "broken";
const FREE_SPACE_MIN: u64 = 8 << 20;

#[test]
fn a_disk_that_goes_read_only_is_told_and_nothing_is_acknowledged_or_lost() {
    let dir = directory();
    let Some(disk) = Disk::mount(dir.path(), DISK_MIB) else { return };
    let broken = break_under_load(71, &disk, "Read-only file system", || disk.go_read_only());

    // Restarting does not help, and says why.
    match Broker::try_start(broken.broker.options.clone()) {
        Ok(broker) => panic!("it started:\n{}", broker.stderr()),
        Err(done) => drop(done.expect(1).says(&["read-only", "cannot be written"])),
    }
    disk.mend();
    broken.comes_back();
}

/// A volume that was promised more than there is behind it: its device answers writes with errors from some moment on.
#[test]
fn a_device_that_refuses_writes_is_told_and_nothing_is_acknowledged_or_lost() {
    let dir = directory();
    let Some(below) = Disk::mount(dir.path(), DISK_MIB) else { return };
    let Some(disk) = Disk::mount(below.path(), 2 * DISK_MIB) else { return };
    let mut ballast = None;
    let broken = break_under_load(72, &disk, "log_failed", || {
        ballast = Some(below.fill(0));
        disk.sync();
    });
    fs::remove_file(ballast.expect("filled")).unwrap();
    disk.mend();
    broken.comes_back();
}

/// A killed broker, and what was known of it.
struct Broken {
    broker: Broker,
    clients: Clients,
}

/// Whatever came after the fault was refused, what came before is readable, and the broker is there and says so.
#[track_caller]
fn break_under_load(seed: u64, disk: &Disk, says: &str, break_it: impl FnOnce()) -> Broken {
    let mut chance = Chance::new(seed);
    let options = Options::new(disk.path()).env("MILLSTREAM_FREE_SPACE_MIN", FREE_SPACE_MIN);
    let mut broker = Broker::start(options);
    broker.cli().create(TOPIC, 4);
    let small = ["topic", "create", "old", "--config", "segment.bytes=1048576"];
    broker.cli().run(&small).expect(0);
    let clients = Clients::new(&broker.options);
    let old = Load { records_max: 1_000, value_bytes_max: 4_000, ..Load::new(chance.draw()) };
    assert_eq!(clients.produce("old", old).finish(&clients), []);
    // The next process has no reason to open its sealed segments before somebody reads them.
    broker.sigterm(STOP_MAX).expect(0);
    broker.restart();
    let mut load = Load { value_bytes_max: 4_000, ..Load::new(chance.draw()) };
    load.producer.delivery_timeout = Duration::from_secs(2);
    let producer = clients.produce(TOPIC, load.clone());
    clients.wait_for_acks(1_000 + chance.below(2_000) as usize);

    break_it();
    broker.wait_for_stderr(says, Duration::from_secs(30));
    // Partitions that failed say so, and those that find out by what comes now.
    let errors = producer.end(&clients);
    assert!(errors.iter().any(is_told), "{:?}", errors.first());
    let mut late = clients.produce(TOPIC, load.clone());
    thread::park_timeout(Duration::from_secs(2));
    assert!(!late.end(&clients).is_empty());
    late = clients.produce(TOPIC, Load { records_max: 400, ..load });
    let acked = clients.history().acked_count();
    assert_eq!(late.finish(&clients).len(), 400, "all four partitions have failed");
    assert_eq!(clients.history().acked_count(), acked, "acknowledged, and not on any disk");
    // To the end of what was acknowledged; a reader that waits for more is told that none will come.
    clients.check(TOPIC);
    // Segments used to be opened for reading and writing only: of a read-only file system nobody got old records,
    // unless somebody had read them lately.
    clients.check("old");
    let (status, why) = scrape::get(broker.options.http, "/readyz").expect("it is there");
    assert!(status == 503 && why.contains("failed"), "{status} {why}");
    assert_eq!(scrape::get(broker.options.http, "/livez").expect("it is there").0, 200);
    let said = broker.stderr();
    assert!(said.lines().count() < 300, "{} lines about one fault", said.lines().count());
    broker.kill9();
    Broken { broker, clients }
}

impl Broken {
    fn comes_back(mut self) {
        self.broker.restart();
        self.clients.check(TOPIC);
        let after = self.clients.produce(TOPIC, Load { records_max: 4_000, ..Load::new(73) });
        assert_eq!(after.finish(&self.clients), []);
        self.clients.check(TOPIC);
        self.broker.sigterm(STOP_MAX).expect(0);
    }
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
