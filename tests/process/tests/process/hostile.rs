//! Peers that mean no good, or know no better. Every time the broker goes on serving the others.
