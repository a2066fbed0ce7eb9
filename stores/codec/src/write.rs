//! One pass from anything to a text.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::DEPTH;
use crate::error::{Error, Reason};
use crate::value::{Atom, Float, Mapping, Sequence};

mod numpy;
mod time;
mod value;

/// Whether a dict may have this text as a key and still be written as a plain object.
#[inline]
pub fn is_plain_key(text: &str) -> bool {
    !text.starts_with('$')
}

/// Writes values one after the other, from the outside in.
///
/// ```
/// # use state_codec::{Sequence, Writer};
/// let mut writer = Writer::default();
/// writer.begin(Sequence::Tuple)?;
/// for number in [1, 2] {
///     writer.item();
///     writer.int(number);
/// }
/// writer.end(Sequence::Tuple);
/// assert_eq!(writer.finish(), r#"{"$tuple":[1,2]}"#);
/// # Ok::<(), state_codec::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    /// How long the text is by now, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    /// Nothing.
    #[inline]
    pub fn none(&mut self) {
        self.text.push_str("null");
    }

    /// True or false.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.text.push_str(if value { "true" } else { "false" });
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.text.push_str(itoa::Buffer::new().format(value));
    }

    /// A float: the shortest digits that read back as the same one.
    #[inline]
    pub fn float(&mut self, value: f64) {
        if value.is_finite() {
            self.text.push_str(zmij::Buffer::new().format_finite(value));
        } else {
            let name = if value.is_nan() {
                "nan"
            } else if value > 0.0 {
                "inf"
            } else {
                "-inf"
            };
            self.tagged("$float", |writer| writer.str(name));
        }
    }

    /// Text.
    #[inline]
    pub fn str(&mut self, text: &str) {
        self.text.push('"');
        let mut start = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.text.push_str(&text[start..at]);
            self.escape(byte);
            start = at + 1;
        }
        self.text.push_str(&text[start..]);
        self.text.push('"');
    }

    #[cold]
    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            _ => return write!(self.text, "\\u{byte:04x}").unwrap_or(()),
        };
        self.text.push_str(short);
    }

    fn tagged(&mut self, tag: &'static str, inner: impl FnOnce(&mut Self)) {
        self.open(tag);
        inner(self);
        self.text.push('}');
    }

    fn open(&mut self, tag: &'static str) {
        self.text.push_str("{\"");
        self.text.push_str(tag);
        self.text.push_str("\":");
    }

    fn base64(&mut self, data: &[u8]) {
        self.text.push('"');
        STANDARD.encode_string(data, &mut self.text);
        self.text.push('"');
    }

    /// A value without parts.
    pub fn atom(&mut self, atom: &Atom<'_>) {
        match atom {
            Atom::None => self.none(),
            Atom::Bool(value) => self.bool(*value),
            Atom::Int(value) => self.int(*value),
            Atom::BigInt(text) => self.tagged("$int", |writer| writer.str(text)),
            Atom::Float(Float(value)) => self.float(*value),
            Atom::Complex(Float(real), Float(imaginary)) => self.tagged("$complex", |writer| {
                writer.text.push('[');
                writer.float(*real);
                writer.text.push(',');
                writer.float(*imaginary);
                writer.text.push(']');
            }),
            Atom::Str(text) => self.str(text),
            Atom::Surrogates(data) => self.tagged("$str", |writer| writer.base64(data)),
            Atom::Bytes(data) => self.tagged("$bytes", |writer| writer.base64(data)),
            Atom::ByteArray(data) => self.tagged("$bytearray", |writer| writer.base64(data)),
            Atom::Decimal(text) => self.tagged("$decimal", |writer| writer.str(text)),
            Atom::Date(date) => self.tagged("$date", |writer| writer.shown(date)),
            Atom::Time(time) => self.tagged("$time", |writer| writer.moment(None, time)),
            Atom::DateTime(moment) => self.tagged("$datetime", |writer| {
                writer.moment(Some(&moment.date), &moment.time);
            }),
            Atom::TimeDelta { days, seconds, micros } => self.tagged("$timedelta", |writer| {
                writer.text.push('[');
                writer.int((*days).into());
                writer.text.push(',');
                writer.int((*seconds).into());
                writer.text.push(',');
                writer.int((*micros).into());
                writer.text.push(']');
            }),
            Atom::Zone(zone) => self.tagged("$timezone", |writer| match zone.plain() {
                Some(offset) => writer.shown(offset),
                None => {
                    writer.text.push('{');
                    writer.zone(zone);
                    writer.text.push('}');
                }
            }),
        }
    }

    /// Text that needs no escapes.
    fn shown(&mut self, text: impl std::fmt::Display) {
        // a String takes whatever is written
        let _ = write!(self.text, "\"{text}\"");
    }

    #[inline]
    fn down(&mut self) -> Result<(), Error> {
        if self.depth == DEPTH {
            return Err(Reason::Deep.into());
        }
        self.depth += 1;
        Ok(())
    }

    /// Opens a sequence; then [`item`](Self::item) and a value for each of its items, then [`end`](Self::end).
    ///
    /// # Errors
    /// It lies too deep.
    #[inline]
    pub fn begin(&mut self, kind: Sequence) -> Result<(), Error> {
        self.down()?;
        match kind {
            Sequence::List => {}
            Sequence::Tuple => self.open("$tuple"),
            Sequence::Set => self.open("$set"),
            Sequence::FrozenSet => self.open("$frozenset"),
            Sequence::Deque { maxlen } => {
                self.open("$deque");
                self.text.push_str("{\"maxlen\":");
                match maxlen {
                    Some(length) => self.text.push_str(itoa::Buffer::new().format(length)),
                    None => self.none(),
                }
                self.text.push_str(",\"items\":");
            }
        }
        self.text.push('[');
        Ok(())
    }

    /// Before each item of a sequence, and where an item of a set begins: see [`sort`](Self::sort).
    #[inline]
    pub fn item(&mut self) -> usize {
        // a value never ends with an opening bracket
        if !self.text.ends_with('[') {
            self.text.push(',');
        }
        self.text.len()
    }

    /// Puts the items that begin at these places, up to here, in the order of their texts: those of a set have none of
    /// their own, and equal sets should be equal texts.
    pub fn sort(&mut self, items: &[usize]) {
        let Some(&first) = items.first() else { return };
        let tail = self.text.split_off(first);
        let ends = items[1..].iter().map(|at| at - first - 1).chain([tail.len()]);
        let mut texts: Vec<&str> = items.iter().zip(ends).map(|(at, end)| &tail[at - first..end]).collect();
        texts.sort_unstable();
        for text in texts {
            self.item();
            self.text.push_str(text);
        }
    }

    /// Closes a sequence.
    #[inline]
    pub fn end(&mut self, kind: Sequence) {
        self.depth -= 1;
        self.text.push_str(match kind {
            Sequence::List => "]",
            Sequence::Tuple | Sequence::Set | Sequence::FrozenSet => "]}",
            Sequence::Deque { .. } => "]}}",
        });
    }

    /// Opens a dict whose keys are all plain text ([`is_plain_key`]); then [`key`](Self::key) and a value for each
    /// pair, then [`end_plain`](Self::end_plain).
    ///
    /// # Errors
    /// It lies too deep.
    #[inline]
    pub fn begin_plain(&mut self) -> Result<(), Error> {
        self.down()?;
        self.text.push('{');
        Ok(())
    }

    /// The key of the next pair of a plain dict.
    #[inline]
    pub fn key(&mut self, key: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.str(key);
        self.text.push(':');
    }

    /// Closes a plain dict.
    #[inline]
    pub fn end_plain(&mut self) {
        self.depth -= 1;
        self.text.push('}');
    }

    /// Opens a mapping of any kind with any keys; then for each pair [`pair`](Self::pair), its key,
    /// [`middle`](Self::middle), its value, [`end_pair`](Self::end_pair); then [`end_mapping`](Self::end_mapping).
    ///
    /// # Errors
    /// It lies too deep.
    pub fn begin_mapping(&mut self, kind: &Mapping) -> Result<(), Error> {
        self.down()?;
        match kind {
            Mapping::Dict => self.open("$dict"),
            Mapping::Ordered => self.open("$ordereddict"),
            Mapping::Counter => self.open("$counter"),
            Mapping::Default { factory } => {
                self.open("$defaultdict");
                self.text.push_str("{\"factory\":");
                match factory {
                    Some(name) => self.str(name),
                    None => self.none(),
                }
                self.text.push_str(",\"items\":");
            }
        }
        self.text.push('[');
        Ok(())
    }

    /// Before a pair.
    pub fn pair(&mut self) {
        self.item();
        self.text.push('[');
    }

    /// Between key and value.
    pub fn middle(&mut self) {
        self.text.push(',');
    }

    /// After a pair.
    pub fn end_pair(&mut self) {
        self.text.push(']');
    }

    /// Closes a mapping.
    pub fn end_mapping(&mut self, kind: &Mapping) {
        self.depth -= 1;
        self.text.push_str(if matches!(kind, Mapping::Default { .. }) { "]}}" } else { "]}" });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_set_are_sorted_by_their_texts() {
        let mut writer = Writer::default();
        writer.begin(Sequence::Set).unwrap();
        let mut places = Vec::new();
        for text in ["b", "a", "c,d"] {
            places.push(writer.item());
            writer.str(text);
        }
        writer.sort(&places);
        writer.end(Sequence::Set);
        assert_eq!(writer.finish(), r#"{"$set":["a","b","c,d"]}"#);

        let mut writer = Writer::default();
        writer.begin(Sequence::Set).unwrap();
        writer.sort(&[]);
        writer.end(Sequence::Set);
        assert_eq!(writer.finish(), r#"{"$set":[]}"#);
    }
}
