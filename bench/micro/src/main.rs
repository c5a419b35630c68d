//! `millstream-micro`; everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    bench_micro::command::main()
}
