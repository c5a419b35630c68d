//! Groups seen from outside: listing, describing, moving their offsets, deleting them.

use engine_api::{
    ByPartition, CommitOffset, CommitOffsets, CommittedOffset, FetchError, GroupAnswer, GroupAsk,
    GroupDescription, GroupError, GroupListing, GroupRequest, Lag, ListGroups, MeasureLag, MemberId, Request,
    Response,
};
use storage_frame::Offset;

use super::{Admin, PartitionError, ask_leader, passes_fetch};
use crate::rpc::{RequestError, unexpected};
use crate::shared::PURPOSE_REQUESTS;

impl Admin {
    /// Every group, by name.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, RequestError<GroupError>> {
        let cluster_of = |response| {
            if let Response::DescribeCluster(cluster) = response { Some(Ok(cluster)) } else { None }
        };
        let cluster = self.shared.ask_until(&Request::DescribeCluster, cluster_of, is_passing).await?;
        let cores = cluster.nodes.iter().map(|node| node.cores).max().unwrap_or(0);
        let mut groups = Vec::new();
        for core in 0..cores {
            let request = Request::ListGroups(ListGroups { core: engine_api::CoreId(core) });
            let answer_of =
                |response| if let Response::ListGroups(result) = response { Some(result) } else { None };
            groups.extend(self.shared.ask_until(&request, answer_of, is_passing).await?);
        }
        groups.sort_by(|a: &GroupListing, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// State, members and what happened last.
    ///
    /// # Errors
    /// [`GroupError::NotFound`] and [`RequestError`].
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, RequestError<GroupError>> {
        let GroupAnswer::Described(described) = self.ask_group(group, GroupAsk::Describe).await? else {
            return Err(unexpected("not a group's description").into());
        };
        Ok(described)
    }

    /// What the group has committed, by topic and partition.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<ByPartition<Option<CommittedOffset>>, RequestError<GroupError>> {
        let GroupAnswer::Offsets(offsets) = self.ask_group(group, GroupAsk::FetchOffsets(None)).await? else {
            return Err(unexpected("not a group's offsets").into());
        };
        Ok(offsets)
    }

    /// Moves a group without members to these offsets.
    ///
    /// # Errors
    /// The first partition's that was refused; others may be moved. [`GroupError::UnknownMember`]: it has members.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[(String, u32, Offset)],
    ) -> Result<(), RequestError<GroupError>> {
        let commit = |(topic, partition, offset): &(String, u32, Offset)| {
            let commit = CommitOffset {
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: String::new(),
            };
            (topic.clone(), vec![commit])
        };
        let nobody = MemberId { member: String::new(), generation: -1, instance: None };
        let topics = offsets.iter().map(commit).collect();
        let ask = GroupAsk::Commit(CommitOffsets { member: nobody, retention: None, topics });
        let GroupAnswer::Committed(results) = self.ask_group(group, ask).await? else {
            return Err(unexpected("not the answer to a commit").into());
        };
        let mut results = results.into_iter().flat_map(|(_, partitions)| partitions);
        results.try_for_each(|(_, result)| result).map_err(RequestError::Refused)
    }

    /// Forgets a group without members, with its offsets.
    ///
    /// # Errors
    /// [`GroupError::NotFound`], [`GroupError::NotEmpty`] and [`RequestError`].
    pub async fn delete_group(&self, group: &str) -> Result<(), RequestError<GroupError>> {
        let GroupAnswer::Deleted = self.ask_group(group, GroupAsk::Delete).await? else {
            return Err(unexpected("not the answer to a deletion").into());
        };
        Ok(())
    }

    /// How far `offset` is behind the end of a partition, in records and in time.
    ///
    /// # Errors
    /// [`PartitionError`].
    pub async fn measure_lag(
        &self,
        topic: &str,
        partition: u32,
        offset: Offset,
    ) -> Result<Lag, PartitionError<FetchError>> {
        let request = |partition| Request::MeasureLag(MeasureLag { partition, offset, reader: None });
        let answer_of =
            |response| if let Response::MeasureLag(result) = response { Some(result) } else { None };
        ask_leader(&self.shared, topic, partition, PURPOSE_REQUESTS, request, answer_of, passes_fetch).await
    }

    async fn ask_group(&self, group: &str, ask: GroupAsk) -> Result<GroupAnswer, RequestError<GroupError>> {
        let request = Request::Group(GroupRequest { group: group.to_owned(), ask });
        let answer_of = |response| if let Response::Group(result) = response { Some(result) } else { None };
        self.shared.ask_until(&request, answer_of, is_passing).await
    }
}

fn is_passing(error: &GroupError) -> bool {
    matches!(
        error,
        GroupError::NotReady | GroupError::Loading | GroupError::Overloaded | GroupError::ShuttingDown
    )
}
