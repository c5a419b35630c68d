//! Shell completions and manual pages, made from the command line's own definition.

use std::fs;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "millstream", &mut script);
    let mut out = Output::stdout();
    out.write(&script)?;
    out.finish()
}

/// One page per command: `millstream.1`, `millstream-topic.1`, `millstream-topic-create.1` and so on.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::failed(format_args!("{}: {e}", args.dir.display()));
    fs::create_dir_all(&args.dir).map_err(fail)?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    clap_mangen::generate_to(root, &args.dir).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_gets_a_page() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: dir.path().join("man") }).unwrap();
        for name in
            ["millstream.1", "millstream-serve.1", "millstream-topic-create.1", "millstream-log-verify.1"]
        {
            assert!(dir.path().join("man").join(name).exists(), "{name}");
        }
    }
}
