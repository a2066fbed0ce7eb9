//! The codec with a real interpreter. What is compared stands in `tests.py`, function by function.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use state_codec::Document;

use super::super::interpreter;
use super::*;

/// Starts this interpreter and calls a function of `tests.py` with the codec.
fn check(executable: &Path, name: &str) {
    interpreter::start(executable).unwrap();
    Python::attach(|py| {
        let code = pyo3::ffi::c_str!(include_str!("tests.py"));
        let module = PyModule::from_code(py, code, c"tests.py", c"tests").unwrap();
        module.add_function(wrap_pyfunction!(kept, &module).unwrap()).unwrap();
        let carry = wrap_pyfunction!(carry, py).unwrap();
        let load = wrap_pyfunction!(load, py).unwrap();
        if let Err(error) = module.getattr(name).unwrap().call1((carry, load)) {
            let trace = error.traceback(py).map(|trace| trace.format().unwrap()).unwrap_or_default();
            panic!("{trace}{error}");
        }
    });
}

fn plain(name: &str) {
    check(Path::new(env!("GAUGEFN_PYTHON")), name);
}

/// With numpy, in the virtual environment of all tests.
fn with_numpy(name: &str) {
    let executable = std::env::current_exe().unwrap();
    let target = executable.ancestors().nth(3).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/venv.py");
    let venv = target.join("test-venv");
    let made =
        Command::new(env!("GAUGEFN_PYTHON")).args(["-I", "-S"]).arg(script).arg(&venv).stdin(Stdio::null()).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    check(&venv.join("bin/python"), name);
}

type Texts = Vec<(Vec<u8>, Vec<u8>)>;

/// The env that comes back, what was lost, and the texts in between.
#[pyfunction]
fn carry<'py>(env: &Bound<'py, PyAny>) -> PyResult<(Py<PyAny>, Vec<String>, Texts)> {
    let encoded = encode(env.py(), env);
    let (lost, env) = (encoded.words().map(str::to_owned).collect(), encoded.env);
    // whatever is encoded can be a file
    let document = Document { env: env.0, ..Document::default() };
    let text = document.to_text().unwrap();
    assert_eq!(Document::from_text(text.as_bytes()).unwrap(), document);
    let env = Env(document.env);
    let back = Python::attach(|py| decode(py, &env))?;
    Ok((back, lost, env.0.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()))
}

/// The env of texts.
#[pyfunction]
fn load(py: Python<'_>, texts: Vec<(String, String)>) -> PyResult<Py<PyAny>> {
    let bytes = |(key, value)| (Bytes::from_owner::<String>(key), Bytes::from_owner::<String>(value));
    decode(py, &Env(texts.into_iter().map(bytes).collect()))
}

/// The entries of the file with which the codec's own tests keep format 1.
#[pyfunction]
fn kept() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stores/codec/tests/data/format-1.json");
    let document = Document::from_text(&std::fs::read(path).unwrap()).unwrap();
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    document.env.into_iter().map(|(key, value)| (text(key), text(value))).collect()
}

#[test]
fn a_file_of_format_1_loads_for_good() {
    with_numpy("kept_file");
}

#[test]
fn every_type_comes_back() {
    plain("every_type");
}

#[test]
fn texts_are_what_the_docs_say() {
    plain("texts");
}

#[test]
fn an_env_of_another_kind_comes_back() {
    plain("other_envs");
}

#[test]
fn what_cannot_be_encoded_is_named_and_the_rest_is_carried() {
    plain("lost");
}

#[test]
fn what_contains_itself_is_named() {
    plain("recursion");
}

#[test]
fn texts_that_cannot_be_read_are_refused_with_the_entry() {
    plain("refusals");
}

#[test]
fn numpy_that_is_not_there_is_named() {
    plain("no_numpy");
}

#[test]
fn encoding_imports_nothing() {
    plain("no_imports");
}

#[test]
fn random_values_come_back() {
    plain("random_values");
}

#[test]
fn random_values_of_numpy_come_back() {
    with_numpy("random_numpy");
}

#[test]
fn every_type_of_numpy_comes_back() {
    with_numpy("every_numpy");
}

#[test]
fn what_numpy_and_pandas_have_beside_is_named() {
    with_numpy("lost_numpy");
}
