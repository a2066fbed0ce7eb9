//! The border between a library and the runtime: C types, sizes first, and who frees what.
//!
//! `include/gaugefn.h` has the same for C, and `docs/native-abi.md` explains it. A library has two things: a note in
//! its ELF file, [`Note`], which is read before any of its code is loaded, and the static `gaugefn_library`,
//! a [`Library`]. Each structure begins with, or comes with, its size: a side that knows fewer fields leaves the rest
//! alone, one that knows more takes those that are missing at their defaults. Fields are only ever added at the end.
//!
//! Each side frees its own memory: what a call is given belongs to the runtime and lasts as long as the call; what
//! a call answers belongs to the library and lasts until `release`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null;

use crate::export::Handler;
use crate::shim;

/// Differs where library and runtime cannot work together.
pub const MAJOR: u32 = 1;
/// Grows with each field that is added. 1 added `close`, 2 `save` and `load`.
pub const MINOR: u32 = 2;
/// The version of this crate.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");
/// What a library is built for: architecture, system, and the C library where there are several.
pub const TARGET: Text<64> = Text::new(&[std::env::consts::ARCH, "-", std::env::consts::OS, "-", C_LIBRARY]);
/// The name of the exported [`Library`].
pub const SYMBOL: &str = "gaugefn_library";
/// The owner's name in the note, with its zero byte.
pub const NOTE_OWNER: [u8; 8] = *b"gaugefn\0";
/// The note's type.
pub const NOTE_TYPE: u32 = 1;

const C_LIBRARY: &str = if cfg!(target_env = "gnu") {
    "gnu"
} else if cfg!(target_env = "musl") {
    "musl"
} else {
    "unknown"
};

/// A library that cannot panic: one in C.
pub const PANIC_NONE: u32 = 0;
/// Panics unwind, and the shim catches them.
pub const PANIC_UNWIND: u32 = 1;
/// A panic ends the process: refused.
pub const PANIC_ABORT: u32 = 2;

/// The library has said nothing of this event.
pub const UNSET: u32 = 0;
/// Nothing to store.
pub const EMPTY: u32 = 1;
/// `value` is the result, as JSON text.
pub const OUTPUT: u32 = 2;
/// The call failed: `value` is a line of text, `report` may have more.
pub const FAILED: u32 = 3;
/// The event itself is unusable, whatever the function does: `value` is a line of text.
pub const UNUSABLE: u32 = 4;

/// Without a limit of time.
pub const NO_LIMIT: i64 = -1;

/// Text of at most `N - 1` bytes, filled up with zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Text<const N: usize>(pub [u8; N]);

impl<const N: usize> Text<N> {
    /// The parts, one after the other; what is too long is cut.
    #[must_use]
    pub const fn new(parts: &[&str]) -> Self {
        let mut bytes = [0; N];
        let mut at = 0;
        let mut part = 0;
        while part < parts.len() {
            let text = parts[part].as_bytes();
            let mut n = 0;
            while n < text.len() && at + 1 < N {
                bytes[at] = text[n];
                at += 1;
                n += 1;
            }
            part += 1;
        }
        Self(bytes)
    }

    /// Up to the first zero byte, and up to what is no UTF-8.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

/// What the note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Facet {
    /// Of this structure, in bytes.
    pub size: u32,
    /// [`MAJOR`] of the library.
    pub abi_major: u32,
    /// [`MINOR`] of the library.
    pub abi_minor: u32,
    /// [`PANIC_UNWIND`] and its like.
    pub panic: u32,
    /// [`SDK_VERSION`], for messages.
    pub sdk_version: Text<32>,
    /// [`TARGET`]
    pub target: Text<64>,
}

/// An ELF note: owner, type, and a [`Facet`].
#[derive(Debug, Clone, Copy)]
#[repr(C, align(4))]
pub struct Note {
    owner_size: u32,
    content_size: u32,
    kind: u32,
    owner: [u8; 8],
    content: Facet,
}

impl Note {
    /// The note of a library that is compiled with this crate.
    #[must_use]
    pub const fn new(panic: u32) -> Self {
        let size = size_of::<Facet>() as u32;
        let content = Facet {
            size,
            abi_major: MAJOR,
            abi_minor: MINOR,
            panic,
            sdk_version: Text::new(&[SDK_VERSION]),
            target: TARGET,
        };
        Self { owner_size: NOTE_OWNER.len() as u32, content_size: size, kind: NOTE_TYPE, owner: NOTE_OWNER, content }
    }
}

/// Bytes that somebody else owns. `data` may be null where `len` is 0; where a text may be absent, null says so.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Slice {
    /// The first byte.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

impl Slice {
    /// Nothing, and absent.
    pub const NONE: Self = Self { data: null(), len: 0 };

    /// These bytes, which must outlive what is made of this.
    #[must_use]
    pub const fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// The text, or [`NONE`](Self::NONE).
    #[must_use]
    pub fn of_option(text: Option<&str>) -> Self {
        text.map_or(Self::NONE, |text| Self::of(text.as_bytes()))
    }

    /// The bytes; none where `data` is null.
    ///
    /// # Safety
    /// What it was made of must live for `'a`, unchanged.
    #[must_use]
    pub const unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: by the caller's promise there are `len` bytes
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// The bytes as text, with replacements for what is no UTF-8; `None` where `data` is null.
    ///
    /// # Safety
    /// As for [`bytes`](Self::bytes), during this call.
    #[must_use]
    pub unsafe fn text(self) -> Option<String> {
        // SAFETY: the caller's promise is the same
        let bytes = unsafe { self.bytes() };
        (!self.data.is_null()).then(|| String::from_utf8_lossy(bytes).into_owned())
    }
}

/// A label of a measurement.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Label {
    /// Its name.
    pub key: Slice,
    /// Its value.
    pub value: Slice,
}

/// The runtime, as a function sees it; valid for the life of the process. Its functions may be called from any thread.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Host {
    /// Of this structure, in bytes.
    pub size: usize,
    /// To be handed to the functions below.
    pub handle: *mut c_void,
    /// Takes a line of the log: event's id, level from 1 (error) to 5 (trace), text.
    pub log: unsafe extern "C" fn(handle: *mut c_void, event_id: Slice, level: u32, text: Slice),
    /// Takes a measurement: 1 count, 2 gauge, 3 observe; the metric's name, the number, `count` labels.
    pub measure: unsafe extern "C" fn(
        handle: *mut c_void,
        measure: u32,
        name: Slice,
        value: f64,
        labels: *const Label,
        count: usize,
    ),
    /// The function's label in the configuration.
    pub function_name: Slice,
    /// Host of the backend that the input comes from, or absent.
    pub host: Slice,
    /// What is watched, or absent.
    pub input_key: Slice,
    /// Where results go, or absent.
    pub output_key: Slice,
    /// When the library's file was last modified, in nanoseconds since 1970.
    pub function_mtime: i64,
    /// Port of that backend, 0 where it is unknown.
    pub port: u32,
}

/// One event of a call. Events stand `event_size` of the [`Call`] apart.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Event {
    /// Its name in logs.
    pub id: Slice,
    /// The event as its source had it: JSON, but it may be malformed.
    pub payload: Slice,
    /// How often the function was called with it, this call included.
    pub attempt: u32,
}

/// What became of one event. Outcomes stand `outcome_size` of the [`Call`] apart and begin as zeros.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Outcome {
    /// [`EMPTY`], [`OUTPUT`], [`FAILED`] or [`UNUSABLE`].
    pub status: u32,
    /// The result, or a line of text. The library's until `release`.
    pub value: Slice,
    /// More of a failure, in several lines, or absent. The library's until `release`.
    pub report: Slice,
}

impl Outcome {
    /// What the runtime fills outcomes with.
    pub const UNSET: Self = Self { status: UNSET, value: Slice::NONE, report: Slice::NONE };
}

/// A batch.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// Of this structure, in bytes.
    pub size: usize,
    /// How many events, and how many outcomes.
    pub count: usize,
    /// The first [`Event`].
    pub events: *const u8,
    /// From one event to the next, in bytes.
    pub event_size: usize,
    /// The first [`Outcome`].
    pub outcomes: *mut u8,
    /// From one outcome to the next, in bytes.
    pub outcome_size: usize,
    /// How long each event may take, in nanoseconds, or [`NO_LIMIT`].
    pub remaining: i64,
}

/// An entry of a state. Entries stand `entry_size` of the [`Load`] apart.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Entry {
    /// Its name, a text.
    pub key: Slice,
    /// Its value, as JSON text.
    pub value: Slice,
}

/// Takes an instance's state, entry by entry; valid during `save`. Since minor 2.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Save {
    /// Of this structure, in bytes.
    pub size: usize,
    /// To be handed to the functions below.
    pub handle: *mut c_void,
    /// Takes an entry: a name that comes once, and JSON text. Both are copied before it returns.
    pub put: unsafe extern "C" fn(handle: *mut c_void, key: Slice, value: Slice),
    /// Notes what cannot be saved, and why. Both texts are copied before it returns.
    pub lose: unsafe extern "C" fn(handle: *mut c_void, name: Slice, reason: Slice),
}

/// A state for an instance to go on with; the runtime's, valid during `load`. Since minor 2.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Load {
    /// Of this structure, in bytes.
    pub size: usize,
    /// How many entries.
    pub count: usize,
    /// The first [`Entry`].
    pub entries: *const u8,
    /// From one entry to the next, in bytes.
    pub entry_size: usize,
    /// To be handed to the function below.
    pub handle: *mut c_void,
    /// Says that the state is not taken, and why. The text is copied before it returns.
    pub refuse: unsafe extern "C" fn(handle: *mut c_void, reason: Slice),
}

/// An exported function. One instance is never called twice at the same time, and always from the same thread.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Function {
    /// What a configuration calls it.
    pub name: Slice,
    /// Makes an instance: whatever the function keeps between calls. May be absent; may answer null.
    pub open: Option<unsafe extern "C" fn(host: *const Host) -> *mut c_void>,
    /// Fills in one outcome for each event, in order.
    pub call: Option<unsafe extern "C" fn(instance: *mut c_void, call: *const Call)>,
    /// Frees what the outcomes of the last call hold. Called once after each call; may be absent.
    pub release: Option<unsafe extern "C" fn(instance: *mut c_void, call: *const Call)>,
    /// Ends an instance. Called once, while draining; may be absent. Since minor 1.
    pub close: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// Tells the state of an instance, which goes on afterwards. Between two calls; may be absent. Since minor 2.
    pub save: Option<unsafe extern "C" fn(instance: *mut c_void, save: *const Save)>,
    /// Replaces the state of an instance, but for what `save` could not tell; one that refuses keeps what it has.
    /// Between two calls; may be absent. Since minor 2.
    pub load: Option<unsafe extern "C" fn(instance: *mut c_void, load: *const Load)>,
}

/// What a [`Function`] of minor 0 has.
pub const FUNCTION_LEAST: usize = std::mem::offset_of!(Function, close);

// SAFETY: it is made of statics and function pointers, and nobody writes to it
unsafe impl Sync for Function {}

impl Function {
    /// Without a name and without entry points.
    pub const NONE: Self =
        Self { name: Slice::NONE, open: None, call: None, release: None, close: None, save: None, load: None };

    /// The shims of a handler.
    #[must_use]
    pub const fn of<H: Handler>(name: &'static str) -> Self {
        Self {
            name: Slice::of(name.as_bytes()),
            open: Some(shim::open),
            call: Some(shim::call::<H>),
            release: Some(shim::release),
            close: Some(shim::close),
            save: Some(shim::save),
            load: Some(shim::load),
        }
    }
}

/// The descriptor, exported as [`SYMBOL`].
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Library {
    /// Of this structure, in bytes.
    pub size: usize,
    /// [`MAJOR`] of the library.
    pub abi_major: u32,
    /// [`MINOR`] of the library.
    pub abi_minor: u32,
    /// [`PANIC_UNWIND`] and its like.
    pub panic: u32,
    /// [`SDK_VERSION`], for messages.
    pub sdk_version: Slice,
    /// The first [`Function`].
    pub functions: *const u8,
    /// How many.
    pub function_count: usize,
    /// From one function to the next, in bytes.
    pub function_size: usize,
}

// SAFETY: it is made of statics, and nobody writes to it
unsafe impl Sync for Library {}

impl Library {
    /// The descriptor of a library that is compiled with this crate.
    #[must_use]
    pub const fn new(functions: &'static [Function], panic: u32) -> Self {
        Self {
            size: size_of::<Self>(),
            abi_major: MAJOR,
            abi_minor: MINOR,
            panic,
            sdk_version: Slice::of(SDK_VERSION.as_bytes()),
            functions: functions.as_ptr().cast(),
            function_count: functions.len(),
            function_size: size_of::<Function>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_says_what_it_is_built_for() {
        let note = Note::new(PANIC_UNWIND);
        assert_eq!((note.owner_size, note.kind, note.content_size as usize), (8, 1, size_of::<Facet>()));
        assert_eq!(note.content.sdk_version.as_str(), SDK_VERSION);
        assert!(note.content.target.as_str().starts_with(std::env::consts::ARCH), "{note:?}");
        assert_eq!(std::mem::offset_of!(Note, content), 20, "nothing between owner and content");
        assert_eq!(Text::<4>::new(&["ab", "cd"]).as_str(), "abc");
        assert_eq!(Text(*b"\xffa\0b").as_str(), "");
    }
}
