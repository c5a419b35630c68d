//! The command line (`engine/cli`): one argument a line.

use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use millstream_cli::args::{Cli, Command, TopicCommand};

/// A shell has a bound as well.
const ARGUMENTS_MAX: usize = 50;

pub fn command_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments = std::iter::once("millstream").chain(text.split('\n').take(ARGUMENTS_MAX));
    match Cli::try_parse_from(arguments) {
        Ok(cli) => check(&cli),
        Err(error) => {
            assert!(!error.render().to_string().is_empty());
            let is_asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            assert_eq!(error.exit_code(), if is_asked { 0 } else { 2 }, "{:?}", error.kind());
        }
    }
}

/// As the help says.
fn check(cli: &Cli) {
    assert!(cli.global.timeout.is_none_or(|t| !t.is_zero() && t <= Duration::from_secs(86_400)));
    assert!(!cli.global.server.is_empty());
    match &cli.command {
        Command::Topic(TopicCommand::Create(topic)) => {
            assert!(topic.partitions.is_none_or(|count| (1..=10_000).contains(&count)));
            assert!(topic.configs.iter().all(|(key, _)| !key.is_empty()));
        }
        Command::Topic(TopicCommand::Alter(topic)) => {
            assert!(
                topic.partitions.is_some() || !topic.configs.is_empty() || !topic.delete_configs.is_empty()
            );
        }
        Command::Produce(produce) => assert_ne!(produce.key_separator.as_deref(), Some("")),
        Command::Consume(consume) => {
            let starts = [consume.from_beginning, consume.offset.is_some(), consume.timestamp.is_some()];
            assert!(starts.iter().filter(|start| **start).count() <= 1);
        }
        Command::Topic(TopicCommand::List | TopicCommand::Describe(_) | TopicCommand::Delete(_))
        | Command::Group(_)
        | Command::Serve(_)
        | Command::Cluster(_)
        | Command::Log(_)
        | Command::Doctor(_)
        | Command::Bench(_)
        | Command::Completions(_)
        | Command::Man(_) => {}
    }
}
