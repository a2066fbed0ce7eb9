//! One pass from a text to anything: the grammar of the tags.

use std::borrow::Cow;

use crate::DEPTH;
use crate::build::Build;
use crate::error::{Error, Reason, unfit};
use crate::scan::Scan;
use crate::time::{self, DateTime};
use crate::value::{Atom, Float, Mapping, Sequence};

mod atoms;
mod numpy;

/// Reads a text into what `build` makes of it.
///
/// # Errors
/// The text is torn, is no JSON, has an unknown tag, is nested too deeply, or `build` refuses a part of it.
pub fn read<B: Build>(text: &str, build: &mut B) -> Result<B::Out, Error> {
    let mut reader = Reader { scan: Scan::new(text), build, depth: 0 };
    let value = reader.value()?;
    reader.scan.end()?;
    Ok(value)
}

/// Goes past one value at the start of `scan`, and tells what is wrong with it.
pub(crate) fn skip(scan: &mut Scan<'_>) -> Result<(), Error> {
    let mut reader = Reader { scan: std::mem::replace(scan, Scan::new("")), build: &mut crate::Ignore, depth: 0 };
    let read = reader.value();
    *scan = reader.scan;
    read
}

struct Reader<'a, 'b, B> {
    scan: Scan<'a>,
    build: &'b mut B,
    depth: usize,
}

type Pairs<T> = Vec<(T, T)>;

impl<'a, B: Build> Reader<'a, '_, B> {
    fn value(&mut self) -> Result<B::Out, Error> {
        let atom = match self.scan.peek() {
            Some(b'"') => Atom::Str(self.scan.string()?),
            Some(b'[') => {
                let items = self.items()?;
                return Ok(self.build.sequence(Sequence::List, items)?);
            }
            Some(b'{') => return self.object(),
            Some(b'n') => self.scan.word("null").map(|()| Atom::None)?,
            Some(b't') => self.scan.word("true").map(|()| Atom::Bool(true))?,
            Some(b'f') => self.scan.word("false").map(|()| Atom::Bool(false))?,
            Some(b'-' | b'0'..=b'9') => number(self.scan.number()?)?,
            _ => return Err(self.scan.wrong("a value").into()),
        };
        Ok(self.build.atom(atom)?)
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == DEPTH {
            return Err(Reason::Deep.into());
        }
        self.depth += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// `[…]`, calling `each` for each item.
    fn list(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.scan.expect(b'[', "a list")?;
        let mut index = 0;
        while self.scan.next_item(index == 0, b']')? {
            each(self).map_err(|error| error.within(format!("[{index}]")))?;
            index += 1;
        }
        Ok(())
    }

    fn items(&mut self) -> Result<Vec<B::Out>, Error> {
        self.deeper(|reader| {
            let mut items = Vec::new();
            reader.list(|reader| {
                items.push(reader.value()?);
                Ok(())
            })?;
            Ok(items)
        })
    }

    /// `[[key,value],…]`
    fn pairs(&mut self) -> Result<Pairs<B::Out>, Error> {
        self.deeper(|reader| {
            let mut pairs = Vec::new();
            reader.list(|reader| {
                reader.scan.expect(b'[', "a pair [key,value]")?;
                let key = reader.value()?;
                reader.scan.expect(b',', "the value of the pair")?;
                let value = reader.value()?;
                reader.scan.expect(b']', "the end of the pair")?;
                pairs.push((key, value));
                Ok(())
            })?;
            Ok(pairs)
        })
    }

    /// A plain dict, or whatever its tag says.
    fn object(&mut self) -> Result<B::Out, Error> {
        self.scan.expect(b'{', "an object")?;
        if self.scan.take(b'}') {
            return Ok(self.build.mapping(Mapping::Dict, Vec::new())?);
        }
        let first = self.scan.string()?;
        self.scan.expect(b':', "a colon")?;
        if first.starts_with('$') {
            let value = self.tag(&first).map_err(|error| error.within(format!(".{first}")))?;
            if self.scan.peek() == Some(b',') {
                return Err(unfit(format!("an object with the tag '{first}' has other keys beside it")).into());
            }
            self.scan.expect(b'}', "the end of the object")?;
            return Ok(value);
        }
        let pairs = self.deeper(|reader| {
            let mut pairs = Vec::new();
            let mut key = first;
            loop {
                let value = reader.value().map_err(|error| error.within(step(&key)))?;
                pairs.push((reader.build.key(key)?, value));
                if !reader.scan.next_item(false, b'}')? {
                    return Ok(pairs);
                }
                key = reader.scan.string()?;
                if key.starts_with('$') {
                    let text = "begins with '$' as tags do; write the dict as {\"$dict\":[[key,value],…]}";
                    return Err(unfit(format!("the key '{key}' {text}")).into());
                }
                reader.scan.expect(b':', "a colon")?;
            }
        })?;
        Ok(self.build.mapping(Mapping::Dict, pairs)?)
    }

    fn tag(&mut self, tag: &str) -> Result<B::Out, Error> {
        let atom = match tag {
            "$tuple" => return self.sequence(Sequence::Tuple),
            "$set" => return self.sequence(Sequence::Set),
            "$frozenset" => return self.sequence(Sequence::FrozenSet),
            "$deque" => return self.deque(),
            "$dict" => return self.mapping(Mapping::Dict),
            "$ordereddict" => return self.mapping(Mapping::Ordered),
            "$counter" => return self.mapping(Mapping::Counter),
            "$defaultdict" => return self.defaultdict(),
            "$numpy" => return self.numpy(),
            "$ndarray" => return self.array(),
            "$int" => Atom::BigInt(self.big_int()?),
            "$float" => Atom::Float(self.special_float()?),
            "$complex" => self.complex()?,
            "$str" => self.surrogates()?,
            "$bytes" => Atom::Bytes(self.base64()?.into()),
            "$bytearray" => Atom::ByteArray(self.base64()?.into()),
            "$decimal" => Atom::Decimal(self.scan.string()?),
            "$date" => Atom::Date(time::date(&self.scan.string()?)?),
            "$time" => Atom::Time(self.moment(time::time, |time| time)?),
            "$datetime" => Atom::DateTime(self.moment(time::datetime, |moment: &mut DateTime| &mut moment.time)?),
            "$timedelta" => self.timedelta()?,
            "$timezone" => Atom::Zone(self.zone()?),
            _ => return Err(Reason::UnknownTag(tag.to_owned()).into()),
        };
        Ok(self.build.atom(atom)?)
    }

    fn sequence(&mut self, kind: Sequence) -> Result<B::Out, Error> {
        let items = self.items()?;
        Ok(self.build.sequence(kind, items)?)
    }

    fn mapping(&mut self, kind: Mapping) -> Result<B::Out, Error> {
        let pairs = self.pairs()?;
        Ok(self.build.mapping(kind, pairs)?)
    }

    /// `{…}` with these keys alone, each at most once, in any order; `each` reads the value of the one with its number.
    fn members<const N: usize>(
        &mut self,
        names: [&'static str; N],
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.scan.expect(b'{', "an object")?;
        let mut seen = [false; N];
        let mut first = true;
        while self.scan.next_item(first, b'}')? {
            first = false;
            let name = self.scan.string()?;
            self.scan.expect(b':', "a colon")?;
            let Some(number) = names.iter().position(|known| *known == name) else {
                let known = names.join(", ");
                return Err(
                    unfit(format!("unknown key '{name}', known are: {known}; or a newer version wrote it")).into()
                );
            };
            if std::mem::replace(&mut seen[number], true) {
                return Err(unfit(format!("the key '{name}' is there twice")).into());
            }
            each(self, number).map_err(|error| error.within(format!(".{name}")))?;
        }
        Ok(())
    }

    fn deque(&mut self) -> Result<B::Out, Error> {
        let (mut maxlen, mut items) = (None, None);
        self.members(["maxlen", "items"], |reader, member| {
            match member {
                0 => maxlen = reader.optional(Self::length)?,
                _ => items = Some(reader.items()?),
            }
            Ok(())
        })?;
        let items = needed(items, "items")?;
        if maxlen.is_some_and(|length| items.len() as u64 > length) {
            return Err(unfit(format!("{} items are more than its maxlen; write a greater one", items.len())).into());
        }
        Ok(self.build.sequence(Sequence::Deque { maxlen }, items)?)
    }

    fn defaultdict(&mut self) -> Result<B::Out, Error> {
        let (mut factory, mut pairs) = (None, None);
        self.members(["factory", "items"], |reader, member| {
            match member {
                0 => factory = reader.optional(|reader| Ok(reader.scan.string()?.into_owned()))?,
                _ => pairs = Some(reader.pairs()?),
            }
            Ok(())
        })?;
        let pairs = needed(pairs, "items")?;
        Ok(self.build.mapping(Mapping::Default { factory: factory.map(Cow::Owned) }, pairs)?)
    }

    fn optional<T>(&mut self, some: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<Option<T>, Error> {
        if self.scan.peek() == Some(b'n') {
            self.scan.word("null")?;
            return Ok(None);
        }
        some(self).map(Some)
    }

    fn length(&mut self) -> Result<u64, Error> {
        self.whole("a length")
    }

    /// An integer of any type.
    fn whole<T: std::str::FromStr>(&mut self, wanted: &str) -> Result<T, Error> {
        let text = self.scan.number()?;
        text.parse().map_err(|_| unfit(format!("{text} is not {wanted}")).into())
    }
}

fn needed<T>(member: Option<T>, name: &str) -> Result<T, Error> {
    member.ok_or_else(|| unfit(format!("the key '{name}' is missing")).into())
}

fn number(text: &str) -> Result<Atom<'static>, Reason> {
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let float: f64 = text.parse().map_err(|_| unfit(format!("{text} is no float")))?;
        if float.is_infinite() {
            return Err(unfit(format!("{text} is beyond a float; write {{\"$float\":\"inf\"}} if that is meant")));
        }
        return Ok(Atom::Float(Float(float)));
    }
    if let Ok(number) = text.parse() {
        return Ok(Atom::Int(number));
    }
    // what other programs write, such as unsigned integers of 64 bits
    match text.parse::<i128>() {
        Ok(number) => {
            let sign = if number < 0 { "-" } else { "" };
            Ok(Atom::BigInt(format!("{sign}{:#x}", number.unsigned_abs()).into()))
        }
        Err(_) => {
            Err(unfit(format!("{text} is beyond 128 bits; write it as {{\"$int\":\"0x…\"}}, in hexadecimal digits")))
        }
    }
}

/// A path's step to the value of a key.
fn step(key: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || letter == '_';
    if !key.is_empty() && key.chars().all(plain) { format!(".{key}") } else { format!("[{key:?}]") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::Value;

    #[test]
    fn numbers_of_other_programs_are_exact() {
        for (text, written) in [
            ("18446744073709551615", r#"{"$int":"0xffffffffffffffff"}"#),
            ("-9223372036854775809", r#"{"$int":"-0x8000000000000001"}"#),
            ("9223372036854775807", "9223372036854775807"),
            ("-0", "0"),
            ("1E2", "100.0"),
        ] {
            assert_eq!(Value::from_text(text).unwrap().to_text().unwrap(), written);
        }
        let error = Value::from_text(&"9".repeat(50)).unwrap_err().to_string();
        assert!(error.ends_with(r#"is beyond 128 bits; write it as {"$int":"0x…"}, in hexadecimal digits"#), "{error}");
        let error = Value::from_text("[1e999]").unwrap_err().to_string();
        assert_eq!(error, r#"$[0]: 1e999 is beyond a float; write {"$float":"inf"} if that is meant"#);
    }

    #[test]
    fn what_does_not_fit_its_tag_is_refused_with_the_place() {
        for (text, wanted) in [
            (
                r#"{"a":1,"$b":2}"#,
                r#"the key '$b' begins with '$' as tags do; write the dict as {"$dict":[[key,value],…]}"#,
            ),
            (r#"{"$tuple":[],"b":2}"#, "an object with the tag '$tuple' has other keys beside it"),
            (
                r#"{"a b":[{"$deque":{"maxlen":1,"items":[1,2]}}]}"#,
                r#"$["a b"][0].$deque: 2 items are more than its maxlen; write a greater one"#,
            ),
            (r#"{"$deque":{"maxlen":1}}"#, "$.$deque: the key 'items' is missing"),
            (r#"{"$deque":{"maxlen":-1,"items":[]}}"#, "$.$deque.maxlen: -1 is not a length"),
            (
                r#"{"$deque":{"most":1,"items":[]}}"#,
                "$.$deque: unknown key 'most', known are: maxlen, items; or a newer version wrote it",
            ),
            (r#"{"$str":"/w=="}"#, "$.$str: neither UTF-8 nor UTF-8 with lone surrogates"),
            (r#"{"$float":"NaN"}"#, "$.$float: 'NaN' is none of nan, inf and -inf"),
            (r#"{"$int":"12"}"#, "$.$int: '12' is no integer such as 0x10000000000000000"),
            (r#"{"$timedelta":[1,86400,0]}"#, "$.$timedelta: seconds are below 86400 and microseconds below 1000000"),
            (
                r#"{"$timezone":{"name":"X"}}"#,
                "$.$timezone: a zone is an 'offset', with or without a 'name', or a 'zone'",
            ),
            (r#"{"$time":{"at":"12:00:00+01:00","zone":"UTC"}}"#, "$.$time: two zones: one in 'at', one beside it"),
            (r#"{"$numpy":{"dtype":"<f8"}}"#, "$.$numpy: one of 'value' and 'data' is needed"),
            (
                r#"{"$ndarray":{"dtype":"<f8","shape":[1],"order":"K","data":""}}"#,
                "$.$ndarray.order: 'K' is no order; write C or F",
            ),
            (r#""\ud800""#, r#"a lone surrogate; text with one is written as {"$str":"base64"}"#),
            ("[1,]", "a value after the comma was expected at byte 3; mend the text, or delete it"),
        ] {
            assert_eq!(Value::from_text(text).unwrap_err().to_string(), wanted, "{text}");
        }
        let error = Value::from_text(r#"{"$bytes":"YQ"}"#).unwrap_err().to_string();
        assert!(error.starts_with("$.$bytes: no base64: "), "{error}");
    }
}
