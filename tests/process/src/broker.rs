//! One broker process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::Cli;
use crate::process::Done;
use crate::scrape;

/// For everything a healthy broker does at once; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a waiting test looks whether the process is still there.
const LOOK: Duration = Duration::from_millis(20);
const PORT_TRIES: usize = 5;

/// How to start it.
#[derive(Debug, Clone)]
pub struct Options {
    pub binary: PathBuf,
    pub data: PathBuf,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    /// `--cores`.
    pub cores: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// `ulimit -l`.
    pub memlock_kib: Option<u64>,
    /// User and group to run as.
    pub user: Option<u32>,
}

impl Options {
    /// Two cores, free ports, data in `<dir>/millstream-data`.
    pub fn new(dir: &Path) -> Options {
        Options {
            binary: crate::binary(),
            data: dir.join("millstream-data"),
            listen: free_port(),
            http: free_port(),
            cores: "2".to_string(),
            args: Vec::new(),
            env: Vec::new(),
            memlock_kib: None,
            user: None,
        }
    }

    #[must_use]
    pub fn cores(mut self, cores: impl ToString) -> Options {
        self.cores = cores.to_string();
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: impl ToString) -> Options {
        self.env.push((key.to_string(), value.to_string()));
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl ToString) -> Options {
        self.args.push(arg.to_string());
        self
    }

    /// The command as it will be run.
    pub fn command(&self) -> Command {
        let mut command = match self.memlock_kib {
            None => Command::new(&self.binary),
            Some(kib) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -l {kib} && exec \"$0\" \"$@\"")).arg(&self.binary);
                shell
            }
        };
        command.arg("serve").arg("--data").arg(&self.data).args(["--listen", &self.listen.to_string()]);
        command.args(["--http", &self.http.to_string(), "--cores", &self.cores]).args(&self.args);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("MILLSTREAM_") {
                command.env_remove(key);
            }
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// Running until it is told to end, or dropped.
#[derive(Debug)]
pub struct Broker {
    pub options: Options,
    /// From the start of the process to readiness, of the last start.
    pub ready_after: Duration,
    started: Instant,
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
    /// Kept, because the broker tells its end there too.
    notices: Arc<Notices>,
}

impl Broker {
    /// # Panics
    /// When it does not become ready. A port that was taken meanwhile is replaced.
    #[track_caller]
    pub fn start(mut options: Options) -> Broker {
        for _ in 0..PORT_TRIES {
            match Broker::try_start(options.clone()) {
                Ok(broker) => return broker,
                Err(done) if done.stderr.contains("in use") && done.stderr.contains("port") => {
                    options.listen = free_port();
                    options.http = free_port();
                }
                Err(done) => panic!("broker did not start: {:?}\n{}", done.code, done.stderr),
            }
        }
        panic!("no free port in {PORT_TRIES} tries")
    }

    /// Waits for readiness, or for the end of the process.
    #[track_caller]
    pub fn try_start(options: Options) -> Result<Broker, Done> {
        let command = options.command();
        Broker::launch(options, command)
    }

    /// The same with a command that was altered, or on a thread whose children are restricted.
    #[track_caller]
    pub fn launch(options: Options, command: Command) -> Result<Broker, Done> {
        let mut broker = Broker::spawn(options, command);
        broker.wait_for_readiness()?;
        Ok(broker)
    }

    /// Does not wait for anything.
    #[track_caller]
    pub fn spawn(options: Options, mut command: Command) -> Broker {
        let notices = Arc::new(Notices::bind());
        command.env("NOTIFY_SOCKET", &notices.path);
        let started = Instant::now();
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        let stderr = Arc::new(Mutex::new(String::new()));
        let reader = Some(follow(child.stderr.take().expect("piped"), Arc::clone(&stderr)));
        Broker { options, ready_after: Duration::ZERO, started, child, stderr, reader, notices }
    }

    /// Or for the end of the process.
    ///
    /// # Panics
    /// When neither comes.
    #[track_caller]
    pub fn wait_for_readiness(&mut self) -> Result<(), Done> {
        let notices = Arc::clone(&self.notices);
        while !notices.ready_within(LOOK) {
            let took = self.started.elapsed();
            if let Some(status) = self.child.try_wait().expect("own child") {
                return Err(self.done(status, took));
            }
            assert!(took < DEADLINE, "not ready after {DEADLINE:?}\n{}", self.stderr());
        }
        self.ready_after = self.started.elapsed();
        Ok(())
    }

    pub fn cli(&self) -> Cli {
        Cli::new(self.options.listen, &self.options.data)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic while held").clone()
    }

    /// # Panics
    /// When the broker has not said it by then.
    #[track_caller]
    pub fn wait_for_stderr(&self, word: &str, deadline: Duration) {
        let start = Instant::now();
        while !self.stderr().contains(word) {
            assert!(start.elapsed() < deadline, "no '{word}' within {deadline:?}\n{}", self.stderr());
            thread::park_timeout(LOOK);
        }
    }

    /// No chance to say goodbye.
    pub fn kill9(&mut self) {
        self.child.kill().expect("own child");
        self.child.wait().expect("own child");
    }

    /// A process that waits for its disk does not end before that answers.
    pub fn kill9_without_waiting(&mut self) {
        self.child.kill().expect("own child");
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("own child");
    }

    /// Asks it to end and waits.
    ///
    /// # Panics
    /// When it is still there after `deadline`.
    #[track_caller]
    pub fn sigterm(&mut self, deadline: Duration) -> Done {
        let start = Instant::now();
        self.signal(Signal::SIGTERM);
        self.wait(start, deadline)
    }

    #[track_caller]
    pub fn wait(&mut self, start: Instant, deadline: Duration) -> Done {
        loop {
            if let Some(status) = self.child.try_wait().expect("own child") {
                return self.done(status, start.elapsed());
            }
            assert!(start.elapsed() < deadline, "still running after {deadline:?}\n{}", self.stderr());
            thread::park_timeout(LOOK);
        }
    }

    /// Starts it again on the same data and ports and kills it after `life`, ready or not.
    #[track_caller]
    pub fn restart_and_kill9(&mut self, life: Duration) {
        *self = Broker::spawn(self.options.clone(), self.options.command());
        thread::park_timeout(life);
        self.kill9();
    }

    /// Starts it again on the same data and ports; it must have ended.
    #[track_caller]
    pub fn restart(&mut self) {
        match Broker::try_start(self.options.clone()) {
            Ok(broker) => *self = broker,
            Err(done) => panic!("broker did not start again: {:?}\n{}", done.code, done.stderr),
        }
    }

    /// Nothing when the broker does not answer.
    pub fn metrics(&self) -> String {
        let (status, body) = scrape::get(self.options.http, "/metrics").expect("metrics are served");
        assert_eq!(status, 200);
        body
    }

    /// Where each of its threads is in the kernel, for a failing test to print. Root sees it.
    pub fn kernel_stacks(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("own child");
        let of_task = |task: fs::DirEntry| {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            format!("{}{}", read("comm"), read("stack"))
        };
        tasks.filter_map(Result::ok).map(of_task).collect()
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("own child");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has one");
        let kib: u64 =
            line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
        kib * 1024
    }

    fn done(&mut self, status: ExitStatus, took: Duration) -> Done {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        Done { code: status.code(), stdout: Vec::new(), stderr: self.stderr(), took }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- broker said:\n{}", self.stderr());
        }
    }
}

/// A port that was free a moment ago for both UDP and TCP.
pub fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = tcp.local_addr().expect("bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Where the broker tells that it is ready, as it would tell systemd.
#[derive(Debug)]
struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Notices {
    fn bind() -> Notices {
        // Paths of sockets are short: not below target/.
        let dir = tempfile::Builder::new().prefix("ms-").tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        // Brokers that run as another user tell it too.
        let open =
            |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777));
        open(dir.path()).and_then(|()| open(&path)).expect("own files");
        Notices { socket, path, _dir: dir }
    }

    fn ready_within(&self, wait: Duration) -> bool {
        self.socket.set_read_timeout(Some(wait)).expect("not zero");
        let mut buffer = [0; 4096];
        let received = self.socket.recv(&mut buffer);
        received.is_ok_and(|bytes| {
            String::from_utf8_lossy(&buffer[..bytes]).lines().any(|line| line == "READY=1")
        })
    }
}

fn follow(pipe: impl std::io::Read + Send + 'static, into: Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let mut text = into.lock().expect("no panic while held");
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
        }
    })
}
