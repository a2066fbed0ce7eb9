//! One transaction of everything that a batch leaves behind: results, states, acknowledgement.
//!
//! A script on the server, in one round trip: it first checks that this very commit has not landed already (its token),
//! that nobody else has got its leases, that this consumer in this incarnation still owns the entries, that the states
//! have the expected versions, and that streams are streams; then it writes everything, and acknowledges. In a Cluster all keys must share a slot
//! ([`slot`](crate::slot())); the channels of messages are no keys.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Pipeline, Script, ScriptInvocation};

use crate::fault::LinkError;
use crate::group::{Member, is_gone};
use crate::link::Link;
use crate::size::Size;

pub use feed_back::feed_back;

mod feed_back;
mod wide;

static COMMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("group/ids.lua"), include_str!("commit/commit.lua"))));

/// The most entries of one commit: the language of the scripts unpacks no more than some thousands of values, and a
/// longer script holds up everybody else on the server.
pub const LARGEST: usize = 1000;

/// Tells a commit from every other one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// A hash that this commit may write to: the register of the consumer, or a state.
    pub key: String,
    /// The field of the hash. One for each who commits, as a new token takes the place of the last one.
    pub field: String,
    /// Never the same for two batches, also not after a restart.
    pub value: String,
}

impl Token {
    /// The token of a consumer's batch: `number` counts the batches of this incarnation.
    #[must_use]
    pub fn of(member: &Member, number: u64) -> Self {
        let Member { consumer, incarnation, .. } = member;
        Self { key: member.register(), field: format!("t:{consumer}"), value: format!("{incarnation}:{number}") }
    }
}

/// A lease that whoever commits must still have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The hash of the [`Lease`](crate::Lease).
    pub key: String,
    /// Who must be its holder. One whose time is over, and whom nobody has followed, still is.
    pub holder: String,
    /// What the commit is made of, noted for whoever has the lease next; without it the last note stays.
    pub fingerprint: Option<Vec<u8>>,
}

/// Entries of a stream that a commit acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAck {
    /// Who must own them.
    pub member: Member,
    /// The entries, 1000 at most.
    pub ids: Vec<String>,
}

/// A state in a hash, and what changes in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateWrite {
    /// The hash.
    pub key: String,
    /// The version that it must have, in the field `v`; 0 where there must be none.
    pub base: u64,
    /// The version that it gets.
    pub version: u64,
    /// Which of several states that had this key one after the other, in the field `l`: the one that it must be, or that a
    /// new one becomes. 0 for one that does not say.
    pub life: u64,
    /// Whether everything that is there goes first.
    pub clear: bool,
    /// Fields that get these values.
    pub set: Vec<(Vec<u8>, Vec<u8>)>,
    /// Fields that go.
    pub remove: Vec<Vec<u8>>,
    /// How long it is kept from now on.
    pub keep: Keep,
}

/// How long a state is kept from a commit on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// As long as it was before.
    #[default]
    AsBefore,
    /// For good, although it had a time before.
    ForGood,
    /// For this time.
    For(Duration),
}

/// A result on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// An entry of a stream.
    Add {
        /// The stream.
        stream: String,
        /// How many entries it keeps, about; 0 keeps all.
        max_length: u64,
        /// Names and values.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// A key, whatever it held before.
    Set {
        /// The key.
        key: String,
        /// What it holds from now on.
        value: Vec<u8>,
        /// How long; without it for good.
        ttl: Option<Duration>,
    },
    /// A message to whoever listens.
    Publish {
        /// The channel.
        channel: String,
        /// The message.
        message: Vec<u8>,
    },
}

impl Write {
    /// Whether a script can write it: it would find out in the middle, with half of everything written.
    fn fits(&self) -> Result<(), LinkError> {
        match self {
            Self::Add { stream, fields, .. } if !(1..=LARGEST).contains(&fields.len()) => Err(LinkError::config(
                format!("an entry for stream '{stream}' has {} fields, which must be 1 to {LARGEST}", fields.len()),
            )),
            _ => Ok(()),
        }
    }

    /// The stream that it adds to.
    fn stream(&self) -> Option<&str> {
        match self {
            Self::Add { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// With this write's values.
    fn measure(&self, size: Size) -> Size {
        match self {
            Self::Add { fields, .. } => {
                fields.iter().fold(size, |size, (name, value)| size.and(name.len()).and(value.len()))
            }
            Self::Set { key, value, .. } => size.and(key.len()).and(value.len()),
            Self::Publish { message, .. } => size.and(message.len()),
        }
    }

    /// Adds the command to a pipeline, for writes that are no part of a transaction. Its answer is not looked at.
    pub fn add_to(&self, pipeline: &mut Pipeline) {
        pipeline.add_command(self.command()).ignore();
    }

    /// The command, for a write that is no part of a transaction.
    #[must_use]
    pub fn command(&self) -> Cmd {
        match self {
            Self::Add { stream, max_length, fields } => {
                let mut add = redis::cmd("XADD");
                add.arg(stream);
                if *max_length > 0 {
                    add.arg("MAXLEN").arg("~").arg(*max_length);
                }
                add.arg("*");
                for (name, value) in fields {
                    add.arg(&name[..]).arg(&value[..]);
                }
                add
            }
            Self::Set { key, value, ttl } => {
                let mut set = redis::cmd("SET");
                set.arg(key).arg(&value[..]);
                if ttl.is_some() {
                    set.arg("PX").arg(millis(*ttl));
                }
                set
            }
            Self::Publish { channel, message } => redis::cmd("PUBLISH").arg(channel).arg(&message[..]).take(),
        }
    }
}

/// One batch's effects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Makes a repetition after a lost answer harmless. Without one it writes again.
    pub token: Option<Token>,
    /// What this process must hold.
    pub fences: Vec<Fence>,
    /// What is acknowledged; nothing where the source is none of streams.
    pub ack: Option<StreamAck>,
    /// What must have which version, and changes.
    pub states: Vec<StateWrite>,
    /// What is written, in this order.
    pub writes: Vec<Write>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is written.
    Done,
    /// The same, but a message was refused: its channel, and the server's words.
    Unheard(String),
    /// Everything had been written by an earlier try, whose answer was lost. Nothing is written twice.
    Again,
    /// These entries belong to another consumer or incarnation by now, or are acknowledged. Nothing is written: drop what
    /// came of them and commit the rest.
    Lost(Vec<String>),
    /// The group has been set back before these entries, which nobody has: it gives them out once more. Nothing is written.
    Unread(Vec<String>),
    /// The consumer group is gone, perhaps with its stream: nobody owns any of the entries. Nothing is written.
    Gone,
    /// These states have another version or life, or their keys hold something else: somebody else was there. Nothing is
    /// written, and what was built on them must be discarded.
    Stale(Vec<String>),
    /// Somebody else has a lease, or it was given back. Nothing is written.
    Fenced,
}

impl Commit {
    /// Whether a script can run it.
    ///
    /// # Errors
    /// There are more than 1000 entries, or an entry to be added has no field or more than 1000.
    pub fn fits(&self) -> Result<(), LinkError> {
        let count = self.ack.as_ref().map_or(0, |ack| ack.ids.len());
        if count > LARGEST {
            return Err(LinkError::config(format!(
                "a commit acknowledges {LARGEST} entries at most, not {count}: lower the option 'batch'"
            )));
        }
        self.writes.iter().try_for_each(Write::fits)
    }

    /// As [`run_in`](Self::run_in), of a group that nothing is known of: an entry that is not this consumer's is lost.
    ///
    /// # Errors
    /// As there.
    pub async fn run(&self, link: &Link) -> Result<Verdict, LinkError> {
        self.run_in(link, None).await
    }

    /// Runs the transaction. Entries that this consumer was given by the group with this mark, and that nobody has or has
    /// claimed since, are still its own: the consumer was deleted from the group.
    ///
    /// # Errors
    /// The server is away: repeat the same commit with the same token. A key that is no state's holds something of another
    /// type ([`Trouble::WrongType`](crate::Trouble)), this user may not run one of the commands, or it does not
    /// [fit](Self::fits): nothing is written.
    pub async fn run_in(&self, link: &Link, mark: Option<&str>) -> Result<Verdict, LinkError> {
        self.fits()?;
        let ids = self.ack.as_ref().map_or(&[][..], |ack| &ack.ids);
        let about = self.ack.as_ref().map(|ack| &*ack.member.stream);
        let about = about.or_else(|| self.states.first().map(|state| &*state.key));
        let about = about.or_else(|| self.fences.first().map(|fence| &*fence.key)).unwrap_or_default();
        let (invocation, size) = (self.invocation(mark), self.size());
        let link = &link.patient(size);
        let ran = match self.token {
            Some(_) => link.repeatable_script(&invocation, "EVALSHA", about).await,
            None => link.script(&invocation, "EVALSHA", about).await,
        };
        let answer: Vec<String> = match ran {
            Ok(answer) => answer,
            Err(error) if !ids.is_empty() && is_gone(&error) => return Ok(Verdict::Gone),
            Err(error) => return Err(link.weighed(size, error).await),
        };
        let mut words = answer.into_iter();
        match words.next().as_deref() {
            Some("done") => Ok(match words.next() {
                None => Verdict::Done,
                Some(refused) => Verdict::Unheard(refused),
            }),
            Some("again") => Ok(Verdict::Again),
            Some("lost") => Ok(Verdict::Lost(words.collect())),
            Some("unread") => Ok(Verdict::Unread(words.collect())),
            Some("stale") => Ok(Verdict::Stale(words.collect())),
            Some("fenced") => Ok(Verdict::Fenced),
            Some("denied") => {
                let (command, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                Err(LinkError::denied(link.target(), &command, &key))
            }
            _ => {
                let (key, wanted) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                Err(LinkError::wrong_type(link.target(), &key, &wanted))
            }
        }
    }

    /// Keys that the transaction touches. In a Cluster they must share a slot.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.token.iter().map(|token| token.key.clone()).collect();
        keys.extend(self.fences.iter().map(|fence| fence.key.clone()));
        if let Some(StreamAck { member, .. }) = &self.ack {
            keys.extend([member.register(), member.stream.to_string()]);
        }
        keys.extend(self.states.iter().map(|state| state.key.clone()));
        keys.extend(self.writes.iter().filter_map(|write| match write {
            Write::Add { stream: key, .. } | Write::Set { key, .. } => Some(key.clone()),
            Write::Publish { .. } => None,
        }));
        keys
    }

    /// As far as it is not small anyway.
    fn size(&self) -> Size {
        let states = self.states.iter().flat_map(|state| &state.set);
        let written = self.writes.iter().fold(Size::default(), |size, write| write.measure(size));
        states.fold(written, |size, (name, value)| size.and(name.len()).and(value.len()))
    }

    /// Keys and arguments in the order in which the script takes them.
    fn invocation(&self, mark: Option<&str>) -> ScriptInvocation<'static> {
        let mut call = COMMIT.prepare_invoke();
        call.arg(u8::from(self.token.is_some()));
        if let Some(Token { key, field, value }) = &self.token {
            call.key(key).arg(field).arg(value);
        }
        call.arg(self.fences.len());
        for Fence { key, holder, fingerprint } in &self.fences {
            call.key(key).arg(holder).arg(u8::from(fingerprint.is_some()));
            if let Some(fingerprint) = fingerprint {
                call.arg(&fingerprint[..]);
            }
        }
        match self.ack.as_ref().filter(|ack| !ack.ids.is_empty()) {
            None => {
                call.arg(0);
            }
            Some(StreamAck { member, ids }) => {
                let (first, last) = span(ids);
                call.arg(ids.len()).arg(ids);
                call.key(member.register()).key(&*member.stream).arg(&*member.group);
                call.arg(&*member.consumer).arg(&*member.incarnation);
                call.arg(mark.map_or_else(|| "-".to_owned(), |mark| format!("={mark}"))).arg(first).arg(last);
            }
        }
        call.arg(self.states.len());
        for state in &self.states {
            call.key(&state.key).arg(state.base).arg(state.version).arg(state.life).arg(u8::from(state.clear));
            match state.keep {
                Keep::AsBefore => call.arg(0),
                Keep::ForGood => call.arg("keep"),
                Keep::For(time) => call.arg(millis(Some(time))),
            };
            pairs(&mut call, &state.set);
            call.arg(state.remove.len());
            for field in &state.remove {
                call.arg(&field[..]);
            }
        }
        call.arg(self.writes.len());
        for write in &self.writes {
            match write {
                Write::Add { stream, max_length, fields } => {
                    call.arg("add").key(stream).arg(*max_length);
                    pairs(&mut call, fields);
                }
                Write::Set { key, value, ttl } => {
                    call.arg("set").key(key).arg(millis(*ttl)).arg(&value[..]);
                }
                Write::Publish { channel, message } => {
                    call.arg("publish").arg(channel).arg(&message[..]);
                }
            }
        }
        call
    }
}

/// Names and values, one after the other.
fn pairs(call: &mut ScriptInvocation<'static>, pairs: &[(Vec<u8>, Vec<u8>)]) {
    call.arg(2 * pairs.len());
    for (name, value) in pairs {
        call.arg(&name[..]).arg(&value[..]);
    }
}

/// The least and the greatest id; they sort as numbers, not as texts.
fn span(ids: &[String]) -> (&str, &str) {
    let number = |id: &&String| {
        let (millis, count) = id.split_once('-').unwrap_or((id, "0"));
        (millis.parse::<u64>().unwrap_or_default(), count.parse::<u64>().unwrap_or_default())
    };
    let first = ids.iter().min_by_key(number).map_or("-", String::as_str);
    (first, ids.iter().max_by_key(number).map_or("+", String::as_str))
}

/// 0 where there is none.
fn millis(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_numbers() {
        let ids = ["9-1", "10-0", "9-10"].map(str::to_owned);
        assert_eq!(span(&ids), ("9-1", "10-0"));
    }

    #[test]
    fn keys_are_all_that_is_touched() {
        let member = Member::new("{t}:in", "vm", "a");
        let commit = Commit {
            token: Some(Token::of(&member, 1)),
            fences: vec![Fence { key: "{t}:lease".to_owned(), holder: String::new(), fingerprint: None }],
            ack: Some(StreamAck { member, ids: vec!["1-0".to_owned()] }),
            states: vec![StateWrite { key: "{t}:state".to_owned(), ..StateWrite::default() }],
            writes: vec![
                Write::Add { stream: "{t}:out".to_owned(), max_length: 0, fields: Vec::new() },
                Write::Set { key: "{t}:key".to_owned(), value: Vec::new(), ttl: None },
                Write::Publish { channel: "anywhere".to_owned(), message: Vec::new() },
            ],
        };
        let register = "gaugefn:consumers:{t}:in:vm";
        assert_eq!(commit.keys(), [register, "{t}:lease", register, "{t}:in", "{t}:state", "{t}:out", "{t}:key"]);
        assert!(commit.keys().iter().all(|key| crate::slot(key) == crate::slot("{t}")));
    }
}
