//! What became of events. One outcome has the same form in a frame and in the shared area.

use std::error::Error;

use bytes::Bytes;
use runtime_core::Fault;
use runtime_core::contract::{Blame, Outcome, Returned};

use super::ProtocolError;
use super::frame::{self, Kind};
use super::legacy::{get_states, put_states};
use super::wire::{Rest, put_bytes, put_count, put_option};

const EMPTY: u8 = 0;
const OUTPUT: u8 = 1;
const FAILED: u8 = 2;
const NOT_CALLED: u8 = 3;

const RETRY: u8 = 1;
const FATAL: u8 = 2;

const BLAMES: [Blame; 6] = [Blame::Config, Blame::File, Blame::Function, Blame::Event, Blame::Backend, Blame::Internal];

/// Appends one outcome, without its length.
pub fn encode_one(out: &mut Vec<u8>, outcome: &Outcome) {
    match &outcome.returned {
        Returned::Empty => out.push(EMPTY),
        Returned::Output(payload) => {
            out.push(OUTPUT);
            put_bytes(out, payload);
        }
        Returned::Failed(fault) => {
            out.push(FAILED);
            put_fault(out, fault);
        }
        Returned::NotCalled => out.push(NOT_CALLED),
    }
    put_states(out, &outcome.states);
}

/// Reads one outcome; a payload is a slice of `bytes`.
///
/// # Errors
/// The bytes are no outcome.
pub fn decode_one(bytes: Bytes) -> Result<Outcome, ProtocolError> {
    let mut rest = Rest(bytes);
    let returned = match rest.u8()? {
        EMPTY => Returned::Empty,
        OUTPUT => Returned::Output(rest.bytes()?),
        FAILED => Returned::Failed(get_fault(&mut rest)?),
        NOT_CALLED => Returned::NotCalled,
        _ => return Err(ProtocolError::Malformed("an outcome of an unknown kind")),
    };
    let states = get_states(&mut rest)?;
    rest.end()?;
    Ok(Outcome { returned, states })
}

/// The causes of a fault in one line, as [`Fault::chain`] has them behind the message.
pub(super) fn causes(fault: &Fault) -> Option<String> {
    fault.source()?;
    let message = fault.to_string();
    fault.chain().strip_prefix(&message)?.strip_prefix(": ").map(str::to_owned)
}

/// A fault out of its parts.
pub(super) fn fault(
    blame: Blame,
    retry: bool,
    fatal: bool,
    message: String,
    report: Option<String>,
    causes: Option<String>,
) -> Fault {
    let mut fault = match blame {
        Blame::Config => Fault::config(message),
        Blame::File => Fault::file(message),
        Blame::Function => Fault::function(message),
        Blame::Event => Fault::event(message),
        Blame::Backend => Fault::backend(message),
        Blame::Internal => Fault::internal(message),
    };
    if let Some(report) = report {
        fault = fault.with_report(report);
    }
    if let Some(causes) = causes {
        fault = fault.caused_by(causes);
    }
    match (fatal, retry) {
        (true, _) => fault.fatal(),
        (false, false) => fault.permanent(),
        (false, true) => fault,
    }
}

fn put_fault(out: &mut Vec<u8>, fault: &Fault) {
    let blame = BLAMES.iter().position(|blame| *blame == fault.blame()).unwrap_or(BLAMES.len() - 1);
    let put_text = |out: &mut Vec<u8>, text: &str| put_bytes(out, text.as_bytes());
    out.push(blame as u8);
    out.push(if fault.retry() { RETRY } else { 0 } | if fault.is_fatal() { FATAL } else { 0 });
    put_text(out, &fault.to_string());
    put_option(out, fault.report(), put_text);
    put_option(out, causes(fault).as_deref(), put_text);
}

fn get_fault(rest: &mut Rest) -> Result<Fault, ProtocolError> {
    let blame = BLAMES.get(usize::from(rest.u8()?)).ok_or(ProtocolError::Malformed("a fault of nobody"))?;
    let bits = rest.u8()?;
    let (message, report, causes) = (rest.text()?, rest.option(Rest::text)?, rest.option(Rest::text)?);
    Ok(fault(*blame, bits & RETRY != 0, bits & FATAL != 0, message, report, causes))
}

/// What became of a batch.
#[derive(Debug)]
pub struct Outcomes {
    /// Which one.
    pub batch: u64,
    /// The index of the event that the first outcome belongs to: the ones before it stand in the shared area.
    pub first: usize,
    /// How many entries the function's state has afterwards.
    pub entries: usize,
    /// In the order of the events.
    pub outcomes: Vec<Outcome>,
}

impl Outcomes {
    /// Appends the frame. `encoded` are outcomes in the form of [`encode_one`], from event `first` on; none where all
    /// of them stand in the shared area.
    ///
    /// # Errors
    /// It is too long.
    pub fn encode(
        out: &mut Vec<u8>,
        batch: u64,
        first: usize,
        entries: usize,
        encoded: &[Vec<u8>],
    ) -> Result<(), ProtocolError> {
        frame::encode(out, Kind::Outcomes, |out| {
            out.extend_from_slice(&batch.to_le_bytes());
            put_count(out, first);
            put_count(out, entries);
            put_count(out, encoded.len());
            encoded.iter().for_each(|outcome| put_bytes(out, outcome));
            Ok(())
        })
    }

    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// The body is damaged.
    pub fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let mut rest = Rest(body);
        let (batch, first, entries) = (rest.u64()?, rest.u32()? as usize, rest.u32()? as usize);
        let outcomes = rest.list(4, |rest| decode_one(rest.bytes()?))?;
        rest.end()?;
        Ok(Self { batch, first, entries, outcomes })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Splitter;
    use super::*;
    use proptest::prelude::*;
    use runtime_core::contract::{Env, StateKey};

    fn some_fault() -> impl Strategy<Value = Fault> {
        let text = || ".{0,30}";
        (0_usize..6, any::<(bool, bool)>(), text(), proptest::option::of(text()), proptest::option::of(text()))
            .prop_map(|(blame, (retry, fatal), message, report, cause)| {
                fault(BLAMES[blame], retry, fatal, message, report, cause)
            })
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let returned = prop_oneof![
            Just(()).prop_map(|()| Returned::Empty),
            proptest::collection::vec(any::<u8>(), 0..50).prop_map(|bytes| Returned::Output(bytes.into())),
            some_fault().prop_map(Returned::Failed),
            Just(()).prop_map(|()| Returned::NotCalled),
        ];
        let state = proptest::option::of(".{0,20}")
            .prop_map(|key| (StateKey(key), Env(vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))])));
        (returned, proptest::collection::vec(state, 0..3)).prop_map(|(returned, states)| Outcome { returned, states })
    }

    /// Everything that can be asked of a fault.
    fn parts(fault: &Fault) -> impl PartialEq + std::fmt::Debug {
        let report = fault.report().map(str::to_owned);
        (fault.blame(), fault.retry(), fault.is_fatal(), fault.to_string(), fault.chain(), report)
    }

    fn check(got: &Outcome, sent: &Outcome) -> Result<(), TestCaseError> {
        prop_assert_eq!(&got.states, &sent.states);
        match (&got.returned, &sent.returned) {
            (Returned::Empty, Returned::Empty) | (Returned::NotCalled, Returned::NotCalled) => {}
            (Returned::Output(got), Returned::Output(sent)) => prop_assert_eq!(got, sent),
            (Returned::Failed(got), Returned::Failed(sent)) => prop_assert_eq!(parts(got), parts(sent)),
            _ => prop_assert!(false, "{got:?} for {sent:?}"),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            batch in any::<u64>(),
            first in 0_usize..1000,
            outcomes in proptest::collection::vec(outcome(), 0..8),
            at in any::<proptest::sample::Index>(),
        ) {
            let encode = |outcome: &Outcome| {
                let mut out = Vec::new();
                encode_one(&mut out, outcome);
                out
            };
            let (mut out, encoded) = (Vec::new(), outcomes.iter().map(encode).collect::<Vec<_>>());
            Outcomes::encode(&mut out, batch, first, 3, &encoded).unwrap();
            let mut splitter = Splitter::default();
            splitter.buffer().extend_from_slice(&out);
            let body = splitter.next_frame().unwrap().unwrap().expect(Kind::Outcomes).unwrap();
            let got = Outcomes::decode(body.clone()).unwrap();
            prop_assert_eq!((got.batch, got.first, got.entries, got.outcomes.len()), (batch, first, 3, outcomes.len()));
            for (got, sent) in got.outcomes.iter().zip(&outcomes) {
                check(got, sent)?;
            }
            prop_assert!(Outcomes::decode(body.slice(..at.index(body.len()))).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Outcomes::decode(Bytes::from(bytes.clone()));
            let _ = decode_one(Bytes::from(bytes));
        }
    }

    #[test]
    fn a_chain_of_causes_stays_one() {
        let cause = std::io::Error::other(Fault::internal("inner").caused_by("innermost"));
        let sent = Fault::function("the call failed").caused_by(cause).with_report("Traceback");
        let mut out = Vec::new();
        encode_one(&mut out, &Returned::Failed(sent).into());
        let Returned::Failed(got) = decode_one(out.into()).unwrap().returned else { panic!("not failed") };
        assert_eq!(got.to_string(), "the call failed");
        assert_eq!(got.chain(), "the call failed: inner: innermost");
        assert_eq!(got.report(), Some("Traceback"));
    }
}
