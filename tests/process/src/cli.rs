//! `millstream` as a person calls it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Done, Running, run};

/// For what a command does at once; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(60);
/// For a whole run of input.
pub const LONG: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
pub struct Cli {
    server: SocketAddr,
    ca_file: PathBuf,
}

impl Cli {
    pub fn new(server: SocketAddr, data: &Path) -> Cli {
        Cli { server, ca_file: data.join("tls/ca.pem") }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::binary());
        command
            .args(args)
            .env("MILLSTREAM_SERVER", self.server.to_string())
            .env("MILLSTREAM_CA_FILE", &self.ca_file);
        command
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, Vec::new())
    }

    #[track_caller]
    pub fn run_with(&self, args: &[&str], input: Vec<u8>) -> Done {
        run(self.command(args), input, if args[0] == "topic" { DEADLINE } else { LONG })
    }

    #[track_caller]
    pub fn spawn(&self, args: &[&str]) -> Running {
        Running::spawn(self.command(args))
    }

    #[track_caller]
    pub fn create(&self, topic: &str, partitions: u32) {
        self.run(&["topic", "create", topic, "--partitions", &partitions.to_string()]).expect(0);
    }

    /// Every value, partition by partition or interleaved, as `consume` prints it.
    #[track_caller]
    pub fn values(&self, topic: &str) -> Vec<u8> {
        self.run(&["consume", topic, "--from-beginning", "--exit-at-end"]).expect(0).stdout
    }

    #[track_caller]
    pub fn values_of(&self, topic: &str, partition: u32) -> Vec<u8> {
        let partition = partition.to_string();
        let args = ["consume", topic, "--from-beginning", "--exit-at-end", "--partition", &partition];
        self.run(&args).expect(0).stdout
    }
}
