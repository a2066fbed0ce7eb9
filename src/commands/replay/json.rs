//! Results as they are compared: numbers by value, objects without order, and each part with the text it was read from.
//!
//! What Python writes is read as well: `NaN` and `Infinity`, integers of any size, lone surrogates.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

/// Levels of nesting; deeper ones are more than Python itself writes.
const DEPTH: usize = 1000;

/// A part of a result.
#[derive(Debug)]
pub(super) struct Json<'a> {
    /// As it stands in the result.
    pub(super) text: &'a str,
    pub(super) value: Value<'a>,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// `null`, `true`, `false`: equal where the texts are.
    Word,
    Number,
    Text(String),
    List(Vec<Json<'a>>),
    Table(BTreeMap<String, Json<'a>>),
}

impl<'a> Json<'a> {
    /// Reads a text; `None` where it is no JSON.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        reader.space();
        let json = reader.json(0)?;
        reader.space();
        (reader.at == text.len()).then_some(json)
    }

    /// Whether both are the same, without a look at what they contain.
    pub(super) fn same_scalar(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Word, Value::Word) => self.text == other.text,
            (Value::Text(one), Value::Text(other)) => one == other,
            (Value::Number, Value::Number) => same_number(self.text, other.text),
            _ => false,
        }
    }

    /// As strict JSON: what it has no word for becomes text.
    pub(super) fn strict(&self, out: &mut String) {
        match &self.value {
            Value::Word => out.push_str(self.text),
            Value::Number if self.text.ends_with(|end: char| end.is_ascii_digit()) => out.push_str(self.text),
            Value::Number => out.push_str(&quoted(self.text)),
            Value::Text(text) => out.push_str(&quoted(text)),
            Value::List(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    item.strict(out);
                }
                out.push(']');
            }
            Value::Table(members) => {
                out.push('{');
                for (n, (key, member)) in members.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    out.push_str(&quoted(key));
                    out.push(':');
                    member.strict(out);
                }
                out.push('}');
            }
        }
    }
}

/// Text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `1`, `1.0` and `1e0` are the same, and so are two NaN.
fn same_number(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => float(one) == float(other),
        (Some(whole), None) => same_mixed(whole, float(other)),
        (None, Some(whole)) => same_mixed(whole, float(one)),
    }
}

/// The digits of an integer of any size; `-0` is `0`.
fn integer(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| if digits == "0" { digits } else { text })
}

fn float(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// As Python compares an int with a float: exactly.
fn same_mixed(whole: &str, float: f64) -> bool {
    // such a float is written with all its digits
    float.is_finite() && float.fract() == 0.0 && integer(&format!("{float:.0}")) == Some(whole)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes past a byte and the space behind it, where it is the next one.
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)?;
        self.space();
        Some(())
    }

    fn json(&mut self, depth: usize) -> Option<Json<'a>> {
        let start = self.at;
        let value = match self.peek()? {
            b'{' | b'[' if depth == DEPTH => return None,
            b'{' => self.table(depth + 1)?,
            b'[' => self.list(depth + 1)?,
            b'"' => Value::Text(self.string()?),
            _ => self.word()?,
        };
        Some(Json { text: &self.text[start..self.at], value })
    }

    fn table(&mut self, depth: usize) -> Option<Value<'a>> {
        let mut members = BTreeMap::new();
        self.take(b'{')?;
        while self.peek()? != b'}' {
            if !members.is_empty() {
                self.take(b',')?;
            }
            let key = self.string()?;
            self.space();
            self.take(b':')?;
            let value = self.json(depth)?;
            self.space();
            // of equal keys the last one counts
            members.insert(key, value);
        }
        self.at += 1;
        Some(Value::Table(members))
    }

    fn list(&mut self, depth: usize) -> Option<Value<'a>> {
        let mut items = Vec::new();
        self.take(b'[')?;
        while self.peek()? != b']' {
            if !items.is_empty() {
                self.take(b',')?;
            }
            items.push(self.json(depth)?);
            self.space();
        }
        self.at += 1;
        Some(Value::List(items))
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        (self.peek()? == b'"').then(|| self.at += 1)?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let text = self.text.get(start..self.at)?;
        // a lone surrogate is no text of Rust's: compared as it is escaped
        Some(serde_json::from_str(text).unwrap_or_else(|_| text[1..text.len() - 1].to_owned()))
    }

    fn word(&mut self) -> Option<Value<'a>> {
        let rest = &self.text[self.at..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        match word {
            "null" | "true" | "false" => Some(Value::Word),
            "NaN" | "Infinity" | "-Infinity" => Some(Value::Number),
            _ => serde_json::from_str::<IgnoredAny>(word).is_ok().then_some(Value::Number),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        Json::parse(one).unwrap().same_scalar(&Json::parse(other).unwrap())
    }

    #[test]
    fn scalars_are_compared_by_value() {
        for (one, other) in [
            ("1", "1.0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("0.1", "0.10000000000000000001"),
            ("NaN", "NaN"),
            ("-Infinity", "-Infinity"),
            ("18446744073709551616", "18446744073709551616.0"),
            (r#""\u00e9\n""#, "\"é\\u000a\""),
            (r#""\ud83d""#, r#""\ud83d""#),
        ] {
            assert!(same(one, other) && same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("1", "\"1\""),
            ("1", "true"),
            ("0", "false"),
            ("null", "0"),
            ("NaN", "null"),
            ("NaN", "0"),
            ("Infinity", "-Infinity"),
            ("1", "1.0000001"),
            ("9007199254740993", "9007199254740992.0"),
            ("18446744073709551616", "18446744073709551617"),
            (r#""\ud83d""#, r#""\ud83e""#),
        ] {
            assert!(!same(one, other) && !same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn parts_keep_their_text_and_the_last_of_equal_keys() {
        let json = Json::parse(r#" {"a": [1.50, {}], "b": "x", "a": [ ]} "#).unwrap();
        let Value::Table(members) = &json.value else { panic!("{json:?}") };
        assert_eq!(members["a"].text, "[ ]");
        assert_eq!(members["b"].text, "\"x\"");
        assert_eq!(json.text, r#"{"a": [1.50, {}], "b": "x", "a": [ ]}"#);
    }

    #[test]
    fn what_json_has_no_word_for_becomes_text() {
        let strict = |text: &str| {
            let mut out = String::new();
            Json::parse(text).unwrap().strict(&mut out);
            serde_json::from_str::<IgnoredAny>(&out).unwrap();
            out
        };
        assert_eq!(
            strict(r#"{"a": [NaN, -Infinity, 1e5], "b": null, "c\"": "\ud83d"}"#),
            r#"{"a":["NaN","-Infinity",1e5],"b":null,"c\"":"\\ud83d"}"#
        );
        assert_eq!(strict("36893488147419103232"), "36893488147419103232");
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in
            ["", "{", "[1", "[1 2]", "{1: 2}", "nul", "01", "1.", "+1", "\"", "\"\\", "1 2", "{\"a\" 1}", "[,1]"]
        {
            assert!(Json::parse(text).is_none(), "{text}");
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Json::parse(&nested(DEPTH)).is_some());
        assert!(Json::parse(&nested(DEPTH + 1)).is_none());
    }
}
