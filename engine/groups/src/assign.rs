//! Which native member has which partitions. The same words give the same answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::Assignor;

use crate::member::Owned;

pub(crate) type Subscriptions = BTreeMap<Arc<str>, Vec<String>>;
type Assigned = BTreeMap<Arc<str>, Owned>;

/// Every partition of a topic that somebody subscribes to goes to exactly one of its subscribers. Every member is
/// in the answer.
pub(crate) fn assign(
    assignor: Assignor,
    subscriptions: &Subscriptions,
    partitions: &BTreeMap<String, u32>,
    owned: &Assigned,
) -> Assigned {
    let mut assigned = match assignor {
        Assignor::Range => range(subscriptions, partitions),
        Assignor::Sticky => Sticky::new(subscriptions, partitions).assign(owned),
    };
    for (_, partitions) in assigned.values_mut().flatten() {
        partitions.sort_unstable();
    }
    assigned
}

fn range(subscriptions: &Subscriptions, partitions: &BTreeMap<String, u32>) -> Assigned {
    let mut assigned: Assigned = subscriptions.keys().map(|id| (Arc::clone(id), Owned::new())).collect();
    for (topic, count) in partitions {
        let subscribers: Vec<&Arc<str>> =
            subscriptions.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
        let Some(each) = count.checked_div(subscribers.len() as u32) else { continue };
        let more = *count as usize % subscribers.len();
        let mut next = 0;
        for (index, id) in subscribers.into_iter().enumerate() {
            let take = each + u32::from(index < more);
            if take > 0 {
                let owned = assigned.get_mut(id).expect("every member is there");
                owned.insert(topic.clone(), (next..next + take).collect());
            }
            next += take;
        }
    }
    assigned
}

/// Whoever has a partition keeps it; what nobody has goes to whoever has least; then partitions move from
/// whoever has most to whoever has least of those that may have it, while they differ by two or more. Where all
/// subscribe to the same topics that ends within 1 with as few moves as can be; where they do not, no single move
/// makes it better.
struct Sticky<'a> {
    subscriptions: &'a Subscriptions,
    partitions: &'a BTreeMap<String, u32>,
    assigned: Assigned,
    counts: BTreeMap<Arc<str>, usize>,
}

impl<'a> Sticky<'a> {
    fn new(subscriptions: &'a Subscriptions, partitions: &'a BTreeMap<String, u32>) -> Self {
        Self {
            subscriptions,
            partitions,
            assigned: subscriptions.keys().map(|id| (Arc::clone(id), Owned::new())).collect(),
            counts: subscriptions.keys().map(|id| (Arc::clone(id), 0)).collect(),
        }
    }

    fn assign(mut self, owned: &Assigned) -> Assigned {
        let free = self.keep(owned);
        for (topic, partition) in free {
            if let Some(least) = self.least(&topic) {
                self.give(&least, &topic, partition);
            }
        }
        while self.move_some() {}
        self.assigned
    }

    /// What has no owner any more.
    fn keep(&mut self, owned: &Assigned) -> Vec<(String, u32)> {
        let mut owners: BTreeMap<(&str, u32), &Arc<str>> = BTreeMap::new();
        for (id, owned) in owned {
            let Some(topics) = self.subscriptions.get(id) else { continue };
            for (topic, partitions) in owned.iter().filter(|(topic, _)| topics.contains(topic)) {
                for partition in partitions {
                    owners.entry((topic, *partition)).or_insert(id);
                }
            }
        }
        let mut free = Vec::new();
        for (topic, count) in self.partitions {
            for partition in 0..*count {
                match owners.get(&(topic.as_str(), partition)) {
                    Some(id) => self.give(&Arc::clone(id), topic, partition),
                    None => free.push((topic.clone(), partition)),
                }
            }
        }
        free
    }

    fn give(&mut self, id: &Arc<str>, topic: &str, partition: u32) {
        let owned = self.assigned.get_mut(id).expect("every member is there");
        owned.entry(topic.to_owned()).or_default().push(partition);
        *self.counts.get_mut(id).expect("every member is there") += 1;
    }

    fn least(&self, topic: &str) -> Option<Arc<str>> {
        let subscribers =
            self.counts.iter().filter(|(id, _)| self.subscriptions[*id].iter().any(|name| name == topic));
        subscribers.min_by_key(|(id, count)| (**count, Arc::clone(id))).map(|(id, _)| Arc::clone(id))
    }

    /// Each move makes the sum of the counts' squares smaller, so there is a last one.
    fn move_some(&mut self) -> bool {
        let mut by_count: Vec<(usize, Arc<str>)> =
            self.counts.iter().map(|(id, count)| (*count, Arc::clone(id))).collect();
        by_count.sort();
        for (most, from) in by_count.iter().rev() {
            let topics: Vec<String> = self.assigned[from].keys().cloned().collect();
            let best = topics.into_iter().filter_map(|topic| {
                let to = self.least(&topic)?;
                Some((self.counts[&to], to, topic))
            });
            let Some((least, to, topic)) = best.min() else { continue };
            if least + 2 > *most {
                continue;
            }
            // As many as neither has to give back: one by one, a thousand members would take a second.
            let all: usize = self.counts.values().sum();
            let members_count = self.counts.len();
            let too_many = most.saturating_sub(all.div_ceil(members_count));
            let too_few = (all / members_count).saturating_sub(least);
            let take = too_many.min(too_few).clamp(1, (most - least) / 2);
            let owned = self.assigned.get_mut(from).expect("every member is there");
            let of_topic = owned.get_mut(&topic).expect("it was listed");
            let moved = of_topic.split_off(of_topic.len().saturating_sub(take));
            if of_topic.is_empty() {
                owned.remove(&topic);
            }
            *self.counts.get_mut(from).expect("every member is there") -= moved.len();
            for partition in moved {
                self.give(&to, &topic, partition);
            }
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
