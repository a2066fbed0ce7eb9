//! The transaction of the domain "one Redis server and database": what source, sinks, store and dead letters enlist
//! becomes one script on the server.
//!
//! The parts are those of `redis_link::commit`: at most one `StreamAck` (of the source), any number of `Vec<Write>`
//! (sinks, dead letters, what is fed back) and `Vec<StateWrite>` (the store), and a `Fence` for each lease.
//!
//! A commit gets its token when it is put together, so that running it again after an answer that was lost finds that
//! it has landed. The token lies in the register of the stream's consumers, else beside the first state, else in the
//! lease; a commit that has none of them has no token, and may write its results twice.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redis_link::commit::{Commit, Fence, StateWrite, StreamAck, Token, Verdict, Write};
use redis_link::group::{Memory, is_gone};
use redis_link::slot::{apart, is_cluster};
use redis_link::{Link, LinkError, Member, Trouble, slot};
use runtime_core::Fault;
use runtime_core::contract::{Decision, Prepared, Transaction};

use crate::redis_stream::Held;
use crate::shared::fault;

/// The field of a state or of a lease with the token of its last commit.
const TOKEN: &str = "t";

/// Runs commits on one server.
pub(crate) struct RedisTransaction {
    link: Link,
    /// Part of the tokens: two processes, or two lives of one, never have the same.
    incarnation: String,
    /// Commits that were put together.
    count: AtomicU64,
    /// What was last told of messages that were refused.
    unheard: Arc<Mutex<String>>,
    /// The entries that they acknowledge, where the source is a stream.
    held: Option<Arc<Held>>,
}

impl RedisTransaction {
    pub(crate) fn new(link: Link) -> Arc<Self> {
        Self::hearing(link, None)
    }

    /// Tells what became of entries.
    pub(crate) fn of_stream(link: Link, held: Arc<Held>) -> Arc<Self> {
        Self::hearing(link, Some(held))
    }

    fn hearing(link: Link, held: Option<Arc<Held>>) -> Arc<Self> {
        let (incarnation, count) = (redis_link::incarnation(), AtomicU64::new(0));
        Arc::new(Self { link, incarnation, count, unheard: Arc::default(), held })
    }

    fn token(&self, commit: &Commit) -> Option<Token> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(ack) = &commit.ack {
            return Some(Token::of(&ack.member, number));
        }
        let beside = commit.states.first().map(|state| &state.key);
        let key = beside.or_else(|| commit.fences.first().map(|fence| &fence.key))?.clone();
        Some(Token { key, field: TOKEN.to_owned(), value: format!("{}:{number}", self.incarnation) })
    }
}

#[async_trait]
impl Transaction for RedisTransaction {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn prepare(&self, parts: Vec<Box<dyn Any + Send>>) -> Result<Box<dyn Prepared>, Fault> {
        let mut commit = Commit::default();
        for part in parts {
            add(&mut commit, part)?;
        }
        commit.fits().map_err(|error| fault(&error))?;
        commit.token = self.token(&commit);
        let (unheard, held) = (Arc::clone(&self.unheard), self.held.clone());
        Ok(Box::new(RedisCommit { link: self.link.clone(), commit, unheard, held }))
    }

    async fn obstacle(&self, keys: &[String]) -> Result<Option<String>, Fault> {
        let Some((one, other)) = apart(keys) else {
            return Ok(None);
        };
        if !is_cluster(&self.link).await.map_err(|error| fault(&error))? {
            return Ok(None);
        }
        Ok(Some(format!(
            "keys '{one}' (slot {}) and '{other}' (slot {}) may lie on different servers of the Cluster at {}, which no \
             transaction spans: give all of them the same hash tag, such as '{{vm}}'",
            slot(one),
            slot(other),
            self.link.target().place()
        )))
    }
}

fn add(commit: &mut Commit, part: Box<dyn Any + Send>) -> Result<(), Fault> {
    let part = match part.downcast::<Vec<Write>>() {
        Ok(writes) => {
            commit.writes.extend(*writes);
            return Ok(());
        }
        Err(part) => part,
    };
    let part = match part.downcast::<Vec<StateWrite>>() {
        Ok(states) => {
            commit.states.extend(*states);
            return Ok(());
        }
        Err(part) => part,
    };
    let part = match part.downcast::<Fence>() {
        Ok(fence) => {
            commit.fences.push(*fence);
            return Ok(());
        }
        Err(part) => part,
    };
    match part.downcast::<StreamAck>() {
        Ok(ack) if commit.ack.is_none() => {
            commit.ack = Some(*ack);
            Ok(())
        }
        Ok(_) => Err(Fault::internal("a commit in redis acknowledges entries of two batches")),
        Err(_) => Err(Fault::internal("a commit in redis has a part that redis does not know")),
    }
}

fn come_again(Member { stream, group, .. }: &Member) -> String {
    format!("group '{group}' of stream '{stream}' was deleted; what the stream still has of them comes again")
}

fn gone_with(Member { stream, .. }: &Member, events: Vec<String>) -> Decision {
    Decision::Gone { events, why: format!("stream '{stream}' has not their entries any more") }
}

/// One commit, with its token.
struct RedisCommit {
    link: Link,
    commit: Commit,
    unheard: Arc<Mutex<String>>,
    held: Option<Arc<Held>>,
}

#[async_trait]
impl Prepared for RedisCommit {
    async fn run(&self) -> Result<Decision, Fault> {
        // that of the group which the entries were read from, or have been brought into
        let ids = self.commit.ack.as_ref().map_or(&[][..], |ack| &ack.ids);
        let held = self.held.as_ref();
        let mark = held.map(|held| held.mark());
        let _alone = match held {
            Some(held) => Some(held.pass().await),
            None => None,
        };
        if let (Some(ack), Some(held)) = (&self.commit.ack, held) {
            let deleted = held.deleted(ids);
            if !deleted.is_empty() {
                // another stream may have entries of these ids
                return Ok(gone_with(&ack.member, deleted));
            }
            held.begin(ids);
        }
        let ran = self.commit.run_in(&self.link, mark.as_deref()).await;
        if ran.is_ok() {
            held.inspect(|held| held.end(ids));
        }
        let mark = mark.unwrap_or_default();
        match ran {
            Ok(verdict @ (Verdict::Done | Verdict::Unheard(_) | Verdict::Again)) => {
                self.done(&verdict, &mark).await.map_err(|error| fault(&error))?;
                if let Verdict::Unheard(why) = verdict {
                    self.tell(why);
                }
                Ok(Decision::Done)
            }
            Ok(Verdict::Lost(ids)) => self.lost(ids, &mark).await.map_err(|error| fault(&error)),
            Ok(Verdict::Unread(ids)) => self.unread(ids, &mark).await.map_err(|error| fault(&error)),
            Ok(Verdict::Gone) => self.gone().await.map_err(|error| fault(&error)),
            Ok(Verdict::Stale(_)) => Ok(Decision::Stale),
            Ok(Verdict::Fenced) => Ok(Decision::Fenced),
            Err(error) => match self.unfit(&error) {
                Some(key) => Ok(Decision::Unfit { key, why: fault(&error).chain() }),
                None => Err(fault(&error)),
            },
        }
    }
}

impl RedisCommit {
    /// Entries are done. Where another group has taken the place of the first one since they were committed, they may have
    /// been brought into that one, and would come again.
    async fn done(&self, verdict: &Verdict, mark: &str) -> Result<(), LinkError> {
        let (Some(StreamAck { member, ids }), Some(held)) = (&self.commit.ack, &self.held) else { return Ok(()) };
        held.close(ids);
        if *verdict != Verdict::Again && held.mark() == mark {
            return Ok(());
        }
        match member.acknowledge(&self.link, ids).await {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Who has entries that are not this consumer's: others, or nobody, as they are of the group with this mark, which is
    /// gone.
    async fn lost(&self, ids: Vec<String>, before: &str) -> Result<Decision, LinkError> {
        let (Some(StreamAck { member, .. }), Some(held)) = (&self.commit.ack, &self.held) else {
            return Ok(Decision::Lost(ids));
        };
        let deleted = held.deleted(&ids);
        if !deleted.is_empty() {
            return Ok(gone_with(member, deleted));
        }
        let (mark, replaced) = member.standing(&self.link).await?;
        if replaced {
            held.replace(&member.consumer);
        } else if !mark.is_empty() && mark != before {
            held.regroup();
            return Ok(Decision::Gone { events: ids, why: come_again(member) });
        }
        held.lose(&ids);
        Ok(Decision::Lost(ids))
    }

    /// Entries that nobody has and that the group gives out once more, unless they are of the one before.
    async fn unread(&self, ids: Vec<String>, before: &str) -> Result<Decision, LinkError> {
        Ok(match (self.lost(ids, before).await?, &self.commit.ack) {
            (Decision::Lost(events), Some(StreamAck { member: Member { stream, group, .. }, .. })) => {
                let why =
                    format!("group '{group}' of stream '{stream}' was set back before their events, which come again");
                Decision::Gone { events, why }
            }
            (decision, _) => decision,
        })
    }

    /// The group is not there.
    async fn gone(&self) -> Result<Decision, LinkError> {
        let Some(StreamAck { member, ids }) = &self.commit.ack else { return Ok(Decision::Lost(Vec::new())) };
        if let Some(held) = &self.held {
            held.regroup();
        }
        let why = match member.look(&self.link, &Memory::default()).await? {
            Some(_) => come_again(member),
            None => format!("stream '{}' is gone, and their entries with it", member.stream),
        };
        Ok(Decision::Gone { events: ids.clone(), why })
    }

    /// The key that the results cannot be added to, which would be the same with each further try. What is wrong with a
    /// state or with a lease holds up everything, and waits until somebody puts it right.
    fn unfit(&self, error: &LinkError) -> Option<String> {
        if error.kind() == Trouble::TooLarge {
            return Some(String::new());
        }
        let adds_to = |key: &&str| {
            let to = |write: &Write| matches!(write, Write::Add { stream, .. } if stream == key);
            self.commit.writes.iter().any(to)
        };
        match error.wrong_key().filter(adds_to) {
            Some(key) => Some(key.to_owned()),
            // keys that depend on the results may lie apart
            None => (error.code().as_deref() == Some("CROSSSLOT")).then(String::new),
        }
    }

    /// Once, as long as the server says the same.
    fn tell(&self, why: String) {
        let mut told = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != why {
            let place = self.link.target().place();
            tracing::warn!(
                "redis at {place} took the results, but no message on channel {why}; allow this user the channel (&NAME) and +publish, or remove the sink's option 'publish'"
            );
            *told = why;
        }
    }
}
