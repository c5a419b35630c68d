//! `millstream consume`: prints records until told to stop.
//!
//! Output is gathered while records keep coming and flushed as soon as there are none, so that a pipe is fast
//! and a person sees each record at once.

use millstream_client::{
    Client, ReadBatch, ReadError, ReadRecord, Reader, ReaderConfig, RecordsError, Start, TimestampMs,
};
use storage_frame::Offset;

use crate::args::{ConsumeArgs, Global, OutputArg};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::record_json::write_record;
use crate::sdk;

mod group;

pub(crate) async fn run(global: &Global, args: ConsumeArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    sdk::with_client(global, async |client| {
        let mut out = Output::stdout();
        if let Some(name) = &args.group {
            let printed = group::run(global, &args, name, client, &mut interrupt, &mut out).await;
            return printed.and(out.finish());
        }
        let printing = async {
            let mut reader = client.reader(config(global, &args)).await?;
            print_all(&mut reader, &args, args.output_for(global.format), &mut out).await?;
            if args.exit_at_end { check_ends(client, &args).await } else { Ok(()) }
        };
        let printed = tokio::select! {
            printed = printing => printed,
            () = interrupt.first() => Ok(()),
        };
        // What was printed before an error stays printed.
        printed.and(out.finish())
    })
    .await
}

fn config(global: &Global, args: &ConsumeArgs) -> ReaderConfig {
    let mut config = ReaderConfig::new(&args.topic).from(start(args));
    config.partitions = args.partition.map(|partition| vec![partition]);
    config.stop_at_end = args.exit_at_end;
    if let Some(timeout) = global.timeout {
        config.unavailable_timeout = timeout;
    }
    config
}

fn start(args: &ConsumeArgs) -> Start {
    match (args.from_beginning, args.offset, args.timestamp) {
        (true, ..) => Start::Beginning,
        (false, Some(offset), _) => Start::Offset(Offset(offset)),
        (false, None, Some(timestamp)) => Start::Timestamp(TimestampMs(timestamp)),
        (false, None, None) => Start::End,
    }
}

/// The readable end of a damaged partition is not its end: what follows was acknowledged once.
async fn check_ends(client: &Client, args: &ConsumeArgs) -> Result<(), Failure> {
    let cluster = client.admin().describe_cluster().await?;
    let is_asked = |index| args.partition.is_none_or(|partition| partition == index);
    match cluster.troubled.iter().find(|troubled| troubled.topic == args.topic && is_asked(troubled.index)) {
        None => Ok(()),
        Some(troubled) => Err(Failure::new(
            Exit::Partial,
            format_args!(
                "partition {} is readable up to offset {} only: {}",
                troubled.index, troubled.end, troubled.why
            ),
        )
        .with_hint("millstream log verify DIR tells what is damaged")),
    }
}

async fn print_all(
    reader: &mut Reader,
    args: &ConsumeArgs,
    output: OutputArg,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut left = args.max_records.unwrap_or(u64::MAX);
    while left > 0 {
        let at_once = tokio::select! {
            biased;
            batch = reader.next() => Some(batch?),
            () = std::future::ready(()) => None,
        };
        let batch = match at_once {
            Some(batch) => batch,
            None => {
                out.flush()?;
                reader.next().await?
            }
        };
        let Some(batch) = batch else { return Ok(()) };
        left -= print_batch(&batch, output, left, out)?;
    }
    Ok(())
}

/// Prints at most `count_max` records; returns how many.
fn print_batch(
    batch: &ReadBatch,
    output: OutputArg,
    count_max: u64,
    out: &mut Output,
) -> Result<u64, Failure> {
    let mut count = 0;
    for record in batch.records() {
        if count == count_max {
            break;
        }
        let record = record.map_err(|source| bad_batch(batch, source))?;
        print_record(batch, &record, output, out)?;
        count += 1;
    }
    Ok(count)
}

fn bad_batch(batch: &ReadBatch, source: RecordsError) -> Failure {
    let (partition, base_offset) = (batch.partition(), batch.first_offset());
    Failure::from(ReadError::BadBatch { partition, base_offset, source })
}

fn print_record(
    batch: &ReadBatch,
    record: &ReadRecord<'_>,
    output: OutputArg,
    out: &mut Output,
) -> Result<(), Failure> {
    match output {
        OutputArg::Value => out.write(record.value.unwrap_or_default())?,
        OutputArg::KeyValue => {
            out.write(record.key.unwrap_or_default())?;
            out.write(b"\t")?;
            out.write(record.value.unwrap_or_default())?;
        }
        OutputArg::Json => {
            let mut line = Vec::with_capacity(256);
            write_record(&mut line, batch.topic(), batch.partition(), record);
            out.write(&line)?;
        }
    }
    out.write(b"\n")
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownTopic { topic } => sdk::unknown_topic(&topic),
            ReadError::OffsetOutOfRange { partition, asked, log_start, high_watermark } => {
                Self::failed(format_args!(
                    "offset {asked} is out of range: partition {partition} holds {log_start} to {high_watermark}"
                ))
                .with_hint("start elsewhere: --from-beginning, or --timestamp")
            }
            ReadError::Metadata(source) => source.into(),
            ReadError::FindOffset { source, .. } => source.into(),
            error @ ReadError::PartitionOutOfRange { .. } => Self::new(Exit::NotFound, error),
            error @ ReadError::Unavailable { .. } => Self::new(Exit::Timeout, error),
            error @ (ReadError::NotContiguous { .. }
            | ReadError::Diverged { .. }
            | ReadError::Damaged { .. }
            | ReadError::BadBatch { .. }
            | ReadError::Closed) => Self::failed(error),
        }
    }
}
