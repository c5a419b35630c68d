//! The broker as a process: what the harness in `tests_process` starts, kills and feeds.

mod bench;
mod broken_disk;
mod chaos;
mod client_errors;
mod clock;
mod cores;
mod damage;
mod full_disk;
mod groups;
mod hostile;
mod kafka_port;
mod kill;
mod memory;
mod pause;
mod round_trip;
mod sdk;
mod space;
mod stall;
mod start;
mod start_errors;
mod stop;
mod tampering;
mod verify;
