//! Shares a topic with everybody else who runs this for the same group, until Ctrl-C:
//!
//!     cargo run -p millstream-client --example group -- orders billing
//!
//! The server is MILLSTREAM_SERVER or 127.0.0.1:9092; its CA is found as `Trust::Automatic` says.

use millstream_client::{Client, Config, DEFAULT_SERVER, GroupOptions, GroupStart};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "billing".into());
    let server = std::env::var("MILLSTREAM_SERVER").unwrap_or(DEFAULT_SERVER.into());
    let client = Client::connect(Config::new([server])).await?;

    let mut options = GroupOptions::default();
    options.start = GroupStart::Beginning;
    let mut consumer = client.join_group(group, [topic], options).await?;
    println!("{} works on {:?}", consumer.member(), consumer.partitions());
    loop {
        tokio::select! {
            batch = consumer.next() => {
                let batch = batch?;
                for record in batch.records() {
                    let record = record?;
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                    println!("{}-{}: {value}", batch.partition(), record.offset);
                }
            }
            stop = tokio::signal::ctrl_c() => {
                stop?;
                // Commits what was printed; the others take over at once.
                return Ok(consumer.close().await?);
            }
        }
    }
}
