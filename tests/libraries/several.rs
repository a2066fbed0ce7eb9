//! A library with several functions: what a handler can do and what can happen to it.

use std::time::SystemTime;

use gaugefn_sdk::Context;
use serde_json::{Value, json};

/// Returns its event, unless that asks for something else.
fn handler(event: Value, context: &mut Context) -> Result<Value, String> {
    *context.state::<u64>() += 1;
    match event.as_str() {
        Some("literal") => panic!("boom"),
        Some("formatted") => panic!("no luck with event {}\nand more", context.event_id()),
        Some("twice") => {
            let _again = PanicsAgain;
            panic!("once")
        }
        Some("fail") => Err("as asked".to_owned()),
        Some("calls") => Ok(json!(*context.state::<u64>())),
        Some("thread") => Ok(json!(format!("{:?}", std::thread::current().id()))),
        // in pages
        Some("resident") => {
            let pages = std::fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
            Ok(pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).into())
        }
        _ => Ok(event),
    }
}

/// A panic while another one unwinds is the end of the process.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("and again");
    }
}

fn loud(event: &[u8], _context: &mut Context) -> Result<Option<Vec<u8>>, String> {
    Ok((event != b"0").then(|| event.to_ascii_uppercase()))
}

fn facts(_event: Value, context: &mut Context) -> Result<Value, String> {
    let last = context.last_execution();
    let age = SystemTime::now().duration_since(context.function_getmtime()).map_err(|error| error.to_string())?;
    Ok(json!({
        "function_name": context.function_name(),
        "host": context.host(),
        "port": context.port(),
        "input_key": context.input_key(),
        "output_key": context.output_key(),
        "event_id": context.event_id(),
        "attempt": context.attempt(),
        "limited": context.remaining().is_some(),
        "called_before": last.is_some(),
        "built_lately": age.as_secs() < 30 * 24 * 60 * 60,
    }))
}

fn speaks(_event: Value, context: &mut Context) -> Result<(), String> {
    println!("printed by a library");
    context.warn(format_args!("about {}", context.event_id().to_owned()));
    context.count("spoken", 2, &[("tone", "calm")]);
    context.gauge("spoken", 1.0, &[]);
    Ok(())
}

gaugefn_sdk::export! {
    handler = handler,
    loud = loud as raw,
    facts = facts,
    speaks = speaks,
}
