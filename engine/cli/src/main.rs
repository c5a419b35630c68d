#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    millstream_cli::run()
}
