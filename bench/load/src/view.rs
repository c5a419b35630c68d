//! Consumers that together see every record of a topic once, each reading in a task of its own.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::inbox::Inbox;
use crate::system::{Consumer, SystemError};

pub(crate) struct View {
    inbox: Arc<Inbox>,
    waiting: Vec<Box<dyn Consumer>>,
    reading: JoinSet<Result<(), SystemError>>,
    over: watch::Sender<bool>,
}

impl View {
    pub(crate) fn new(inbox: Arc<Inbox>) -> View {
        View { inbox, waiting: Vec::new(), reading: JoinSet::new(), over: watch::Sender::new(false) }
    }

    pub(crate) fn add(&mut self, consumer: Box<dyn Consumer>) {
        self.waiting.push(consumer);
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Lets everybody read who was added.
    pub(crate) fn start(&mut self) {
        for consumer in std::mem::take(&mut self.waiting) {
            self.add_reading(consumer);
        }
    }

    /// Reads from now on. A group's member must: others wait for it to take part when they join.
    pub(crate) fn add_reading(&mut self, mut consumer: Box<dyn Consumer>) {
        let (inbox, mut over) = (Arc::clone(&self.inbox), self.over.subscribe());
        self.reading.spawn(async move {
            let read = tokio::select! {
                read = inbox.read(consumer.as_mut()) => read,
                // An error means that the view is gone.
                _ = over.wait_for(|over| *over) => Ok(()),
            };
            consumer.close().await;
            read
        });
    }

    /// Why a consumer has ended that should not have.
    pub(crate) fn failure(&mut self) -> Option<SystemError> {
        let ended = self.reading.try_join_next()?;
        ended.expect("a reader does not panic").err()
    }

    pub(crate) async fn close(mut self) {
        self.over.send_replace(true);
        while self.reading.join_next().await.is_some() {}
        for consumer in self.waiting {
            consumer.close().await;
        }
    }
}
