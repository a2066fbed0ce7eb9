//! A state as fields of a hash, and back.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use redis_link::commit::StateWrite;
use runtime_core::change::Fingerprint;
use runtime_core::contract::{Env, StateKey, Versioned};

/// The field with the token of the last save.
pub(super) const TOKEN: &str = "t";
/// Of the fields and texts, as that of the codec; a hash without it is of format 1.
const FORMAT: &[u8] = b"format";
const VERSION: &[u8] = b"v";
const LIFE: &[u8] = b"l";
const FINGERPRINT: &[u8] = b"f";
/// Key texts in their order, a line each: a hash has none, a dict has.
const ORDER: &[u8] = b"o";
const ENTRY: &[u8] = b"e:";

/// The state in a hash; none where there are no fields.
///
/// # Errors
/// What is wrong, and what to do, as the end of a sentence that begins with the key.
pub(super) fn read(fields: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Option<Versioned>, String> {
    if fields.is_empty() {
        return Ok(None);
    }
    if let Some((_, format)) = fields.iter().find(|(field, _)| field == FORMAT)
        && parsed(format).is_none_or(|format| format > u64::from(state_codec::FORMAT))
    {
        return Err(format!(
            "holds a state of format {}, written by a newer version, this one reads up to {}: run that version, or \
             delete the key to begin with an empty state",
            String::from_utf8_lossy(format),
            state_codec::FORMAT
        ));
    }
    let mut entries = HashMap::new();
    let (mut version, mut life, mut fingerprint, mut order) = (None, 0, None, Vec::new());
    for (field, value) in fields {
        if let Some(key) = field.strip_prefix(ENTRY) {
            entries.insert(key.to_vec(), Bytes::from(value));
        } else if field == VERSION {
            version = number(&value);
        } else if field == LIFE {
            life = number(&value).ok_or(
                "holds no state that can be used: its field 'l' is no number as this program writes it; remove that \
                 field, or delete the key to begin with an empty state",
            )?;
        } else if field == FINGERPRINT {
            fingerprint = str::from_utf8(&value).ok().and_then(Fingerprint::from_hex);
        } else if field == ORDER {
            order = value;
        }
    }
    let version = version.ok_or(
        "holds no state of a function: its field 'v' is no version; delete it to begin with an empty state, or set \
         state.prefix",
    )?;
    let mut env = Vec::with_capacity(entries.len());
    // of an empty order there is one line, which names no entry unless the state is a single value
    for key in order.split(|byte| *byte == b'\n') {
        env.extend(entries.remove(key).map(|value| (Bytes::copy_from_slice(key), value)));
    }
    // fields that somebody added by hand
    let mut rest: Vec<_> = entries.into_iter().map(|(key, value)| (Bytes::from(key), value)).collect();
    rest.sort();
    env.extend(rest);
    Ok(Some(Versioned { version, life, env: Env(env), fingerprint, left: None }))
}

/// What makes the hash of `before` into that of `state`; all of it where nothing is known of it.
pub(super) fn changes(before: Option<&Versioned>, state: &Versioned) -> StateWrite {
    let mut write = StateWrite { clear: before.is_none(), ..StateWrite::default() };
    if before.is_none() {
        write.set.push((FORMAT.to_vec(), state_codec::FORMAT.to_string().into_bytes()));
    }
    let old: HashMap<&Bytes, &Bytes> =
        before.iter().flat_map(|before| &before.env.0).map(|(key, value)| (key, value)).collect();
    for (key, value) in &state.env.0 {
        if old.get(key) != Some(&value) {
            write.set.push((field(key), value.to_vec()));
        }
    }
    let keys: HashSet<&Bytes> = state.env.0.iter().map(|(key, _)| key).collect();
    write.remove.extend(old.keys().filter(|key| !keys.contains(*key)).map(|key| field(key)));
    let order = |env: &Env| env.0.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>().join(&b'\n');
    if before.is_none_or(|before| order(&before.env) != order(&state.env)) {
        write.set.push((ORDER.to_vec(), order(&state.env)));
    }
    match state.fingerprint {
        Some(fingerprint) if before.is_none_or(|before| before.fingerprint != state.fingerprint) => {
            write.set.push((FINGERPRINT.to_vec(), fingerprint.to_string().into_bytes()));
        }
        None if before.is_some_and(|before| before.fingerprint.is_some()) => write.remove.push(FINGERPRINT.to_vec()),
        _ => {}
    }
    write
}

/// A number in the one spelling in which it is written: a commit compares texts, and would never find it again.
fn number(text: &[u8]) -> Option<u64> {
    parsed(text).filter(|number| number.to_string().as_bytes() == text)
}

fn parsed(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn field(key: &Bytes) -> Vec<u8> {
    [ENTRY, key].concat()
}

/// Tells one save of a process from its others.
pub(super) fn digest(states: &[(StateKey, Versioned)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, state) in states {
        (&key.0, state.version, state.life, &state.env.0, state.fingerprint.map(|print| print.to_string()))
            .hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn state(version: u64, entries: &[(&str, &str)]) -> Versioned {
        let entry = |(key, value): &(&str, &str)| ((*key).to_owned().into(), (*value).to_owned().into());
        Versioned { version, life: 3, env: Env(entries.iter().map(entry).collect()), ..Versioned::default() }
    }

    fn applied(write: &StateWrite, mut hash: HashMap<Vec<u8>, Vec<u8>>) -> HashMap<Vec<u8>, Vec<u8>> {
        if write.clear {
            hash.clear();
        }
        for field in &write.remove {
            hash.remove(field);
        }
        hash.extend(write.set.iter().cloned());
        hash
    }

    #[test]
    fn changes_make_one_state_into_the_next() {
        let print = runtime_core::change::fingerprint(b"1").unwrap();
        let states = [
            state(1, &[]),
            state(2, &[("\"b\"", "1"), ("\"a\"", "2")]),
            Versioned { fingerprint: Some(print), ..state(3, &[("\"b\"", "1"), ("\"a\"", "3")]) },
            state(4, &[("\"a\"", "3"), ("\"b\"", "1")]),
            state(5, &[("", "[1,2]")]),
            state(6, &[("\"a\"", "3")]),
        ];
        let mut hash = HashMap::new();
        let mut before = None;
        for state in &states {
            hash = applied(&changes(before, state), hash);
            hash.insert(VERSION.to_vec(), state.version.to_string().into_bytes());
            hash.insert(LIFE.to_vec(), state.life.to_string().into_bytes());
            hash.insert(TOKEN.as_bytes().to_vec(), b"x".to_vec());
            assert_eq!(read(hash.clone().into_iter().collect()).unwrap().as_ref(), Some(state));
            before = Some(state);
        }
    }

    #[test]
    fn what_is_the_same_is_not_written() {
        let before = state(1, &[("\"a\"", "1"), ("\"b\"", "2")]);
        let write = changes(Some(&before), &state(2, &[("\"a\"", "1"), ("\"b\"", "3")]));
        assert_eq!((write.clear, write.remove.len()), (false, 0));
        assert_eq!(write.set, [(b"e:\"b\"".to_vec(), b"3".to_vec())]);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        assert_eq!(read(Vec::new()).unwrap(), None);
        let hash = |pairs: &[(&[u8], &[u8])]| pairs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect::<Vec<_>>();
        assert_eq!(
            read(hash(&[(b"a", b"1")])).unwrap_err(),
            "holds no state of a function: its field 'v' is no version; delete it to begin with an empty state, or set \
             state.prefix"
        );
        assert_eq!(
            read(hash(&[(b"v", b"1"), (b"format", b"2")])).unwrap_err(),
            "holds a state of format 2, written by a newer version, this one reads up to 1: run that version, or \
             delete the key to begin with an empty state"
        );
        assert_eq!(read(hash(&[(b"v", b"7"), (b"format", b"1")])).unwrap().unwrap().version, 7);
        assert_eq!(read(hash(&[(b"v", b"7")])).unwrap().unwrap().version, 7, "before there was a number");
    }

    #[test]
    fn saves_differ() {
        let one = |state: &Versioned| digest(&[(StateKey(None), state.clone())]);
        let base = state(1, &[("\"a\"", "1")]);
        assert_eq!(one(&base), one(&base.clone()));
        assert_ne!(one(&base), one(&state(2, &[("\"a\"", "1")])));
        assert_ne!(one(&base), one(&state(1, &[("\"a\"", "2")])));
    }
}
