//! The link to Redis that sources, sinks and stores share.
//!
//! ```text
//! [redis] table ── Settings ── resolve ──> Target ──> Link   one connection, replaced when it breaks
//!                  (no contact)              |  '───> Watch  notifications of one key
//!                                            |
//!                      LinkError <───────────'        what is wrong, in which class, and what to do
//! ```
//!
//! - [`settings`]: the table of the config file, as typed
//! - [`target`]: one server and database, as used: address, credentials, certificate authority
//! - [`link`]: the shared connection; it never waits and never tries again by itself, the engine above does
//! - [`watch`]: keyspace notifications of one key
//! - [`fault`]: every way in which this goes wrong
//!
//! Nothing here changes the server's configuration, and connecting needs no permission beyond `AUTH` (and
//! `SELECT` for a database other than 0).

mod address;
pub mod fault;
pub mod link;
pub mod settings;
pub mod target;
pub mod watch;

pub use address::mask_url;
pub use fault::{LinkError, Trouble};
pub use link::Link;
pub use settings::Settings;
pub use target::Target;
pub use watch::Watch;
