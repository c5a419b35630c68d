//! A node's settings (`engine/broker`): the file, then `NAME=value` of the environment and `--key=value` of
//! flags, with a zero byte between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use engine_broker::settings::KEYS;
use engine_broker::{Flags, Settings, SettingsError};

pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let (mut env, mut flags) = (Vec::new(), Flags::default());
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        match name.strip_prefix("--") {
            None => env.push((name.to_owned(), value.to_owned())),
            Some("cluster-peers") => flags.cluster_peers = Some(value.to_owned()),
            Some(name) => {
                // What the command line can say, and no more.
                let Some((key, _)) = KEYS.iter().find(|(key, _)| *key == name) else { continue };
                flags.values.push((key, key, value.to_owned()));
            }
        }
    }
    let load = || Settings::of(Some((Path::new("file"), file)), env.clone(), &flags, &look_up);
    let outcome = load();
    assert_eq!(outcome, load(), "one input, one outcome");
    match outcome {
        Ok(settings) => check(&settings),
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() < 4096 + 8 * data.len());
            if let SettingsError::Unknown { key, nearest, .. } = error {
                assert!(key != nearest, "{key} is known");
            }
        }
    }
}

/// Every name is somewhere; asking the network would be slow and its answers are not ours.
fn look_up(host_port: &str) -> Option<SocketAddr> {
    let (host, port) = host_port.rsplit_once(':')?;
    (!host.is_empty()).then_some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse().ok()?))
}

/// As `deploy/config/millstream.toml` says.
fn check(settings: &Settings) {
    assert!(settings.node_id <= u32::MAX / 2);
    assert_ne!(settings.cluster_id, Some(0));
    assert!(settings.memory_bytes.is_none_or(|bytes| (16 << 20..=1 << 50).contains(&bytes)));
    assert!(settings.free_bytes_min <= 1 << 50);
    assert!(!settings.data.as_os_str().is_empty());
    let address = settings.advertised(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 9092), "host");
    assert!(
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    );
    for (key, value) in &settings.topic_defaults {
        let again = engine_meta::config::canonical([(key.as_str(), value.as_str())]);
        assert_eq!(again.expect("checked before").get(key), Some(value));
    }
}
