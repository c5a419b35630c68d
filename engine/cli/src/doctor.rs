//! `millstream doctor`: the checks a broker makes at its start, each with its fix, and how fast the disk is.

use std::io;
use std::path::Path;

use bench_disk::{Glance, glance};
use engine_broker::Settings;
use engine_broker::preflight::{self, Check, Verdict};
use serde_json::json;

use crate::args::{DoctorArgs, Format};
use crate::failure::{Exit, Failure};
use crate::output::print;

pub(crate) fn run(args: &DoctorArgs, format: Format) -> Result<(), Failure> {
    let defaults = Settings::load(&engine_broker::Flags::default(), []).map_err(Failure::failed)?;
    let cores = defaults.cores.resolve().map_or(1, |cores| cores.len());
    let mut checks = preflight::run(&args.data, cores, defaults.free_bytes_min);
    checks.push(disk_speed(&args.data));
    print(format, || text(&checks), || json(&checks))?;
    let failed: Vec<&str> =
        checks.iter().filter(|check| check.verdict == Verdict::Fail).map(|check| check.name).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, format_args!("a broker would not run here: {}", failed.join(", "))))
    }
}

/// Above it an acknowledgement that waits for the disk is slow, whatever the broker does.
const SYNC_P99_US_MAX: f64 = 20_000.0;
/// Not measured with less free: the file would take some of what is left.
const FREE_BYTES_MIN: u64 = 256 << 20;

fn disk_speed(data: &Path) -> Check {
    let directory = preflight::existing_directory(data);
    let has_room = preflight::free_bytes(directory).is_ok_and(|free| free >= FREE_BYTES_MIN);
    let seen = if has_room { glance(directory) } else { Err(io::ErrorKind::StorageFull.into()) };
    seen.map_or_else(
        |error| Check {
            name: "disk_speed",
            verdict: Verdict::Warn,
            found: format!("{}: not measured: {error}", directory.display()),
            fix: "see io_uring, direct_io and free_space".to_owned(),
        },
        |glance| disk_check(&glance),
    )
}

fn disk_check(seen: &Glance) -> Check {
    let Glance { device, busy, sync, mb_per_second } = seen;
    let is_slow = sync.p99_us > SYNC_P99_US_MAX;
    let verdict = if is_slow { Verdict::Warn } else { Verdict::Ok };
    let ms = |us: f64| us / 1000.0;
    let found = format!(
        "durable 4 KiB write p50 {:.0} us, p99 {:.0} us; in order {mb_per_second:.0} MB/s: expect acknowledgements no \
         sooner than {:.2} ms, one in a hundred {:.2} ms; {device}; {busy}",
        sync.p50_us,
        sync.p99_us,
        ms(sync.p50_us),
        ms(sync.p99_us),
    );
    let fix =
        "put the data directory on an SSD with power-loss protection, or stop what else writes to this disk";
    let fix = if is_slow { fix.to_owned() } else { String::new() };
    Check { name: "disk_speed", verdict, found, fix }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    }
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!("{:<4}  {:<12}  {}\n", word(check.verdict), check.name, check.found));
        if !check.fix.is_empty() {
            text.push_str(&format!("{:20}fix: {}\n", "", check.fix));
        }
    }
    text
}

fn json(checks: &[Check]) -> serde_json::Value {
    let all = checks.iter().map(|check| {
        json!({"check": check.name, "verdict": word(check.verdict), "found": check.found, "fix": check.fix})
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use bench_disk::{Busy, Device, Disk, Latency};

    use super::*;

    #[test]
    fn a_disk_is_told_with_what_to_expect_and_a_slow_one_with_a_fix() {
        let seen = |p99_us| Glance {
            device: Device {
                file_system: "ext4".to_owned(),
                source: "/dev/x".to_owned(),
                disk: Disk {
                    name: "x".to_owned(),
                    model: "X".to_owned(),
                    write_cache: Some("write back".to_owned()),
                    rotational: Some(false),
                },
                note: "note",
            },
            busy: Busy { load_average: Some(0.5), cores: 2 },
            sync: Latency { count: 1000, p50_us: 95.4, p99_us, p999_us: p99_us, max_us: p99_us },
            mb_per_second: 2900.2,
        };
        let check = disk_check(&seen(150.0));
        assert_eq!((check.verdict, check.fix.as_str()), (Verdict::Ok, ""));
        assert_eq!(
            check.found,
            "durable 4 KiB write p50 95 us, p99 150 us; in order 2900 MB/s: expect acknowledgements no sooner than \
             0.10 ms, one in a hundred 0.15 ms; ext4 on /dev/x, write cache that durable writes flush; note; load \
             average 0.5 on 2 cores"
        );
        let check = disk_check(&seen(25_000.0));
        assert_eq!((check.verdict, check.fix.is_empty()), (Verdict::Warn, false));
    }

    #[test]
    fn a_check_that_is_not_well_is_followed_by_its_fix() {
        let check =
            |verdict, fix: &str| Check { name: "disk", verdict, found: "x".to_owned(), fix: fix.to_owned() };
        let checks = [check(Verdict::Ok, ""), check(Verdict::Fail, "buy one")];
        assert_eq!(
            text(&checks),
            "ok    disk          x\nfail  disk          x\n                    fix: buy one\n"
        );
        assert_eq!(json(&checks)[1]["verdict"], "fail");
    }
}
