//! One node, its disk, its network and its clients as one deterministic process, from one seed.
//!
//! - [`fact`]: what happened, as the oracles hear it; [`value`]: values that say where they come from.
//! - [`net`]: the network between clients and node; [`dice`]: chance.
//! - [`sdk`]: clients on the real SDK.
//! - [`oracle`]: what must hold, one file per property.
#![forbid(unsafe_code)]

pub mod dice;
pub mod fact;
pub mod net;
pub mod oracle;
pub mod sdk;
pub mod value;
