//! A wall clock that jumps, by a library put before libc's: the machine's own clock is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests_process::{Broker, Options, directory, lines};

use crate::verify;

const DAY_SECONDS: i64 = 86_400;

/// Adds the number in the file named by MS_CLOCK_OFFSET to the seconds of CLOCK_REALTIME.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *path = getenv("MS_CLOCK_OFFSET");
    if (clock != CLOCK_REALTIME || result != 0 || !path) return result;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return result;
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += strtoll(text, 0, 10);
    close(file);
    return result;
}
"#;

#[test]
fn jumps_of_a_day_either_way_lose_nothing() {
    let dir = directory();
    let offset = dir.path().join("offset");
    set(&offset, 0);
    let shim = build_shim(dir.path());
    let options =
        Options::new(dir.path()).env("LD_PRELOAD", shim.display()).env("MS_CLOCK_OFFSET", offset.display());
    let mut broker = Broker::start(options);
    let cli = broker.cli();
    cli.create("clock", 2);
    let mut all = Vec::new();
    for (round, days) in [1, -1, 0, 2, -2].into_iter().enumerate() {
        set(&offset, days * DAY_SECONDS);
        let sent: Vec<Vec<u8>> =
            lines::real(5_000).into_iter().map(|l| [format!("{round} ").into_bytes(), l].concat()).collect();
        cli.run_with(&["produce", "clock"], lines::joined(&sent)).expect(0);
        all.extend(sent);
        verify::whole_topic(&cli, "clock", 2, &all);
    }
    broker.kill9();
    set(&offset, -3 * DAY_SECONDS);
    broker.restart();
    verify::whole_topic(&cli, "clock", 2, &all);
    broker.sigterm(Duration::from_secs(10)).expect(0);
}

fn set(path: &Path, seconds: i64) {
    let new = path.with_extension("new");
    fs::write(&new, seconds.to_string()).unwrap();
    fs::rename(new, path).unwrap();
}

fn build_shim(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let done = compiler.output().expect("a C compiler");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    library
}
