//! An entry's fields as the bytes of an event.

use runtime_core::contract::Payload;

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

    fn fields(pairs: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn a_field_is_the_event_as_it_is() {
        let entry = fields(&[(b"id", b"7"), (b"data", b"{\"a\": \xff"), (b"data", b"2")]);
        assert_eq!(payload(&entry, Some("data")).unwrap(), &b"{\"a\": \xff"[..]);
        assert_eq!(payload(&entry, Some("absent")), None);
    }

    #[test]
    fn an_entry_is_an_object_of_texts() {
        let entry = fields(&[(b"cpu", b"12.5"), (b"na\"me", "a\\b\n\u{1}é".as_bytes())]);
        let made = payload(&entry, None).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(value, serde_json::json!({ "cpu": "12.5", "na\"me": "a\\b\n\u{1}é" }));
        assert_eq!(payload(&[], None).unwrap(), "{}");
    }

    #[test]
    fn bytes_that_are_no_text_make_it_malformed_and_stay() {
        let made = payload(&fields(&[(b"raw", b"\xff\xfe")]), None).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&made).is_err());
        assert_eq!(made, &b"{\"raw\":\"\xff\xfe\"}"[..]);
    }
}
