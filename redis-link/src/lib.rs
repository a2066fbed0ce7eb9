//! The link to Redis that sources, sinks and stores share.
//!
//! ```text
//! [redis] table ── Settings ── resolve ──> Target ──> Link   one connection, replaced when it breaks
//!                  (no contact)              |  |───> Watch  notifications of one key
//!                                            |  '───> Blocking  commands that wait in the server
//!                      LinkError <───────────'        what is wrong, in which class, and what to do
//! ```
//!
//! - [`settings`]: the table of the config file, as typed
//! - [`target`]: one server and database, as used: address, credentials, certificate authority
//! - [`link`]: the shared connection; it never waits, and tries again once at most, the engine above does the rest
//! - [`portion`]: how much is asked for at once, where answers may be too large
//! - [`watch`]: keyspace notifications of one key
//! - [`blocking`]: a connection for commands that wait in the server
//! - [`group`]: one consumer of a consumer group on a stream
//! - [`commit`]: results, states and acknowledgement of a batch as one transaction
//! - [`lease`]: the right to be the one process of several
//! - `size`: how much a server takes at once
//! - [`mod@slot`]: where a Cluster keeps a key
//! - [`mod@oddity`]: what is seldom meant in a value that somebody copied
//! - [`fault`]: every way in which this goes wrong
//!
//! Nothing here changes the server's configuration, and connecting needs no permission beyond `AUTH` (and
//! `SELECT` for a database other than 0).

mod address;
pub mod blocking;
pub mod commit;
pub mod fault;
mod files;
pub mod group;
pub mod lease;
pub mod link;
pub mod oddity;
pub mod portion;
pub mod settings;
mod size;
pub mod slot;
pub mod target;
pub mod watch;

pub use address::mask_url;
pub use blocking::Blocking;
pub use fault::{LinkError, Trouble};
pub use group::{Member, incarnation};
pub use lease::Lease;
pub use link::Link;
pub use oddity::oddity;
pub use portion::Portion;
pub use settings::Settings;
pub use slot::slot;
pub use target::Target;
pub use watch::Watch;
