//! Consumers that are gone for good.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::reply::texts;
use super::{Member, millis};
use crate::fault::LinkError;
use crate::link::Link;

static SWEEP: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("ids.lua"), include_str!("sweep.lua"))));

/// A consumer that is registered, and that the group does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Absent {
    /// Its name.
    pub consumer: String,
    /// The incarnation that registered it.
    pub incarnation: String,
}

/// What [`Member::sweep`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The names of consumers that it removed.
    pub removed: Vec<String>,
    /// Consumers that the group does not have, as it was deleted and made again: those that live come back to it with
    /// their next read.
    pub absent: Vec<Absent>,
}

impl Member {
    /// Removes consumers of the group that were idle for that long and own nothing, and strikes off the register who is
    /// `dead`: registered in this very incarnation, and not in the group.
    ///
    /// # Errors
    /// As for [`Link::script`]; the register is none.
    pub async fn sweep(&self, link: &Link, idle: Duration, dead: &[Absent]) -> Result<Swept, LinkError> {
        let mut script = SWEEP.key(&*self.stream);
        script.key(self.register()).arg(&*self.group).arg(&*self.consumer).arg(millis(idle));
        for Absent { consumer, incarnation } in dead {
            script.arg(consumer).arg(incarnation);
        }
        let mut answer = self.ask(link, &script, "XGROUP").await?.into_iter();
        let removed = texts(answer.next());
        let mut words = texts(answer.next()).into_iter();
        let mut absent = Vec::new();
        while let (Some(consumer), Some(incarnation)) = (words.next(), words.next()) {
            absent.push(Absent { consumer, incarnation });
        }
        Ok(Swept { removed, absent })
    }
}
