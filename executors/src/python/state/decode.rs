//! From text to objects, in one pass.

use std::borrow::Cow;
use std::collections::HashMap;

use pyo3::IntoPyObjectExt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDate, PyDateTime, PyDelta, PyDict, PyFloat, PyFrozenSet, PyInt, PyList,
    PySet, PyString, PyTime, PyTuple, PyTzInfo,
};
use state_codec::{Atom, Build, Content, Date, Dtype, Mapping, Order, Reason, Sequence, Time, Zone};

use super::kinds::{factory, numpy_support};

/// Keys up to this length are shared between the dicts that have them, as those of `json.loads` are.
const SHARED: usize = 64;

/// Makes Python's objects.
pub(super) struct Builder<'py> {
    py: Python<'py>,
    /// `decimal.Decimal`, once there was one.
    decimal: Option<Bound<'py, PyAny>>,
    /// numpy's types of scalars by the text of their dtype.
    scalars: HashMap<String, Bound<'py, PyAny>>,
}

impl<'py> Builder<'py> {
    pub(super) fn new(py: Python<'py>) -> Self {
        Self { py, decimal: None, scalars: HashMap::new() }
    }

    fn collections(&self, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.py.import(intern!(self.py, "collections"))?.getattr(name)
    }

    fn made(&mut self, atom: Atom<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match atom {
            Atom::None => py.None().into_bound(py),
            Atom::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
            Atom::Int(value) => value.into_bound_py_any(py)?,
            Atom::BigInt(digits) => py.get_type::<PyInt>().call1((&*digits, 16))?,
            Atom::Float(value) => PyFloat::new(py, value.0).into_any(),
            Atom::Complex(real, imaginary) => PyComplex::from_doubles(py, real.0, imaginary.0).into_any(),
            Atom::Str(text) => PyString::new(py, &text).into_any(),
            Atom::Surrogates(data) => {
                PyBytes::new(py, &data).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))?
            }
            Atom::Bytes(data) => PyBytes::new(py, &data).into_any(),
            Atom::ByteArray(data) => PyByteArray::new(py, &data).into_any(),
            Atom::Decimal(text) => self.decimal()?.call1((&*text,))?,
            Atom::Date(Date { year, month, day }) => PyDate::new(py, year.into(), month, day)?.into_any(),
            Atom::Time(time) => {
                let zone = self.info(time.zone.as_ref())?;
                let Time { hour, minute, second, micros, fold, .. } = time;
                PyTime::new_with_fold(py, hour, minute, second, micros, zone.as_ref(), fold)?.into_any()
            }
            Atom::DateTime(moment) => {
                let zone = self.info(moment.time.zone.as_ref())?;
                let (Date { year, month, day }, Time { hour, minute, second, micros, fold, .. }) =
                    (moment.date, moment.time);
                let zone = zone.as_ref();
                PyDateTime::new_with_fold(py, year.into(), month, day, hour, minute, second, micros, zone, fold)?
                    .into_any()
            }
            Atom::TimeDelta { days, seconds, micros } => self.delta(days, seconds.into(), micros.into())?.into_any(),
            Atom::Zone(zone) => self.zone(&zone)?,
        })
    }

    fn decimal(&mut self) -> PyResult<&Bound<'py, PyAny>> {
        if self.decimal.is_none() {
            self.decimal = Some(self.py.import("decimal")?.getattr("Decimal")?);
        }
        Ok(self.decimal.as_ref().expect("it was just looked up"))
    }

    fn delta(&self, days: i32, seconds: i64, micros: i64) -> PyResult<Bound<'py, PyDelta>> {
        // both are below a day
        let (seconds, micros) = (i32::try_from(seconds)?, i32::try_from(micros)?);
        PyDelta::new(self.py, days, seconds, micros, true)
    }

    fn info(&self, zone: Option<&Zone>) -> PyResult<Option<Bound<'py, PyTzInfo>>> {
        let info = zone.map(|zone| self.zone(zone)).transpose()?;
        Ok(info.map(|info| info.cast_into()).transpose()?)
    }

    fn zone(&self, zone: &Zone) -> PyResult<Bound<'py, PyAny>> {
        match zone {
            Zone::Offset { micros: 0, name: None } => Ok(PyTzInfo::utc(self.py)?.to_owned().into_any()),
            Zone::Offset { micros, name } => {
                let delta = self.delta(0, micros / 1_000_000, micros % 1_000_000)?;
                let timezone = self.py.import(intern!(self.py, "datetime"))?.getattr("timezone")?;
                match name {
                    Some(name) => timezone.call1((delta, name)),
                    None => timezone.call1((delta,)),
                }
            }
            Zone::Key(key) => self.py.import(intern!(self.py, "zoneinfo"))?.getattr("ZoneInfo")?.call1((key,)),
        }
    }

    fn gathered(&mut self, kind: Sequence, items: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let (py, count) = (self.py, items.len());
        let made = match kind {
            Sequence::List => return Ok(PyList::new(py, items)?.into_any()),
            Sequence::Tuple => return Ok(PyTuple::new(py, items)?.into_any()),
            Sequence::Deque { maxlen } => return self.collections("deque")?.call1((PyList::new(py, items)?, maxlen)),
            Sequence::Set => PySet::new(py, items)?.into_any(),
            Sequence::FrozenSet => PyFrozenSet::new(py, items)?.into_any(),
        };
        once(made, count)
    }

    fn mapped(
        &mut self,
        kind: Mapping,
        pairs: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, count) = (self.py, pairs.len());
        let made = match kind {
            Mapping::Dict => {
                let dict = PyDict::new(py);
                for (key, value) in pairs {
                    dict.set_item(key, value)?;
                }
                return once(dict.into_any(), count);
            }
            Mapping::Ordered => self.collections("OrderedDict")?.call0()?,
            Mapping::Counter => self.collections("Counter")?.call0()?,
            Mapping::Default { factory: None } => self.collections("defaultdict")?.call0()?,
            Mapping::Default { factory: Some(name) } => match factory(py, &name)? {
                Some(kind) => self.collections("defaultdict")?.call1((kind,))?,
                None => return Err(refused(format!("'{name}' is no built-in type that a defaultdict could call"))),
            },
        };
        for (key, value) in pairs {
            // not as a dict, whose face would go past the order of an OrderedDict
            made.set_item(key, value)?;
        }
        once(made, count)
    }

    fn support(&self) -> PyResult<Bound<'py, PyModule>> {
        numpy_support(self.py).map_err(|error| {
            refused(format!(
                "a value of numpy needs numpy, which cannot be imported ({error}); install it beside the function, or \
                 delete this entry"
            ))
        })
    }

    fn numpy_scalar(&mut self, dtype: &Dtype, content: Content<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let value = match content {
            Content::Value(value) => value,
            Content::Data(data) => {
                let (support, dtype) = (self.support()?, self.dtype(dtype)?);
                return support.call_method1("scalar_of_memory", (dtype, PyBytes::new(self.py, &data)));
            }
        };
        let Dtype::Plain(name) = dtype else {
            return Err(refused("a structure is written by its 'data'".to_owned()));
        };
        if let Some(kind) = self.scalars.get(name) {
            return kind.call1((value,));
        }
        let kind = self.support()?.call_method1("scalar_type", (name,))?;
        let made = kind.call1((value,));
        self.scalars.insert(name.clone(), kind);
        made
    }

    fn numpy_array(
        &mut self,
        dtype: &Dtype,
        shape: Vec<u64>,
        order: Order,
        data: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let (support, dtype) = (self.support()?, self.dtype(dtype)?);
        let order = if order == Order::C { "C" } else { "F" };
        support.call_method1("array_of", (dtype, PyTuple::new(self.py, shape)?, order, PyBytes::new(self.py, data)))
    }

    /// What numpy's `descr` would be.
    fn dtype(&self, dtype: &Dtype) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let fields = match dtype {
            Dtype::Plain(text) => return Ok(PyString::new(py, text).into_any()),
            Dtype::Fields(fields) => fields,
        };
        let list = PyList::empty(py);
        for field in fields {
            let name = match &field.title {
                Some(title) => (title, &field.name).into_bound_py_any(py)?,
                None => PyString::new(py, &field.name).into_any(),
            };
            let inner = self.dtype(&field.dtype)?;
            if field.shape.is_empty() {
                list.append((name, inner))?;
            } else {
                list.append((name, inner, PyTuple::new(py, &field.shape)?))?;
            }
        }
        Ok(list.into_any())
    }
}

/// Equal keys and items would have become one without a word.
fn once(made: Bound<'_, PyAny>, count: usize) -> PyResult<Bound<'_, PyAny>> {
    if made.len()? == count {
        Ok(made)
    } else {
        Err(refused("something is in it twice; keep one of the two".to_owned()))
    }
}

fn refused(text: String) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(text)
}

impl<'py> Build for Builder<'py> {
    type Out = Bound<'py, PyAny>;

    fn atom(&mut self, atom: Atom<'_>) -> Result<Self::Out, Reason> {
        self.made(atom).map_err(reason)
    }

    fn key(&mut self, text: Cow<'_, str>) -> Result<Self::Out, Reason> {
        let shared = text.len() <= SHARED;
        Ok(if shared { PyString::intern(self.py, &text) } else { PyString::new(self.py, &text) }.into_any())
    }

    fn sequence(&mut self, kind: Sequence, items: Vec<Self::Out>) -> Result<Self::Out, Reason> {
        self.gathered(kind, items).map_err(reason)
    }

    fn mapping(&mut self, kind: Mapping, pairs: Vec<(Self::Out, Self::Out)>) -> Result<Self::Out, Reason> {
        self.mapped(kind, pairs).map_err(reason)
    }

    fn scalar(&mut self, dtype: Dtype, content: Content<Self::Out>) -> Result<Self::Out, Reason> {
        self.numpy_scalar(&dtype, content).map_err(reason)
    }

    fn array(&mut self, dtype: Dtype, shape: Vec<u64>, order: Order, data: Vec<u8>) -> Result<Self::Out, Reason> {
        self.numpy_array(&dtype, shape, order, &data).map_err(reason)
    }
}

fn reason(error: PyErr) -> Reason {
    Python::attach(|py| Reason::Unfit(error.value(py).to_string()))
}
