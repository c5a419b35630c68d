//! Consumer groups on the page of `/metrics`. A group is coordinated by one core, so nothing is summed over cores.
//!
//! Each core tells a thousand groups at most: the page's size is bounded, however many groups there are.

use std::time::Duration;

use engine_api::GroupState;
use engine_shard::GroupFigures;

use crate::exposition::Page;

pub(crate) fn groups(page: &mut Page, cores: &[&GroupFigures]) {
    let sum = |of: fn(&GroupFigures) -> u64| cores.iter().map(|figures| of(figures)).sum::<u64>();
    page.gauge("millstream_groups", "Consumer groups.").sample(&[], sum(|of| of.groups_count));
    page.gauge("millstream_group_members", "Members of consumer groups.").sample(&[], sum(|of| of.members));
    page.counter("millstream_group_commits_total", "Commits of offsets taken.")
        .sample(&[], sum(|of| of.commits));
    page.gauge("millstream_group_state", "1 for the state a group is in.");
    for (group, state) in cores.iter().flat_map(|figures| &figures.states) {
        page.sample(&[("group", group), ("state", state_name(*state))], 1);
    }
    page.gauge(
        "millstream_group_lag_records",
        "Records behind what a group has committed, as last measured.",
    );
    for lag in cores.iter().flat_map(|figures| &figures.lags) {
        page.sample(&[("group", &lag.group), ("topic", &lag.topic)], lag.records);
    }
    page.gauge("millstream_group_lag_seconds", "Age of the oldest record that a group has not committed.");
    for lag in cores.iter().flat_map(|figures| &figures.lags) {
        let seconds = round_to_ms(lag.age_max);
        page.sample_float(&[("group", &lag.group), ("topic", &lag.topic)], seconds);
    }
    page.counter("millstream_group_rebalances_total", "Rebalances that have ended, by cause.");
    for (group, reason, count) in cores.iter().flat_map(|figures| &figures.rebalances) {
        page.sample(&[("group", group), ("reason", reason)], *count);
    }
    page.gauge(
        "millstream_group_stuck_members",
        "Owned partitions with records whose member does not move on.",
    );
    for (group, count) in cores.iter().flat_map(|figures| &figures.stuck) {
        page.sample(&[("group", group)], *count);
    }
}

fn round_to_ms(age: Duration) -> f64 {
    age.as_millis() as f64 / 1000.0
}

fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "empty",
        GroupState::PreparingRebalance => "preparing_rebalance",
        GroupState::CompletingRebalance => "completing_rebalance",
        GroupState::Stable => "stable",
        GroupState::Dead => "dead",
    }
}

#[cfg(test)]
mod tests {
    use engine_shard::GroupLag;

    use super::*;

    #[test]
    fn every_group_is_told_with_its_state_lag_and_rebalances() {
        let figures = GroupFigures {
            groups_count: 2,
            states: vec![("orders".into(), GroupState::Stable), ("idle".into(), GroupState::Empty)],
            members: 3,
            stuck: vec![("orders".into(), 1)],
            rebalances: vec![("orders".into(), "member_joined".into(), 4)],
            lags: vec![GroupLag {
                group: "orders".into(),
                topic: "chat".into(),
                records: 7,
                age_max: Duration::from_millis(1500),
            }],
            commits: 9,
        };
        let mut page = Page::default();
        groups(&mut page, &[&figures, &GroupFigures::default()]);
        let text = page.into_text();
        for line in [
            "millstream_groups 2",
            "millstream_group_members 3",
            "millstream_group_commits_total 9",
            "millstream_group_state{group=\"orders\",state=\"stable\"} 1",
            "millstream_group_state{group=\"idle\",state=\"empty\"} 1",
            "millstream_group_lag_records{group=\"orders\",topic=\"chat\"} 7",
            "millstream_group_lag_seconds{group=\"orders\",topic=\"chat\"} 1.5",
            "millstream_group_rebalances_total{group=\"orders\",reason=\"member_joined\"} 4",
            "millstream_group_stuck_members{group=\"orders\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
