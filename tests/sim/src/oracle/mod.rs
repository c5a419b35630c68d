//! What must hold, one file per property. An oracle hears every fact and says when its property is broken.

use crate::fact::At;

/// How a property was broken, for people: which client, partition, offset, and what was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

pub trait Oracle {
    /// Short and fixed: `durable`.
    fn name(&self) -> &'static str;

    /// Hears a fact.
    ///
    /// # Errors
    /// [`Violation`]: the run has failed.
    fn hear(&mut self, at: &At) -> Result<(), Violation>;

    /// The run is over, every partition audited.
    ///
    /// # Errors
    /// [`Violation`]: the run has failed.
    fn end(&mut self) -> Result<(), Violation> {
        Ok(())
    }
}
