//! State as text: every kind of value that `context.env` may hold, in a versioned, readable format.
//!
//! ```text
//!   objects ── Writer ──> text ── read(…, Build) ──> objects        executors: no tree in between
//!   Value   ── to_text ─> text ── from_text ───────> Value          everybody else
//!
//!   Document{function, version, env: [(text, text)]} <──> a file    the store `file`, `invoke --state`
//! ```
//!
//! A text is JSON. What JSON has is written as itself: `null`, booleans, integers of 64 bits, finite floats, lists,
//! dicts with text as keys. Everything else is an object with one key, a tag that begins with `$`:
//! `{"$tuple":[1,2]}`. A dict with a key that begins with `$` is written as `{"$dict":[[key,value],…]}`, so that no
//! value looks like another. `docs/state.md` lists the tags.
//!
//! * [`Value`] and its parts - what a text can say
//! * [`Writer`] - one pass from anything to a text
//! * [`read`] and [`Build`] - one pass from a text to anything
//! * [`Document`] - a whole state as a file, with a version and a checksum
//! * [`Error`] - what is wrong, where, and what to do

mod build;
mod document;
mod error;
mod read;
mod scan;
mod time;
mod value;
mod write;

pub use build::{Build, Ignore};
pub use document::Document;
pub use error::{Error, Reason};
pub use read::read;
pub use time::{Date, DateTime, Time, Zone};
pub use value::{Atom, Content, Dtype, Field, Float, Mapping, Order, Sequence, Value};
pub use write::{Writer, is_plain_key};

/// The format that is written. Readers refuse a greater one and read all up to it.
pub const FORMAT: u32 = 1;

/// How deeply containers may lie in each other. Python's own recursion ends at 1,000, less what the function uses; a
/// state that is meant ends far below 200, and a container that contains itself is noticed by it.
pub const DEPTH: usize = 200;
