//! `millstream produce`: a record per line of stdin.
//!
//! One task cuts lines and hands them to the producer, which batches; deliveries are looked at as they resolve,
//! and a failed one does not stop the rest. The end of input, or the first Ctrl-C, sends the lines that were read
//! and waits for them; the second Ctrl-C ends at once. A line that Ctrl-C cut in two is not sent.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use engine_api::{Acks, Durability};
use millstream_client::{
    Client, Compression, Delivery, DeliveryError, Producer, ProducerConfig, Record, SendError,
};
use serde_json::json;

use crate::args::{AcksArg, CompressionArg, Format, Global, ProduceArgs};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::lines::{Blocks, LINE_BYTES_MAX, Lines, split};
use crate::output::Output;
use crate::progress::Progress;
use crate::{output, sdk};

/// Deliveries are looked at after so many records.
const LOOK_EVERY: u64 = 4096;

pub(crate) async fn run(global: &Global, args: ProduceArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    sdk::with_client(global, async |client| {
        check_topic(client, &args).await?;
        let producer = producer(client, global, &args)?;
        let mut run = Run::new(&args, producer);
        let blocks = Blocks::of_stdin().map_err(Failure::failed)?;
        let fed = run.feed(blocks, interrupt.first()).await;
        let finished = run.finish().await;
        let told = run.summary().tell(global.format);
        told.and(fed).and(finished)
    })
    .await
}

/// Before the first line, so that someone who types learns it at once.
async fn check_topic(client: &Client, args: &ProduceArgs) -> Result<(), Failure> {
    let topic = client.admin().describe_topic(&args.topic).await?;
    let (partition, partitions_count) = (args.partition.unwrap_or(0), topic.partitions.len() as u32);
    if partition < partitions_count {
        Ok(())
    } else {
        Err(SendError::PartitionOutOfRange { partition, partitions_count }.into())
    }
}

fn producer(client: &Client, global: &Global, args: &ProduceArgs) -> Result<Producer, Failure> {
    let mut config = ProducerConfig::default();
    config.acks = match args.acks {
        AcksArg::All => Acks::All,
        AcksArg::Leader => Acks::Leader,
        AcksArg::None => Acks::None,
    };
    config.compression = match args.compression {
        CompressionArg::None => Compression::None,
        CompressionArg::Lz4 => Compression::Lz4,
        CompressionArg::Zstd => Compression::Zstd { level: 0 },
    };
    if let Some(timeout) = global.timeout {
        config.delivery_timeout = timeout;
    }
    client.producer(config).map_err(Failure::failed)
}

struct Run<'a> {
    args: &'a ProduceArgs,
    producer: Producer,
    lines: Lines,
    deliveries: VecDeque<Delivery>,
    tally: Tally,
    begun: Instant,
    progress: Progress,
}

/// What became of the records.
#[derive(Debug, Default, Clone)]
struct Tally {
    sent_count: u64,
    stored_count: u64,
    failed_count: u64,
    /// Of the failed ones, those that may have been stored.
    unknown_count: u64,
    /// The lowest level of any record.
    durability: Option<Durability>,
    first_failure: Option<Failure>,
}

impl Tally {
    fn fail(&mut self, failure: impl Into<Failure>) {
        self.failed_count += 1;
        if self.first_failure.is_none() {
            self.first_failure = Some(failure.into());
        }
    }

    fn settle(&mut self, result: Result<millstream_client::RecordMetadata, DeliveryError>) {
        match result {
            Ok(stored) => {
                self.stored_count += 1;
                self.durability = match (self.durability, stored.durability) {
                    (Some(lowest), Some(reached)) => Some(lowest.min(reached)),
                    (lowest, reached) => lowest.or(reached),
                };
            }
            Err(error) => {
                self.unknown_count += u64::from(is_unknown(&error));
                self.fail(error);
            }
        }
    }
}

fn is_unknown(error: &DeliveryError) -> bool {
    match error {
        DeliveryError::TimedOut { .. }
        | DeliveryError::RefusedOnRetry(_)
        | DeliveryError::OffsetUnknown
        | DeliveryError::Closed { sent: true } => true,
        DeliveryError::Refused(_) | DeliveryError::NotSent { .. } | DeliveryError::Closed { sent: false } => {
            false
        }
    }
}

impl<'a> Run<'a> {
    fn new(args: &'a ProduceArgs, producer: Producer) -> Self {
        let typed = std::io::stdin().is_terminal();
        Self {
            args,
            producer,
            lines: Lines::new(LINE_BYTES_MAX),
            deliveries: VecDeque::new(),
            tally: Tally::default(),
            begun: Instant::now(),
            // Someone who types needs no counter between the lines.
            progress: if typed { Progress::hidden() } else { Progress::records() },
        }
    }

    /// Sends every line of the input, after `interrupt` every line that has been read.
    async fn feed(&mut self, mut blocks: Blocks, interrupt: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut interrupt = std::pin::pin!(interrupt);
        let mut interrupted = false;
        loop {
            let block = tokio::select! {
                biased;
                () = &mut interrupt, if !interrupted => {
                    interrupted = true;
                    blocks.stop();
                    continue;
                }
                block = blocks.next() => block,
            };
            let Some(block) = block else { break };
            self.lines.add(block.map_err(|e| Failure::failed(format_args!("stdin: {e}")))?);
            while let Some(range) = self.lines.next_range() {
                send(
                    self.args,
                    &self.producer,
                    self.lines.bytes(range),
                    &mut self.tally,
                    &mut self.deliveries,
                )
                .await?;
                if self.tally.sent_count.is_multiple_of(LOOK_EVERY) {
                    self.look();
                }
            }
            self.look();
        }
        if blocks.is_at_end()
            && let Some(range) = self.lines.last_range()
        {
            send(self.args, &self.producer, self.lines.bytes(range), &mut self.tally, &mut self.deliveries)
                .await?;
        }
        Ok(())
    }

    /// Takes note of deliveries that have resolved.
    fn look(&mut self) {
        while let Some(result) = self.deliveries.front().and_then(Delivery::peek) {
            self.deliveries.pop_front();
            self.tally.settle(result);
        }
        self.progress.set(self.tally.stored_count);
    }

    /// Waits for everything sent.
    async fn finish(&mut self) -> Result<(), Failure> {
        // Not only flushed: without acknowledgements it waits until the broker has what was written.
        let flushed = self.producer.close().await;
        for delivery in std::mem::take(&mut self.deliveries) {
            self.tally.settle(delivery.await);
        }
        self.progress.clear();
        flushed.map_err(Failure::failed)
    }

    fn summary(&self) -> Summary {
        let mut tally = self.tally.clone();
        for _ in 0..self.lines.too_long_count {
            tally.fail(Failure::failed(format_args!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        Summary { tally, took: self.begun.elapsed(), topic: self.args.topic.clone() }
    }
}

/// Sends one line. An error ends the command; a record that is refused by itself is counted.
async fn send(
    args: &ProduceArgs,
    producer: &Producer,
    line: &[u8],
    tally: &mut Tally,
    deliveries: &mut VecDeque<Delivery>,
) -> Result<(), Failure> {
    let (key, value) = match &args.key_separator {
        Some(separator) => split(line, separator.as_bytes()),
        None => (None, line),
    };
    let mut record = Record::new(&args.topic, value);
    if let Some(key) = key {
        record = record.key(key);
    }
    if let Some(partition) = args.partition {
        record = record.partition(partition);
    }
    match producer.send(record).await {
        Ok(delivery) => {
            tally.sent_count += 1;
            deliveries.push_back(delivery);
            Ok(())
        }
        Err(error @ (SendError::RecordTooLarge { .. } | SendError::HeaderName { .. })) => {
            tally.fail(error);
            Ok(())
        }
        Err(
            error @ (SendError::UnknownTopic { .. }
            | SendError::Metadata { .. }
            | SendError::PartitionOutOfRange { .. }
            | SendError::NoRoom { .. }
            | SendError::Fenced(_)
            | SendError::Closed),
        ) => {
            tally.fail(error.clone());
            Err(error.into())
        }
    }
}

#[derive(Debug)]
struct Summary {
    tally: Tally,
    took: Duration,
    topic: String,
}

impl Summary {
    fn tell(self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Text => eprintln!("{}", self.text()),
            Format::Json => {
                let mut out = Output::stdout();
                out.json(&self.json())?;
                out.finish()?;
            }
        }
        self.outcome()
    }

    fn outcome(self) -> Result<(), Failure> {
        let Some(first) = self.tally.first_failure else { return Ok(()) };
        let exit = if self.tally.stored_count > 0 { Exit::Partial } else { first.exit };
        let unknown = match self.tally.unknown_count {
            0 => String::new(),
            count => format!(" ({count} of them may be stored)"),
        };
        let message =
            format!("{} records not acknowledged{unknown}: {}", self.tally.failed_count, first.message);
        Err(Failure { exit, message, hint: first.hint })
    }

    fn text(&self) -> String {
        // Of none there is nothing to say.
        if self.tally.stored_count == 0 {
            return "0 records".to_owned();
        }
        let seconds = self.took.as_secs_f64();
        let rate = if seconds > 0.0 { self.tally.stored_count as f64 / seconds } else { 0.0 };
        let stored = output::count(self.tally.stored_count);
        let verb = if self.tally.durability.is_some() { "stored" } else { "sent" };
        format!(
            "{stored} records {verb} in {} in {seconds:.2} s ({}/s), durability: {}",
            self.topic,
            output::count(rate as u64),
            durability_text(self.tally.durability)
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "topic": self.topic,
            "records": self.tally.stored_count,
            "failed": self.tally.failed_count,
            "unknown": self.tally.unknown_count,
            "seconds": self.took.as_secs_f64(),
            "durability": durability_name(self.tally.durability),
        })
    }
}

fn durability_name(durability: Option<Durability>) -> &'static str {
    match durability {
        None => "none",
        Some(Durability::Accepted) => "accepted",
        Some(Durability::Memory) => "memory",
        Some(Durability::LeaderDisk) => "leader-disk",
        Some(Durability::AllDisks) => "all-disks",
    }
}

fn durability_text(durability: Option<Durability>) -> &'static str {
    match durability {
        None => "none promised",
        Some(Durability::Accepted) => "order fixed, nothing else",
        Some(Durability::Memory) => "in memory of every in-sync replica",
        Some(Durability::LeaderDisk) => "on the leader's disk",
        Some(Durability::AllDisks) => "on disk of every in-sync replica",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(stored_count: u64, failure: Option<DeliveryError>) -> Summary {
        let mut tally = Tally { stored_count, durability: Some(Durability::AllDisks), ..Tally::default() };
        if let Some(error) = failure {
            tally.settle(Err(error));
        }
        Summary { tally, took: Duration::from_secs(2), topic: "t".to_owned() }
    }

    #[test]
    fn all_some_and_none_have_their_own_exit_codes() {
        let timed_out = || DeliveryError::TimedOut { after: Duration::from_secs(1), last: None };
        assert!(summary(3, None).outcome().is_ok());
        let partial = summary(3, Some(timed_out())).outcome().unwrap_err();
        assert_eq!(partial.exit, Exit::Partial);
        assert!(partial.message.starts_with("1 records not acknowledged (1 of them may be stored): no ack"));
        assert_eq!(summary(0, Some(timed_out())).outcome().unwrap_err().exit, Exit::Timeout);
    }

    #[test]
    fn the_summary_says_how_many_how_fast_and_how_safe() {
        let text = summary(1_000_000, None).text();
        assert_eq!(
            text,
            "1,000,000 records stored in t in 2.00 s (500,000/s), durability: on disk of every in-sync replica"
        );
        assert_eq!(summary(0, None).text(), "0 records");
        assert_eq!(summary(1, None).json()["durability"], "all-disks");
    }
}
