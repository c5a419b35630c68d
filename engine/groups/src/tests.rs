//! Rules, one by one, and all at once at random.

mod chaos;
mod harness;
mod joining;
mod natives;
mod offsets;
mod recovery;
mod statics;
