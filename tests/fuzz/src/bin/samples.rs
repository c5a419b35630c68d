//! Writes the samples to `<directory>/<target>/`, to start or renew a corpus: `samples <directory>`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use tests_fuzz::mend::crc;
use tests_fuzz::samples::samples;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("samples <directory>");
        std::process::exit(2);
    };
    for sample in samples() {
        let directory = directory.join(sample.target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("sample-{:08x}", crc(&sample.bytes))), &sample.bytes)?;
    }
    Ok(())
}
