//! Network egress, memory cache and a one-minute moving average per processor, with types for everything.
//!
//! `cargo build --release`, then `gaugefn invoke target/release/libvm_metrics_typed.so --event metrics.jsonl`.

use std::collections::{BTreeMap, VecDeque};

use gaugefn_sdk::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Samples of one minute, at one each five seconds.
const WINDOW: usize = 12;

#[derive(Deserialize)]
struct Metrics {
    #[serde(rename = "net_io_counters_eth0-bytes_sent")]
    sent: u64,
    #[serde(rename = "net_io_counters_eth0-bytes_recv")]
    received: u64,
    #[serde(rename = "virtual_memory-buffers")]
    buffers: u64,
    #[serde(rename = "virtual_memory-cached")]
    cached: u64,
    #[serde(rename = "virtual_memory-total")]
    total: u64,
    /// Everything else, the processors among it.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct Report {
    #[serde(rename = "percent-network-egress")]
    egress: f64,
    #[serde(rename = "percent-memory-cache")]
    cache: f64,
    #[serde(flatten)]
    averages: BTreeMap<String, f64>,
}

/// The last samples of each processor.
#[derive(Default, Serialize, Deserialize)]
struct Windows(BTreeMap<String, VecDeque<f64>>);

fn handler(metrics: Metrics, context: &mut Context) -> Result<Report, String> {
    let traffic = metrics.sent + metrics.received;
    let egress = if traffic == 0 { 0.0 } else { 100.0 * metrics.sent as f64 / traffic as f64 };
    let cache = 100.0 * (metrics.buffers + metrics.cached) as f64 / metrics.total as f64;
    let windows = &mut context.state::<Windows>().0;
    let mut averages = BTreeMap::new();
    for (key, value) in &metrics.others {
        let Some(cpu) = key.strip_prefix("cpu_percent-") else { continue };
        let percent = value.as_f64().ok_or_else(|| format!("{key} is {value}, no number"))?;
        let window = windows.entry(cpu.to_owned()).or_default();
        window.push_back(percent);
        if window.len() > WINDOW {
            window.pop_front();
        }
        let average = window.iter().sum::<f64>() / window.len() as f64;
        averages.insert(format!("avg-util-cpu{cpu}-60sec"), average);
    }
    Ok(Report { egress, cache, averages })
}

gaugefn_sdk::export! { handler = handler }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_move_and_traffic_may_be_none() {
        let mut context = Context::for_tests();
        let event = |percent: f64| {
            serde_json::from_value(serde_json::json!({
                "net_io_counters_eth0-bytes_sent": 0, "net_io_counters_eth0-bytes_recv": 0,
                "virtual_memory-buffers": 1, "virtual_memory-cached": 1, "virtual_memory-total": 4,
                "cpu_percent-0": percent, "timestamp": "2024-05-01 12:00:00",
            }))
            .unwrap()
        };
        let first = handler(event(10.0), &mut context).unwrap();
        assert_eq!((first.egress, first.cache, first.averages["avg-util-cpu0-60sec"]), (0.0, 50.0, 10.0));
        for _ in 0..12 {
            handler(event(20.0), &mut context).unwrap();
        }
        assert_eq!(handler(event(20.0), &mut context).unwrap().averages["avg-util-cpu0-60sec"], 20.0);
    }
}
