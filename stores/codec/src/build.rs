//! What a text becomes.

use std::collections::HashSet;

use crate::error::{Reason, unfit};
use crate::value::{Atom, Content, Dtype, Mapping, Order, Sequence, Value};

/// Makes values of what [`read`](crate::read) finds, from the inside out. A refusal gets the place put in front.
pub trait Build {
    /// What is made.
    type Out;

    /// A value without parts.
    ///
    /// # Errors
    /// It cannot be made.
    fn atom(&mut self, atom: Atom<'_>) -> Result<Self::Out, Reason>;

    /// Text that is a key of a plain dict.
    ///
    /// # Errors
    /// It cannot be made.
    fn key(&mut self, text: std::borrow::Cow<'_, str>) -> Result<Self::Out, Reason> {
        self.atom(Atom::Str(text))
    }

    /// A sequence.
    ///
    /// # Errors
    /// It cannot be made.
    fn sequence(&mut self, kind: Sequence, items: Vec<Self::Out>) -> Result<Self::Out, Reason>;

    /// A mapping. That no key is there twice is for the builder to check.
    ///
    /// # Errors
    /// It cannot be made, for example as a key is there twice.
    fn mapping(&mut self, kind: Mapping, pairs: Vec<(Self::Out, Self::Out)>) -> Result<Self::Out, Reason>;

    /// A numpy scalar.
    ///
    /// # Errors
    /// It cannot be made.
    fn scalar(&mut self, dtype: Dtype, content: Content<Self::Out>) -> Result<Self::Out, Reason>;

    /// A numpy array.
    ///
    /// # Errors
    /// It cannot be made.
    fn array(&mut self, dtype: Dtype, shape: Vec<u64>, order: Order, data: Vec<u8>) -> Result<Self::Out, Reason>;
}

/// What is said of a key that is there twice.
const TWICE: &str = "a key is there twice; keep one of the two";

/// Makes nothing: reading with it is a check.
#[derive(Debug, Clone, Copy)]
pub struct Ignore;

impl Build for Ignore {
    type Out = ();

    fn atom(&mut self, _: Atom<'_>) -> Result<(), Reason> {
        Ok(())
    }

    fn sequence(&mut self, _: Sequence, _: Vec<()>) -> Result<(), Reason> {
        Ok(())
    }

    fn mapping(&mut self, _: Mapping, _: Vec<((), ())>) -> Result<(), Reason> {
        Ok(())
    }

    fn scalar(&mut self, _: Dtype, _: Content<()>) -> Result<(), Reason> {
        Ok(())
    }

    fn array(&mut self, _: Dtype, _: Vec<u64>, _: Order, _: Vec<u8>) -> Result<(), Reason> {
        Ok(())
    }
}

/// Makes a [`Value`].
pub(crate) struct Values;

impl Build for Values {
    type Out = Value;

    fn atom(&mut self, atom: Atom<'_>) -> Result<Value, Reason> {
        Ok(Value::Atom(atom.into_owned()))
    }

    fn sequence(&mut self, kind: Sequence, items: Vec<Value>) -> Result<Value, Reason> {
        Ok(Value::Sequence(kind, items))
    }

    fn mapping(&mut self, kind: Mapping, pairs: Vec<(Value, Value)>) -> Result<Value, Reason> {
        let mut seen = HashSet::with_capacity(pairs.len());
        for (key, _) in &pairs {
            if let Value::Atom(Atom::Str(text)) = key
                && !seen.insert(text)
            {
                return Err(unfit(TWICE));
            }
        }
        Ok(Value::Mapping(kind, pairs))
    }

    fn scalar(&mut self, dtype: Dtype, content: Content<Value>) -> Result<Value, Reason> {
        let content = match content {
            Content::Value(value) => Content::Value(Box::new(value)),
            Content::Data(data) => Content::Data(data),
        };
        Ok(Value::Scalar(dtype, content))
    }

    fn array(&mut self, dtype: Dtype, shape: Vec<u64>, order: Order, data: Vec<u8>) -> Result<Value, Reason> {
        Ok(Value::Array { dtype, shape, order, data })
    }
}

impl Atom<'_> {
    /// The same, with nothing borrowed.
    pub fn into_owned(self) -> Atom<'static> {
        match self {
            Self::None => Atom::None,
            Self::Bool(value) => Atom::Bool(value),
            Self::Int(value) => Atom::Int(value),
            Self::BigInt(text) => Atom::BigInt(text.into_owned().into()),
            Self::Float(value) => Atom::Float(value),
            Self::Complex(real, imaginary) => Atom::Complex(real, imaginary),
            Self::Str(text) => Atom::Str(text.into_owned().into()),
            Self::Surrogates(data) => Atom::Surrogates(data.into_owned().into()),
            Self::Bytes(data) => Atom::Bytes(data.into_owned().into()),
            Self::ByteArray(data) => Atom::ByteArray(data.into_owned().into()),
            Self::Decimal(text) => Atom::Decimal(text.into_owned().into()),
            Self::Date(date) => Atom::Date(date),
            Self::Time(time) => Atom::Time(time),
            Self::DateTime(moment) => Atom::DateTime(moment),
            Self::TimeDelta { days, seconds, micros } => Atom::TimeDelta { days, seconds, micros },
            Self::Zone(zone) => Atom::Zone(zone),
        }
    }
}
