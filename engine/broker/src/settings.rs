//! What a node is told at its start: file, environment and flags, resolved once into checked [`Settings`].
//!
//! A later source wins over an earlier one: defaults, TOML file, `MILLSTREAM_` environment (`__` for nesting),
//! flags. A key nobody knows is refused by name with the nearest known one, wherever it was said, so that a
//! slip of the pen never runs with a default. Nothing here is changed after the start.
//!
//! Does not know: what is done with a value; whether a port is free or a directory can be written.

mod kafka;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_meta::config::canonical;

use crate::cores::{CoreChoice, CoreChoiceError};
use crate::logger::{Format, Level, parse_level};

/// The prefix of environment variables that are settings.
pub const ENV_PREFIX: &str = "MILLSTREAM_";

/// Variables of that prefix that mean something to the command line or the SDK, not to a node.
const ENV_OF_OTHERS: [&str; 6] = ["SERVER", "CONFIG", "CA_FILE", "FINGERPRINT", "FORMAT", "TIMEOUT"];

/// Every key with its default as text; empty: none, or computed. Keys below `topic.` are topic configs and are
/// not listed. What each means: `deploy/config/millstream.toml`.
pub const KEYS: [(&str, &str); 27] = [
    ("advertise", ""),
    ("cluster_id", ""),
    ("cores", "all"),
    ("data", "./millstream-data"),
    ("free_space_min", "1GiB"),
    ("http", "127.0.0.1:9644"),
    ("kafka.auto.create.topics.enable", "true"),
    ("kafka.connections.max.idle.ms", "600000"),
    ("kafka.default.replication.factor", "1"),
    ("kafka.group.initial.rebalance.delay.ms", "3000"),
    ("kafka.group.max.session.timeout.ms", "1800000"),
    ("kafka.group.max.size", "10000"),
    ("kafka.group.min.session.timeout.ms", "6000"),
    ("kafka.max.connections", "10000"),
    ("kafka.num.partitions", "1"),
    ("kafka.offset.metadata.max.bytes", "4096"),
    ("kafka.offsets.retention.minutes", "10080"),
    ("kafka.offsets.topic.num.partitions", "50"),
    ("kafka.socket.request.max.bytes", "104857600"),
    ("listen", "127.0.0.1:9092"),
    ("log.format", "logfmt"),
    ("log.level", "info"),
    ("memory", ""),
    ("node_id", "1"),
    ("spin_us", "0"),
    ("tls.cert_file", ""),
    ("tls.key_file", ""),
];

pub use kafka::KafkaSettings;

const TOPIC_PREFIX: &str = "topic.";
const MEMORY_BYTES_MIN: u64 = 16 << 20;
const MEMORY_BYTES_MAX: u64 = 1 << 50;
const FREE_BYTES_MAX: u64 = 1 << 50;
const SPIN_US_MAX: u64 = 1000;
const FILE_BYTES_MAX: u64 = 1 << 20;
const KEYS_MAX: usize = 1000;

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File(PathBuf),
    Env(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why the settings cannot be used. Nothing was started or touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("configuration file {path} cannot be read: {why}", path = path.display())]
    File { path: PathBuf, why: String },
    #[error("configuration file {path} is not valid TOML: {why}", path = path.display())]
    Toml { path: PathBuf, why: String },
    #[error("unknown setting '{key}' ({origin}): did you mean '{nearest}'?")]
    Unknown { key: String, origin: Origin, nearest: String },
    #[error("setting '{key}' ({origin}): {why}")]
    Value { key: String, origin: Origin, why: String },
    #[error("--cluster-peers: clusters of several nodes are not supported by this version; start without it")]
    ClusterPeers,
}

/// What the command line of `serve` said, before anything is checked.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    /// Key, flag name, value.
    pub values: Vec<(&'static str, &'static str, String)>,
    pub cluster_peers: Option<String>,
}

/// Certificate and key that the operator provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// Checked settings of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub node_id: u32,
    pub cluster_id: Option<u128>,
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Host and port as said; absent: derived from the bound address ([`Settings::advertised`]).
    pub advertise: Option<(String, u16)>,
    pub http: SocketAddr,
    pub cores: CoreChoice,
    /// Of all cores together; absent: a quarter of the machine's.
    pub memory_bytes: Option<u64>,
    pub free_bytes_min: u64,
    /// How long an idle core looks for work before it sleeps.
    pub spin: Duration,
    pub log_format: Format,
    pub log_level: Level,
    pub tls: Option<TlsFiles>,
    pub kafka: KafkaSettings,
    /// Topic configs for topics that do not set them; checked by the metadata's own rules.
    pub topic_defaults: Vec<(String, String)>,
}

impl Settings {
    /// Reads the file that `flags` or the environment name, then environment, then flags.
    ///
    /// # Errors
    /// [`SettingsError`], naming key and origin.
    pub fn load(
        flags: &Flags,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let env: Vec<_> = env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        let of_env = || env.iter().find(|(name, _)| name == "MILLSTREAM_CONFIG").map(|(_, path)| path.into());
        let file = match flags.config.clone().or_else(of_env) {
            Some(path) => Some((read_file(&path)?, path)),
            None => None,
        };
        let file = file.as_ref().map(|(text, path)| (path.as_path(), text.as_str()));
        Self::of(file, env, flags, &look_up)
    }

    /// As [`load`](Self::load), from the text of the file, if there is one. `look_up` finds the address behind
    /// `name:port`.
    ///
    /// # Errors
    /// [`SettingsError`], naming key and origin.
    pub fn of(
        file: Option<(&Path, &str)>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &Flags,
        look_up: &dyn Fn(&str) -> Option<SocketAddr>,
    ) -> Result<Self, SettingsError> {
        if flags.cluster_peers.is_some() {
            return Err(SettingsError::ClusterPeers);
        }
        let env: BTreeMap<String, String> =
            env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        let mut said = Said::default();
        if let Some((path, text)) = file {
            said.add_file(path, text)?;
        }
        for (name, value) in &env {
            said.add_env(name, value)?;
        }
        for (key, flag, value) in &flags.values {
            said.add(key, value.clone(), Origin::Flag((*flag).to_owned()))?;
        }
        said.resolve(look_up)
    }

    /// The `host:port` for clients, once the listener is bound to `bound`.
    #[must_use]
    pub fn advertised(&self, bound: SocketAddr, host_name: &str) -> String {
        match &self.advertise {
            // Port 0 asks for the port that was bound.
            Some((host, port)) => join_host_port(host, if *port == 0 { bound.port() } else { *port }),
            None if bound.ip().is_unspecified() => join_host_port(host_name, bound.port()),
            None => bound.to_string(),
        }
    }
}

/// Values by key as text, the last one said for each.
#[derive(Debug, Default)]
struct Said {
    values: BTreeMap<String, (String, Origin)>,
}

impl Said {
    fn add(&mut self, key: &str, value: String, origin: Origin) -> Result<(), SettingsError> {
        let known = match key.strip_prefix(TOPIC_PREFIX) {
            Some(config) => topic_config_keys().any(|known| known == config),
            None => KEYS.iter().any(|(known, _)| *known == key),
        };
        if !known {
            return Err(SettingsError::Unknown { key: key.to_owned(), origin, nearest: nearest_key(key) });
        }
        self.values.insert(key.to_owned(), (value, origin));
        Ok(())
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| SettingsError::Toml {
            path: path.to_owned(),
            why: e.to_string().trim_end().replace('\n', " "),
        })?;
        let mut flat = Vec::new();
        flatten("", &table, &mut flat);
        if flat.len() > KEYS_MAX {
            let why = format!("{} keys, limit {KEYS_MAX}", flat.len());
            return Err(SettingsError::File { path: path.to_owned(), why });
        }
        for (key, value) in flat {
            let origin = Origin::File(path.to_owned());
            // An unknown key is named as such whatever its value looks like.
            self.add(&key, String::new(), origin.clone())?;
            // Of all settings only configs of topics have fractions.
            let fraction = value.as_float().filter(|_| key.starts_with(TOPIC_PREFIX)).map(|n| n.to_string());
            let text = scalar_text(&value).or(fraction).ok_or_else(|| SettingsError::Value {
                key: key.clone(),
                origin: origin.clone(),
                why: format!("a {} is not a value of this setting", value.type_str()),
            })?;
            self.add(&key, text, origin)?;
        }
        Ok(())
    }

    fn add_env(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let rest = &name[ENV_PREFIX.len()..];
        if ENV_OF_OTHERS.contains(&rest) {
            return Ok(());
        }
        let key = rest.to_ascii_lowercase().replace("__", ".");
        self.add(&key, value.to_owned(), Origin::Env(name.to_owned()))
    }

    fn resolve(mut self, look_up: &dyn Fn(&str) -> Option<SocketAddr>) -> Result<Settings, SettingsError> {
        for (key, default) in KEYS {
            if !default.is_empty() {
                self.values.entry(key.to_owned()).or_insert_with(|| (default.to_owned(), Origin::Default));
            }
        }
        let cert_file = self.parse("tls.cert_file", parse_path)?;
        let key_file = self.parse("tls.key_file", parse_path)?;
        Ok(Settings {
            node_id: self.required("node_id", |text| parse_bounded(text, 0, u64::from(u32::MAX) / 2))? as u32,
            cluster_id: self.parse("cluster_id", parse_cluster_id)?,
            data: self.required("data", parse_path)?,
            listen: self.required("listen", |text| parse_address(text, look_up))?,
            advertise: self.parse("advertise", parse_host_port)?,
            http: self.required("http", |text| parse_address(text, look_up))?,
            cores: self.required("cores", |text| text.parse().map_err(|e: CoreChoiceError| e.to_string()))?,
            memory_bytes: self
                .parse("memory", |text| parse_bytes(text, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX))?,
            free_bytes_min: self.required("free_space_min", |text| parse_bytes(text, 0, FREE_BYTES_MAX))?,
            spin: self
                .required("spin_us", |text| parse_bounded(text, 0, SPIN_US_MAX))
                .map(Duration::from_micros)?,
            log_format: self.required("log.format", Format::parse)?,
            log_level: self.required("log.level", parse_level)?,
            tls: self.tls_files(cert_file, key_file)?,
            kafka: self.kafka()?,
            topic_defaults: self.topic_defaults()?,
        })
    }

    fn parse<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        let Some((text, origin)) = self.values.get(key) else { return Ok(None) };
        parse(text).map(Some).map_err(|why| SettingsError::Value {
            key: key.to_owned(),
            origin: origin.clone(),
            why,
        })
    }

    fn required<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        Ok(self.parse(key, parse)?.expect("a key with a default"))
    }

    fn tls_files(
        &self,
        cert_file: Option<PathBuf>,
        key_file: Option<PathBuf>,
    ) -> Result<Option<TlsFiles>, SettingsError> {
        let (lonely, missing) = match (cert_file, key_file) {
            (None, None) => return Ok(None),
            (Some(cert_file), Some(key_file)) => return Ok(Some(TlsFiles { cert_file, key_file })),
            (Some(_), None) => ("tls.cert_file", "tls.key_file"),
            (None, Some(_)) => ("tls.key_file", "tls.cert_file"),
        };
        Err(SettingsError::Value {
            key: lonely.to_owned(),
            origin: self.values[lonely].1.clone(),
            why: format!("needs '{missing}' beside it"),
        })
    }

    fn kafka(&self) -> Result<KafkaSettings, SettingsError> {
        let number = |key: &str, min, max| self.required(key, |text| parse_bounded(text, min, max));
        let truth = |key: &str| self.required(key, parse_truth);
        let told = self.values.iter().filter_map(|(key, (value, _))| {
            Some((key.strip_prefix(kafka::PREFIX)?.to_owned(), value.clone()))
        });
        KafkaSettings::resolve(kafka::Take { number: &number, truth: &truth }, told.collect())
    }

    fn topic_defaults(&self) -> Result<Vec<(String, String)>, SettingsError> {
        let mut defaults = Vec::new();
        for (key, (value, origin)) in &self.values {
            let Some(config) = key.strip_prefix(TOPIC_PREFIX) else { continue };
            let checked = canonical([(config, value.as_str())]).map_err(|e| SettingsError::Value {
                key: key.clone(),
                origin: origin.clone(),
                why: e.to_string(),
            })?;
            defaults.extend(checked);
        }
        Ok(defaults)
    }
}

fn read_file(path: &Path) -> Result<String, SettingsError> {
    let fail = |why: String| SettingsError::File { path: path.to_owned(), why };
    let bytes = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(fail(format!("{bytes} bytes, limit {FILE_BYTES_MAX}")));
    }
    std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut Vec<(String, toml::Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, out),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => out.push((key, value.clone())),
        }
    }
}

/// A list of whole numbers is taken for `cores = [0, 2]`.
fn scalar_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        // The trailing comma keeps a list of one core from being read as a count.
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_integer().map(|n| format!("{n},"))).collect()
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn nearest_key(key: &str) -> String {
    let topics = topic_config_keys().map(|config| format!("{TOPIC_PREFIX}{config}"));
    let known = KEYS.iter().map(|(known, _)| (*known).to_owned()).chain(topics);
    known.min_by_key(|known| strsim::damerau_levenshtein(known, key)).expect("there are keys")
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a path, not nothing".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A name is resolved once, here: a listener needs a fixed address.
fn parse_address(text: &str, look_up: &dyn Fn(&str) -> Option<SocketAddr>) -> Result<SocketAddr, String> {
    text.parse().ok().or_else(|| look_up(text)).ok_or_else(|| {
        format!("'{text}' is not an address to listen on; write it as 127.0.0.1:9092 or [::1]:9092")
    })
}

fn look_up(host_port: &str) -> Option<SocketAddr> {
    use std::net::ToSocketAddrs;
    host_port.to_socket_addrs().ok().and_then(|mut found| found.next())
}

fn parse_host_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("'{text}' is not host:port; write it as broker.example:9092");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| wrong())?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn parse_cluster_id(text: &str) -> Result<u128, String> {
    match (text.len(), u128::from_str_radix(text, 16)) {
        (32, Ok(id)) if id != 0 => Ok(id),
        _ => Err(format!("'{text}' is not a cluster id: 32 hex digits, not all zero")),
    }
}

fn parse_bounded(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number: u64 = text.parse().map_err(|_| format!("'{text}' is not a whole number"))?;
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is out of bounds: {min} to {max}"))
    }
}

fn parse_truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("'{text}' is neither true nor false"))
}

/// `4096`, `64KiB`, `16MiB`, `2GiB`, `1TiB`.
fn parse_bytes(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a number of bytes; write it as 1073741824 or 1GiB");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(factor).ok_or_else(wrong)?;
    if (min..=max).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{bytes} bytes is out of bounds: {min} to {max}"))
    }
}

fn topic_config_keys() -> impl Iterator<Item = &'static str> {
    engine_meta::config::KEYS.into_iter()
}

#[cfg(test)]
mod tests;
