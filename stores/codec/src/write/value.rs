//! Whole values.

use super::{Writer, is_plain_key};
use crate::error::Error;
use crate::value::{Atom, Content, Mapping, Value};

impl Writer {
    /// Any value.
    ///
    /// # Errors
    /// It is nested too deeply.
    pub fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value {
            Value::Atom(atom) => self.atom(atom),
            Value::Sequence(kind, items) => {
                self.begin(*kind)?;
                for (index, item) in items.iter().enumerate() {
                    self.item();
                    self.value(item).map_err(|error| error.within(format!("[{index}]")))?;
                }
                self.end(*kind);
            }
            Value::Mapping(kind, pairs) => {
                let plain =
                    |(key, _): &(Value, Value)| matches!(key, Value::Atom(Atom::Str(text)) if is_plain_key(text));
                if *kind == Mapping::Dict && pairs.iter().all(plain) {
                    return self.plain(pairs);
                }
                self.begin_mapping(kind)?;
                for (index, (key, value)) in pairs.iter().enumerate() {
                    let within = |error: Error| error.within(format!("[{index}]"));
                    self.pair();
                    self.value(key).map_err(within)?;
                    self.middle();
                    self.value(value).map_err(within)?;
                    self.end_pair();
                }
                self.end_mapping(kind);
            }
            Value::Scalar(dtype, Content::Value(value)) => {
                self.begin_scalar(dtype);
                self.value(value)?;
                self.end_scalar();
            }
            Value::Scalar(dtype, Content::Data(data)) => self.scalar_data(dtype, data),
            Value::Array { dtype, shape, order, data } => self.array(dtype, shape, *order, data),
        }
        Ok(())
    }

    fn plain(&mut self, pairs: &[(Value, Value)]) -> Result<(), Error> {
        self.begin_plain()?;
        for (key, value) in pairs {
            let Value::Atom(Atom::Str(key)) = key else { unreachable!("the caller has looked") };
            self.key(key);
            self.value(value).map_err(|error| error.within(format!(".{key}")))?;
        }
        self.end_plain();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::DEPTH;
    use crate::error::Reason;
    use crate::value::Sequence;

    #[test]
    fn a_value_beyond_the_depth_is_refused_with_its_path() {
        let nested = |levels| {
            (0..levels).fold(Value::Atom(Atom::Int(1)), |inner, _| Value::Sequence(Sequence::List, vec![inner]))
        };
        let text = nested(DEPTH).to_text().unwrap();
        assert_eq!(Value::from_text(&text).unwrap(), nested(DEPTH));
        let error = nested(DEPTH + 1).to_text().unwrap_err();
        assert_eq!((error.reason(), error.path()), (&Reason::Deep, format!("${}", "[0]".repeat(DEPTH))));
        let error = Value::from_text(&format!("[{text}]")).unwrap_err();
        assert_eq!(error.reason(), &Reason::Deep);
        assert_eq!(Value::from_text(&"[".repeat(1_000_000)).unwrap_err().reason(), &Reason::Deep);
    }
}
