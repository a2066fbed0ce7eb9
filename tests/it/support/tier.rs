//! How much is run: each change runs the short tier, `GAUGEFN_TIER=soak` the whole.

/// Whether this is the long run.
pub(crate) fn soak() -> bool {
    std::env::var("GAUGEFN_TIER").is_ok_and(|tier| tier == "soak")
}

/// Whether this is the second run, in which functions live inside gaugefn's own process.
pub(crate) fn inline() -> bool {
    std::env::var("GAUGEFN_TEST_ISOLATION").is_ok_and(|mode| mode == "inline")
}

/// `full` in the long run, `ci` otherwise.
pub(crate) fn scale(full: usize, ci: usize) -> usize {
    if soak() { full } else { ci }
}
