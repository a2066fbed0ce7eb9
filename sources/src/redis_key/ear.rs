//! What notifications tell of the key, and whether they can be relied upon.
//!
//! ```text
//!            wait over        cut off, or not reachable
//!   Due ───────────────> Open ─────────────────────────> Due          news: the key has to be read
//!    |                    |
//!    | SUBSCRIBE denied   | a change that was read was never announced
//!    v                    v
//!   auto: Closed, polling for good         notify: goes on listening, not ready until something is heard
//! ```

use std::time::Duration;

use futures_util::FutureExt;
use redis_link::{LinkError, Target, Trouble, Watch};
use runtime_core::options::Span;
use tokio::time::Instant;

use super::WatchMode;

/// Between two attempts to subscribe. A server that ends each subscription at once must not be asked in a loop, and
/// after an outage notifications shall be back within two seconds.
const PACE: Duration = Duration::from_secs(1);

/// A subscription that lives for longer is not cut off for what it is.
const LONG: Duration = Duration::from_secs(10);

/// Listens to the changes of one key.
pub(super) struct Ear {
    function: String,
    key: String,
    target: Target,
    mode: WatchMode,
    /// For messages: how often the key is read otherwise.
    period: Span,
    state: State,
    /// When it was last tried to subscribe.
    tried: Option<Instant>,
    /// The key may have changed since it was last read.
    news: bool,
    /// Values written since the key was last read, as far as they were announced.
    writes: u64,
    /// Why notifications are not relied upon, once there is a reason.
    deaf: Option<String>,
    /// What cut the subscription off, until it is said. The engine says it where the key cannot be read either.
    unsaid: Option<LinkError>,
    /// It was said, and nothing was heard since.
    said: bool,
    /// The subscription that was cut off had lived for a while.
    lived: bool,
}

/// What has become of the subscription.
enum State {
    /// Not wanted, or given up.
    Closed,
    /// To be opened at this time.
    Due(Instant),
    /// Subscribed.
    Open(Box<Watch>),
}

impl Ear {
    pub(super) fn new(function: &str, key: &str, target: Target, mode: WatchMode, period: Span) -> Self {
        let ear = Self {
            function: function.to_owned(),
            key: key.to_owned(),
            target,
            mode,
            period,
            state: if mode == WatchMode::Poll { State::Closed } else { State::Due(Instant::now()) },
            tried: None,
            news: false,
            writes: 0,
            deaf: None,
            unsaid: None,
            said: false,
            lived: false,
        };
        ear.show_mode();
        ear
    }

    /// Subscribes where that is due, and takes up what was announced while nobody waited.
    pub(super) async fn listen(&mut self) {
        match &mut self.state {
            State::Open(watch) => {
                if let Some(heard) = watch.changed().now_or_never() {
                    self.heard(heard);
                }
            }
            State::Due(at) if *at <= Instant::now() => self.open().await,
            State::Due(_) | State::Closed => {}
        }
    }

    /// Resolves when there is news. May be dropped at any time.
    pub(super) async fn woken(&mut self) {
        match &mut self.state {
            State::Open(watch) => {
                let heard = watch.changed().await;
                self.heard(heard);
            }
            State::Due(_) | State::Closed => std::future::pending().await,
        }
    }

    /// Whether the key has to be read.
    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// When it has to be listened again, although nothing was heard.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Open(_) | State::Closed => None,
        }
    }

    /// Why the function should not count as ready.
    pub(super) fn complaint(&self) -> Option<String> {
        self.deaf.clone().filter(|_| self.mode == WatchMode::Notify)
    }

    /// The key was read, after the last [`listen`](Self::listen). Whether there was reason to, and how many values
    /// before the present one are known to have been there since the last reading.
    pub(super) fn read(&mut self) -> (bool, u64) {
        if let Some(error) = self.unsaid.take() {
            self.said = true;
            let (key, period) = (&self.key, self.period);
            match self.state {
                // nothing was missed, and connections do not live for ever
                State::Open(_) if self.lived => tracing::debug!(
                    function = %self.function,
                    "notifications of key '{key}' were cut off, it was read and is listened to again: {error}"
                ),
                State::Open(_) => tracing::warn!(
                    function = %self.function,
                    "notifications of key '{key}' were cut off, it was read and is listened to again: {error}"
                ),
                State::Due(_) | State::Closed => tracing::warn!(
                    function = %self.function,
                    "no notifications of key '{key}' for now, it is polled each {period}: {error}"
                ),
            }
        }
        (std::mem::take(&mut self.news), std::mem::take(&mut self.writes).saturating_sub(1))
    }

    /// The key could not be read: whoever says so need not be told of the notifications as well.
    pub(super) fn not_read(&mut self) {
        self.unsaid = None;
    }

    /// Nobody will ask for a while: what is announced meanwhile would only pile up.
    pub(super) fn rest(&mut self) {
        if matches!(self.state, State::Open(_)) {
            self.state = State::Due(Instant::now());
        }
        (self.news, self.writes, self.unsaid, self.said) = (false, 0, None, false);
    }

    /// The key was read without reason and had changed. Notifications that are merely late are waited for; where there
    /// are none, this server does not announce changes.
    pub(super) async fn surprised(&mut self) {
        let State::Open(watch) = &mut self.state else {
            return;
        };
        match watch.caught_up().await {
            Ok(Some(writes)) => self.heard(Ok(writes)),
            Ok(None) => {
                let place = self.target.place();
                self.deafen(format!(
                    "redis at {place} does not announce changes of key '{}' (its notify-keyspace-events lacks K with $ \
                     and g), the key is polled each {}",
                    self.key, self.period
                ));
            }
            Err(error) => self.heard(Err(error)),
        }
    }

    async fn open(&mut self) {
        self.tried = Some(Instant::now());
        match Watch::open(&self.target, &self.key).await {
            Ok(watch) => {
                self.state = State::Open(Box::new(watch));
                // what changed before was announced to nobody
                self.news = true;
                self.show_mode();
            }
            Err(error) if error.kind() == Trouble::Permission => {
                self.deafen(format!("{error}; the key is polled each {}", self.period));
            }
            Err(error) => self.lost(error),
        }
    }

    fn heard(&mut self, heard: Result<u64, LinkError>) {
        self.news = true;
        match heard {
            Ok(writes) => {
                self.writes += writes;
                self.said = false;
                if self.deaf.take().is_some() {
                    tracing::info!(function = %self.function, "changes of key '{}' are announced now", self.key);
                    self.show_mode();
                }
            }
            Err(error) => self.lost(error),
        }
    }

    /// The subscription is gone or could not be made.
    fn lost(&mut self, error: LinkError) {
        if !self.said {
            self.unsaid = Some(error);
        }
        self.lived = self.tried.is_some_and(|tried| tried.elapsed() > LONG);
        self.reopen();
    }

    /// Notifications cannot be relied upon.
    fn deafen(&mut self, reason: String) {
        if self.deaf.is_none() {
            tracing::warn!(function = %self.function, "{reason}");
        }
        self.deaf = Some(reason);
        match (self.mode, &self.state) {
            // somebody may still change the server's configuration
            (WatchMode::Notify, State::Open(_)) => self.show_mode(),
            (WatchMode::Notify, _) => self.reopen(),
            _ => {
                self.state = State::Closed;
                self.show_mode();
            }
        }
    }

    /// At once after a long life, at a moderate pace otherwise.
    fn reopen(&mut self) {
        let now = Instant::now();
        self.state = State::Due(self.tried.map_or(now, |tried| (tried + PACE).max(now)));
        self.show_mode();
    }

    fn show_mode(&self) {
        let present = if matches!(self.state, State::Open(_)) && self.deaf.is_none() { "notify" } else { "poll" };
        for mode in ["notify", "poll"] {
            let set = f64::from(u8::from(mode == present));
            metrics::gauge!("gaugefn_watch_mode", "function" => self.function.clone(), "mode" => mode).set(set);
        }
    }
}
