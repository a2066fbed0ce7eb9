//! What the components of a process work with outside of it, and where they would get into each other's way: two
//! functions with one consumer group, or a function that is fed with its own results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::Reader;
use super::section::Problem;
use super::settings::Choice;
use crate::contract::Address;
use crate::pointer::Pointer;
use crate::registry::{Around, Role};

/// One thing outside of the process that a component works with: a key, a group, a file.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The option that names it, or would.
    option: &'static str,
    /// As it stands in messages: `stream 's'`.
    thing: String,
    /// The same for everybody who means this thing, whatever they call it.
    identity: String,
    hold: Hold,
    keeps: Keeps,
}

/// Whether it is the component's own, where no result belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    /// That, and the lease beside it.
    One,
    /// The same, and one for each value, whose JSON text is behind the name and a colon.
    Many,
}

/// What a component does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It has it alone: nobody else of the process may write to it. What would become of two that have it.
    Alone(&'static str),
    /// It writes to it, as others may.
    Writes,
    /// Its events come from it.
    Reads,
}

impl Claim {
    /// `place` is where the thing is, `name` what it is called there, and `thing` stands for both in messages.
    pub fn new(option: &'static str, hold: Hold, place: &str, name: &str, thing: impl Into<String>) -> Self {
        Self { option, thing: thing.into(), identity: identity(place, name), hold, keeps: Keeps::Nothing }
    }

    /// The component keeps there what is its own, and beside it a lease (`NAME:lease`); with a key one for each value
    /// (`NAME:VALUE`).
    #[must_use]
    pub const fn kept(mut self, keyed: bool) -> Self {
        self.keeps = if keyed { Keeps::Many } else { Keeps::One };
        self
    }

    /// Whether what has this identity is it, or beside it.
    fn has(&self, identity: &str) -> bool {
        match identity.strip_prefix(&self.identity) {
            None => false,
            Some("") => true,
            Some(":lease") => self.keeps != Keeps::Nothing,
            Some(rest) => {
                let value = rest.strip_prefix(':').filter(|_| self.keeps == Keeps::Many);
                value.is_some_and(|value| Pointer::new("").find(value.as_bytes()).is_some())
            }
        }
    }

    /// A file, by its place on this machine.
    #[must_use]
    pub fn file(option: &'static str, hold: Hold, path: &Path) -> Self {
        let thing = format!("file '{}'", path.display());
        Self::new(option, hold, "file", &super::os_text::text(located(path).as_os_str()), thing)
    }
}

fn identity(place: &str, name: &str) -> String {
    format!("{place} {name}")
}

/// The path as everybody would have it. The file itself need not be there, and may be a link that will be replaced.
fn located(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, whole.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => whole,
    }
}

/// A claim with whose it is.
pub(super) struct Claimed {
    function: String,
    /// The component's table.
    part: String,
    /// Whether its events are newest values.
    latest: bool,
    /// Whether its events come from a queue that keeps them until they are done.
    queue: bool,
    /// Place and origin of the option.
    at: Problem,
    claim: Claim,
}

impl Reader {
    /// Notes what a component works with.
    pub(super) fn claim<R: Role + ?Sized>(&mut self, function: &str, choice: &Choice<R>) {
        let around = Around { function, shared: &self.shared };
        let claims = (choice.entry.claims)(&choice.section, &around);
        self.claims.extend(claims.into_iter().map(|claim| Claimed {
            function: function.to_owned(),
            part: choice.section.path().to_owned(),
            latest: choice.entry.latest_value,
            queue: choice.entry.keeps_events,
            at: choice.section.problem(claim.option, ""),
            claim,
        }));
    }

    /// Compares everything that was noted.
    pub(super) fn compare_claims(&mut self) {
        let claims = std::mem::take(&mut self.claims);
        for (at, claimed) in claims.iter().enumerate() {
            if let Some(problem) = claims[..at].iter().find_map(|earlier| collision(earlier, claimed)) {
                self.problems.push(problem);
            }
            match claims[..at].iter().find_map(|earlier| feedback(earlier, claimed)) {
                // somebody may want that: one value after the other, or a queue until a result is empty
                Some((problem, true)) => self.warnings.push(problem),
                Some((problem, false)) => self.problems.push(problem),
                None => {}
            }
        }
        self.taken = Taken(claims.into());
    }
}

/// What results whose texts say where they go must keep away from.
#[derive(Clone, Default)]
pub struct Taken(Arc<[Claimed]>);

/// Names that begin so are gaugefn's own, in whatever process: states, leases, dead letters, consumers.
const OWN: &str = "gaugefn:";

impl Taken {
    /// Why a result of this function must not go there, as a sentence that begins with the place; None where it may. As
    /// for places that are configured, but for the function's own input: whoever configures that may mean it.
    #[must_use]
    pub fn refuses(&self, function: &str, address: &Address) -> Option<String> {
        let Address { place, name, kind } = address;
        let to = identity(place, name);
        let thing = format!("{kind} '{}'", shown(name));
        for Claimed { function: owner, part, queue, claim, .. } in
            self.0.iter().filter(|claimed| claimed.claim.has(&to))
        {
            match claim.hold {
                _ if claim.keeps != Keeps::Nothing => return Some(format!("{thing} is {part}'s own")),
                Hold::Alone(_) => return Some(format!("{thing} belongs to {part}")),
                Hold::Reads if owner == function => {
                    return Some(format!("{thing} is what {part} reads: it would come back as input"));
                }
                Hold::Reads if *queue && !claim.thing.starts_with(kind) => {
                    return Some(format!("{thing} is what {part} reads: the result would take its place"));
                }
                Hold::Reads | Hold::Writes => {}
            }
        }
        name.starts_with(OWN).then(|| format!("{thing} begins with '{OWN}', as gaugefn's own keys do"))
    }
}

/// A name may be as long as an event.
fn shown(name: &str) -> String {
    const SHOWN: usize = 80;
    let mut text: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

/// Two that cannot both have what they want.
fn collision(earlier: &Claimed, later: &Claimed) -> Option<Problem> {
    if earlier.claim.identity != later.claim.identity {
        return None;
    }
    let why = match (earlier.claim.hold, later.claim.hold) {
        (Hold::Alone(why), Hold::Alone(_)) => why,
        (Hold::Alone(_), Hold::Writes) | (Hold::Writes, Hold::Alone(_)) => {
            "each would spoil what the other keeps there"
        }
        _ => return None,
    };
    let Claim { option, thing, .. } = &later.claim;
    let message = format!("{thing} belongs to {} as well: {why}; name another {option}", earlier.part);
    Some(Problem { message, ..later.at.clone() })
}

/// A function that writes where its own events come from; whether that may be meant.
fn feedback(earlier: &Claimed, later: &Claimed) -> Option<(Problem, bool)> {
    if earlier.claim.identity != later.claim.identity || earlier.function != later.function {
        return None;
    }
    let (reader, writer) = match (earlier.claim.hold, later.claim.hold) {
        (Hold::Reads, Hold::Writes | Hold::Alone(_)) => (earlier, later),
        (Hold::Writes | Hold::Alone(_), Hold::Reads) => (later, earlier),
        _ => return None,
    };
    let Claim { option, thing, .. } = &writer.claim;
    let fed = format!("{thing} is what {} reads: what is written there comes back as input", reader.part);
    let (message, meant) = if reader.latest {
        (format!("{fed}; name another {option}, unless that is meant"), true)
    } else if reader.queue && reader.claim.thing != *thing {
        (
            format!(
                "{thing} is what {} reads: what is written there takes its place; name another {option}",
                reader.part
            ),
            false,
        )
    } else if reader.queue && writer.claim.hold == Hold::Writes {
        (format!("{fed}, until a result is empty; name another {option}, unless that is meant"), true)
    } else {
        (format!("{fed}, for ever; name another {option}"), false)
    };
    Some((Problem { message, ..writer.at.clone() }, meant))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_every_path() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &other).unwrap();
        assert_eq!(located(&other.join("./a")), located(&folder.path().join("a")));
        assert_eq!(located(Path::new("a")), located(Path::new("./a")));
        assert_eq!(located(Path::new("/no/such/a")), Path::new("/no/such/a"));
    }
}
