//! `millstream group`: consumer groups of both protocols, as their coordinator sees them.

use std::time::Duration;

use engine_broker::utc::rfc3339;
use millstream_client::{
    Admin, GroupDescription, GroupError, GroupState, Lag, MemberDescription, Place, RebalanceCause,
    RebalanceEvent, RequestError, TimestampMs,
};
use serde_json::{Value, json};
use storage_frame::Offset;

use crate::args::{Format, GroupCommand, GroupDescribeArgs, GroupResetArgs, ResetTo};
use crate::failure::{Exit, Failure};
use crate::output::{print, table};

pub(crate) async fn run(admin: &Admin, command: GroupCommand, format: Format) -> Result<(), Failure> {
    match command {
        GroupCommand::List => list(admin, format).await,
        GroupCommand::Describe(args) => describe(admin, &args, format).await,
        GroupCommand::ResetOffsets(args) => reset(admin, &args, format).await,
        GroupCommand::Delete(args) => {
            let name = &args.name;
            admin.delete_group(name).await?;
            print(format, || format!("deleted {name}\n"), || json!({"group": name, "deleted": true}))
        }
    }
}

async fn list(admin: &Admin, format: Format) -> Result<(), Failure> {
    let groups = admin.list_groups().await?;
    let text = || {
        let rows = groups.iter().map(|listed| {
            vec![listed.group.clone(), state_name(listed.state).to_owned(), listed.protocol_type.clone()]
        });
        table(&["GROUP", "STATE", "PROTOCOL"], &rows.collect::<Vec<_>>())
    };
    let json = || {
        groups
            .iter()
            .map(|listed| {
                json!({
                    "group": listed.group,
                    "state": state_name(listed.state),
                    "protocol_type": listed.protocol_type,
                })
            })
            .collect()
    };
    print(format, text, json)
}

/// One partition that the group has committed for, or that a member owns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    topic: String,
    partition: u32,
    committed: Option<Offset>,
    /// Absent: the partition could not be asked.
    lag: Option<Lag>,
    /// Index in the group's members.
    owner: Option<usize>,
    stuck: bool,
}

impl Row {
    /// Records from the committed offset, or from the log's start, to the end.
    fn lag_count(&self) -> Option<u64> {
        let lag = self.lag?;
        Some(lag.high_watermark.0.saturating_sub(self.committed?.0.max(lag.log_start.0)))
    }

    /// How old the next record is.
    fn behind(&self, now: TimestampMs) -> Option<Duration> {
        let next = self.lag?.timestamp?;
        let ms = now.0.saturating_sub(next.0);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

async fn describe(admin: &Admin, args: &GroupDescribeArgs, format: Format) -> Result<(), Failure> {
    let group = admin.describe_group(&args.name).await?;
    if group.state == GroupState::Dead {
        return Err(GroupError::NotFound { group: args.name.clone() }.into());
    }
    // Without a flag: everything but what happened before.
    let all = !(args.members || args.offsets || args.state || args.events);
    let rows = if all || args.offsets { rows(admin, &group).await? } else { Vec::new() };
    let now = now();
    let text = || {
        let mut parts = Vec::new();
        if all || args.state {
            parts.push(state_text(&group));
        }
        if all || args.offsets {
            parts.push(offsets_text(&group, &rows, now));
        }
        if args.members {
            parts.push(members_text(&group));
        }
        if args.events {
            parts.push(events_text(&group));
        }
        parts.join("\n")
    };
    let json = || {
        let mut value = json!({
            "group": group.group,
            "state": state_name(group.state),
            "protocol_type": group.protocol_type,
            "protocol": group.protocol,
            "generation": group.generation,
        });
        if all || args.offsets {
            value["offsets"] = rows.iter().map(|row| row_json(&group, row, now)).collect();
        }
        if all || args.members {
            value["members"] = group.members.iter().map(member_json).collect();
        }
        if all || args.events {
            value["events"] = group.events.iter().map(event_json).collect();
        }
        value
    };
    print(format, text, json)
}

async fn rows(admin: &Admin, group: &GroupDescription) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (topic, partitions) in admin.group_offsets(&group.group).await? {
        for (partition, committed) in partitions {
            let committed = committed.map(|committed| committed.offset);
            let (topic, lag) = (topic.clone(), None);
            rows.push(Row { topic, partition, committed, lag, owner: None, stuck: false });
        }
    }
    for (index, member) in group.members.iter().enumerate() {
        for (topic, partitions) in &member.owned {
            for partition in partitions {
                let at = rows.iter().position(|row| row.topic == *topic && row.partition == *partition);
                let at = at.unwrap_or_else(|| {
                    let (topic, partition) = (topic.clone(), *partition);
                    let (committed, lag) = (None, None);
                    rows.push(Row { topic, partition, committed, lag, owner: None, stuck: false });
                    rows.len() - 1
                });
                rows[at].owner = Some(index);
                rows[at].stuck = member.stuck.contains(&(topic.clone(), *partition));
            }
        }
    }
    rows.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    for row in &mut rows {
        let from = row.committed.unwrap_or(Offset::ZERO);
        // A topic may be gone; the rest is told all the same.
        row.lag = admin.measure_lag(&row.topic, row.partition, from).await.ok();
    }
    Ok(rows)
}

fn state_text(group: &GroupDescription) -> String {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let row = vec![
        group.group.clone(),
        state_name(group.state).to_owned(),
        or_dash(&group.protocol_type),
        or_dash(&group.protocol),
        group.generation.to_string(),
        group.members.len().to_string(),
    ];
    table(&["GROUP", "STATE", "PROTOCOL", "ASSIGNOR", "GENERATION", "MEMBERS"], &[row])
}

fn offsets_text(group: &GroupDescription, rows: &[Row], now: TimestampMs) -> String {
    let or_dash = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let cells = rows.iter().map(|row| {
        let owner = row.owner.map(|index| &group.members[index]);
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed.map(|offset| offset.0)),
            or_dash(row.lag.map(|lag| lag.high_watermark.0)),
            or_dash(row.lag_count()),
            row.behind(now).map_or_else(|| "-".to_owned(), |behind| format!("{:.1} s", behind.as_secs_f64())),
            owner.map_or("-", |member| &member.member).to_owned(),
            if row.stuck { "stuck: records to read, no commit, no fetch".to_owned() } else { String::new() },
        ]
    });
    table(
        &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "MEMBER", ""],
        &cells.collect::<Vec<_>>(),
    )
}

fn members_text(group: &GroupDescription) -> String {
    let rows = group.members.iter().map(|member| {
        vec![
            member.member.clone(),
            member.instance.clone().unwrap_or_else(|| "-".to_owned()),
            member.client_host.clone(),
            member.client_id.clone(),
            owned_text(member),
        ]
    });
    table(&["MEMBER", "INSTANCE", "HOST", "CLIENT", "PARTITIONS"], &rows.collect::<Vec<_>>())
}

/// `orders(0,1), words(3)`.
fn owned_text(member: &MemberDescription) -> String {
    let owned = member.owned.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{topic}({})", partitions.join(","))
    });
    let owned = owned.collect::<Vec<_>>().join(", ");
    if owned.is_empty() { "-".to_owned() } else { owned }
}

fn events_text(group: &GroupDescription) -> String {
    let rows = group.events.iter().map(|event| {
        let took = event.duration.map(|took| format!("{:.1} s", took.as_secs_f64()));
        let member = if event.member.is_empty() { "-" } else { &event.member };
        vec![
            rfc3339(event.at.0),
            event.generation.to_string(),
            cause_name(event.cause).to_owned(),
            took.unwrap_or_else(|| "under way".to_owned()),
            member.to_owned(),
        ]
    });
    table(&["AT", "GENERATION", "CAUSE", "TOOK", "MEMBER"], &rows.collect::<Vec<_>>())
}

fn row_json(group: &GroupDescription, row: &Row, now: TimestampMs) -> Value {
    json!({
        "topic": row.topic,
        "partition": row.partition,
        "committed": row.committed.map(|offset| offset.0),
        "end": row.lag.map(|lag| lag.high_watermark.0),
        "lag": row.lag_count(),
        "behind_seconds": row.behind(now).map(|behind| behind.as_secs_f64()),
        "member": row.owner.map(|index| &group.members[index].member),
        "stuck": row.stuck,
    })
}

fn member_json(member: &MemberDescription) -> Value {
    let owned = |(topic, partitions): &(String, Vec<u32>)| json!({"topic": topic, "partitions": partitions});
    json!({
        "member": member.member,
        "instance": member.instance,
        "host": member.client_host,
        "client_id": member.client_id,
        "owned": member.owned.iter().map(owned).collect::<Vec<_>>(),
    })
}

fn event_json(event: &RebalanceEvent) -> Value {
    json!({
        "at": event.at.0,
        "generation": event.generation,
        "cause": cause_name(event.cause),
        "member": event.member,
        "seconds": event.duration.map(|took| took.as_secs_f64()),
    })
}

/// As Kafka names them.
fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "Empty",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Stable => "Stable",
        GroupState::Dead => "Dead",
    }
}

fn cause_name(cause: RebalanceCause) -> &'static str {
    match cause {
        RebalanceCause::MemberJoined => "member joined",
        RebalanceCause::MemberRejoined => "member joined again",
        RebalanceCause::MemberLeft => "member left",
        RebalanceCause::SessionExpired => "session expired",
        RebalanceCause::RebalanceTimedOut => "rebalance timed out",
        RebalanceCause::TopicChanged => "topic changed",
    }
}

async fn reset(admin: &Admin, args: &GroupResetArgs, format: Format) -> Result<(), Failure> {
    let group = match admin.describe_group(&args.name).await {
        Ok(group) => Some(group),
        // A group may be given offsets before its first member comes.
        Err(RequestError::Refused(GroupError::NotFound { .. })) => None,
        Err(error) => return Err(error.into()),
    };
    if group.is_some_and(|group| !group.members.is_empty()) {
        return Err(GroupError::NotEmpty { group: args.name.clone() }.into());
    }
    let topic = admin.describe_topic(&args.topic).await?;
    let mut offsets = Vec::new();
    for partition in &topic.partitions {
        let place = match args.to {
            ResetTo::Earliest => Place::Start,
            ResetTo::Latest | ResetTo::Offset(_) => Place::End,
            ResetTo::Time(ms) => Place::Timestamp(TimestampMs(ms)),
        };
        let found = admin.find_offset(&args.topic, partition.index, place).await?;
        let offset = match args.to {
            ResetTo::Offset(offset) => Offset(offset).clamp(found.log_start, found.high_watermark),
            ResetTo::Earliest | ResetTo::Latest | ResetTo::Time(_) => found.offset,
        };
        offsets.push((args.topic.clone(), partition.index, offset));
    }
    if !args.dry_run {
        admin.commit_offsets(&args.name, &offsets).await?;
    }
    let text = || {
        let rows = offsets
            .iter()
            .map(|(topic, partition, offset)| vec![topic.clone(), partition.to_string(), offset.to_string()]);
        let said = if args.dry_run { "nothing is changed; it would be:\n" } else { "" };
        format!("{said}{}", table(&["TOPIC", "PARTITION", "OFFSET"], &rows.collect::<Vec<_>>()))
    };
    let json = || {
        let each = offsets.iter().map(
            |(topic, partition, offset)| json!({"topic": topic, "partition": partition, "offset": offset.0}),
        );
        json!({"group": args.name, "changed": !args.dry_run, "offsets": each.collect::<Vec<_>>()})
    };
    print(format, text, json)
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        match &error {
            GroupError::NotFound { .. } => {
                Self::new(Exit::NotFound, &error).with_hint("see which there are: millstream group list")
            }
            GroupError::UnknownPartition => Self::new(Exit::NotFound, &error),
            GroupError::NotReady
            | GroupError::Loading
            | GroupError::InvalidGroup { .. }
            | GroupError::NotEmpty { .. }
            | GroupError::UnknownMember { .. }
            | GroupError::IllegalGeneration { .. }
            | GroupError::MemberIdRequired { .. }
            | GroupError::RebalanceInProgress
            | GroupError::Fenced { .. }
            | GroupError::InconsistentProtocol { .. }
            | GroupError::SessionTimeout { .. }
            | GroupError::Full { .. }
            | GroupError::TooLarge { .. }
            | GroupError::MetadataTooLarge { .. }
            | GroupError::Subscribed { .. }
            | GroupError::StorageFailed { .. }
            | GroupError::NoSpace
            | GroupError::Overloaded
            | GroupError::ShuttingDown => Self::failed(&error),
        }
    }
}

fn now() -> TimestampMs {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    TimestampMs(now.map_or(0, |now| now.as_millis() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupDescription {
        let member = MemberDescription {
            member: "m-1".to_owned(),
            instance: None,
            client_id: "app".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            metadata: bytes::Bytes::new(),
            assignment: bytes::Bytes::new(),
            owned: vec![("words".to_owned(), vec![0, 2])],
            stuck: vec![("words".to_owned(), 0)],
        };
        let event = RebalanceEvent {
            at: TimestampMs(0),
            generation: 3,
            cause: RebalanceCause::MemberJoined,
            member: "m-1".to_owned(),
            duration: Some(Duration::from_millis(3_040)),
        };
        GroupDescription {
            group: "readers".to_owned(),
            state: GroupState::Stable,
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            generation: 3,
            members: vec![member],
            events: vec![event],
        }
    }

    #[test]
    fn lag_is_told_in_records_and_in_time() {
        let lag = Lag {
            log_start: Offset(0),
            high_watermark: Offset(10),
            timestamp: Some(TimestampMs(1_000)),
            read: None,
        };
        let row = |partition, lag, owner, stuck| Row {
            topic: "words".to_owned(),
            partition,
            committed: Some(Offset(7)),
            lag,
            owner,
            stuck,
        };
        let rows = [row(0, Some(lag), Some(0), true), row(1, None, None, false)];
        let text = offsets_text(&group(), &rows, TimestampMs(3_500));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TOPIC  PARTITION  COMMITTED  END  LAG  BEHIND  MEMBER");
        let expect = "words  0          7          10   3    2.5 s   m-1     stuck: records to read, no commit, no fetch";
        assert_eq!(lines[1], expect);
        assert_eq!(lines[2], "words  1          7          -    -    -       -");
    }

    #[test]
    fn members_and_events_are_listed() {
        assert_eq!(
            members_text(&group()),
            "MEMBER  INSTANCE  HOST        CLIENT  PARTITIONS\nm-1     -         /127.0.0.1  app     words(0,2)\n"
        );
        let expect = "1970-01-01T00:00:00.000Z  3           member joined  3.0 s  m-1";
        assert_eq!(events_text(&group()).lines().nth(1), Some(expect));
    }
}
