//! Where events are kept that failed for good.
//!
//! * [`mod@file`] - a file of JSON lines
//! * [`mod@redis`] - a Redis stream

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use runtime_core::contract::Filed;

pub mod file;
mod line;
pub mod redis;

/// What becomes of two functions that keep their letters in one place: a letter does not say whose it is.
const SHARED: &str = "'gaugefn dlq replay' would give each of the two functions the letters of both";

/// A moment as RFC 3339 has it, in UTC, to the millisecond: people read it, and texts sort as the moments do.
pub fn stamp(moment: SystemTime) -> String {
    DateTime::<Utc>::from(moment).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A letter as a line of JSON, without its end: the same as the store `file` writes.
///
/// # Errors
/// Never, as far as is known.
pub fn as_json(filed: &Filed) -> Result<String, serde_json::Error> {
    line::write(&filed.id, &filed.letter)
}

/// The moment of a stamp, also of one that somebody wrote by hand.
fn moment(stamp: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(stamp).ok().map(SystemTime::from)
}

/// The moment that is so many milliseconds after the epoch.
fn after_epoch(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis)
}

/// An id as both places have them: milliseconds since the epoch, and a count within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    millis: u64,
    count: u64,
}

impl Id {
    /// None for what is no id at all, whoever wrote it.
    fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (millis, count) = text.split_once('-').filter(|(millis, count)| digits(millis) && digits(count))?;
        Some(Self { millis: millis.parse().ok()?, count: count.parse().ok()? })
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.millis, self.count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back() {
        let at = after_epoch(1_795_466_129_023);
        assert_eq!(stamp(at), "2026-11-23T20:35:29.023Z");
        assert_eq!(moment(&stamp(at)), Some(at));
        assert_eq!(moment("2026-11-23T21:35:29.023+01:00"), Some(at));
        assert_eq!(moment("yesterday"), None);
    }

    #[test]
    fn ids_sort_as_numbers() {
        let id = |text| Id::parse(text).unwrap();
        assert!(id("9-1") < id("9-10") && id("9-10") < id("10-0"));
        assert_eq!(id("9-10").to_string(), "9-10");
        for text in ["", "9", "9-", "-1", "9-1-1", "+9-1", "a-b", "99999999999999999999-0"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }
}
