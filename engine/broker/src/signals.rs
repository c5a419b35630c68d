//! SIGTERM and SIGINT, taken by a plain thread instead of interrupting any other.
//!
//! The first one asks to stop, which has a deadline of its own. After it a SIGTERM says nothing new and is
//! ignored: supervisors repeat it (`timeout` signals both the process and its group), and an end that is cut
//! short loses what topics with `write.caching` have acknowledged and not yet written. A SIGINT after it is a
//! person who has seen it stopping and will not wait: it ends the process at once, with that loss.

use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// Proof that the signals are blocked in this thread and all it starts from now on.
#[derive(Debug)]
pub(crate) struct Blocked {
    set: SigSet,
}

/// Blocks them. To be called before the first thread is started.
///
/// # Errors
/// The system's.
pub(crate) fn block() -> std::io::Result<Blocked> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    Ok(Blocked { set })
}

impl Blocked {
    /// Waits for them on a thread of its own; `first` is told the first one's name.
    ///
    /// # Errors
    /// The system's: no thread to be had.
    pub(crate) fn watch(self, first: impl FnOnce(&'static str) + Send + 'static) -> std::io::Result<()> {
        let wait = move || {
            let Ok(signal) = self.set.wait() else { return };
            first(signal.as_str());
            while let Ok(signal) = self.set.wait() {
                if signal == Signal::SIGINT {
                    std::process::exit(128 + signal as i32);
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait).map(|_| ())
    }
}
