//! One Redis key, read when it changes.
//!
//! Delivery: the latest value. A value that is replaced before it is read is never seen; the one that stands in the
//! key is never missed, whatever happens to notifications and connections, for the key is also read once a period.
//! Missing, empty and malformed values are not delivered and do not count as a change; a malformed one is logged
//! once. While the server is away the engine backs off, and the first thing after it is back is a read.
//!
//! ```toml
//! [functions.vm.source]
//! use = "redis_key"
//! key = "metrics"
//! period = "5s"
//! trigger = "change"
//! watch = "auto"
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use redis_link::{Link, Settings, Trouble, Watch};
use runtime_core::change::{Change, Fingerprint, Look};
use runtime_core::config::Concern;
use runtime_core::contract::{Batch, Delivery, Domain, Event, Facts, Payload, Pull, Source};
use runtime_core::options::Span;
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

/// A change that a poll finds is unannounced if no notification has come so much later. Notifications take less than
/// a millisecond; a second of grace makes a stalled machine no reason to stop listening.
const GRACE: Duration = Duration::from_secs(1);

/// Options of the source `redis_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key that is watched; it holds one JSON value.
    key: String,
    /// Time between two looks at the key.
    #[serde(default = "default_period")]
    period: Span,
    /// `change`: the function is called when the value differs from that of the last call. `always`: once a period.
    #[serde(default)]
    trigger: Trigger,
    /// How a change is noticed. `poll`: by looking once a period, and never more often. `notify`: by keyspace
    /// notifications; a server that sends none makes the function not ready. `auto`: by notifications where they
    /// come, by polling otherwise. The server's configuration is never changed.
    #[serde(default)]
    watch: WatchMode,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    url: Option<String>,
}

const fn default_period() -> Span {
    Span::seconds(5)
}

/// When the function is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Trigger {
    /// When the value changed.
    #[default]
    Change,
    /// Once a period.
    Always,
}

/// How a change is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WatchMode {
    /// By notifications where they come.
    #[default]
    Auto,
    /// By notifications.
    Notify,
    /// By looking.
    Poll,
}

/// What has become of the subscription.
enum Ear {
    /// Not wanted, or given up.
    Closed,
    /// To be opened at this time.
    Due(Instant),
    /// Subscribed.
    Open(Watch),
}

/// The source `redis_key`.
pub struct RedisKey {
    function: String,
    key: String,
    period: Duration,
    trigger: Trigger,
    mode: WatchMode,
    link: Link,
    change: Change,
    /// The fingerprint of the last delivered value.
    fingerprint: Option<Fingerprint>,
    ear: Ear,
    /// A notification has come since the last read.
    announced: bool,
    /// When a poll found a change that nothing had announced so far.
    suspect: Option<Instant>,
    /// The reason why notifications cannot be relied upon, once there is one.
    deaf: Option<String>,
    /// Whether the loss of the subscription was already said since it last was open.
    said_lost: bool,
    /// When the key is to be looked at again without a notification.
    due: Instant,
    /// Whether any value was delivered: the first one is no change.
    delivered: bool,
    /// Part of the events' ids, so that they differ between two lives of a process.
    started: u128,
    count: u64,
}

impl Kind for RedisKey {
    type Role = dyn Source;
    type Config = Config;
    const NAME: &'static str = "redis_key";
    const SUMMARY: &'static str = "a Redis key that holds the newest metrics; calls when they change";
    const RESERVED: &'static [&'static str] = &["lease"];

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.key.is_empty() {
            concerns.push(Concern::new("key", "empty; name the key that holds the metrics"));
        }
        if config.period.0 < Duration::from_millis(1) {
            concerns.push(Concern::new("period", format!("'{}' is too short; the least is 1ms", config.period)));
        }
        if let Some(Err(error)) = config.url.as_deref().map(|url| Settings::default().resolve(Some(url))) {
            concerns.push(Concern::new("url", error.to_string()));
        }
        concerns
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        let settings: Settings = site.table("redis")?;
        let target = settings.resolve(config.url.as_deref()).map_err(|error| Fault::config(error.to_string()))?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let source = Self {
            function: site.function.to_owned(),
            key: config.key,
            period: config.period.0,
            trigger: config.trigger,
            mode: config.watch,
            link: Link::new(target),
            change: Change::new(),
            fingerprint: None,
            ear: if config.watch == WatchMode::Poll { Ear::Closed } else { Ear::Due(Instant::now()) },
            announced: false,
            suspect: None,
            deaf: None,
            said_lost: false,
            due: Instant::now(),
            delivered: false,
            started,
            count: 0,
        };
        source.show_mode();
        Ok(Box::new(source))
    }
}

inventory::submit!(Entry::of::<RedisKey>());

#[async_trait]
impl Source for RedisKey {
    fn delivery(&self) -> Delivery {
        Delivery::Latest
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.link.connection().await.map(drop).map_err(|error| fault(&error))
    }

    async fn next_batch(&mut self, _max: usize) -> Result<Pull, Fault> {
        self.listen().await;
        let now = Instant::now();
        if self.suspect.is_some_and(|since| now >= since + GRACE) {
            self.give_up_listening();
        }
        let wanted = self.announced && self.trigger == Trigger::Change;
        if now < self.due && !wanted {
            return Ok(Pull::Again(self.next_look() - now));
        }
        let announced = std::mem::take(&mut self.announced);
        let value = self.link.get(&self.key).await.map_err(|error| fault(&error))?;
        self.due = now + self.period;
        let payload = match value {
            Some(bytes) if !bytes.is_empty() => Payload::from(bytes),
            _ => return Ok(Pull::Again(self.next_look() - now)),
        };
        match self.change.look(&payload) {
            Look::Same if self.trigger == Trigger::Always => {}
            Look::Same => return Ok(Pull::Again(self.next_look() - now)),
            Look::Malformed { error, first } => {
                if first {
                    let key = &self.key;
                    tracing::warn!(function = %self.function, "key '{key}' is left alone until it changes: {error}");
                }
                return Ok(Pull::Again(self.next_look() - now));
            }
            Look::New(fingerprint) => {
                if matches!(self.ear, Ear::Open(_)) && !announced && self.delivered && self.suspect.is_none() {
                    self.suspect = Some(now);
                }
                self.change.attempted(payload.clone(), fingerprint);
                self.fingerprint = Some(fingerprint);
            }
        }
        self.delivered = true;
        self.count += 1;
        let id = format!("{}:{}-{}", self.key, self.started, self.count);
        let event = Event { fingerprint: self.fingerprint, ..Event::new(id, payload) };
        Ok(Pull::Batch(Batch::one(event)))
    }

    async fn woken(&mut self) {
        let Ear::Open(watch) = &mut self.ear else {
            return std::future::pending().await;
        };
        match watch.changed().await {
            Ok(()) => {
                self.announced = true;
                self.suspect = None;
            }
            Err(error) => self.lost(&error),
        }
    }

    fn resume(&mut self, fingerprint: Fingerprint) {
        self.change.seen(fingerprint);
        self.fingerprint = Some(fingerprint);
    }

    fn complaint(&self) -> Option<String> {
        self.deaf.clone().filter(|_| self.mode == WatchMode::Notify)
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn facts(&self) -> Facts {
        let target = self.link.target();
        Facts {
            host: Some(target.host().to_owned()),
            port: Some(target.port()),
            input_key: Some(self.key.clone()),
            output_key: None,
        }
    }
}

impl RedisKey {
    /// Subscribes if it is time to, and takes up what was announced while nobody waited.
    async fn listen(&mut self) {
        if let Ear::Due(at) = self.ear {
            if at > Instant::now() {
                return;
            }
            match Watch::open(self.link.target(), &self.key).await {
                Ok(watch) => {
                    self.ear = Ear::Open(watch);
                    self.said_lost = false;
                    // what changed while nobody listened was announced to nobody
                    self.announced = true;
                    self.show_mode();
                }
                Err(error) if error.kind() == Trouble::Permission => {
                    self.deafen(format!("{error}; the key is polled each {}", Span(self.period)));
                }
                Err(error) => self.lost(&error),
            }
            return;
        }
        if let Ear::Open(watch) = &mut self.ear {
            // bounded by a look at what is already there
            let heard = tokio::select! {
                biased;
                heard = watch.changed() => Some(heard),
                () = std::future::ready(()) => None,
            };
            match heard {
                Some(Ok(())) => {
                    self.announced = true;
                    self.suspect = None;
                }
                Some(Err(error)) => self.lost(&error),
                None => {}
            }
        }
    }

    /// The subscription is gone or could not be made: poll meanwhile, subscribe again with the next look.
    fn lost(&mut self, error: &redis_link::LinkError) {
        if !std::mem::replace(&mut self.said_lost, true) {
            let period = Span(self.period);
            tracing::warn!(function = %self.function, "no notifications for now, the key is polled each {period}: {error}");
        }
        let was_open = matches!(self.ear, Ear::Open(_));
        // at once after a cut, as the server is usually there; then at the pace of the polling
        let wait = if was_open { Duration::ZERO } else { self.period.min(Duration::from_secs(1)) };
        self.ear = Ear::Due(Instant::now() + wait);
        self.suspect = None;
        self.due = Instant::now();
        self.show_mode();
    }

    /// A change came that nothing announced: this server sends no notifications.
    fn give_up_listening(&mut self) {
        self.suspect = None;
        let place = self.link.target().place();
        self.deafen(format!(
            "redis at {place} does not announce changes of key '{}' (notify-keyspace-events lacks K with $ or g), the key is \
             polled each {}",
            self.key,
            Span(self.period)
        ));
    }

    fn deafen(&mut self, reason: String) {
        tracing::warn!(function = %self.function, "{reason}");
        self.deaf = Some(reason);
        self.ear = Ear::Closed;
        self.show_mode();
    }

    /// When to look without a notification: the period's end, or the end of a suspicion.
    fn next_look(&self) -> Instant {
        let suspicion = self.suspect.map(|since| since + GRACE);
        let subscription = match self.ear {
            Ear::Due(at) => Some(at),
            _ => None,
        };
        [suspicion, subscription].into_iter().flatten().fold(self.due, Instant::min).max(Instant::now())
    }

    fn show_mode(&self) {
        let present = if matches!(self.ear, Ear::Open(_)) { "notify" } else { "poll" };
        for mode in ["notify", "poll"] {
            let set = f64::from(u8::from(mode == present));
            metrics::gauge!("gaugefn_watch_mode", "function" => self.function.clone(), "mode" => mode).set(set);
        }
    }
}

/// Everything but a wrong setting may pass: a password is rotated, a replica promoted, a wrong key replaced.
fn fault(error: &redis_link::LinkError) -> Fault {
    match error.kind() {
        Trouble::Config => Fault::config(error.to_string()),
        _ => Fault::of_backend(error),
    }
}
