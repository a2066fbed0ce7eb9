//! Worker processes: a function in a process of its own, which may crash, hang, or be killed.
//!
//! ```text
//!   parent                                           child (`gaugefn worker`)
//!   spawn ── exec ─────────────────────────────────> Inherited::take
//!   protocol::Incoming/Outgoing <── socket ────────> protocol::BlockingReader/Writer
//!   shared::Area <── memory: progress, outcomes ──── shared::Writer
//!   output::Output <── pipes ─────────────────────── descriptors 1 and 2
//!   records::Records <── pipe ────────────────────── records::Sender
//!   dump::ask ── signal ───────────────────────────> faulthandler ── pipe ──> dump
//!   spawn::Lifeline ── pipe, closed by its end ────> guardian::Guardian kills the group
//!   series::answer <── socket ─────────────────────> series::ask
//!   exit::Watch, reap::kill_tree, memory::resident
//! ```
//!
//! * [`protocol`] - what is said over the socket
//! * [`shared`] - what is known of a batch when nothing is said any more
//! * [`spawn`] - how a worker starts, and what it is given
//! * [`exit`] - how it ended
//! * [`reap`] - nothing of it is left
//! * [`guardian`] - nor when the parent is gone
//! * [`dump`] - where it is stuck
//! * [`output`], [`records`] - what it prints and logs
//! * `series` - which metrics it may have
//! * [`memory`] - what it weighs
//! * [`host`] - the parent's side: an executor, slots for workers, limits
//! * [`guest`] - the child's side: one frame after the other
//! * [`clock`] - what time it is on both sides

pub mod clock;
pub mod dump;
pub mod exit;
pub mod guardian;
pub mod guest;
pub mod host;
pub mod memory;
pub mod output;
pub mod protocol;
pub mod reap;
pub mod records;
mod series;
pub mod shared;
pub mod spawn;
