//! Why a function could not be loaded: one line for the user, and a word for the exit code.

use runtime_core::Fault;
use std::fmt;
use std::io;
use std::path::Path;

/// Whose fault a refusal is; each loader turns it into a fault of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is at the path.
    Missing,
    /// What is at the path is of another kind: a folder, a pipe, a text.
    Unsuitable,
    /// It is of the right kind, but unreadable, damaged, hostile, over a limit, or without an entry file.
    Broken,
    /// No folder for temporary files can be written, or it is full.
    Host,
}

/// One line that names what was refused and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is.
    pub reason: Reason,
    text: String,
}

impl Refusal {
    pub(crate) fn missing(text: impl Into<String>) -> Self {
        Self::new(Reason::Missing, text)
    }

    pub(crate) fn unsuitable(text: impl Into<String>) -> Self {
        Self::new(Reason::Unsuitable, text)
    }

    pub(crate) fn broken(text: impl Into<String>) -> Self {
        Self::new(Reason::Broken, text)
    }

    pub(crate) fn host(text: impl Into<String>) -> Self {
        Self::new(Reason::Host, text)
    }

    /// A path that could not be looked at or opened.
    pub(crate) fn unreadable(what: &str, path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Self::missing(format!("{what} {path} does not exist: mount it there or correct the path"))
            }
            io::ErrorKind::PermissionDenied => Self::broken(format!(
                "{what} {path} cannot be read: {}; let user id {} read it",
                plain(error),
                rustix::process::geteuid().as_raw()
            )),
            _ => Self::broken(format!("{what} {path} cannot be read: {}", plain(error))),
        }
    }

    /// The same refusal, with the thing it is about in front.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::Missing => Self::file(refusal.text),
            Reason::Unsuitable | Reason::Broken => Self::function(refusal.text),
            Reason::Host => Self::config(refusal.text),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// The system's sentence in lower case, without the error number that `io::Error` adds.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// A name as it may stand in one line of a message: quoted, control characters escaped, cut when long.
pub(crate) fn quoted(name: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_one_line_and_short() {
        assert_eq!(quoted("a\nb\0"), r"'a\nb\0'");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), 83);
    }

    #[test]
    fn system_errors_lose_their_number_and_capital() {
        assert_eq!(plain(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }

    #[test]
    fn a_missing_path_says_what_to_do() {
        let error = io::Error::from_raw_os_error(2);
        let refusal = Refusal::unreadable("zip", Path::new("/x/f.zip"), &error);
        assert_eq!(refusal.reason, Reason::Missing);
        assert_eq!(refusal.to_string(), "zip /x/f.zip does not exist: mount it there or correct the path");
    }
}
