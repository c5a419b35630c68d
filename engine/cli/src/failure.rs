//! How a command ends when it does not end well: an exit code, a message, and where there is one a hint.
//!
//! Every error of the SDK is given its exit code here and nowhere else. Matches name every case, so that a new
//! one is decided upon when it comes.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// The exit codes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok,
    Failed,
    Usage,
    NotFound,
    Timeout,
    /// Some of it was done.
    Partial,
}

impl Exit {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Timeout => 4,
            Self::Partial => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// Empty: nobody is to be told, as when the reader of a pipe has left.
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string(), hint: None }
    }

    pub fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// The reader of our output has left: an end like any other.
    #[must_use]
    pub fn reader_left() -> Self {
        Self { exit: Exit::Ok, message: String::new(), hint: None }
    }

    /// Of writing to stdout.
    #[must_use]
    pub fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::reader_left()
        } else {
            Self::failed(format_args!("stdout: {error}"))
        }
    }

    /// Prints message and hint to stderr.
    pub fn print(&self) {
        if !self.message.is_empty() {
            eprintln!("millstream: {}", self.message);
        }
        if let Some(hint) = &self.hint {
            eprintln!("{hint}");
        }
    }
}
