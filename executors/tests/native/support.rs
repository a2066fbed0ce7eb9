//! Of the harness of the integration tests, what builds libraries.

// one harness, several binaries: each uses its part
#![allow(dead_code)]

#[path = "../../../tests/it/support/cargo.rs"]
pub(crate) mod cargo;
#[path = "../../../tests/it/support/libraries.rs"]
pub(crate) mod libraries;
#[path = "../../../tests/it/support/tier.rs"]
pub(crate) mod tier;

use std::path::{Path, PathBuf};

/// A path below the project's root.
pub(crate) fn project(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}
