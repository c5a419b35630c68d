//! A life of an administrator.

use std::convert::Infallible;
use std::time::Duration;

use engine_api::{AlterTopic, CreateTopic, Place, TopicError};
use millstream_client::{Admin, PartitionError, RequestError};
use storage_frame::{Offset, TimestampMs};

use super::note::{AdminAnswer, AdminAsk, Named, SdkNote};
use super::producing::end;
use super::{Cast, Life};

const ASKS_MAX: u64 = 30;
/// Topics of one client's own, made and deleted again and again.
const OWN_TOPICS: u64 = 3;

impl Cast<'_> {
    pub(super) async fn administer(&mut self, life: Life) {
        let admin = life.client.admin();
        for _ in 0..self.dice.within(1..=ASKS_MAX) {
            if self.is_late() {
                break;
            }
            self.move_sometimes(&life);
            let what = self.what_to_ask(&admin).await;
            if let Some(what) = what {
                let ask = self.journal.number();
                self.note(SdkNote::AdminAsked { ask, what: what.clone() });
                let answer = carry_out(&admin, what).await;
                self.note(SdkNote::AdminAnswered { ask, answer });
            }
            self.pause(Duration::from_millis(400)).await;
        }
        end(life.client, &mut self.dice).await;
    }

    async fn what_to_ask(&mut self, admin: &Admin) -> Option<AdminAsk> {
        let own = format!("own-{}-{}", self.id.0, self.dice.below(OWN_TOPICS));
        let action = self.dice.below(10);
        if action < 4 && !self.plan.changes_topics {
            return Some(AdminAsk::List);
        }
        Some(match action {
            0 | 1 => AdminAsk::Create(CreateTopic {
                name: own,
                partitions: Some(self.dice.within(1..=4) as u32),
                replicas: None,
                configs: Vec::new(),
            }),
            2 => AdminAsk::Alter(AlterTopic {
                name: own,
                partitions: Some(self.dice.within(1..=6) as u32),
                configs: vec![(
                    "retention.ms".to_owned(),
                    Some((60_000 * self.dice.within(1..=9)).to_string()),
                )],
                based_on: None,
            }),
            3 => AdminAsk::Delete(self.named(admin, own).await),
            4 => AdminAsk::List,
            5 => AdminAsk::Cluster,
            6 => AdminAsk::Describe { name: self.topic().unwrap_or(own) },
            7 if self.plan.deletes_records => {
                let name = self.topic()?;
                let topic = self.named(admin, name).await;
                let described = admin.describe_topic(&topic.name).await.ok()?;
                let partition = self.dice.below(described.partitions.len() as u64) as u32;
                let found = admin.find_offset(&topic.name, partition, Place::End).await.ok()?;
                let span = found.high_watermark.0.saturating_sub(found.log_start.0);
                // Mostly a part of what is there; past the end is refused.
                let before = Offset(found.log_start.0 + self.dice.below(span / 2 + 2));
                AdminAsk::DeleteRecords { topic, partition, before }
            }
            _ => {
                let name = self.topic()?;
                let topic = self.named(admin, name).await;
                let place = match self.dice.below(3) {
                    0 => Place::Start,
                    1 => Place::End,
                    _ => Place::Timestamp(TimestampMs(self.net.true_ms() - self.dice.below(20_000) as i64)),
                };
                AdminAsk::Find { topic, partition: self.dice.below(4) as u32, place }
            }
        })
    }

    async fn named(&mut self, admin: &Admin, name: String) -> Named {
        let id = admin.describe_topic(&name).await.ok().map(|topic| topic.id);
        Named { name, id }
    }
}

async fn carry_out(admin: &Admin, what: AdminAsk) -> AdminAnswer {
    match what {
        AdminAsk::Create(create) => of_topic(admin.create_topic(create).await.map(AdminAnswer::Topic)),
        AdminAsk::Alter(alter) => of_topic(admin.alter_topic(alter).await.map(AdminAnswer::Topic)),
        AdminAsk::Delete(topic) => {
            of_topic(admin.delete_topic(&topic.name).await.map(|()| AdminAnswer::Deleted))
        }
        AdminAsk::Describe { name } => of_topic(admin.describe_topic(&name).await.map(AdminAnswer::Topic)),
        AdminAsk::List => of_topic(admin.list_topics().await.map(AdminAnswer::Topics)),
        AdminAsk::Cluster => match admin.describe_cluster().await {
            Ok(cluster) => AdminAnswer::Cluster(cluster),
            Err(error) => of_error::<Infallible>(&error),
        },
        AdminAsk::Find { topic, partition, place } => {
            of_partition(admin.find_offset(&topic.name, partition, place).await.map(AdminAnswer::Found))
        }
        AdminAsk::DeleteRecords { topic, partition, before } => of_partition(
            admin.delete_records(&topic.name, partition, before).await.map(AdminAnswer::LogStart),
        ),
    }
}

fn of_topic(result: Result<AdminAnswer, RequestError<TopicError>>) -> AdminAnswer {
    match result {
        Ok(answer) => answer,
        Err(RequestError::Refused(error @ (TopicError::Unknown { .. } | TopicError::Exists { .. }))) => {
            AdminAnswer::AsItIs(error.to_string())
        }
        Err(error) => of_error(&error),
    }
}

fn of_partition<E: std::error::Error>(result: Result<AdminAnswer, PartitionError<E>>) -> AdminAnswer {
    match result {
        Ok(answer) => answer,
        // The topic was asked for, the partition was not.
        Err(error @ (PartitionError::Topic(_) | PartitionError::OutOfRange { .. })) => {
            AdminAnswer::Refused(error.to_string())
        }
        Err(PartitionError::Request(error)) => of_error(&error),
    }
}

fn of_error<E: std::error::Error>(error: &RequestError<E>) -> AdminAnswer {
    let why = error.to_string();
    match error {
        RequestError::Refused(_) | RequestError::Connect(_) | RequestError::Rejected(_) => {
            AdminAnswer::Refused(why)
        }
        RequestError::Disconnected { .. } | RequestError::TimedOut { .. } | RequestError::Protocol(_) => {
            AdminAnswer::Unknown(why)
        }
    }
}
