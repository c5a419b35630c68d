//! Starts that must fail, each with a message that names cause and remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use seccompiler::{SeccompAction, SeccompFilter, SeccompRule};
use tests_process::{Broker, Done, Options, directory};

/// Nobody, on every Linux.
const NOBODY: u32 = 65_534;
const IO_URING_CALLS: [i64; 3] = [425, 426, 427];

#[track_caller]
fn refused(options: Options) -> Done {
    match Broker::try_start(options) {
        Err(done) => done.expect(1),
        Ok(broker) => panic!("it started:\n{}", broker.stderr()),
    }
}

#[test]
fn a_port_in_use_is_named() {
    let dirs = [directory(), directory()];
    let first = Broker::start(Options::new(dirs[0].path()));
    let mut options = Options::new(dirs[1].path());
    options.listen = first.options.listen;
    refused(options).says(&[&first.options.listen.to_string(), "in use", "--listen"]);
    let mut options = Options::new(dirs[1].path());
    options.http = first.options.http;
    refused(options).says(&[&first.options.http.to_string(), "in use", "--http"]);
}

#[test]
fn a_locked_data_directory_is_left_alone() {
    let dir = directory();
    let first = Broker::start(Options::new(dir.path()));
    let second = Options::new(dir.path());
    refused(second).says(&["in use by another broker", &first.pid().to_string(), "--data"]);
    first.cli().create("still-works", 1);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut options = for_nobody(dir.path());
    options.data = dir.path().join("data");
    refused(options).says(&["cannot be written", "--data"]);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let dir = directory();
    let options = Options::new(dir.path());
    fs::create_dir_all(&options.data).unwrap();
    let identity = options.data.join("identity");
    let mut newer = b"MILLSTRM\x02\x00".to_vec();
    newer.resize(4096, 0);
    fs::write(&identity, &newer).unwrap();
    refused(options).says(&["format version 2", "newer"]);
    assert_eq!(fs::read(identity).unwrap(), newer);
}

#[test]
fn a_damaged_identity_is_refused() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.sigterm(std::time::Duration::from_secs(10)).expect(0);
    let identity = broker.options.data.join("identity");
    let mut bytes = fs::read(&identity).unwrap();
    bytes[20] ^= 1;
    fs::write(&identity, bytes).unwrap();
    refused(broker.options.clone()).says(&["identity", "damaged"]);
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.sigterm(std::time::Duration::from_secs(10)).expect(0);
    let options = broker.options.clone().env("MILLSTREAM_CLUSTER_ID", "000102030405060708090a0b0c0d0e0f");
    refused(options).says(&["another cluster", "000102030405060708090a0b0c0d0e0f"]);
}

#[test]
fn more_cores_than_there_are_is_refused() {
    let dir = directory();
    let there = thread::available_parallelism().unwrap().get();
    refused(Options::new(dir.path()).cores(there + 1)).says(&["core", &there.to_string()]);
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
    let dir = directory();
    let options = Options::new(dir.path()).env("MILLSTREAM_LISTEM", "127.0.0.1:1");
    refused(options).says(&["listem", "listen", "MILLSTREAM_LISTEM"]);
    let file = dir.path().join("node.toml");
    fs::write(&file, "[log]\nlevle = \"info\"\n").unwrap();
    let options = Options::new(dir.path()).arg("--config").arg(file.display());
    refused(options).says(&["log.levle", "log.level", "node.toml"]);
}

/// Charged to users without CAP_IPC_LOCK only, so it is tried as one of those.
#[test]
fn too_little_locked_memory_is_named_with_its_fix() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut options = for_nobody(dir.path());
    options.memlock_kib = Some(64);
    refused(options).says(&["memlock", "LimitMEMLOCK=infinity"]);
}

#[test]
fn forbidden_io_uring_is_named_with_its_fix() {
    let dir = directory();
    let options = Options::new(dir.path());
    let done = thread::spawn(move || {
        seccompiler::apply_filter(&without_io_uring()).unwrap();
        refused(options)
    });
    done.join().expect("refused").says(&["io_uring", "kernel.io_uring_disabled"]);
}

/// Answers the three calls of io_uring as a container's profile does.
fn without_io_uring() -> seccompiler::BpfProgram {
    let rules = IO_URING_CALLS.map(|call| (call, Vec::<SeccompRule>::new()));
    let arch = std::env::consts::ARCH.try_into().expect("an architecture seccompiler knows");
    let errno = SeccompAction::Errno(nix::errno::Errno::EPERM as u32);
    let filter = SeccompFilter::new(rules.into_iter().collect(), SeccompAction::Allow, errno, arch);
    filter.expect("a filter").try_into().expect("a program")
}

/// A manager that starts it again on failures is told apart: the same flags would be refused again.
#[test]
fn a_refused_flag_is_a_usage_error_and_a_refused_variable_is_not() {
    let dir = directory();
    for (flag, value) in
        [("--cores", "abc"), ("--cores", "0"), ("--advertise", "bad"), ("--log-level", "loud")]
    {
        let mut command = std::process::Command::new(tests_process::binary());
        command.args(["serve", flag, value]).current_dir(dir.path());
        let done = tests_process::process::run(command, Vec::new(), std::time::Duration::from_secs(10));
        done.expect(2).says(&[flag, value]);
    }
    let options = Options::new(dir.path()).env("MILLSTREAM_LOG__LEVEL", "loud");
    refused(options).says(&["loud", "MILLSTREAM_LOG__LEVEL"]);
}

/// Run by root, the broker is run as nobody, from a copy of the binary that nobody can reach.
fn for_nobody(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    if nix::unistd::geteuid().is_root() {
        let copy = dir.join("millstream");
        fs::copy(&options.binary, &copy).unwrap();
        options.binary = copy;
        options.user = Some(NOBODY);
    }
    options
}
