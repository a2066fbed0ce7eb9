//! What settles a batch of entries.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use redis_link::commit::StreamAck;
use redis_link::{Link, Member};
use runtime_core::Fault;
use runtime_core::contract::{Settle, Verdict};

use super::fault;
use super::held::Held;

/// Acknowledges its entries, done or failed, in one trip. Dropped, they stay pending and are not kept from others any
/// more.
pub(super) struct Acknowledge {
    member: Member,
    link: Link,
    held: Arc<Held>,
    ids: Vec<String>,
}

impl Acknowledge {
    pub(super) fn new(member: Member, link: Link, held: Arc<Held>, ids: Vec<String>) -> Self {
        Self { member, link, held, ids }
    }
}

#[async_trait]
impl Settle for Acknowledge {
    async fn settle(&mut self, verdicts: &[Verdict]) -> Result<(), Fault> {
        let settled = &self.ids[..verdicts.len().min(self.ids.len())];
        if !settled.is_empty() {
            let _alone = self.held.pass().await;
            // before it is sent: what came of them is stored, and they must not come into another group
            self.held.close(settled);
            // what was deleted with its stream may have its ids from another one by now
            let gone = self.held.deleted(settled);
            let there: Vec<String> = settled.iter().filter(|id| !gone.contains(id)).cloned().collect();
            if !there.is_empty() {
                // fewer than asked for: they have been claimed and acknowledged by somebody else
                self.member.acknowledge(&self.link, &there).await.map_err(|error| fault(&error))?;
            }
            self.held.remove(settled);
        }
        Ok(())
    }

    fn split(&mut self, places: &[usize]) -> Box<dyn Settle> {
        let mut taken = Vec::with_capacity(places.len());
        let mut left = Vec::with_capacity(self.ids.len());
        for (place, id) in std::mem::take(&mut self.ids).into_iter().enumerate() {
            if places.binary_search(&place).is_ok() { taken.push(id) } else { left.push(id) }
        }
        self.ids = left;
        Box::new(Self::new(self.member.clone(), self.link.clone(), Arc::clone(&self.held), taken))
    }

    fn enlist(&self) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(StreamAck { member: self.member.clone(), ids: self.ids.clone() }))
    }
}

impl Drop for Acknowledge {
    fn drop(&mut self) {
        self.held.remove(&self.ids);
    }
}
