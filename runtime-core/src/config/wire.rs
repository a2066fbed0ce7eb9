//! A table on its way to another process of the same binary: with its origins, as they decide how text is read.

use config::{Map, Value as Setting, ValueKind};
use serde_json::{Value, json};

use super::section::Section;

impl Section {
    /// The table as JSON, for [`from_wire`](Self::from_wire).
    #[must_use]
    pub fn to_wire(&self) -> Value {
        json!({ "path": self.path(), "table": write(self.value()) })
    }

    /// The table that [`to_wire`](Self::to_wire) wrote; `None` for anything else.
    #[must_use]
    pub fn from_wire(wire: &Value) -> Option<Self> {
        Some(Self::new(wire["path"].as_str()?, read(&wire["table"])?, None))
    }
}

/// A value is an array: origin, kind, content.
fn write(value: &Setting) -> Value {
    let (kind, content) = match &value.kind {
        ValueKind::Nil => ("nil", Value::Null),
        ValueKind::Boolean(truth) => ("bool", json!(truth)),
        ValueKind::I64(number) => ("i64", json!(number)),
        ValueKind::U64(number) => ("u64", json!(number)),
        // as text: JSON has no numbers that large
        ValueKind::I128(number) => ("i128", json!(number.to_string())),
        ValueKind::U128(number) => ("u128", json!(number.to_string())),
        ValueKind::Float(number) => ("float", json!(number.to_bits())),
        ValueKind::String(text) => ("text", json!(text)),
        ValueKind::Table(table) => ("table", table.iter().map(|(key, value)| json!([key, write(value)])).collect()),
        ValueKind::Array(list) => ("list", list.iter().map(write).collect()),
    };
    json!([value.origin(), kind, content])
}

fn read(wire: &Value) -> Option<Setting> {
    let content = &wire[2];
    let text = || content.as_str();
    let kind = match wire[1].as_str()? {
        "nil" => ValueKind::Nil,
        "bool" => ValueKind::Boolean(content.as_bool()?),
        "i64" => ValueKind::I64(content.as_i64()?),
        "u64" => ValueKind::U64(content.as_u64()?),
        "i128" => ValueKind::I128(text()?.parse().ok()?),
        "u128" => ValueKind::U128(text()?.parse().ok()?),
        "float" => ValueKind::Float(f64::from_bits(content.as_u64()?)),
        "text" => ValueKind::String(text()?.to_owned()),
        "table" => {
            let pairs = content.as_array()?.iter();
            let pairs = pairs.map(|pair| Some((pair[0].as_str()?.to_owned(), read(&pair[1])?)));
            ValueKind::Table(pairs.collect::<Option<Map<_, _>>>()?)
        }
        "list" => ValueKind::Array(content.as_array()?.iter().map(read).collect::<Option<_>>()?),
        _ => return None,
    };
    let origin = wire[0].as_str().map(str::to_owned);
    Some(Setting::new(origin.as_ref(), kind))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_and_origins_arrive() {
        let list = vec![Setting::new(None, 1.5), Setting::new(None, ValueKind::Nil), Setting::new(None, i128::MAX)];
        let mut table = Map::new();
        table.insert("list".to_owned(), Setting::new(None, list));
        table.insert("b".to_owned(), Setting::new(None, true));
        table.insert("a".to_owned(), Setting::new(Some(&"THE_VARIABLE".to_owned()), "1,2"));
        table.insert("n".to_owned(), Setting::new(None, -3_i64));
        let section = Section::new("functions.vm.executor", Setting::new(None, table), None);
        let text = section.to_wire().to_string();
        let read = Section::from_wire(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(read.path(), section.path());
        assert_eq!(read.value(), section.value());
        let keys: Vec<_> = read.table().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["list", "b", "a", "n"]);
        assert_eq!(read.get("a").unwrap().origin(), Some("THE_VARIABLE"));
        assert!(Section::from_wire(&json!({ "path": "x", "table": [null, "moon", 1] })).is_none());
    }
}
