//! Operations as futures, timers, and the loop that drives an executor's tasks.
//!
//! What must hold: whatever the kernel was given stays alive until it answers, however early its future is dropped;
//! the core sleeps only when no task is runnable; it looks at answers after every round of tasks, so tasks that keep
//! each other busy keep nobody from the disk.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::alarm::Alarm;
use crate::aligned::Aligned;
use crate::ops::{Held, Ops, State};

/// Submissions that leave at once; more leave in between.
const ENTRIES: u32 = 256;
/// Answers that wait in shared memory; more wait in the kernel's.
const ANSWERS: u32 = 4096;

/// Marks of answers that no operation waits for.
const ALARM: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// Clones are the same ring. Lives on: the thread it was made on.
#[derive(Clone)]
pub struct Ring {
    inner: Rc<Inner>,
}

struct Inner {
    uring: RefCell<IoUring>,
    ops: RefCell<Ops>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    timers_made: Cell<u64>,
    alarm: Arc<Alarm>,
    /// The kernel watches the alarm's descriptor.
    is_alarm_watched: Cell<bool>,
    /// Polls of tasks so far: who sees no other between two of its own knows that nobody else is runnable.
    polls: Cell<u64>,
    spin: Duration,
    /// Looking for answers and sleeping, with nothing else to do.
    idle: Cell<Duration>,
    answers: RefCell<Vec<(u64, i32)>>,
    done: RefCell<Vec<u64>>,
}

impl Ring {
    /// `spin`: how long it looks for answers before it sleeps.
    ///
    /// # Errors
    /// Those of `io_uring_setup`.
    pub fn new(spin: Duration) -> io::Result<Self> {
        let inner = Inner {
            uring: RefCell::new(make()?),
            ops: RefCell::default(),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            alarm: Arc::new(Alarm::new()?),
            is_alarm_watched: Cell::new(false),
            polls: Cell::new(0),
            spin,
            idle: Cell::default(),
            answers: RefCell::default(),
            done: RefCell::default(),
        };
        Ok(Self { inner: Rc::new(inner) })
    }

    /// Runs `future` and all tasks of [`spawn`](Self::spawn) until `future` is done. Every task on this executor must
    /// have been spawned so, and nothing may wait for the runtime's own reactor, which is not looked at meanwhile.
    pub async fn drive<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Woken { flag: AtomicBool::new(true), alarm: Arc::clone(&self.inner.alarm) });
        let waker = Waker::from(Arc::clone(&woken));
        let mut polls_seen = self.inner.polls.get();
        poll_fn(move |context| {
            let has_run = woken.flag.swap(false, Ordering::SeqCst);
            if has_run && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                // What was given up last is cancelled, so that nothing of it is left in the kernel.
                self.inner.turn(false);
                return Poll::Ready(output);
            }
            let polls = self.inner.polls.get();
            let is_idle = !has_run && polls == polls_seen && !woken.flag.load(Ordering::SeqCst);
            polls_seen = polls;
            self.inner.turn(is_idle);
            // Behind every task that is runnable now.
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// A task beside the one that is driven.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> glommio::Task<T> {
        let inner = Rc::clone(&self.inner);
        glommio::spawn_local(async move {
            // Declared first, dropped last: what the future wakes when it is cancelled is counted too.
            let counted = Counted(inner);
            let mut future = pin!(future);
            poll_fn(|context| {
                counted.count();
                future.as_mut().poll(context)
            })
            .await
        })
    }

    /// Waits until `file` can be read from, or says so at once; errors and ends count as readable.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn readable(&self, file: Rc<dyn AsFd>) -> io::Result<()> {
        self.poll(file, libc::POLLIN | libc::POLLRDHUP).await
    }

    /// As [`readable`](Self::readable), for writing.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn writable(&self, file: Rc<dyn AsFd>) -> io::Result<()> {
        self.poll(file, libc::POLLOUT).await
    }

    /// Writes the first `bytes` of `memory` at `position`. Returns how many were written.
    ///
    /// # Errors
    /// Those of the system.
    ///
    /// # Cancel safety
    /// What was begun is done.
    pub async fn write(
        &self,
        file: Rc<dyn AsFd>,
        memory: Rc<Aligned>,
        bytes: usize,
        position: u64,
    ) -> io::Result<usize> {
        let descriptor = types::Fd(file.as_fd().as_raw_fd());
        let length = u32::try_from(memory[..bytes].len()).expect("less than 4 GiB at a time");
        let entry = opcode::Write::new(descriptor, memory.as_ptr(), length).offset(position).build();
        // SAFETY: the descriptor and the memory of at least `length` bytes are held with the operation until the
        // kernel has answered; the memory is shared with readers only.
        let op = unsafe { self.begin(&entry, Held::Written(file, memory)) };
        op.await.0
    }

    /// Reads up to `bytes` from `position` on to the start of `memory`; gives it back with how many were read.
    ///
    /// # Errors
    /// Those of the system; the memory is gone.
    ///
    /// # Panics
    /// When somebody else holds `memory`.
    ///
    /// # Cancel safety
    /// The memory is gone.
    pub async fn read(
        &self,
        file: Rc<dyn AsFd>,
        mut memory: Rc<Aligned>,
        bytes: usize,
        position: u64,
    ) -> io::Result<(Rc<Aligned>, usize)> {
        let descriptor = types::Fd(file.as_fd().as_raw_fd());
        let into = &mut Rc::get_mut(&mut memory).expect("nobody else looks at it meanwhile")[..bytes];
        let length = u32::try_from(into.len()).expect("less than 4 GiB at a time");
        let entry = opcode::Read::new(descriptor, into.as_mut_ptr(), length).offset(position).build();
        // SAFETY: the descriptor and the memory of `length` bytes are held with the operation until the kernel has
        // answered, and nobody else has the memory.
        let op = unsafe { self.begin(&entry, Held::Read(file, memory)) };
        let (read, held) = op.await;
        let Held::Read(_, memory) = held else { unreachable!("what was held is given back") };
        Ok((memory, read?))
    }

    /// Waits until what was written to `file` is on stable storage.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn sync_data(&self, file: Rc<dyn AsFd>) -> io::Result<()> {
        let descriptor = types::Fd(file.as_fd().as_raw_fd());
        let entry = opcode::Fsync::new(descriptor).flags(types::FsyncFlags::DATASYNC).build();
        // SAFETY: takes no memory; the descriptor is held until the kernel has answered.
        let op = unsafe { self.begin(&entry, Held::File(file)) };
        op.await.0.map(drop)
    }

    /// Sets `from..to` of `file` aside, making it longer where it ends before `to`; what was never written there reads as
    /// zeros. Durable once [`sync_data`](Self::sync_data) has followed.
    ///
    /// # Errors
    /// Those of the system; file systems that cannot say `EOPNOTSUPP`.
    ///
    /// # Cancel safety
    /// What was begun is done.
    pub async fn set_aside(&self, file: Rc<dyn AsFd>, from: u64, to: u64) -> io::Result<()> {
        let descriptor = types::Fd(file.as_fd().as_raw_fd());
        let entry = opcode::Fallocate::new(descriptor, to - from).offset(from).build();
        // SAFETY: takes no memory; the descriptor is held until the kernel has answered.
        let op = unsafe { self.begin(&entry, Held::File(file)) };
        op.await.0.map(drop)
    }

    /// Waits so long, at least.
    pub async fn sleep(&self, duration: Duration) {
        let mut timer = Timer { ring: self, due: Instant::now() + duration, id: None };
        poll_fn(|context| timer.poll(context)).await;
    }

    /// Something that another thread does: it is done once the second value is dropped.
    pub fn elsewhere(&self) -> (impl Future<Output = ()> + use<>, Finisher) {
        let id = self.inner.ops.borrow_mut().begin(Held::Nothing);
        let finisher = Finisher { id, alarm: Arc::clone(&self.inner.alarm) };
        let op = Pending { ring: self.clone(), id: Some(id), is_cancelled_when_dropped: false };
        (async move { drop(op.await) }, finisher)
    }

    /// How long there was nothing to do, since it was made.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.inner.idle.get()
    }

    /// # Safety
    /// What `entry` points to must be in `held`, or live as long as the ring.
    unsafe fn begin(&self, entry: &squeue::Entry, held: Held) -> Pending {
        let id = self.inner.ops.borrow_mut().begin(held);
        // SAFETY: as promised by the caller.
        unsafe { self.inner.push(&entry.clone().user_data(id)) };
        Pending { ring: self.clone(), id: Some(id), is_cancelled_when_dropped: false }
    }

    async fn poll(&self, file: Rc<dyn AsFd>, events: i16) -> io::Result<()> {
        let descriptor = types::Fd(file.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(descriptor, events as u32).build();
        // SAFETY: takes no memory; the descriptor is held until the kernel has answered.
        let mut op = unsafe { self.begin(&entry, Held::File(file)) };
        op.is_cancelled_when_dropped = true;
        op.await.0.map(drop)
    }
}

impl Inner {
    /// Hands over what was asked for and takes answers; sleeps before if there is nothing else to do.
    fn turn(&self, is_idle: bool) {
        let now = Instant::now();
        let next = self.timers.borrow().first_key_value().map(|(key, _)| key.0);
        let wait = next.map(|due| due.saturating_duration_since(now));
        let mut sleeps = is_idle && wait != Some(Duration::ZERO) && self.answers.borrow().is_empty();
        if sleeps && !self.spin.is_zero() {
            sleeps = !self.spin(now, next);
        }
        self.watch_alarm();
        if sleeps {
            sleeps = self.alarm.may_sleep();
        }
        self.enter(sleeps, wait);
        self.alarm.awake();
        let after = Instant::now();
        if is_idle {
            self.idle.set(self.idle.get() + after.duration_since(now));
        }
        self.take_answers();
        if self.alarm.take_rung() {
            self.take_done();
        }
        self.fire(after);
    }

    /// Returns whether something came.
    fn spin(&self, since: Instant, next: Option<Instant>) -> bool {
        self.enter(false, None);
        loop {
            {
                let mut uring = self.uring.borrow_mut();
                if !uring.completion().is_empty() || uring.submission().taskrun() {
                    return true;
                }
            }
            let now = Instant::now();
            if self.alarm.is_rung() || next.is_some_and(|due| due <= now) {
                return true;
            }
            if now.duration_since(since) >= self.spin {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    fn enter(&self, sleeps: bool, wait: Option<Duration>) {
        let mut uring = self.uring.borrow_mut();
        let waiting = {
            let mut submission = uring.submission();
            submission.sync();
            !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
        };
        let entered = if sleeps {
            match wait {
                None => uring.submitter().submit_and_wait(1),
                Some(wait) => {
                    let timeout = types::Timespec::from(wait);
                    uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timeout))
                }
            }
        } else if waiting {
            let to_submit = uring.submission().len() as u32;
            const GETEVENTS: u32 = 1;
            // SAFETY: no argument is given; entries in the queue hold what they point to (`push`).
            unsafe { uring.submitter().enter::<libc::sigset_t>(to_submit, 0, GETEVENTS, None) }
        } else {
            return;
        };
        if let Err(error) = entered {
            assert!(is_passing(&error), "io_uring_enter: {error}");
        }
    }

    /// # Safety
    /// What `entry` points to lives until the kernel has answered.
    unsafe fn push(&self, entry: &squeue::Entry) {
        let mut uring = self.uring.borrow_mut();
        loop {
            // SAFETY: as promised by the caller.
            if unsafe { uring.submission().push(entry) }.is_ok() {
                return;
            }
            if let Err(error) = uring.submit() {
                assert!(is_passing(&error), "io_uring_enter: {error}");
                // Kernels before 5.19 take nothing while answers have no room. Those are only put aside: who asks
                // must not find its own answered before it has waited.
                self.answers
                    .borrow_mut()
                    .extend(uring.completion().map(|entry| (entry.user_data(), entry.result())));
            }
        }
    }

    fn take_answers(&self) {
        let mut answers = self.answers.take();
        answers.extend(self.uring.borrow_mut().completion().map(|entry| (entry.user_data(), entry.result())));
        for (id, result) in answers.drain(..) {
            match id {
                CANCEL => {}
                ALARM => {
                    self.is_alarm_watched.set(false);
                    self.alarm.silence();
                }
                id => self.on_done(id, result),
            }
        }
        self.answers.replace(answers);
    }

    fn take_done(&self) {
        let mut done = self.done.take();
        self.alarm.take_done(&mut done);
        done.drain(..).for_each(|id| self.on_done(id, 0));
        self.done.replace(done);
    }

    fn on_done(&self, id: u64, result: i32) {
        let waker = self.ops.borrow_mut().on_done(id, result);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn fire(&self, now: Instant) {
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now) else { return };
            let waker = first.remove();
            drop(timers);
            waker.wake();
        }
    }

    fn watch_alarm(&self) {
        if self.is_alarm_watched.replace(true) {
            return;
        }
        let descriptor = types::Fd(self.alarm.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).build().user_data(ALARM);
        // SAFETY: takes no memory; the descriptor lives as long as the ring.
        unsafe { self.push(&entry) };
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.ops.borrow().holds_memory() {
            // The kernel may not be done with it: better lost than written to by a stranger.
            std::mem::forget(self.ops.take());
        }
    }
}

/// Counts that a task has run: when it is polled and when it is dropped, since both may wake others.
struct Counted(Rc<Inner>);

impl Counted {
    fn count(&self) {
        self.0.polls.set(self.0.polls.get() + 1);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count();
    }
}

/// Drop it when what it stands for is done.
pub struct Finisher {
    id: u64,
    alarm: Arc<Alarm>,
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.alarm.finish(self.id);
    }
}

/// Wakes the future that is driven, from any thread.
struct Woken {
    flag: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::SeqCst);
        self.alarm.ring();
    }
}

/// An operation under way.
struct Pending {
    ring: Ring,
    id: Option<u64>,
    is_cancelled_when_dropped: bool,
}

impl Future for Pending {
    type Output = (io::Result<usize>, Held);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id.expect("not polled again once it is done");
        let mut ops = self.ring.inner.ops.borrow_mut();
        let op = ops.get(id);
        match &mut op.state {
            State::Waiting(waker) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            State::Done(result) => {
                let result = *result;
                let held = ops.end(id).held;
                drop(ops);
                self.id = None;
                let answer = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                Poll::Ready((answer, held))
            }
            State::Abandoned => unreachable!("abandoned by being dropped"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let inner = &self.ring.inner;
        let mut ops = inner.ops.borrow_mut();
        if matches!(ops.get(id).state, State::Done(_)) {
            ops.end(id);
            return;
        }
        ops.get(id).state = State::Abandoned;
        drop(ops);
        if self.is_cancelled_when_dropped {
            let entry = opcode::AsyncCancel::new(id).build().user_data(CANCEL);
            // SAFETY: takes no memory.
            unsafe { inner.push(&entry) };
        }
    }
}

struct Timer<'a> {
    ring: &'a Ring,
    due: Instant,
    id: Option<u64>,
}

impl Timer<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let inner = &self.ring.inner;
        if let Some(id) = self.id
            && !inner.timers.borrow().contains_key(&(self.due, id))
        {
            self.id = None;
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| inner.timers_made.replace(inner.timers_made.get() + 1));
        inner.timers.borrow_mut().insert((self.due, id), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.ring.inner.timers.borrow_mut().remove(&(self.due, id));
        }
    }
}

/// Time is up, a signal came, or there are answers to be taken first: to be tried again after a look at those.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

/// Lets every other runnable task run, and the ring be looked at.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The best of what this kernel has: answers prepared in our own time (6.1), or without interrupting us (5.19).
fn make() -> io::Result<IoUring> {
    let best = IoUring::builder()
        .setup_cqsize(ANSWERS)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(ENTRIES);
    let good = best.or_else(|_| {
        IoUring::builder().setup_cqsize(ANSWERS).setup_coop_taskrun().setup_taskrun_flag().build(ENTRIES)
    });
    good.or_else(|_| IoUring::builder().setup_cqsize(ANSWERS).build(ENTRIES))
}

#[cfg(test)]
mod tests;
