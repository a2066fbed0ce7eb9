//! The engine: one straight line per function, one loop, one place that stops it.
//!
//! ```text
//!  assemble ── Parts ──> run:   pull ──mpsc(1)──> call ──mpsc(2)──> commit
//!                                 ^                                    │
//!                                 └──────── permit (1 or 3) <──────────┘
//! ```
//!
//! * [`mod@assemble`] - builds the chosen components and loads the function
//! * [`mod@run`] - the three stages of a function, and its end: `pull`, `call`, `commit`
//! * `judge` - results that can go nowhere
//! * `reload` - new code takes over from old code; `look` notices it
//! * [`backoff`] - waits between tries, and what is said of them
//! * [`board`] - what the admin endpoints can see
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
