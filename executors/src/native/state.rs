//! A library's state on its way over the border: names and JSON texts there, texts of the state codec here.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::c_void;

use bytes::Bytes;
use gaugefn_sdk::abi::{Entry, Load, Save, Slice};
use runtime_core::Fault;
use runtime_core::contract::Env;
use serde::de::IgnoredAny;

/// What a library told of its state.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) env: Env,
    /// Names of what cannot be saved, each with the reason.
    pub(super) lost: Vec<(String, String)>,
}

impl Told {
    pub(super) fn lose(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.lost.push((name.into(), reason.into()));
    }
}

/// Where entries arrive.
struct Taking<'a> {
    told: &'a mut Told,
    names: HashSet<String>,
}

/// Lets a library's `save` tell what it has.
pub(super) fn told(told: &mut Told, save: impl FnOnce(*const Save)) {
    let mut taking = Taking { told, names: HashSet::new() };
    save(&Save { size: size_of::<Save>(), handle: (&raw mut taking).cast(), put, lose });
}

unsafe extern "C" fn put(handle: *mut c_void, key: Slice, value: Slice) {
    // SAFETY: `told` made the handle, and the bytes last as long as this call
    let (taking, key, value) = unsafe { (&mut *handle.cast::<Taking<'_>>(), key.bytes(), value.bytes()) };
    let name = String::from_utf8_lossy(key).into_owned();
    let is_json = std::str::from_utf8(value).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let reason = if std::str::from_utf8(key).is_err() {
        "its name is no UTF-8"
    } else if !is_json {
        "its value is no JSON text"
    } else if !taking.names.insert(name.clone()) {
        "its name came before"
    } else {
        let key = serde_json::to_vec(&name).expect("a text is JSON");
        return taking.told.env.0.push((key.into(), Bytes::copy_from_slice(value)));
    };
    taking.told.lose(name, reason);
}

unsafe extern "C" fn lose(handle: *mut c_void, name: Slice, reason: Slice) {
    // SAFETY: as for `put`
    let (taking, name, reason) = unsafe { (&mut *handle.cast::<Taking<'_>>(), name.text(), reason.text()) };
    taking.told.lose(name.unwrap_or_default(), reason.unwrap_or_default());
}

/// Gives a state to a library's `load`.
pub(super) fn given(env: &Env, load: impl FnOnce(*const Load)) -> Result<(), Fault> {
    let names: Vec<String> = env.0.iter().map(|(key, _)| name(key)).collect::<Result<_, _>>()?;
    let entries: Vec<Entry> = names
        .iter()
        .zip(&env.0)
        .map(|(name, (_, value))| Entry { key: Slice::of(name.as_bytes()), value: Slice::of(value) })
        .collect();
    let mut refused: Option<String> = None;
    load(&Load {
        size: size_of::<Load>(),
        count: entries.len(),
        entries: entries.as_ptr().cast(),
        entry_size: size_of::<Entry>(),
        handle: (&raw mut refused).cast(),
        refuse,
    });
    match refused {
        None => Ok(()),
        Some(reason) => Err(Fault::function(format!("the library does not take the state: {reason}"))),
    }
}

unsafe extern "C" fn refuse(handle: *mut c_void, reason: Slice) {
    // SAFETY: `given` made the handle, and the text lasts as long as this call
    let (refused, reason) = unsafe { (&mut *handle.cast::<Option<String>>(), reason.text()) };
    *refused = Some(reason.unwrap_or_default());
}

fn name(key: &[u8]) -> Result<String, Fault> {
    serde_json::from_slice(key).map_err(|_| {
        let key = String::from_utf8_lossy(key);
        Fault::function(format!("the state has the key {key}, and a native function knows only texts as keys"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn slice(bytes: &'static [u8]) -> Slice {
        Slice::of(bytes)
    }

    #[test]
    fn what_a_library_tells_is_checked() {
        let mut kept = Told::default();
        // SAFETY: it is valid within the closure
        let put = |save: *const Save, key, value| unsafe { ((*save).put)((*save).handle, slice(key), slice(value)) };
        told(&mut kept, |save| {
            put(save, b"a \"b\"", b" [1.50]");
            put(save, b"\xff", b"1");
            put(save, b"c", b"{");
            put(save, b"d", b"\"\xff\"");
            put(save, b"e", b"");
            put(save, "ä".as_bytes(), b"1 ");
            put(save, "ä".as_bytes(), b"2");
            // SAFETY: as above
            unsafe { ((*save).lose)((*save).handle, slice(b"lock"), Slice::NONE) };
        });
        let env: Vec<_> = kept.env.0.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        assert_eq!(env, [(&b"\"a \\\"b\\\"\""[..], &b" [1.50]"[..]), ("\"ä\"".as_bytes(), b"1 ")]);
        let lost: Vec<_> = kept.lost.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        let wanted = [
            "\u{fffd}: its name is no UTF-8",
            "c: its value is no JSON text",
            "d: its value is no JSON text",
            "e: its value is no JSON text",
            "ä: its name came before",
            "lock: ",
        ];
        assert_eq!(lost, wanted);
    }

    #[test]
    fn a_library_is_given_names_and_may_refuse() {
        let env = |key: &'static str| Env(vec![(key.into(), "1".into())]);
        let mut seen = Vec::new();
        given(&env("\"a\\u0062\""), |load| {
            // SAFETY: it is valid within the closure
            let entry = unsafe { (*load).entries.cast::<Entry>().read() };
            // SAFETY: as above
            seen.push(unsafe { (entry.key.text().unwrap(), entry.value.text().unwrap(), (*load).count) });
        })
        .unwrap();
        assert_eq!(seen, [("ab".to_owned(), "1".to_owned(), 1)]);
        // SAFETY: as above
        let refused = given(&env("\"a\""), |load| unsafe { ((*load).refuse)((*load).handle, slice(b"too old")) });
        assert_eq!(refused.unwrap_err().to_string(), "the library does not take the state: too old");
        let odd = given(&env("7"), |_| panic!("not called")).unwrap_err().to_string();
        assert_eq!(odd, "the state has the key 7, and a native function knows only texts as keys");
    }
}
