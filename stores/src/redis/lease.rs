//! The lease of a state that one process at a time may have.

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;
use redis_link::lease::Hold;
use runtime_core::Fault;
use runtime_core::change::Fingerprint;
use runtime_core::contract::{Lease, Tenure};

use super::fault;

/// A lease with the engine's view of it.
pub(super) struct RedisLease(pub(super) redis_link::Lease);

#[async_trait]
impl Lease for RedisLease {
    fn term(&self) -> Duration {
        self.0.term()
    }

    async fn hold(&self) -> Result<Tenure, Fault> {
        let hold = self.0.hold().await.map_err(|error| fault(&error))?;
        Ok(match hold {
            Hold::Mine { fingerprint, kept } => {
                let text = fingerprint.as_deref().and_then(|bytes| str::from_utf8(bytes).ok());
                Tenure::Mine { fingerprint: text.and_then(Fingerprint::from_hex), kept }
            }
            Hold::Other { name, left } => Tenure::Other { holder: name, left },
        })
    }

    async fn release(&self) -> Result<(), Fault> {
        self.0.release().await.map(drop).map_err(|error| fault(&error))
    }

    /// A `redis_link::commit::Fence`.
    fn enlist(&self, fingerprint: Option<Fingerprint>) -> Box<dyn Any + Send> {
        Box::new(self.0.fence(fingerprint.map(|fingerprint| fingerprint.to_string().into_bytes())))
    }
}
