//! `kafka-broker-api-versions`: what each broker serves.

use std::collections::BTreeMap;
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
                writeln!(out, "{}\n)", lines(connection.versions()).join(",\n"))?;
            }
            Err(fault) => {
                writeln!(out, "{address} (id: {id} rack: {rack} isFenced: false) -> ERROR: {fault}")?
            }
        }
    }
    Ok(())
}

/// In the order of keys, those included that clients know of and the broker does not serve.
fn lines(served: &[ApiVersion]) -> Vec<String> {
    let mut lines: BTreeMap<i16, String> = served.iter().map(|api| (api.api_key, line(api))).collect();
    for (key, known) in (0..KEYS_END).filter_map(|key| Some((key, ApiKey::try_from(key).ok()?))) {
        if !BROKERS_OWN.contains(&key) {
            lines.entry(key).or_insert_with(|| format!("\t{known:?}({key}): UNSUPPORTED"));
        }
    }
    lines.into_values().collect()
}

/// Above every key that there is.
const KEYS_END: i16 = 128;
/// What brokers and controllers say to each other: nothing that clients look for.
const BROKERS_OWN: [i16; 24] =
    [4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 80, 81, 82, 83, 84, 85, 86, 87, 91];

fn line(served: &ApiVersion) -> String {
    let (key, min, max) = (served.api_key, served.min_version, served.max_version);
    let range = if min == max { min.to_string() } else { format!("{min} to {max}") };
    let Ok(known) = ApiKey::try_from(key) else { return format!("\tUNKNOWN({key}): {range}") };
    let ours = known.valid_versions();
    if max < ours.min {
        return format!("\t{known:?}({key}): {range} [unusable: node too old]");
    }
    let usable = ours.max.min(max);
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
        let all = lines(&[served(999, 0, 1), served(1, 4, 12), served(0, 0, 11)]);
        assert!(all[0].starts_with("\tProduce(0)") && all[1].starts_with("\tFetch(1)"), "{all:?}");
        assert!(all.contains(&"\tEndTxn(26): UNSUPPORTED".to_owned()), "{all:?}");
        assert!(!all.iter().any(|line| line.contains("LeaderAndIsr")));
        assert_eq!(all.last().map(String::as_str), Some("\tUNKNOWN(999): 0 to 1"));
    }
}
