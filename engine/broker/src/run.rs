//! The life of a broker process, in order: settings, data directory, certificate, sockets, cores, control thread;
//! then, told to stop: refuse new work, finish and sync what was accepted, end.
//!
//! Until the cores run, an error undoes itself by ending the process. Afterwards there is one way to end,
//! whoever asks for it: [`Node::stop_within`], so that no log is left without its clean-shutdown marker by
//! choice.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use engine_api::{CoreId, NodeId};
use engine_core::{EventSink, Node, NodeConfig, NodeError};
use engine_shard::{Event, GroupsConfig, ShardConfig};
use net_sockets::{BindError, UdpGroup, bind_group, bind_tcp_group, loopback_twin};
use storage_disk::DiskConfig;

use crate::certs::{self, CertError, ServerTls};
use crate::control::{self, Control};
use crate::cores;
use crate::data_dir::{DataDir, DataDirError};
use crate::logger::Logger;
use crate::notify::notify;
use crate::preflight::{self, Verdict};
use crate::settings::{Flags, KafkaSettings, Settings, SettingsError};
use crate::{process, random, signals, utc};

/// What this build calls itself.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// From the first signal to the end of the process. A service manager waits for more.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a port in use may be one that is being released, and how often to look.
const PORT_RELEASE: Duration = Duration::from_secs(1);
const PORT_RETRY: Duration = Duration::from_millis(10);
/// Held in memory by default: this share of the machine's.
const MEMORY_SHARE: u64 = 4;
/// When the machine does not tell its memory.
const MEMORY_BYTES_FALLBACK: u64 = 1 << 30;
/// The shard's word for metadata that cannot be read or no longer be changed.
const METADATA_UNUSABLE: &str = "metadata_unusable";
const OPENS_MAX: usize = 64;
/// A core that could keep no file open would open one for every operation.
const SEGMENTS_OPEN_MIN: usize = 64;
/// A descriptor takes about a KiB of the kernel's memory.
const SEGMENTS_OPEN_MAX: usize = 32 << 10;
/// Sockets that listen, files that are opened for one operation, the process's own.
const OTHER_FILES: u64 = 512;
/// Ports tried when the system is to choose one that is free for both protocols.
const PORT_TRIES: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 10_000;
/// The largest frame and the message around it.
const MESSAGE_BYTES_MAX: usize = (64 << 20) + (64 << 10);
const RECEIVE_WINDOW_BYTES_MAX: usize = 4 << 20;
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Why a broker did not start, or did not end as it should. One line, with its remedy; [`RunError::Node`]
/// and [`RunError::Metadata`] have been logged already.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Cpus(#[from] engine_core::CpuError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Cert(#[from] CertError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("HTTP port {} cannot be bound ({address}): {why}; stop the other process or choose another --http address",
        address.port())]
    Http { address: SocketAddr, why: String },
    #[error("{name}: {found}; {fix}")]
    Machine { name: &'static str, found: String, fix: String },
    #[error(transparent)]
    Start(#[from] engine_core::StartError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(
        "{why}; restore the data directory from a backup (`millstream log verify {}` says what is wrong)",
        data.display()
    )]
    Metadata { data: PathBuf, why: String },
    #[error("{what}: {error}")]
    System { what: &'static str, error: std::io::Error },
}

/// What wakes the main thread.
pub(crate) enum Wake {
    Signal(&'static str),
    Ready,
    MetadataUnusable(String),
    Ended(Result<(), NodeError>),
}

/// Runs a broker until it is told to stop; blocks.
///
/// # Errors
/// [`RunError`]: it did not start, a core failed, or it did not end in time.
pub fn run(flags: &Flags) -> Result<(), RunError> {
    let begun = Instant::now();
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    let settings = Settings::load(flags, environment)?;
    // Before any thread: each one inherits the mask.
    let signals = signals::block().map_err(system("signals cannot be blocked"))?;
    let log =
        Logger::stderr(settings.log_level, settings.log_format).map_err(system("no thread for the log"))?;
    let outcome = start_and_live(&settings, signals, begun, &log);
    log.flush();
    outcome
}

fn start_and_live(
    settings: &Settings,
    signals: signals::Blocked,
    begun: Instant,
    log: &Logger,
) -> Result<(), RunError> {
    let open_files = preflight::raise_open_files();
    let cpus = settings.cores.resolve()?;
    let data = DataDir::open(&settings.data, settings.node_id, settings.cluster_id)?;
    check_machine(settings, &data, cpus.len(), log)?;
    let listeners = bind(settings.listen, cpus.len(), log)?;
    let http = bind_http(settings.http)?;
    let place = Place::new(settings, &listeners, &http, &cpus);
    let tls = server_tls(settings, &data, &place, log)?;

    let (wake, woken) = mpsc::channel();
    let signal_wake = wake.clone();
    signals
        .watch(move |name| drop(signal_wake.send(Wake::Signal(name))))
        .map_err(system("no thread for signals"))?;
    let events = event_sink(log.clone(), wake.clone());
    let mut config = node_config(settings, &data, cpus, listeners, &tls, &place, events)?;
    let connections_max = settings.kafka.connections_max as u64;
    config.disk.open_files_max = segments_open_max(open_files, connections_max, config.cpus.len());
    let node = Arc::new(Node::start(config)?);
    let stopping = Arc::new(AtomicBool::new(false));
    let control = Control {
        node: Arc::clone(&node),
        stopping: Arc::clone(&stopping),
        begun,
        data: data.path().to_owned(),
        free_bytes_min: settings.free_bytes_min,
        cert_expires_ms: tls.expires_ms,
        node_id: settings.node_id,
        advertised: place.advertised.clone(),
    };
    control::start(http, control, wake).map_err(system("no control thread"))?;
    let say_ready = || place.say_ready(log, &tls, &data, begun);
    let outcome = live(&node, &woken, &stopping, log, say_ready).map_err(|end| match end {
        End::Node(error) => RunError::Node(error),
        End::Metadata(why) => RunError::Metadata { data: data.path().to_owned(), why },
    });
    match &outcome {
        Ok(()) => log.info("stopped", &[("up_s", begun.elapsed().as_secs().to_string())]),
        Err(error) => log.error("broker_failed", &[("why", error.to_string())]),
    }
    outcome
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |error| RunError::System { what, error }
}

/// Ends that nobody asked for.
enum End {
    Node(NodeError),
    Metadata(String),
}

/// From the cores' start to their end.
fn live(
    node: &Node,
    woken: &mpsc::Receiver<Wake>,
    stopping: &AtomicBool,
    log: &Logger,
    say_ready: impl FnOnce(),
) -> Result<(), End> {
    let mut say_ready = Some(say_ready);
    loop {
        match woken.recv().expect("the control thread and the signals' hold senders") {
            Wake::Ready => {
                if let Some(say_ready) = say_ready.take() {
                    say_ready();
                    // Whoever is told that it is ready may look where it is.
                    log.flush();
                    tell_manager("READY=1", log);
                }
            }
            // Without metadata no topic can be served, and a guess could lose some: not a start. Later on,
            // records still come and go.
            Wake::MetadataUnusable(why) if say_ready.is_some() => {
                return node.stop_within(STOP_TIMEOUT).map_err(End::Node).and(Err(End::Metadata(why)));
            }
            Wake::MetadataUnusable(_) => {}
            Wake::Ended(outcome) => return outcome.map_err(End::Node),
            Wake::Signal(name) => {
                log.info("stopping", &[("signal", name.to_owned())]);
                tell_manager("STOPPING=1", log);
                stopping.store(true, Ordering::Relaxed);
                return node.stop_within(STOP_TIMEOUT).map_err(End::Node);
            }
        }
    }
}

fn tell_manager(state: &str, log: &Logger) {
    if let Err(error) = notify(state) {
        log.warn("notify_failed", &[("state", state.to_owned()), ("why", error.to_string())]);
    }
}

/// Where this broker is, for its clients and its first lines.
struct Place {
    listen: SocketAddr,
    kafka: Vec<SocketAddr>,
    http: SocketAddr,
    advertised: String,
    host_name: String,
    cores: String,
}

impl Place {
    fn new(settings: &Settings, listeners: &Listeners, http: &TcpListener, cpus: &[usize]) -> Self {
        let host_name = process::host_name();
        Self {
            listen: listeners.udp.address,
            kafka: listeners.addresses.clone(),
            http: http.local_addr().unwrap_or(settings.http),
            advertised: settings.advertised(listeners.udp.address, &host_name),
            host_name,
            cores: cores::list(cpus),
        }
    }

    /// As `listeners` of Kafka's settings.
    fn kafka_listeners(&self) -> String {
        let listeners: Vec<String> =
            self.kafka.iter().map(|address| format!("PLAINTEXT://{address}")).collect();
        listeners.join(",")
    }

    fn say_ready(&self, log: &Logger, tls: &ServerTls, data: &DataDir, begun: Instant) {
        log.info(
            "ready",
            &[
                ("listen", self.listen.to_string()),
                ("kafka", self.kafka_listeners()),
                ("advertise", self.advertised.clone()),
                ("http", self.http.to_string()),
                ("data", data.path().display().to_string()),
                ("cores", self.cores.clone()),
                ("durability", "synced to disk before each ack (topics may set write.caching)".to_owned()),
                ("fingerprint", tls.fingerprint.clone()),
                ("start_ms", begun.elapsed().as_millis().to_string()),
                ("version", VERSION.to_owned()),
            ],
        );
    }
}

/// Refuses what cannot work, warns of the rest.
fn check_machine(settings: &Settings, data: &DataDir, cores: usize, log: &Logger) -> Result<(), RunError> {
    for check in preflight::run(data.path(), cores, settings.free_bytes_min) {
        match check.verdict {
            Verdict::Ok => {}
            // A full disk still serves readers, deletes and retention.
            Verdict::Fail if check.name != preflight::FREE_SPACE => {
                return Err(RunError::Machine { name: check.name, found: check.found, fix: check.fix });
            }
            Verdict::Warn | Verdict::Fail => {
                log.warn(
                    "machine",
                    &[("check", check.name.to_owned()), ("found", check.found), ("fix", check.fix)],
                );
            }
        }
    }
    Ok(())
}

/// What is listened on: the same port for both protocols.
struct Listeners {
    udp: UdpGroup,
    /// By core, one for each address.
    tcp: Vec<Vec<TcpListener>>,
    /// Of TCP.
    addresses: Vec<SocketAddr>,
}

fn bind(address: SocketAddr, cores: usize, log: &Logger) -> Result<Listeners, BindError> {
    let mut tries = 1;
    loop {
        let udp = bind_patiently(|| bind_group(address, cores))?;
        let first = match bind_patiently(|| bind_tcp_group(udp.address, cores)) {
            // The system chose it for UDP; another process has it for TCP.
            Err(BindError::InUse { .. }) if address.port() == 0 && tries < PORT_TRIES => {
                tries += 1;
                continue;
            }
            bound => bound?,
        };
        let mut groups = vec![first];
        if let Some(twin) = loopback_twin(udp.address) {
            match bind_tcp_group(twin, cores) {
                Ok(group) => groups.push(group),
                // Not asked for, and not everywhere: this machine may have one family only.
                Err(BindError::NotLocal { .. } | BindError::System { .. }) => {}
                Err(error @ (BindError::InUse { .. } | BindError::Forbidden { .. })) => {
                    log.warn("listen_partly", &[("why", error.to_string())]);
                }
            }
        }
        let addresses = groups.iter().map(|group| group.address).collect();
        let mut tcp: Vec<Vec<TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
        for group in groups {
            for (of_core, listener) in tcp.iter_mut().zip(group.listeners) {
                of_core.push(listener);
            }
        }
        return Ok(Listeners { udp, tcp, addresses });
    }
}

/// The port of a broker that was killed is free a moment after its process is gone: the kernel ends io_uring's
/// operations, which hold the sockets, in the background. So a port in use is asked for again for a while.
fn bind_patiently<T>(bind: impl Fn() -> Result<T, BindError>) -> Result<T, BindError> {
    let until = Instant::now() + PORT_RELEASE;
    loop {
        match bind() {
            Err(BindError::InUse { .. }) if Instant::now() < until => std::thread::sleep(PORT_RETRY),
            bound => return bound,
        }
    }
}

fn bind_http(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|e: std::io::Error| RunError::Http { address, why: e.to_string() })
}

fn server_tls(
    settings: &Settings,
    data: &DataDir,
    place: &Place,
    log: &Logger,
) -> Result<ServerTls, RunError> {
    let tls = match &settings.tls {
        Some(files) => certs::provided(files)?,
        None => {
            let host = place.advertised.rsplit_once(':').map_or("", |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let names = certs::names(&place.host_name, place.listen.ip(), host);
            certs::own(&data.tls(), data.identity().cluster_id, &names, utc::now_ms())?
        }
    };
    let mut fields = vec![("fingerprint", tls.fingerprint.clone())];
    fields.extend(tls.ca_file.as_ref().map(|path| ("ca_file", path.display().to_string())));
    fields.extend(tls.expires_ms.map(|ms| ("expires", utc::rfc3339(ms))));
    log.info(if tls.issued { "certificate_issued" } else { "certificate" }, &fields);
    Ok(tls)
}

fn node_config(
    settings: &Settings,
    data: &DataDir,
    cpus: Vec<usize>,
    listeners: Listeners,
    tls: &ServerTls,
    place: &Place,
    events: EventSink,
) -> Result<NodeConfig, RunError> {
    let memory_bytes = settings.memory_bytes.unwrap_or_else(|| {
        preflight::memory_bytes().map_or(MEMORY_BYTES_FALLBACK, |bytes| bytes / MEMORY_SHARE)
    });
    let identity = data.identity();
    let seed = u64::from_le_bytes(random::bytes().map_err(system("no random bytes"))?);
    let shard = ShardConfig {
        node: NodeId(settings.node_id),
        core: CoreId(0),
        cores: cpus.len() as u8,
        cluster_id: identity.cluster_id,
        incarnation: identity.incarnation,
        address: place.advertised.clone(),
        version: VERSION.to_owned(),
        seed,
        memory_bytes_max: (memory_bytes / cpus.len() as u64) as usize,
        free_bytes_min: settings.free_bytes_min,
        opens_max: OPENS_MAX,
        metadata_snapshot_bytes: engine_shard::METADATA_SNAPSHOT_BYTES,
        topic_defaults: settings.topic_defaults.clone(),
        offsets_partitions: settings.kafka.offsets_partitions,
        groups: groups_config(&settings.kafka),
    };
    // Half of the socket's buffer: the other half is for everyone else's packets.
    let receive_window = (listeners.udp.receive_buffer_bytes / 2).clamp(64 << 10, RECEIVE_WINDOW_BYTES_MAX);
    let quic = net_quic::ServerConfig {
        core: CoreId(0),
        tls: Arc::clone(&tls.config),
        secret: secret(data).map_err(system("tls/secret.key"))?,
        idle_timeout: IDLE_TIMEOUT,
        connections_max: CONNECTIONS_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
        receive_window_bytes: receive_window as u32,
        send_buffer_bytes: SEND_BUFFER_BYTES,
        seed: None,
    };
    let kafka = kafka_config(settings, data, place, cpus.len());
    Ok(NodeConfig {
        cpus,
        data: data.path().to_owned(),
        identity: data.identity_path(),
        udp: listeners.udp.sockets,
        tcp: listeners.tcp,
        shard,
        quic,
        kafka,
        disk: DiskConfig { spares_free_bytes_min: 2 * settings.free_bytes_min, ..DiskConfig::default() },
        spin_before_park: settings.spin,
        events,
    })
}

/// Segments that a core keeps open: one for each partition that is written to, or a write opens its file first. What
/// connections and everything else may need is left to them, but for half of the descriptors.
fn segments_open_max(open_files: u64, connections_max: u64, cores: usize) -> usize {
    let left = open_files.saturating_sub(connections_max + OTHER_FILES).max(open_files / 2);
    (left as usize / cores).clamp(SEGMENTS_OPEN_MIN, SEGMENTS_OPEN_MAX)
}

fn kafka_config(settings: &Settings, data: &DataDir, place: &Place, cores: usize) -> net_kafka::ServerConfig {
    let kafka = &settings.kafka;
    let mut told = kafka.told.clone();
    told.push(("log.dirs".to_owned(), data.path().display().to_string()));
    told.push(("listeners".to_owned(), place.kafka_listeners()));
    let advertise = settings.advertise.as_ref().map(|(host, port)| {
        // Port 0 asks for the port that was bound.
        (host.clone(), if *port == 0 { place.listen.port() } else { *port })
    });
    net_kafka::ServerConfig {
        core: CoreId(0),
        node: NodeId(settings.node_id),
        advertise,
        connections_max: kafka.connections_max.div_ceil(cores),
        request_bytes_max: kafka.request_bytes_max,
        idle_timeout: kafka.idle_timeout,
        auto_create_topics: kafka.auto_create_topics,
        partitions_default: kafka.partitions_default,
        replicas_default: kafka.replicas_default,
        topic_defaults: settings.topic_defaults.clone(),
        node_configs: told,
    }
}

fn groups_config(kafka: &KafkaSettings) -> GroupsConfig {
    GroupsConfig {
        session_timeout_min: kafka.session_timeout_min,
        session_timeout_max: kafka.session_timeout_max,
        initial_rebalance_delay: kafka.initial_rebalance_delay,
        members_max: kafka.group_members_max,
        offsets_retention: kafka.offsets_retention,
        metadata_bytes_max: kafka.offset_metadata_bytes_max,
        ..GroupsConfig::default()
    }
}

/// Logs what happens on the cores, and passes on what a start cannot live with.
fn event_sink(log: Logger, wake: mpsc::Sender<Wake>) -> EventSink {
    Arc::new(move |core: CoreId, event: Event| {
        if event.name == METADATA_UNUSABLE {
            let why = event.fields.iter().find(|(key, _)| *key == "why").map(|(_, why)| why.clone());
            let _ = wake.send(Wake::MetadataUnusable(why.unwrap_or_default()));
        }
        let mut fields = vec![("core", core.0.to_string())];
        fields.extend(event.fields);
        log.log(utc::now_ms(), event.level, event.name, &fields);
    })
}

/// The key of address tokens and stateless resets: kept over restarts, so that a client whose broker died
/// learns it from the first packet of the next one instead of from a timeout.
fn secret(data: &DataDir) -> std::io::Result<[u8; 32]> {
    let path: PathBuf = data.tls().join("secret.key");
    if let Some(secret) = std::fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(secret);
    }
    let secret: [u8; 32] = random::bytes()?;
    crate::replace::replace(&path, &secret, 0o600)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_leave_descriptors_to_connections() {
        assert_eq!(segments_open_max(1024, 10_000, 2), 256);
        assert_eq!(segments_open_max(20_000, 10_000, 1), 10_000);
        assert_eq!(segments_open_max(100_000, 10_000, 4), (100_000 - 10_000 - 512) / 4);
        assert_eq!(segments_open_max(1 << 20, 10_000, 4), SEGMENTS_OPEN_MAX);
        assert_eq!(segments_open_max(0, 10_000, 8), SEGMENTS_OPEN_MIN, "where the limit is not told");
    }
}
