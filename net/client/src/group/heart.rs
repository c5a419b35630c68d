//! Heartbeats of one membership, in the background, until dropped.

use std::sync::Arc;
use std::time::Duration;

use engine_api::{GroupAsk, GroupError, MemberId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::ask::{advice_on, ask_group};
use crate::rpc::RequestError;
use crate::shared::Shared;
use crate::state::group::Advice;

/// What the coordinator said last.
#[derive(Debug, Clone)]
pub(super) enum Pulse {
    Alive,
    /// Stop, commit, join again.
    Rebalance,
    /// Out of the group; the id to come back with, where another is needed.
    Lost {
        member: Option<String>,
    },
    Failed(RequestError<GroupError>),
}

#[derive(Debug)]
pub(super) struct Heart {
    pulse: watch::Receiver<Pulse>,
    task: JoinHandle<()>,
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Heart {
    pub(super) fn start(
        shared: Arc<Shared>,
        group: String,
        member: MemberId,
        every: Duration,
        session: Duration,
    ) -> Self {
        let (sender, pulse) = watch::channel(Pulse::Alive);
        let task = tokio::spawn(beat(shared, group, member, every, session, sender));
        Self { pulse, task }
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.borrow().clone()
    }

    /// Ends when there is something else to say than [`Pulse::Alive`].
    pub(super) async fn until_not_alive(&mut self) {
        // The task ends only after it has said so.
        let _ = self.pulse.wait_for(|pulse| !matches!(pulse, Pulse::Alive)).await;
    }
}

async fn beat(
    shared: Arc<Shared>,
    group: String,
    member: MemberId,
    every: Duration,
    session: Duration,
    pulse: watch::Sender<Pulse>,
) {
    let mut heard_at = Instant::now();
    loop {
        sleep(every).await;
        let beat = ask_group(&shared, &group, GroupAsk::Heartbeat(member.clone()), session).await;
        let Err(error) = beat else {
            heard_at = Instant::now();
            continue;
        };
        match advice_on(&error) {
            // While it waits for its consumer to stop it stays alive.
            Advice::Rejoin => {
                heard_at = Instant::now();
                pulse.send_if_modified(|pulse| {
                    let is_news = matches!(pulse, Pulse::Alive);
                    *pulse = Pulse::Rebalance;
                    is_news
                });
            }
            Advice::Retry => {
                if heard_at.elapsed() >= session {
                    pulse.send_replace(Pulse::Lost { member: None });
                    return;
                }
            }
            Advice::Lost { member } => {
                pulse.send_replace(Pulse::Lost { member });
                return;
            }
            Advice::Fail => {
                pulse.send_replace(Pulse::Failed(error));
                return;
            }
        }
    }
}
