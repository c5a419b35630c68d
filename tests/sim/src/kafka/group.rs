//! A group of Kafka's clients.

use crate::fact::ClientId;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// The first offsets are durable.
    pub(super) is_begun: bool,
    /// Who commits them.
    pub(super) begins: Option<ClientId>,
}

impl Group {
    pub(super) fn new(nth: usize) -> Self {
        Self { name: format!("kafka-group-{nth}"), is_begun: false, begins: None }
    }

    /// A commit of this client came to its end; somebody else may begin.
    pub(super) fn is_over(&mut self, client: ClientId) {
        if self.begins == Some(client) {
            self.begins = None;
        }
    }
}
