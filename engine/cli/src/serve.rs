//! `millstream serve`.

use engine_broker::{Flags, RunError};

use crate::args::ServeArgs;
use crate::failure::Failure;

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    engine_broker::run(&flags(args)).map_err(|error| match error {
        // It is in the log, in the format that was asked for.
        RunError::Node(_) | RunError::Metadata { .. } => Failure::failed(""),
        RunError::Settings(_)
        | RunError::Cpus(_)
        | RunError::DataDir(_)
        | RunError::Cert(_)
        | RunError::Bind(_)
        | RunError::Http { .. }
        | RunError::Machine { .. }
        | RunError::Start(_)
        | RunError::System { .. } => Failure::failed(error),
    })
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
}
