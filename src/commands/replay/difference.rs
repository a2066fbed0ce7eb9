//! Where two results differ.

use std::collections::BTreeMap;

use super::json::{Json, Value, quoted};

/// Places that are named for one event; the rest is counted. What differs in more places differs as a whole.
const NAMED: usize = 10;

/// One place.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    /// `$.cpu[3]`.
    pub(super) path: String,
    /// What is there in the result; absent where the place is.
    pub(super) result: Option<&'a Json<'a>>,
    /// The same in the other version's result.
    pub(super) against: Option<&'a Json<'a>>,
}

/// All places.
#[derive(Debug, Default)]
pub(super) struct Differences<'a> {
    /// The first ones, in the order of keys and indices.
    pub(super) named: Vec<Difference<'a>>,
    /// How many there are beside them.
    pub(super) more: usize,
}

impl<'a> Differences<'a> {
    pub(super) fn between(result: &'a Json<'a>, against: &'a Json<'a>) -> Self {
        let mut found = Self::default();
        found.look(&mut "$".to_owned(), Some(result), Some(against));
        found
    }

    fn look(&mut self, path: &mut String, result: Option<&'a Json<'a>>, against: Option<&'a Json<'a>>) {
        let length = path.len();
        match (result.map(|json| &json.value), against.map(|json| &json.value)) {
            (Some(Value::List(one)), Some(Value::List(other))) => {
                for n in 0..one.len().max(other.len()) {
                    path.push_str(&format!("[{n}]"));
                    self.look(path, one.get(n), other.get(n));
                    path.truncate(length);
                }
            }
            (Some(Value::Table(one)), Some(Value::Table(other))) => {
                // every key once, in order
                let keys: BTreeMap<&String, ()> = one.keys().chain(other.keys()).map(|key| (key, ())).collect();
                for key in keys.into_keys() {
                    path.push_str(&step(key));
                    self.look(path, one.get(key), other.get(key));
                    path.truncate(length);
                }
            }
            _ if result.zip(against).is_some_and(|(result, against)| result.same_scalar(against)) => {}
            _ if self.named.len() < NAMED => self.named.push(Difference { path: path.clone(), result, against }),
            _ => self.more += 1,
        }
    }
}

/// As paths are written where a result cannot be stored.
fn step(key: &str) -> String {
    let letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    if key.chars().all(letter) && !key.starts_with(|first: char| first.is_numeric()) && !key.is_empty() {
        format!(".{key}")
    } else {
        format!("[{}]", quoted(key))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn places(result: &str, against: &str) -> Vec<String> {
        let (result, against) = (Json::parse(result).unwrap(), Json::parse(against).unwrap());
        let found = Differences::between(&result, &against);
        let text = |json: Option<&Json<'_>>| json.map_or("absent".to_owned(), |json| json.text.to_owned());
        let mut all: Vec<_> =
            found.named.iter().map(|one| format!("{} {} {}", one.path, text(one.result), text(one.against))).collect();
        if found.more > 0 {
            all.push(format!("and {}", found.more));
        }
        all
    }

    #[test]
    fn every_place_is_named() {
        assert_eq!(places(r#"{"a": 1, "b": [1, 2.0]}"#, r#"{"b":[1.0,2],"a":1}"#), [""; 0]);
        assert_eq!(
            places(r#"{"a-b": 1, "b": [1, {"c": 2}], "d": null}"#, r#"{"a-b": 2, "b": [1, {"c": "2"}, 3], "é": 1}"#),
            ["$[\"a-b\"] 1 2", "$.b[1].c 2 \"2\"", "$.b[2] absent 3", "$.d null absent", "$.é absent 1"]
        );
        assert_eq!(places("[]", "{}"), ["$ [] {}"]);
        assert_eq!(places("null", "{\"a\": 1}"), ["$ null {\"a\": 1}"]);
    }

    #[test]
    fn too_many_are_counted() {
        let (zeros, ones) = (format!("[{}0]", "0, ".repeat(24)), format!("[{}1]", "1, ".repeat(24)));
        let found = places(&zeros, &ones);
        assert_eq!((found.len(), found[9].as_str(), found[10].as_str()), (11, "$[9] 0 1", "and 15"));
    }
}
