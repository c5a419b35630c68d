//! Ctrl-C: the first asks for an orderly end, the second ends the process.

use tokio::sync::watch;

use crate::failure::Failure;

/// As a shell counts a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

#[derive(Debug)]
pub(crate) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Needs a tokio runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (ask, asked) = watch::channel(false);
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            .map_err(|e| Failure::failed(format_args!("signals: {e}")))?;
        tokio::spawn(async move {
            signals.recv().await;
            let _ = ask.send(true);
            signals.recv().await;
            std::process::exit(INTERRUPTED);
        });
        Ok(Self { asked })
    }

    pub(crate) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Resolves with the first Ctrl-C, at once if it has been.
    pub(crate) async fn first(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending().await
        }
    }
}
