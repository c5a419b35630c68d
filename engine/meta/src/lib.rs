//! The cluster's picture as a value: topics, partitions, where each is placed, changed by [`Command`]s only.
#![forbid(unsafe_code)]
