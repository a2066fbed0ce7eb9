//! Functions for gaugefn, written in Rust.
//!
//! A function is a handler that is called with each event and a [`Context`]; a library of the crate type `cdylib`
//! exports one or several by name, and the handler's name in the configuration chooses.
//!
//! ```
//! use gaugefn_sdk::Context;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Metrics {
//!     n_pids: u64,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Seen {
//!     most: u64,
//! }
//!
//! #[derive(Serialize)]
//! struct Peak {
//!     most_pids: u64,
//! }
//!
//! fn handler(metrics: Metrics, context: &mut Context) -> Result<Option<Peak>, String> {
//!     let seen = context.state::<Seen>();
//!     if metrics.n_pids <= seen.most {
//!         return Ok(None); // nothing to store
//!     }
//!     seen.most = metrics.n_pids;
//!     Ok(Some(Peak { most_pids: metrics.n_pids }))
//! }
//!
//! gaugefn_sdk::export! { handler = handler }
//!
//! // and without a library or a runtime:
//! let mut context = Context::for_tests();
//! assert!(handler(Metrics { n_pids: 7 }, &mut context).unwrap().is_some());
//! assert!(handler(Metrics { n_pids: 7 }, &mut context).unwrap().is_none());
//! ```
//!
//! * [`context`] - what a handler is given beside its event
//! * [`export`](mod@export) - what may be exported, and the macro [`export!`]
//! * [`abi`] - the border between library and runtime, as `include/gaugefn.h` has it for C

#![warn(missing_docs)]

pub mod abi;
pub mod context;
pub mod export;
mod panics;
mod shim;
mod states;

pub use context::{Context, Facts, Level, Saved};
