//! What is wrong with a text or a value, and where.

use std::fmt;

/// Why a value cannot be written or a text cannot be read. `Display` names the place and says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    /// The innermost step first.
    steps: Vec<String>,
    reason: Reason,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The text ends in the middle.
    #[error("the text ends at byte {0}, in the middle: it was torn or cut off; restore it from a copy, or delete it")]
    Torn(usize),
    /// It is no JSON.
    #[error("{wanted} was expected at byte {at}; mend the text, or delete it")]
    Syntax {
        /// Offset in the text, counted from 0.
        at: usize,
        /// What should have stood there.
        wanted: &'static str,
    },
    /// A tag that this version does not know.
    #[error(
        "unknown tag '{0}', written by a newer version; run that version, or delete this state (a dict with such a \
         key is written as {{\"$dict\":[[key,value],…]}})"
    )]
    UnknownTag(String),
    /// Containers in containers beyond [`DEPTH`](crate::DEPTH).
    #[error("nested more than {} levels deep; keep the state flatter", crate::DEPTH)]
    Deep,
    /// What stands there does not fit its tag or its place.
    #[error("{0}")]
    Unfit(String),
}

impl Error {
    /// Puts a step in front of the path: the error was met inside of it.
    #[must_use]
    pub fn within(mut self, step: impl Into<String>) -> Self {
        self.0.steps.push(step.into());
        self
    }

    /// What is wrong, without the place.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// The place, such as `$.window[3]`.
    pub fn path(&self) -> String {
        let mut path = String::from("$");
        self.0.steps.iter().rev().for_each(|step| path.push_str(step));
        path
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self(Box::new(Inner { steps: Vec::new(), reason }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.steps.is_empty() {
            return write!(f, "{}", self.0.reason);
        }
        write!(f, "{}: {}", self.path(), self.0.reason)
    }
}

impl std::error::Error for Error {}

/// A reason that needs its own words.
pub(crate) fn unfit(text: impl Into<String>) -> Reason {
    Reason::Unfit(text.into())
}
