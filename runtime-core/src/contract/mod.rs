//! The contract between the engine and its components. It knows neither of them.
//!
//! ```text
//!   Loader ── Module ──> Executor ── prepare ──> Function
//!                                                   │
//!   Source ── next_batch ──> Batch ──> invoke ──> Outcome… ──> Commit ──> Sinks, StateStore, Receipt
//! ```
//!
//! * [`batch`] - what travels: [`Event`], [`Batch`], [`Receipt`]
//! * [`source`] - where events come from: [`Source`], [`Pull`]
//! * [`loader`] - where code comes from: [`Loader`], [`Module`]
//! * [`entry_file`] - what a file looks like before it is loaded: [`EntryFile`]
//! * [`function`] - code that can be called: [`Executor`], [`Function`], [`Outcome`]
//! * [`state`] - what is kept between calls: [`StateStore`]
//! * [`sink`] - where results go: [`Sink`], [`Output`], [`Route`]
//! * [`commit`] - what belongs together: [`Commit`], [`Domain`], [`Transaction`]
//! * [`lease`] - one process of several: [`Lease`]
//! * [`letters`] - events that failed for good: [`DeadLetters`]
//! * [`fault`] - what went wrong and whose fault it is: [`Fault`]

pub mod batch;
pub mod commit;
pub mod entry_file;
pub mod fault;
pub mod function;
pub mod lease;
pub mod letters;
pub mod loader;
pub mod sink;
pub mod source;
pub mod state;

pub use batch::{Batch, Event, Original, Payload, Receipt, Settle, Verdict};
pub use commit::{Commit, Decision, Domain, Prepared, Transaction};
pub use entry_file::{EntryFile, Fit};
pub use fault::{Blame, Fault};
pub use function::{Brief, Call, Executor, Facts, Function, Health, Legacy, Observer, Outcome, Pipeline, Returned};
pub use lease::{Lease, Tenure};
pub use letters::{DeadLetters, Filed, Letter};
pub use loader::{Loader, Module, Names, Places, Revision};
pub use sink::{Address, Output, Route, Sink, one_by_one};
pub use source::{Delivery, Pull, Source};
pub use state::{Env, Found, Saved, StateKey, StateStore, Versioned};
