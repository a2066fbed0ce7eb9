//! The state on its way from one worker to the next, and with batches.

use bytes::Bytes;
use runtime_core::contract::{Env, StateKey};

use super::ProtocolError;
use super::frame::{self, Kind};
use super::wire::{Rest, put_bytes, put_count, put_option};

/// Two lengths.
const SMALLEST_ENTRY: usize = 8;

pub(super) fn put_env(out: &mut Vec<u8>, env: &Env) {
    put_count(out, env.0.len());
    for (key, value) in &env.0 {
        put_bytes(out, key);
        put_bytes(out, value);
    }
}

pub(super) fn get_env(rest: &mut Rest) -> Result<Env, ProtocolError> {
    rest.list(SMALLEST_ENTRY, |rest| Ok((rest.bytes()?, rest.bytes()?))).map(Env)
}

/// Whether there is one.
pub(super) const SMALLEST_KEY: usize = 1;

/// A key, and a count of entries.
const SMALLEST_STATE: usize = SMALLEST_KEY + 4;

pub(super) fn put_key(out: &mut Vec<u8>, key: &StateKey) {
    put_option(out, key.0.as_deref(), |out, key| put_bytes(out, key.as_bytes()));
}

pub(super) fn get_key(rest: &mut Rest) -> Result<StateKey, ProtocolError> {
    rest.option(Rest::text).map(StateKey)
}

pub(super) fn put_states(out: &mut Vec<u8>, states: &[(StateKey, Env)]) {
    put_count(out, states.len());
    for (key, env) in states {
        put_key(out, key);
        put_env(out, env);
    }
}

pub(super) fn get_states(rest: &mut Rest) -> Result<Vec<(StateKey, Env)>, ProtocolError> {
    rest.list(SMALLEST_STATE, |rest| Ok((get_key(rest)?, apart(&get_env(rest)?))))
}

/// The same in memory of its own: a state stays for long, and a frame is large.
fn apart(env: &Env) -> Env {
    let mut bytes = Vec::with_capacity(env.0.iter().map(|(key, value)| key.len() + value.len()).sum());
    env.0.iter().flat_map(|(key, value)| [key, value]).for_each(|text| bytes.extend_from_slice(text));
    let mut rest = Bytes::from(bytes);
    Env(env.0.iter().map(|(key, value)| (rest.split_to(key.len()), rest.split_to(value.len()))).collect())
}

/// The answer to `HandOver`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// What could be encoded.
    pub env: Env,
    /// The names of what could not, each with the reason.
    pub lost: Vec<String>,
}

impl HandedOver {
    /// Appends the frame.
    ///
    /// # Errors
    /// It is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        frame::encode(out, Kind::HandedOver, |out| {
            put_env(out, &self.env);
            put_count(out, self.lost.len());
            self.lost.iter().for_each(|name| put_bytes(out, name.as_bytes()));
            Ok(())
        })
    }

    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// The body is damaged.
    pub fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let mut rest = Rest(body);
        let env = get_env(&mut rest)?;
        let lost = rest.list(4, Rest::text)?;
        rest.end()?;
        Ok(Self { env, lost })
    }
}

/// Begin with this state, before the first batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakeOver {
    /// `None` begins with an empty state.
    pub env: Option<Env>,
}

impl TakeOver {
    /// Appends the frame.
    ///
    /// # Errors
    /// It is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        frame::encode(out, Kind::TakeOver, |out| {
            put_option(out, self.env.as_ref(), put_env);
            Ok(())
        })
    }

    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// The body is damaged.
    pub fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let mut rest = Rest(body);
        let env = rest.option(get_env)?;
        rest.end()?;
        Ok(Self { env })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Splitter;
    use super::*;
    use proptest::prelude::*;

    fn env() -> impl Strategy<Value = Env> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..30).prop_map(Bytes::from);
        proptest::collection::vec((bytes(), bytes()), 0..6).prop_map(Env)
    }

    fn body(out: &[u8], kind: Kind) -> Bytes {
        let mut splitter = Splitter::default();
        splitter.buffer().extend_from_slice(out);
        splitter.next_frame().unwrap().unwrap().expect(kind).unwrap()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(env in env(), lost in proptest::collection::vec(".{0,20}", 0..4), none in any::<bool>()) {
            let (mut out, sent) = (Vec::new(), HandedOver { env: env.clone(), lost });
            sent.encode(&mut out).unwrap();
            let whole = body(&out, Kind::HandedOver);
            prop_assert_eq!(HandedOver::decode(whole.clone()).unwrap(), sent);
            prop_assert!(HandedOver::decode(whole.slice(..whole.len() - 1)).is_err());

            let (mut out, sent) = (Vec::new(), TakeOver { env: (!none).then_some(env) });
            sent.encode(&mut out).unwrap();
            prop_assert_eq!(TakeOver::decode(body(&out, Kind::TakeOver)).unwrap(), sent);
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = HandedOver::decode(Bytes::from(bytes.clone()));
            let _ = TakeOver::decode(Bytes::from(bytes));
        }
    }
}
