//! Groups from outside: DescribeGroups, ListGroups, DeleteGroups.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use engine_api::{
    CoreId, GroupAnswer, GroupAsk, GroupDescription, GroupError, GroupListing, GroupState, ListGroups,
    MemberDescription, OFFSETS_TOPIC, Request, Response,
};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::operations;

use super::errors::{code, group_error, request};

pub(super) fn describe(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let mut asked: DescribeGroupsRequest = context.decode(body)?;
    once_each(&mut asked.groups);
    let asks = asked.groups.iter().map(|group| request(group, GroupAsk::Describe)).collect();
    Ok(context.gather(asks, move |context, answers| {
        let mut groups = Vec::with_capacity(answers.len());
        for (group, answer) in asked.groups.into_iter().zip(answers) {
            let described = match answer {
                Response::Group(Ok(GroupAnswer::Described(described))) => described_group(group, described),
                // Until version 6 a group that does not exist is dead, and that is no error.
                Response::Group(Err(GroupError::NotFound { .. })) => dead(group),
                Response::Group(Err(error)) => {
                    DescribedGroup::default().with_group_id(group).with_error_code(group_error(&error).code())
                }
                other => return Outcome::unexpected(&other),
            };
            let is_asked = asked.include_authorized_operations && described.error_code == 0;
            groups
                .push(described.with_authorized_operations(operations::told(is_asked, operations::OF_GROUP)));
        }
        context.reply(&DescribeGroupsResponse::default().with_groups(groups))
    }))
}

/// A group is answered for once, however often it is named: else a small request has a huge answer.
fn once_each(groups: &mut Vec<GroupId>) {
    let mut seen = BTreeSet::new();
    groups.retain(|group| seen.insert(group.clone()));
}

fn described_group(group: GroupId, described: GroupDescription) -> DescribedGroup {
    if described.state == GroupState::Dead {
        return dead(group);
    }
    let member = |member: MemberDescription| {
        DescribedGroupMember::default()
            .with_member_id(member.member.into())
            .with_group_instance_id(member.instance.map(StrBytes::from))
            .with_client_id(member.client_id.into())
            .with_client_host(member.client_host.into())
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    };
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(state_name(described.state))
        .with_protocol_type(described.protocol_type.into())
        .with_protocol_data(described.protocol.into())
        .with_members(described.members.into_iter().map(member).collect())
}

fn dead(group: GroupId) -> DescribedGroup {
    DescribedGroup::default().with_group_id(group).with_group_state(state_name(GroupState::Dead))
}

pub(super) fn list(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: ListGroupsRequest = context.decode(body)?;
    if context.catalog.find_topic(OFFSETS_TOPIC).is_none() {
        // No group was ever used; listing them is no use of one.
        return Ok(context.reply(&ListGroupsResponse::default()));
    }
    Ok(context.gather(vec![Request::DescribeCluster], |context, answers| {
        let Some(Response::DescribeCluster(cluster)) = answers.into_iter().next() else {
            return Outcome::Close("answer_of_another_kind", String::new());
        };
        let own = cluster.nodes.iter().find(|node| node.id == context.config.node);
        let cores = own.map_or(1, |node| node.cores);
        let asks = (0..cores).map(|core| Request::ListGroups(ListGroups { core: CoreId(core) })).collect();
        context.gather(asks, move |context, answers| listed(context, &asked, answers))
    }))
}

fn listed(context: &Context<'_>, asked: &ListGroupsRequest, answers: Vec<Response>) -> Outcome {
    let mut response = ListGroupsResponse::default();
    let mut groups: BTreeMap<String, GroupListing> = BTreeMap::new();
    for answer in answers {
        match answer {
            Response::ListGroups(Ok(listed)) => {
                groups.extend(listed.into_iter().map(|listing| (listing.group.clone(), listing)));
            }
            // Those of the other cores are told all the same.
            Response::ListGroups(Err(error)) => response.error_code = group_error(&error).code(),
            other => return Outcome::unexpected(&other),
        }
    }
    let wanted = |listing: &GroupListing| {
        let name = state_name(listing.state);
        asked.states_filter.is_empty()
            || asked.states_filter.iter().any(|state| state.eq_ignore_ascii_case(&name))
    };
    let groups = groups.into_values().filter(wanted).map(|listing| {
        ListedGroup::default()
            .with_group_id(GroupId(listing.group.into()))
            .with_protocol_type(listing.protocol_type.into())
            .with_group_state(state_name(listing.state))
    });
    response.groups = groups.collect();
    context.reply(&response)
}

pub(super) fn delete(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let mut asked: DeleteGroupsRequest = context.decode(body)?;
    once_each(&mut asked.groups_names);
    let asks = asked.groups_names.iter().map(|group| request(group, GroupAsk::Delete)).collect();
    Ok(context.gather(asks, move |context, answers| {
        let mut results = Vec::with_capacity(answers.len());
        for (group, answer) in asked.groups_names.into_iter().zip(answers) {
            let Response::Group(answer) = answer else { return Outcome::unexpected(&answer) };
            results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code(&answer)));
        }
        context.reply(&DeleteGroupsResponse::default().with_results(results))
    }))
}

fn state_name(state: GroupState) -> StrBytes {
    StrBytes::from_static_str(match state {
        GroupState::Empty => "Empty",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Stable => "Stable",
        GroupState::Dead => "Dead",
    })
}
