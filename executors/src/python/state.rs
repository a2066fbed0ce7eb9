//! `context.env` as text, and back: see `docs/state.md`.
//!
//! Each top-level key is an entry of its own, so that one that cannot be encoded does not keep back the rest, and an
//! unchanged one can be told by its bytes. Where the env is not a plain dict, a first entry without a key text says
//! what it is: the empty `OrderedDict`, `defaultdict` or `Counter` that the others go into, or the whole of any other
//! value.
//!
//! Types are exact: an instance of a class of the function's own would come back as something else, so it is not
//! encoded. That an object was in two places is not kept: it comes back as two.

mod decode;
mod encode;
mod kinds;
mod lost;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use runtime_core::contract::Env;

use decode::Builder;
use encode::Encoder;
use lost::{Lost, shown};

/// A state as text.
#[derive(Debug)]
pub(super) struct Encoded {
    /// What could be encoded.
    pub(super) env: Env,
    /// What could not.
    pub(super) lost: Vec<Left>,
    /// Nothing could: it is one object without a text.
    pub(super) opaque: bool,
    /// What its entries are in has no text, so they alone are encoded.
    pub(super) bare: bool,
}

/// What has no text.
#[derive(Debug)]
pub(super) struct Left {
    /// The top-level key as Python shows it.
    pub(super) name: String,
    /// A few words that say more: `'cache'.conn (a socket.socket)`.
    pub(super) words: String,
    /// The entry itself, where it is one.
    pub(super) entry: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Encoded {
    /// What could not be encoded, in words.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.lost.iter().map(|left| left.words.as_str())
    }
}

/// Encodes an env of any kind. It runs no code of the function's, so it can neither raise nor change anything.
pub(super) fn encode(py: Python<'_>, env: &Bound<'_, PyAny>) -> Encoded {
    let mut encoder = Encoder::new(py);
    let mut entries = Vec::new();
    let mut lost = Vec::new();
    let mut lose = |name: String, reason: &Lost, entry: Option<(Py<PyAny>, Py<PyAny>)>| {
        lost.push(Left { words: reason.named(&name), name, entry });
    };
    let mut bare = false;

    let pairs = match encoder.pairs(env) {
        Some(pairs) => pairs,
        None => {
            match encoder.text(env) {
                Ok(text) => entries.push((Bytes::new(), Bytes::from(text))),
                Err(reason) => lose("context.env".to_owned(), &reason, None),
            }
            return Encoded { env: Env(entries), opaque: !lost.is_empty(), lost, bare };
        }
    };
    if !env.is_exact_instance_of::<PyDict>() {
        match encoder.empty(env) {
            Ok(text) => entries.push((Bytes::new(), Bytes::from(text))),
            Err(reason) => {
                bare = true;
                lose("context.env itself".to_owned(), &reason, None);
            }
        }
    }
    // two keys may have one text: NaN is not equal to NaN
    let mut odd = HashSet::new();
    for (key, value) in pairs {
        let entry = || Some((key.clone().unbind(), value.clone().unbind()));
        let text = match encoder.text(&key) {
            Ok(text) => text,
            Err(reason) => {
                lose("a key".to_owned(), &reason, entry());
                continue;
            }
        };
        if !text.starts_with('"') && !odd.insert(text.clone()) {
            lose(shown(&key), &Lost::new("a second key with this text"), entry());
            continue;
        }
        match encoder.text(&value) {
            Ok(value) => entries.push((Bytes::from(text), Bytes::from(value))),
            Err(reason) => lose(shown(&key), &reason, entry()),
        }
    }
    Encoded { env: Env(entries), lost, opaque: false, bare }
}

/// The env of a state.
///
/// # Errors
/// `ValueError`, with the entry and what is wrong in it: the text is damaged, a newer version wrote it, or a value in it
/// needs a module that is not there.
pub(super) fn decode(py: Python<'_>, env: &Env) -> PyResult<Py<PyAny>> {
    decoded(py, env, |_, _, _| Ok(None)).map(Bound::unbind)
}

/// The same where another env is at hand with its text: an entry that is equal in both is taken from that one.
///
/// # Errors
/// As for [`decode`].
pub(super) fn decode_beside<'py>(
    py: Python<'py>,
    env: &Env,
    other: &Bound<'py, PyAny>,
    text: &Env,
) -> PyResult<Bound<'py, PyAny>> {
    let texts: HashMap<&Bytes, &Bytes> = text.0.iter().map(|(key, value)| (key, value)).collect();
    decoded(py, env, |text, value, key| match other.cast_exact::<PyDict>() {
        // other keys than texts may be equal to another one
        Ok(other) if text.starts_with(b"\"") && texts.get(text) == Some(&value) => other.get_item(key),
        _ => Ok(None),
    })
}

/// `known` gives what an entry is by its text: key, value, and the key as an object.
fn decoded<'py>(
    py: Python<'py>,
    env: &Env,
    known: impl Fn(&Bytes, &Bytes, &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut builder = Builder::new(py);
    let mut whole = PyDict::new(py).into_any();
    for (index, (key, value)) in env.0.iter().enumerate() {
        let failed = |error: &dyn std::fmt::Display| {
            let name = if key.is_empty() { "what it is".into() } else { String::from_utf8_lossy(key) };
            PyValueError::new_err(format!("the saved state cannot be read, entry {name}: {error}"))
        };
        let mut part = |text: &Bytes| {
            let text = std::str::from_utf8(text).map_err(|error| failed(&error))?;
            state_codec::read(text, &mut builder).map_err(|error| failed(&error))
        };
        if key.is_empty() && index == 0 {
            whole = part(value)?;
            continue;
        }
        let name = part(key)?;
        let item = match known(key, value, &name)? {
            Some(item) => item,
            None => part(value)?,
        };
        whole.set_item(name, item).map_err(|error| failed(error.value(py)))?;
    }
    Ok(whole)
}
