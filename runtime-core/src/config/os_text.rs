//! Names of files are bytes, and the tree holds texts: what the environment or the command line says is kept whole.
//!
//! Bytes that are no UTF-8 stand in a text as letters that nobody uses, one for each byte; where such a letter is meant
//! itself, its bytes stand so, too. A path gets its bytes back; everything else is refused as no text.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// The letter of the byte 0, at the end of the last area for private use; only bytes from 0x80 on are written so.
const FIRST: u32 = 0x10_fd00;

/// The text that stands for these bytes.
#[must_use]
pub fn text(bytes: &OsStr) -> String {
    let letter = |byte: &u8| char::from_u32(FIRST + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut text = String::new();
    for chunk in bytes.as_bytes().utf8_chunks() {
        for one in chunk.valid().chars() {
            match byte_of(one) {
                None => text.push(one),
                Some(_) => text.extend(one.encode_utf8(&mut [0; 4]).as_bytes().iter().map(letter)),
            }
        }
        text.extend(chunk.invalid().iter().map(letter));
    }
    text
}

/// The bytes that a text of [`text`] stands for.
#[must_use]
pub fn bytes(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match byte_of(letter) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

/// The path that it stands for.
#[must_use]
pub fn path(text: &str) -> PathBuf {
    bytes(text).into()
}

/// Whether it is nothing but text.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| byte_of(letter).is_none())
}

/// For people: with a mark for each byte that is no text.
#[must_use]
pub fn shown(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { bytes(text).to_string_lossy().into_owned() }
}

fn byte_of(letter: char) -> Option<u8> {
    u8::try_from(u32::from(letter).checked_sub(FIRST)?).ok().filter(|byte| *byte >= 0x80)
}

/// A path in a component's options, for serde's `deserialize_with`.
///
/// # Errors
/// It is no text.
pub fn read<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    Whole::deserialize(from).map(|whole| whole.0)
}

/// The same of an option that may be left out.
///
/// # Errors
/// It is no text.
pub fn read_option<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<Whole>::deserialize(from)?.map(|whole| whole.0))
}

/// The same of a list.
///
/// # Errors
/// It is no list of texts.
pub fn read_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(Vec::<Whole>::deserialize(from)?.into_iter().map(|whole| whole.0).collect())
}

/// A path with all of its bytes.
struct Whole(PathBuf);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_byte_buf(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("path string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
        Ok(Whole(text.into()))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Whole, E> {
        Ok(Whole(OsStr::from_bytes(bytes).into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_whatever_they_are(given: Vec<u8>) {
            let given = OsString::from_vec(given);
            prop_assert_eq!(bytes(&text(&given)), given);
        }
    }

    #[test]
    fn text_is_itself_and_other_bytes_are_told() {
        assert_eq!(text(OsStr::new("/opt/gr\u{f6}\u{df}e.py")), "/opt/gr\u{f6}\u{df}e.py");
        assert!(is_plain("/opt/gr\u{f6}\u{df}e.py"));
        let odd = text(OsStr::from_bytes(b"/opt/\xff\xc3.py"));
        assert!(!is_plain(&odd));
        assert_eq!(shown(&odd), "/opt/\u{fffd}\u{fffd}.py");
        // the letters themselves are no way to another name
        let letter = "\u{10fdff}";
        assert_eq!(bytes(&text(OsStr::new(letter))), letter);
    }
}
