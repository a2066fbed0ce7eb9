//! gaugefn's own words and those of user code, on standard error.

use std::fmt::{self, Debug, Write};
use std::io::IsTerminal;

use runtime_core::config::settings::{LogFormat, LogOptions};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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

/// Begins to log on standard error. Only the first call of a process counts.
pub(crate) fn start(options: &LogOptions) {
    begin(options, std::io::stderr);
}

/// Begins to log under `run`: where each line is to be JSON, what user code writes past the log becomes lines of it, of
/// this function.
pub(crate) fn start_for(options: &LogOptions, function: &str) {
    if options.format == LogFormat::Json {
        match crate::stdio::capture(function) {
            Ok(stderr) => return begin(options, std::sync::Mutex::new(stderr)),
            Err(error) => {
                begin(options, std::io::stderr);
                tracing::warn!("what user code writes to descriptors 1 and 2 is no json: {error}");
            }
        }
    }
    begin(options, std::io::stderr);
}

fn begin<W>(options: &LogOptions, to: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(&options.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to);
    let started = match options.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).event_format(Text).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    // a second start would be a slip of ours that costs nothing
    drop(started);
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
