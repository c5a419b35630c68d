//! DescribeLogDirs: how much each partition has on disk. A node has one directory.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine_api::{CoreId, DescribeLogs, LogSize, Request, Response, TopicError};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::topic_error;

pub(super) fn describe(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: DescribeLogDirsRequest = context.decode(body)?;
    Ok(context.gather(vec![Request::DescribeCluster], move |context, answers| {
        let cluster = match answers.into_iter().next().expect("one answer to one question") {
            Response::DescribeCluster(cluster) => cluster,
            other => return Outcome::unexpected(&other),
        };
        let cores =
            cluster.nodes.iter().find(|node| node.id == context.config.node).map_or(1, |node| node.cores);
        let asks = (0..cores).map(|core| Request::DescribeLogs(DescribeLogs { core: CoreId(core) }));
        let asks = asks.collect();
        context.gather(asks, move |context, answers| {
            let mut sizes = Vec::new();
            for answer in answers {
                match answer {
                    Response::DescribeLogs(Ok(of_core)) => sizes.extend(of_core),
                    Response::DescribeLogs(Err(error)) => return refused(context, &error),
                    other => return Outcome::unexpected(&other),
                }
            }
            context.reply(&response(context, &asked, sizes))
        })
    }))
}

fn response(
    context: &Context<'_>,
    asked: &DescribeLogDirsRequest,
    sizes: Vec<LogSize>,
) -> DescribeLogDirsResponse {
    // By topic: every one, or these partitions.
    let wanted: Option<BTreeMap<String, Vec<i32>>> = asked.topics.as_ref().map(|topics| {
        let mut wanted: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for topic in topics {
            wanted.entry(topic.topic.to_string()).or_default().extend(&topic.partitions);
        }
        wanted.values_mut().for_each(|partitions| partitions.sort_unstable());
        wanted
    });
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for size in &sizes {
        let Some(name) = context.catalog.topic_name(size.partition.topic) else { continue };
        let index = i32::try_from(size.partition.index).unwrap_or(i32::MAX);
        let is_wanted = wanted.as_ref().is_none_or(|wanted| {
            wanted.get(name).is_some_and(|partitions| partitions.binary_search(&index).is_ok())
        });
        if is_wanted {
            let partition = DescribeLogDirsPartition::default()
                .with_partition_index(index)
                .with_partition_size(i64::try_from(size.bytes).unwrap_or(i64::MAX));
            topics.entry(name).or_default().push(partition);
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic::default()
            .with_name(TopicName(name.to_owned().into()))
            .with_partitions(partitions)
    });
    let configs = context.config.node_configs.iter();
    let path = configs.rev().find(|(key, _)| key == "log.dirs").map_or("data", |(_, value)| value);
    let directory =
        DescribeLogDirsResult::default().with_log_dir(path.to_owned().into()).with_topics(topics.collect());
    DescribeLogDirsResponse::default().with_results(vec![directory])
}

/// The response as a whole has a place for an error since version 3; before, the directory has.
fn refused(context: &Context<'_>, error: &TopicError) -> Outcome {
    let code = topic_error(error).code();
    let directory = DescribeLogDirsResult::default().with_error_code(code);
    context.reply(&DescribeLogDirsResponse::default().with_error_code(code).with_results(vec![directory]))
}
