//! Format 1 stays readable: a file that has every tag, what it means, and that it is written the same way.
//!
//! The file is never changed. A newer format gets a file of its own beside it, and both load for good.

#![allow(clippy::unwrap_used)]

use state_codec::{
    Atom, Content, Date, DateTime, Document, Dtype, Field, Float, Mapping, Order, Sequence, Time, Value, Zone,
};

const KEPT: &[u8] = include_bytes!("data/format-1.json");

fn text(text: &'static str) -> Value {
    Value::Atom(Atom::Str(text.into()))
}

fn int(value: i64) -> Value {
    Value::Atom(Atom::Int(value))
}

fn float(value: f64) -> Value {
    Value::Atom(Atom::Float(Float(value)))
}

fn items(kind: Sequence, items: impl Into<Vec<Value>>) -> Value {
    Value::Sequence(kind, items.into())
}

fn pairs(kind: Mapping, pairs: impl Into<Vec<(Value, Value)>>) -> Value {
    Value::Mapping(kind, pairs.into())
}

fn time(hour: u8, minute: u8, micros: u32, zone: Option<Zone>) -> Time {
    Time { hour, minute, second: 0, micros, fold: false, zone }
}

fn moment(time: Time) -> Value {
    Value::Atom(Atom::DateTime(DateTime { date: Date { year: 2024, month: 5, day: 1 }, time }))
}

fn offset(minutes: i64, name: Option<&str>) -> Zone {
    Zone::Offset { micros: minutes * 60_000_000, name: name.map(str::to_owned) }
}

fn berlin() -> Zone {
    Zone::Key("Europe/Berlin".to_owned())
}

fn dtype(text: &str) -> Dtype {
    Dtype::Plain(text.to_owned())
}

fn scalar(name: &str, value: Value) -> Value {
    Value::Scalar(dtype(name), Content::Value(Box::new(value)))
}

fn atoms() -> Vec<(Value, Value)> {
    let folded = |time: Time| Time { fold: true, ..time };
    let of = |name, atom| (text(name), Value::Atom(atom));
    let zones = [Atom::Zone(offset(0, None)), Atom::Zone(offset(120, Some("CEST"))), Atom::Zone(berlin())];
    vec![
        of("none", Atom::None),
        of("true", Atom::Bool(true)),
        of("false", Atom::Bool(false)),
        of("int", Atom::Int(i64::MIN)),
        of("big", Atom::BigInt("-0x400000000000000000".into())),
        (text("float"), float(0.1)),
        (text("zero"), float(-0.0)),
        (text("large"), float(1e300)),
        (text("nan"), float(f64::NAN)),
        (text("inf"), items(Sequence::List, [float(f64::INFINITY), float(f64::NEG_INFINITY)])),
        of("complex", Atom::Complex(Float(1.5), Float(f64::NAN))),
        (text("text"), text("ü \"quoted\" \\ \n\0🙂")),
        of("surrogate", Atom::Surrogates(b"a\xed\xa0\x80".into())),
        of("bytes", Atom::Bytes(b"\x00\xff".into())),
        of("bytearray", Atom::ByteArray(b"abc".into())),
        of("decimal", Atom::Decimal("1.10".into())),
        of("date", Atom::Date(Date { year: 2024, month: 5, day: 1 })),
        of("time", Atom::Time(time(12, 30, 5, None))),
        of("time in zone", Atom::Time(folded(time(12, 30, 0, Some(berlin()))))),
        (text("datetime"), moment(time(12, 30, 0, None))),
        (text("datetime utc"), moment(time(12, 30, 0, Some(offset(0, None))))),
        (text("datetime offset"), moment(time(12, 30, 1, Some(offset(-330, None))))),
        (text("datetime named"), moment(time(12, 30, 0, Some(offset(120, Some("CEST")))))),
        of(
            "datetime fold",
            Atom::DateTime(DateTime {
                date: Date { year: 2024, month: 10, day: 27 },
                time: folded(time(2, 30, 0, Some(berlin()))),
            }),
        ),
        of("timedelta", Atom::TimeDelta { days: -1, seconds: 2, micros: 3 }),
        (text("timezone"), items(Sequence::List, zones.map(Value::Atom))),
    ]
}

fn containers() -> Vec<(Value, Value)> {
    let sample = items(Sequence::Tuple, [moment(time(0, 0, 0, None)), float(1.5)]);
    vec![
        (text("list"), items(Sequence::List, [int(1), items(Sequence::List, [float(2.0), text("three")])])),
        (text("tuple"), items(Sequence::Tuple, [int(1), items(Sequence::Tuple, [int(2)])])),
        (text("set"), items(Sequence::Set, [text("a"), int(1)])),
        (text("frozenset"), items(Sequence::FrozenSet, [items(Sequence::Tuple, [int(1), int(2)])])),
        (text("deque"), items(Sequence::Deque { maxlen: Some(5) }, [sample])),
        (text("deque without end"), items(Sequence::Deque { maxlen: None }, [])),
        (text("dict"), pairs(Mapping::Dict, [(text("a"), pairs(Mapping::Dict, [(text("b"), int(1))]))])),
        (text("dict of ints"), pairs(Mapping::Dict, [(int(1), text("one")), (text("1"), text("text"))])),
        (text("dict like a tag"), pairs(Mapping::Dict, [(text("$tuple"), items(Sequence::List, [int(1)]))])),
        (text("ordereddict"), pairs(Mapping::Ordered, [(text("b"), int(1)), (text("a"), int(2))])),
        (text("counter"), pairs(Mapping::Counter, [(text("a"), int(2)), (text("b"), int(1))])),
        (
            text("defaultdict"),
            pairs(Mapping::Default { factory: Some("list".into()) }, [(text("a"), items(Sequence::List, [int(1)]))]),
        ),
        (text("defaultdict without"), pairs(Mapping::Default { factory: None }, [(int(1), int(2))])),
    ]
}

fn numpy() -> Vec<(Value, Value)> {
    let field = |title: Option<&str>, name: &str, kind, shape| Field {
        title: title.map(str::to_owned),
        name: name.to_owned(),
        dtype: dtype(kind),
        shape,
    };
    let fields = vec![field(Some("A"), "a", "<i4", vec![]), field(None, "b", "|i1", vec![2])];
    let array = |dtype, shape: &[u64], order, data| Value::Array { dtype, shape: shape.to_vec(), order, data };
    let doubles = [1.5_f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    vec![
        (
            text("numpy"),
            items(
                Sequence::List,
                [
                    scalar("<f8", float(0.1)),
                    scalar("<i8", int(5)),
                    scalar("|b1", Value::Atom(Atom::Bool(true))),
                    scalar("<U1", text("ü")),
                ],
            ),
        ),
        (text("numpy data"), Value::Scalar(dtype("<M8[s]"), Content::Data(1_i64.to_le_bytes().to_vec()))),
        (text("ndarray"), array(dtype("<f8"), &[1, 2], Order::C, doubles)),
        (text("ndarray fortran"), array(dtype("<i2"), &[2, 2], Order::Fortran, vec![0, 0, 2, 0, 1, 0, 3, 0])),
        (text("ndarray fields"), array(Dtype::Fields(fields), &[1], Order::C, vec![1, 0, 0, 0, 2, 3])),
        (items(Sequence::Tuple, [int(1), text("key")]), text("of a tuple")),
        (int(5), text("of an int")),
    ]
}

fn wanted() -> Vec<(Value, Value)> {
    [atoms(), containers(), numpy()].concat()
}

#[test]
fn a_file_of_format_1_is_read_and_written_the_same_for_good() {
    let document = Document::from_text(KEPT).unwrap();
    assert_eq!((document.function.as_str(), document.key.as_deref(), document.version), ("vm", Some("host-1"), 7));
    assert_eq!(document.fingerprint.as_deref(), Some("0123456789abcdef".repeat(4).as_str()));

    let wanted = wanted();
    assert_eq!(document.env.len(), wanted.len());
    for ((key, value), (wanted_key, wanted_value)) in document.env.iter().zip(&wanted) {
        for (text, wanted) in [(key, wanted_key), (value, wanted_value)] {
            let text = std::str::from_utf8(text).unwrap();
            assert_eq!(&Value::from_text(text).unwrap(), wanted, "{text}");
            assert_eq!(wanted.to_text().unwrap(), text);
        }
    }
    assert_eq!(document.to_text().unwrap().as_bytes(), KEPT);
}

/// Whoever adds a tag adds it to the file of the format that brings it.
#[test]
fn the_file_has_every_tag() {
    let kept = std::str::from_utf8(KEPT).unwrap();
    let reader = include_str!("../src/read.rs");
    let is_tag =
        |word: &&str| word.len() > 1 && word.starts_with('$') && word[1..].bytes().all(|b| b.is_ascii_lowercase());
    let (reader, _tests) = reader.split_once("#[cfg(test)]").unwrap();
    let tags: Vec<_> = reader.split('"').filter(is_tag).collect();
    assert!(tags.len() >= 22, "{tags:?}");
    for tag in tags {
        assert!(kept.contains(&format!("{{\"{tag}\":")), "{tag}");
    }
}
