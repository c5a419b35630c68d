//! A case under callgrind: this program again, as a process of its own that does nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::case::Case;
use crate::meter::COUNTED_FUNCTION;

/// glibc copies by loops of vector moves. Left alone it takes one instruction for all of a large copy where the
/// processor is good at that, which callgrind counts once a byte, and goes around the caches from a size on that
/// follows from theirs.
const SAME_COPIES: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM:glibc.cpu.x86_non_temporal_threshold=0x1000000";

/// What one step of a case took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    pub name: &'static str,
    pub instructions: u64,
    pub records: u32,
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    #[error("valgrind is needed: apt-get install valgrind")]
    NoValgrind,
    #[error("starting valgrind: {0}")]
    Start(io::Error),
    #[error("{case} failed under valgrind:\n{said}")]
    Failed { case: &'static str, said: String },
    #[error("{case}: callgrind counted nothing; it said:\n{said}")]
    Nothing { case: &'static str, said: String },
}

/// Takes seconds. `keep`: where callgrind's profile goes, for `callgrind_annotate`.
///
/// # Errors
/// [`CountError`].
pub fn count(case: &Case, keep: Option<&Path>) -> Result<Cost, CountError> {
    let program = std::env::current_exe().map_err(CountError::Start)?;
    let out = keep.map_or_else(|| PathBuf::from("/dev/null"), Path::to_owned);
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={COUNTED_FUNCTION}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["run", case.name])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", SAME_COPIES)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                CountError::NoValgrind
            } else {
                CountError::Start(error)
            }
        })?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(CountError::Failed { case: case.name, said });
    }
    match collected(&said) {
        None | Some(0) => Err(CountError::Nothing { case: case.name, said }),
        Some(all) => {
            let instructions = all.div_ceil(u64::from(case.steps));
            Ok(Cost { name: case.name, instructions, records: case.records })
        }
    }
}

/// From `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_found_in_what_callgrind_says() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 1755\n==1== \n"), Some(1755));
        assert_eq!(collected("==1== Events    : Ir\n"), None);
    }
}
