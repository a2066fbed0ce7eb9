//! What went wrong: whose fault it is, whether trying again can help, and what to do.

use std::error::Error;
use std::fmt;

/// Bytes of a message that are kept, and of a report: user code may make them of anything.
const MESSAGE: usize = 16 << 10;
const REPORT: usize = 256 << 10;

/// Whose fault it is. It decides the exit code, the metric label and whether the engine backs off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// A setting is wrong: exit 78.
    Config,
    /// A file that a setting names is missing: exit 66.
    File,
    /// The function cannot be loaded (exit 65), or its call failed.
    Function,
    /// The event itself is unusable, whatever the function does: a malformed payload.
    Event,
    /// A server that a component talks to is away or refuses: retried, exit 69 where it is required.
    Backend,
    /// A broken promise of gaugefn itself: exit 70.
    Internal,
}

impl Blame {
    /// The word used in logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::File => "file",
            Self::Function => "function",
            Self::Event => "event",
            Self::Backend => "backend",
            Self::Internal => "internal",
        }
    }

    /// The process's exit code where such a fault ends it (`sysexits.h`).
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Config => 78,
            Self::File => 66,
            Self::Function | Self::Event => 65,
            Self::Backend => 69,
            Self::Internal => 70,
        }
    }
}

/// An error of a component.
///
/// `Display` is one lower-case line that names the thing with its value and says what to do; it does not print
/// the cause. [`Fault::chain`] is the one place that prints the whole chain. A component never sleeps and never
/// tries again by itself: [`Fault::retry`] tells the engine whether it should.
#[derive(Debug)]
pub struct Fault {
    blame: Blame,
    retry: bool,
    fatal: bool,
    message: String,
    report: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    fn new(blame: Blame, retry: bool, message: impl Into<String>) -> Self {
        let message = both_ends(message.into(), MESSAGE);
        Self { blame, retry, fatal: false, message, report: None, source: None }
    }

    /// A setting is wrong; trying again cannot help.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Blame::Config, false, message)
    }

    /// A named file is missing; trying again cannot help.
    pub fn file(message: impl Into<String>) -> Self {
        Self::new(Blame::File, false, message)
    }

    /// The function cannot be loaded or its call failed. The error policy decides about another attempt.
    pub fn function(message: impl Into<String>) -> Self {
        Self::new(Blame::Function, false, message)
    }

    /// The event is unusable; another attempt would fail in the same way.
    pub fn event(message: impl Into<String>) -> Self {
        Self::new(Blame::Event, false, message)
    }

    /// A backend is away or refuses; the engine backs off and tries again.
    pub fn backend(message: impl Into<String>) -> Self {
        Self::new(Blame::Backend, true, message)
    }

    /// A backend's own error, whose display already names the thing and the remedy; its causes become the chain.
    #[must_use]
    pub fn of_backend(error: &dyn Error) -> Self {
        let fault = Self::backend(error.to_string());
        match error.source() {
            Some(cause) => fault.caused_by(cause.to_string()),
            None => fault,
        }
    }

    /// A promise inside gaugefn was broken.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Blame::Internal, false, message)
    }

    /// Adds the cause, which [`Fault::chain`] prints.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Adds a report of several lines for the log: a traceback.
    #[must_use]
    pub fn with_report(mut self, report: impl Into<String>) -> Self {
        self.report = Some(both_ends(report.into(), REPORT));
        self
    }

    /// Trying again cannot help, although the blame alone would suggest it.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retry = false;
        self
    }

    /// The component will never work again: the function ends. A reader of standard output who has gone.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.retry = false;
        self.fatal = true;
        self
    }

    /// Whether the component will never work again.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        self.blame
    }

    /// Whether the engine should back off and repeat the same call to the component.
    #[must_use]
    pub const fn retry(&self) -> bool {
        self.retry
    }

    /// The traceback, where there is one.
    #[must_use]
    pub fn report(&self) -> Option<&str> {
        self.report.as_deref()
    }

    /// The message and all causes in one line, separated by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|cause| &**cause as &(dyn Error + 'static))
    }
}

/// At most so many bytes of a text: from both ends, and how many there were between.
fn both_ends(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let half = most / 2;
    let head = (0..=half).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let tail = (text.len() - half..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("{}\n… {} bytes are left out …\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_text_without_end_both_ends_are_kept() {
        let fault = Fault::function(format!("begin {} end", "é".repeat(MESSAGE))).with_report("x".repeat(REPORT));
        let message = fault.to_string();
        assert!(message.starts_with("begin é") && message.ends_with("é end") && message.len() < MESSAGE + 50);
        let kept = message.chars().filter(|letter| *letter == 'é').count();
        assert!(message.contains(&format!("… {} bytes are left out …", 2 * (MESSAGE - kept))), "{kept}");
        assert_eq!(fault.report().map(str::len), Some(REPORT));
    }

    #[test]
    fn display_leaves_the_cause_to_the_chain() {
        let fault = Fault::backend("redis at h:1 does not answer").caused_by(std::io::Error::other("refused"));
        assert_eq!(fault.to_string(), "redis at h:1 does not answer");
        assert_eq!(fault.chain(), "redis at h:1 does not answer: refused");
        assert!(fault.retry());
        assert!(!fault.permanent().retry());
    }
}
