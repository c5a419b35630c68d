//! The binary: everything is in the library beside it.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    millstream_cli::run()
}
