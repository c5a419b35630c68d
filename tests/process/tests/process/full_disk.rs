//! A disk that is full: a small file system of the test's own. `space` has the watermark alone.

use std::fs;
use std::time::Duration;

use millstream_client::{DeliveryError, Place, ProduceError, Trouble};
use tests_process::clients::Load;
use tests_process::disks::Disk;
use tests_process::{Broker, Chance, Clients, Options, directory};

const DISK_MIB: u64 = 96;
const MIB: u64 = 1 << 20;
const STOP_MAX: Duration = Duration::from_secs(10);

fn start(disk: &Disk, free_space_min: u64) -> Broker {
    Broker::start(Options::new(disk.path()).env("MILLSTREAM_FREE_SPACE_MIN", free_space_min))
}

fn create(broker: &Broker, topic: &str) {
    let create = ["topic", "create", topic, "--partitions", "2", "--config", "segment.bytes=4194304"];
    broker.cli().run(&create).expect(0);
}

/// Large records as fast as they are taken.
fn heavy(seed: u64) -> Load {
    Load { records_per_second: 20_000, value_bytes_max: 8_000, ..Load::new(seed) }
}

/// Until nothing more is taken for a while: a full disk, as producers see it.
fn wait_until_full(clients: &Clients) {
    let acked_count = || clients.history().acked_count();
    clients.wait_until("full disk", || {
        let before = acked_count();
        std::thread::park_timeout(Duration::from_millis(700));
        acked_count() == before
    });
}

/// A producer with little patience is told what it is, and that nothing was stored.
fn refuses_for_now(clients: &Clients, topic: &str) {
    let mut load = Load { value_bytes_max: 8_000, ..Load::new(5) };
    load.producer.delivery_timeout = Duration::from_secs(1);
    let producer = clients.produce(topic, load);
    std::thread::park_timeout(Duration::from_millis(1_500));
    let errors = producer.end(clients);
    let no_space = |error: &DeliveryError| {
        matches!(error, DeliveryError::NotSent { last: Some(Trouble::Refused(ProduceError::NoSpace)), .. })
    };
    assert!(errors.iter().any(no_space), "{:?}", errors.first());
}

#[derive(Debug, Clone, Copy)]
enum Remedy {
    DeleteTopic,
    DeleteRecords,
    Retention,
}

/// Fills the disk through `bulk` and `kept`, frees what `bulk` holds, and sees producers go on by themselves.
fn full_and_mended(seed: u64, free_space_min: u64, remedy: Remedy) {
    let mut chance = Chance::new(seed);
    let dir = directory();
    let Some(disk) = Disk::mount(dir.path(), DISK_MIB) else { return };
    let mut broker = start(&disk, free_space_min);
    create(&broker, "bulk");
    create(&broker, "kept");
    let clients = Clients::new(&broker.options);
    let bulk = clients.produce("bulk", heavy(chance.draw()));
    let following = clients.follow("kept");
    clients.wait_until("half of the disk", || disk.free_bytes() < DISK_MIB * MIB / 2);
    assert_eq!(bulk.end(&clients), []);
    let kept = clients.produce("kept", heavy(chance.draw()));
    wait_until_full(&clients);
    clients.check("kept");
    clients.check("bulk");
    refuses_for_now(&clients, "kept");

    broker.kill9();
    broker.restart();
    clients.check("kept");
    clients.check("bulk");
    free(&broker, &clients, remedy);
    clients.wait_for_acks(500);
    assert_eq!(kept.end(&clients), [], "what waited is stored in the end");
    following.end(&clients);
    clients.check("kept");
    broker.sigterm(STOP_MAX).expect(0);
    broker.restart();
    clients.check("kept");
}

fn free(broker: &Broker, clients: &Clients, remedy: Remedy) {
    let cli = |args: &[&str]| drop(broker.cli().run(args).expect(0));
    match remedy {
        Remedy::DeleteTopic => cli(&["topic", "delete", "bulk"]),
        Remedy::Retention => cli(&["topic", "alter", "bulk", "--config", "retention.bytes=1"]),
        Remedy::DeleteRecords => clients.block_on(async {
            let client = clients.connect().await;
            let admin = client.admin();
            for partition in 0..2 {
                let end = admin.find_offset("bulk", partition, Place::End).await.unwrap();
                admin.delete_records("bulk", partition, end.offset).await.unwrap();
            }
        }),
    }
}

#[test]
fn below_the_watermark_a_deleted_topic_makes_room() {
    full_and_mended(31, 12 * MIB, Remedy::DeleteTopic);
}

#[test]
fn below_the_watermark_deleted_records_make_room() {
    full_and_mended(32, 12 * MIB, Remedy::DeleteRecords);
}

#[test]
fn below_the_watermark_retention_makes_room() {
    full_and_mended(33, 12 * MIB, Remedy::Retention);
}

/// No watermark: every operation of the broker may meet the end of the space itself.
#[test]
fn without_a_watermark_a_deleted_topic_makes_room() {
    full_and_mended(34, 0, Remedy::DeleteTopic);
}

#[test]
fn without_a_watermark_deleted_records_make_room() {
    full_and_mended(35, 0, Remedy::DeleteRecords);
}

/// Somebody else took all of it: a start finds nothing left.
#[test]
fn a_start_with_nothing_left_serves_what_is_there() {
    let dir = directory();
    let Some(disk) = Disk::mount(dir.path(), DISK_MIB) else { return };
    let mut broker = start(&disk, 12 * MIB);
    create(&broker, "kept");
    let clients = Clients::new(&broker.options);
    let kept = clients.produce("kept", Load::new(36));
    clients.wait_for_acks(5_000);
    broker.kill9();
    let ballast = disk.fill(0);
    broker.restart();
    clients.check("kept");
    refuses_for_now(&clients, "kept");
    broker.kill9();
    broker.restart();
    clients.check("kept");
    fs::remove_file(ballast).unwrap();
    clients.wait_for_acks(1_000);
    assert_eq!(kept.end(&clients), [], "what waited is stored in the end");
    clients.check("kept");
    broker.sigterm(STOP_MAX).expect(0);
}
