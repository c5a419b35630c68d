//! The harness of the process tests: real brokers on real files, killed and started again.
//!
//! - [`broker`]: one broker process, from start to its end, which only its test brings about.
//! - [`cli`]: `millstream` as a person calls it.
//! - [`process`]: any process with a deadline.
//! - [`lines`]: the input: what the machine has of real text.
//! - [`chance`]: seeded numbers; a failing test names its seed.
//! - [`scrape`]: the broker's HTTP port.
//! - [`history`]: the oracle: what clients were told and saw, and what must hold between the two.
//! - [`clients`]: producers and readers on the SDK that write the history while a test does its worst.
//! - [`disks`]: small file systems of a test's own, which can be full, read-only or stalled.
//!
//! Nothing here sleeps: everything waits for an event, with a deadline that only a failure reaches. Times that a
//! test lets pass are its input: a moment to kill at, a pause, the pace of a producer.
#![forbid(unsafe_code)]

pub mod broker;
pub mod chance;
pub mod cli;
pub mod clients;
pub mod disks;
pub mod history;
pub mod lines;
pub mod process;
pub mod scrape;

pub use broker::{Broker, Options};
pub use chance::Chance;
pub use cli::Cli;
pub use clients::Clients;
pub use history::{History, Place, Told};
pub use process::Done;

use std::path::PathBuf;

/// The binary under test: `MILLSTREAM_BIN`, or the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MILLSTREAM_BIN") {
        return std::path::absolute(PathBuf::from(path)).expect("MILLSTREAM_BIN is a path");
    }
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let path = profile.join("millstream");
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
    path
}

/// Whether the long forms were asked for (`make soak`).
pub fn soak() -> bool {
    std::env::var_os("MILLSTREAM_SOAK").is_some()
}

/// A fresh directory on the disk that holds the build: `/tmp` may be memory, where direct I/O is another thing.
pub fn directory() -> tempfile::TempDir {
    let binary = binary();
    let target = binary.parent().and_then(|profile| profile.parent()).expect("target/<profile>/millstream");
    let base = target.join("tmp");
    std::fs::create_dir_all(&base).expect("target/ can be written");
    tempfile::Builder::new().prefix("process-").tempdir_in(base).expect("target/tmp can be written")
}
