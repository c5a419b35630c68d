//! Questions that follow from one another: for each of many partitions, the next ask depends on the last answer.

use engine_api::{Request, Response};

use crate::api::{ASKS_MAX, Outcome, Pending};
use crate::context::Context;

/// One chain of asks, one of them open at a time.
pub(crate) trait Pursuit: Send {
    type Found: Send;

    fn answered(&mut self, response: Response) -> Next<Self::Found>;
}

#[expect(clippy::large_enum_variant, reason = "most are asks")]
pub(crate) enum Next<F> {
    Ask(Request),
    Found(F),
}

/// A chain with its first ask, or what is known at once.
#[expect(clippy::large_enum_variant, reason = "most are asks")]
pub(crate) enum Begun<P: Pursuit> {
    Ask(P, Request),
    Found(P::Found),
}

/// Runs all of `begun`; `then` gets what they found, in the same order.
pub(crate) fn pursue<P: Pursuit + 'static>(
    context: &mut Context<'_>,
    begun: Vec<Begun<P>>,
    then: impl FnOnce(&mut Context<'_>, Vec<P::Found>) -> Outcome + Send + 'static,
) -> Outcome {
    let mut found = Vec::with_capacity(begun.len());
    let mut open = 0;
    for (tag, begun) in begun.into_iter().enumerate() {
        found.push(match begun {
            Begun::Found(found) => State::Found(found),
            Begun::Ask(pursuit, request) => {
                open += 1;
                context.ask(tag, request);
                State::Open(pursuit)
            }
        });
    }
    if open > ASKS_MAX {
        return Outcome::Close("request_too_wide", format!("{open} parts"));
    }
    let mut pursuits = Pursuits { states: found, open, then: Some(then) };
    if open == 0 { pursuits.finish(context) } else { Outcome::Wait(Box::new(pursuits)) }
}

enum State<P: Pursuit> {
    Open(P),
    Found(P::Found),
}

struct Pursuits<P: Pursuit, F> {
    states: Vec<State<P>>,
    open: usize,
    then: Option<F>,
}

impl<P: Pursuit, F> Pursuits<P, F>
where
    F: FnOnce(&mut Context<'_>, Vec<P::Found>) -> Outcome,
{
    fn finish(&mut self, context: &mut Context<'_>) -> Outcome {
        let then = self.then.take().expect("the last is found once");
        let found = std::mem::take(&mut self.states).into_iter().filter_map(|state| match state {
            State::Found(found) => Some(found),
            State::Open(_) => None,
        });
        then(context, found.collect())
    }
}

impl<P: Pursuit, F> Pending for Pursuits<P, F>
where
    F: FnOnce(&mut Context<'_>, Vec<P::Found>) -> Outcome + Send,
{
    fn answered(&mut self, context: &mut Context<'_>, tag: usize, response: Response) -> Option<Outcome> {
        let State::Open(pursuit) = &mut self.states[tag] else { return None };
        match pursuit.answered(response) {
            Next::Ask(request) => context.ask(tag, request),
            Next::Found(found) => {
                self.states[tag] = State::Found(found);
                self.open -= 1;
            }
        }
        if self.open == 0 { Some(self.finish(context)) } else { None }
    }
}
