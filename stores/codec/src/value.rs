//! What a text can say.

use std::borrow::Cow;

use crate::error::Error;
use crate::read::read;
use crate::time::{Date, DateTime, Time, Zone};
use crate::write::Writer;

/// One value of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A value without parts.
    Atom(Atom<'static>),
    /// Items in order. Those of a set are in the order in which they were written.
    Sequence(Sequence, Vec<Value>),
    /// Pairs in order. Keys are hashable where they came from; nothing here checks that.
    Mapping(Mapping, Vec<(Value, Value)>),
    /// One numpy scalar.
    Scalar(Dtype, Content<Box<Value>>),
    /// A numpy array.
    Array {
        /// What an element is.
        dtype: Dtype,
        /// How many there are along each axis.
        shape: Vec<u64>,
        /// How they follow each other in `data`.
        order: Order,
        /// The elements' memory.
        data: Vec<u8>,
    },
}

impl Value {
    /// The value as text.
    ///
    /// # Errors
    /// It is nested too deeply.
    pub fn to_text(&self) -> Result<String, Error> {
        let mut writer = Writer::default();
        writer.value(self)?;
        Ok(writer.finish())
    }

    /// The value of a text.
    ///
    /// # Errors
    /// The text is torn, is no JSON, has an unknown tag, or is nested too deeply.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        read(text, &mut crate::build::Values)
    }
}

/// A value without parts.
#[derive(Debug, Clone, PartialEq)]
pub enum Atom<'a> {
    /// Nothing.
    None,
    /// True or false; never equal to an integer.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// Any other integer, as Python's `hex` writes it: `-0x8000000000000001`.
    BigInt(Cow<'a, str>),
    /// A float.
    Float(Float),
    /// Two floats.
    Complex(Float, Float),
    /// Text.
    Str(Cow<'a, str>),
    /// Text with lone surrogates, as UTF-8 in which they are encoded like any other code point (`surrogatepass`).
    Surrogates(Cow<'a, [u8]>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// Bytes that can be changed.
    ByteArray(Cow<'a, [u8]>),
    /// A decimal number as Python's `str` writes it.
    Decimal(Cow<'a, str>),
    /// A day.
    Date(Date),
    /// A time of day.
    Time(Time),
    /// A moment.
    DateTime(DateTime),
    /// A duration, normalised as Python does.
    TimeDelta {
        /// Days, negative in a negative duration.
        days: i32,
        /// Seconds of the day, from 0 up.
        seconds: u32,
        /// Microseconds of the second, from 0 up.
        micros: u32,
    },
    /// A time zone by itself.
    Zone(Zone),
}

/// A float that is equal to itself: NaN equals NaN, and `-0.0` differs from `0.0`.
#[derive(Debug, Clone, Copy)]
pub struct Float(pub f64);

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits() || self.0.is_nan() && other.0.is_nan()
    }
}

/// Kinds of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// A list.
    List,
    /// A tuple.
    Tuple,
    /// A set.
    Set,
    /// A set that cannot be changed.
    FrozenSet,
    /// A double-ended queue, which drops items beyond its length.
    Deque {
        /// The length; `None` for any.
        maxlen: Option<u64>,
    },
}

/// Kinds of mappings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// A dict.
    Dict,
    /// `collections.OrderedDict`.
    Ordered,
    /// `collections.Counter`.
    Counter,
    /// `collections.defaultdict`.
    Default {
        /// The name of the type that makes missing values, such as `list`.
        factory: Option<Cow<'static, str>>,
    },
}

/// What a numpy scalar holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<T> {
    /// A value that Python has as well.
    Value(T),
    /// Its memory.
    Data(Vec<u8>),
}

/// The type of numpy elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dtype {
    /// As numpy's `dtype.str` writes it: `<f8`.
    Plain(String),
    /// A structure.
    Fields(Vec<Field>),
}

/// One field of a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// A second name.
    pub title: Option<String>,
    /// The name; empty for bytes that only fill.
    pub name: String,
    /// What it holds.
    pub dtype: Dtype,
    /// How many of them; empty for one.
    pub shape: Vec<u64>,
}

/// How the elements of an array follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The last axis changes fastest.
    C,
    /// The first axis changes fastest.
    Fortran,
}
