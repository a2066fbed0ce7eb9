//! What a consumer has: kept from others, taken over from them, had again after the consumer was deleted.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::reply::{integer, text, texts};
use super::{Member, millis};
use crate::fault::LinkError;
use crate::link::Link;

static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("ids.lua"), include_str!("beat.lua"))));
static CLAIM: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("ids.lua"), include_str!("claim.lua"))));
static REVIVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("ids.lua"), include_str!("revive.lua"))));

/// What became of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// Another group has taken the place of the one that was joined.
    Regrouped,
    /// The others that are held have an idle time of 0.
    Lost {
        /// These belong to somebody else by now, or have been claimed from this consumer.
        others: Vec<String>,
        /// These to nobody: they are acknowledged, or the consumer was deleted from its group.
        nobodys: Vec<String>,
    },
    /// Another incarnation has taken the name over, and all entries with it.
    Replaced,
}

impl Member {
    /// Takes over up to `count` entries that nobody has touched for `idle`, from `cursor` on (`0-0` at first), without
    /// raising their delivery counts; the register notes from whom. The next cursor (`0-0` at the end), and their ids;
    /// entries that were deleted are among the ids where the server is older than 7.0, and otherwise only counted.
    ///
    /// # Errors
    /// As for [`Link::script`]; the register is none.
    pub async fn claim(
        &self,
        link: &Link,
        idle: Duration,
        cursor: &str,
        count: usize,
    ) -> Result<(String, Vec<String>, usize), LinkError> {
        let mut script = self.invocation(&CLAIM);
        script.arg(millis(idle)).arg(cursor).arg(count);
        let mut answer = self.ask(link, &script, "XAUTOCLAIM").await?.into_iter();
        let next = answer.next().as_ref().and_then(text).unwrap_or("0-0").to_owned();
        let ids = texts(answer.next());
        let deleted = answer.next().as_ref().and_then(integer).and_then(|count| usize::try_from(count).ok());
        Ok((next, ids, deleted.unwrap_or_default()))
    }

    /// Keeps entries of the group with this mark from being claimed by others (`held`), and looks whether further ones are
    /// still this consumer's (`known`). Their delivery counts stay. Whether others had claimed those that are `let_go` is
    /// asked no more.
    ///
    /// # Errors
    /// As for [`Link::script`]; the register is none.
    pub async fn beat(
        &self,
        link: &Link,
        mark: &str,
        held: &[String],
        known: &[String],
        let_go: &[String],
    ) -> Result<Beat, LinkError> {
        let mut script = self.invocation(&BEAT);
        script.arg(mark).arg(held.len()).arg(let_go.len()).arg(held).arg(let_go).arg(known);
        let (word, rest) = self.answer(link, &script, "XCLAIM").await?;
        let mut rest = rest.into_iter();
        Ok(match &*word {
            "replaced" => Beat::Replaced,
            "regrouped" => Beat::Regrouped,
            _ => Beat::Lost { others: texts(rest.next()), nobodys: texts(rest.next()) },
        })
    }

    /// Makes entries pending again that this consumer had from the group with this mark until it was deleted from it, unless
    /// somebody has them, or has claimed them. Which of them are this consumer's now.
    ///
    /// # Errors
    /// As for [`Link::script`]; the register is none.
    pub async fn revive(&self, link: &Link, mark: &str, ids: &[String]) -> Result<Vec<String>, LinkError> {
        let mut script = self.invocation(&REVIVE);
        script.arg(mark).arg(ids);
        let mut answer = self.ask(link, &script, "XCLAIM").await?.into_iter();
        Ok(texts(answer.next()))
    }
}
