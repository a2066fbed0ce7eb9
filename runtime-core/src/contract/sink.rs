//! Where results go.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;

use super::batch::Payload;
use super::commit::Domain;
use super::fault::Fault;
use super::function::Facts;

/// One result on its way out.
#[derive(Debug, Clone)]
pub struct Output {
    /// The event that it came from.
    pub event_id: String,
    /// That event's payload, for keys with placeholders.
    pub event: Payload,
    /// The result, as JSON text. Never empty: empty results reach no sink.
    pub payload: Payload,
}

/// Tells where each result goes, of a sink whose results go to places that they name themselves.
pub trait Route: Send + Sync {
    /// The place of this result.
    ///
    /// # Errors
    /// It names none.
    fn address(&self, output: &Output) -> Result<Address, Fault>;
}

/// A place that a result goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where it is, in the words in which components claim what is there: the same for all on one server.
    pub place: String,
    /// What it is called there.
    pub name: String,
    /// What becomes of it, as it stands in messages: `stream`, `key`.
    pub kind: &'static str,
}

/// Whether a sink can never store what it was given, and can store other results.
fn is_hopeless(fault: &Fault) -> bool {
    !fault.retry() && !fault.is_fatal()
}

/// Finds out which of the results can never be stored, after all of them together could not be, for this reason.
///
/// # Errors
/// As for [`Sink::store`].
pub async fn one_by_one<S: Sink + ?Sized>(
    sink: &mut S,
    outputs: &[Output],
    fault: Fault,
) -> Result<Vec<(usize, Fault)>, Fault> {
    if outputs.len() == 1 {
        return Ok(vec![(0, fault)]);
    }
    let mut refused = Vec::new();
    for (place, output) in outputs.iter().enumerate() {
        match sink.write(std::slice::from_ref(output)).await {
            Err(fault) if is_hopeless(&fault) => refused.push((place, fault)),
            written => written?,
        }
    }
    Ok(refused)
}

/// Where results go.
#[async_trait]
pub trait Sink: Send {
    /// Stores the results, in order. Never called with an empty list.
    ///
    /// After a fault with `retry` the engine backs off and calls again with the same results, so a write must be
    /// one that may be repeated. The source waits meanwhile; the function is not called again.
    ///
    /// # Errors
    /// With `retry`: the backend is away. Without: one of these results can never be stored, or none; others may be.
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault>;

    /// The same, and the places of those results that can never be stored, each with the reason: their events have failed,
    /// and the others are stored.
    ///
    /// # Errors
    /// As for `write`.
    async fn store(&mut self, outputs: &[Output]) -> Result<Vec<(usize, Fault)>, Fault> {
        match self.write(outputs).await {
            Err(fault) if is_hopeless(&fault) => one_by_one(self, outputs, fault).await,
            written => written.map(|()| Vec::new()),
        }
    }

    /// What tells where each result goes; None where all go to places that are configured.
    fn route(&self) -> Option<Arc<dyn Route>> {
        None
    }

    /// Opens what the sink needs, so that wrong settings show at the start. Called again each second while the sink
    /// is in trouble and nothing is to be written. Must be safe to drop at any time.
    ///
    /// # Errors
    /// As for `write`.
    async fn check(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// What the transaction of the sink's [`Domain`] needs in order to store these results together with state and
    /// acknowledgement. Whoever runs that transaction knows the type; the engine does not.
    ///
    /// # Errors
    /// These results can never be stored.
    fn enlist(&self, _outputs: &[Output]) -> Result<Option<Box<dyn Any + Send>>, Fault> {
        Ok(None)
    }

    /// The place whose transaction could include this sink's writes. None: written before the state.
    fn domain(&self) -> Option<Domain> {
        None
    }

    /// Keys that writes touch, in a place that spreads keys over servers; None where they depend on the results.
    fn keys(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }

    /// What the function's context tells of this sink.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Called once, after the last write. Errors are logged.
    ///
    /// # Errors
    /// Whatever could not be flushed.
    async fn close(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
