//! What `kafka-consumer-groups` prints, column by column: scripts cut it by place.

use std::fmt::Write;

use crate::kafka::fault::Fault;
use crate::kafka::groups::{Described, Listed, Row};
use crate::kafka::offsets::Place;

/// Columns that grow with what is in them begin with this.
const WIDTH_MIN: usize = 15;

fn width<'a>(head: &str, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(str::len).chain([head.len(), WIDTH_MIN]).max().unwrap_or(WIDTH_MIN)
}

/// States are asked for in any case.
pub(super) fn state_name(state: &str) -> String {
    const KNOWN: [&str; 5] = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"];
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(state));
    known.map_or_else(|| state.to_owned(), |known| (*known).to_owned())
}

fn type_name(listed: &Listed) -> &'static str {
    if listed.protocol_type == "millstream" { "Native" } else { "Classic" }
}

pub(super) fn list(groups: &[Listed], states: bool, types: bool) -> String {
    let mut text = String::new();
    if !states && !types {
        groups.iter().for_each(|listed| _ = writeln!(text, "{}", listed.group));
        return text;
    }
    let wide = width("GROUP", groups.iter().map(|listed| listed.group.as_str())).max(25);
    let mut line = |group: &str, kind: &str, state: &str| {
        let mut cells = format!("{group:<wide$}");
        if types {
            let _ = write!(cells, " {kind:<20}");
        }
        if states {
            let _ = write!(cells, " {state:<20}");
        }
        let _ = writeln!(text, "{cells}");
    };
    line("GROUP", "TYPE", "STATE");
    groups.iter().for_each(|listed| line(&listed.group, type_name(listed), &listed.state));
    text
}

/// What is said on stderr before a group is described.
pub(super) fn warning(group: &Described) -> Option<String> {
    match group.state.as_str() {
        "Empty" => Some(format!("Consumer group '{}' has no active members.", group.group)),
        "PreparingRebalance" | "CompletingRebalance" => {
            Some(format!("Warning: Consumer group '{}' is rebalancing.", group.group))
        }
        _ => None,
    }
}

pub(super) fn offsets(group: &Described, rows: &[Row]) -> String {
    let idle = || group.members.iter().filter(|member| member.assigned.is_empty());
    if rows.is_empty() && idle().next().is_none() {
        return String::new();
    }
    let member = |row: &Row| row.owner.map(|index| &group.members[index]);
    let groups = width("GROUP", [group.group.as_str()].into_iter());
    let topics = width("TOPIC", rows.iter().map(|row| row.place.0.as_str()));
    let members = width("CONSUMER-ID", group.members.iter().map(|member| member.member.as_str()));
    let hosts = width("HOST", group.members.iter().map(|member| member.host.as_str()));
    let mut text = String::new();
    let mut line = |cells: [&str; 9]| {
        let [group, topic, partition, current, end, lag, consumer, host, client] = cells;
        let _ = write!(
            text,
            "\n{group:<groups$} {topic:<topics$} {partition:<10} {current:<15} {end:<15} {lag:<15} \
             {consumer:<members$} {host:<hosts$} {client}"
        );
    };
    line([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let mut print = |row: &Row| {
        let owner = member(row);
        line([
            &group.group,
            &row.place.0,
            &row.place.1.to_string(),
            &number(row.committed),
            &number(row.end),
            &number(row.lag()),
            owner.map_or("-", |member| &member.member),
            owner.map_or("-", |member| &member.host),
            owner.map_or("-", |member| &member.client_id),
        ]);
    };
    rows.iter().filter(|row| row.owner.is_some()).for_each(&mut print);
    rows.iter().filter(|row| row.owner.is_none()).for_each(&mut print);
    // Members that have nothing to do come last.
    for member in idle() {
        line([&group.group, "-", "-", "-", "-", "-", &member.member, &member.host, &member.client_id]);
    }
    text.push('\n');
    text
}

pub(super) fn members(group: &Described, verbose: bool) -> String {
    if group.members.is_empty() {
        return String::new();
    }
    let all = || group.members.iter();
    let groups = width("GROUP", [group.group.as_str()].into_iter());
    let ids = width("CONSUMER-ID", all().map(|member| member.member.as_str()));
    let has_instances = all().any(|member| member.instance.is_some());
    let instances = width("GROUP-INSTANCE-ID", all().filter_map(|member| member.instance.as_deref()));
    let hosts = width("HOST", all().map(|member| member.host.as_str()));
    let clients = width("CLIENT-ID", all().map(|member| member.client_id.as_str()));
    let mut text = String::new();
    let mut line = |cells: [&str; 7]| {
        let [group, id, instance, host, client, count, assignment] = cells;
        let _ = write!(text, "\n{group:<groups$} {id:<ids$} ");
        if has_instances {
            let _ = write!(text, "{instance:<instances$} ");
        }
        let _ = write!(text, "{host:<hosts$} {client:<clients$} {count:<15} ");
        if verbose {
            text.push_str(assignment);
        }
    };
    line(["GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS", "ASSIGNMENT"]);
    for member in all() {
        let topics = member.assigned.iter().map(|(topic, partitions)| {
            let mut partitions = partitions.clone();
            partitions.sort_unstable();
            let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            format!("{topic}({})", partitions.join(","))
        });
        let assignment = topics.collect::<Vec<_>>().join(", ");
        line([
            &group.group,
            &member.member,
            member.instance.as_deref().unwrap_or_default(),
            &member.host,
            &member.client_id,
            &member.partitions_count().to_string(),
            if assignment.is_empty() { "-" } else { &assignment },
        ]);
    }
    text.push('\n');
    text
}

pub(super) fn state(group: &Described) -> String {
    let coordinator = format!("{}  ({})", group.coordinator.0, group.coordinator.1);
    let wide = coordinator.len().max(25);
    let mut text = String::new();
    let mut line = |cells: [&str; 5]| {
        let [group, coordinator, strategy, state, members] = cells;
        let _ = write!(text, "\n{group:<wide$} {coordinator:<25} {strategy:<20} {state:<15} {members}");
    };
    line(["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"]);
    line([&group.group, &coordinator, &group.protocol, &group.state, &group.members.len().to_string()]);
    text.push('\n');
    text
}

pub(super) fn reset(all: &[(String, Place, i64)]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n");
    let mut line = |group: &str, topic: &str, partition: &str, offset: &str| {
        let _ = writeln!(text, "{group:<30} {topic:<30} {partition:<10} {offset:<15}");
    };
    line("GROUP", "TOPIC", "PARTITION", "NEW-OFFSET");
    for (group, (topic, partition), offset) in all {
        line(group, topic, &partition.to_string(), &offset.to_string());
    }
    text
}

pub(super) fn csv(all: &[(String, Place, i64)], groups: bool) -> String {
    let mut text = String::new();
    for (group, (topic, partition), offset) in all {
        let _ = if groups {
            writeln!(text, "\"{group}\",\"{topic}\",{partition},{offset}")
        } else {
            writeln!(text, "\"{topic}\",{partition},{offset}")
        };
    }
    text
}

pub(super) fn deleted_offsets(group: &str, topics: &[String], each: &[(Place, Result<(), Fault>)]) -> String {
    let failed = each.iter().any(|(_, result)| result.is_err());
    let topics = topics.join(",");
    let mut text = if failed {
        "\nError: Encountered some partition-level error, see the follow-up details:\n".to_owned()
    } else {
        format!("Request succeed for deleting offsets with topic {topics} group {group}\n")
    };
    text.push('\n');
    let mut line = |topic: &str, partition: &str, status: &str| {
        let _ = writeln!(text, "{topic:<30} {partition:<15} {status:<15}");
    };
    line("TOPIC", "PARTITION", "STATUS");
    for ((topic, partition), result) in each {
        let status = match result {
            Ok(()) => "Successful".to_owned(),
            Err(fault) => format!("Error: {fault}"),
        };
        line(topic, &partition.to_string(), &status);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::kafka::groups::Member;

    use super::*;

    fn group() -> Described {
        let member = Member {
            member: "rdkafka-7f3a".to_owned(),
            instance: None,
            client_id: "rdkafka".to_owned(),
            host: "/127.0.0.1".to_owned(),
            assigned: BTreeMap::from([("chat".to_owned(), vec![1, 0])]),
        };
        Described {
            group: "readers".to_owned(),
            state: "Stable".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            coordinator: ("localhost:9092".to_owned(), 1),
            members: vec![member],
        }
    }

    #[test]
    fn offsets_stand_where_kafka_puts_them() {
        let row = |partition, committed, owner| Row {
            place: ("chat".to_owned(), partition),
            committed,
            end: Some(10),
            owner,
        };
        let text = offsets(&group(), &[row(0, Some(7), Some(0)), row(1, None, None)]);
        let expect = "
GROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID
readers         chat            0          7               10              3               rdkafka-7f3a    /127.0.0.1      rdkafka
readers         chat            1          -               10              -               -               -               -
";
        assert_eq!(text, expect);
        assert_eq!(offsets(&group(), &[]), "");
        let mut idle = group();
        idle.members[0].assigned.clear();
        let line = "readers         -               -          -               -               -               rdkafka-7f3a    /127.0.0.1      rdkafka";
        assert_eq!(offsets(&idle, &[]).lines().nth(2), Some(line));
    }

    #[test]
    fn members_and_state_stand_where_kafka_puts_them() {
        let expect = "
GROUP           CONSUMER-ID     HOST            CLIENT-ID       #PARTITIONS     ASSIGNMENT
readers         rdkafka-7f3a    /127.0.0.1      rdkafka         2               chat(0,1)
";
        assert_eq!(members(&group(), true), expect);
        let expect = "
GROUP                     COORDINATOR (ID)          ASSIGNMENT-STRATEGY  STATE           #MEMBERS
readers                   localhost:9092  (1)       range                Stable          1
";
        assert_eq!(state(&group()), expect);
    }

    #[test]
    fn new_offsets_are_printed_or_exported() {
        let all = [("readers".to_owned(), ("chat".to_owned(), 0), 5)];
        let expect = format!(
            "\n{:<30} {:<30} {:<10} {:<15}\n{:<30} {:<30} {:<10} {:<15}\n",
            "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET", "readers", "chat", "0", "5"
        );
        assert_eq!(reset(&all), expect);
        assert_eq!(csv(&all, false), "\"chat\",0,5\n");
        assert_eq!(csv(&all, true), "\"readers\",\"chat\",0,5\n");
    }

    #[test]
    fn groups_are_listed_bare_or_with_their_states() {
        let listed = Listed {
            group: "readers".to_owned(),
            protocol_type: "consumer".to_owned(),
            state: "Empty".to_owned(),
        };
        assert_eq!(list(std::slice::from_ref(&listed), false, false), "readers\n");
        let lines: Vec<String> = list(&[listed], true, false).lines().map(str::to_owned).collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["GROUP", "STATE"]);
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["readers", "Empty"]);
    }
}
