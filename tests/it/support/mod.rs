//! The harness: real servers and the real binary, each on a loopback port and in a folder of its own, gone with the test.

// one binary, many files: each uses its part of the harness
#![allow(dead_code)]

pub(crate) mod admin;
pub(crate) mod bed;
pub(crate) mod cargo;
pub(crate) mod gaugefn;
pub(crate) mod libraries;
pub(crate) mod port;
pub(crate) mod python;
pub(crate) mod redis;
pub(crate) mod replica;
pub(crate) mod tier;
pub(crate) mod wait;

use std::path::{Path, PathBuf};

/// A path below the package's root.
pub(crate) fn project(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
