//! Files that settings name: secrets and certificates.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use crate::fault::LinkError;

/// A path is bytes: whoever reads the settings may have some that are no UTF-8.
pub(crate) fn whole_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
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

        fn visit_str<E>(self, text: &str) -> Result<Whole, E> {
            Ok(Whole(text.into()))
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Whole, E> {
            Ok(Whole(OsStr::from_bytes(bytes).into()))
        }
    }

    Ok(Option::<Whole>::deserialize(from)?.map(|whole| whole.0))
}

pub(crate) fn read(option: &str, path: &Path) -> Result<Vec<u8>, LinkError> {
    std::fs::read(path).map_err(|error| {
        LinkError::config(format!(
            "{option} '{}' cannot be read: check the path, the mount and its permissions",
            path.display()
        ))
        .caused_by(error)
    })
}

/// The content of a file without one line end after it; None where nothing is left.
pub(crate) fn read_line(option: &str, path: Option<&Path>) -> Result<Option<String>, LinkError> {
    let Some(path) = path else { return Ok(None) };
    let text = String::from_utf8(read(option, path)?).map_err(|_| {
        LinkError::config(format!(
            "{option} '{}' is not UTF-8 text: write the value into it as plain text",
            path.display()
        ))
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok((!line.is_empty()).then(|| line.to_owned()))
}
