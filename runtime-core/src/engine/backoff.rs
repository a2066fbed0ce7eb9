//! Waits between tries, and what is said of them: once when trouble begins or changes, ever more seldom while it lasts,
//! once when it ends.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::Fault;

/// The first wait. Short, as most interruptions are restarts that take less than a second.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait for a backend: it has to be noticed within two seconds that it is back.
const LONGEST: Duration = Duration::from_secs(1);

/// The longest wait between attempts of one event.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// When it is said again that a trouble lasts, counted from the last time.
const REMINDERS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(600)];

/// Trouble that is back within this time after its end has not ended: a check has succeeded, and what was checked has not,
/// or only one try of several does.
const RELAPSE: Duration = Duration::from_secs(60);

/// Except where it worked for so long in between, a few times.
const WORKED: Duration = Duration::from_secs(5);

/// How often that is.
const MOST_RELAPSES: u32 = 4;

/// And where several tries in a row had failed before it worked, as when a server goes away and comes back: each of so many
/// outages is told.
const MOST_OUTAGES: u32 = 30;

/// Texts of one trouble that are said as they come. With more it is their number that is at fault.
const MOST_TEXTS: usize = 8;

/// Trouble with one component, from the first failed try to the next success.
#[derive(Debug)]
pub struct Backoff {
    function: String,
    part: String,
    /// What is wrong now.
    said: Option<String>,
    /// Waits since the last success.
    waits: u32,
    episode: Option<Episode>,
}

/// A trouble, also one that comes and goes.
#[derive(Debug)]
struct Episode {
    began: Instant,
    /// Failed tries since.
    tries: u32,
    /// Of these the last ones, without a success between them.
    in_a_row: u32,
    /// What was said of it.
    texts: Vec<String>,
    /// Whether the log's last word is that it works.
    is_told_over: bool,
    /// When it is said that it lasts, and how often it has been.
    remind_at: Instant,
    reminded: usize,
    /// When it ended, for now, and how often it was told anew since.
    ended: Option<Instant>,
    relapses: u32,
}

impl Episode {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            tries: 0,
            in_a_row: 0,
            texts: Vec::new(),
            is_told_over: true,
            remind_at: now + REMINDERS[0],
            reminded: 0,
            ended: None,
            relapses: 0,
        }
    }

    /// It is back after it has worked for that long.
    fn relapse(&mut self, now: Instant, worked: Duration) {
        let most = match self.in_a_row {
            2.. => MOST_OUTAGES,
            _ if worked >= WORKED => MOST_RELAPSES,
            _ => 0,
        };
        if self.relapses < most {
            self.relapses += 1;
            self.texts.clear();
        }
        self.in_a_row = 0;
        // the log must not say for long that it works
        self.remind_at = self.remind_at.min(now + REMINDERS[0]);
    }

    /// Whether a failure with this text is to be said as something new.
    fn is_news(&mut self, text: &str) -> bool {
        if self.texts.len() >= MOST_TEXTS || self.texts.iter().any(|known| known == text) {
            return false;
        }
        self.texts.push(text.to_owned());
        true
    }

    /// Whether it is time to say that it lasts.
    fn is_reminder(&mut self, now: Instant) -> bool {
        if now < self.remind_at {
            return false;
        }
        self.reminded += 1;
        self.remind_at = now + REMINDERS[self.reminded.min(REMINDERS.len() - 1)];
        true
    }
}

impl Backoff {
    /// `part` is what is in trouble: `source`, `sink result`.
    pub fn new(function: &str, part: impl Into<String>) -> Self {
        Self { function: function.to_owned(), part: part.into(), said: None, waits: 0, episode: None }
    }

    /// Notes a failed try; says so if it is a new kind of trouble, or if it is time for a reminder. The time to wait before
    /// the next try.
    pub fn failed(&mut self, fault: &Fault) -> Duration {
        if let Some(words) = self.note(fault.to_string()) {
            tracing::warn!(function = %self.function, part = %self.part, "{}; {words}", fault.chain());
        }
        let wait = jitter((FIRST * 2_u32.saturating_pow(self.waits.min(16))).min(LONGEST));
        self.waits = self.waits.saturating_add(1);
        wait
    }

    /// What to say of a failure, behind its text.
    fn note(&mut self, text: String) -> Option<String> {
        let now = Instant::now();
        let over = |episode: &mut Episode| episode.ended.is_some_and(|ended| now - ended >= RELAPSE);
        self.episode.take_if(over);
        let episode = self.episode.get_or_insert_with(|| Episode::new(now));
        if let Some(ended) = episode.ended.take() {
            let was_outage = episode.in_a_row > 1;
            episode.relapse(now, now - ended);
            if !was_outage && now - ended < LONGEST {
                // it has hardly worked
                self.waits = self.waits.max(episode.tries);
            }
        }
        episode.tries = episode.tries.saturating_add(1);
        episode.in_a_row = episode.in_a_row.saturating_add(1);
        let words = if episode.is_news(&text) {
            Some("trying again".to_owned())
        } else if episode.is_reminder(now) {
            Some(format!("not better after {} failed tries in {}", episode.tries, lasted(now - episode.began)))
        } else {
            None
        };
        episode.is_told_over &= words.is_none();
        self.said = Some(text);
        words
    }

    /// Notes a success; says so if trouble was said.
    pub fn succeeded(&mut self) {
        if let Some(words) = self.over() {
            tracing::info!(function = %self.function, part = %self.part, "{words}");
        }
    }

    /// What to say of a success.
    fn over(&mut self) -> Option<String> {
        self.waits = 0;
        self.said.take()?;
        let (now, episode) = (Instant::now(), self.episode.as_mut()?);
        episode.ended = Some(now);
        let is_told = std::mem::replace(&mut episode.is_told_over, true);
        let (tries, time) = (episode.tries, lasted(now - episode.began));
        (!is_told).then(|| format!("works again after {tries} failed tries in {time}"))
    }

    /// Nobody waits any more, whether it works again or not.
    pub fn give_up(&mut self) {
        (self.said, self.waits, self.episode) = (None, 0, None);
    }

    /// What is said of the present trouble.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.said.as_deref()
    }
}

/// A time for people: `80ms`, `1.5s`, `3m 20s`, `2h 5m`.
fn lasted(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
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
    use tokio::time::advance;

    const AWAY: &str = "redis at h:1 is away";

    fn said(backoff: &mut Backoff, text: &str) -> Option<String> {
        backoff.note(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_that_lasts_is_said_once_and_then_ever_more_seldom() {
        let mut backoff = Backoff::new("vm", "source");
        let mut lines = Vec::new();
        for second in 0..3600 {
            lines.extend(said(&mut backoff, AWAY).map(|words| (second, words)));
            advance(Duration::from_secs(1)).await;
        }
        let at: Vec<_> = lines.iter().map(|(second, _)| *second).collect();
        assert_eq!(at, [0, 60, 360, 960, 1560, 2160, 2760, 3360]);
        assert_eq!(lines[0].1, "trying again");
        assert_eq!(lines[2].1, "not better after 361 failed tries in 6m 0s");
        assert_eq!(backoff.over().as_deref(), Some("works again after 3600 failed tries in 1h 0m"));
        assert_eq!(backoff.over(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_for_a_moment_only_is_one_trouble() {
        let mut backoff = Backoff::new("vm", "source");
        let (mut lines, mut waits) = (0, Vec::new());
        // a check that succeeds before each try that fails
        for _ in 0..50 {
            lines += usize::from(said(&mut backoff, AWAY).is_some());
            waits.push(backoff.waits);
            lines += usize::from(backoff.over().is_some());
            advance(Duration::from_millis(900)).await;
        }
        assert_eq!(lines, 2, "it began, and it works");
        assert!(waits.is_sorted() && waits[49] > 40, "it is not tried as if it were the first time: {waits:?}");
        // and the log does not say for long that it works
        for _ in 0..70 {
            lines += usize::from(said(&mut backoff, AWAY).is_some());
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lines, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn each_outage_is_said_however_soon_it_follows_the_last() {
        let mut backoff = Backoff::new("vm", "source");
        for _ in 0..20 {
            assert!(said(&mut backoff, AWAY).is_some());
            assert_eq!(backoff.waits, 0, "it is tried soon again, as the first time");
            assert!(said(&mut backoff, AWAY).is_none());
            assert!(backoff.over().is_some());
            advance(Duration::from_millis(100)).await;
        }
        let later = (0..100).filter(|_| {
            let is_said = said(&mut backoff, AWAY).is_some();
            said(&mut backoff, AWAY);
            backoff.over();
            is_said
        });
        assert_eq!(later.count(), 1 + MOST_OUTAGES as usize - 20, "not for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn troubles_that_take_turns_are_said_once_each() {
        let mut backoff = Backoff::new("vm", "source");
        let lines = (0..50).filter(|number| said(&mut backoff, ["one", "other"][number % 2]).is_some());
        assert_eq!(lines.count(), 2);
        let lines = (0..50).filter(|number| said(&mut backoff, &number.to_string()).is_some());
        assert_eq!(lines.count(), MOST_TEXTS - 2, "also where each has a number in it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_worked_for_a_while_is_said_anew() {
        let mut backoff = Backoff::new("vm", "source");
        for _ in 0..3 {
            assert!(said(&mut backoff, AWAY).is_some());
            assert!(backoff.over().is_some());
            advance(WORKED).await;
        }
        for _ in 0..20 {
            said(&mut backoff, AWAY);
            backoff.over();
            advance(WORKED).await;
        }
        assert!(said(&mut backoff, AWAY).is_none(), "not for ever");
        backoff.over();
        advance(RELAPSE).await;
        assert_eq!(said(&mut backoff, AWAY).as_deref(), Some("trying again"));
        assert_eq!(backoff.over().as_deref(), Some("works again after 1 failed tries in 0ms"));
    }

    #[test]
    fn waits_grow_to_a_limit_and_begin_again() {
        let mut backoff = Backoff::new("vm", "source");
        let fault = Fault::backend("redis at h:1 is away");
        let waits: Vec<_> = (0..12).map(|_| backoff.failed(&fault)).collect();
        assert!(waits[0] <= FIRST && waits[11] <= LONGEST && waits[11] >= LONGEST.mul_f64(0.74));
        assert_eq!(backoff.trouble(), Some("redis at h:1 is away"));
        backoff.succeeded();
        assert_eq!(backoff.trouble(), None);
        backoff.give_up();
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
