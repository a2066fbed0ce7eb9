//! A letter as a line of JSON.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runtime_core::contract::{Filed, Letter};
use serde::{Deserialize, Serialize};

use super::{Id, moment, stamp};

/// The keys stand in the order in which they are written: what a glance at the file is for comes first.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    failed_at: String,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(default)]
    error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceback: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original: Option<String>,
}

/// What a line is.
pub(super) enum Found {
    Letter(Id, Box<Letter>),
    /// The end is missing: it was being written when the power went.
    Torn,
    /// No letter, for this reason; whoever wrote it may want it back.
    Foreign(String),
}

/// Without its end.
pub(super) fn write(id: &str, letter: &Letter) -> Result<String, serde_json::Error> {
    let letter = letter.clone();
    let (payload, payload_base64) = match str::from_utf8(&letter.payload) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(&letter.payload))),
    };
    let line = Line {
        id: id.to_owned(),
        event: letter.event,
        failed_at: stamp(letter.failed_at),
        attempts: letter.attempts,
        origin: letter.origin,
        revision: letter.revision,
        error: letter.error,
        traceback: letter.report,
        payload,
        payload_base64,
        original: letter.original,
    };
    serde_json::to_string(&line)
}

pub(super) fn read(line: &[u8]) -> Found {
    let line: Line = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) if error.is_eof() => return Found::Torn,
        Err(error) => return Found::Foreign(error.to_string()),
    };
    let Some(id) = Id::parse(&line.id) else {
        return Found::Foreign(format!("its id '{}' is none", line.id));
    };
    let payload = match (line.payload, line.payload_base64) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(code)) => match STANDARD.decode(code) {
            Ok(bytes) => bytes,
            Err(error) => return Found::Foreign(format!("its payload_base64 is none: {error}")),
        },
        (None, None) => return Found::Foreign("it has no payload".to_owned()),
    };
    let letter = Letter {
        event: line.event,
        payload: payload.into(),
        original: line.original,
        error: line.error,
        report: line.traceback,
        revision: line.revision,
        attempts: line.attempts,
        origin: line.origin,
        failed_at: moment(&line.failed_at).unwrap_or(SystemTime::UNIX_EPOCH),
    };
    Found::Letter(id, Box::new(letter))
}

impl Found {
    /// The letter, if it is one.
    pub(super) fn filed(self) -> Option<Filed> {
        match self {
            Self::Letter(id, letter) => Some(Filed { id: id.to_string(), letter: *letter }),
            Self::Torn | Self::Foreign(_) => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn letters_read_back() {
        let letter = Letter {
            event: "7-0".to_owned(),
            payload: "{\"n\": 1}\n".into(),
            original: None,
            error: "ValueError: \"é\"".to_owned(),
            report: Some("Traceback:\n  line 1".to_owned()),
            revision: None,
            attempts: 4,
            origin: "file events.jsonl".to_owned(),
            failed_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_466_129_023),
        };
        let binary = Letter {
            payload: vec![0xff, 0x00, b'\n'].into(),
            revision: Some("ab".to_owned()),
            original: Some("[[\"a\",\"b\"]]\n".to_owned()),
            ..letter.clone()
        };
        for letter in [letter, binary] {
            let line = write("5-1", &letter).unwrap();
            let line = line.as_bytes();
            assert!(!line.contains(&b'\n'));
            assert_eq!(read(line).filed(), Some(Filed { id: "5-1".to_owned(), letter }));
            for end in 1..line.len() {
                assert!(matches!(read(&line[..end]), Found::Torn), "{end}");
            }
        }
    }

    #[test]
    fn what_is_no_letter_is_told_from_half_of_one() {
        for line in ["[]", "{\"id\": 5}", "{\"id\":\"x\",\"payload\":\"\"}", "{\"id\":\"1-0\"}", "hello"] {
            assert!(matches!(read(line.as_bytes()), Found::Foreign(_)), "{line}");
        }
    }
}
