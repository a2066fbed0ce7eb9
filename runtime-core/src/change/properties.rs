//! Properties of the fingerprint, and the comparison with Python's own parser.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::fingerprint;

/// A JSON value whose numbers are decimals of any length.
#[derive(Debug, Clone)]
enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    /// `digits / 10^scale`
    Float {
        digits: i64,
        scale: u8,
    },
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i128>().prop_map(Json::Integer),
        (any::<i64>(), 0..30u8).prop_map(|(digits, scale)| Json::Float { digits, scale }),
        any::<String>().prop_map(Json::Text),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
            prop::collection::btree_map("[a-c]{0,3}|\\PC{0,12}|cpu_percent-[0-9]{1,2}", inner, 0..8)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Writes a value in one of its many spellings.
struct Speller {
    random: u64,
    out: String,
}

impl Speller {
    fn spell(value: &Json, seed: u64) -> String {
        let mut speller = Self { random: seed | 1, out: String::new() };
        speller.space();
        speller.value(value);
        speller.space();
        speller.out
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn space(&mut self) {
        let space = ["", "", " ", "\n\t", "\r\n  "][self.pick(5) as usize];
        self.out.push_str(space);
    }

    fn value(&mut self, value: &Json) {
        match value {
            Json::Null => self.out.push_str("null"),
            Json::Bool(bool) => self.out.push_str(if *bool { "true" } else { "false" }),
            Json::Integer(0) if self.pick(2) == 0 => self.out.push_str("-0"),
            Json::Integer(number) => self.out.push_str(&number.to_string()),
            Json::Float { digits, scale } => {
                let (zeros, mark) = (self.pick(4) as usize, ["e", "E"][self.pick(2) as usize]);
                let (sign, size) = (if *digits < 0 { "-" } else { "" }, digits.unsigned_abs());
                let (zeros, tail) = ("0".repeat(zeros), i64::from(*scale));
                let text = match self.pick(3) {
                    0 => format!("{sign}{size}.0{zeros}{mark}-{tail}"),
                    1 => format!("{sign}{size}{zeros}{mark}{}", -(zeros.len() as i64) - tail),
                    _ => format!(
                        "{sign}0.{zeros}{size}{mark}{:+}",
                        size.to_string().len() as i64 + zeros.len() as i64 - tail
                    ),
                };
                self.out.push_str(&text);
            }
            Json::Text(text) => self.text(text),
            Json::List(items) => {
                self.out.push('[');
                for (n, item) in items.iter().enumerate() {
                    self.out.push_str(if n > 0 { "," } else { "" });
                    self.space();
                    self.value(item);
                    self.space();
                }
                self.space();
                self.out.push(']');
            }
            Json::Object(members) => {
                let mut order: Vec<_> = members.iter().collect();
                for n in (1..order.len()).rev() {
                    let other = self.pick(n as u64 + 1) as usize;
                    order.swap(n, other);
                }
                self.out.push('{');
                for (n, (key, item)) in order.into_iter().enumerate() {
                    self.out.push_str(if n > 0 { "," } else { "" });
                    self.space();
                    self.text(key);
                    self.space();
                    self.out.push(':');
                    self.space();
                    self.value(item);
                    self.space();
                }
                self.space();
                self.out.push('}');
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for char in text.chars() {
            if self.pick(4) == 0 || matches!(char, '"' | '\\' | '\0'..='\x1f') {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let escape = if self.pick(2) == 0 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
                    self.out.push_str(&escape);
                }
            } else {
                self.out.push(char);
            }
        }
        self.out.push('"');
    }
}

/// Changes the leaf that `at` counts down to; an empty list or object is a leaf as well.
fn change(value: &mut Json, at: &mut usize) -> bool {
    match value {
        Json::List(items) if !items.is_empty() => return items.iter_mut().any(|item| change(item, at)),
        Json::Object(members) if !members.is_empty() => return members.iter_mut().any(|(_, item)| change(item, at)),
        _ if *at > 0 => {
            *at -= 1;
            return false;
        }
        Json::Null => *value = Json::Bool(false),
        Json::Bool(bool) => *bool = !*bool,
        Json::Integer(number) => *number = number.wrapping_add(1),
        Json::Float { digits, .. } => *digits = digits.wrapping_add(1),
        Json::Text(text) => text.push('x'),
        Json::List(_) => *value = Json::Object(Vec::new()),
        Json::Object(_) => *value = Json::List(Vec::new()),
    }
    true
}

proptest! {
    #[test]
    fn spelling_does_not_matter(value in json(), one: u64, other: u64) {
        let (one, other) = (Speller::spell(&value, one), Speller::spell(&value, other));
        prop_assert_eq!(fingerprint(one.as_bytes()), fingerprint(other.as_bytes()), "{} {}", one, other);
        prop_assert!(fingerprint(one.as_bytes()).is_ok());
    }

    #[test]
    fn every_leaf_matters(value in json(), leaf in 0..40usize, seed: u64) {
        let mut other = value.clone();
        let mut at = leaf;
        while !change(&mut other, &mut at) {}
        let (one, other) = (Speller::spell(&value, seed), Speller::spell(&other, seed));
        prop_assert_ne!(fingerprint(one.as_bytes()), fingerprint(other.as_bytes()), "{} {}", one, other);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = fingerprint(&bytes);
    }

    #[test]
    fn a_broken_text_is_answered(value in json(), seed: u64, at: prop::sample::Index, byte: u8) {
        let mut text = Speller::spell(&value, seed).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let _ = fingerprint(&text);
        let _ = fingerprint(&text[..at]);
    }
}

/// Texts at the edges of the grammar, accepted or not.
fn edges() -> Vec<Vec<u8>> {
    let texts = [
        "",
        " ",
        "null",
        "nul",
        "nulll",
        "true",
        "True",
        "false",
        "NaN",
        "nan",
        "-NaN",
        "Infinity",
        "-Infinity",
        "+Infinity",
        "- Infinity",
        "Infinit",
        "inf",
        "0",
        "-0",
        "00",
        "01",
        "-01",
        "-",
        "--1",
        "+1",
        "1.",
        ".1",
        "-.1",
        "1.0",
        "1.e1",
        "1e",
        "1e+",
        "1e1",
        "1E+01",
        "1e-0",
        "1e1.5",
        "0e0",
        "0x10",
        "1_000",
        "1 2",
        "0.0.0",
        "1e99999999999999999999",
        "-0.0",
        "\u{ff11}",
        "[]",
        "[ ]",
        "[,]",
        "[1,]",
        "[1",
        "]",
        "[1 2]",
        "[1,,2]",
        "[[]]",
        "[1]]",
        "{}",
        "{ }",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":1",
        "{\"a\" : 1 , \"a\" : 2}",
        "{\"\":0}",
        "{null:1}",
        "{\"a\":1}}",
        "{\"a\"1}",
        "{\"a\":1;}",
        "\"",
        "\"\"",
        "\"a",
        "'a'",
        "\"a\tb\"",
        "\"a\nb\"",
        "\"\u{0}\"",
        "\"\u{1f}\"",
        "\"\u{7f}\"",
        "\"\u{80}\"",
        "\"\\\"\"",
        "\"\\\\\"",
        "\"\\/\"",
        "\"\\b\\f\\n\\r\\t\"",
        "\"\\a\"",
        "\"\\x41\"",
        "\"\\u\"",
        "\"\\u123\"",
        "\"\\u123g\"",
        "\"\\u+123\"",
        "\"\\u 123\"",
        "\"\\u0x12\"",
        "\"\\u1_23\"",
        "\"\\U0041\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"",
        "\"\\ud800\\u\"",
        "\"\\ud800\\udc0\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\\n\"",
        "\"\\\"",
        "\"😀\"",
        "\u{feff}1",
        "1\u{feff}",
        "\u{a0}1",
        "\u{b}1",
        "\u{c}1",
        "1\u{0}",
        "\t\r\n 1 \n",
        "1 //x",
        "/*x*/1",
        "\u{2028}1",
        "\"\u{2028}\"",
        "\"a\" \"b\"",
        "true false",
        "[1]x",
        "[NaN,Infinity,-Infinity]",
        "{\"a\":NaN}",
        "undefined",
        "[1,\n2]",
        "[\"a\":1]",
        "{\"a\",1}",
        "1e5e5",
        "1.5.5",
        "-1-1",
        "[-]",
        "[1.]",
        "(1)",
        "\"\\u00e9\u{e9}\"",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.extend([
        b"\"\xff\"".to_vec(),
        b"\"\xed\xa0\x80\"".to_vec(),
        b"\"\xc0\x80\"".to_vec(),
        b"\"\xf4\x90\x80\x80\"".to_vec(),
        b"\xff\xfe1\x00".to_vec(),
    ]);
    all.extend(
        [
            "1".repeat(4300),
            "1".repeat(4301),
            format!("-{}", "1".repeat(4300)),
            format!("{}.5", "1".repeat(9000)),
            "[".repeat(100_000),
            "[".repeat(800) + &"]".repeat(800),
        ]
        .map(String::into_bytes),
    );
    all
}

#[test]
fn python_accepts_the_same_texts() {
    const PROGRAM: &str = "
import json, sys
for line in sys.stdin:
    try:
        json.loads(bytes.fromhex(line).decode())
        print('yes')
    except (ValueError, RecursionError):
        print('no')
";
    let edges = edges();
    assert!(edges.len() > 100);
    let mut child = Command::new("python3")
        .args(["-I", "-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs python3 3.11 or newer on PATH: apt-get install python3");
    let mut stdin = child.stdin.take().unwrap();
    let lines: String =
        edges.iter().map(|text| text.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let answers = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap();
    assert_eq!(answers.lines().count(), edges.len());
    let differing: Vec<_> = edges
        .iter()
        .zip(answers.lines())
        .filter(|(text, answer)| fingerprint(text).is_ok() != (*answer == "yes"))
        .map(|(text, answer)| {
            (String::from_utf8_lossy(text).chars().take(60).collect::<String>(), answer.to_owned(), fingerprint(text))
        })
        .collect();
    assert!(differing.is_empty(), "python says otherwise: {differing:#?}");
}
