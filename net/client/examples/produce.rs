//! Sends lines of standard input to a topic and waits until all of them are safe:
//!
//!     seq 1000 | cargo run -p millstream-client --example produce -- numbers
//!
//! The server is MILLSTREAM_SERVER or 127.0.0.1:9092; its CA is found as `Trust::Automatic` says.

use std::error::Error;
use std::io::BufRead;

use millstream_client::{Client, Config, DEFAULT_SERVER, ProducerConfig, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let topic = std::env::args().nth(1).ok_or("usage: produce TOPIC")?;
    let server = std::env::var("MILLSTREAM_SERVER").unwrap_or(DEFAULT_SERVER.into());
    let client = Client::connect(Config::new([server])).await?;
    let producer = client.producer(ProducerConfig::default())?;

    let mut deliveries = Vec::new();
    for line in std::io::stdin().lock().lines() {
        // Returns as soon as the record is in a batch; waits only when memory is full.
        deliveries.push(producer.send(Record::new(&topic, line?.as_bytes())).await?);
    }
    producer.flush().await?;

    let mut safest = None;
    for delivery in deliveries {
        safest = Some(delivery.await?);
    }
    if let Some(last) = safest {
        eprintln!(
            "last record: partition {}, offset {:?}, {:?}",
            last.partition, last.offset, last.durability
        );
    }
    producer.close().await?;
    Ok(())
}
