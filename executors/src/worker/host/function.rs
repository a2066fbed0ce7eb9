//! The function as the engine sees it: one worker, or several that share the events of a batch.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use runtime_core::Fault;
use runtime_core::contract::{Call, Env, Event, Function, Legacy, Outcome, Pipeline, StateKey};
use runtime_core::pointer::Pointer;

use super::super::protocol::HandedOver;
use super::pool::Pool;
use super::slot::Slot;

/// A function in worker processes.
pub(super) struct Apart {
    slots: Vec<Slot>,
    pool: Arc<Pool>,
    /// Where in an event the name of its state stands: each one's events go to the same slot, in their order.
    state_key: Option<Pointer>,
    /// For each slot, where there are several.
    owed: Vec<Owed>,
}

impl Apart {
    /// At least one slot.
    pub(super) const fn new(slots: Vec<Slot>, pool: Arc<Pool>, state_key: Option<Pointer>) -> Self {
        Self { slots, pool, state_key, owed: Vec::new() }
    }

    /// Each slot with the events whose keys are its own, and with the states of those.
    async fn by_key(&mut self, pointer: &Pointer, events: &[Event], call: &Call) -> Vec<Outcome> {
        let count = self.slots.len();
        let mut shares: Vec<Share> = (0..count).map(|_| Share::default()).collect();
        for (index, event) in events.iter().enumerate() {
            // whoever keeps the states has named them
            let place = if call.keep { place(event.key.as_deref(), count) } else { found(pointer, event, count) };
            let share = &mut shares[place];
            share.places.push(index);
            share.events.push(event.clone());
        }
        self.owed.resize_with(count, Owed::default);
        if call.anew {
            // also those without an event: each has all that it needs from what comes with this call and after it
            self.owed.iter_mut().for_each(|owed| *owed = Owed { anew: true, ..Owed::default() });
        }
        for key in &call.forget {
            let owed = &mut self.owed[place(key.0.as_deref(), count)];
            owed.states.retain(|(other, _)| other != key);
            owed.forget.push(key.clone());
        }
        for (key, env) in &call.states {
            self.owed[place(key.0.as_deref(), count)].states.push((key.clone(), env.clone()));
        }
        let work = self.slots.iter_mut().zip(&mut self.owed).zip(shares).map(async |((slot, owed), share)| {
            if share.events.is_empty() {
                return Vec::new();
            }
            let Owed { states, forget, anew } = std::mem::take(owed);
            let (observer, deadline) = (call.observer.clone(), call.deadline);
            let call = Call { keep: call.keep, states, anew, forget, deadline, observer };
            let outcomes = slot.call(&share.events, &call).await;
            share.places.into_iter().zip(outcomes).collect::<Vec<_>>()
        });
        let mut placed: Vec<_> = join_all(work).await.into_iter().flatten().collect();
        placed.sort_by_key(|(index, _)| *index);
        placed.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// A slot's part of a batch.
#[derive(Default)]
struct Share {
    places: Vec<usize>,
    events: Vec<Event>,
}

/// What a slot is told with its next events.
#[derive(Default)]
struct Owed {
    states: Vec<(StateKey, Env)>,
    forget: Vec<StateKey>,
    anew: bool,
}

/// What a slot hands over.
struct Handed {
    env: Env,
    /// States that somebody else keeps are not in it.
    lost: bool,
}

/// The place of a key among so many. The same for as long as the process lives; what has no key is one key.
fn place(key: Option<&str>, count: usize) -> usize {
    let mut hash = DefaultHasher::new();
    key.hash(&mut hash);
    usize::try_from(hash.finish() % count as u64).unwrap_or_default()
}

/// The place of the key that stands in an event.
fn found(pointer: &Pointer, event: &Event, count: usize) -> usize {
    place(pointer.find(&event.payload).map(|value| value.to_string()).as_deref(), count)
}

/// Events of a batch that no worker has yet.
struct Left<'a> {
    events: &'a [Event],
    next: usize,
    workers: usize,
}

impl<'a> Left<'a> {
    /// The next piece, with the place of its first event. Pieces become smaller, so that all workers end together
    /// however much the events differ.
    fn take(&mut self) -> Option<(usize, &'a [Event])> {
        let left = self.events.len() - self.next;
        let length = (left / (2 * self.workers)).max(1).min(left);
        let piece = (self.next, &self.events[self.next..self.next + length]);
        self.next += length;
        (length > 0).then_some(piece)
    }
}

#[async_trait]
impl Function for Apart {
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault> {
        if let [slot] = self.slots.as_mut_slice() {
            return Ok(slot.call(events, &call).await);
        }
        if let Some(pointer) = self.state_key.clone() {
            return Ok(self.by_key(&pointer, events, &call).await);
        }
        if call.keep {
            return Err(Fault::config(
                "several workers cannot share one state that is kept: give it a key (state.key), or the function one \
                 worker",
            ));
        }
        let left = Mutex::new(Left { events, next: 0, workers: self.slots.len() });
        let work = self.slots.iter_mut().map(async |slot| {
            let mut pieces = Vec::new();
            loop {
                let piece = left.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some((first, piece)) = piece else { return pieces };
                pieces.push((first, slot.call(piece, &call).await));
            }
        });
        let mut pieces: Vec<_> = join_all(work).await.into_iter().flatten().collect();
        pieces.sort_by_key(|(first, _)| *first);
        Ok(pieces.into_iter().flat_map(|(_, outcomes)| outcomes).collect())
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        // several workers share each batch instead
        (self.slots.len() == 1).then_some(self as &mut dyn Pipeline)
    }

    async fn hand_over(&mut self) -> Result<Legacy, Fault> {
        let (mut all, mut names) = (Vec::new(), Vec::new());
        for slot in &mut self.slots {
            let HandedOver { env, lost } = slot.hand_over().await?;
            all.push(Handed { env, lost: slot.has_lost() });
            names.extend(lost);
        }
        if all.len() > 1 && names.is_empty() || all.iter().any(|handed| handed.lost) {
            // each worker has a state of its own, and its successor in the same place gets it
            return Ok(Legacy::Live(Box::new(all)));
        }
        let env = all.into_iter().next().map(|handed| handed.env).unwrap_or_default();
        Ok(Legacy::Encoded { env, lost: names })
    }

    async fn take_over(&mut self, legacy: Option<Legacy>) -> Result<(), Fault> {
        let mut all = match legacy {
            None => Vec::new(),
            Some(Legacy::Encoded { env, .. }) => vec![Handed { env, lost: false }],
            Some(Legacy::Live(live)) => match live.downcast::<Vec<Handed>>() {
                Ok(all) => *all,
                Err(_) => return Err(Fault::internal("a function in workers was handed objects of this process")),
            },
        }
        .into_iter();
        for slot in &mut self.slots {
            match all.next() {
                Some(Handed { env, lost }) => slot.take_over(Some(env), lost).await?,
                None => slot.take_over(None, false).await?,
            }
        }
        Ok(())
    }

    async fn retire(&mut self, _within: Duration) -> Result<(), Fault> {
        // what is kept ready is the next version's, and that knows how long its predecessors may take
        self.slots.iter_mut().for_each(Slot::dismiss);
        Ok(())
    }

    async fn close(&mut self, within: Duration) -> Result<(), Fault> {
        self.pool.empty().await;
        let ends = join_all(self.slots.iter_mut().map(|slot| slot.close(within)));
        // those that were replaced may still be ending
        let (ends, ()) = tokio::join!(ends, self.pool.gone(within));
        ends.into_iter().collect()
    }
}

#[async_trait]
impl Pipeline for Apart {
    async fn give(&mut self, events: Arc<[Event]>, call: Call) {
        if let Some(slot) = self.slots.first_mut() {
            slot.give(events, call);
        }
    }

    async fn answered(&mut self) {
        match self.slots.first_mut() {
            Some(slot) => slot.answered().await,
            None => std::future::pending().await,
        }
    }

    async fn take(&mut self) -> Result<Vec<Outcome>, Fault> {
        match self.slots.first_mut() {
            Some(slot) => Ok(slot.take().await),
            None => Err(Fault::internal("a function without workers")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_place() {
        let place = |text: &str| found(&Pointer::new("/host"), &Event::new("e", text.as_bytes().to_vec()), 8);
        assert_eq!(place(r#"{"host": "a", "n": 1}"#), place(r#"{"n": 2, "host":"a"}"#));
        assert_eq!(place("{}"), place("no json"));
        let places: std::collections::HashSet<_> = (0..100).map(|n| place(&format!("{{\"host\": {n}}}"))).collect();
        assert_eq!(places.len(), 8, "all are used");
    }

    #[test]
    fn pieces_become_smaller_and_leave_nothing() {
        let events: Vec<_> = (0..100).map(|n| Event::new(n.to_string(), "")).collect();
        let mut left = Left { events: &events, next: 0, workers: 2 };
        let mut seen = 0;
        let mut sizes = Vec::new();
        while let Some((first, piece)) = left.take() {
            assert_eq!(first, seen);
            assert_eq!(piece[0].id, seen.to_string());
            seen += piece.len();
            sizes.push(piece.len());
        }
        assert_eq!(seen, 100);
        assert_eq!((sizes[0], *sizes.last().unwrap()), (25, 1));
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    }
}
