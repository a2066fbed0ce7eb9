//! Lines that a function printed or logged, on their way into the log as records of their own.
//!
//! One target, `function`, so that a filter can tell them from gaugefn's own lines.

mod lines;
mod passing;

use tracing::Level;

pub use lines::{LONGEST, Lines};
pub use passing::passing;

/// The target of all records.
pub const TARGET: &str = "function";

/// One line or message of user code.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The function's label.
    pub function: &'a str,
    /// The event that was being worked on, empty between events.
    pub event: &'a str,
    /// `stdout`, `stderr`, or the logger's name.
    pub stream: &'a str,
    /// The worker process that it came from; none for the runtime's own process.
    pub worker: Option<u32>,
    /// The text, without its final line break; may have several lines.
    pub text: &'a str,
}

/// Writes a record at this level.
pub fn write(level: Level, record: Record<'_>) {
    let Record { function, event, stream, worker, text } = record;
    // tracing fixes the level of a call site at compile time
    macro_rules! at {
        ($level:ident) => {
            tracing::event!(target: TARGET, Level::$level, function, event, stream, worker, "{text}")
        };
    }
    match level {
        Level::ERROR => at!(ERROR),
        Level::WARN => at!(WARN),
        Level::INFO => at!(INFO),
        Level::DEBUG => at!(DEBUG),
        Level::TRACE => at!(TRACE),
    }
}
