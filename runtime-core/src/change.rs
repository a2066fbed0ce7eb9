//! What counts as a changed value: "differs from the value of the last attempted call".
//!
//! ```text
//! bytes ── equal to the last ones? ── yes ─> Same
//!            | no
//!            canonical form ── malformed ──> Malformed (first time, or again)
//!            | sha-256
//!            fingerprint equal? ── yes ────> Same      (other white space, other key order)
//!                                  no ─────> New
//! ```
//!
//! Numbers are compared as decimals at full precision and an integer never equals a float, which
//! is why the comparison has a scanner of its own (`change/canonical.rs`): JSON crates round a
//! float to 64 bits, and none of them accepts exactly what Python's `json.loads` accepts.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

mod canonical;
#[cfg(test)]
mod properties;

/// Malformed values remembered as already reported. A writer that alternates between a few broken
/// values is told about each of them once; one that breaks in ever new ways gets a line for each
/// anyway, so a longer memory would gain nothing.
const REPORTED: usize = 64;

/// SHA-256 of a JSON value's canonical form: equal for texts that differ only in white space, key
/// order, escapes or the spelling of the same float, different for everything else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads the 64 hexadecimal digits that `Display` writes; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(sum))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not json at byte {at}: {reason}")]
pub struct Malformed {
    /// Offset of the first byte that does not fit, counted from 0.
    pub at: usize,
    /// What was expected there.
    pub reason: &'static str,
}

/// The fingerprint of a JSON text.
///
/// Well-formed is what Python's `json.loads` accepts for a str: RFC 8259 plus `NaN`, `Infinity`,
/// `-Infinity` and escapes of lone surrogates; of duplicate keys the last one counts. Malformed
/// are also a byte-order mark, bytes that are not UTF-8, an integer of more than 4,300 digits
/// (Python refuses to convert it) and more than 900 levels of nesting (Python's recursion limit
/// is 1,000, less whatever the function's own stack uses).
pub fn fingerprint(bytes: &[u8]) -> Result<Fingerprint, Malformed> {
    canonical::digest(bytes).map(Fingerprint)
}

/// The answer to "did the value change?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The value of the last attempted call, perhaps written differently.
    Same,
    /// Another value; call, then say so with [`Change::attempted`].
    New(Fingerprint),
    /// No JSON: neither call nor reset.
    Malformed {
        /// Where it breaks and why.
        error: Malformed,
        /// True the first time these very bytes are seen: log it then, and only then.
        first: bool,
    },
}

/// Remembers the value of the last attempted call.
///
/// It sees the bytes as they came, before any function could alter what was parsed from them. An
/// empty value counts as missing and is not for this type: the source leaves it out.
#[derive(Debug, Default)]
pub struct Change {
    /// One spelling of the last attempted value: equal bytes need no parsing. Absent after a
    /// resume, where only the fingerprint is known.
    last: Option<Bytes>,
    fingerprint: Option<Fingerprint>,
    /// The latest malformed value, so that a broken key is not parsed at each look.
    malformed: Option<(Bytes, Malformed)>,
    /// SHA-256 of the malformed values already reported, oldest first.
    reported: VecDeque<[u8; 32]>,
}

impl Change {
    /// Knows no value yet: the first well-formed one is new.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares `bytes` with the last attempted value. Costs one comparison of bytes where nothing
    /// changed, else one pass over them.
    pub fn look(&mut self, bytes: &Bytes) -> Look {
        if self.last.as_ref() == Some(bytes) {
            return Look::Same;
        }
        if let Some((known, error)) = &self.malformed
            && known == bytes
        {
            return Look::Malformed { error: *error, first: false };
        }
        match fingerprint(bytes) {
            Ok(found) if self.fingerprint == Some(found) => {
                self.last = Some(bytes.clone());
                Look::Same
            }
            Ok(found) => Look::New(found),
            Err(error) => {
                self.malformed = Some((bytes.clone(), error));
                Look::Malformed { error, first: self.first_report(bytes) }
            }
        }
    }

    /// Of the value of the last attempted call, if there was one.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Resumes from durable state: the value with this fingerprint has had its call.
    pub fn seen(&mut self, fingerprint: Fingerprint) {
        self.last = None;
        self.fingerprint = Some(fingerprint);
    }

    /// A call with this value was attempted, successful or not. `fingerprint` is the one that
    /// [`Change::look`] gave for it.
    pub fn attempted(&mut self, bytes: Bytes, fingerprint: Fingerprint) {
        self.last = Some(bytes);
        self.fingerprint = Some(fingerprint);
    }

    fn first_report(&mut self, bytes: &[u8]) -> bool {
        let sum: [u8; 32] = Sha256::digest(bytes).into();
        if self.reported.contains(&sum) {
            return false;
        }
        if self.reported.len() == REPORTED {
            self.reported.pop_front();
        }
        self.reported.push_back(sum);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn new(change: &mut Change, text: &'static str) -> Fingerprint {
        match change.look(&Bytes::from_static(text.as_bytes())) {
            Look::New(found) => found,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_value_is_new_until_it_was_attempted() {
        let mut change = Change::new();
        let value = Bytes::from_static(br#"{"a": 1, "b": [2]}"#);
        let found = new(&mut change, r#"{"a": 1, "b": [2]}"#);
        assert_eq!(change.look(&value), Look::New(found));
        assert_eq!(change.fingerprint(), None);
        change.attempted(value.clone(), found);
        assert_eq!(change.fingerprint(), Some(found));
        assert_eq!(change.look(&value), Look::Same);
        assert_eq!(change.look(&Bytes::from_static(br#"{"b":[2],"a":1}"#)), Look::Same);
        assert_eq!(change.look(&value), Look::Same);
        assert_ne!(new(&mut change, r#"{"a": 1.0, "b": [2]}"#), found);
    }

    #[test]
    fn a_malformed_value_is_reported_once_and_resets_nothing() {
        let mut change = Change::new();
        let good = Bytes::from_static(b"[1]");
        let found = new(&mut change, "[1]");
        change.attempted(good.clone(), found);
        let first = |change: &mut Change, text: &'static [u8]| match change.look(&Bytes::from_static(text)) {
            Look::Malformed { first, .. } => first,
            other => panic!("{other:?}"),
        };
        assert!(first(&mut change, b"[1"));
        assert!(!first(&mut change, b"[1"));
        assert!(first(&mut change, b"[2"));
        assert!(!first(&mut change, b"[1"));
        assert!(!first(&mut change, b"[2"));
        assert_eq!(change.look(&good), Look::Same);
    }

    #[test]
    fn the_memory_of_malformed_values_is_bounded() {
        let mut change = Change::new();
        for n in 0..3 * REPORTED {
            change.look(&Bytes::from(format!("[{n}")));
        }
        assert_eq!(change.reported.len(), REPORTED);
    }

    #[test]
    fn a_resumed_fingerprint_counts_as_attempted() {
        let mut change = Change::new();
        let stored = fingerprint(b"{\"a\": 1}").unwrap().to_string();
        change.seen(Fingerprint::from_hex(&stored).unwrap());
        assert_eq!(change.look(&Bytes::from_static(b"{\"a\":1}")), Look::Same);
        new(&mut change, "{\"a\":2}");
    }

    #[test]
    fn hex_goes_both_ways_and_refuses_the_rest() {
        let found = fingerprint(b"1").unwrap();
        let text = found.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(Fingerprint::from_hex(&text), Some(found));
        assert_eq!(Fingerprint::from_hex(&text.to_uppercase()), Some(found));
        assert_eq!(Fingerprint::from_hex(&text[1..]), None);
        assert_eq!(Fingerprint::from_hex(&text.replace(&text[..1], "g")), None);
    }

    #[test]
    fn an_error_names_the_place() {
        let error = fingerprint(br#"{"a": [1, 2, 3], }"#).unwrap_err();
        assert_eq!(error.to_string(), "not json at byte 17: expected a key in double quotes");
        assert_eq!(fingerprint(b"").unwrap_err().to_string(), "not json at byte 0: expected a value");
    }
}
