//! An entry's fields as the bytes of an event, and back.

use std::fmt;

use runtime_core::contract::Payload;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Names and values of an entry.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The value of `field`, the first of that name; None where there is none. Without a field's name an object of all of
/// them, in order, with texts as values. Bytes that are no UTF-8 stay what they are: the event is malformed then, and
/// says where.
pub(super) fn payload(fields: &[(Vec<u8>, Vec<u8>)], field: Option<&str>) -> Option<Payload> {
    if let Some(field) = field {
        return fields.iter().find(|(name, _)| name == field.as_bytes()).map(|(_, value)| value.clone().into());
    }
    let size = fields.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
    let mut text = Vec::with_capacity(size + 2);
    text.push(b'{');
    for (number, (name, value)) in fields.iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        quote(&mut text, name);
        text.push(b':');
        quote(&mut text, value);
    }
    text.push(b'}');
    Some(text.into())
}

/// The fields of an entry that becomes this event: the event as it is in the field of that name, or without one the
/// members of an object, in their order. Of those, texts are taken as they are, everything else as its JSON.
///
/// # Errors
/// Why it cannot be one, as part of a sentence.
pub(super) fn fields(payload: &Payload, field: Option<&str>) -> Result<Fields, String> {
    if let Some(field) = field {
        return Ok(vec![(field.as_bytes().to_vec(), payload.to_vec())]);
    }
    let mut reader = serde_json::Deserializer::from_slice(payload);
    let members = reader.deserialize_map(Members).and_then(|members| reader.end().map(|()| members));
    let members = members.map_err(|error| format!("it is no object, whose members would be the fields ({error})"))?;
    match members.len() {
        0 => Err("it is an empty object, and an entry needs a field".to_owned()),
        _ => Ok(members),
    }
}

/// Reads an object in its order, each member as often as it is there.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            let text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            fields.push((name.into_bytes(), text.into_bytes()));
        }
        Ok(fields)
    }
}

fn quote(text: &mut Vec<u8>, bytes: &[u8]) {
    text.push(b'"');
    for byte in bytes {
        match byte {
            b'"' => text.extend(b"\\\""),
            b'\\' => text.extend(b"\\\\"),
            0..=0x1f => text.extend(format!("\\u{byte:04x}").as_bytes()),
            _ => text.push(*byte),
        }
    }
    text.push(b'"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields_of(pairs: &[(&[u8], &[u8])]) -> Fields {
        pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn a_field_is_the_event_as_it_is() {
        let entry = fields_of(&[(b"id", b"7"), (b"data", b"{\"a\": \xff"), (b"data", b"2")]);
        assert_eq!(payload(&entry, Some("data")).unwrap(), &b"{\"a\": \xff"[..]);
        assert_eq!(payload(&entry, Some("absent")), None);
    }

    #[test]
    fn an_entry_is_an_object_of_texts() {
        let entry = fields_of(&[(b"cpu", b"12.5"), (b"na\"me", "a\\b\n\u{1}é".as_bytes())]);
        let made = payload(&entry, None).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(value, serde_json::json!({ "cpu": "12.5", "na\"me": "a\\b\n\u{1}é" }));
        assert_eq!(payload(&[], None).unwrap(), "{}");
    }

    #[test]
    fn an_event_becomes_an_entry_again() {
        let entry = fields_of(&[(b"b", b"1"), (b"a", "\u{e9}\"\n".as_bytes()), (b"b", b"2")]);
        assert_eq!(fields(&payload(&entry, None).unwrap(), None).unwrap(), entry);
        let event = Payload::from(&br#" {"n": 12.5, "o": {"x": [1]}, "t": "\u00e9", "z": null} "#[..]);
        let made = fields_of(&[(b"n", b"12.5"), (b"o", br#"{"x":[1]}"#), (b"t", "\u{e9}".as_bytes()), (b"z", b"null")]);
        assert_eq!(fields(&event, None).unwrap(), made);
        let broken = Payload::from(&b"{\xff"[..]);
        assert_eq!(fields(&broken, Some("data")).unwrap(), fields_of(&[(b"data", b"{\xff")]));
        for (text, why) in [("[1]", "no object"), ("{\"a\":1", "no object"), ("{}", "empty"), ("{} x", "no object")] {
            let said = fields(&Payload::from(text), None).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_make_it_malformed_and_stay() {
        let made = payload(&fields_of(&[(b"raw", b"\xff\xfe")]), None).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&made).is_err());
        assert_eq!(made, &b"{\"raw\":\"\xff\xfe\"}"[..]);
    }
}
