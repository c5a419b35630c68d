//! `signal.rs` and `mesh.rs` under loom: every order in which threads may take locks and see each other's writes, up to
//! a bound on how often a thread is interrupted. A wake that goes missing shows as threads that all wait, which loom
//! reports as a deadlock.
//!
//! Not explored: `Arc`, which is the standard library's, and time: a wait with a timeout waits for ever.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use engine_api::{CoreId, ReplySlot};
use engine_turn::Message;
use loom::future::block_on;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

use crate::mesh::{Mesh, MeshEnd};
use crate::signal::{Doorbell, Latch};
use crate::sync::Ordering;

#[path = "../src/mesh.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod mesh;
#[path = "../src/signal.rs"]
#[allow(dead_code, unused_imports)]
mod signal;

/// What loom has for `src/sync.rs`.
mod sync {
    use std::sync::{LockResult, PoisonError};
    use std::time::Duration;

    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            _: Duration,
            mut waits: impl FnMut(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, ())> {
            while waits(&mut guard) {
                guard = self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            Ok((guard, ()))
        }
    }
}

/// Beyond three interruptions of a thread almost nothing new is found, and the orders are too many.
const INTERRUPTIONS_MAX: usize = 3;

fn main() {
    let models: [(&str, fn()); 5] = [
        ("what was done before a ring is seen by whoever hears it", one_ringer),
        ("rings of several threads are never lost", two_ringers),
        ("a latch keeps its first value for all who wait", latch),
        ("messages cross a full link in order and nobody sleeps over them", full_link),
        ("cores that send to each other through full links both end", full_links),
    ];
    for (name, model) in models {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(INTERRUPTIONS_MAX);
        builder.check(model);
        println!("{name} ... ok");
    }
}

fn hear(doorbell: &Doorbell) {
    block_on(poll_fn(|context| doorbell.poll(context)));
}

fn one_ringer() {
    const RINGS: usize = 3;
    let (doorbell, done) = (Arc::new(Doorbell::default()), Arc::new(AtomicUsize::new(0)));
    let ringer = thread::spawn({
        let (doorbell, done) = (Arc::clone(&doorbell), Arc::clone(&done));
        move || {
            for count in 1..=RINGS {
                done.store(count, Ordering::Relaxed);
                doorbell.ring();
            }
        }
    });
    let mut heard = 0;
    while done.load(Ordering::Relaxed) < RINGS {
        hear(&doorbell);
        heard += 1;
        assert!(heard <= RINGS, "heard more often than rung");
    }
    ringer.join().unwrap();
    doorbell.leave();
}

fn two_ringers() {
    let (doorbell, done) = (Arc::new(Doorbell::default()), Arc::new(AtomicUsize::new(0)));
    let ringers = [1, 2].map(|bit| {
        let (doorbell, done) = (Arc::clone(&doorbell), Arc::clone(&done));
        thread::spawn(move || {
            done.fetch_or(bit, Ordering::Relaxed);
            doorbell.ring();
        })
    });
    while done.load(Ordering::Relaxed) != 3 {
        hear(&doorbell);
    }
    ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
}

fn latch() {
    let latch = Arc::new(Latch::default());
    let setter = thread::spawn({
        let latch = Arc::clone(&latch);
        move || latch.set(1)
    });
    let sleeper = thread::spawn({
        let latch = Arc::clone(&latch);
        move || latch.wait_timeout(Duration::ZERO).unwrap()
    });
    latch.set(2);
    let seen = block_on(Arc::clone(&latch).wait());
    assert!(seen == 1 || seen == 2);
    assert_eq!(sleeper.join().unwrap(), seen);
    setter.join().unwrap();
    assert_eq!(latch.value(), Some(seen));
}

fn full_link() {
    let mesh = Arc::new(Mesh::new(2, 1));
    let sender = core(&mesh, 0, 3, 0);
    core(&mesh, 1, 0, 3).join().unwrap();
    sender.join().unwrap();
}

fn full_links() {
    let mesh = Arc::new(Mesh::new(2, 1));
    let zero = core(&mesh, 0, 2, 2);
    core(&mesh, 1, 2, 2).join().unwrap();
    zero.join().unwrap();
}

/// A core's loop, reduced to its messages: it sends `sends` to the other, and ends when it has seen `receives`.
fn core(mesh: &Arc<Mesh>, me: u8, sends: u64, receives: usize) -> thread::JoinHandle<()> {
    let mesh = Arc::clone(mesh);
    thread::spawn(move || {
        let mut end = MeshEnd::new(Arc::clone(&mesh), CoreId(me));
        let mut outbox: VecDeque<Message> =
            (0..sends).map(|key| Message::Cancel(ReplySlot { core: CoreId(me), key })).collect();
        let mut inbox = VecDeque::new();
        loop {
            end.receive(&mut inbox);
            end.offer(CoreId(1 - me), &mut outbox);
            if outbox.is_empty() && inbox.len() == receives {
                break;
            }
            hear(&mesh.doorbells[usize::from(me)]);
        }
        mesh.doorbells[usize::from(me)].leave();
        let keys = inbox.iter().map(|message| {
            let Message::Cancel(slot) = message else { panic!("{message:?}") };
            slot.key
        });
        assert!(keys.eq(0..receives as u64), "in order");
    })
}
