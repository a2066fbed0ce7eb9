//! Events on their way to the function. Decoded payloads are slices of the frame.

use std::time::Duration;

use bytes::Bytes;
use runtime_core::contract::{Env, Event};

use super::frame::{self, Kind};
use super::legacy::{get_env, put_env};
use super::wire::{Rest, put_bytes, put_count, put_option};
use super::{super::clock, ProtocolError};

/// Attempt, moment, two lengths.
const SMALLEST_EVENT: usize = 4 + 8 + 4 + 4;

/// A batch to be sent.
#[derive(Debug, Clone, Copy)]
pub struct BatchRef<'a> {
    /// Counts from 1 on, without gaps: two batches in flight never share a slot of the shared area.
    pub id: u64,
    /// How long each event may take. A moment would not do: the batch may wait for the one before it.
    pub limit: Option<Duration>,
    /// The state to start from; `None` means: whatever the function holds.
    pub env: Option<&'a Env>,
    /// The version that `env` was loaded with.
    pub base_version: Option<u64>,
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
            put_option(out, self.base_version, put_u64);
            put_option(out, self.env, put_env);
            put_count(out, self.events.len());
            for event in self.events {
                out.extend_from_slice(&event.attempt.to_le_bytes());
                put_u64(out, clock::nanoseconds(event.received));
                put_bytes(out, event.id.as_bytes());
                put_bytes(out, &event.payload);
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
    pub env: Option<Env>,
    /// As in [`BatchRef`].
    pub base_version: Option<u64>,
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
        let base_version = rest.option(Rest::u64)?;
        let env = rest.option(get_env)?;
        let events = rest.list(SMALLEST_EVENT, |rest| {
            let attempt = rest.u32()?;
            let received = clock::instant(rest.u64()?);
            Ok(Event { id: rest.text()?, payload: rest.bytes()?, attempt, received, fingerprint: None })
        })?;
        rest.end()?;
        Ok(Self { id, limit, env, base_version, events })
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
        fn event()(id in ".{0,20}", payload in bytes(), attempt in any::<u32>()) -> Event {
            Event { attempt, ..Event::new(id, payload) }
        }
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
            base_version in proptest::option::of(any::<u64>()),
            env in proptest::option::of(proptest::collection::vec((bytes(), bytes()), 0..5).prop_map(Env)),
            events in proptest::collection::vec(event(), 0..8),
            at in any::<proptest::sample::Index>(),
        ) {
            let body = body(BatchRef { id, limit, env: env.as_ref(), base_version, events: &events });
            let batch = Batch::decode(body.clone()).unwrap();
            prop_assert_eq!((batch.id, batch.limit, batch.base_version, batch.env), (id, limit, base_version, env));
            prop_assert_eq!(batch.events.len(), events.len());
            for (got, sent) in batch.events.iter().zip(&events) {
                prop_assert_eq!((&got.id, &got.payload, got.attempt), (&sent.id, &sent.payload, sent.attempt));
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
        let body = body(BatchRef { id: 1, limit: None, env: None, base_version: None, events: &events });
        let batch = Batch::decode(body.clone()).unwrap();
        assert!(body.as_ptr_range().contains(&batch.events[0].payload.as_ptr()));
    }

    #[test]
    fn a_count_of_billions_is_refused_without_memory_for_them() {
        let mut body = 1_u64.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 0, 0, 255, 255, 255, 255]);
        assert!(matches!(Batch::decode(body.into()), Err(ProtocolError::Short)));
    }
}
