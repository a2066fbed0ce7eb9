//! Code that can be called.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::batch::{Event, Payload};
use super::fault::Fault;
use super::loader::Module;
use super::state::{Env, StateKey};

/// What the function's context tells of its surroundings; information only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Host of the backend that the input comes from.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// What is watched.
    pub input_key: Option<String>,
    /// Where results go.
    pub output_key: Option<String>,
}

impl Facts {
    /// Fills what is still unknown from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            input_key: self.input_key.or(other.input_key),
            output_key: self.output_key.or(other.output_key),
        }
    }
}

/// What an executor is told of the function that it prepares.
#[derive(Debug, Clone, Default)]
pub struct Brief {
    /// The function's label in the configuration.
    pub function: Arc<str>,
    /// The entry function's name.
    pub handler: String,
    /// For the context.
    pub facts: Facts,
    /// A JSON pointer into the event: each value found there has a state of its own.
    pub state_key: Option<Arc<str>>,
    /// A state that only the function holds begins anew where it was not used for so long.
    pub state_ttl: Option<Duration>,
    /// Whether what it hands over must be bytes: it lives in a process of its own, or somebody keeps its state.
    pub apart: bool,
    /// Told while the function cannot be called.
    pub health: Health,
}

/// Where a function says that it cannot be called, and that it can again.
#[derive(Clone, Default)]
pub struct Health(Option<Arc<Tell>>);

type Tell = dyn Fn(Option<&str>) + Send + Sync;

impl Health {
    /// One that tells somebody.
    pub fn new(tell: impl Fn(Option<&str>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// What is wrong; `None` where nothing is any more.
    pub fn say(&self, trouble: Option<&str>) {
        if let Some(tell) = &self.0 {
            tell(trouble);
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

/// Follows a batch event by event, on the thread that runs the function: what is finished, and what runs since when,
/// is then known also if the process ends in the middle.
pub trait Observer: fmt::Debug + Send + Sync {
    /// The function is about to be called with this event of the batch.
    fn begins(&self, index: usize);

    /// That call has ended.
    fn ended(&self, index: usize, outcome: &Outcome);
}

/// What goes with the events of one call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Whether somebody else keeps the states. Then a call that fails leaves no trace in them, as far as they can be
    /// encoded, and the outcomes bring every state that the batch has changed. Where the function's process ends with
    /// the batch, or has ended since the last one, nothing is called over again: see [`Returned::NotCalled`].
    pub keep: bool,
    /// With `keep`: states that take the place of what the function holds for their keys. Other keys go on as they are;
    /// one that the function does not know begins empty.
    pub states: Vec<(StateKey, Env)>,
    /// With `keep`: that `states` has all that this batch needs, so that a function whose memory is gone may go on.
    pub anew: bool,
    /// With `keep`: states that the function need not hold any longer.
    pub forget: Vec<StateKey>,
    /// When the first event has to be finished; each further one has as long.
    pub deadline: Option<Instant>,
    /// Told of each event, where somebody has to know.
    pub observer: Option<Arc<dyn Observer>>,
}

/// What a function made of one event.
#[derive(Debug)]
pub enum Returned {
    /// Nothing to store: `None`, `{}`, `0`, `[]`, `""` from Python.
    Empty,
    /// A result, as JSON text.
    Output(Payload),
    /// The call failed. [`Fault::report`] has the traceback.
    Failed(Fault),
    /// Only with [`Call::keep`]: the process that held the states has ended, so nothing is known of this event, or it
    /// was not called at all. Whoever keeps the states gives it again, with them.
    NotCalled,
}

/// What a function made of one event, and the state after it where the store asks for one.
#[derive(Debug)]
pub struct Outcome {
    /// The result.
    pub returned: Returned,
    /// With [`Call::keep`], states as they are after the whole batch: those that it has changed, each with one of the
    /// outcomes.
    pub states: Vec<(StateKey, Env)>,
}

impl From<Returned> for Outcome {
    fn from(returned: Returned) -> Self {
        Self { returned, states: Vec::new() }
    }
}

/// What outlives a planned change of a function's code.
pub enum Legacy {
    /// Live objects, which only a function of the same executor in the same process understands. Nothing is lost.
    Live(Box<dyn Any + Send>),
    /// The state as bytes.
    Encoded {
        /// What could be encoded.
        env: Env,
        /// The names of what could not, each with the reason.
        lost: Vec<String>,
    },
}

/// Makes functions of modules.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Gets ready what every function of this executor needs, so that `prepare` takes less time later.
    ///
    /// # Errors
    /// The executor cannot work here.
    async fn warm(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Loads the module once and finds its entry function. There is a module exactly where the kind needs one.
    ///
    /// # Errors
    /// [`Blame::Function`](super::Blame::Function) with file, line and what was wanted.
    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault>;
}

/// A function that works on one batch and has the next one at hand. [`Function::invoke`] is for when nothing is given.
#[async_trait]
pub trait Pipeline: Send {
    /// Gives it a batch; no more than two are given and not answered.
    async fn give(&mut self, events: Arc<[Event]>, call: Call);

    /// Resolves when it is time to [`take`](Pipeline::take) the oldest answer. May be dropped at any time.
    async fn answered(&mut self);

    /// The outcomes of the oldest batch; waits for them where they are not there yet.
    ///
    /// # Errors
    /// As for [`Function::invoke`].
    async fn take(&mut self) -> Result<Vec<Outcome>, Fault>;
}

/// Code that can be called. The unit is the batch: one crossing of a language or process border for all events.
#[async_trait]
pub trait Function: Send {
    /// Calls the entry function with each event in order; exactly one outcome per event, in the same order. A call
    /// that fails is an outcome, and the next event is still called.
    ///
    /// Never called again before it has answered. The future is dropped only when the process ends.
    ///
    /// # Errors
    /// The function itself is gone: no outcome is known.
    async fn invoke(&mut self, events: &[Event], call: Call) -> Result<Vec<Outcome>, Fault>;

    /// How many entries its state has, for a message when they are lost; 0 where it cannot tell.
    fn entries(&self) -> usize {
        0
    }

    /// For a function that can be given a batch before it has answered the one before.
    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        None
    }

    /// What a newer version of this function needs in order to go on where this one stands. Called between two
    /// batches; this one may still be called afterwards.
    ///
    /// # Errors
    /// The state cannot be had; this version goes on.
    async fn hand_over(&mut self) -> Result<Legacy, Fault> {
        Ok(Legacy::Encoded { env: Env::default(), lost: Vec::new() })
    }

    /// Takes the place of an older version, before the first call; `None` begins with an empty state.
    ///
    /// # Errors
    /// It cannot; the older version goes on, as if nothing had happened.
    async fn take_over(&mut self, _legacy: Option<Legacy>) -> Result<(), Fault> {
        Ok(())
    }

    /// Ends a version whose successor has taken over, as [`close`](Self::close) does. What the process still needs
    /// stays. Nobody waits for it, and several may be ending at once.
    ///
    /// # Errors
    /// What failed is logged.
    async fn retire(&mut self, within: Duration) -> Result<(), Fault> {
        self.close(within).await
    }

    /// Runs what the function has registered for its end, and waits for what its language waits for. Called once, while
    /// draining. What has not ended `within` this time is killed where it is a process, and left behind where it is a
    /// thread.
    ///
    /// # Errors
    /// What failed is logged.
    async fn close(&mut self, _within: Duration) -> Result<(), Fault> {
        Ok(())
    }
}
