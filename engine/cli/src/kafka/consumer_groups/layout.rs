//! What `kafka-consumer-groups` prints, column by column: scripts cut it by place.

use std::fmt::Write;

use crate::kafka::fault::Fault;
use crate::kafka::groups::{Described, Each, Listed, Row};
use crate::kafka::offsets::Place;

/// Columns that grow with what is in them begin with this.
const WIDTH_MIN: usize = 15;

fn width<'a>(head: &str, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(str::len).chain([head.len(), WIDTH_MIN]).max().unwrap_or(WIDTH_MIN)
}

/// States are asked for in any case.
pub(super) fn states(asked: &str) -> Result<Vec<String>, Fault> {
    const KNOWN: [&str; 7] =
        ["PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling"];
    chosen(asked, &KNOWN).ok_or_else(|| {
        let known = KNOWN.join(", ");
        Fault::Usage(format!("Invalid state list '{asked}'. Valid states are: {known}"))
    })
}

/// Types, too; one of them is ours alone.
pub(super) fn types(asked: &str) -> Result<Vec<String>, Fault> {
    const KNOWN: [&str; 3] = ["Consumer", "Classic", "Native"];
    chosen(asked, &KNOWN).ok_or_else(|| {
        let known = KNOWN.join(", ");
        Fault::Usage(format!("Invalid types list '{asked}'. Valid types are: {known}"))
    })
}

/// `None`: one of them is not known.
fn chosen(asked: &str, known: &[&str]) -> Option<Vec<String>> {
    let find = |word: &str| known.iter().find(|known| known.eq_ignore_ascii_case(word));
    let words = asked.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| find(word).map(|known| (*known).to_owned())).collect()
}

pub(super) fn type_name(listed: &Listed) -> &'static str {
    if listed.protocol_type == "millstream" { "Native" } else { "Classic" }
}

pub(super) fn list(groups: &[Listed], states: bool, types: bool) -> String {
    let mut text = String::new();
    if !states && !types {
        groups.iter().for_each(|listed| _ = writeln!(text, "{}", listed.group));
        return text;
    }
    let wide = width("GROUP", groups.iter().map(|listed| listed.group.as_str())) + 10;
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
    if rows.is_empty() {
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
    // Whoever has most comes first, partitions that nobody has come last; who has none is not shown.
    let mut owners: Vec<usize> = (0..group.members.len()).collect();
    owners.sort_by_key(|index| std::cmp::Reverse(group.members[*index].partitions_count()));
    for owner in owners.into_iter().map(Some).chain([None]) {
        rows.iter().filter(|row| row.owner == owner).for_each(&mut print);
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

/// The head is there for groups of which nothing is reset, too.
pub(super) fn reset(all: &[(String, Place, i64)]) -> String {
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

/// What came of it as a whole, then partition by partition.
pub(super) fn deleted_offsets(group: &str, topics: &[String], outcome: &Result<Each, Fault>) -> String {
    let topics = topics.join(", ");
    let nothing = Each::new();
    let (mut text, each) = match outcome {
        Ok(each) if each.iter().all(|(_, result)| result.is_ok()) => {
            (format!("Request succeed for deleting offsets with topic {topics} group {group}\n"), each)
        }
        Ok(each) => {
            ("\nError: Encounter some partition level error, see the follow-up details:\n".to_owned(), each)
        }
        Err(fault) => (format!("\nError: {}\n", group_words(group, fault)), &nothing),
    };
    text.push('\n');
    let mut line = |topic: &str, partition: &str, status: &str| {
        let _ = writeln!(text, "{topic:<30} {partition:<15} {status:<15}");
    };
    line("TOPIC", "PARTITION", "STATUS");
    for ((topic, partition), result) in each {
        let status = match result {
            Ok(()) => "Successful".to_owned(),
            Err(fault) => format!("Error: :org.apache.kafka.common.errors.{}: {fault}", fault.exception()),
        };
        line(topic, &partition.to_string(), &status);
    }
    text
}

fn group_words(group: &str, fault: &Fault) -> String {
    match fault {
        Fault::Refused { code: 24, .. } => format!("'{group}' is not valid."),
        Fault::Refused { code: 69, .. } => format!("'{group}' does not exist."),
        Fault::Refused { code: 68, .. } => {
            format!("Deleting offsets of a consumer group '{group}' is forbidden if the group is not empty.")
        }
        Fault::Refused { .. }
        | Fault::Usage(_)
        | Fault::Connection(_)
        | Fault::Other(_)
        | Fault::ReaderLeft => format!("Encounter some unknown error: {fault}"),
    }
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
        // Who has most comes first.
        let mut two = group();
        two.members.insert(
            0,
            Member { member: "a-0".to_owned(), assigned: BTreeMap::new(), ..two.members[0].clone() },
        );
        two.members[0].assigned.insert("b".to_owned(), vec![0]);
        let rows = [row(0, Some(7), Some(1)), row(2, Some(1), Some(0))];
        let order: Vec<String> = offsets(&two, &rows)
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().nth(6).unwrap_or_default().to_owned())
            .collect();
        assert_eq!(order, ["rdkafka-7f3a", "a-0"]);
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
        let head = format!("\n{:<30} {:<30} {:<10} {:<15}\n", "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET");
        assert_eq!(reset(&[]), head);
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
        let expect = "
GROUP                     TYPE                 STATE               \nreaders                   Classic              Empty               
";
        assert_eq!(list(&[listed], true, true), expect.trim_start());
    }

    #[test]
    fn states_and_types_are_known_in_any_case_and_others_are_refused() {
        assert_eq!(states("stable, EMPTY").unwrap(), ["Stable", "Empty"]);
        assert_eq!(states("").unwrap(), Vec::<String>::new());
        let refused = states("stable,odd").unwrap_err().to_string();
        assert!(refused.starts_with("Invalid state list 'stable,odd'. Valid states are: "), "{refused}");
        assert_eq!(types("classic").unwrap(), ["Classic"]);
        assert!(types("odd").is_err());
    }

    #[test]
    fn deleted_offsets_are_told_as_a_whole_and_one_by_one() {
        let place = |partition| ("chat".to_owned(), partition);
        let line = |topic: &str, partition: &str, status: &str| {
            format!("{topic:<30} {partition:<15} {status:<15}\n")
        };
        let head = line("TOPIC", "PARTITION", "STATUS");
        let topics = ["chat".to_owned()];
        let good = deleted_offsets("g", &topics, &Ok(vec![(place(0), Ok(()))]));
        let said = "Request succeed for deleting offsets with topic chat group g\n\n";
        assert_eq!(good, format!("{said}{head}{}", line("chat", "0", "Successful")));
        let bad = deleted_offsets("g", &topics, &Ok(vec![(place(1), Err(Fault::refused(86, None)))]));
        assert!(bad.starts_with(
            "\nError: Encounter some partition level error, see the follow-up details:\n\nTOPIC"
        ));
        assert!(
            bad.contains("Error: :org.apache.kafka.common.errors.GroupSubscribedToTopicException"),
            "{bad}"
        );
        let not_empty = deleted_offsets("g", &topics, &Err(Fault::refused(68, None)));
        let said =
            "\nError: Deleting offsets of a consumer group 'g' is forbidden if the group is not empty.\n";
        assert_eq!(not_empty, format!("{said}\n{head}"));
    }
}
