//! Settings: layered, strict, and all mistakes at once.
//!
//! ```text
//!   file (TOML, YAML, JSON) ─┐
//!   known variables ─────────┼─ layers ──> one tree, each value with its origin ──> settings ──> components
//!   GAUGEFN__A__B ───────────┘                                                  │
//!                                                                        Vec<Problem>
//! ```
//!
//! * [`layers`] - reads file and environment, merges, keeps origins; the only place that reads the environment
//! * `file` - the text of a config file: what must not be parsed, and the tree of the rest
//! * [`os_text`] - paths of any bytes as texts of the tree
//! * [`tree`] - small helpers over the merged tree, masking of secrets
//! * [`typed`] - a strict deserialiser: text is converted only where it comes from a variable
//! * [`section`] - one table: all its problems at once, or its typed options
//! * [`settings`] - the whole configuration as it is used
//! * `reader` - from the tree to the settings
//! * `failures` - the part of it about failed events, and where they are kept
//! * [`pairing`] - a loader and an executor that go together
//! * [`claims`] - where components would get into each other's way
//! * [`schema`] - the JSON Schema of the whole, composed from the registered components
//! * [`reserved`] - names that later versions will give a meaning
//! * [`suggest`] - did you mean

pub mod claims;
mod failures;
mod file;
pub mod layers;
pub mod os_text;
pub mod pairing;
mod reader;
pub mod reserved;
pub mod schema;
pub mod section;
pub mod settings;
pub mod suggest;
pub mod tree;
pub mod typed;
mod wire;

pub use claims::{Claim, Hold, Taken};
pub use section::{Concern, Problem, Section};
pub use settings::Settings;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
