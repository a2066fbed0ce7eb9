//! What is kept between calls: the context, and one env for each key where the state has keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use runtime_core::contract::{Env, Event, StateKey};
use runtime_core::pointer::Pointer;

use super::ages::Ages;
use super::state;
use crate::kept::Mark;

/// The key of a call's env.
pub(super) enum Key<'a> {
    /// It stands in the event.
    OfEvent,
    /// Somebody has found it already.
    Known(&'a StateKey),
}

/// Lives as long as the function, whatever version of it runs.
pub(super) struct Memory {
    /// The one object that every call gets.
    pub(super) context: Py<PyAny>,
    /// Each key's env, where the state has keys.
    envs: Option<Envs>,
    /// Where a state that is not used is to go.
    ages: Option<Arc<Ages>>,
}

struct Envs {
    /// Where in an event the key stands.
    pointer: Pointer,
    /// By the JSON text of the key, `None` for events without.
    all: Py<PyDict>,
}

impl Memory {
    /// An empty one; `key` is a JSON pointer, and `ttl` for how long a state stays that is not used.
    pub(super) fn new(py: Python<'_>, context: Py<PyAny>, key: Option<&str>, ttl: Option<Duration>) -> Self {
        let envs = key.map(|key| Envs { pointer: Pointer::new(key), all: PyDict::new(py).unbind() });
        Self { context, envs, ages: ttl.map(|ttl| Arc::new(Ages::new(ttl))) }
    }

    /// The same with this context and the envs of an older one.
    pub(super) fn with(&self, py: Python<'_>, context: Py<PyAny>, older: &Self) -> Self {
        let envs = self.envs.as_ref().map(|own| Envs {
            pointer: own.pointer.clone(),
            all: older.envs.as_ref().unwrap_or(own).all.clone_ref(py),
        });
        let ages = older.ages.as_ref().or(self.ages.as_ref()).cloned();
        Self { context, envs, ages }
    }

    /// Puts the env in place that belongs to this event; its key, to be given back after the call.
    pub(super) fn enter<'py>(
        &self,
        py: Python<'py>,
        event: &Event,
        key: &Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(envs) = &self.envs else {
            self.drop_unused(py, &StateKey(None))?;
            return Ok(None);
        };
        let key = match key {
            Key::Known(key) => key.0.as_ref().into_pyobject(py)?,
            // the same for equal values as where a store keeps the states
            Key::OfEvent => envs.pointer.find(&event.payload).map(|key| key.to_string()).into_pyobject(py)?,
        };
        if self.ages.is_some() {
            self.drop_unused(py, &StateKey(key.extract()?))?;
        }
        let env = match envs.all.bind(py).get_item(&key)? {
            Some(env) => env,
            None => PyDict::new(py).into_any(),
        };
        self.context.bind(py).setattr(intern!(py, "env"), env)?;
        Ok(Some(key))
    }

    /// Takes the env back, whatever the call has made of it.
    pub(super) fn leave(&self, key: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(ages) = &self.ages {
            let key = key.as_ref().map(|key| key.extract()).transpose()?.flatten();
            ages.used(StateKey(key), Instant::now());
        }
        let (Some(envs), Some(key)) = (&self.envs, key) else { return Ok(()) };
        let py = key.py();
        envs.all.bind(py).set_item(key, self.context.bind(py).getattr(intern!(py, "env"))?)
    }

    /// States that were not used for so long begin anew, that of this key among them, and their memory is free.
    fn drop_unused(&self, py: Python<'_>, key: &StateKey) -> PyResult<()> {
        let over = self.ages.as_ref().map(|ages| ages.over(key, Instant::now())).unwrap_or_default();
        over.iter().try_for_each(|key| self.forget(py, key))
    }

    /// Whether the state has keys.
    pub(super) const fn is_keyed(&self) -> bool {
        self.envs.is_some()
    }

    /// The env of a key, where it has one.
    pub(super) fn get<'py>(&self, py: Python<'py>, key: &StateKey) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.envs {
            Some(envs) => envs.all.bind(py).get_item(&key.0),
            None => self.whole(py).map(Some),
        }
    }

    /// Puts an env in the place of the one that the key has.
    pub(super) fn put(&self, py: Python<'_>, key: &StateKey, env: Bound<'_, PyAny>) -> PyResult<()> {
        match &self.envs {
            Some(envs) => envs.all.bind(py).set_item(&key.0, env),
            None => self.context.bind(py).setattr(intern!(py, "env"), env),
        }
    }

    /// The next call with this key begins with an empty env.
    pub(super) fn forget(&self, py: Python<'_>, key: &StateKey) -> PyResult<()> {
        match &self.envs {
            Some(envs) if envs.all.bind(py).contains(&key.0)? => envs.all.bind(py).del_item(&key.0),
            Some(_) => Ok(()),
            None => self.put(py, key, PyDict::new(py).into_any()),
        }
    }

    /// Returns to an earlier env of a key. Entries that have no text stay, and those whose text is the same.
    pub(super) fn restore(&self, py: Python<'_>, key: &StateKey, mark: &Mark) -> PyResult<()> {
        let earlier = if let Some(now) = self.get(py, key)? {
            let encoded = state::encode(py, &now);
            let odd = encoded.opaque || encoded.bare;
            if encoded.env == mark.env && odd == mark.odd || encoded.opaque && mark.odd {
                return Ok(());
            }
            let mut earlier = state::decode_beside(py, &mark.env, &now, &encoded.env)?;
            if encoded.bare && mark.odd {
                // of one of the kinds of dict that Python brings along: it keeps what makes it one
                let same = now.call_method0(intern!(py, "copy"))?;
                same.call_method0(intern!(py, "clear"))?;
                same.call_method1(intern!(py, "update"), (earlier,))?;
                earlier = same;
            }
            for (name, value) in encoded.lost.iter().filter_map(|left| left.entry.as_ref()) {
                // nothing of them fits into an env that was no mapping
                if earlier.is_instance_of::<PyDict>() && !earlier.contains(name)? {
                    earlier.set_item(name, value)?;
                }
            }
            earlier
        } else if *mark == Mark::default() {
            return Ok(());
        } else {
            state::decode(py, &mark.env)?.into_bound(py)
        };
        self.put(py, key, earlier)
    }

    /// All that is kept, as text, and what is not in it, in words. An entry without a text costs no other one.
    pub(super) fn encoded(&self, py: Python<'_>) -> PyResult<(Env, Vec<String>)> {
        let Some(envs) = &self.envs else {
            let encoded = state::encode(py, &self.whole(py)?);
            let words = encoded.words().map(str::to_owned).collect();
            return Ok((encoded.env, words));
        };
        let (all, mut lost) = (PyDict::new(py), Vec::new());
        for (key, env) in envs.all.bind(py) {
            let encoded = state::encode(py, &env);
            lost.extend(encoded.words().map(|words| format!("{key}: {words}")));
            if encoded.lost.is_empty() {
                all.set_item(key, env)?;
            } else if !encoded.opaque {
                all.set_item(key, state::decode(py, &encoded.env)?)?;
            }
        }
        let encoded = state::encode(py, &all);
        lost.extend(encoded.words().map(str::to_owned));
        Ok((encoded.env, lost))
    }

    /// All that is kept, as one object.
    pub(super) fn whole<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.envs {
            Some(envs) => Ok(envs.all.bind(py).clone().into_any()),
            None => self.context.bind(py).getattr(intern!(py, "env")),
        }
    }

    /// Begins with what [`whole`](Self::whole) gave.
    pub(super) fn begin(&self, py: Python<'_>, whole: Py<PyAny>) -> PyResult<()> {
        if let Some(ages) = &self.ages {
            // when they were used is known to a worker that is no more
            let keys = match &self.envs {
                Some(_) => whole.bind(py).cast::<PyDict>()?.keys().extract()?,
                None => vec![None],
            };
            keys.into_iter().for_each(|key| ages.used(StateKey(key), Instant::now()));
        }
        match &self.envs {
            Some(envs) => envs.all.bind(py).update(whole.bind(py).cast::<PyDict>()?.as_mapping()),
            None => self.context.bind(py).setattr(intern!(py, "env"), whole),
        }
    }

    /// How many entries it has, or keys.
    pub(super) fn entries(&self, py: Python<'_>) -> usize {
        let whole = self.whole(py).ok();
        whole.as_ref().and_then(|env| env.cast::<PyDict>().ok()).map_or(0, |env| env.len())
    }
}
