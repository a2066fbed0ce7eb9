//! Answers of the stream commands, taken apart. What is not as expected is left out: a newer server may say more.

use redis::Value;

use super::Entry;

/// The items of an array; none of anything else.
pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// UTF-8 text.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The texts of an array.
pub(super) fn texts(value: Option<Value>) -> Vec<String> {
    value.map(list).unwrap_or_default().iter().filter_map(text).map(str::to_owned).collect()
}

/// A number that is not negative.
pub(super) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => text(value)?.parse().ok(),
    }
}

/// Entries as XREADGROUP, XCLAIM and XRANGE give them. Servers before 7.0 give nothing but nil for a deleted one.
pub(super) fn entries(value: Value) -> Vec<Entry> {
    list(value).into_iter().filter_map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = list(value).into_iter();
    let id = text(&parts.next()?)?.to_owned();
    let fields = match parts.next() {
        Some(Value::Array(words)) => {
            let mut words = words.into_iter().map(bytes);
            let mut fields = Vec::new();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                fields.push((name, value));
            }
            Some(fields)
        }
        _ => None,
    };
    Some(Entry { id, fields })
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn entries_whole_deleted_and_missing() {
        let whole = Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("a"), bulk("1"), bulk("a"), bulk("2")])]);
        let deleted = Value::Array(vec![bulk("2-0"), Value::Nil]);
        let found = entries(Value::Array(vec![whole, deleted, Value::Nil]));
        let fields = vec![(b"a".to_vec(), b"1".to_vec()), (b"a".to_vec(), b"2".to_vec())];
        assert_eq!(
            found,
            [Entry { id: "1-0".to_owned(), fields: Some(fields) }, Entry { id: "2-0".to_owned(), fields: None },]
        );
        assert_eq!(entries(Value::Nil), []);
    }

    #[test]
    fn numbers_and_texts() {
        assert_eq!(integer(&Value::Int(7)), Some(7));
        assert_eq!(integer(&bulk("7")), Some(7));
        assert_eq!(integer(&Value::Int(-1)), None);
        assert_eq!(text(&Value::BulkString(vec![0xff])), None);
    }
}
