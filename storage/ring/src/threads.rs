//! System calls that block, on a few threads of the core's own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ring::Ring;

type Job = Box<dyn FnOnce() + Send>;

/// Clones are the same threads, which end once all clones are gone and what they were given is done.
#[derive(Clone)]
pub struct Threads {
    jobs: Sender<Job>,
}

impl Threads {
    /// They may run on the processors that the calling thread may run on: to be made before that is pinned to one.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn new(name: &str, count: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count.max(1) {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&waiting))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `call` there and waits for what it returns, on the executor of `ring`.
    ///
    /// # Panics
    /// When `call` did.
    ///
    /// # Cancel safety
    /// What was begun is done.
    pub async fn run<T: Send + 'static>(&self, ring: &Ring, call: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, finisher) = ring.elsewhere();
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        self.begin(move || {
            // Dropped last, and by a panic too.
            let _finisher = finisher;
            let returned = call();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
        });
        done.await;
        let returned = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        returned.expect("a call that blocks does not panic")
    }

    /// Runs `call` there without waiting for it.
    pub fn begin(&self, call: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(call)).expect("the threads live as long as there is somebody to send");
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for it learns it by the result that is missing; the thread is there for others.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}
