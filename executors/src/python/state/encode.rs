//! From objects to text, in one pass.

use std::collections::HashMap;
use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyDict, PyFloat,
    PyFrozenSet, PyInt, PyList, PySet, PyString, PyTime, PyTimeAccess, PyTuple, PyType, PyTzInfo, PyTzInfoAccess,
};
use state_codec::{
    Atom, Date, DateTime, Dtype, Field, Float, Mapping, Order, Sequence, Time, Writer, Zone, is_plain_key,
};

use super::kinds::{FACTORIES, Imported, Types, factory};
use super::lost::{Lost, called, shown, step, unfit};

/// Redis takes no greater value. A few objects that refer to each other often enough would fill the memory before.
const LARGEST: usize = 512 << 20;

/// Encodes the values of one env.
pub(super) struct Encoder<'py> {
    py: Python<'py>,
    types: Option<&'py Types>,
    /// Looked for when the first value of no other type is met.
    imported: Option<Rc<Imported<'py>>>,
    writer: Writer,
    /// The containers around the value that is being written, to tell recursion from mere depth.
    open: Vec<Bound<'py, PyAny>>,
    /// numpy's types of plain numbers with their dtype: those of the others depend on the value.
    plain_scalars: HashMap<usize, Dtype>,
}

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl<'py> Encoder<'py> {
    pub(super) fn new(py: Python<'py>) -> Self {
        let types = Types::get(py).ok();
        Self { py, types, imported: None, writer: Writer::default(), open: Vec::new(), plain_scalars: HashMap::new() }
    }

    /// The text of one value.
    pub(super) fn text(&mut self, value: &Bound<'py, PyAny>) -> Result<String, Lost> {
        self.writer = Writer::default();
        self.open.clear();
        self.value(value)?;
        Ok(std::mem::take(&mut self.writer).finish())
    }

    /// What a mapping of a kind that has a text holds; `None` for anything else.
    pub(super) fn pairs(&self, value: &Bound<'py, PyAny>) -> Option<Vec<Pair<'py>>> {
        let kind = value.get_type();
        let is = |other: &Py<PyType>| kind.is(other);
        let known = |types: &Types| is(&types.ordered) || is(&types.counter) || is(&types.default);
        if kind.is(self.py.get_type::<PyDict>()) || self.types.is_some_and(known) {
            self.items(value).ok()
        } else {
            None
        }
    }

    /// The text of such a mapping without what it holds.
    pub(super) fn empty(&mut self, value: &Bound<'py, PyAny>) -> Result<String, Lost> {
        let kind = self.mapping_kind(value)?.ok_or_else(|| Lost::new(called(value)))?;
        let mut writer = Writer::default();
        writer.begin_mapping(&kind)?;
        writer.end_mapping(&kind);
        Ok(writer.finish())
    }

    /// A copy: code of other threads may run before the last of them is written.
    fn items(&self, value: &Bound<'py, PyAny>) -> Result<Vec<Pair<'py>>, Lost> {
        if self.types.is_some_and(|types| value.get_type().is(&types.ordered)) {
            // its order is not the one of the dict below it
            return Ok(self.list(&value.call_method0(intern!(self.py, "items"))?)?.extract()?);
        }
        let dict = value.cast::<PyDict>().map_err(|_| Lost::new(called(value)))?;
        Ok(dict.iter().collect())
    }

    fn list(&self, value: &Bound<'py, PyAny>) -> Result<Bound<'py, PyList>, Lost> {
        let types = self.types.ok_or_else(|| Lost::new("python's collections cannot be imported"))?;
        let list = types.list.bind(self.py).call1((value,))?;
        list.cast_into::<PyList>().map_err(|_| Lost::new(called(value)))
    }

    fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Lost> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.string(text)
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.writer.float(number.value());
            Ok(())
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.int(number)
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.dict(dict)
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.sequence(value, Sequence::List, list.iter())
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.sequence(value, Sequence::Tuple, tuple.iter())
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.writer.bool(truth.is_true());
            Ok(())
        } else if value.is_none() {
            self.writer.none();
            Ok(())
        } else {
            self.other(value)
        }
    }

    fn string(&mut self, text: &Bound<'py, PyString>) -> Result<(), Lost> {
        match text.to_str() {
            Ok(text) => self.writer.str(text),
            Err(_) => {
                let data = text.call_method1(intern!(self.py, "encode"), ("utf-8", "surrogatepass"))?;
                let data = data.cast_into::<PyBytes>().map_err(PyErr::from)?;
                self.writer.atom(&Atom::Surrogates(data.as_bytes().into()));
            }
        }
        Ok(())
    }

    fn int(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Lost> {
        match number.extract::<i64>() {
            Ok(number) => self.writer.int(number),
            // decimal digits would cost quadratic time, and Python refuses more than 4,300 of them
            Err(_) => {
                let digits = number.call_method1(intern!(self.py, "__format__"), (intern!(self.py, "#x"),))?;
                self.writer.atom(&Atom::BigInt(digits.extract::<String>()?.into()));
            }
        }
        Ok(())
    }

    /// Remembers a container while `inner` writes what it holds.
    fn within(
        &mut self,
        container: &Bound<'py, PyAny>,
        inner: impl FnOnce(&mut Self) -> Result<(), Lost>,
    ) -> Result<(), Lost> {
        if self.writer.len() > LARGEST {
            return Err(Lost::new(format!("more than {} MiB as text", LARGEST >> 20)));
        }
        if self.open.len() == state_codec::DEPTH && self.open.iter().any(|outer| outer.is(container)) {
            return Err(Lost::new(format!("{} that contains itself", called(container))));
        }
        self.open.push(container.clone());
        inner(self)?;
        self.open.pop();
        Ok(())
    }

    fn sequence(
        &mut self,
        container: &Bound<'py, PyAny>,
        kind: Sequence,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
    ) -> Result<(), Lost> {
        self.within(container, |encoder| {
            encoder.writer.begin(kind)?;
            for (index, item) in items.enumerate() {
                encoder.writer.item();
                encoder.value(&item).map_err(|lost| lost.within(format!("[{index}]")))?;
            }
            encoder.writer.end(kind);
            Ok(())
        })
    }

    fn set(&mut self, container: &Bound<'py, PyAny>, kind: Sequence) -> Result<(), Lost> {
        let items = self.list(container)?;
        self.within(container, |encoder| {
            encoder.writer.begin(kind)?;
            let mut places = Vec::with_capacity(items.len());
            for item in items.iter() {
                places.push(encoder.writer.item());
                encoder.value(&item).map_err(|lost| lost.within("{…}"))?;
            }
            encoder.writer.sort(&places);
            encoder.writer.end(kind);
            Ok(())
        })
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>) -> Result<(), Lost> {
        let pairs: Vec<Pair<'py>> = dict.iter().collect();
        let plain =
            |(key, _): &Pair<'py>| key.cast_exact::<PyString>().is_ok_and(|text| text.to_str().is_ok_and(is_plain_key));
        if !pairs.iter().all(plain) {
            return self.mapping(dict, &Mapping::Dict, &pairs);
        }
        self.within(dict, |encoder| {
            encoder.writer.begin_plain()?;
            for (key, value) in &pairs {
                let key = key.cast_exact::<PyString>().map_err(PyErr::from)?.to_str()?;
                encoder.writer.key(key);
                encoder.value(value).map_err(|lost| lost.within(step(key)))?;
            }
            encoder.writer.end_plain();
            Ok(())
        })
    }

    fn mapping(&mut self, container: &Bound<'py, PyAny>, kind: &Mapping, pairs: &[Pair<'py>]) -> Result<(), Lost> {
        self.within(container, |encoder| {
            encoder.writer.begin_mapping(kind)?;
            for (key, value) in pairs {
                encoder.writer.pair();
                encoder.value(key).map_err(|lost| lost.within(".keys()"))?;
                encoder.writer.middle();
                encoder.value(value).map_err(|lost| lost.within(format!("[{}]", shown(key))))?;
                encoder.writer.end_pair();
            }
            encoder.writer.end_mapping(kind);
            Ok(())
        })
    }

    /// The kind of a mapping that is no plain dict.
    fn mapping_kind(&self, value: &Bound<'py, PyAny>) -> Result<Option<Mapping>, Lost> {
        let kind = value.get_type();
        let Some(types) = self.types else { return Ok(None) };
        if kind.is(&types.ordered) {
            return Ok(Some(Mapping::Ordered));
        }
        if kind.is(&types.counter) {
            return Ok(Some(Mapping::Counter));
        }
        if !kind.is(&types.default) {
            return Ok(None);
        }
        let made_by = value.getattr(intern!(self.py, "default_factory"))?;
        if made_by.is_none() {
            return Ok(Some(Mapping::Default { factory: None }));
        }
        for name in FACTORIES.iter().flat_map(|(_, names)| *names) {
            if factory(self.py, name)?.is_some_and(|known| known.is(&made_by)) {
                return Ok(Some(Mapping::Default { factory: Some((*name).into()) }));
            }
        }
        Err(Lost::new(format!("a collections.defaultdict whose factory is {} and no built-in type", called(&made_by))))
    }

    fn other(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Lost> {
        let kind = value.get_type();
        if self.types.is_some_and(|types| kind.is(&types.deque)) {
            let maxlen = value.getattr(intern!(self.py, "maxlen"))?.extract()?;
            return self.sequence(value, Sequence::Deque { maxlen }, self.list(value)?.iter());
        }
        if let Some(mapping) = self.mapping_kind(value)? {
            let pairs = self.items(value)?;
            return self.mapping(value, &mapping, &pairs);
        }
        if value.cast_exact::<PySet>().is_ok() {
            return self.set(value, Sequence::Set);
        }
        if value.cast_exact::<PyFrozenSet>().is_ok() {
            return self.set(value, Sequence::FrozenSet);
        }
        let atom = match self.atom(value)? {
            Some(atom) => atom,
            None => return self.foreign(value),
        };
        self.writer.atom(&atom);
        Ok(())
    }

    /// Values without parts of types that are always there.
    fn atom<'a>(&mut self, value: &'a Bound<'py, PyAny>) -> Result<Option<Atom<'a>>, Lost> {
        Ok(Some(if let Ok(data) = value.cast_exact::<PyBytes>() {
            Atom::Bytes(data.as_bytes().into())
        } else if let Ok(data) = value.cast_exact::<PyByteArray>() {
            Atom::ByteArray(data.to_vec().into())
        } else if let Ok(moment) = value.cast_exact::<PyDateTime>() {
            let zone = self.zone_of(value, moment.get_tzinfo())?;
            Atom::DateTime(DateTime { date: date(moment), time: time(moment, zone) })
        } else if let Ok(day) = value.cast_exact::<PyDate>() {
            Atom::Date(date(day))
        } else if let Ok(of_day) = value.cast_exact::<PyTime>() {
            let zone = self.zone_of(value, of_day.get_tzinfo())?;
            Atom::Time(time(of_day, zone))
        } else if let Ok(delta) = value.cast_exact::<PyDelta>() {
            // Python keeps both from 0 up
            let (seconds, micros) = (delta.get_seconds().unsigned_abs(), delta.get_microseconds().unsigned_abs());
            Atom::TimeDelta { days: delta.get_days(), seconds, micros }
        } else if let Ok(number) = value.cast_exact::<PyComplex>() {
            Atom::Complex(Float(number.real()), Float(number.imag()))
        } else if let Some(zone) = self.zone(value)? {
            Atom::Zone(zone)
        } else {
            return Ok(None);
        }))
    }

    fn zone_of(&mut self, value: &Bound<'py, PyAny>, info: Option<Bound<'py, PyTzInfo>>) -> Result<Option<Zone>, Lost> {
        let Some(info) = info else { return Ok(None) };
        match self.zone(&info)? {
            Some(zone) => Ok(Some(zone)),
            None => Err(Lost::new(format!("{} in a time zone that is {}", called(value), called(&info)))),
        }
    }

    /// UTC, a fixed offset, or a key of the database; `None` for anything else.
    fn zone(&mut self, value: &Bound<'py, PyAny>) -> Result<Option<Zone>, Lost> {
        if self.types.is_some_and(|types| value.get_type().is(&types.timezone)) {
            let parts = value.call_method0(intern!(self.py, "__getinitargs__"))?;
            let offset = parts.get_item(0)?.cast_into::<PyDelta>().map_err(PyErr::from)?;
            let seconds = i64::from(offset.get_days()) * 86_400 + i64::from(offset.get_seconds());
            let micros = seconds * 1_000_000 + i64::from(offset.get_microseconds());
            let name = if parts.len()? > 1 { Some(parts.get_item(1)?.extract()?) } else { None };
            return Ok(Some(Zone::Offset { micros, name }));
        }
        let imported = self.imported();
        if imported.zone_info.as_ref().is_some_and(|kind| value.get_type().is(kind)) {
            let key = value.getattr(intern!(self.py, "key"))?;
            return match key.extract::<Option<String>>()? {
                Some(key) => Ok(Some(Zone::Key(key))),
                None => Err(Lost::new("a zoneinfo.ZoneInfo without a key")),
            };
        }
        Ok(None)
    }

    fn imported(&mut self) -> Rc<Imported<'py>> {
        let py = self.py;
        self.imported.get_or_insert_with(|| Rc::new(Imported::look(py))).clone()
    }

    /// Values of types that the function has imported.
    fn foreign(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Lost> {
        let kind = value.get_type();
        let imported = self.imported();
        if imported.decimal.as_ref().is_some_and(|decimal| kind.is(decimal)) {
            self.writer.atom(&Atom::Decimal(value.str()?.to_str()?.into()));
            return Ok(());
        }
        let Some(numpy) = &imported.numpy else { return Err(Lost::new(called(value))) };
        if kind.is(&numpy.float64) {
            // the one that means and sums give: no way through Python for it
            self.writer.begin_scalar(&numpy.double);
            self.writer.float(value.extract()?);
            self.writer.end_scalar();
            return Ok(());
        }
        if kind.is(&numpy.array) {
            return self.array(value, &numpy.support);
        }
        // asked of the type: the value may have a `__class__` of its own
        if kind.is_subclass(&numpy.generic)? {
            return self.scalar(value, &numpy.support);
        }
        Err(Lost::new(called(value)))
    }

    fn scalar(&mut self, value: &Bound<'py, PyAny>, support: &Bound<'py, PyModule>) -> Result<(), Lost> {
        let kind = value.get_type().as_ptr() as usize;
        if let Some(dtype) = self.plain_scalars.get(&kind) {
            self.writer.begin_scalar(dtype);
            self.value(&value.call_method0(intern!(self.py, "item"))?)?;
            self.writer.end_scalar();
            return Ok(());
        }
        let parts = support.call_method1(intern!(self.py, "scalar_parts"), (value,));
        let parts = parts.map_err(|error| unfit(self.py, value, &error))?;
        let (dtype, plain, memory) = parts.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>, Option<Vec<u8>>)>()?;
        let dtype = dtype_parts(&dtype)?;
        if let Some(memory) = memory {
            self.writer.scalar_data(&dtype, &memory);
            return Ok(());
        }
        self.writer.begin_scalar(&dtype);
        self.value(&plain)?;
        self.writer.end_scalar();
        if !plain.is_exact_instance_of::<PyString>() && !plain.is_exact_instance_of::<PyBytes>() {
            self.plain_scalars.insert(kind, dtype);
        }
        Ok(())
    }

    fn array(&mut self, value: &Bound<'py, PyAny>, support: &Bound<'py, PyModule>) -> Result<(), Lost> {
        let parts = support.call_method1(intern!(self.py, "array_parts"), (value,));
        let parts = parts.map_err(|error| unfit(self.py, value, &error))?;
        let (dtype, shape, order, memory) =
            parts.extract::<(Bound<'_, PyAny>, Vec<u64>, String, Bound<'_, PyBytes>)>()?;
        let order = if order == "F" { Order::Fortran } else { Order::C };
        self.writer.array(&dtype_parts(&dtype)?, &shape, order, memory.as_bytes());
        Ok(())
    }
}

/// A text, or a list of `(name, dtype)`, `(name, dtype, shape)` with names that may be `(title, name)`.
fn dtype_parts(parts: &Bound<'_, PyAny>) -> PyResult<Dtype> {
    if let Ok(text) = parts.cast::<PyString>() {
        return Ok(Dtype::Plain(text.to_str()?.to_owned()));
    }
    let field = |parts: Bound<'_, PyAny>| {
        let name = parts.get_item(0)?;
        let (title, name) = match name.extract::<(String, String)>() {
            Ok((title, name)) => (Some(title), name),
            Err(_) => (None, name.extract()?),
        };
        let shape = if parts.len()? > 2 { parts.get_item(2)?.extract()? } else { Vec::new() };
        Ok(Field { title, name, dtype: dtype_parts(&parts.get_item(1)?)?, shape })
    };
    parts.try_iter()?.map(|parts| field(parts?)).collect::<PyResult<_>>().map(Dtype::Fields)
}

fn date(value: &impl PyDateAccess) -> Date {
    // Python's years end at 9999
    Date { year: u16::try_from(value.get_year()).unwrap_or(1), month: value.get_month(), day: value.get_day() }
}

fn time(value: &impl PyTimeAccess, zone: Option<Zone>) -> Time {
    Time {
        hour: value.get_hour(),
        minute: value.get_minute(),
        second: value.get_second(),
        micros: value.get_microsecond(),
        fold: value.get_fold(),
        zone,
    }
}
