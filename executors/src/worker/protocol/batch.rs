//! Events on their way to the function. Decoded payloads are slices of the frame.

use std::time::Duration;

use bytes::Bytes;
use runtime_core::contract::{Env, Event, StateKey};

use super::frame::{self, Kind};
use super::legacy::{SMALLEST_KEY, get_key, get_states, put_key, put_states};
use super::wire::{Rest, put_bytes, put_count, put_option};
use super::{super::clock, ProtocolError};

/// Attempt, deliveries, moment, two lengths, whether there is a key.
const SMALLEST_EVENT: usize = 4 + 4 + 8 + 4 + 4 + 1;

/// A batch to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchRef<'a> {
    /// Counts from 1 on, without gaps: two batches in flight never share a slot of the shared area.
    pub id: u64,
    /// How long each event may take. A moment would not do: the batch may wait for the one before it.
    pub limit: Option<Duration>,
    /// As in [`Call`](runtime_core::contract::Call).
    pub keep: bool,
    /// As in `Call`; sent with `keep` only, as the next two are.
    pub states: &'a [(StateKey, Env)],
    /// As in `Call`.
    pub anew: bool,
    /// As in `Call`.
    pub forget: &'a [StateKey],
    /// In the order of the calls.
    pub events: &'a [Event],
}

impl BatchRef<'_> {
    /// Appends the frame.
    ///
    /// # Errors
    /// It is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        frame::encode(out, Kind::Batch, |out| {
            let put_u64 = |out: &mut Vec<u8>, value: u64| out.extend_from_slice(&value.to_le_bytes());
            put_u64(out, self.id);
            let limit = self.limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
            put_option(out, limit, put_u64);
            put_option(out, self.keep.then_some(()), |out, ()| {
                out.push(u8::from(self.anew));
                put_states(out, self.states);
                put_count(out, self.forget.len());
                self.forget.iter().for_each(|key| put_key(out, key));
            });
            put_count(out, self.events.len());
            for event in self.events {
                out.extend_from_slice(&event.attempt.to_le_bytes());
                out.extend_from_slice(&event.deliveries.to_le_bytes());
                put_u64(out, clock::nanoseconds(event.received));
                put_bytes(out, event.id.as_bytes());
                put_bytes(out, &event.payload);
                put_option(out, event.key.as_deref(), |out, key| put_bytes(out, key.as_bytes()));
            }
            Ok(())
        })
    }
}

/// A batch as it came. Its events have no fingerprints: those stay with the source.
#[derive(Debug, Clone)]
pub struct Batch {
    /// As in [`BatchRef`].
    pub id: u64,
    /// As in [`BatchRef`].
    pub limit: Option<Duration>,
    /// As in [`BatchRef`].
    pub keep: bool,
    /// As in [`BatchRef`].
    pub states: Vec<(StateKey, Env)>,
    /// As in [`BatchRef`].
    pub anew: bool,
    /// As in [`BatchRef`].
    pub forget: Vec<StateKey>,
    /// As in [`BatchRef`].
    pub events: Vec<Event>,
}

impl Batch {
    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// The body is damaged.
    pub fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let mut rest = Rest(body);
        let id = rest.u64()?;
        let limit = rest.option(Rest::u64)?.map(Duration::from_nanos);
        let kept = rest.option(|rest| Ok((rest.bool()?, get_states(rest)?, rest.list(SMALLEST_KEY, get_key)?)))?;
        let events = rest.list(SMALLEST_EVENT, |rest| {
            let (attempt, deliveries, received) = (rest.u32()?, rest.u32()?, clock::instant(rest.u64()?));
            let (id, payload) = (rest.text()?, rest.bytes()?);
            let key = rest.option(Rest::text)?.map(Into::into);
            Ok(Event { id, payload, attempt, deliveries, received, fingerprint: None, key, original: None, flaw: None })
        })?;
        rest.end()?;
        let keep = kept.is_some();
        let (anew, states, forget) = kept.unwrap_or_default();
        Ok(Self { id, limit, keep, states, anew, forget, events })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Splitter;
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from)
    }

    prop_compose! {
        fn event()(
            id in ".{0,20}",
            payload in bytes(),
            (attempt, deliveries) in any::<(u32, u32)>(),
            key in proptest::option::of(".{0,20}"),
        ) -> Event {
            Event { attempt, deliveries, key: key.map(Into::into), ..Event::new(id, payload) }
        }
    }

    fn key() -> impl Strategy<Value = StateKey> {
        proptest::option::of(".{0,20}").prop_map(StateKey)
    }

    fn states() -> impl Strategy<Value = Vec<(StateKey, Env)>> {
        let env = proptest::collection::vec((bytes(), bytes()), 0..5).prop_map(Env);
        proptest::collection::vec((key(), env), 0..4)
    }

    fn body(batch: BatchRef<'_>) -> Bytes {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        batch.encode(&mut out).unwrap();
        splitter.buffer().extend_from_slice(&out);
        splitter.next_frame().unwrap().unwrap().expect(Kind::Batch).unwrap()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            id in any::<u64>(),
            limit in proptest::option::of(any::<u64>().prop_map(Duration::from_nanos)),
            (keep, anew) in any::<(bool, bool)>(),
            states in states(),
            forget in proptest::collection::vec(key(), 0..4),
            events in proptest::collection::vec(event(), 0..8),
            at in any::<proptest::sample::Index>(),
        ) {
            let sent = BatchRef { id, limit, keep, states: &states, anew, forget: &forget, events: &events };
            let body = body(sent);
            let batch = Batch::decode(body.clone()).unwrap();
            prop_assert_eq!((batch.id, batch.limit, batch.keep), (id, limit, keep));
            // nothing of these is sent where nobody keeps them
            let (anew, states, forget) = if keep { (anew, states, forget) } else { Default::default() };
            prop_assert_eq!((batch.anew, batch.states, batch.forget), (anew, states, forget));
            prop_assert_eq!(batch.events.len(), events.len());
            for (got, sent) in batch.events.iter().zip(&events) {
                prop_assert_eq!((&got.id, &got.payload, &got.key), (&sent.id, &sent.payload, &sent.key));
                prop_assert_eq!((got.attempt, got.deliveries), (sent.attempt, sent.deliveries));
                let gap = got.received.max(sent.received) - got.received.min(sent.received);
                prop_assert!(gap < Duration::from_millis(50));
            }
            // any shorter body is an error, never a batch
            prop_assert!(Batch::decode(body.slice(..at.index(body.len()))).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Batch::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn payloads_are_slices_of_the_frame() {
        let events = [Event::new("a", "payload")];
        let body = body(BatchRef { id: 1, events: &events, ..BatchRef::default() });
        let batch = Batch::decode(body.clone()).unwrap();
        assert!(body.as_ptr_range().contains(&batch.events[0].payload.as_ptr()));
    }

    #[test]
    fn a_count_of_billions_is_refused_without_memory_for_them() {
        let mut body = 1_u64.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 0, 255, 255, 255, 255]);
        assert!(matches!(Batch::decode(body.into()), Err(ProtocolError::Short)));
    }
}
