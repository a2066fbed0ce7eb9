//! How a process comes into its group: at the start, after each connection that broke, and where the group was deleted.
//!
//! A group that is gone has taken along who owns what. The new one begins after what was read, and each process puts what
//! it has not done into it as pending: in flight it goes on and is committed as if nothing had been, dropped it is given
//! again, and what was done does not come again. What a process that is gone had pending nobody knows.

use std::sync::Arc;

use redis_link::group::{Joined, Past, Rejoined};
use redis_link::{Blocking, LinkError, Member};
use runtime_core::Fault;

use super::keeper::Keeper;
use super::{RedisStream, Start, number};
use crate::shared::fault;

impl RedisStream {
    /// Makes what is missing on the server and registers this incarnation.
    pub(super) async fn join(&mut self) -> Result<(), Fault> {
        while !self.enroll().await? {
            self.rename();
        }
        Ok(())
    }

    /// Joins under the name of now, the first time over whoever has it; false where another process has taken it.
    async fn enroll(&mut self) -> Result<bool, Fault> {
        let first = !self.joined;
        let (from, past) = match (first, self.start) {
            (true, Start::First) => ("0".to_owned(), Past::default()),
            (true, Start::Next) => ("$".to_owned(), Past::default()),
            (false, _) => self.resumption().await.map_err(|error| fault(&error))?,
        };
        let joined = self.member.rejoin(&self.link, &from, !self.named, &past).await.map_err(|error| fault(&error))?;
        let Joined::Ours { made } = joined.joined else {
            return Ok(false);
        };
        self.named = true;
        self.held.live(joined.life.clone());
        let Member { stream, group, consumer, .. } = &self.member;
        if first {
            self.held.reach(number(&joined.reached));
            self.joined = true;
            self.held.enter(joined.mark, &[], &[], &[]);
            tracing::debug!(function = %self.function, %stream, %group, %consumer, made, "joined the consumer group");
        } else if joined.is_another || self.held.is_another(&joined.mark) {
            self.enter(joined, &from, &past).await.map_err(|error| fault(&error))?;
        } else {
            self.held.enter(joined.mark, &[], &[], &[]);
        }
        let look = self.member.look(&self.link, &self.held.stream().1).await;
        self.held.looked(look.map_err(|error| fault(&error))?);
        if self.keeper.is_none() {
            let (member, link, held) = (self.member.clone(), self.link.clone(), Arc::clone(&self.held));
            self.keeper = Some(Keeper::start(&self.function, member, link, held, self.claim_idle));
        }
        Ok(true)
    }

    /// Goes on in a group that has taken the place of the last one.
    async fn enter(&mut self, joined: Rejoined, from: &str, past: &Past) -> Result<(), LinkError> {
        let Rejoined { kept, mut deleted, mark, own, is_another, .. } = joined;
        let open = self.held.open();
        let done: Vec<String> = kept.iter().filter(|id| !open.contains(*id)).cloned().collect();
        if !done.is_empty() {
            // acknowledged while the group was gone, which nobody has heard
            self.member.acknowledge(&self.link, &done).await?;
        }
        if is_another || past.newest.is_none() {
            // nothing of the old stream is in the new one
            self.held.begin_anew();
            deleted.extend(open);
        }
        self.held.enter(mark, &past.open, &kept, &deleted);
        let Member { stream, group, .. } = &self.member;
        let begins = if own && is_another {
            "the stream is another one, and is read from its first entry".to_owned()
        } else if own {
            format!("a new one begins after {from}")
        } else {
            "another process has made a new one".to_owned()
        };
        let count = |count: usize| if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") };
        let kept = match kept.len() - done.len() {
            0 => String::new(),
            some => format!(", with {} that this process has not finished", count(some)),
        };
        let lost = match deleted.len() {
            0 => String::new(),
            some => format!("; the stream has {} not any more that it had not finished", count(some)),
        };
        metrics::counter!("gaugefn_stream_trimmed_total", "function" => self.function.clone())
            .increment(deleted.len() as u64);
        tracing::warn!(function = %self.function, "group '{group}' of stream '{stream}' was gone; {begins}{kept}{lost}");
        Ok(())
    }

    /// Where a group begins that takes the place of one that is gone, and what comes into it: after the newest entry that
    /// any process had, as far as this one knows. A stream that cannot be the one that was read counts from its first entry.
    async fn resumption(&mut self) -> Result<(String, Past), LinkError> {
        let (life, memory) = self.held.stream();
        let mut past = Past { life, mark: self.held.mark(), ..Past::default() };
        let now = self.member.look(&self.link, &memory).await?;
        Ok(match (self.held.reached(), now) {
            (Some(last), Some(now)) if now.last >= last => {
                past.is_another = self.member.is_another(&self.fetching, &memory, &now).await;
                let last = format!("{}-{}", last.0, last.1);
                past.open = self.held.open().into_iter().collect();
                past.newest = Some(last.clone());
                (last, past)
            }
            (reached, _) => {
                past.is_another = reached.is_some();
                ("0".to_owned(), past)
            }
        })
    }

    pub(super) async fn connect(&mut self) -> Result<(), Fault> {
        self.join().await?;
        self.open().await?;
        // an answer that was lost with the last connection left its entries pending
        self.own = Some("-".to_owned());
        Ok(())
    }

    pub(super) async fn open(&mut self) -> Result<(), Fault> {
        self.reader = Some(Blocking::open(self.link.target()).await.map_err(|error| fault(&error))?);
        Ok(())
    }

    /// Another process has the consumer's name, and all entries that were read under it: this one goes on under a name
    /// that nobody else can have. Taking the old one back would make the two take it from each other for ever.
    pub(super) fn rename(&mut self) {
        let name: Arc<str> = format!("{}-{:.8}", self.consumer, redis_link::incarnation()).into();
        let Member { group, consumer, .. } = &self.member;
        tracing::warn!(
            function = %self.function,
            "consumer '{consumer}' of group '{group}' was taken over by another process, with what it had read: this one \
             goes on as '{name}'; give each process an option 'consumer' of its own"
        );
        self.held.rename(&name);
        self.member.consumer = name;
        (self.named, self.keeper, self.reader, self.reading) = (false, None, None, None);
        self.claimed.clear();
    }
}
