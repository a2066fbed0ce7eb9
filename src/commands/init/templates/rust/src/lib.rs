//! The average load of this machine's processors over the last events.
//!
//! gaugefn calls `handler` with each event and with a context that keeps the function's state
//! from one call to the next. What `handler` returns is stored as JSON; `None` stores nothing.

use std::collections::{BTreeMap, VecDeque};

use gaugefn_sdk::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Events: one minute, at one event each five seconds.
const WINDOW: usize = 12;

#[derive(Deserialize)]
struct Metrics {
    timestamp: String,
    /// Everything else, the processors among it.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct Report {
    timestamp: String,
    load: f64,
    average: f64,
}

#[derive(Default, Serialize, Deserialize)]
struct Recent {
    loads: VecDeque<f64>,
}

fn handler(metrics: Metrics, context: &mut Context) -> Result<Option<Report>, String> {
    let mut loads = Vec::new();
    for (key, value) in &metrics.others {
        if key.starts_with("cpu_percent-") {
            let Some(load) = value.as_f64() else {
                return Err(format!("{key} is {value}, which is no number"));
            };
            loads.push(load);
        }
    }
    if loads.is_empty() {
        return Ok(None);
    }
    let load = mean(&loads);
    let recent = &mut context.state::<Recent>().loads;
    recent.push_back(load);
    if recent.len() > WINDOW {
        recent.pop_front();
    }
    let average = mean(recent.make_contiguous());
    Ok(Some(Report {
        timestamp: metrics.timestamp,
        load,
        average,
    }))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

gaugefn_sdk::export! { handler = handler }

#[cfg(test)]
mod tests {
    use super::*;

    fn event(loads: &[f64]) -> Metrics {
        let mut event = serde_json::json!({ "timestamp": "12:00:00", "n_pids": 99 });
        for (cpu, load) in loads.iter().enumerate() {
            event[format!("cpu_percent-{cpu}")] = (*load).into();
        }
        serde_json::from_value(event).unwrap()
    }

    fn call(loads: &[f64], context: &mut Context) -> Option<Report> {
        handler(event(loads), context).unwrap()
    }

    #[test]
    fn all_processors_count() {
        let report = call(&[10.0, 30.0], &mut Context::for_tests()).unwrap();
        assert_eq!(report.timestamp, "12:00:00");
        assert_eq!((report.load, report.average), (20.0, 20.0));
    }

    #[test]
    fn the_average_moves() {
        let mut context = Context::for_tests();
        let mut average = |load| call(&[load], &mut context).unwrap().average;
        average(100.0);
        assert_eq!(average(50.0), 75.0);
        for _ in 0..WINDOW {
            average(50.0);
        }
        assert_eq!(average(50.0), 50.0);
    }

    #[test]
    fn without_processors_there_is_no_result() {
        assert!(call(&[], &mut Context::for_tests()).is_none());
    }

    #[test]
    fn what_is_no_number_is_named() {
        let mut event = event(&[]);
        event.others.insert("cpu_percent-0".to_owned(), "x".into());
        let error = handler(event, &mut Context::for_tests()).err().unwrap();
        assert_eq!(error, "cpu_percent-0 is \"x\", which is no number");
    }
}
