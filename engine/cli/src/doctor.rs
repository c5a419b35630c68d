//! `millstream doctor`: the checks a broker makes at its start, and a few more, each with its fix.

use engine_broker::Settings;
use engine_broker::preflight::{self, Check, Verdict};
use serde_json::json;

use crate::args::{DoctorArgs, Format};
use crate::failure::{Exit, Failure};
use crate::output::print;

pub(crate) fn run(args: &DoctorArgs, format: Format) -> Result<(), Failure> {
    let defaults = Settings::load(&engine_broker::Flags::default(), []).map_err(Failure::failed)?;
    let cores = defaults.cores.resolve().map_or(1, |cores| cores.len());
    let checks = preflight::run(&args.data, cores, defaults.free_bytes_min);
    print(format, || text(&checks), || json(&checks))?;
    let failed: Vec<&str> =
        checks.iter().filter(|check| check.verdict == Verdict::Fail).map(|check| check.name).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, format_args!("a broker would not run here: {}", failed.join(", "))))
    }
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
    use super::*;

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
