//! `millstream consume --group`: a member of a consumer group that prints what it is given.
//!
//! What is printed is flushed before it is committed: a record may be printed again after a failure, and is never
//! left out.

use std::sync::Arc;

use millstream_client::{
    Assignor, Client, GroupConsumer, GroupConsumerError, GroupOptions, GroupStart, ReadBatch,
    RebalanceListener,
};
use storage_frame::Offset;

use super::print_record;
use crate::args::{AssignorArg, CommitArg, ConsumeArgs, Global, OutputArg};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

pub(super) async fn run(
    global: &Global,
    args: &ConsumeArgs,
    group: &str,
    client: &Client,
    interrupt: &mut Interrupt,
    out: &mut Output,
) -> Result<(), Failure> {
    let joining = client.join_group(group, [&args.topic], options(global, args));
    let mut consumer = tokio::select! {
        consumer = joining => consumer?,
        () = interrupt.first() => return Ok(()),
    };
    let printed = print_all(&mut consumer, args, args.output_for(global.format), interrupt, out).await;
    // Also after an error: what was printed is committed, and the others need not wait for the session's end.
    let closed = consumer.close().await;
    printed.and(closed.map_err(Failure::from))
}

fn options(global: &Global, args: &ConsumeArgs) -> GroupOptions {
    let mut options = GroupOptions::default();
    options.start = if args.from_beginning { GroupStart::Beginning } else { GroupStart::End };
    options.instance.clone_from(&args.instance);
    options.assignor = match args.assignor {
        AssignorArg::Range => Assignor::Range,
        AssignorArg::Sticky => Assignor::Sticky,
    };
    if args.commit == CommitArg::None {
        options.auto_commit = None;
    }
    if let Some(timeout) = global.timeout {
        options.unavailable_timeout = timeout;
    }
    options.listener = Some(Arc::new(Told));
    options
}

/// Says on stderr what comes and goes.
struct Told;

impl RebalanceListener for Told {
    fn assigned(&self, partitions: &[(String, u32)]) {
        let list: Vec<String> = partitions.iter().map(|(_, partition)| partition.to_string()).collect();
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        eprintln!("millstream: partitions assigned: {list}");
    }

    fn lost(&self, _: &[(String, u32)]) {
        eprintln!("millstream: out of the group for too long: joining again");
    }
}

async fn print_all(
    consumer: &mut GroupConsumer,
    args: &ConsumeArgs,
    output: OutputArg,
    interrupt: &mut Interrupt,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut left = args.max_records.unwrap_or(u64::MAX);
    while left > 0 {
        let batch = tokio::select! {
            batch = consumer.next() => batch?,
            () = interrupt.first() => return Ok(()),
        };
        let printed = print_some(&batch, output, left, out)?;
        out.flush()?;
        left -= printed.count;
        if let Some(next) = printed.stopped_before {
            consumer.processed_below(batch.topic(), batch.partition(), next);
        }
    }
    Ok(())
}

struct Printed {
    count: u64,
    /// The rest of the batch was not wanted.
    stopped_before: Option<Offset>,
}

fn print_some(
    batch: &ReadBatch,
    output: OutputArg,
    count_max: u64,
    out: &mut Output,
) -> Result<Printed, Failure> {
    let mut count = 0;
    for record in batch.records() {
        let record = record.map_err(|source| super::bad_batch(batch, source))?;
        if count == count_max {
            return Ok(Printed { count, stopped_before: Some(record.offset) });
        }
        print_record(batch, &record, output, out)?;
        count += 1;
    }
    Ok(Printed { count, stopped_before: None })
}

impl From<GroupConsumerError> for Failure {
    fn from(error: GroupConsumerError) -> Self {
        match error {
            GroupConsumerError::Read(source) => source.into(),
            GroupConsumerError::Find(source) => source.into(),
            error @ GroupConsumerError::Unavailable { .. } => Self::new(Exit::Timeout, error),
            error @ (GroupConsumerError::Group { .. }
            | GroupConsumerError::NotCommitted { .. }
            | GroupConsumerError::Closed) => Self::failed(error),
        }
    }
}
