//! `millstream consume --kafka`: the same flags and output, through librdkafka.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::Said;
use super::fault::Fault;
use crate::args::{AssignorArg, CommitArg, ConsumeArgs, Global, OutputArg};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::record_json::{Fields, write_fields};
use crate::sdk;

/// Ctrl-C is looked at so often.
const POLL: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn run(global: &Global, args: ConsumeArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let mut out = Output::stdout();
    let consumer: BaseConsumer<Said> =
        config(global, &args).create_with_context(Said::default()).map_err(Fault::from)?;
    let ends = match &args.group {
        Some(_) => {
            consumer.subscribe(&[&args.topic]).map_err(Fault::from)?;
            BTreeMap::new()
        }
        None => assign(global, &consumer, &args)?,
    };
    let printed = print_all(global, &args, &consumer, &ends, &interrupt, &mut out);
    printed.and(out.finish())
}

fn config(global: &Global, args: &ConsumeArgs) -> ClientConfig {
    let mut config = ClientConfig::new();
    let commits = args.group.is_some() && args.commit == CommitArg::Auto;
    let assignor = match args.assignor {
        AssignorArg::Range => "range",
        AssignorArg::Sticky => "cooperative-sticky",
    };
    config
        .set("bootstrap.servers", global.server.join(","))
        .set("client.id", "millstream")
        // librdkafka wants one, also where it is not used.
        .set("group.id", args.group.as_deref().unwrap_or("millstream-consume"))
        .set("enable.auto.commit", commits.to_string())
        // What is printed is committed, not what was fetched.
        .set("enable.auto.offset.store", "false")
        .set("partition.assignment.strategy", assignor)
        .set("auto.offset.reset", if args.from_beginning { "earliest" } else { "latest" });
    if let Some(instance) = &args.instance {
        config.set("group.instance.id", instance);
    }
    config
}

/// Partition -> where reading ends, with `--exit-at-end`.
type Ends = BTreeMap<i32, i64>;

fn assign(global: &Global, consumer: &BaseConsumer<Said>, args: &ConsumeArgs) -> Result<Ends, Failure> {
    let timeout = global.timeout.unwrap_or(REQUEST_TIMEOUT);
    let metadata = consumer.fetch_metadata(Some(&args.topic), timeout).map_err(Fault::from)?;
    let found = metadata.topics().first().filter(|topic| topic.error().is_none());
    let found = found.ok_or_else(|| sdk::unknown_topic(&args.topic))?;
    let mut partitions: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
    if let Some(only) = args.partition {
        partitions.retain(|partition| u32::try_from(*partition) == Ok(only));
        if partitions.is_empty() {
            let why = format!("topic '{}' has no partition {only}", args.topic);
            return Err(Failure::new(crate::failure::Exit::NotFound, why));
        }
    }
    let start = match (args.from_beginning, args.offset, args.timestamp) {
        (true, ..) => Offset::Beginning,
        (_, Some(offset), _) => Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
        (.., Some(ms)) => Offset::Offset(ms),
        (false, None, None) => Offset::End,
    };
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(&args.topic, *partition, start).map_err(Fault::from)?;
    }
    if args.timestamp.is_some() {
        list = consumer.offsets_for_times(list, timeout).map_err(Fault::from)?;
    }
    consumer.assign(&list).map_err(Fault::from)?;
    let mut ends = Ends::new();
    for partition in partitions.into_iter().filter(|_| args.exit_at_end) {
        let (low, high) = consumer.fetch_watermarks(&args.topic, partition, timeout).map_err(Fault::from)?;
        let begins = match (args.from_beginning, list.find_partition(&args.topic, partition)) {
            (true, _) | (_, None) => low,
            (false, Some(at)) => match at.offset() {
                Offset::Offset(offset) => offset,
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => high,
            },
        };
        if begins < high {
            ends.insert(partition, high);
        }
    }
    Ok(ends)
}

fn print_all(
    global: &Global,
    args: &ConsumeArgs,
    consumer: &BaseConsumer<Said>,
    ends: &Ends,
    interrupt: &Interrupt,
    out: &mut Output,
) -> Result<(), Failure> {
    let what = args.output_for(global.format);
    let mut open = ends.clone();
    let mut count = 0;
    let mut said = None;
    while args.max_records.is_none_or(|max| count < max)
        && !interrupt.is_asked()
        && !(args.exit_at_end && open.is_empty())
    {
        let next = match consumer.poll(Duration::ZERO) {
            // Nothing is there now: what was printed is to be seen.
            None => {
                out.flush()?;
                consumer.poll(POLL)
            }
            next => next,
        };
        match next {
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                // With --exit-at-end, what came later is left out.
                if !(args.exit_at_end && open.get(&partition).is_none_or(|end| offset >= *end)) {
                    print(&message, what, out)?;
                    count += 1;
                }
                if args.group.is_some() {
                    consumer.store_offset_from_message(&message).map_err(Fault::from)?;
                }
                if open.get(&partition).is_some_and(|end| offset + 1 >= *end) {
                    open.remove(&partition);
                }
            }
            Some(Err(error)) if said.as_ref() != Some(&error) => {
                eprintln!("millstream: {error}");
                said = Some(error);
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

fn print(message: &BorrowedMessage<'_>, what: OutputArg, out: &mut Output) -> Result<(), Failure> {
    match what {
        OutputArg::Value => out.write(message.payload().unwrap_or_default())?,
        OutputArg::KeyValue => {
            out.write(message.key().unwrap_or_default())?;
            out.write(b"\t")?;
            out.write(message.payload().unwrap_or_default())?;
        }
        OutputArg::Json => {
            let fields = Fields {
                topic: message.topic(),
                partition: u32::try_from(message.partition()).unwrap_or(0),
                offset: u64::try_from(message.offset()).unwrap_or(0),
                timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
                key: message.key(),
                value: message.payload(),
            };
            let headers = message.headers().into_iter().flat_map(|headers| {
                (0..headers.count()).map(|index| {
                    let header = headers.get(index);
                    (header.key, header.value)
                })
            });
            let mut line = Vec::with_capacity(256);
            write_fields(&mut line, &fields, headers);
            out.write(&line)?;
        }
    }
    out.write(b"\n")
}
