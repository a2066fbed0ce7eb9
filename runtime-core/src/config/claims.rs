//! What the components of a process work with outside of it, and where they would get into each other's way: two
//! functions with one consumer group, or a function that is fed with its own results.

use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::section::Problem;
use super::settings::Choice;
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
        Self { option, thing: thing.into(), identity: format!("{place} {name}"), hold }
    }

    /// A file, by its place on this machine.
    #[must_use]
    pub fn file(option: &'static str, hold: Hold, path: &Path) -> Self {
        let thing = format!("file '{}'", path.display());
        Self::new(option, hold, "file", &super::os_text::text(located(path).as_os_str()), thing)
    }
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
    }
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
