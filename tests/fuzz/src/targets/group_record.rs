//! Records of the offsets topic (`engine/groups`): whatever is taken in is served without a panic, and stored again
//! it is taken in again.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{CoreId, GroupAsk, GroupRequest, Leaving, ReplySlot};
use engine_groups::{Effect, Groups, GroupsConfig, StoredRecord, Topics, record};
use storage_frame::{Now, TimestampMs};

use crate::script::Script;

struct Every;

impl Topics for Every {
    fn partitions(&self, topic: &str) -> Option<u32> {
        (!topic.starts_with('x')).then_some(3)
    }
}

/// Pieces: a key and a value each, an empty value read as a tombstone.
pub fn group_record(data: &[u8]) {
    let mut script = Script::new(data);
    let mut now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000) };
    let mut groups = Groups::new(GroupsConfig::default(), now);
    let mut good = 0;
    while !script.is_over() {
        let key = Bytes::copy_from_slice(script.piece());
        let value = Some(Bytes::copy_from_slice(script.piece())).filter(|value| !value.is_empty());
        let record = StoredRecord { key, value };
        good += u64::from(record::check(&record).is_ok());
        groups.restore(record);
    }
    groups.loaded(now);
    let names: Vec<String> = groups.list().into_iter().map(|group| group.group).collect();
    assert!(names.len() as u64 <= good, "a group out of nothing");
    for name in names {
        for ask in asks() {
            let request = GroupRequest { group: name.clone(), ask };
            groups.handle(now, ReplySlot { core: CoreId(0), key: 1 }, request, &Every);
            settle(&mut groups, now);
        }
    }
    // Past every session, and past what offsets are kept for.
    for _ in 0..3 {
        now.mono += Duration::from_secs(3600);
        now.wall.0 += 30 * 24 * 3600 * 1000;
        groups.tick(now, &Every);
        settle(&mut groups, now);
    }
}

fn asks() -> [GroupAsk; 4] {
    let leaving = Leaving { member: String::new(), instance: Some("i".into()), reason: None };
    [
        GroupAsk::Describe,
        GroupAsk::FetchOffsets(None),
        GroupAsk::Leave(vec![leaving]),
        GroupAsk::DeleteOffsets(vec![("orders".into(), vec![0])]),
    ]
}

fn settle(groups: &mut Groups, now: Now) {
    while let Some(effect) = groups.poll() {
        if let Effect::Store { ticket, records } = effect {
            for record in records {
                record::check(&record).expect("what is stored can be read");
            }
            groups.stored(now, ticket);
        }
    }
}
