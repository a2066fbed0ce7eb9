//! Lets what is linked here find the libpython it was linked with, and tells the code which Python that is.

// the only ways for a build script to hear cargo, and to speak to it
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        return;
    }
    // link arguments do not propagate: each package whose binary or tests reach Python has a script with this line
    pyo3_build_config::add_libpython_rpath_link_args();

    let named = pyo3_build_config::get().executable().expect("pyo3 was configured with an interpreter to run");
    let facts = "import sys; print(sys.executable, sys.version.split()[0], sys.base_prefix, sep='\\n')";
    // without LD_LIBRARY_PATH, which could give it another libpython than the one that is linked
    let output = Command::new(named).args(["-I", "-c", facts]).env_remove("LD_LIBRARY_PATH").output();
    let output = output.expect("the interpreter runs");
    let text = String::from_utf8(output.stdout).expect("the interpreter prints utf-8");
    let mut lines = text.lines();
    for name in ["GAUGEFN_PYTHON", "GAUGEFN_PYTHON_VERSION", "GAUGEFN_PYTHON_BASE"] {
        let value = lines.next().expect("the interpreter prints three lines");
        println!("cargo:rustc-env={name}={value}");
    }
}
