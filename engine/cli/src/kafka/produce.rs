//! `millstream produce --kafka`: the same lines and flags, through librdkafka.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::BaseRecord;
use serde_json::json;

use super::client::{Sender, Tally};
use super::fault::Fault;
use crate::args::{AcksArg, CompressionArg, Format, Global, ProduceArgs};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::lines::{Blocks, LINE_BYTES_MAX, Lines, split};
use crate::output::{self, print};

/// As the SDK's.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) async fn run(global: &Global, args: ProduceArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let begun = Instant::now();
    let sender = Sender::new(&config(global, &args))?;
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let mut blocks = Blocks::of_stdin().map_err(Failure::failed)?;
    let mut interrupted = false;
    loop {
        let block = tokio::select! {
            biased;
            () = interrupt.first(), if !interrupted => {
                interrupted = true;
                blocks.stop();
                continue;
            }
            block = blocks.next() => block,
        };
        let Some(block) = block else { break };
        lines.add(block.map_err(|error| Failure::failed(format_args!("stdin: {error}")))?);
        while let Some(range) = lines.next_range() {
            send(&args, &sender, lines.bytes(range))?;
        }
    }
    if blocks.is_at_end()
        && let Some(range) = lines.last_range()
    {
        send(&args, &sender, lines.bytes(range))?;
    }
    sender.flush(global.timeout.unwrap_or(DELIVERY_TIMEOUT))?;
    let mut tally = sender.tally();
    for _ in 0..lines.too_long_count {
        tally.failed_count += 1;
        tally.first_failure.get_or_insert(format!("a line is longer than {LINE_BYTES_MAX} bytes"));
    }
    tell(global.format, &args.topic, &tally, begun.elapsed())
}

fn config(global: &Global, args: &ProduceArgs) -> ClientConfig {
    let acks = match args.acks {
        AcksArg::All => "all",
        AcksArg::Leader => "1",
        AcksArg::None => "0",
    };
    let compression = match args.compression {
        CompressionArg::None => "none",
        CompressionArg::Lz4 => "lz4",
        CompressionArg::Zstd => "zstd",
    };
    let timeout = global.timeout.unwrap_or(DELIVERY_TIMEOUT);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", global.server.join(","))
        .set("client.id", "millstream")
        .set("acks", acks)
        .set("enable.idempotence", (args.acks == AcksArg::All).to_string())
        .set("compression.type", compression)
        .set("message.timeout.ms", timeout.as_millis().to_string())
        // As the SDK and Java's client choose, so that all send a key to one partition.
        .set("partitioner", "murmur2_random");
    config
}

fn send(args: &ProduceArgs, sender: &Sender, line: &[u8]) -> Result<(), Fault> {
    let (key, value) = match &args.key_separator {
        Some(separator) => split(line, separator.as_bytes()),
        None => (None, line),
    };
    let mut record = BaseRecord::<[u8], [u8]>::to(&args.topic).payload(value);
    record.key = key;
    if let Some(partition) = args.partition {
        record = record.partition(i32::try_from(partition).unwrap_or(i32::MAX));
    }
    sender.send(record)
}

fn tell(format: Format, topic: &str, tally: &Tally, took: Duration) -> Result<(), Failure> {
    let seconds = took.as_secs_f64();
    match format {
        Format::Text => {
            let rate = if seconds > 0.0 { tally.stored_count as f64 / seconds } else { 0.0 };
            let (count, rate) = (output::count(tally.stored_count), output::count(rate as u64));
            eprintln!("{count} records sent to {topic} in {seconds:.2} s ({rate}/s) over Kafka's protocol");
        }
        Format::Json => print(format, String::new, || {
            json!({
                "topic": topic,
                "records": tally.stored_count,
                "failed": tally.failed_count,
                "seconds": seconds,
                "protocol": "kafka",
            })
        })?,
    }
    let Some(first) = &tally.first_failure else { return Ok(()) };
    let exit = if tally.stored_count > 0 { Exit::Partial } else { Exit::Failed };
    Err(Failure::new(exit, format_args!("{} records not acknowledged: {first}", tally.failed_count)))
}
