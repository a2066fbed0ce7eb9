//! What the components of this crate that talk to Redis have in common.

use std::borrow::Cow;
use std::sync::Arc;

use redis_link::{LinkError, Settings, Target, Trouble};
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{Address, Output, Route};
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
        Trouble::TooLarge => Fault::of_backend(error).permanent(),
        _ => Fault::of_backend(error),
    }
}

/// Tells where each result goes, where its own text or that of its event says so.
struct Way {
    key: Template,
    place: String,
    kind: &'static str,
}

/// What tells where results go; nothing where all go to one key.
///
/// # Errors
/// The table `[redis]` is wrong.
pub(crate) fn route(
    site: &Site<'_>,
    url: Option<&str>,
    key: &Template,
    kind: &'static str,
) -> Result<Option<Arc<dyn Route>>, Fault> {
    if key.is_constant() {
        return Ok(None);
    }
    let server = site.table::<Settings>("redis")?.server(url).unwrap_or_default();
    Ok(Some(Arc::new(Way { key: key.clone(), place: format!("redis {server}"), kind })))
}

impl Route for Way {
    fn address(&self, output: &Output) -> Result<Address, Fault> {
        let name = self.key.fill(&output.payload, &output.event).map_err(Fault::function)?.into_owned();
        Ok(Address { place: self.place.clone(), name, kind: self.kind })
    }
}

/// Each result with its key.
///
/// # Errors
/// One of them has none.
pub(crate) fn addressed<'a>(
    key: &'a Template,
    outputs: &'a [Output],
) -> Result<Vec<(Cow<'a, str>, &'a Output)>, Fault> {
    let filled = |output: &'a Output| Ok((key.fill(&output.payload, &output.event)?, output));
    outputs.iter().map(filled).collect::<Result<_, String>>().map_err(Fault::function)
}

/// What is wrong with a key whose names begin as gaugefn's own do.
pub(crate) fn concern_of(option: &'static str, key: &Template) -> Option<Concern> {
    let is_own = !key.is_constant() && key.as_str().starts_with("gaugefn:");
    is_own.then(|| {
        Concern::new(
            option,
            format!("'{}': names that begin with 'gaugefn:' are gaugefn's own; give it another", key.as_str()),
        )
    })
}
