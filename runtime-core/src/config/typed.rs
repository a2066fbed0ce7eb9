//! A strict deserialiser over the merged tree.
//!
//! The config crate's own one turns `1.7` into 2, `true` into 1 and `5` into "5". Here a value from a file must have
//! the type that is wanted; text is converted only where it comes from an environment variable, which has no types.

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use config::{Value, ValueKind};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Unexpected, Visitor};

use super::{os_text, tree};

/// A value on its way into a type.
#[derive(Clone)]
pub struct Typed(pub Value);

/// What serde had to say.
#[derive(Debug)]
pub struct TypeError(String);

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl Typed {
    /// The text of a variable, which may stand for any type.
    fn text(&self) -> Option<&str> {
        match &self.0.kind {
            ValueKind::String(text) if tree::from_variable(&self.0) => Some(text),
            _ => None,
        }
    }
}

impl Typed {
    /// What a variable says must be text, but for a path.
    fn must_be_text(&self) -> Result<(), TypeError> {
        match self.text() {
            Some(text) if !os_text::is_plain(text) => {
                Err(TypeError("has bytes that are no UTF-8 text; only a path may have such".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl<'de> IntoDeserializer<'de, TypeError> for Typed {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Text of a variable becomes a number; everything else must already be what the visitor accepts.
macro_rules! number {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
            self.must_be_text()?;
            match self.text().map(|text| (text.trim().parse::<$type>(), text)) {
                Some((Ok(number), _)) => visitor.$visit(number),
                Some((Err(_), text)) => Err(de::Error::invalid_value(Unexpected::Str(text), &visitor)),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Typed {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.must_be_text()?;
        match self.0.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(it) => visitor.visit_bool(it),
            ValueKind::I64(it) => visitor.visit_i64(it),
            ValueKind::I128(it) => visitor.visit_i128(it),
            ValueKind::U64(it) => visitor.visit_u64(it),
            ValueKind::U128(it) => visitor.visit_u128(it),
            ValueKind::Float(it) => visitor.visit_f64(it),
            ValueKind::String(it) => visitor.visit_string(it),
            ValueKind::Array(it) => visitor.visit_seq(SeqDeserializer::new(it.into_iter().map(Typed))),
            ValueKind::Table(it) => {
                visitor.visit_map(MapDeserializer::new(it.into_iter().map(|(key, value)| (key, Typed(value)))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.text().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "1") => visitor.visit_bool(true),
            Some("false" | "no" | "off" | "0") => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    number! {
        deserialize_i8 visit_i64 i64,
        deserialize_i16 visit_i64 i64,
        deserialize_i32 visit_i64 i64,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_i64 i64,
        deserialize_u16 visit_i64 i64,
        deserialize_u32 visit_i64 i64,
        deserialize_u64 visit_u64 u64,
        deserialize_f32 visit_f64 f64,
        deserialize_f64 visit_f64 f64,
    }

    /// A path, with all of its bytes.
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.text() {
            Some(text) => visitor.visit_bytes(os_text::bytes(text).as_bytes()),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let Some(text) = self.text() else {
            return self.deserialize_any(visitor);
        };
        let origin = self.0.origin().map(str::to_owned);
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.map(|part| Typed(Value::new(origin.as_ref(), part))).collect();
        visitor.visit_seq(SeqDeserializer::new(parts.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.must_be_text()?;
        match self.0.kind {
            ValueKind::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            // a word that is spelled as a number is one in TOML
            ValueKind::I64(number) if words.contains(&number.to_string().as_str()) => {
                visitor.visit_enum(number.to_string().into_deserializer())
            }
            other => Err(de::Error::custom(format!("invalid type: {}, expected a word", tree::noun(&other)))),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}
