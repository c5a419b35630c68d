//! Prints every record of a topic, then stops:
//!
//!     cargo run -p millstream-client --example consume -- numbers
//!
//! The server is MILLSTREAM_SERVER or 127.0.0.1:9092; its CA is found as `Trust::Automatic` says.

use std::error::Error;
use std::io::Write;

use millstream_client::{Client, Config, DEFAULT_SERVER, ReaderConfig, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let topic = std::env::args().nth(1).ok_or("usage: consume TOPIC")?;
    let server = std::env::var("MILLSTREAM_SERVER").unwrap_or(DEFAULT_SERVER.into());
    let client = Client::connect(Config::new([server])).await?;

    let mut reader = client.reader(ReaderConfig::new(topic).from(Start::Beginning).until_end()).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while let Some(batch) = reader.next().await? {
        for record in batch.records() {
            // Borrowed from the bytes that came from the broker.
            let record = record?;
            out.write_all(record.value.unwrap_or(b"(null)"))?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}
