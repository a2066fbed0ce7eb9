//! Whether a stream is still the one of that name that was read before.
//!
//! Ids alone do not tell: who fills an empty server again may give the same ones, or has gone beyond the last one before
//! anybody looks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use redis::{Script, Value, cmd};

use super::reply::{entries, integer, text};
use super::{Entry, Member};
use crate::fault::LinkError;
use crate::link::Link;

static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("look.lua")));

/// An id as it sorts.
type Id = (u64, u64);

/// A look at a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The last id that it ever had.
    pub last: Id,
    /// How many entries were ever added. None before Redis 7.0.
    added: Option<u64>,
    /// Its first entry.
    first: Option<Id>,
    /// The greatest id that was deleted. None before Redis 7.0.
    deleted: Option<Id>,
    /// Entries behind the id that was asked for, 100 at most.
    behind: u64,
}

/// What a process remembers of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The last look.
    look: Option<Look>,
    /// The newest entry that it was given, and what was in it.
    newest: Option<(String, u64)>,
}

impl Memory {
    /// An entry was read.
    pub fn read(&mut self, entry: &Entry) {
        self.newest = entry.fields.is_some().then(|| (entry.id.clone(), digest(entry)));
    }

    /// The stream was looked at, and is the one that is read.
    pub fn looked(&mut self, look: Look) {
        self.look = Some(look);
    }

    /// Whether what was found later cannot be of the same stream: entries are added behind all others, and taken away,
    /// and nothing else. `newest` is what is there under the id of the newest entry, None where nobody has looked.
    fn is_contradicted(&self, now: &Look, newest: Option<&[Entry]>) -> bool {
        let by_look = self.look.is_some_and(|before| {
            let fewer = before.added.zip(now.added).is_some_and(|(then, now_added)| now_added < then + now.behind);
            // an empty stream has none up to its last id any more
            let earlier = now.first.is_some_and(|first| match before.first {
                Some(then) => first < then,
                None => first <= before.last,
            });
            fewer || earlier || now.last < before.last
        });
        let by_entry = self.newest.as_ref().zip(newest).is_some_and(|((id, content), found)| match found {
            [entry, ..] => digest(entry) != *content,
            // neither deleted nor trimmed
            [] => {
                let id = number(id);
                now.first.is_some_and(|first| Some(first) <= id)
                    && now.deleted.is_some_and(|deleted| Some(deleted) < id)
            }
        });
        by_look || by_entry
    }
}

/// In this process only.
fn digest(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.fields.hash(&mut hasher);
    hasher.finish()
}

fn number(id: &str) -> Option<Id> {
    let (millis, count) = id.split_once('-')?;
    Some((millis.parse().ok()?, count.parse().ok()?))
}

impl Member {
    /// Looks at the stream; None where there is none.
    ///
    /// # Errors
    /// As for [`Link::script`].
    pub async fn look(&self, link: &Link, memory: &Memory) -> Result<Option<Look>, LinkError> {
        let mut script = LOOK.key(&*self.stream);
        script.arg(memory.look.map(|look| format!("{}-{}", look.last.0, look.last.1)).unwrap_or_default());
        let answer: Vec<Value> = link.script(&script, "XINFO", &self.stream).await?;
        let id = |at: usize| answer.get(at).and_then(text).and_then(number);
        let Some(last) = id(0) else { return Ok(None) };
        let behind = answer.get(4).and_then(integer).unwrap_or_default();
        Ok(Some(Look { last, added: answer.get(1).and_then(integer), first: id(2), deleted: id(3), behind }))
    }

    /// Whether the stream of that look is another one than is remembered, as far as that can be told. `link` is for what
    /// may be large; where the newest entry cannot be had, the rest has to do.
    pub async fn is_another(&self, link: &Link, memory: &Memory, now: &Look) -> bool {
        let mut found = None;
        if let Some((id, _)) = &memory.newest {
            found = link.query(cmd("XRANGE").arg(&*self.stream).arg(id).arg(id)).await.map(entries).ok();
        }
        memory.is_contradicted(now, found.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, value: &str) -> Entry {
        Entry { id: id.to_owned(), fields: Some(vec![(b"data".to_vec(), value.as_bytes().to_vec())]) }
    }

    /// Ids 3 to 5 of a stream that had five entries, the first two trimmed.
    fn before() -> Look {
        Look { last: (5, 0), added: Some(5), first: Some((3, 0)), deleted: Some((0, 0)), behind: 0 }
    }

    fn remembered() -> Memory {
        let mut memory = Memory::default();
        memory.looked(before());
        memory.read(&entry("5-0", "five"));
        memory
    }

    #[test]
    fn a_stream_that_goes_on_is_the_same() {
        let memory = remembered();
        let five = [entry("5-0", "five")];
        assert!(!memory.is_contradicted(&before(), Some(&five)));
        let more = Look { last: (9, 0), added: Some(9), behind: 4, ..before() };
        assert!(!memory.is_contradicted(&more, Some(&five)));
        let trimmed = Look { first: Some((7, 0)), ..more };
        assert!(!memory.is_contradicted(&trimmed, Some(&[])));
        let deleted = Look { deleted: Some((5, 0)), ..more };
        assert!(!memory.is_contradicted(&deleted, Some(&[])));
        let old_server = Look { added: None, deleted: None, ..more };
        assert!(!memory.is_contradicted(&old_server, Some(&[])));
        assert!(!Memory::default().is_contradicted(&more, None));
    }

    #[test]
    fn what_cannot_have_come_of_it_is_another() {
        let memory = remembered();
        let five = [entry("5-0", "five")];
        let another = |now: Look, found: &[Entry]| memory.is_contradicted(&now, Some(found));
        let more = Look { last: (9, 0), added: Some(9), behind: 4, ..before() };
        assert!(another(Look { added: Some(8), ..more }, &five), "four came behind five");
        assert!(another(Look { first: Some((1, 0)), ..more }, &five), "it begins before what was trimmed");
        assert!(another(Look { last: (4, 0), ..more }, &[]));
        assert!(another(more, &[entry("5-0", "other")]));
        assert!(another(more, &[]), "the newest entry is not there, and was not deleted");
        let mut emptied = Memory::default();
        emptied.looked(Look { first: None, ..before() });
        assert!(emptied.is_contradicted(&Look { first: Some((4, 0)), ..more }, None));
    }
}
