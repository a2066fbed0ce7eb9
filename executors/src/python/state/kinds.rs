//! Types that have no face in PyO3.

use std::ffi::CStr;

use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};
use state_codec::Dtype;

/// Types without a face in PyO3, always there.
pub(super) struct Types {
    pub(super) deque: Py<PyType>,
    pub(super) ordered: Py<PyType>,
    pub(super) counter: Py<PyType>,
    pub(super) default: Py<PyType>,
    pub(super) timezone: Py<PyType>,
    pub(super) list: Py<PyType>,
}

impl Types {
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        static TYPES: PyOnceLock<Types> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || {
            let collections = py.import("collections")?;
            let of = |module: &Bound<'_, PyModule>, name: &str| -> PyResult<Py<PyType>> {
                Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Self {
                deque: of(&collections, "deque")?,
                ordered: of(&collections, "OrderedDict")?,
                counter: of(&collections, "Counter")?,
                default: of(&collections, "defaultdict")?,
                timezone: of(&py.import("datetime")?, "timezone")?,
                list: py.get_type::<PyList>().unbind(),
            })
        })
    }
}

/// What makes the missing values of a defaultdict: names of types that are always there, with their modules.
pub(super) const FACTORIES: &[(&str, &[&str])] = &[
    (
        "builtins",
        &["int", "float", "complex", "bool", "str", "bytes", "bytearray", "list", "tuple", "dict", "set", "frozenset"],
    ),
    ("collections", &["deque", "OrderedDict", "Counter", "defaultdict"]),
];

/// The type that makes missing values, by its name.
pub(super) fn factory<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    match FACTORIES.iter().find(|(_, names)| names.contains(&name)) {
        Some((module, _)) => py.import(*module)?.getattr(name).map(Some),
        None => Ok(None),
    }
}

/// The Python beside this file, which imports numpy.
pub(super) fn numpy_support(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    const NAME: &CStr = c"_gaugefn_arrays";
    match py.import("sys")?.getattr("modules")?.get_item(NAME.to_string_lossy()) {
        Ok(module) => Ok(module.cast_into()?),
        Err(_) => PyModule::from_code(py, c_str!(include_str!("arrays.py")), c"<gaugefn>/arrays.py", NAME),
    }
}

/// Types of modules that the function may have imported. One that was not imported has no instances.
pub(super) struct Imported<'py> {
    pub(super) decimal: Option<Bound<'py, PyAny>>,
    pub(super) zone_info: Option<Bound<'py, PyAny>>,
    pub(super) numpy: Option<Numpy<'py>>,
}

pub(super) struct Numpy<'py> {
    pub(super) generic: Bound<'py, PyAny>,
    pub(super) array: Bound<'py, PyAny>,
    pub(super) float64: Bound<'py, PyAny>,
    /// Its dtype on this machine.
    pub(super) double: Dtype,
    pub(super) support: Bound<'py, PyModule>,
}

impl<'py> Imported<'py> {
    pub(super) fn look(py: Python<'py>) -> Self {
        let modules = py.import("sys").and_then(|sys| sys.getattr("modules"));
        let find = |module: &str, name: &str| {
            let module = modules.as_ref().ok()?.get_item(module).ok()?;
            module.getattr(name).ok().filter(|kind| kind.is_instance_of::<PyType>())
        };
        let numpy = || {
            let (generic, array) = (find("numpy", "generic")?, find("numpy", "ndarray")?);
            let double = Dtype::Plain(if cfg!(target_endian = "big") { ">f8" } else { "<f8" }.to_owned());
            Some(Numpy { generic, array, float64: find("numpy", "float64")?, double, support: numpy_support(py).ok()? })
        };
        Self { decimal: find("decimal", "Decimal"), zone_info: find("zoneinfo", "ZoneInfo"), numpy: numpy() }
    }
}
