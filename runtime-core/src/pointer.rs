//! The value at a JSON pointer, found without reading more than the way there.
//!
//! What Python takes for JSON counts as JSON here: the events of a function whose producer writes `NaN` have keys, too.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// As RFC 6901 has it; `~1` is a slash in a name, `~0` a tilde.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
    }

    /// The value there; None where there is none. `NaN` and the infinities are null, and an escaped half of a
    /// character is U+FFFD and its four digits.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<Value> {
        match self.strictly(text) {
            Ok(found) => found,
            Err(_) => self.strictly(&mended(text)?).ok()?,
        }
    }

    fn strictly(&self, text: &[u8]) -> Result<Option<Value>, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let value = Step(&self.0).deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

/// Words that Python's `json` reads and writes although they are no JSON.
const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// The text with what Python alone takes for JSON in words that everybody does; None where there is nothing of it.
fn mended(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let (mut at, mut inside, mut changed) = (0, false, false);
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        if !inside && let Some(word) = WORDS.iter().find(|word| rest.starts_with(word)) {
            out.extend_from_slice(b"null");
            at += word.len();
            changed = true;
        } else if inside && byte == b'\\' {
            let length = match unit(rest) {
                Some(0xd800..=0xdbff) if matches!(unit(&rest[6..]), Some(0xdc00..=0xdfff)) => 12,
                Some(half @ 0xd800..=0xdfff) => {
                    // with its digits, as two values that differ in it are two
                    out.extend_from_slice(format!("\\ufffd{half:04x}").as_bytes());
                    at += 6;
                    changed = true;
                    continue;
                }
                Some(_) => 6,
                None => rest.len().min(2),
            };
            out.extend_from_slice(&rest[..length]);
            at += length;
        } else {
            inside ^= byte == b'"';
            out.push(byte);
            at += 1;
        }
    }
    changed.then_some(out)
}

/// The value of the escape `\uXXXX` that the text begins with.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
}

/// Whether a member's name is this one; most are not, and need no memory of their own.
struct Name<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

struct Step<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(here) = map.next_key_seed(Name(&self.0[0]))? {
            // of a name that is there twice, the last one counts, as for Python
            if here {
                found = map.next_value_seed(Step(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let at = self.0[0].parse::<usize>().ok();
        let mut place = 0;
        loop {
            let more = if Some(place) == at {
                let more = list.next_element_seed(Step(&self.0[1..]))?;
                let there = more.is_some();
                found = more.flatten();
                there
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(found);
            }
            place += 1;
        }
    }

    // the way leads further than the value does
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(pointer: &str, payload: &str) -> Option<String> {
        Pointer::new(pointer).find(payload.as_bytes()).map(|value| value.to_string())
    }

    #[test]
    fn the_value_at_the_end_of_the_way() {
        for (pointer, payload, key) in [
            ("/host", r#"{"cpu": [1, {"host": 2}], "host": "n1", "z": null}"#, Some(r#""n1""#)),
            ("/host", r#"{"host": "a\u00e9\/b"}"#, Some(r#""aé/b""#)),
            ("/a/b", r#"{"a": {"c": 1, "b": 7}}"#, Some("7")),
            ("/a/1", r#"{"a": ["x", "y", "z"]}"#, Some(r#""y""#)),
            ("/a~1b/~0", r#"{"a/b": {"~": true}}"#, Some("true")),
            ("/a", r#"{"a": 1, "a": 2}"#, Some("2")),
            ("/a", r#"{"a": {"y": 1,   "x": 2}}"#, Some(r#"{"y":1,"x":2}"#)),
            ("/a/b", r#"{"a": "text"}"#, None),
            ("/a/7", r#"{"a": [1]}"#, None),
            ("/host", "{}", None),
            ("/host", "no json", None),
            ("/host", r#"{"host": "n1""#, None),
            ("", "3", Some("3")),
        ] {
            assert_eq!(find(pointer, payload).as_deref(), key, "{pointer} {payload}");
        }
    }

    #[test]
    fn what_python_takes_for_json_hides_no_value() {
        for (pointer, payload, value) in [
            ("/host", r#"{"load": NaN, "host": "n1", "t": [-Infinity, Infinity]}"#, Some(r#""n1""#)),
            ("/host", r#"{"load": NaN, "host": "NaN, -Infinity"}"#, Some(r#""NaN, -Infinity""#)),
            ("/host", r#"{"host": "\"NaN\\", "load": NaN}"#, Some(r#""\"NaN\\""#)),
            ("/host", r#"{"host": NaN}"#, Some("null")),
            ("/a/1", "[NaN]", None),
            ("/1", "[NaN,-Infinity]", Some("null")),
            ("/1/a", r#"[NaN, {"a": 5}]"#, Some("5")),
            ("/host", r#"{"name": "\ud800", "host": "n1"}"#, Some(r#""n1""#)),
            ("/host", r#"{"\uDC00": 1, "host": "n1"}"#, Some(r#""n1""#)),
            ("/host", r#"{"host": "a\ud800"}"#, Some("\"a\u{fffd}d800\"")),
            ("/host", r#"{"host": "a\udbff\u0041"}"#, Some("\"a\u{fffd}dbffA\"")),
            ("/host", r#"{"host": "\ud83d\ude00", "x": NaN}"#, Some("\"😀\"")),
            ("/host", r#"{"host": "n1", "x": NaNa}"#, None),
            ("/host", r#"{"host": "n1", "x": NaN"#, None),
            ("/host", r#"{"host": "n1\u"#, None),
            ("/host", r#"{"host": "n1\"#, None),
        ] {
            assert_eq!(find(pointer, payload).as_deref(), value, "{pointer} {payload}");
        }
    }
}
