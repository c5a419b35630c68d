use proptest::prelude::*;

use super::*;

fn subscriptions(members: &[(&str, &[&str])]) -> Subscriptions {
    let each = |(id, topics): &(&str, &[&str])| {
        (Arc::from(*id), topics.iter().map(|topic| (*topic).to_owned()).collect())
    };
    members.iter().map(each).collect()
}

fn topics(topics: &[(&str, u32)]) -> BTreeMap<String, u32> {
    topics.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn shown(assigned: &Assigned) -> String {
    let of = |(topic, partitions): (&String, &Vec<u32>)| format!("{topic}{partitions:?}");
    let each = |(id, owned): (&Arc<str>, &Owned)| {
        format!("{id}: {}", owned.iter().map(of).collect::<Vec<_>>().join(" "))
    };
    assigned.iter().map(each).collect::<Vec<_>>().join("; ")
}

#[test]
fn range_gives_runs_in_the_order_of_ids() {
    let members = subscriptions(&[("a", &["t"]), ("b", &["t", "u"])]);
    let assigned = assign(Assignor::Range, &members, &topics(&[("t", 3), ("u", 2)]), &Assigned::new());
    assert_eq!(shown(&assigned), "a: t[0, 1]; b: t[2] u[0, 1]");
}

#[test]
fn more_members_than_partitions_leaves_some_idle() {
    let members = subscriptions(&[("a", &["t"]), ("b", &["t"]), ("c", &["t"]), ("d", &["t"])]);
    for assignor in [Assignor::Range, Assignor::Sticky] {
        let assigned = assign(assignor, &members, &topics(&[("t", 3)]), &Assigned::new());
        assert_eq!(shown(&assigned), "a: t[0]; b: t[1]; c: t[2]; d: ");
    }
}

#[test]
fn sticky_moves_only_what_it_must() {
    let three = topics(&[("t", 6)]);
    let two = subscriptions(&[("a", &["t"]), ("b", &["t"])]);
    let first = assign(Assignor::Sticky, &two, &three, &Assigned::new());
    assert_eq!(shown(&first), "a: t[0, 2, 4]; b: t[1, 3, 5]");
    let with_c = subscriptions(&[("a", &["t"]), ("b", &["t"]), ("c", &["t"])]);
    let second = assign(Assignor::Sticky, &with_c, &three, &first);
    assert_eq!(shown(&second), "a: t[0, 2]; b: t[1, 3]; c: t[4, 5]");
    let without_a = subscriptions(&[("b", &["t"]), ("c", &["t"])]);
    let third = assign(Assignor::Sticky, &without_a, &three, &second);
    assert_eq!(shown(&third), "b: t[0, 1, 3]; c: t[2, 4, 5]");
}

#[test]
fn a_topic_that_is_not_there_has_nothing_to_give() {
    let members = subscriptions(&[("a", &["t"])]);
    for assignor in [Assignor::Range, Assignor::Sticky] {
        assert_eq!(shown(&assign(assignor, &members, &topics(&[("t", 0)]), &Assigned::new())), "a: ");
    }
}

fn owners(assigned: &Assigned) -> BTreeMap<(String, u32), Arc<str>> {
    let mut owners = BTreeMap::new();
    for (id, owned) in assigned {
        for (topic, partitions) in owned {
            for partition in partitions {
                let twice = owners.insert((topic.clone(), *partition), Arc::clone(id));
                assert_eq!(twice, None, "{topic}-{partition} has two owners");
            }
        }
    }
    owners
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_partition_has_one_owner_that_subscribes(
        counts in proptest::collection::vec(0u32..8, 1..4),
        wants in proptest::collection::vec(1usize..8, 1..7),
        before in proptest::collection::vec(0usize..7, 0..32),
        sticky: bool,
    ) {
        let partitions: BTreeMap<String, u32> =
            counts.iter().enumerate().map(|(i, count)| (format!("t{i}"), *count)).collect();
        let subscriptions: Subscriptions = wants.iter().enumerate().map(|(i, bits)| {
            let wanted = (0..counts.len()).filter(|t| bits >> t & 1 == 1).map(|t| format!("t{t}"));
            (Arc::from(format!("m{i}")), wanted.collect())
        }).collect();
        let mut owned = Assigned::new();
        let all = partitions.iter().flat_map(|(topic, count)| (0..*count).map(move |p| (topic, p)));
        for ((topic, partition), owner) in all.zip(before) {
            let of = owned.entry(Arc::from(format!("m{owner}"))).or_default();
            of.entry(topic.clone()).or_default().push(partition);
        }
        let assignor = if sticky { Assignor::Sticky } else { Assignor::Range };
        let assigned = assign(assignor, &subscriptions, &partitions, &owned);
        prop_assert_eq!(assigned.len(), subscriptions.len());
        let owners = owners(&assigned);
        for (topic, count) in &partitions {
            let has_subscriber = subscriptions.values().any(|topics| topics.contains(topic));
            for partition in 0..*count {
                let owner = owners.get(&(topic.clone(), partition));
                prop_assert_eq!(owner.is_some(), has_subscriber);
                prop_assert!(owner.is_none_or(|id| subscriptions[id].contains(topic)));
            }
        }
    }

    #[test]
    fn sticky_is_within_one_and_moves_as_little_as_can_be(
        count in 0u32..24,
        members in 1usize..7,
        before in proptest::collection::vec(0usize..8, 24),
    ) {
        let partitions = topics(&[("t", count)]);
        let subscriptions: Subscriptions =
            (0..members).map(|i| (Arc::from(format!("m{i}")), vec!["t".to_owned()])).collect();
        let mut owned = Assigned::new();
        for (partition, owner) in (0..count).zip(before) {
            let of = owned.entry(Arc::from(format!("m{owner}"))).or_default();
            of.entry("t".to_owned()).or_default().push(partition);
        }
        let assigned = assign(Assignor::Sticky, &subscriptions, &partitions, &owned);
        let loads: Vec<usize> = assigned.values().map(|owned| owned.values().map(Vec::len).sum()).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        // Nobody can keep more than the larger share, and only so many can have that.
        let kept: Vec<usize> = subscriptions
            .keys()
            .map(|id| owned.get(id).map_or(0, |owned| owned.values().map(Vec::len).sum()))
            .collect();
        let (floor, larger) = (count as usize / members, count as usize % members);
        let over = kept.iter().filter(|kept| **kept > floor).count();
        let most_kept = kept.iter().map(|kept| (*kept).min(floor)).sum::<usize>() + over.min(larger);
        let (was, is) = (owners(&owned), owners(&assigned));
        let stayed = is.iter().filter(|(partition, id)| was.get(*partition) == Some(*id)).count();
        prop_assert_eq!(stayed, most_kept);
    }
}
