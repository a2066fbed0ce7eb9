//! gaugefn's own words and those of user code, on standard error.

use std::io::IsTerminal;

use runtime_core::config::settings::{LogFormat, LogOptions};
use tracing_subscriber::EnvFilter;

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

/// Begins to log. Only the first call of a process counts.
pub(crate) fn start(options: &LogOptions) {
    let filter = filter(&options.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match options.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    // a second start would be a slip of ours that costs nothing
    drop(started);
}
