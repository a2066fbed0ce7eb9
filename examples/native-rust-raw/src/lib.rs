//! The same function over bytes: of the event only the fields that it needs are parsed, and the result is written as
//! text, in the order of the event.
//!
//! `cargo build --release`, then `gaugefn invoke target/release/libvm_metrics_raw.so --event metrics.jsonl`.

use std::fmt::Write;

use gaugefn_sdk::Context;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Samples of one minute, at one each five seconds.
const WINDOW: usize = 12;

/// What the function needs of an event, borrowed from its bytes.
#[derive(Default)]
struct Metrics<'a> {
    sent: u64,
    received: u64,
    buffers: u64,
    cached: u64,
    total: u64,
    processors: Vec<(&'a str, f64)>,
}

impl<'de> Deserialize<'de> for Metrics<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Metrics<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut metrics = Metrics::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "net_io_counters_eth0-bytes_sent" => metrics.sent = map.next_value()?,
                "net_io_counters_eth0-bytes_recv" => metrics.received = map.next_value()?,
                "virtual_memory-buffers" => metrics.buffers = map.next_value()?,
                "virtual_memory-cached" => metrics.cached = map.next_value()?,
                "virtual_memory-total" => metrics.total = map.next_value()?,
                _ => match key.strip_prefix("cpu_percent-") {
                    Some(cpu) => metrics.processors.push((cpu, map.next_value()?)),
                    None => drop(map.next_value::<IgnoredAny>()?),
                },
            }
        }
        Ok(metrics)
    }
}

/// The samples of one processor, a ring once it is full.
#[derive(Default, Serialize, Deserialize)]
struct Window {
    cpu: String,
    samples: Vec<f64>,
    oldest: usize,
}

impl Window {
    fn average_with(&mut self, sample: f64) -> f64 {
        if self.samples.len() < WINDOW {
            self.samples.push(sample);
        } else {
            self.samples[self.oldest] = sample;
            self.oldest = (self.oldest + 1) % WINDOW;
        }
        // oldest first, so that rounding is the same as in the other examples
        let (newer, older) = self.samples.split_at(self.oldest);
        older.iter().chain(newer).sum::<f64>() / self.samples.len() as f64
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Windows(Vec<Window>);

fn handler(event: &[u8], context: &mut Context) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let metrics: Metrics<'_> = serde_json::from_slice(event)?;
    let traffic = metrics.sent + metrics.received;
    let egress = if traffic == 0 { 0.0 } else { 100.0 * metrics.sent as f64 / traffic as f64 };
    let cache = 100.0 * (metrics.buffers + metrics.cached) as f64 / metrics.total as f64;
    let mut text = String::with_capacity(1024);
    // writing to a string cannot fail; `{:?}` of a number has its fraction and all its digits
    let _ = write!(text, r#"{{"percent-network-egress": {egress:?}, "percent-memory-cache": {cache:?}"#);
    let windows = &mut context.state::<Windows>().0;
    for (cpu, percent) in metrics.processors {
        let at = windows.iter().position(|window| window.cpu == cpu).unwrap_or_else(|| {
            windows.push(Window { cpu: cpu.to_owned(), ..Window::default() });
            windows.len() - 1
        });
        let _ = write!(text, r#", "avg-util-cpu{cpu}-60sec": {:?}"#, windows[at].average_with(percent));
    }
    text.push('}');
    Ok(Some(text.into_bytes()))
}

gaugefn_sdk::export! { handler = handler as raw }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_fields_are_looked_at() {
        let event = br#"{"virtual_memory-total": 4, "virtual_memory-buffers": 1, "virtual_memory-cached": 1,
            "net_io_counters_eth0-bytes_sent": 1, "net_io_counters_eth0-bytes_recv": 3,
            "n_pids": {"any": ["thing"]}, "cpu_percent-0": 10.0}"#;
        let result = handler(event, &mut Context::for_tests()).unwrap().unwrap();
        let wanted = r#"{"percent-network-egress": 25.0, "percent-memory-cache": 50.0, "avg-util-cpu0-60sec": 10.0}"#;
        assert_eq!(String::from_utf8(result).unwrap(), wanted);
        assert!(handler(b"{", &mut Context::for_tests()).is_err());
    }
}
