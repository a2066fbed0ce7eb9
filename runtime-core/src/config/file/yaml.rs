//! YAML event by event, before anything is made of it: what aliases stand for is counted and not built.

use std::collections::{HashMap, HashSet};

use config::{Value, ValueKind};
use yaml_rust2::Yaml;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use super::{DEEPEST, MOST_TEXT, MOST_VALUES, TOO_DEEP, TOO_LONG, TOO_MANY, Trouble, below, short, twice};

/// Under this key YAML before 1.2 has a table, or several, whose keys count as those of the table around it.
const MERGE: &str = "<<";

/// Refuses what would be lost, or would take too much.
pub(super) fn judge(text: &str) -> Result<(), Trouble> {
    // the parser keeps a whole list in brackets until it knows that it is no key; each of its tokens begins with one
    if text.bytes().filter(|byte| b",:?[]{}!&*\"'".contains(byte)).count() > 2 * MOST_VALUES {
        return Err(Trouble::Refused(TOO_MANY.to_owned()));
    }
    let mut parser = Parser::new_from_str(text);
    let mut scan = Scan::default();
    loop {
        // one event at a time: the parser's own loop goes as deep as the text does
        let (event, mark) = parser.next_token().map_err(|error| Trouble::Syntax(error.to_string()))?;
        if event == Event::StreamEnd {
            return Ok(());
        }
        scan.event(event, mark)?;
    }
}

/// What a node comes to when it is built.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    values: usize,
    text: usize,
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.values = self.values.saturating_add(other.values);
        self.text = self.text.saturating_add(other.text);
    }
}

/// A table or list that has begun.
struct Open {
    anchor: usize,
    weight: Weight,
    /// Of a table.
    keys: Option<Keys>,
}

#[derive(Default)]
struct Keys {
    seen: HashSet<String>,
    /// Whether the next node is the value of the last key.
    value_follows: bool,
}

#[derive(Default)]
struct Scan {
    documents: usize,
    open: Vec<Open>,
    /// What each anchor stands for, from the end of its node on.
    anchors: HashMap<usize, Weight>,
    /// All that will have been built, with the copy that the loader keeps of what has an anchor.
    built: Weight,
}

impl Scan {
    fn event(&mut self, event: Event, mark: Marker) -> Result<(), Trouble> {
        let refuse = |message: &str| Trouble::at(message, mark.line(), mark.col() + 1);
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(refuse(
                        "has several documents: a configuration is one, so remove the '---' between them",
                    ));
                }
                Ok(())
            }
            Event::SequenceStart(anchor, _) => self.opens(anchor, None, &refuse),
            Event::MappingStart(anchor, _) => self.opens(anchor, Some(Keys::default()), &refuse),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.closed(open.weight, open.anchor, None, &refuse),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).copied() {
                Some(weight) => {
                    self.spend(weight, &refuse)?;
                    self.closed(weight, 0, None, &refuse)
                }
                None => Err(refuse("has an alias inside of what it stands for: write it out")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let weight = Weight { values: 1, text: text.len() };
                self.spend(weight, &refuse)?;
                let plain = style == TScalarStyle::Plain && tag.is_none();
                let value = if plain { Yaml::from_str(&text) } else { Yaml::String(text) };
                if matches!(&value, Yaml::Real(number) if number.parse::<f64>().is_err()) {
                    return Err(refuse("has a number that is none, such as .nan or .inf: write a number"));
                }
                self.closed(weight, anchor, Some(value), &refuse)
            }
            _ => Ok(()),
        }
    }

    fn opens(&mut self, anchor: usize, keys: Option<Keys>, refuse: &dyn Fn(&str) -> Trouble) -> Result<(), Trouble> {
        if self.open.len() == DEEPEST {
            return Err(refuse(TOO_DEEP));
        }
        if self.open.last().and_then(|open| open.keys.as_ref()).is_some_and(|keys| !keys.value_follows) {
            return Err(refuse("has a table or list in the place of a key: a key is text"));
        }
        let weight = Weight { values: 1, text: 0 };
        self.spend(weight, refuse)?;
        self.open.push(Open { anchor, weight, keys });
        Ok(())
    }

    /// A node is complete: a scalar, an alias, or a table or list at its end.
    fn closed(
        &mut self,
        weight: Weight,
        anchor: usize,
        scalar: Option<Yaml>,
        refuse: &dyn Fn(&str) -> Trouble,
    ) -> Result<(), Trouble> {
        if anchor > 0 {
            self.spend(weight, refuse)?;
            self.anchors.insert(anchor, weight);
        }
        let Some(around) = self.open.last_mut() else { return Ok(()) };
        around.weight.add(weight);
        let Some(keys) = &mut around.keys else { return Ok(()) };
        if !keys.value_follows {
            let key = match scalar {
                Some(Yaml::String(key) | Yaml::Real(key)) => key,
                Some(Yaml::Integer(key)) => key.to_string(),
                Some(Yaml::Boolean(key)) => key.to_string(),
                _ => return Err(refuse("has nothing, or an alias, in the place of a key: a key is text")),
            };
            if keys.seen.contains(&key) {
                return Err(refuse(&twice(&key)));
            }
            keys.seen.insert(key);
        }
        keys.value_follows = !keys.value_follows;
        Ok(())
    }

    fn spend(&mut self, weight: Weight, refuse: &dyn Fn(&str) -> Trouble) -> Result<(), Trouble> {
        self.built.add(weight);
        match self.built {
            Weight { values, .. } if values > MOST_VALUES => Err(refuse(TOO_MANY)),
            Weight { text, .. } if text > MOST_TEXT => Err(refuse(TOO_LONG)),
            _ => Ok(()),
        }
    }
}

/// Takes the keys of merged tables into the tables around them; a key that is written there itself wins, and of several
/// merged tables the first.
pub(super) fn merge(value: &mut Value, path: &str) -> Result<(), Trouble> {
    match &mut value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table.iter_mut() {
                merge(value, &below(path, key))?;
            }
            let Some(merged) = table.shift_remove(MERGE) else { return Ok(()) };
            let several = match merged.kind {
                ValueKind::Array(several) => several,
                one => vec![Value::new(None, one)],
            };
            for one in several {
                let ValueKind::Table(one) = one.kind else {
                    let place = if path.is_empty() { String::new() } else { format!(" of '{}'", short(path)) };
                    return Err(Trouble::Refused(format!(
                        "has a '{MERGE}'{place} that is no table: name the anchor of one, or of several in a list"
                    )));
                };
                for (key, value) in one {
                    table.entry(key).or_insert(value);
                }
            }
            Ok(())
        }
        ValueKind::Array(list) => list.iter_mut().try_for_each(|value| merge(value, path)),
        _ => Ok(()),
    }
}
