//! Being a member: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{GroupAnswer, GroupAsk, GroupError, Joined, Leaving, MemberId, MemberProtocol};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;

use super::errors::{code, group_error, request, the_answer};

pub(super) fn join(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: JoinGroupRequest = context.decode(body)?;
    let version = context.head.version;
    let session_timeout = duration(asked.session_timeout_ms);
    // Version 0 has one timeout for both.
    let rebalance_timeout = if version == 0 { session_timeout } else { duration(asked.rebalance_timeout_ms) };
    let protocols =
        asked.protocols.into_iter().map(|protocol| (protocol.name.to_string(), protocol.metadata)).collect();
    let ask = GroupAsk::Join(engine_api::JoinGroup {
        member: asked.member_id.to_string(),
        instance: instance(asked.group_instance_id),
        client_id: context.head.client_id.to_string(),
        client_host: context.client_host().to_string(),
        session_timeout,
        rebalance_timeout,
        member_id_required: version >= 4,
        supports_skip_assignment: version >= 9,
        protocol: MemberProtocol::Classic { protocol_type: asked.protocol_type.to_string(), protocols },
    });
    let member = asked.member_id;
    Ok(context.gather(vec![request(&asked.group_id, ask)], move |context, answers| {
        match the_answer(answers) {
            Some(Ok(GroupAnswer::Joined(joined))) => context.reply(&joined_response(version, joined)),
            Some(Err(error)) => context.reply(&not_joined(version, member, &error)),
            _ => Outcome::Close("answer_of_another_kind", String::new()),
        }
    }))
}

fn joined_response(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(member, instance, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(member.into())
            .with_group_instance_id(instance.map(StrBytes::from))
            .with_metadata(metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(StrBytes::from))
        .with_protocol_name(protocol_name(version, joined.protocol))
        .with_leader(joined.leader.into())
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(joined.member.into())
        .with_members(members.collect())
}

fn not_joined(version: i16, member: StrBytes, error: &GroupError) -> JoinGroupResponse {
    let member = match error {
        GroupError::MemberIdRequired { member } => member.clone().into(),
        _ => member,
    };
    JoinGroupResponse::default()
        .with_error_code(group_error(error).code())
        .with_generation_id(-1)
        .with_protocol_name(protocol_name(version, None))
        .with_member_id(member)
}

/// Null is for versions that have it.
fn protocol_name(version: i16, name: Option<String>) -> Option<StrBytes> {
    match name {
        None if version < 7 => Some(StrBytes::new()),
        name => name.map(StrBytes::from),
    }
}

pub(super) fn sync(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: SyncGroupRequest = context.decode(body)?;
    let assignments = asked.assignments.into_iter();
    let ask = GroupAsk::Sync(engine_api::SyncGroup {
        member: member_id(asked.member_id, asked.generation_id, asked.group_instance_id),
        protocol_type: asked.protocol_type.map(|text| text.to_string()),
        protocol: asked.protocol_name.map(|text| text.to_string()),
        assignments: assignments.map(|given| (given.member_id.to_string(), given.assignment)).collect(),
    });
    Ok(context.gather(vec![request(&asked.group_id, ask)], |context, answers| {
        let response = SyncGroupResponse::default();
        context.reply(&match the_answer(answers) {
            Some(Ok(GroupAnswer::Synced(synced))) => response
                .with_protocol_type(synced.protocol_type.map(StrBytes::from))
                .with_protocol_name(synced.protocol.map(StrBytes::from))
                .with_assignment(synced.assignment),
            Some(Err(error)) => response.with_error_code(group_error(&error).code()),
            _ => return Outcome::Close("answer_of_another_kind", String::new()),
        })
    }))
}

pub(super) fn heartbeat(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: HeartbeatRequest = context.decode(body)?;
    let member = member_id(asked.member_id, asked.generation_id, asked.group_instance_id);
    let asks = vec![request(&asked.group_id, GroupAsk::Heartbeat(member))];
    Ok(context.gather(asks, |context, answers| {
        let code = match the_answer(answers) {
            // As Kafka does: a group that is being read has no reason to disturb its members.
            Some(Ok(GroupAnswer::Alive) | Err(GroupError::Loading)) => 0,
            Some(Err(error)) => group_error(&error).code(),
            _ => return Outcome::Close("answer_of_another_kind", String::new()),
        };
        context.reply(&HeartbeatResponse::default().with_error_code(code))
    }))
}

pub(super) fn leave(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let asked: LeaveGroupRequest = context.decode(body)?;
    let leaving: Vec<Leaving> = if context.head.version < 3 {
        vec![Leaving { member: asked.member_id.to_string(), instance: None, reason: None }]
    } else {
        let members = asked.members.into_iter().map(|member| Leaving {
            member: member.member_id.to_string(),
            instance: instance(member.group_instance_id),
            reason: member.reason.map(|reason| reason.to_string()),
        });
        members.collect()
    };
    let asks = vec![request(&asked.group_id, GroupAsk::Leave(leaving.clone()))];
    Ok(context.gather(asks, move |context, answers| {
        let response = LeaveGroupResponse::default();
        let results = match the_answer(answers) {
            Some(Ok(GroupAnswer::Left(results))) => results,
            Some(Err(error)) => {
                return context.reply(&response.with_error_code(group_error(&error).code()));
            }
            _ => return Outcome::Close("answer_of_another_kind", String::new()),
        };
        if context.head.version < 3 {
            let code = results.first().map_or(0, code);
            return context.reply(&response.with_error_code(code));
        }
        let members = leaving.into_iter().zip(&results).map(|(member, result)| {
            MemberResponse::default()
                .with_member_id(member.member.into())
                .with_group_instance_id(member.instance.map(StrBytes::from))
                .with_error_code(code(result))
        });
        context.reply(&response.with_members(members.collect()))
    }))
}

pub(super) fn member_id(member: StrBytes, generation: i32, static_id: Option<StrBytes>) -> MemberId {
    MemberId { member: member.to_string(), generation, instance: instance(static_id) }
}

/// An empty one is none.
fn instance(instance: Option<StrBytes>) -> Option<String> {
    instance.filter(|text| !text.is_empty()).map(|text| text.to_string())
}

fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
