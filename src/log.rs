//! gaugefn's own words and those of user code, on standard error.

use std::backtrace::Backtrace;
use std::fmt::{self, Debug, Write};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use queue::{Patience, Queue};
use runtime_core::config::settings::{LogFormat, LogOptions};
use runtime_core::records;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

mod queue;

/// The filter that a level or filter text means.
///
/// # Errors
/// A sentence that names the text.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    // a misspelt level would otherwise pass as the name of a target
    let words =
        text.split(',').map(|directive| directive.rsplit('=').next().unwrap_or(directive).trim().to_lowercase());
    for word in words {
        if !["error", "warn", "info", "debug", "trace", "off"].contains(&word.as_str()) {
            return Err(format!(
                "'{text}' is no level; write error, warn, info, debug, trace, or a filter such as info,function=debug"
            ));
        }
    }
    // what a function logs at DEBUG was let through by its own configuration already
    let own = if text.trim().eq_ignore_ascii_case("info") { format!("{text},function=trace") } else { text.to_owned() };
    EnvFilter::try_new(own).map_err(|error| format!("'{text}' is no filter: {error}"))
}

/// What stands between a line's function and its text on the way into the queue; no name has it.
const BORDER: char = '\0';

/// How long a function in this process that prints faster than the log is read is slowed down, once, before lines are
/// dropped.
const INLINE: Patience = Patience { moving: Duration::from_millis(8), anyway: Duration::ZERO };

/// Those who hear the workers hear slowly while nobody reads: a worker drops a line for far less than this process does.
const HEARD: Patience = Patience { anyway: Duration::from_millis(5), ..INLINE };

/// Where somebody looks on: who pages through the output of `invoke` wants all of it.
const LOOKING_ON: Patience = Patience { moving: Duration::from_secs(1), anyway: Duration::ZERO };

static QUEUE: OnceLock<Queue> = OnceLock::new();

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Takes a private copy of standard error, on which everything is said from now on. To be called before anything else
/// is made of descriptor 2.
///
/// # Errors
/// The process has no descriptors left.
pub(crate) fn open() -> std::io::Result<()> {
    let stderr = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3)?;
    // a second one would be a slip of ours that costs nothing
    let _ = QUEUE.set(Queue::to(stderr.into()));
    Ok(())
}

/// Says this as it is, in a line of its own.
pub(crate) fn say(text: &str) {
    if let Some(queue) = QUEUE.get() {
        queue.put("", format!("{text}\n").as_bytes(), LOOKING_ON);
    }
}

/// Waits until what was said before is written, if standard error takes it.
pub(crate) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.finish(false);
    }
}

/// The same at the end of the process.
pub(crate) fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.finish(true);
    }
}

/// Begins to log on standard error. Only the first call of a process counts.
pub(crate) fn start(options: &LogOptions) {
    begin(options, LOOKING_ON);
}

/// Begins to log under `run`: where each line is to be JSON, what user code writes past the log becomes lines of it, of
/// this function. None runs in this process, or several, which have an empty name.
pub(crate) fn start_for(options: &LogOptions, function: Option<&str>) {
    let captured = match options.format {
        LogFormat::Json => crate::stdio::capture(function.unwrap_or_default()),
        LogFormat::Text => Ok(()),
    };
    begin(options, if function.is_some() { INLINE } else { HEARD });
    if let Err(error) = captured {
        tracing::warn!("what user code writes to descriptors 1 and 2 is no json: {error}");
    }
}

fn begin(options: &LogOptions, patience: Patience) {
    let _ = FORMAT.set(options.format);
    let filter = filter(&options.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // of what cannot be written the library would speak on standard error, and panic if that fails as well
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines { patience })
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match options.format {
        LogFormat::Text => lines.event_format(Named(Text)).try_init(),
        LogFormat::Json => {
            let json = tracing_subscriber::fmt::format().json();
            let json = json.flatten_event(true).with_current_span(false).with_span_list(false);
            lines.fmt_fields(JsonFields::new()).event_format(Named(json)).try_init()
        }
    };
    // a second start would be a slip of ours that costs nothing
    if started.is_ok() {
        // std's own would wait for standard error
        std::panic::set_hook(Box::new(|panic| {
            let name = std::thread::current().name().unwrap_or("unnamed").to_owned();
            tracing::error!("thread '{name}' {panic}\n{}", Backtrace::capture());
        }));
    }
}

/// The line that says how many were dropped; nothing where the log is to have no such lines.
fn dropped(lines: u64, why: Option<&str>) -> String {
    if !tracing::enabled!(Level::WARN) {
        return String::new();
    }
    let s = if lines == 1 { " of the log was" } else { "s of the log were" };
    let why = why.map_or("not read in time".to_owned(), |why| format!("could not be written: {why}"));
    let message = format!("{lines} line{s} dropped: {why}");
    let (target, mut time) = (module_path!(), String::new());
    // writing to a string cannot fail
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    if FORMAT.get() == Some(&LogFormat::Json) {
        let line = serde_json::json!({ "timestamp": time, "level": "WARN", "message": message, "target": target });
        format!("{line}\n")
    } else {
        format!("{time}  WARN {target}: {message}\n")
    }
}

/// Each record becomes one entry of the queue.
struct Lines {
    /// With what a function says; gaugefn's own words never wait.
    patience: Patience,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Entry;

    fn make_writer(&'a self) -> Entry {
        Entry { patience: Patience::default() }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Entry {
        Entry { patience: if of.target() == records::TARGET { self.patience } else { Patience::default() } }
    }
}

struct Entry {
    patience: Patience,
}

impl std::io::Write for Entry {
    /// Is given a whole record.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(queue) = QUEUE.get() {
            let border = bytes.iter().position(|byte| *byte == BORDER as u8);
            let (function, text) = border.map_or((&b""[..], bytes), |at| (&bytes[..at], &bytes[at + 1..]));
            queue.put(std::str::from_utf8(function).unwrap_or_default(), text, self.patience);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A format with the name of the function before it: a line that is dropped is one of that function.
struct Named<F>(F);

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut name = Name::default();
        event.record(&mut name);
        write!(out, "{}{BORDER}", name.0)?;
        self.0.format_event(context, out, event)
    }
}

#[derive(Default)]
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "function" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "function" {
            self.0 = format!("{value:?}");
        }
    }
}

/// `TIME LEVEL target function=vm event=host:2: message`. What a record is about stands before its message: a
/// traceback has many lines, and its last one belongs to Python alone.
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let meta = event.metadata();
        SystemTime.format_time(&mut out)?;
        match colour(*meta.level()).filter(|_| out.has_ansi_escapes()) {
            Some(colour) => write!(out, " \x1b[{colour}m{:>5}\x1b[0m", meta.level())?,
            None => write!(out, " {:>5}", meta.level())?,
        }
        writeln!(out, " {}{}: {}", meta.target(), parts.fields, parts.message)
    }
}

const fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

/// A record taken apart.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        // an empty one says nothing: a line that was printed between two events
        if !value.is_empty() {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        // writing to a string cannot fail
        let _ = if field.name() == "message" {
            visible(&mut self.message, &text)
        } else if text.contains(|letter: char| letter.is_whitespace() || letter == '"' || letter.is_control()) {
            write!(self.fields, " {}={text:?}", field.name())
        } else {
            write!(self.fields, " {}={text}", field.name())
        };
    }
}

/// The text with what would steer a terminal made visible.
fn visible(out: &mut String, text: &str) -> fmt::Result {
    text.chars().try_for_each(|letter| match letter {
        '\n' | '\t' => out.write_char(letter),
        letter if letter.is_control() => write!(out, "{}", letter.escape_default()),
        letter => out.write_char(letter),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(write: impl FnOnce()) -> String {
        let written = Written::default();
        let out = written.clone();
        let lines =
            tracing_subscriber::fmt().with_ansi(false).event_format(Text).with_writer(move || out.clone()).finish();
        tracing::subscriber::with_default(lines, write);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        // the time differs
        text.split_once(' ').unwrap().1.to_owned()
    }

    #[test]
    fn fields_stand_before_a_message_of_many_lines() {
        let id = "host:2";
        let text = logged(
            || tracing::error!(target: "t", function = "vm", event = %id, attempt = 1, "call failed\nTraceback\nE: x"),
        );
        assert_eq!(text, "ERROR t function=vm event=host:2 attempt=1: call failed\nTraceback\nE: x\n");
        assert_eq!(logged(|| tracing::info!(target: "t", event = "", "plain")), " INFO t: plain\n");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = logged(|| tracing::warn!(target: "t", event = "a b\n", "{}", "\x1b[2J\r\u{9b}é\t."));
        assert_eq!(text, " WARN t event=\"a b\\n\": \\u{1b}[2J\\r\\u{9b}é\t.\n");
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        for fine in ["info", "DEBUG", "info,function=debug", "off"] {
            assert!(filter(fine).is_ok(), "{fine}");
        }
        assert!(filter("inof").unwrap_err().starts_with("'inof' is no level; write error,"));
    }
}
