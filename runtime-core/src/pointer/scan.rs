//! One pass over a JSON text, as Python reads it: to the value at the end of a way, whose spelling is made there.
//!
//! No JSON crate accepts exactly what `json.loads` does, and keeps numbers as they are written.

use std::collections::BTreeMap;

use super::Found;

/// Levels of arrays and objects: Python's own limit is near, and a thread's stack bears it.
const DEPTH: usize = 900;

/// A text, and how far it has been read. None, wherever it is answered, stands for a text that is no JSON.
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) const fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The value at the end of the way.
    pub(super) fn find(mut self, way: &[String]) -> Option<Found> {
        self.space();
        let place = self.walk(way, 0)?;
        self.space();
        if self.at < self.text.len() {
            return None;
        }
        // read once more, as only the last of several members of one name counts
        Scan { text: self.text, at: place? }.value()
    }

    /// Where the value at the end of the way begins, having read the whole of this one.
    fn walk(&mut self, way: &[String], depth: usize) -> Option<Option<usize>> {
        let Some((step, rest)) = way.split_first() else {
            let start = self.at;
            self.skip(depth)?;
            return Some(Some(start));
        };
        let mut found = None;
        match self.peek()? {
            b'{' => self.members(depth, |scan, name, depth| {
                if is_name(name, step) {
                    found = scan.walk(rest, depth)?;
                    return Some(());
                }
                scan.skip(depth)
            })?,
            b'[' => {
                let (at, mut place) = (step.parse::<usize>().ok(), 0);
                self.items(depth, |scan, depth| {
                    place += 1;
                    if Some(place - 1) == at {
                        found = scan.walk(rest, depth)?;
                        return Some(());
                    }
                    scan.skip(depth)
                })?;
            }
            // the way leads further than the value does
            _ => self.skip(depth)?,
        }
        Some(found)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// One of the words that are values; `NaN` and the infinities are Python's.
    fn word(&mut self) -> Option<&'static str> {
        let words = ["null", "true", "false", "NaN", "Infinity", "-Infinity"];
        let word = words.into_iter().find(|word| self.text[self.at..].starts_with(word.as_bytes()))?;
        self.at += word.len();
        Some(word)
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.members(depth, |scan, _, depth| scan.skip(depth)),
            b'[' => self.items(depth, Self::skip),
            b'-' | b'0'..=b'9' if !self.text[self.at..].starts_with(b"-I") => self.number().map(drop),
            _ => self.word().map(drop),
        }
    }

    /// Each member of an object: the name as it is written, with its value to be read.
    fn members(&mut self, depth: usize, mut each: impl FnMut(&mut Self, &'a [u8], usize) -> Option<()>) -> Option<()> {
        self.list(depth, b'}', |scan, depth| {
            let name = scan.string()?;
            scan.space();
            scan.take(b':')?;
            scan.space();
            each(scan, name, depth)
        })
    }

    fn items(&mut self, depth: usize, each: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<()> {
        self.list(depth, b']', each)
    }

    fn list(&mut self, depth: usize, end: u8, mut each: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<()> {
        if depth == DEPTH {
            return None;
        }
        self.at += 1;
        self.space();
        if self.take(end).is_some() {
            return Some(());
        }
        loop {
            each(self, depth + 1)?;
            self.space();
            if self.take(end).is_some() {
                return Some(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    /// What stands between the quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                0..=0x1f => return None,
                b'\\' => self.at += escape(&self.text[self.at..])?.1,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.text[start..self.at - 1])
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// The number as it is written, and whether it is an integer.
    fn number(&mut self) -> Option<(&'a str, bool)> {
        let start = self.at;
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        let end = self.at;
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = str::from_utf8(&self.text[start..self.at]).ok()?;
        Some((text, self.at == end))
    }

    /// The value that begins here.
    fn value(&mut self) -> Option<Found> {
        Some(match self.peek()? {
            b'"' => text(self.string()?)?,
            b'{' => {
                let mut members = BTreeMap::new();
                self.members(0, |scan, name, _| {
                    members.insert(text(name)?.to_string(), scan.value()?.to_string());
                    Some(())
                })?;
                let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                Found::Other(format!("{{{}}}", members.join(",")))
            }
            b'[' => {
                let mut items = Vec::new();
                self.items(0, |scan, _| {
                    items.push(scan.value()?.to_string());
                    Some(())
                })?;
                Found::Other(format!("[{}]", items.join(",")))
            }
            b'-' | b'0'..=b'9' if !self.text[self.at..].starts_with(b"-I") => {
                let (text, is_integer) = self.number()?;
                number(text, is_integer)?
            }
            _ => match self.word()? {
                "true" => Found::Bool(true),
                "false" => Found::Bool(false),
                word => Found::Other(word.to_owned()),
            },
        })
    }
}

/// A float that is a whole number is the integer that it equals: a double with an exponent has no hidden digits.
fn number(text: &str, is_integer: bool) -> Option<Found> {
    if is_integer {
        return Some(Found::Number(if text == "-0" { "0" } else { text }.to_owned()));
    }
    let float: f64 = text.parse().ok()?;
    Some(match serde_json::Number::from_f64(float) {
        None if float > 0.0 => Found::Other("Infinity".to_owned()),
        None => Found::Other("-Infinity".to_owned()),
        Some(_) if float == 0.0 => Found::Number("0".to_owned()),
        Some(_) if float.fract() == 0.0 => Found::Number(format!("{float:.0}")),
        Some(number) => Found::Number(number.to_string()),
    })
}

/// A part of a text: a character, or half of one.
enum Unit {
    Whole(char),
    Half(u32),
}

/// What an escape stands for, and its length.
fn escape(text: &[u8]) -> Option<(Unit, usize)> {
    let whole = |letter| Some((Unit::Whole(letter), 2));
    match text.get(1)? {
        b'"' => whole('"'),
        b'\\' => whole('\\'),
        b'/' => whole('/'),
        b'b' => whole('\u{8}'),
        b'f' => whole('\u{c}'),
        b'n' => whole('\n'),
        b'r' => whole('\r'),
        b't' => whole('\t'),
        b'u' => {
            let first = unit(text)?;
            if let (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) = (first, unit(&text[6..])) {
                let point = 0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff);
                return Some((Unit::Whole(char::from_u32(point)?), 12));
            }
            Some((char::from_u32(first).map_or(Unit::Half(first), Unit::Whole), 6))
        }
        _ => None,
    }
}

/// The value of the escape `\uXXXX` that the text begins with.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
}

/// The text that is written so between quotes; None where that is no UTF-8.
fn text(written: &[u8]) -> Option<Found> {
    let mut whole = String::with_capacity(written.len());
    // as JSON, up to the last half of a character
    let mut torn: Option<String> = None;
    let mut rest = str::from_utf8(written).ok()?;
    while let Some(at) = rest.find('\\') {
        whole.push_str(&rest[..at]);
        let (unit, length) = escape(&rest.as_bytes()[at..])?;
        rest = &rest[at + length..];
        match unit {
            Unit::Whole(letter) => whole.push(letter),
            Unit::Half(half) => {
                let torn = torn.get_or_insert_default();
                torn.push_str(inner(&quoted(&whole)));
                torn.push_str(&format!("\\u{half:04x}"));
                whole.clear();
            }
        }
    }
    whole.push_str(rest);
    Some(match torn {
        None => Found::Text(whole),
        Some(torn) => Found::Torn(format!("\"{torn}{}\"", inner(&quoted(&whole)))),
    })
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn inner(quoted: &str) -> &str {
    &quoted[1..quoted.len() - 1]
}

fn is_name(written: &[u8], name: &str) -> bool {
    match written.contains(&b'\\') {
        false => written == name.as_bytes(),
        true => text(written).is_some_and(|found| found == Found::Text(name.to_owned())),
    }
}
