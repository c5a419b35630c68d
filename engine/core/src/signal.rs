//! Waking: within a core, from one core to another, and between cores and other threads.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering};

/// Locks whatever happened to the thread that held it last: what these locks guard is whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes one task of the same executor. Rings before and while it listens are remembered as one.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.rung.take() {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) async fn heard(&self) {
        poll_fn(|context| self.poll(context)).await;
    }
}

/// Wakes one task of an executor from any thread.
///
/// The executor's wakers count their references in 16 bits and queue every wake from outside, so the waker is
/// taken out by the one ring that uses it: however often others ring, one wake is under way.
#[derive(Default)]
pub(crate) struct Doorbell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Doorbell {
    pub(crate) fn ring(&self) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        // After the flag: a listener that has not left its waker yet looks at the flag again once it has.
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        *lock(&self.waker) = Some(context.waker().clone());
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The listener's executor is about to end: its waker must not outlive it here.
    pub(crate) fn leave(&self) {
        *lock(&self.waker) = None;
    }
}

/// A value that is set once and may be waited for by many, on any executor or thread.
pub(crate) struct Latch<T> {
    state: Mutex<LatchState<T>>,
    set: Condvar,
}

struct LatchState<T> {
    value: Option<T>,
    wakers: Vec<Waker>,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self { state: Mutex::new(LatchState { value: None, wakers: Vec::new() }), set: Condvar::new() }
    }
}

impl<T: Clone> Latch<T> {
    /// The first value stays.
    pub(crate) fn set(&self, value: T) {
        let mut state = lock(&self.state);
        if state.value.is_some() {
            return;
        }
        state.value = Some(value);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.set.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn value(&self) -> Option<T> {
        lock(&self.state).value.clone()
    }

    pub(crate) async fn wait(self: Arc<Self>) -> T {
        poll_fn(|context| {
            let mut state = lock(&self.state);
            if let Some(value) = &state.value {
                return Poll::Ready(value.clone());
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                state.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Waits on this thread. `None`: not set in time.
    pub(crate) fn wait_timeout(&self, timeout: Duration) -> Option<T> {
        let state = lock(&self.state);
        let waited = self.set.wait_timeout_while(state, timeout, |state| state.value.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.value.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn a_ring_before_listening_is_heard_once() {
        let (bell, doorbell) = (Bell::default(), Doorbell::default());
        bell.ring();
        bell.ring();
        assert_eq!(block_on(poll_once(bell.heard())), Some(()));
        assert_eq!(block_on(poll_once(bell.heard())), None);
        doorbell.ring();
        doorbell.ring();
        let heard = || block_on(poll_once(poll_fn(|context| doorbell.poll(context))));
        assert_eq!(heard(), Some(()));
        assert_eq!(heard(), None);
    }

    #[test]
    fn rings_from_other_threads_are_never_lost() {
        let doorbell = Arc::new(Doorbell::default());
        let answered = Arc::new(Doorbell::default());
        let ringer = std::thread::spawn({
            let (doorbell, answered) = (Arc::clone(&doorbell), Arc::clone(&answered));
            move || {
                for _ in 0..10_000 {
                    doorbell.ring();
                    block_on(poll_fn(|context| answered.poll(context)));
                }
            }
        });
        for _ in 0..10_000 {
            block_on(poll_fn(|context| doorbell.poll(context)));
            answered.ring();
        }
        ringer.join().unwrap();
    }

    #[test]
    fn a_latch_keeps_its_first_value_for_all_who_wait() {
        let latch = Arc::new(Latch::default());
        assert_eq!(latch.wait_timeout(Duration::from_millis(1)), None);
        let waiter = std::thread::spawn({
            let latch = Arc::clone(&latch);
            move || block_on(latch.wait())
        });
        latch.set(1);
        latch.set(2);
        assert_eq!(waiter.join().unwrap(), 1);
        assert_eq!(latch.wait_timeout(Duration::ZERO), Some(1));
        assert_eq!(block_on(latch.wait()), 1);
    }
}
