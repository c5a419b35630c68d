//! A member of a group: progress that is never ahead of processing, rebalances, and everything that gets lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_api::GroupError;
use millstream_client::{
    Client, GroupConsumer, GroupConsumerError, GroupOptions, GroupStart, ProducerConfig, ReadBatch,
    RebalanceListener, Record,
};
use tokio::time::timeout;

use crate::support::{Broker, TOPIC};

/// Batches of ten records each, in partition 0.
async fn fill(client: &Client, batches: u64) {
    let mut config = ProducerConfig::default();
    config.linger = Duration::from_secs(60);
    let producer = client.producer(config).unwrap();
    for _ in 0..batches {
        for n in 0..10u8 {
            let _delivery = producer.send(Record::new(TOPIC, &[n]).partition(0)).await.unwrap();
        }
        producer.flush().await.unwrap();
    }
    producer.close().await.unwrap();
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl RebalanceListener for Told {
    fn assigned(&self, partitions: &[(String, u32)]) {
        self.0.lock().unwrap().push(format!("assigned {}", partitions.len()));
    }

    fn revoked(&self, partitions: &[(String, u32)]) {
        self.0.lock().unwrap().push(format!("revoked {}", partitions.len()));
    }

    fn lost(&self, partitions: &[(String, u32)]) {
        self.0.lock().unwrap().push(format!("lost {}", partitions.len()));
    }
}

fn options(auto_commit: Option<Duration>) -> (GroupOptions, Arc<Told>) {
    let told = Arc::new(Told::default());
    let mut options = GroupOptions::default();
    options.start = GroupStart::Beginning;
    options.auto_commit = auto_commit;
    options.heartbeat_interval = Duration::from_millis(20);
    options.listener = Some(Arc::clone(&told) as _);
    (options, told)
}

async fn joined(client: &Client, auto_commit: Option<Duration>) -> (GroupConsumer, Arc<Told>) {
    let (options, told) = options(auto_commit);
    (client.join_group("g", [TOPIC], options).await.unwrap(), told)
}

async fn next(consumer: &mut GroupConsumer) -> ReadBatch {
    timeout(Duration::from_secs(20), consumer.next()).await.expect("there is something").unwrap()
}

const OFTEN: Option<Duration> = Some(Duration::from_millis(1));

#[tokio::test]
async fn automatic_commits_are_never_ahead_of_what_is_processed() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&client, 5).await;
    let (mut consumer, _) = joined(&client, OFTEN).await;
    for _ in 0..5 {
        let batch = next(&mut consumer).await;
        let committed = broker.state().group.committed.get(&0).copied().unwrap_or(0);
        assert!(committed <= batch.first_offset().0, "{committed} before it was processed");
    }
    // The next one is asked for, so the last one is processed.
    assert!(timeout(Duration::from_millis(300), consumer.next()).await.is_err());
    assert_eq!(broker.state().group.committed[&0], 50);
}

#[tokio::test]
async fn manual_commits_alone_move_the_group_and_another_goes_on_from_there() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&client, 3).await;
    let (mut consumer, _) = joined(&client, None).await;
    next(&mut consumer).await;
    next(&mut consumer).await;
    assert!(broker.state().group.committed.is_empty());
    consumer.commit().await.unwrap();
    assert_eq!(broker.state().group.committed[&0], 20);
    next(&mut consumer).await;
    consumer.close().await.unwrap();
    assert_eq!(broker.state().group.asked, ["join", "commit", "leave"]);
    let (mut again, _) = joined(&client, None).await;
    let batch = next(&mut again).await;
    assert_eq!(batch.first_offset().0, 20);
    // Half of a batch, and no more.
    again.processed_below(TOPIC, 0, millstream_client::Offset(24));
    again.commit().await.unwrap();
    assert_eq!(broker.state().group.committed[&0], 24);
}

#[tokio::test]
async fn a_rebalance_commits_gives_up_joins_and_goes_on() {
    let broker = Broker::start(2);
    let client = broker.client().await;
    fill(&client, 2).await;
    let (mut consumer, told) = joined(&client, Some(Duration::from_secs(600))).await;
    next(&mut consumer).await;
    {
        // Another member is there from now on.
        let mut state = broker.state();
        state.group.members.push("other".into());
        state.group.generation += 1;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let batch = timeout(Duration::from_millis(50), consumer.next()).await;
        if let Ok(batch) = batch {
            assert_eq!(batch.unwrap().first_offset().0, 10, "nothing is left out and nothing doubled");
        }
        if told.0.lock().unwrap().len() == 3 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert_eq!(*told.0.lock().unwrap(), ["assigned 2", "revoked 2", "assigned 1"]);
    assert_eq!(broker.state().group.asked, ["join", "commit", "join"]);
    assert!(broker.state().group.committed[&0] >= 10);
    assert_eq!(consumer.partitions(), [(TOPIC.to_owned(), 0)]);
}

#[tokio::test]
async fn a_member_that_was_put_out_is_told_and_starts_from_what_is_committed() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&client, 3).await;
    let (mut consumer, told) = joined(&client, None).await;
    next(&mut consumer).await;
    consumer.commit().await.unwrap();
    next(&mut consumer).await;
    broker.state().group.members.clear();
    // Too late to commit, and said so.
    let late = consumer.commit().await;
    assert!(matches!(late, Err(GroupConsumerError::NotCommitted { .. })), "{late:?}");
    let batch = next(&mut consumer).await;
    assert_eq!(batch.first_offset().0, 10);
    assert_eq!(*told.0.lock().unwrap(), ["assigned 1", "lost 1", "assigned 1"]);
    assert_eq!(consumer.member(), "m2");
}

#[tokio::test]
async fn a_coordinator_that_starts_and_lost_connections_are_waited_out() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&client, 2).await;
    broker.state().group.faults.extend([GroupError::NotReady, GroupError::Loading, GroupError::ShuttingDown]);
    let (mut consumer, _) = joined(&client, None).await;
    next(&mut consumer).await;
    broker.state().requests_dropped_count = 2;
    consumer.commit().await.unwrap();
    assert_eq!(broker.state().group.committed[&0], 10);
    let broker = broker.restart().await;
    next(&mut consumer).await;
    consumer.commit().await.unwrap();
    assert_eq!(broker.state().group.committed[&0], 20);
}

#[tokio::test]
async fn what_will_not_pass_is_told() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    broker.state().group.faults.push_back(GroupError::Fenced { instance: "i".into() });
    let (options, _) = options(None);
    let refused = client.join_group("g", [TOPIC], options).await.map(drop);
    assert!(matches!(refused, Err(GroupConsumerError::Group { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_next_that_is_dropped_loses_nothing() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&client, 20).await;
    let (mut consumer, _) = joined(&client, OFTEN).await;
    let mut seen = Vec::new();
    let mut wait_us = 1;
    while seen.len() < 20 {
        if let Ok(batch) = timeout(Duration::from_micros(wait_us), consumer.next()).await {
            seen.push(batch.unwrap().first_offset().0);
        }
        wait_us = (wait_us * 3) % 5000 + 1;
    }
    assert_eq!(seen, (0..20).map(|n| 10 * n).collect::<Vec<_>>());
}
