//! `kafka-broker-api-versions`: what each broker serves.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::cluster::Cluster;
use super::connection::Connection;
use super::fault::Fault;
use super::properties;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Retrieve the versions of the protocol that brokers serve.
#[derive(Debug, Parser)]
#[command(name = "kafka-broker-api-versions", version, infer_long_args = true)]
struct Args {
    /// The Kafka server to connect to
    #[arg(long, value_name = "server(s) to use for bootstrapping")]
    bootstrap_server: String,
    /// Property file with configs for the admin client
    #[arg(long, value_name = "command config property file")]
    command_config: Option<PathBuf>,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| eprintln!("ERROR: {fault}"))
}

fn act(args: &Args) -> Result<(), Fault> {
    properties::check(args.command_config.as_deref())?;
    let mut cluster = Cluster::connect(&args.bootstrap_server, TIMEOUT)?;
    cluster.metadata(Some(&[]))?;
    let mut out = std::io::stdout().lock();
    for broker in cluster.brokers() {
        let address = format!("{}:{}", broker.host.as_str(), broker.port);
        let rack = broker.rack.as_deref().filter(|rack| !rack.is_empty()).unwrap_or("null");
        let id = broker.node_id.0;
        match Connection::open(&address, TIMEOUT) {
            Ok(connection) => {
                writeln!(out, "{address} (id: {id} rack: {rack} isFenced: false) -> (")?;
                let lines: Vec<String> = connection.versions().iter().map(line).collect();
                writeln!(out, "{}\n)", lines.join(",\n"))?;
            }
            Err(fault) => {
                writeln!(out, "{address} (id: {id} rack: {rack} isFenced: false) -> ERROR: {fault}")?
            }
        }
    }
    Ok(())
}

fn line(served: &ApiVersion) -> String {
    let (key, min, max) = (served.api_key, served.min_version, served.max_version);
    let range = if min == max { min.to_string() } else { format!("{min} to {max}") };
    let Ok(known) = ApiKey::try_from(key) else { return format!("\tUNKNOWN({key}): {range}") };
    let usable = known.valid_versions().max.min(max);
    format!("\t{known:?}({key}): {range} [usable: {usable}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn served_versions_are_printed_as_kafka_prints_them() {
        let served = |key, min, max| {
            ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
        };
        assert_eq!(line(&served(0, 0, 11)), "\tProduce(0): 0 to 11 [usable: 11]");
        assert_eq!(line(&served(47, 0, 0)), "\tOffsetDelete(47): 0 [usable: 0]");
        assert_eq!(line(&served(999, 0, 1)), "\tUNKNOWN(999): 0 to 1");
    }
}
