//! One process at a time, where several are ready.

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;

use super::fault::Fault;
use crate::change::Fingerprint;

/// What a try to get or to keep a lease has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenure {
    /// This process has it, from the moment of the question on for [`Lease::term`].
    Mine {
        /// The input that the last commit under this lease was made of, whoever made it.
        fingerprint: Option<Fingerprint>,
        /// Whether it had it already, so that nobody else can have had it since.
        kept: bool,
    },
    /// Another process has it.
    Other {
        /// Its name, for people.
        holder: String,
        /// How long it still has it, unless it asks again.
        left: Duration,
    },
}

/// The right to be the one process of several that calls the function. A process that has lost it without noticing is
/// fenced: its commits are refused where the lease can be part of the transaction.
#[async_trait]
pub trait Lease: Send + Sync {
    /// How long it is held without being asked for again.
    fn term(&self) -> Duration;

    /// Gets it, where nobody has it, or keeps it.
    ///
    /// # Errors
    /// The place is away.
    async fn hold(&self) -> Result<Tenure, Fault>;

    /// Lets it go, where this process has it, so that the next one need not wait.
    ///
    /// # Errors
    /// The place is away.
    async fn release(&self) -> Result<(), Fault>;

    /// What the transaction of the domain needs in order to refuse where the lease is lost, and to note the input that
    /// the commit was made of. Whoever runs that transaction knows the type; the engine does not.
    fn enlist(&self, fingerprint: Option<Fingerprint>) -> Box<dyn Any + Send>;
}
