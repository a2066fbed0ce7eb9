//! The engine: one straight line per function, one loop, one place that stops it.
//!
//! ```text
//!  assemble ── Parts ──> run:   pull ──mpsc(1)──> process: call, commit
//!                                 ^                                │
//!                                 └──── permit (1, 3 or 4) <───────┘
//! ```
//!
//! The way of a batch, file by file:
//!
//! * [`mod@assemble`] - builds the chosen components and loads the function
//! * [`mod@run`] - opens them, then both halves of a run: `pull` and `process`; [`End`] is how it ends
//! * `pull` - takes a permit, asks the source, brings failed events back when they are due
//! * `in_flight` - a batch on its way, and an event that waits for its next attempt
//! * `process` - calls the function with what was pulled, and has it committed; `calls` makes a function one that answers
//!   later, `states` are what a store keeps
//! * `policy` - what becomes of an event by its outcome; `outcome` sorts them, `judge` finds results that can go nowhere
//! * `commit` - writes results, dead letters and states, and tells the source; `bond` says whether in one transaction
//!
//! Beside it:
//!
//! * `tenure` - waits for a lease and keeps it
//! * `reload` - new code takes over from old code; `look` notices it
//! * [`backoff`] - waits between tries, and what is said of them
//! * [`board`] - what the admin endpoints can see; `meters` - the engine's own metrics
//! * [`mod@stop`] - the wish to stop

pub mod assemble;
pub mod backoff;
pub mod board;
mod bond;
mod calls;
mod commit;
mod end;
mod in_flight;
mod judge;
mod look;
mod meters;
mod outcome;
mod policy;
mod process;
mod pull;
mod reload;
pub mod run;
mod states;
pub mod stop;
mod tenure;

pub use assemble::{Parts, assemble};
pub use board::Board;
pub use bond::Bond;
pub use end::End;
pub use reload::Reload;
pub use run::run;
pub use stop::{Stop, Stopper, stop};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
