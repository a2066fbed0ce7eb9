//! JSON as it is parsed, without keeping anything: equal keys, depth, and the number of values.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{DEEPEST, MOST_VALUES, TOO_DEEP, TOO_MANY, Trouble, twice};

/// Refuses what would be lost, or would take too much. Broken JSON is left to the parser proper.
pub(super) fn judge(text: &str) -> Result<(), Trouble> {
    let (left, said) = (Cell::new(MOST_VALUES), Cell::new(None));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let judged = Judge { depth: 0, left: &left, said: &said }.deserialize(&mut deserializer);
    match (judged, said.take()) {
        (Err(error), Some(message)) => Err(Trouble::at(&message, error.line(), error.column())),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Judge<'a> {
    /// Tables and lists around this value.
    depth: usize,
    /// Values that may still come.
    left: &'a Cell<usize>,
    /// What is wrong, where the error is ours.
    said: &'a Cell<Option<String>>,
}

impl Judge<'_> {
    fn refuse<E: Error>(&self, message: impl Into<String>) -> E {
        self.said.set(Some(message.into()));
        E::custom("refused")
    }

    /// A value inside of a table or list.
    fn inside<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(self.refuse(TOO_DEEP));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Judge<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(self.refuse(TOO_MANY)),
        }
        deserializer.deserialize_any(self)
    }
}

/// Whatever is neither table nor list.
macro_rules! scalars {
    ($($visit:ident $type:ty,)*) => {$(
        fn $visit<E: Error>(self, _: $type) -> Result<(), E> {
            Ok(())
        }
    )*};
}

impl<'de> Visitor<'de> for Judge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars! {
        visit_bool bool,
        visit_i64 i64,
        visit_u64 u64,
        visit_f64 f64,
        visit_str &str,
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while list.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        let mut keys = HashSet::new();
        while let Some(key) = table.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(self.refuse(twice(&key)));
            }
            keys.insert(key);
            table.next_value_seed(inside)?;
        }
        Ok(())
    }
}
