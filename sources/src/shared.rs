//! What the components of this crate that talk to Redis have in common.

use redis_link::{LinkError, Settings, Target, Trouble};
use runtime_core::config::{Claim, Concern, Hold};
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

/// This process as people find it: `host/pid`.
pub(crate) fn process() -> String {
    format!("{}/{}", host(), std::process::id())
}

/// This machine's name; in Kubernetes the pod's.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
