//! Values as options spell them: durations, sizes, and keys with placeholders.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::pointer::Pointer;

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
        if !self.0.subsec_nanos().is_multiple_of(1_000_000) {
            write!(f, "{}s", self.0.as_secs_f64())
        } else if !millis.is_multiple_of(1000) {
            write!(f, "{millis}ms")
        } else if millis > 0 && millis.is_multiple_of(60_000) {
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
            if self.0 >= unit && self.0.is_multiple_of(unit) {
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
    /// As it was written, and taken apart.
    Pointer(String, Pointer),
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

    /// The key of one result. Text is taken as it is, a boolean as `true` or `false`, and a number with all its digits, in
    /// the one spelling that equal numbers have: 1.0 is `1`.
    ///
    /// # Errors
    /// A sentence that names the pointer that leads to nothing, or to what is no text and no finite number; or all is empty.
    pub fn fill(&self, result: &[u8], event: &[u8]) -> Result<Cow<'_, str>, String> {
        if self.is_constant() {
            return Ok(Cow::Borrowed(&self.text));
        }
        let mut key = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => key.push_str(text),
                Part::Pointer(pointer, way) => match way.find(result).or_else(|| way.find(event)) {
                    Some(found) => match found.word() {
                        Ok(word) => key.push_str(word),
                        Err(why) => return Err(format!("key '{}': the value at '{pointer}' {why}", self.text)),
                    },
                    None => {
                        return Err(format!(
                            "key '{}': neither result nor event has a value at '{pointer}'",
                            self.text
                        ));
                    }
                },
            }
        }
        if key.is_empty() {
            return Err(format!("key '{}': all of its values are empty, and a key must not be", self.text));
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
                return Err(format!("'{text}': the placeholder '{}' has no end; close it with '}}'", &rest[start..]));
            };
            if start > 0 {
                parts.push(Part::Literal(rest[..start].to_owned()));
            }
            let pointer = &rest[start + 1..start + length];
            parts.push(Part::Pointer(pointer.to_owned(), Pointer::new(pointer)));
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

    #[derive(Debug, serde::Deserialize)]
    struct Options {
        time: Option<Span>,
        size: Option<Size>,
    }

    fn wrong(json: &str) -> String {
        serde_json::from_str::<Options>(json).unwrap_err().to_string()
    }

    #[test]
    fn numbers_are_seconds_and_bytes() {
        let read = |json: &str| serde_json::from_str::<Options>(json).unwrap();
        assert_eq!(read(r#"{"time": 2, "size": 4096}"#).time, Some(Span::seconds(2)));
        assert_eq!(read(r#"{"time": 0.25, "size": 2e3}"#).size, Some(Size(2000)));
        assert_eq!(read(r#"{"time": "1.5s", "size": "1.5KiB"}"#).size, Some(Size(1536)));
        assert_eq!(read(r#"{"time": 0, "size": 0}"#).time, Some(Span::seconds(0)));
        assert!(wrong(r#"{"time": -1}"#).contains("'-1' is no duration from 0 to a year"));
        assert!(wrong(r#"{"time": 1e300}"#).contains("is no duration from 0 to a year"));
        assert!(
            wrong(r#"{"time": true}"#).contains("expected a duration such as 500ms, 5s, 1m or a number of seconds")
        );
        assert!(wrong(r#"{"size": -1}"#).contains("'-1' is no size; write 64KiB, 2MiB or a number of bytes"));
        assert!(wrong(r#"{"size": 1.5}"#).contains("'1.5' is no size"));
        assert!(wrong(r#"{"size": []}"#).contains("expected a size such as 64KiB, 2MiB or a number of bytes"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(micros in 0_u64..30_000_000_000_000, bytes in 0_u64..1 << 50) {
            let span = Span(Duration::from_micros(micros));
            let back = span.to_string().parse::<Span>().unwrap();
            // a float of seconds holds microseconds exactly enough
            assert!(back.0.abs_diff(span.0) < Duration::from_micros(1), "{span} {back}");
            assert_eq!(Size(bytes).to_string().parse::<Size>().unwrap(), Size(bytes));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,20}") {
            let _ = (text.parse::<Span>(), text.parse::<Size>(), text.parse::<Template>().map(|key| key.fill(b"{}", b"[1]").is_ok()));
        }
    }

    #[test]
    fn the_schemas_patterns_agree_with_the_parsers() {
        let schema = serde_json::to_value(schemars::schema_for!(Span)).unwrap();
        assert_eq!(schema["anyOf"][0]["pattern"], "^[0-9.]+ *(us|ms|s|m|min|h|d)?$");
        for unit in ["us", "ms", "s", "m", "min", "h", "d", ""] {
            assert!(format!("1.5 {unit}").parse::<Span>().is_ok(), "{unit}");
        }
        for unit in ["", "B", "KB", "KiB", "K", "MB", "MiB", "G", "GiB", "TiB"] {
            assert!(format!("1{unit}").parse::<Size>().is_ok(), "{unit}");
        }
    }

    #[test]
    fn odd_templates() {
        let fill = |key: &str, result: &[u8]| {
            key.parse::<Template>().unwrap().fill(result, b"{\"e\": true}").map(String::from)
        };
        assert_eq!(fill("{/a}{/b}", b"{\"a\": 1.50, \"b\": \"x\"}").unwrap(), "1.5x");
        assert_eq!(fill("{{/e}}", b"3").unwrap(), "{true}");
        assert_eq!(fill("{/a~1b}", b"{\"a/b\": \"s\"}").unwrap(), "s");
        assert_eq!(fill("{/e}", b"not json").unwrap(), "true");
        assert_eq!(fill("{/a}", b"{\"load\": NaN, \"a\": \"x\"}").unwrap(), "x");
        for result in
            ["{\"a\": null}", "{\"a\": NaN}", "{\"a\": []}", "{\"a\": {}}", "{\"a\": 1e400}", "{\"a\": -Infinity}"]
        {
            let said = fill("k:{/a}", result.as_bytes()).unwrap_err();
            assert_eq!(said, "key 'k:{/a}': the value at '/a' is no text or number");
        }
        assert_eq!(
            fill("k:{/a}", br#"{"a": "x\ud800"}"#).unwrap_err(),
            "key 'k:{/a}': the value at '/a' is text with half of a surrogate pair, which has no UTF-8"
        );
        assert_eq!(fill("k:{/a}", b"{\"a\": \"\"}").unwrap(), "k:");
        assert_eq!(
            fill("{/a}", b"{\"a\": \"\"}").unwrap_err(),
            "key '{/a}': all of its values are empty, and a key must not be"
        );
        assert_eq!("".parse::<Template>().unwrap_err(), "a key must not be empty");
        assert_eq!(
            "a{/b".parse::<Template>().unwrap_err(),
            "'a{/b': the placeholder '{/b' has no end; close it with '}'"
        );
    }

    #[test]
    fn numbers_that_are_equal_have_one_key_and_others_have_others() {
        let key: Template = "k:{/n}".parse().unwrap();
        let filled = |number: &str| key.fill(format!("{{\"n\": {number}}}").as_bytes(), b"").unwrap().into_owned();
        for (numbers, written) in [
            (&["1", "1.0", "10e-1"][..], "k:1"),
            (&["0", "-0", "-0.0", "0e5"], "k:0"),
            (&["123456789012345678901234567890"], "k:123456789012345678901234567890"),
            (&["123456789012345678901234567891"], "k:123456789012345678901234567891"),
            (&["-0.5", "-5e-1"], "k:-0.5"),
        ] {
            numbers.iter().for_each(|number| assert_eq!(filled(number), written));
        }
        assert_eq!(filled("true"), "k:true");
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
