//! Orders by customer: makes a topic, sends orders keyed by customer, and adds them up as they arrive.
//!
//! A customer's orders share a partition, so they are seen in the order they were placed:
//!
//!     cargo run -p millstream-client --example orders

use std::collections::BTreeMap;
use std::error::Error;

use millstream_client::{
    Client, Config, CreateTopic, DEFAULT_SERVER, ProducerConfig, ReaderConfig, Record, RequestError, Start,
    TopicError,
};

const TOPIC: &str = "orders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("MILLSTREAM_SERVER").unwrap_or(DEFAULT_SERVER.into());
    let client = Client::connect(Config::new([server])).await?;

    let topic = CreateTopic {
        name: TOPIC.into(),
        partitions: Some(4),
        replicas: None,
        configs: vec![("retention.ms".into(), "86400000".into())],
    };
    match client.admin().create_topic(topic).await {
        Ok(made) => println!("made topic {} with {} partitions", made.name, made.partitions.len()),
        Err(RequestError::Refused(TopicError::Exists { .. })) => println!("topic {TOPIC} is there already"),
        Err(error) => return Err(error.into()),
    }

    // From the end: what is sent from here on.
    let mut reader = client.reader(ReaderConfig::new(TOPIC).from(Start::End)).await?;

    let producer = client.producer(ProducerConfig::default())?;
    let orders = [("ada", 3), ("grace", 5), ("ada", 4), ("barbara", 1), ("grace", 2)];
    for (customer, pieces) in orders {
        let value = format!("{pieces}");
        let record =
            Record::new(TOPIC, value.as_bytes()).key(customer.as_bytes()).header("source", b"example");
        let stored = producer.send(record).await?.await?;
        println!("{customer}: {pieces} -> partition {}, offset {:?}", stored.partition, stored.offset);
    }
    producer.close().await?;

    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen_count = 0;
    while seen_count < orders.len() {
        let Some(batch) = reader.next().await? else { break };
        for record in batch.records() {
            let record = record?;
            let customer = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
            let pieces: u64 = std::str::from_utf8(record.value.unwrap_or_default())?.parse()?;
            *totals.entry(customer).or_default() += pieces;
            seen_count += 1;
        }
    }
    for (customer, pieces) in totals {
        println!("{customer} ordered {pieces}");
    }
    Ok(())
}
