//! Rules, one by one, and all at once at random.

mod harness;
mod joining;
