//! How large a state may become.

use runtime_core::Fault;
use runtime_core::config::Concern;
use runtime_core::contract::{Env, StateKey, Versioned};
use runtime_core::options::Size;

/// A window of some hundred samples takes some kilobytes; a state that outgrows a mebibyte keeps what it should not, and
/// is written with every batch.
pub(crate) const fn default_max_bytes() -> Size {
    Size(1 << 20)
}

/// What is wrong with the option `max_bytes`.
pub(crate) fn concern(most: Size) -> Option<Concern> {
    (most.0 == 0).then(|| Concern::new("max_bytes", "'0' has room for no state; leave the option out for 1MiB"))
}

/// The size of a state is that of its texts.
///
/// # Errors
/// The first one that is larger than `most`, with its biggest key.
pub(crate) fn check(function: &str, states: &[(StateKey, Versioned)], most: Size) -> Result<(), Fault> {
    states.iter().try_for_each(|(key, state)| {
        let size: u64 = state.env.0.iter().map(length).sum();
        if size <= most.0 {
            return Ok(());
        }
        let which = key.0.as_ref().map(|key| format!(" for '{key}'")).unwrap_or_default();
        Err(Fault::function(format!(
            "the state of function '{function}'{which} has {size} bytes, more than max_bytes {most}{}: keep less in it, \
             or raise state.max_bytes",
            biggest(&state.env)
        )))
    })
}

fn length((key, value): &(bytes::Bytes, bytes::Bytes)) -> u64 {
    (key.len() + value.len()) as u64
}

fn biggest(env: &Env) -> String {
    let Some(entry) = env.0.iter().max_by_key(|entry| length(entry)) else {
        return String::new();
    };
    let bytes = length(entry);
    match String::from_utf8_lossy(&entry.0) {
        // the state itself, where it is no dict
        key if key.is_empty() => format!(", {bytes} of them in a single value"),
        key => format!(", {bytes} of them under the key {}", shown(&key)),
    }
}

/// A key may be as long as a value.
fn shown(key: &str) -> String {
    const SHOWN: usize = 80;
    let mut text: String = key.chars().take(SHOWN).collect();
    if key.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn state(entries: &[(&str, usize)]) -> Versioned {
        let entry = |(key, size): &(&str, usize)| ((*key).to_owned().into(), vec![b'1'; *size].into());
        Versioned { version: 1, env: Env(entries.iter().map(entry).collect()), ..Versioned::default() }
    }

    #[test]
    fn the_biggest_key_is_named() {
        let small = (StateKey(None), state(&[("\"a\"", 50), ("\"b\"", 44)]));
        check("vm", std::slice::from_ref(&small), Size(100)).unwrap();
        let large = (StateKey(Some("h1".to_owned())), state(&[("\"a\"", 50), ("\"window\"", 2000)]));
        let fault = check("vm", &[small, large], Size(1024)).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "the state of function 'vm' for 'h1' has 2061 bytes, more than max_bytes 1KiB, 2008 of them under the key \
             \"window\": keep less in it, or raise state.max_bytes"
        );
        assert!(!fault.retry());
        let whole = (StateKey(None), state(&[("", 200)]));
        let fault = check("vm", &[whole], Size(100)).unwrap_err().to_string();
        assert!(fault.contains("200 of them in a single value"), "{fault}");
    }
}
