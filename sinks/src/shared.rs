//! What the components of this crate that talk to Redis have in common.

use std::borrow::Cow;

use redis_link::{LinkError, Settings, Target, Trouble};
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::Output;
use runtime_core::options::Template;
use runtime_core::{Around, Fault, Site};

/// What is wrong with the option `url`.
pub(crate) fn concerns_of(url: Option<&str>) -> Vec<Concern> {
    let complaints = url.map(|url| Settings::default().complaints(Some(url))).unwrap_or_default();
    complaints.into_iter().map(|(_, sentence)| Concern::new("url", sentence)).collect()
}

/// The server: that of `url`, else the one that all share.
pub(crate) fn target(site: &Site<'_>, url: Option<&str>) -> Result<Target, Fault> {
    let settings: Settings = site.table("redis")?;
    settings.resolve(url).map_err(|error| Fault::config(error.to_string()))
}

/// What a component does with a key of its server; nothing where that is not known.
pub(crate) fn claim(
    around: &Around<'_>,
    url: Option<&str>,
    option: &'static str,
    hold: Hold,
    key: &str,
    thing: impl Into<String>,
) -> Option<Claim> {
    let server = around.table::<Settings>("redis")?.server(url)?;
    Some(Claim::new(option, hold, &format!("redis {server}"), key, thing))
}

/// Everything but a wrong setting may pass: a password is rotated, a replica promoted, a wrong key replaced.
pub(crate) fn fault(error: &LinkError) -> Fault {
    match error.kind() {
        Trouble::Config => Fault::config(error.to_string()),
        _ => Fault::of_backend(error),
    }
}

/// Each result with its key. One without the value that its key needs must not hold up the others.
pub(crate) fn addressed<'a>(
    function: &str,
    key: &'a Template,
    outputs: &'a [Output],
) -> Result<Vec<(Cow<'a, str>, &'a Output)>, Fault> {
    let mut addressed = Vec::with_capacity(outputs.len());
    for output in outputs {
        match key.fill(&output.payload, &output.event) {
            Ok(key) => addressed.push((key, output)),
            Err(message) if outputs.len() == 1 => return Err(Fault::event(message)),
            Err(message) => {
                tracing::error!(function, event = %output.event_id, "result not stored: {message}");
            }
        }
    }
    Ok(addressed)
}
