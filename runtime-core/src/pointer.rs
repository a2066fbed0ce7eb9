//! The value at a JSON pointer, found without reading more than the way there.
//!
//! What Python takes for JSON counts as JSON here: the events of a function whose producer writes `NaN` have keys, too.
//! And what is one value for Python is one here, however it is spelled, as a state or a key belongs to a value.

use std::fmt;

mod scan;

use scan::Scan;

/// A JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// As RFC 6901 has it; `~1` is a slash in a name, `~0` a tilde.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
    }

    /// The value there; None where there is none, or the text is no JSON.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<Found> {
        Scan::of(text).find(&self.0)
    }
}

/// A value that was found, in the one spelling that all equal values have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Text, as it is.
    Text(String),
    /// Text with half of a surrogate pair, which no UTF-8 can express, as JSON text.
    Torn(String),
    /// `true`, which equals 1, or `false`, which equals 0.
    Bool(bool),
    /// A finite number: an integer with all its digits, also where it was written as a float.
    Number(String),
    /// `null`, `NaN`, an infinity, a list or an object, as JSON text.
    Other(String),
}

impl Found {
    /// As a part of a key.
    ///
    /// # Errors
    /// What it is instead of text or a number.
    pub fn word(&self) -> Result<&str, &'static str> {
        match self {
            Self::Text(text) | Self::Number(text) => Ok(text),
            Self::Bool(true) => Ok("true"),
            Self::Bool(false) => Ok("false"),
            Self::Torn(_) => Err("is text with half of a surrogate pair, which has no UTF-8"),
            Self::Other(_) => Err("is no text or number"),
        }
    }
}

/// One JSON text for all values that Python takes for one: without spaces, with the shortest escapes, members in the order
/// of their names, and `1` for 1.0 and `true`. Another one for each that is another; `NaN`, which equals nothing, has its
/// own.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&scan::quoted(text)),
            Self::Bool(truth) => write!(f, "{}", u8::from(*truth)),
            Self::Torn(text) | Self::Number(text) | Self::Other(text) => f.write_str(text),
        }
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
            ("/a~1b/~0", r#"{"a/b": {"~": "t"}}"#, Some(r#""t""#)),
            ("/a~1b/~0", r#"{"\u0061/b": {"\u007e": null}}"#, Some("null")),
            ("/a", r#"{"a": 1, "a": 2}"#, Some("2")),
            ("/a", r#"{"a": {"y": 1,   "x": 2}}"#, Some(r#"{"x":2,"y":1}"#)),
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
            ("/host", r#"{"host": NaN}"#, Some("NaN")),
            ("/a/1", "[NaN]", None),
            ("/1", "[NaN,-Infinity]", Some("-Infinity")),
            ("/1/a", r#"[NaN, {"a": 5}]"#, Some("5")),
            ("/host", r#"{"name": "\ud800", "host": "n1"}"#, Some(r#""n1""#)),
            ("/host", r#"{"\uDC00": 1, "host": "n1"}"#, Some(r#""n1""#)),
            ("/host", r#"{"host": "a\ud800"}"#, Some(r#""a\ud800""#)),
            ("/host", r#"{"host": "a\udbff\u0041"}"#, Some(r#""a\udbffA""#)),
            ("/host", r#"{"host": "\ud83d\ude00", "x": NaN}"#, Some("\"😀\"")),
            ("/host", r#"{"host": "n1", "x": NaNa}"#, None),
            ("/host", r#"{"host": "n1", "x": NaN"#, None),
            ("/host", r#"{"host": "n1\u"#, None),
            ("/host", r#"{"host": "n1\"#, None),
        ] {
            assert_eq!(find(pointer, payload).as_deref(), value, "{pointer} {payload}");
        }
    }

    /// What `json.loads` makes of the texts of a row is equal, and of no two rows.
    #[test]
    fn values_that_are_one_for_python_have_one_spelling() {
        let rows: &[(&str, &[&str])] = &[
            ("1", &["1", "1.0", "1e0", "10E-1", "true", "1.00000000000000000001"]),
            ("0", &["0", "-0", "0.0", "-0.0", "-0e7", "1e-400", "false"]),
            ("-1", &["-1", "-1.0"]),
            ("\"1\"", &["\"1\"", r#""\u0031""#]),
            ("\"true\"", &["\"true\""]),
            ("123456789012345678901234567890", &["123456789012345678901234567890"]),
            ("123456789012345678901234567891", &["123456789012345678901234567891"]),
            ("18446744073709551616", &["18446744073709551616", "1.8446744073709551616e19", "18446744073709551616.0"]),
            ("10000000000000000000000", &["1e22", "10000000000000000000000"]),
            ("1.5", &["1.5", "1.50", "15e-1"]),
            ("0.1", &["0.1", "0.10000000000000000001"]),
            ("1e-7", &["1e-7", "0.0000001"]),
            ("Infinity", &["Infinity", "1e400", "1E+999"]),
            ("-Infinity", &["-Infinity", "-1e400"]),
            ("NaN", &["NaN"]),
            ("null", &["null"]),
            ("\"NaN\"", &["\"NaN\""]),
            ("[1,1,0]", &["[1, true, -0.0]", "[1.0,1,0]"]),
            ("[[1,1,0]]", &["[[1, 1, 0]]"]),
            (r#"{"a":1,"b":[]}"#, &[r#"{"b": [], "a": 1.0}"#, r#"{"a": 7, "b": [ ], "\u0061": true}"#]),
            ("{}", &["{}", "{ }"]),
            ("\"\\ud800\"", &[r#""\ud800""#, r#""\uD800""#]),
            ("\"\\\\ud800\"", &[r#""\\ud800""#]),
            ("\"\u{fffd}d800\"", &["\"\u{fffd}d800\""]),
        ];
        for (spelling, texts) in rows {
            for text in *texts {
                assert_eq!(find("/k", &format!("{{\"k\": {text}}}")).as_deref(), Some(*spelling), "{text}");
            }
        }
        let spellings: std::collections::BTreeSet<_> = rows.iter().map(|(spelling, _)| spelling).collect();
        assert_eq!(spellings.len(), rows.len());
    }

    #[test]
    fn what_is_no_json_has_no_values() {
        for payload in [
            "",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{\"b\":[1,],\"a\":1}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"b\":\"\n\",\"a\":1}",
            "{\"b\":\"\\x\",\"a\":1}",
            "{\"b\":\"\\u00g0\",\"a\":1}",
            "{\"b\":nul,\"a\":1}",
            "{\"b\":-,\"a\":1}",
            "{\"b\":[},\"a\":1}",
        ] {
            assert_eq!(find("/a", payload), None, "{payload}");
        }
        let deep = |levels: usize| format!("{{\"b\":{}{},\"a\":1}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(find("/a", &deep(800)).as_deref(), Some("1"));
        assert_eq!(find("/a", &deep(1_000_000)), None);
        assert_eq!(Pointer::new("/a").find(b"{\"a\":\"\xff\"}"), None);
    }

    proptest::proptest! {
        /// As serde_json has it, where both know the value.
        #[test]
        fn the_way_is_that_of_other_readers(value in proptest::arbitrary::any::<(String, i64, Vec<String>)>()) {
            let payload = serde_json::json!({ "n": value.1, "a/b": { value.0.clone(): value.2, "~": value.0 } });
            let text = payload.to_string();
            let name = value.0.replace('~', "~0").replace('/', "~1");
            for pointer in ["/n".to_owned(), "/a~1b/~0".to_owned(), format!("/a~1b/{name}"), format!("/a~1b/{name}/0")] {
                let wanted = payload.pointer(&pointer).map(ToString::to_string);
                proptest::prop_assert_eq!(Pointer::new(&pointer).find(text.as_bytes()).map(|found| found.to_string()), wanted);
            }
        }
    }
}
