//! Where results go.

use std::any::Any;

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

/// Where results go.
#[async_trait]
pub trait Sink: Send {
    /// Stores the results, in order. Never called with an empty list.
    ///
    /// After a fault with `retry` the engine backs off and calls again with the same results, so a write must be
    /// one that may be repeated. The source waits meanwhile; the function is not called again.
    ///
    /// # Errors
    /// With `retry`: the backend is away. Without: these results can never be stored; they are logged and counted
    /// as failed, and the next batch goes on.
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault>;

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
