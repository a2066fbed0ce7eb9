//! Any value becomes a text and comes back; any text is read or refused.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use state_codec::{
    Atom, Content, Date, DateTime, Dtype, Field, Float, Ignore, Mapping, Order, Reason, Sequence, Time, Value, Zone,
    read,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z$\"\\\\\u{0}-\u{1f}\u{7f}é漢🙂]{0,8}", "\\$[a-z]{1,6}"]
}

fn float() -> impl Strategy<Value = Float> {
    const SPECIAL: &[f64] =
        &[0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324, 1e16, 1e-5, 1e300];
    prop_oneof![any::<u64>().prop_map(f64::from_bits), any::<i32>().prop_map(f64::from), prop::sample::select(SPECIAL)]
        .prop_map(Float)
}

fn big_int() -> impl Strategy<Value = Atom<'static>> {
    "-?0x[1-9a-f][0-9a-f]{16,80}".prop_map(|text| Atom::BigInt(text.into()))
}

fn zone() -> impl Strategy<Value = Zone> {
    let day = 24 * 3600 * 1_000_000_i64;
    let offset = prop_oneof![Just(0), (-23_i64..=23).prop_map(|hours| hours * 3_600_000_000), 1 - day..day];
    prop_oneof![
        (offset, prop::option::of(text())).prop_map(|(micros, name)| Zone::Offset { micros, name }),
        text().prop_map(Zone::Key),
    ]
}

fn date() -> impl Strategy<Value = Date> {
    (1_u16..=9999, 1_u8..=12, 1_u8..=31).prop_map(|(year, month, day)| Date { year, month, day })
}

fn time() -> impl Strategy<Value = Time> {
    let micros = prop_oneof![Just(0), 0..1_000_000_u32];
    (0_u8..24, 0_u8..60, 0_u8..60, micros, any::<bool>(), prop::option::of(zone()))
        .prop_map(|(hour, minute, second, micros, fold, zone)| Time { hour, minute, second, micros, fold, zone })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..20)
}

/// What Python's `surrogatepass` makes of text with at least one lone surrogate.
fn surrogates() -> impl Strategy<Value = Vec<u8>> {
    (text(), 0xa0_u8..=0xbf, 0x80_u8..=0xbf, text())
        .prop_map(|(before, high, low, after)| [before.as_bytes(), &[0xed, high, low], after.as_bytes()].concat())
}

fn atom() -> impl Strategy<Value = Atom<'static>> {
    prop_oneof![
        Just(Atom::None),
        any::<bool>().prop_map(Atom::Bool),
        any::<i64>().prop_map(Atom::Int),
        big_int(),
        float().prop_map(Atom::Float),
        (float(), float()).prop_map(|(real, imaginary)| Atom::Complex(real, imaginary)),
        text().prop_map(|text| Atom::Str(text.into())),
        surrogates().prop_map(|data| Atom::Surrogates(data.into())),
        bytes().prop_map(|data| Atom::Bytes(data.into())),
        bytes().prop_map(|data| Atom::ByteArray(data.into())),
        text().prop_map(|text| Atom::Decimal(text.into())),
        date().prop_map(Atom::Date),
        time().prop_map(Atom::Time),
        (date(), time()).prop_map(|(date, time)| Atom::DateTime(DateTime { date, time })),
        (any::<i32>(), 0..86_400_u32, 0..1_000_000_u32).prop_map(|(days, seconds, micros)| Atom::TimeDelta {
            days,
            seconds,
            micros
        }),
        zone().prop_map(Atom::Zone),
    ]
}

fn dtype() -> impl Strategy<Value = Dtype> {
    text().prop_map(Dtype::Plain).prop_recursive(3, 8, 3, |inner| {
        let field = (prop::option::of(text()), text(), inner, prop::collection::vec(any::<u64>(), 0..3))
            .prop_map(|(title, name, dtype, shape)| Field { title, name, dtype, shape });
        prop::collection::vec(field, 0..3).prop_map(Dtype::Fields)
    })
}

fn sequence() -> impl Strategy<Value = Sequence> {
    prop_oneof![
        Just(Sequence::List),
        Just(Sequence::Tuple),
        Just(Sequence::Set),
        Just(Sequence::FrozenSet),
        prop::option::of(10..u64::MAX).prop_map(|maxlen| Sequence::Deque { maxlen }),
    ]
}

fn mapping() -> impl Strategy<Value = Mapping> {
    prop_oneof![
        3 => Just(Mapping::Dict),
        1 => Just(Mapping::Ordered),
        1 => Just(Mapping::Counter),
        1 => prop::option::of(text()).prop_map(|name| Mapping::Default { factory: name.map(Into::into) }),
    ]
}

/// No text twice, as in any dict.
fn distinct(pairs: Vec<(Value, Value)>) -> Vec<(Value, Value)> {
    let mut kept: Vec<(Value, Value)> = Vec::new();
    for pair in pairs {
        if !kept.iter().any(|(key, _)| *key == pair.0) {
            kept.push(pair);
        }
    }
    kept
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => atom().prop_map(Value::Atom),
        1 => (dtype(), prop::collection::vec(any::<u64>(), 0..3), any::<bool>(), bytes()).prop_map(
            |(dtype, shape, c, data)| Value::Array { dtype, shape, order: if c { Order::C } else { Order::Fortran }, data }
        ),
        1 => (dtype(), bytes()).prop_map(|(dtype, data)| Value::Scalar(dtype, Content::Data(data))),
        1 => (dtype(), atom()).prop_map(|(dtype, atom)| Value::Scalar(dtype, Content::Value(Box::new(Value::Atom(atom))))),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let keyed = prop::collection::vec((inner.clone(), inner.clone()), 0..5);
        let plain =
            prop::collection::vec((text().prop_map(|text| Value::Atom(Atom::Str(text.into()))), inner.clone()), 0..5);
        prop_oneof![
            (sequence(), prop::collection::vec(inner, 0..6)).prop_map(|(kind, items)| Value::Sequence(kind, items)),
            (mapping(), keyed).prop_map(|(kind, pairs)| Value::Mapping(kind, distinct(pairs))),
            (mapping(), plain).prop_map(|(kind, pairs)| Value::Mapping(kind, distinct(pairs))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_comes_back(value in value()) {
        let text = value.to_text().unwrap();
        prop_assert_eq!(&Value::from_text(&text).unwrap(), &value, "{}", text);
        prop_assert_eq!(Value::from_text(&text).unwrap().to_text().unwrap(), text);
    }

    #[test]
    fn a_text_is_json_and_one_line(value in value()) {
        let text = value.to_text().unwrap();
        prop_assert!(!text.contains('\n'));
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
            prop_assert!(error.to_string().starts_with("recursion limit"), "{}: {}", error, text);
        }
    }

    #[test]
    fn a_text_that_is_cut_off_is_refused(value in value(), cut in any::<prop::sample::Index>()) {
        let text = Value::Sequence(Sequence::List, vec![value]).to_text().unwrap();
        let mut end = cut.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let error = Value::from_text(&text[..end]).unwrap_err();
        prop_assert!(matches!(error.reason(), Reason::Torn(_)), "{} of {}: {}", end, text, error);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Value::from_text(&text);
    }

    #[test]
    fn any_change_of_a_text_is_read_or_refused(value in value(), at in any::<prop::sample::Index>(), with in any::<char>()) {
        let text = value.to_text().unwrap();
        let at = at.index(text.chars().count());
        let changed: String = text.chars().enumerate().map(|(n, old)| if n == at { with } else { old }).collect();
        let _ = Value::from_text(&changed);
    }

    /// The scanner takes what any reader of JSON takes, and nothing else.
    #[test]
    fn json_is_what_serde_json_takes(text in "[\\[\\]{}:,\"\\\\u0aentfl.+eE \n-]{0,12}") {
        let ours = read(&text, &mut Ignore);
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match (&ours, &theirs) {
            (Ok(()), Ok(_)) | (Err(_), Err(_)) => {}
            // an integer that does not fit, or a float that does not
            (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("beyond"), "{}: {}", text, error),
            (Ok(()), Err(error)) => prop_assert!(false, "{}: {}", text, error),
        }
    }
}
