//! Whether everything that a batch touches is in one place.

use std::sync::Arc;

use super::assemble::Parts;
use crate::contract::{Delivery, Domain, Fault, Lease, Transaction};

/// How commits are made.
#[derive(Clone)]
pub enum Bond {
    /// In one transaction.
    Atomic {
        /// The place.
        domain: Domain,
        /// What runs them there.
        transaction: Arc<dyn Transaction>,
    },
    /// One step after the other.
    InOrder,
}

impl Bond {
    /// From what the parts say of themselves. Nothing is contacted.
    #[must_use]
    pub fn of(parts: &Parts) -> Self {
        let source = &parts.source;
        let (Some(domain), Some(transaction)) = (source.domain(), source.transaction()) else {
            return Self::InOrder;
        };
        let durable = parts.state.durable();
        // a single write needs no transaction
        let has_more = source.delivery() == Delivery::Queue || durable || lease_of(parts).is_some();
        let together = parts.sinks.iter().all(|(_, sink)| sink.domain().as_ref() == Some(&domain))
            && (!durable || parts.state.domain().as_ref() == Some(&domain));
        if has_more && together { Self::Atomic { domain, transaction } } else { Self::InOrder }
    }

    /// For the line at the start.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Atomic { transaction, .. } => format!("atomic ({})", transaction.name()),
            Self::InOrder => "in order (at least once)".to_owned(),
        }
    }

    /// Why this place, though it is one, cannot run the transactions of these parts; asks it.
    ///
    /// # Errors
    /// The place is away.
    pub fn obstacle(&self, parts: &Parts) -> impl Future<Output = Result<Option<String>, Fault>> + Send + use<> {
        let keys = keys_of(parts);
        let transaction = match self {
            Self::Atomic { transaction, .. } => Some(Arc::clone(transaction)),
            Self::InOrder => None,
        };
        async move {
            match transaction {
                Some(transaction) => transaction.obstacle(&keys).await,
                None => Ok(None),
            }
        }
    }
}

/// The keys that the commits of these parts touch. A sink whose keys depend on the results stands for itself with a
/// name that lies nowhere else.
pub(super) fn keys_of(parts: &Parts) -> Vec<String> {
    let mut keys = parts.source.keys();
    for (_, sink) in &parts.sinks {
        match sink.keys() {
            Some(some) => keys.extend(some),
            None => keys.push(sink.facts().output_key.unwrap_or_default()),
        }
    }
    if parts.state.durable() {
        keys.extend(parts.state.keys());
    }
    keys.extend(parts.dead_letters.iter().flat_map(|letters| letters.keys()));
    keys
}

/// What makes one process of several the only one that runs this function, where something does.
pub(super) fn lease_of(parts: &Parts) -> Option<Box<dyn Lease>> {
    let unkeyed = parts.state.durable() && parts.state_key.is_none();
    parts.source.lease().or_else(|| unkeyed.then(|| parts.state.lease()).flatten())
}
