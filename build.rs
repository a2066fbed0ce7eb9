//! Lets the binary and the integration tests find the libpython they were linked with.

// the only ways for a build script to hear cargo, and to speak to it
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        return;
    }
    // link arguments do not propagate from the crate `executors`, which has the same line
    pyo3_build_config::add_libpython_rpath_link_args();
    // for the tests, which make a venv of the same interpreter
    let python = pyo3_build_config::get().executable().expect("pyo3 was configured with an interpreter to run");
    println!("cargo:rustc-env=GAUGEFN_PYTHON={python}");
}
