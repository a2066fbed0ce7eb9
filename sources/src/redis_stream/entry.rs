//! An entry as an event that knows the whole entry where its payload is only a part of it.
//!
//! In a dead letter the entry is a JSON array of its fields in order, each an array of name and value. What is no UTF-8 is an
//! object with the bytes in base64: `[["id","7"],["raw",{"base64":"//4="}]]`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runtime_core::contract::{Event, Original};
use serde::{Deserialize, Serialize};

use super::payload::{Fields, payload};

/// Names that an error tells.
const NAMES: usize = 10;

/// The event of an entry. Without the configured field it is an object of all fields, which nobody is called with.
pub(super) fn event(id: String, fields: Fields, field: Option<&str>) -> Event {
    let found = payload(&fields, field);
    let flaw = found.is_none().then(|| missing(&fields, field.unwrap_or_default()).into());
    let whole = match field {
        Some(field) => fields.len() == 1 && fields[0].0 == field.as_bytes(),
        None => fields.iter().all(|(name, value)| str::from_utf8(name).is_ok() && str::from_utf8(value).is_ok()),
    };
    let payload = found.or_else(|| payload(&fields, None)).unwrap_or_default();
    let original = (!whole).then(|| Arc::new(Whole(fields)) as Arc<dyn Original>);
    Event { original, flaw, ..Event::new(id, payload) }
}

fn missing(fields: &Fields, field: &str) -> String {
    let mut names: Vec<String> =
        fields.iter().take(NAMES).map(|(name, _)| format!("'{}'", String::from_utf8_lossy(name))).collect();
    if fields.len() > NAMES {
        names.push(format!("{} more", fields.len() - NAMES));
    }
    format!("the entry has no field '{field}'; it has {}", names.join(", "))
}

/// All fields of an entry.
#[derive(Debug)]
struct Whole(Fields);

/// A name or a value.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Bytes { base64: String },
}

impl Word {
    fn of(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { base64: STANDARD.encode(bytes) },
        }
    }

    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Bytes { base64 } => {
                STANDARD.decode(&base64).map_err(|error| format!("'{base64}' is no base64 ({error})"))
            }
        }
    }
}

impl Original for Whole {
    fn text(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(name, value)| (Word::of(name), Word::of(value))).collect();
        // texts and arrays of them
        serde_json::to_string(&words).unwrap_or_default()
    }
}

/// The fields of an entry as a letter has it.
///
/// # Errors
/// Why it is none, as part of a sentence.
pub(super) fn read(original: &str) -> Result<Fields, String> {
    let words: Vec<(Word, Word)> =
        serde_json::from_str(original).map_err(|error| format!("its original is no list of fields ({error})"))?;
    if words.is_empty() {
        return Err("its original has 0 fields, and an entry needs one".to_owned());
    }
    words.into_iter().map(|(name, value)| Ok((name.bytes()?, value.bytes()?))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(pairs: &[(&[u8], &[u8])]) -> Fields {
        pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn an_entry_is_kept_where_the_payload_is_not_all_of_it() {
        let made = |fields: &Fields, field| event("1-0".to_owned(), fields.clone(), field);
        let one = entry(&[(b"data", b"\xff")]);
        assert!(made(&one, Some("data")).original.is_none());
        let text = entry(&[(b"b", b"1"), (b"a", "\u{e9}\"".as_bytes()), (b"b", b"2")]);
        assert!(made(&text, None).original.is_none());
        for (fields, field, written) in [
            (entry(&[(b"id", b"7"), (b"data", b"{}")]), Some("data"), r#"[["id","7"],["data","{}"]]"#),
            (entry(&[(b"data", b"1"), (b"data", b"2")]), Some("data"), r#"[["data","1"],["data","2"]]"#),
            (
                entry(&[(b"raw", b"\xff\xfe"), (b"\xfe", b"")]),
                None,
                r#"[["raw",{"base64":"//4="}],[{"base64":"/g=="},""]]"#,
            ),
            (text.clone(), Some("data"), r#"[["b","1"],["a","\u{e9}\""],["b","2"]]"#),
        ] {
            let original = made(&fields, field).original.unwrap().text();
            assert_eq!(original, written.replace("\\u{e9}", "\u{e9}"));
            assert_eq!(read(&original).unwrap(), fields);
        }
    }

    #[test]
    fn a_missing_field_is_the_cause() {
        let found = event("1-0".to_owned(), entry(&[(b"a", b"1"), (b"b\xff", b"2")]), Some("data"));
        assert_eq!(found.flaw.as_deref(), Some("the entry has no field 'data'; it has 'a', 'b\u{fffd}'"));
        assert_eq!(found.payload, &b"{\"a\":\"1\",\"b\xff\":\"2\"}"[..]);
        let many: Fields = (0..12).map(|n: u32| (n.to_string().into_bytes(), Vec::new())).collect();
        let said = event("1-0".to_owned(), many, Some("data")).flaw.unwrap();
        assert!(said.ends_with("it has '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 2 more"), "{said}");
        assert_eq!(event("1-0".to_owned(), entry(&[(b"data", b"")]), Some("data")).flaw, None);
    }

    #[test]
    fn what_is_no_original_is_refused() {
        for (text, why) in [
            ("", "is no list of fields"),
            ("{}", "is no list of fields"),
            ("[]", "has 0 fields"),
            ("[[\"a\"]]", "is no list of fields"),
            ("[[\"a\",{\"base64\":\"?\"}]]", "is no base64"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
