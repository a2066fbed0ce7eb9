//! Values as options spell them: durations, sizes, and keys with placeholders.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A length of time: `500ms`, `5s`, `1m`, `2h`, or a plain number of seconds, which may have a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A year: longer times are slips, and adding them to a clock could overflow.
const LONGEST_SECONDS: f64 = 366.0 * 86_400.0;

impl Span {
    /// From whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// From milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    fn from_seconds(seconds: f64, spelled: &str) -> Result<Self, String> {
        if seconds.is_finite() && (0.0..=LONGEST_SECONDS).contains(&seconds) {
            Ok(Self(Duration::from_secs_f64(seconds)))
        } else {
            Err(format!("'{spelled}' is no duration from 0 to a year"))
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, unit) = trimmed.split_at(digits);
        let seconds = match unit.trim() {
            "us" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(format!("'{text}' is no duration; write 500ms, 5s, 1m or a number of seconds")),
        };
        let number: f64 = number
            .parse()
            .map_err(|_| format!("'{text}' is no duration; write 500ms, 5s, 1m or a number of seconds"))?;
        Self::from_seconds(number * seconds, text)
    }
}

/// The shortest spelling that reads back as the same time.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if self.0.subsec_nanos() % 1_000_000 != 0 {
            write!(f, "{}s", self.0.as_secs_f64())
        } else if millis % 1000 != 0 {
            write!(f, "{millis}ms")
        } else if millis > 0 && millis % 60_000 == 0 {
            write!(f, "{}m", millis / 60_000)
        } else {
            write!(f, "{}s", millis / 1000)
        }
    }
}

/// A number of bytes: `64KiB`, `2MiB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.trim().parse::<bytesize::ByteSize>();
        size.map(|size| Self(size.as_u64()))
            .map_err(|_| format!("'{text}' is no size; write 64KiB, 2MiB or a number of bytes"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= unit && self.0 % unit == 0 {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Both are spelled as text or as a number.
macro_rules! spelled {
    ($type:ident, $name:literal, $expecting:literal, $pattern:literal, $from_number:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Spelling;
                impl Visitor<'_> for Spelling {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        #[allow(clippy::cast_precision_loss, reason = "a number of seconds that large is refused")]
                        let made: Result<$type, String> = $from_number(number as f64, &number.to_string());
                        made.map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        #[allow(clippy::cast_precision_loss, reason = "a number of seconds that large is refused")]
                        let made: Result<$type, String> = $from_number(number as f64, &number.to_string());
                        made.map_err(E::custom)
                    }
                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        let made: Result<$type, String> = $from_number(number, &number.to_string());
                        made.map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Spelling)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "x-type": $name,
                    "anyOf": [{ "type": "string", "pattern": $pattern }, { "type": "number", "minimum": 0 }]
                })
            }
        }
    };
}

spelled!(
    Span,
    "duration",
    "a duration such as 500ms, 5s, 1m or a number of seconds",
    "^[0-9.]+ *(us|ms|s|m|min|h|d)?$",
    Span::from_seconds
);
spelled!(
    Size,
    "size",
    "a size such as 64KiB, 2MiB or a number of bytes",
    "^[0-9.]+ *([KMGT]i?)?B?$",
    |number: f64, text: &str| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked on this line")]
        if number >= 0.0 && number.fract() == 0.0 && number < 9e15 {
            Ok(Size(number as u64))
        } else {
            Err(format!("'{text}' is no size; write 64KiB, 2MiB or a number of bytes"))
        }
    }
);

/// A key in which `{/pointer}` stands for the value at that JSON pointer of the result, or else of the event.
///
/// Braces that no `/` follows are literal, as Redis Cluster's hash tags need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Pointer(String),
}

impl Template {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether every event has the same key.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// The key of one result. Text is taken as it is, numbers and booleans as JSON has them.
    ///
    /// # Errors
    /// A sentence that names the pointer that leads to nothing, or to a list, an object or null.
    pub fn fill(&self, result: &[u8], event: &[u8]) -> Result<Cow<'_, str>, String> {
        if self.is_constant() {
            return Ok(Cow::Borrowed(&self.text));
        }
        let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let trees = [read(result), read(event)];
        let mut key = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => key.push_str(text),
                Part::Pointer(pointer) => match trees.iter().flatten().find_map(|tree| tree.pointer(pointer)) {
                    Some(serde_json::Value::String(text)) => key.push_str(text),
                    Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                        key.push_str(&value.to_string());
                    }
                    Some(_) => {
                        return Err(format!("key '{}': the value at '{pointer}' is no text or number", self.text));
                    }
                    None => {
                        return Err(format!(
                            "key '{}': neither result nor event has a value at '{pointer}'",
                            self.text
                        ));
                    }
                },
            }
        }
        Ok(Cow::Owned(key))
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a key must not be empty".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{/") {
            let Some(length) = rest[start..].find('}') else {
                return Err(format!("'{text}': the placeholder '{}' has no end", &rest[start..]));
            };
            if start > 0 {
                parts.push(Part::Literal(rest[..start].to_owned()));
            }
            parts.push(Part::Pointer(rest[start + 1..start + length].to_owned()));
            rest = &rest[start + length + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Template {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "template".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "x-type": "text with {/pointer}" })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_spelling() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5000), ("1m", 60_000), ("0.25", 250), ("5", 5000), (" 1.5 s ", 1500)]
        {
            assert_eq!(text.parse::<Span>().unwrap(), Span::millis(millis), "{text}");
        }
        for text in ["", "s", "-1", "5 sec", "1e3", "99999d", "nan", "1.2.3"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["500ms", "5s", "1m", "90s", "0s", "0.0005s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn sizes_in_every_spelling() {
        assert_eq!("64KiB".parse::<Size>().unwrap(), Size(65_536));
        assert_eq!("2MiB".parse::<Size>().unwrap(), Size(2 << 20));
        assert_eq!("1000".parse::<Size>().unwrap(), Size(1000));
        assert_eq!(Size(512 << 20).to_string(), "512MiB");
        assert!("many".parse::<Size>().is_err());
    }

    #[test]
    fn placeholders_come_from_the_result_then_from_the_event() {
        let key: Template = "result:{/host}:{tag}:{/a/0}".parse().unwrap();
        assert_eq!(key.fill(br#"{"a": [7]}"#, br#"{"host": "n1", "a": [8]}"#).unwrap(), "result:n1:{tag}:7");
        assert_eq!(
            key.fill(b"{}", b"{}").unwrap_err(),
            "key 'result:{/host}:{tag}:{/a/0}': neither result nor event has a value at '/host'"
        );
        assert!("{/host".parse::<Template>().is_err());
        let plain: Template = "{tag}x".parse().unwrap();
        assert!(plain.is_constant());
        assert_eq!(plain.fill(b"not json", b"").unwrap(), "{tag}x");
    }
}
