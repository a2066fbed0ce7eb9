//! Waits between tries, and what is said of them: once when trouble begins or changes, once when it ends.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use crate::contract::Fault;

/// The first wait. Short, as most interruptions are restarts that take less than a second.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait for a backend: it has to be noticed within two seconds that it is back.
const LONGEST: Duration = Duration::from_secs(1);

/// The longest wait between attempts of one event.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Trouble with one component, from the first failed try to the next success.
#[derive(Debug)]
pub struct Backoff {
    function: String,
    part: String,
    said: Option<String>,
    tries: u32,
}

impl Backoff {
    /// `part` is what is in trouble: `source`, `sink result`.
    pub fn new(function: &str, part: impl Into<String>) -> Self {
        Self { function: function.to_owned(), part: part.into(), said: None, tries: 0 }
    }

    /// Notes a failed try; says so if it is a new kind of trouble. The time to wait before the next try.
    pub fn failed(&mut self, fault: &Fault) -> Duration {
        let text = fault.to_string();
        if self.said.as_deref() != Some(text.as_str()) {
            tracing::warn!(function = %self.function, part = %self.part, "{}; trying again", fault.chain());
            self.said = Some(text);
        }
        let wait = jitter((FIRST * 2_u32.saturating_pow(self.tries.min(16))).min(LONGEST));
        self.tries += 1;
        wait
    }

    /// Notes a success; says so if there was trouble.
    pub fn succeeded(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(function = %self.function, part = %self.part, "works again after {} failed tries", self.tries);
        }
        self.tries = 0;
    }

    /// Nobody waits any more, whether it works again or not.
    pub fn give_up(&mut self) {
        (self.said, self.tries) = (None, 0);
    }

    /// What is said of the present trouble.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.said.as_deref()
    }
}

/// The wait before attempt number `attempt + 1` of an event: doubles with each attempt, at most a minute.
#[must_use]
pub fn retry_wait(first: Duration, attempt: u32) -> Duration {
    jitter(longest_wait(first, attempt))
}

/// The same without what is taken off by chance.
#[must_use]
pub fn longest_wait(first: Duration, attempt: u32) -> Duration {
    let doubled = first.checked_mul(2_u32.saturating_pow(attempt.saturating_sub(1).min(20))).unwrap_or(LONGEST_RETRY);
    doubled.min(LONGEST_RETRY.max(first))
}

/// Between 75 and 100 %: many processes that lost one server should not all come back in the same instant.
fn jitter(wait: Duration) -> Duration {
    // the standard library's hash keys are random for each state
    let random = RandomState::new().build_hasher().finish();
    wait - wait.mul_f64((random % 1000) as f64 / 4000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new("vm", "source");
        let fault = Fault::backend("redis at h:1 is away");
        let waits: Vec<_> = (0..12).map(|_| backoff.failed(&fault)).collect();
        assert!(waits[0] <= FIRST && waits[11] <= LONGEST && waits[11] >= LONGEST.mul_f64(0.74));
        assert_eq!(backoff.trouble(), Some("redis at h:1 is away"));
        backoff.succeeded();
        assert_eq!(backoff.trouble(), None);
        assert!(backoff.failed(&fault) <= FIRST);
    }

    #[test]
    fn retries_double() {
        let first = Duration::from_millis(200);
        assert!(retry_wait(first, 1) <= first);
        assert!(
            retry_wait(first, 3) > Duration::from_millis(599) && retry_wait(first, 3) <= Duration::from_millis(800)
        );
        assert!(retry_wait(first, 40) <= LONGEST_RETRY);
    }
}
