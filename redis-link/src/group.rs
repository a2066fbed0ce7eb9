//! One consumer of a consumer group on a stream, in one incarnation.
//!
//! A restarted container has its predecessor's name, and so its pending entries. The incarnation tells the two apart:
//! it is registered under the name, in a hash beside the stream, and whoever finds another one there has been replaced.
//!
//! A group can be deleted, and made again under its name, while entries of it are in work. Each group that is made here
//! has a mark in the same hash: whoever finds another one brings what it has not done into the new group.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Script, Value, cmd};

use crate::blocking::Blocking;
use crate::fault::LinkError;
use crate::link::Link;
use reply::{entries, integer, list, text};

pub use identity::{Look, Memory};
pub use join::{Joined, Past, Rejoined};
pub use own::Beat;
pub use sweep::{Absent, Swept};

mod identity;
mod join;
mod own;
mod reply;
mod sweep;

static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("group/ids.lua"), include_str!("group/leave.lua"))));

/// A consumer of a group, in this incarnation. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key of the stream.
    pub stream: Arc<str>,
    /// The name of the consumer group.
    pub group: Arc<str>,
    /// This consumer's name in the group.
    pub consumer: Arc<str>,
    /// Differs between two lives of one name.
    pub incarnation: Arc<str>,
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `milliseconds-number`.
    pub id: String,
    /// Its fields in order, each perhaps more than once. None where the entry was deleted while it was pending.
    pub fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The entry's id.
    pub id: String,
    /// How long nobody has touched it.
    pub idle: Duration,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// How far a group is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries that were not delivered yet. None where the server cannot tell: before 7.0, after deletions.
    pub lag: Option<u64>,
    /// Entries that were delivered to any consumer and not acknowledged.
    pub pending: u64,
    /// The newest entry that was delivered to any consumer.
    pub reached: Option<String>,
}

/// Whether an error says that the group is gone, or the stream with it: deleted, FLUSHALL, a server that came back empty.
#[must_use]
pub fn is_gone(error: &LinkError) -> bool {
    matches!(error.code().as_deref(), Some("NOGROUP" | "UNBLOCKED"))
        || error.redis().is_some_and(|error| error.detail().is_some_and(|detail| detail.contains("no such key")))
}

impl Member {
    /// A member in a new incarnation. Contacts nothing.
    #[must_use]
    pub fn new(stream: &str, group: &str, consumer: &str) -> Self {
        let incarnation = incarnation().into();
        Self { stream: stream.into(), group: group.into(), consumer: consumer.into(), incarnation }
    }

    /// The key of the hash in which the group's consumers are registered: fields `i:CONSUMER` (the incarnation),
    /// `t:CONSUMER` (the token of its last commit), `g` (the group's mark: the incarnation that made it, a random name,
    /// and the id after which it began), `s` (ranges of ids that this group gives to nobody, as processes had had them from
    /// the one before), `j:CONSUMER` (the mark of the group that the consumer has brought its open entries into), `l` (the stream's
    /// life, a random name: it is another one where the register was lost, or the stream was found to be another) and
    /// `c:ID CONSUMER` (somebody has claimed this entry from that consumer).
    ///
    /// In a Cluster it lies where the stream lies, unless the stream's name has a `}` and no hash tag: no other key
    /// can lie with such a stream for certain.
    #[must_use]
    pub fn register(&self) -> String {
        let (stream, group) = (&self.stream, &self.group);
        let tag = stream.find('{').and_then(|open| stream[open + 1..].find('}')).is_some_and(|length| length > 0);
        if tag {
            format!("gaugefn:consumers:{stream}:{group}")
        } else {
            format!("gaugefn:consumers:{{{stream}}}:{group}")
        }
    }

    /// Looks whether the stream can be read: small, whatever is in it. A stream that is not there is no failure.
    ///
    /// # Errors
    /// As for [`Link::query`]; the key holds no stream.
    pub async fn check(&self, link: &Link) -> Result<(), LinkError> {
        match link.query::<Value>(cmd("XINFO").arg("GROUPS").arg(&*self.stream)).await {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits in the server, for `wait` at most, for entries that nobody has got yet. None after the time.
    pub fn read(
        &self,
        blocking: &Blocking,
        count: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Entry>, LinkError>> + Send + 'static {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&*self.group).arg(&*self.consumer).arg("COUNT").arg(count);
        // 0 would be for ever
        command.arg("BLOCK").arg(millis(wait).max(1)).arg("STREAMS").arg(&*self.stream).arg(">");
        let answer = blocking.query(command, wait);
        async move {
            let streams = list(answer.await?);
            Ok(streams.into_iter().flat_map(|stream| list(stream).into_iter().nth(1)).flat_map(entries).collect())
        }
    }

    /// This consumer's pending entries, oldest first, from `start` on (`-` for the first; `(ID` for those after it).
    ///
    /// # Errors
    /// As for [`Link::query`].
    pub async fn own(&self, link: &Link, start: &str, count: usize) -> Result<Vec<Pending>, LinkError> {
        let mut command = cmd("XPENDING");
        command.arg(&*self.stream).arg(&*self.group).arg(start).arg("+").arg(count).arg(&*self.consumer);
        let rows: Value = link.query(&command).await?;
        let row = |row: Value| {
            let row = list(row);
            let id = text(row.first()?)?.to_owned();
            let idle = Duration::from_millis(integer(row.get(2)?)?);
            Some(Pending { id, idle, deliveries: integer(row.get(3)?)? })
        };
        Ok(list(rows).into_iter().filter_map(row).collect())
    }

    /// Gets these entries of its own again, with their fields; `raise` says which count as delivered once more. An
    /// entry that somebody else has claimed meanwhile is not among them, and stays with its new owner.
    ///
    /// # Errors
    /// As for [`Link::pipeline`].
    pub async fn again(
        &self,
        link: &Link,
        pending: &[Pending],
        raise: impl Fn(&Pending) -> bool,
    ) -> Result<Vec<Entry>, LinkError> {
        let mut pipeline = redis::pipe();
        for entry in pending {
            let deliveries = entry.deliveries + u64::from(raise(entry));
            let claim = pipeline.cmd("XCLAIM").arg(&*self.stream).arg(&*self.group).arg(&*self.consumer);
            // claimed by somebody else, it is not that idle any more
            claim.arg(millis(entry.idle)).arg(&entry.id).arg("RETRYCOUNT").arg(deliveries);
        }
        let answers: Vec<Value> = link.pipeline(&pipeline).await?;
        let mut found: Vec<Entry> = answers.into_iter().flat_map(entries).collect();
        let known: BTreeSet<&str> = found.iter().map(|entry| entry.id.as_str()).collect();
        let missing: Vec<String> =
            pending.iter().filter(|entry| !known.contains(entry.id.as_str())).map(|entry| entry.id.clone()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let mut pipeline = redis::pipe();
        for id in &missing {
            pipeline.cmd("XRANGE").arg(&*self.stream).arg(id).arg(id);
        }
        let there: Vec<Value> = link.pipeline(&pipeline).await?;
        let deleted =
            missing.into_iter().zip(there).filter(|(_, there)| matches!(there, Value::Array(rows) if rows.is_empty()));
        found.extend(deleted.map(|(id, _)| Entry { id, fields: None }));
        Ok(found)
    }

    /// Acknowledges entries, whoever owns them. How many of them were pending.
    ///
    /// # Errors
    /// As for [`Link::query`].
    pub async fn acknowledge(&self, link: &Link, ids: &[String]) -> Result<usize, LinkError> {
        link.query(cmd("XACK").arg(&*self.stream).arg(&*self.group).arg(ids)).await
    }

    /// Leaves the group: what is pending can be claimed by others at once, `idle` being longer than any of them waits.
    /// Entries that were read and never given out (`untouched`) count as not delivered. Without pending entries the
    /// consumer is removed. How many were pending.
    ///
    /// # Errors
    /// As for [`Link::script`].
    pub async fn leave(&self, link: &Link, idle: Duration, untouched: &[String]) -> Result<usize, LinkError> {
        let mut script = self.invocation(&LEAVE);
        script.arg(millis(idle)).arg(untouched);
        let left = self.ask(link, &script, "XCLAIM").await?;
        Ok(left.first().and_then(integer).and_then(|count| usize::try_from(count).ok()).unwrap_or_default())
    }

    /// The names of the other groups of the stream.
    ///
    /// # Errors
    /// As for [`Link::query`].
    pub async fn others(&self, link: &Link) -> Result<Vec<String>, LinkError> {
        let groups: Value = match link.query(cmd("XINFO").arg("GROUPS").arg(&*self.stream)).await {
            Ok(groups) => groups,
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let name = |group: Value| -> Option<String> {
            let words = list(group);
            let at = words.iter().position(|word| text(word) == Some("name"))?;
            // a name may be any bytes
            match words.into_iter().nth(at + 1)? {
                Value::BulkString(name) => Some(String::from_utf8_lossy(&name).into_owned()),
                other => text(&other).map(str::to_owned),
            }
        };
        Ok(list(groups).into_iter().filter_map(name).filter(|name| **name != *self.group).collect())
    }

    /// How far the group is behind.
    ///
    /// # Errors
    /// As for [`Link::query`].
    pub async fn figures(&self, link: &Link) -> Result<Figures, LinkError> {
        let groups: Value = link.query(cmd("XINFO").arg("GROUPS").arg(&*self.stream)).await?;
        for group in list(groups) {
            let words = list(group);
            let find = |name: &str| words.iter().position(|word| text(word) == Some(name)).map(|at| &words[at + 1]);
            if find("name").and_then(text) == Some(&*self.group) {
                let pending = find("pending").and_then(integer).unwrap_or_default();
                let reached = find("last-delivered-id").and_then(text).map(str::to_owned);
                return Ok(Figures { lag: find("lag").and_then(integer), pending, reached });
            }
        }
        Ok(Figures::default())
    }

    /// What one of the group's scripts answers, behind its first word.
    async fn ask(
        &self,
        link: &Link,
        script: &redis::ScriptInvocation<'_>,
        command: &str,
    ) -> Result<Vec<Value>, LinkError> {
        self.answer(link, script, command).await.map(|(_, rest)| rest)
    }

    /// The first word of what a script answers, and the rest. The scripts find out by themselves where the register is
    /// none: what the server says does not name the key.
    async fn answer(
        &self,
        link: &Link,
        script: &redis::ScriptInvocation<'_>,
        command: &str,
    ) -> Result<(String, Vec<Value>), LinkError> {
        let mut words = list(link.script(script, command, &self.stream).await?).into_iter();
        let word = words.next().as_ref().and_then(text).unwrap_or_default().to_owned();
        let rest: Vec<Value> = words.collect();
        match (&*word, &rest[..]) {
            ("denied", [command, key]) => {
                let (command, key) = (text(command).unwrap_or_default(), text(key).unwrap_or_default());
                Err(LinkError::denied(link.target(), command, key))
            }
            ("type", [key, wanted]) => {
                let (key, wanted) = (text(key).unwrap_or_default(), text(wanted).unwrap_or_default());
                Err(LinkError::wrong_type(link.target(), key, wanted))
            }
            _ => Ok((word, rest)),
        }
    }

    /// With stream and register as keys, and who this is as the first arguments.
    fn invocation(&self, script: &'static Script) -> redis::ScriptInvocation<'static> {
        let mut invocation = script.key(&*self.stream);
        invocation.key(self.register()).arg(&*self.group).arg(&*self.consumer).arg(&*self.incarnation);
        invocation
    }
}

/// A name that differs between any two calls of any two processes: 32 hexadecimal digits.
#[must_use]
pub fn incarnation() -> String {
    // random, as clocks of containers may agree; the standard library seeds its hashers from the system
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_lies_with_its_stream() {
        for (stream, register) in [
            ("events", "gaugefn:consumers:{events}:vm"),
            ("{tenant}:events", "gaugefn:consumers:{tenant}:events:vm"),
            ("a:{b}:{c}", "gaugefn:consumers:a:{b}:{c}:vm"),
            ("open{", "gaugefn:consumers:{open{}:vm"),
        ] {
            assert_eq!(Member::new(stream, "vm", "a").register(), register);
        }
    }

    #[test]
    fn incarnations_differ() {
        let ids: BTreeSet<_> = (0..100).map(|_| Member::new("s", "g", "c").incarnation).collect();
        assert_eq!(ids.len(), 100);
    }
}
