//! What a handler is given beside its event: facts, state, a log and measurements.

use std::fmt::{self, Display};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::states::{STATES, States};

/// How grave a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something may fail soon.
    Warn = 2,
    /// What an operator wants to see.
    Info = 3,
    /// What a developer wants to see; hidden by default.
    Debug = 4,
    /// Everything else; hidden by default.
    Trace = 5,
}

/// What stays the same for the life of a function; information only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The function's label in the configuration.
    pub function_name: String,
    /// Host of the backend that the input comes from.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// What is watched.
    pub input_key: Option<String>,
    /// Where results go.
    pub output_key: Option<String>,
    /// When the library's file was last modified.
    pub function_getmtime: SystemTime,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            function_name: "default".to_owned(),
            host: None,
            port: None,
            input_key: None,
            output_key: None,
            function_getmtime: SystemTime::UNIX_EPOCH,
        }
    }
}

/// How a measurement changes its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Measure {
    /// Adds a whole number, not negative.
    Count = 1,
    /// Sets a number that may go up and down.
    Gauge = 2,
    /// Adds a number to a distribution.
    Observe = 3,
}

/// Where lines and measurements go: the runtime, or a list that a test looks at.
pub(crate) trait Listener: Send {
    fn log(&mut self, event: &str, level: Level, text: &str);
    fn measure(&mut self, measure: Measure, name: &str, value: f64, labels: &[(&str, &str)]);
}

/// A line that a handler logged in a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// How grave it is.
    pub level: Level,
    /// The text.
    pub text: String,
}

/// A measurement that a handler made in a test.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What it does.
    pub measure: Measure,
    /// The metric's name, without the runtime's `gaugefn_function_`.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Label and value.
    pub labels: Vec<(String, String)>,
}

#[derive(Default)]
struct Recorder {
    logged: Vec<Logged>,
    measured: Vec<Measured>,
}

enum Ear {
    Runtime(Box<dyn Listener>),
    Test(Recorder),
}

/// What [`Context::state`] can keep: a type that a later call, and a later version of the function, can read again.
pub trait State: Default + Serialize + DeserializeOwned + Send + 'static {}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> State for T {}

/// What [`Context::save`] tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Names, each with its value as JSON text: the keys of `env`, and `gaugefn.states` for the states of types.
    pub entries: Vec<(String, String)>,
    /// Names of what cannot be saved, each with the reason.
    pub lost: Vec<(String, String)>,
}

/// One per function, for as long as the function lives.
pub struct Context {
    facts: Facts,
    event_id: String,
    attempt: u32,
    ends: Option<Instant>,
    last_execution: Option<SystemTime>,
    /// Live and untyped state, kept between calls. The key `gaugefn.states` is reserved.
    pub env: Map<String, Value>,
    states: States,
    ear: Ear,
}

impl Context {
    /// A context without a runtime: lines and measurements are kept for [`logged`](Self::logged) and
    /// [`measured`](Self::measured).
    #[must_use]
    pub fn for_tests() -> Self {
        Self::with_facts(Facts::default())
    }

    /// As [`for_tests`](Self::for_tests), with these facts.
    #[must_use]
    pub fn with_facts(facts: Facts) -> Self {
        Self::new(facts, Ear::Test(Recorder::default()))
    }

    pub(crate) fn of_runtime(facts: Facts, listener: Box<dyn Listener>) -> Self {
        Self::new(facts, Ear::Runtime(listener))
    }

    fn new(facts: Facts, ear: Ear) -> Self {
        Self {
            facts,
            event_id: String::new(),
            attempt: 1,
            ends: None,
            last_execution: None,
            env: Map::new(),
            states: States::default(),
            ear,
        }
    }

    /// Prepares the next call: the event's id, how often it was called with this call included, and how much time
    /// there is. The runtime does so before each call; tests may.
    pub fn begin(&mut self, event_id: &str, attempt: u32, remaining: Option<Duration>) {
        event_id.clone_into(&mut self.event_id);
        self.attempt = attempt;
        self.ends = remaining.and_then(|remaining| Instant::now().checked_add(remaining));
    }

    /// Notes that a call has ended, for [`last_execution`](Self::last_execution). The runtime does so after each call.
    pub fn confirm_execution(&mut self) {
        self.last_execution = Some(SystemTime::now());
    }

    /// The function's label in the configuration.
    #[must_use]
    pub fn function_name(&self) -> &str {
        &self.facts.function_name
    }

    /// Host of the backend that the input comes from; information only.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.facts.host.as_deref()
    }

    /// Port of that backend.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.facts.port
    }

    /// What is watched.
    #[must_use]
    pub fn input_key(&self) -> Option<&str> {
        self.facts.input_key.as_deref()
    }

    /// Where results go.
    #[must_use]
    pub fn output_key(&self) -> Option<&str> {
        self.facts.output_key.as_deref()
    }

    /// When the library's file was last modified.
    #[must_use]
    pub fn function_getmtime(&self) -> SystemTime {
        self.facts.function_getmtime
    }

    /// Names the event in logs and dead letters.
    #[must_use]
    pub fn event_id(&self) -> &str {
        &self.event_id
    }

    /// How often the function was called with this event, this call included.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When this call must be finished; `None` without a limit.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.ends
    }

    /// How much time is left for this call; `None` without a limit.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.ends.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// When the last call ended whose result could be stored; failed calls count.
    #[must_use]
    pub fn last_execution(&self) -> Option<SystemTime> {
        self.last_execution
    }

    /// State of one type, kept between calls; its default at first. Each type has a state of its own, which a newer
    /// version of the function finds under the type's name with its path: whoever renames or moves the type begins anew.
    ///
    /// Where the state of the version before cannot be read as this type, that is logged as an error, and the default
    /// is what there is.
    pub fn state<T: State>(&mut self) -> &mut T {
        if let Some(unreadable) = self.states.prepare::<T>() {
            self.error(unreadable);
        }
        self.states.get()
    }

    /// What a later version needs in order to go on here: `env` and the states of all types. The runtime asks for it
    /// between two calls; tests may.
    #[must_use]
    pub fn save(&self) -> Saved {
        let mut saved = Saved::default();
        for (key, value) in &self.env {
            if key == STATES {
                saved.lost.push((key.clone(), "the key is reserved: use another one".to_owned()));
            } else {
                saved.entries.push((key.clone(), value.to_string()));
            }
        }
        let (states, lost) = self.states.save();
        saved.entries.extend(states.map(|states| (STATES.to_owned(), states)));
        saved.lost.extend(lost);
        saved
    }

    /// Replaces `env` and the states of all types by what [`save`](Self::save) told, also that of an older version.
    /// States that it could not tell stay as they are.
    ///
    /// # Errors
    /// A value is no JSON text; nothing is replaced then.
    pub fn load(&mut self, entries: impl IntoIterator<Item = (String, String)>) -> Result<(), String> {
        let (mut env, mut states) = (Map::new(), States::default());
        for (key, value) in entries {
            let unusable = |error| format!("the value of '{key}' cannot be read: {error}");
            if key == STATES {
                states = States::carried(&value).map_err(unusable)?;
            } else {
                let value = serde_json::from_str(&value).map_err(unusable)?;
                env.insert(key, value);
            }
        }
        self.env = env;
        self.states.replace(states);
        Ok(())
    }

    /// Logs a line; it arrives as a record with the function's and the event's name.
    pub fn log(&mut self, level: Level, text: impl Display) {
        let text = text.to_string();
        match &mut self.ear {
            Ear::Runtime(listener) => listener.log(&self.event_id, level, &text),
            Ear::Test(recorder) => recorder.logged.push(Logged { level, text }),
        }
    }

    /// Logs what failed.
    pub fn error(&mut self, text: impl Display) {
        self.log(Level::Error, text);
    }

    /// Logs what may fail soon.
    pub fn warn(&mut self, text: impl Display) {
        self.log(Level::Warn, text);
    }

    /// Logs what an operator wants to see.
    pub fn info(&mut self, text: impl Display) {
        self.log(Level::Info, text);
    }

    /// Logs what a developer wants to see.
    pub fn debug(&mut self, text: impl Display) {
        self.log(Level::Debug, text);
    }

    /// Adds `by` to the counter `gaugefn_function_<name>{function, labels}`. Names and labels are made of letters,
    /// digits and `_`; others are refused with one warning in the log, as is a name of another kind of metric.
    pub fn count(&mut self, name: &str, by: u64, labels: &[(&str, &str)]) {
        self.measure(Measure::Count, name, by as f64, labels);
    }

    /// Sets the gauge `gaugefn_function_<name>{function, labels}`.
    pub fn gauge(&mut self, name: &str, value: f64, labels: &[(&str, &str)]) {
        self.measure(Measure::Gauge, name, value, labels);
    }

    /// Adds to the distribution `gaugefn_function_<name>{function, labels}`.
    pub fn observe(&mut self, name: &str, value: f64, labels: &[(&str, &str)]) {
        self.measure(Measure::Observe, name, value, labels);
    }

    fn measure(&mut self, measure: Measure, name: &str, value: f64, labels: &[(&str, &str)]) {
        match &mut self.ear {
            Ear::Runtime(listener) => listener.measure(measure, name, value, labels),
            Ear::Test(recorder) => {
                let labels = labels.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
                recorder.measured.push(Measured { measure, name: name.to_owned(), value, labels });
            }
        }
    }

    /// In a test: the lines logged so far. Empty under the runtime.
    #[must_use]
    pub fn logged(&self) -> &[Logged] {
        if let Ear::Test(recorder) = &self.ear { &recorder.logged } else { &[] }
    }

    /// In a test: the measurements made so far. Empty under the runtime.
    #[must_use]
    pub fn measured(&self) -> &[Measured] {
        if let Ear::Test(recorder) = &self.ear { &recorder.measured } else { &[] }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("facts", &self.facts)
            .field("event_id", &self.event_id)
            .field("attempt", &self.attempt)
            .field("env", &self.env)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_state_of_its_own_and_env_is_beside_it() {
        let mut context = Context::for_tests();
        context.state::<Vec<u64>>().push(7);
        *context.state::<String>() = "seven".to_owned();
        context.state::<Vec<u64>>().push(8);
        context.env.insert("n".to_owned(), 1.into());
        assert_eq!(context.state::<Vec<u64>>(), &[7, 8]);
        assert_eq!(context.state::<String>(), "seven");
        assert_eq!(context.env["n"], 1);
    }

    #[test]
    fn a_test_sees_what_was_logged_and_measured() {
        let mut context = Context::for_tests();
        context.warn(format_args!("at {}", 90));
        context.count("calls", 2, &[("kind", "a")]);
        context.gauge("load", 0.5, &[]);
        assert_eq!(context.logged(), [Logged { level: Level::Warn, text: "at 90".to_owned() }]);
        let measured: Vec<_> = context.measured().iter().map(|one| (one.measure, &*one.name, one.value)).collect();
        assert_eq!(measured, [(Measure::Count, "calls", 2.0), (Measure::Gauge, "load", 0.5)]);
        assert_eq!(context.measured()[0].labels, [("kind".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn time_runs_out_and_without_a_limit_it_does_not() {
        let mut context = Context::for_tests();
        assert_eq!((context.remaining(), context.deadline(), context.last_execution()), (None, None, None));
        context.begin("e", 2, Some(Duration::ZERO));
        assert_eq!((context.event_id(), context.attempt(), context.remaining()), ("e", 2, Some(Duration::ZERO)));
        context.begin("f", 1, Some(Duration::MAX));
        context.confirm_execution();
        assert!(context.last_execution().is_some());
    }
}
