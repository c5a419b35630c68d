//! Operations under way: who waits for each, and what must live until the kernel is done with it.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

use crate::aligned::Aligned;

/// What the kernel may still touch.
#[expect(dead_code, reason = "held for as long as it lives, not looked at")]
pub(crate) enum Held {
    Nothing,
    File(Rc<dyn AsFd>),
    Written(Rc<dyn AsFd>, Rc<Aligned>),
    Read(Rc<dyn AsFd>, Rc<Aligned>),
}

pub(crate) enum State {
    Waiting(Option<Waker>),
    Done(i32),
    /// Nobody waits any more.
    Abandoned,
}

pub(crate) struct Op {
    pub(crate) state: State,
    pub(crate) held: Held,
}

#[derive(Default)]
pub(crate) struct Ops {
    slab: Slab<Op>,
}

impl Ops {
    pub(crate) fn begin(&mut self, held: Held) -> u64 {
        self.slab.insert(Op { state: State::Waiting(None), held }) as u64
    }

    pub(crate) fn get(&mut self, id: u64) -> &mut Op {
        &mut self.slab[id as usize]
    }

    pub(crate) fn end(&mut self, id: u64) -> Op {
        self.slab.remove(id as usize)
    }

    /// Returns who is to be woken.
    pub(crate) fn on_done(&mut self, id: u64, result: i32) -> Option<Waker> {
        let op = &mut self.slab[id as usize];
        match std::mem::replace(&mut op.state, State::Done(result)) {
            State::Waiting(waker) => waker,
            State::Abandoned => {
                self.slab.remove(id as usize);
                None
            }
            State::Done(_) => unreachable!("an operation is answered once"),
        }
    }

    /// The kernel may still write to or read from memory of ours.
    pub(crate) fn holds_memory(&self) -> bool {
        self.slab.iter().any(|(_, op)| {
            matches!(op.held, Held::Written(..) | Held::Read(..)) && !matches!(op.state, State::Done(_))
        })
    }
}
