//! How a consumer comes into its group, also into one that has taken the place of another.

use std::sync::LazyLock;

use redis::Script;

use super::reply::{integer, text, texts};
use super::{Member, incarnation};
use crate::fault::LinkError;
use crate::link::Link;

static JOIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("ids.lua"), include_str!("join.lua"))));

/// What [`Member::join`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The name is this incarnation's. Whether the group was made just now.
    Ours {
        /// It was not there, nor was its stream perhaps.
        made: bool,
    },
    /// Another incarnation has taken the name over.
    Replaced,
}

/// What a process knows of the group that it joined last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// The life of the stream that was read, empty where none was.
    pub life: String,
    /// The stream that is there cannot be that one.
    pub is_another: bool,
    /// Its mark, empty where it had none.
    pub mark: String,
    /// The newest entry that was read from it; without it nothing is brought into another group.
    pub newest: Option<String>,
    /// Entries that were read from it and are not done.
    pub open: Vec<String>,
}

/// What [`Member::rejoin`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejoined {
    /// As for [`Member::join`].
    pub joined: Joined,
    /// Whether this process has made the group, now or by a call whose answer was lost.
    pub own: bool,
    /// The newest entry that the group has given to anybody, or the one after which it begins.
    pub reached: String,
    /// The mark of the group, empty where it has none: somebody else has made it.
    pub mark: String,
    /// Open entries of the past that are pending in the group that took the place of the last one.
    pub kept: Vec<String>,
    /// Open entries of the past that the stream has not any more.
    pub deleted: Vec<String>,
    /// A name for the stream from its beginning to its end, however it ends.
    pub life: String,
    /// Whether the stream is another one than that of the past: nothing of that one is in it.
    pub is_another: bool,
}

impl Member {
    /// Makes stream, group and consumer where they are missing, and registers this incarnation: over another one with
    /// `take_over`, otherwise only where there is none. `from` is the id after which a new group begins: `0` for all
    /// entries, `$` for those to come.
    ///
    /// # Errors
    /// The server is away; the key holds no stream.
    pub async fn join(&self, link: &Link, from: &str, take_over: bool) -> Result<Joined, LinkError> {
        self.rejoin(link, from, take_over, &Past::default()).await.map(|rejoined| rejoined.joined)
    }

    /// As [`join`](Self::join), by a process that has been in the group before. Where another group has taken its place,
    /// the open entries become pending in that one, and what this process has read comes to nobody again. What another
    /// consumer has got from the new group meanwhile is left to it.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn rejoin(&self, link: &Link, from: &str, take_over: bool, past: &Past) -> Result<Rejoined, LinkError> {
        let mut script = self.invocation(&JOIN);
        script.arg(from).arg(u8::from(take_over)).arg(format!("{}:{}", self.incarnation, incarnation()));
        script.arg(&past.life).arg(u8::from(past.is_another));
        script.arg(&past.mark).arg(past.newest.as_deref().unwrap_or_default()).arg(&past.open);
        let mut answer = self.ask(link, &script, "XGROUP").await?.into_iter();
        let holder = answer.next().as_ref().and_then(text).map(str::to_owned).unwrap_or_default();
        let made = answer.next().as_ref().and_then(integer) == Some(1);
        let mut word = || answer.next().as_ref().and_then(text).map(str::to_owned).unwrap_or_default();
        let (reached, mark) = (word(), word());
        let mut ids = || texts(answer.next());
        let joined = if *holder == *self.incarnation { Joined::Ours { made } } else { Joined::Replaced };
        let own = mark.starts_with(&*self.incarnation);
        let (kept, deleted) = (ids(), ids());
        let life = answer.next().as_ref().and_then(text).map(str::to_owned).unwrap_or_default();
        let is_another = answer.next().as_ref().and_then(integer) == Some(1);
        Ok(Rejoined { joined, own, reached, mark, kept, deleted, life, is_another })
    }

    /// What is registered of the group that is there: its mark, empty without one, and whether another incarnation has
    /// this consumer's name.
    ///
    /// # Errors
    /// As for [`Link::query`].
    pub async fn standing(&self, link: &Link) -> Result<(String, bool), LinkError> {
        let fields = redis::cmd("HMGET").arg(self.register()).arg("g").arg(format!("i:{}", self.consumer)).take();
        let (mark, holder): (Option<String>, Option<String>) = link.query(&fields).await?;
        let replaced = holder.is_some_and(|holder| *holder != *self.incarnation);
        Ok((mark.unwrap_or_default(), replaced))
    }
}
