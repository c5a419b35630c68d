//! The help texts are part of the contract: a change shows in `tests/snapshots`, one file per command.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p millstream-engine-cli --test help` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use millstream_cli::args::Cli;

/// The load generator's own texts are its own room's affair.
const OF_OTHERS: [&str; 2] = ["bench", "help"];
const WIDTH: usize = 100;

#[test]
fn help_texts_are_as_they_were() {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut texts = Vec::new();
    gather("millstream", &mut root, &mut texts);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for (name, text) in &texts {
        check(&directory.join(format!("{name}.txt")), text);
    }
    let files = fs::read_dir(&directory).unwrap().count();
    assert_eq!(files, texts.len(), "a snapshot belongs to no command");
}

#[test]
fn every_command_shows_an_example() {
    let mut root = Cli::command();
    root.build();
    let mut texts = Vec::new();
    gather("millstream", &mut root, &mut texts);
    for (name, text) in texts {
        // A command that only groups others leaves the examples to them.
        let is_group = text.contains("\nCommands:\n") && name != "millstream";
        assert!(is_group || text.contains("Example:\n  "), "{name} has no example");
    }
}

fn gather(name: &str, command: &mut Command, into: &mut Vec<(String, String)>) {
    into.push((name.to_owned(), command.render_long_help().to_string()));
    for sub in command.get_subcommands_mut() {
        if !OF_OTHERS.contains(&sub.get_name()) {
            gather(&format!("{name}-{}", sub.get_name()), &mut sub.clone().term_width(WIDTH), into);
        }
    }
}

#[track_caller]
fn check(path: &PathBuf, text: &str) {
    let text = text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == text, "{} differs; it is now:\n{text}", path.display());
}
