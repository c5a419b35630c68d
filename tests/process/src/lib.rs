//! The harness of the process tests: real brokers on temporary directories and free ports.
#![forbid(unsafe_code)]
