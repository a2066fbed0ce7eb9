//! Cargo, for tests that build something in the target folder that they share with everything else.

use std::process::{Command, Stdio};

/// What a runner tells the tests of one package about themselves begins so.
const OURS: [&str; 6] = ["CARGO_BIN_EXE_", "CARGO_MANIFEST_", "CARGO_PKG_", "LD_LIBRARY_PATH", "NEXTEST", "OUT_DIR"];

/// `cargo` as it would be called by hand: with the variables of a test, build scripts (ring's is one) and all that
/// depends on them would be built again, here, and once more by the next call without them.
#[allow(clippy::disallowed_methods, reason = "names of the runner's variables, no setting of ours")]
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OURS.iter().any(|start| name.starts_with(start))) {
            cargo.env_remove(name);
        }
    }
    cargo.env_remove("CARGO").stdin(Stdio::null());
    cargo
}
