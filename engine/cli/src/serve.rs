//! `millstream serve`.

use engine_broker::settings::Origin;
use engine_broker::{Flags, RunError, SettingsError};

use crate::args::ServeArgs;
use crate::failure::{Exit, Failure};

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    engine_broker::run(&flags(args)).map_err(|error| match error {
        // It is in the log, in the format that was asked for.
        RunError::Node(_) | RunError::Metadata { .. } => Failure::failed(""),
        RunError::Settings(error) => Failure::new(exit(&error), error),
        RunError::Cpus(_)
        | RunError::DataDir(_)
        | RunError::Cert(_)
        | RunError::Bind(_)
        | RunError::Http { .. }
        | RunError::Machine { .. }
        | RunError::Start(_)
        | RunError::System { .. } => Failure::failed(error),
    })
}

/// A flag that is refused would be refused at every start again. A file or the environment may be put right by
/// then, and so may what the machine lacks.
fn exit(error: &SettingsError) -> Exit {
    match error {
        SettingsError::Unknown { origin, .. } | SettingsError::Value { origin, .. } => match origin {
            Origin::Flag(_) => Exit::Usage,
            Origin::Default | Origin::File(_) | Origin::Env(_) => Exit::Failed,
        },
        SettingsError::ClusterPeers => Exit::Usage,
        SettingsError::File { .. } | SettingsError::Toml { .. } => Exit::Failed,
    }
}

fn flags(args: ServeArgs) -> Flags {
    let said = [
        ("data", "--data", args.data),
        ("listen", "--listen", args.listen),
        ("advertise", "--advertise", args.advertise),
        ("http", "--http", args.http),
        ("cores", "--cores", args.cores),
        ("node_id", "--node-id", args.node_id),
        ("log.format", "--log-format", args.log_format),
        ("log.level", "--log-level", args.log_level),
    ];
    let values =
        said.into_iter().filter_map(|(key, flag, value)| value.map(|value| (key, flag, value))).collect();
    Flags { config: args.config, values, cluster_peers: args.cluster_peers }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn every_flag_is_a_setting_that_exists() {
        let line = "millstream serve --data d --listen 127.0.0.1:1 --advertise a:1 --http 127.0.0.1:2 --cores 1 \
                    --node-id 3 --log-format json --log-level debug";
        let Command::Serve(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!()
        };
        let settings = engine_broker::Settings::load(&flags(args), []).unwrap();
        assert_eq!((settings.node_id, settings.http.port()), (3, 2));
    }

    #[test]
    fn only_refused_flags_are_usage_errors() {
        let exit_of = |line: &str, env: &[(&str, &str)]| {
            let Command::Serve(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
                panic!()
            };
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            exit(&engine_broker::Settings::load(&flags(args), env).unwrap_err())
        };
        let refused = [
            "--cores abc",
            "--cores 0",
            "--listen nonsense",
            "--advertise bad",
            "--http bad",
            "--node-id -1",
            "--log-format xml",
            "--log-level loud",
            "--cluster-peers 1@a:1",
        ];
        for flag in refused {
            assert_eq!(
                exit_of(&format!("millstream serve {}", flag.replacen(' ', "=", 1)), &[]),
                Exit::Usage
            );
        }
        assert_eq!(exit_of("millstream serve", &[("MILLSTREAM_CORES", "abc")]), Exit::Failed);
        assert_eq!(exit_of("millstream serve", &[("MILLSTREAM_CORSE", "1")]), Exit::Failed);
        assert_eq!(exit_of("millstream serve --config /nowhere/at/all.toml", &[]), Exit::Failed);
    }
}
