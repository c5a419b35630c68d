//! `millstream log`: a log's files on disk, read without a broker and never changed.
//!
//! What the bytes mean is `storage/log`'s to say ([`storage_log::inspect`]); here are files, directories and
//! what is printed.

mod dump;
mod files;
mod verify;

use crate::args::{Format, LogCommand};
use crate::failure::Failure;

pub(crate) fn run(command: &LogCommand, format: Format) -> Result<(), Failure> {
    match command {
        LogCommand::Verify(args) => verify::run(&args.dir, format),
        LogCommand::Dump(args) => dump::run(&args.file, format),
    }
}
