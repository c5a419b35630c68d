//! One node, its disk, its network and its clients as one deterministic process, from one seed.
#![forbid(unsafe_code)]
