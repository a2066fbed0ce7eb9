//! This machine's metrics, one object per period.
//!
//! Delivery: the latest value; a period that passes while the function is busy is left out, not made up for.
//! Nothing remote is involved. Where `/proc` cannot be read, the fault names the file and the engine tries again.
//!
//! ```toml
//! [functions.vm.source]
//! use = "host"
//! period = "1s"
//! ```

use std::time::Duration;

use async_trait::async_trait;
use runtime_core::config::Concern;
use runtime_core::contract::{Batch, Delivery, Event, Pull, Source};
use runtime_core::options::Span;
use runtime_core::{Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use collect::Collector;

mod collect;

/// The shortest interval over which processor percentages mean something: the kernel counts in ticks of 10 ms, and
/// psutil's documentation names the same tenth of a second.
const INTERVAL: Duration = Duration::from_millis(100);

/// Options of the source `host`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between two metrics objects, at least 100ms.
    period: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { period: Span::seconds(1) }
    }
}

/// The source `host`.
#[derive(Debug)]
pub struct Host {
    period: Duration,
    /// Taken along to the thread that reads, and put back with the result.
    collector: Collector,
    /// When the next object is due; none before the first look at the processors.
    due: Option<Instant>,
    /// Objects so far, for their ids.
    count: u64,
}

impl Host {
    fn new(config: &Config) -> Self {
        Self { period: config.period.0, collector: Collector::new(), due: None, count: 0 }
    }

    /// Runs `work` where waiting for the kernel holds up nobody: a frequency or a long list of processes takes
    /// milliseconds.
    async fn aside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Collector) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let mut collector = std::mem::take(&mut self.collector);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut collector);
            (collector, result)
        });
        let (collector, result) =
            done.await.map_err(|error| Fault::internal("the metrics could not be collected").caused_by(error))?;
        self.collector = collector;
        result
    }
}

impl Kind for Host {
    type Role = dyn Source;
    type Config = Config;
    const NAME: &'static str = "host";
    const LATEST_VALUE: bool = true;
    const SUMMARY: &'static str = "this machine's metrics, one object per period";

    fn review(config: &Config) -> Vec<Concern> {
        let period = config.period;
        let message = || format!("'{period}' is too short; processor times need at least 100ms between two looks");
        if period.0 < INTERVAL { vec![Concern::new("period", message())] } else { Vec::new() }
    }

    async fn build(config: Config, _site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(Self::new(&config)))
    }
}

inventory::submit!(Entry::of::<Host>());

#[async_trait]
impl Source for Host {
    fn delivery(&self) -> Delivery {
        Delivery::Latest
    }

    async fn next_batch(&mut self, _max: usize) -> Result<Pull, Fault> {
        let Some(due) = self.due else {
            self.aside(Collector::start).await?;
            self.due = Some(Instant::now() + INTERVAL);
            return Ok(Pull::Again(INTERVAL));
        };
        let now = Instant::now();
        if now < due {
            return Ok(Pull::Again(due - now));
        }
        let metrics = self.aside(Collector::sample).await?;
        self.due = Some(if due + self.period > now { due + self.period } else { now + self.period });
        self.count += 1;
        let payload = serde_json::to_vec(&metrics)
            .map_err(|error| Fault::internal("the metrics cannot be written as json").caused_by(error))?;
        Ok(Pull::Batch(Batch::one(Event::new(format!("host:{}", self.count), payload))))
    }

    async fn check(&mut self) -> Result<(), Fault> {
        // read and thrown away: a file that is missing shows now
        self.aside(|collector| collector.sample().map(drop)).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use runtime_core::testkit::source_contract;

    use super::*;

    async fn pull(source: &mut Host) -> Event {
        loop {
            match source.next_batch(10).await.unwrap() {
                Pull::Batch(batch) => {
                    assert_eq!(batch.events.len(), 1);
                    return batch.events.into_iter().next().unwrap();
                }
                Pull::Again(after) => tokio::time::sleep(after).await,
                Pull::Exhausted => panic!("this machine has no end"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_promises_of_a_source() {
        let mut source = Host::new(&Config::default());
        assert_eq!(source_contract(&mut source, 3).await.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_object_waits_for_an_interval_and_the_others_for_the_period() {
        let mut source = Host::new(&Config::default());
        source.check().await.unwrap();
        let start = Instant::now();
        assert_eq!(pull(&mut source).await.id, "host:1");
        assert!(start.elapsed() >= INTERVAL && start.elapsed() < INTERVAL * 2, "{:?}", start.elapsed());
        assert_eq!(pull(&mut source).await.id, "host:2");
        assert_eq!(pull(&mut source).await.id, "host:3");
        assert!(start.elapsed() >= Duration::from_millis(2100), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(2300), "{:?}", start.elapsed());
        // a busy function: what was missed is not made up for
        tokio::time::sleep(Duration::from_secs(60)).await;
        pull(&mut source).await;
        assert!(
            matches!(source.next_batch(1).await.unwrap(), Pull::Again(after) if after > Duration::from_millis(800))
        );
    }

    #[tokio::test]
    async fn floats_stay_floats_in_the_payload() {
        let mut source = Host::new(&Config::default());
        let event = pull(&mut source).await;
        let text = std::str::from_utf8(&event.payload).unwrap();
        let value = |key: &str| {
            let rest = text.split_once(&format!("\"{key}\":")).unwrap().1;
            rest.split([',', '}']).next().unwrap()
        };
        for key in ["cpu_percent-0", "cpu_freq_current", "virtual_memory-percent"] {
            assert!(value(key).contains('.'), "{key} {}", value(key));
        }
        assert!(!value("virtual_memory-total").contains('.'));
    }

    #[test]
    fn a_period_below_the_interval_is_refused() {
        let concerns = Host::review(&Config { period: Span::millis(50) });
        assert_eq!(concerns.len(), 1);
        assert_eq!(concerns[0].option, "period");
        assert!(concerns[0].message.starts_with("'50ms' is too short"), "{}", concerns[0].message);
        assert!(Host::review(&Config::default()).is_empty());
    }
}
