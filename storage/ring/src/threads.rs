//! System calls that block, on a few threads of the core's own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ring::Ring;

type Job = Box<dyn FnOnce() + Send>;

/// Lives on: one executor. Its threads end once it is gone and what it was given is done.
pub struct Threads {
    ring: Ring,
    jobs: Sender<Job>,
}

impl Threads {
    /// # Errors
    /// When the system has no more threads.
    pub fn new(ring: Ring, name: &str, count: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count.max(1) {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&waiting))?;
        }
        Ok(Self { ring, jobs })
    }

    /// Runs `call` there and waits for what it returns. `call` must not panic.
    ///
    /// # Panics
    /// When it did.
    ///
    /// # Cancel safety
    /// What was begun is done.
    pub async fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, finisher) = self.ring.elsewhere();
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        self.begin(move || {
            let returned = call();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
            drop(finisher);
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
        job();
    }
}
