//! What every source and every sink must do, whatever it talks to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::contract::{Delivery, Event, Output, Pull, Sink, Source, Verdict};

/// Pulls from a source with work waiting until `events` events have come, settles them, and checks the promises of
/// [`Source`] on the way. The events, for checks of the caller's own.
///
/// # Panics
/// A promise is broken, or the events do not come within ten seconds.
pub async fn source_contract(source: &mut dyn Source, events: usize) -> Vec<Event> {
    let limit = Instant::now() + Duration::from_secs(10);
    let latest = source.delivery() == Delivery::Latest;
    source.check().await.expect("check succeeds with its backend there");
    source.check().await.expect("check may be called again");
    let mut seen = Vec::new();
    let mut ids = BTreeSet::new();
    while seen.len() < events {
        assert!(Instant::now() < limit, "{} of {events} events came within ten seconds", seen.len());
        match source.next_batch(3).await.expect("no fault with its backend there") {
            Pull::Batch(mut batch) => {
                assert!(!batch.events.is_empty(), "a batch is never empty");
                assert!(batch.events.len() <= if latest { 1 } else { 3 }, "a batch keeps to its maximum");
                for event in &batch.events {
                    assert!(!event.id.is_empty() && event.attempt >= 1, "an event has an id and an attempt");
                    assert!(ids.insert(event.id.clone()), "the id '{}' came twice", event.id);
                }
                let verdicts = vec![Verdict::Done { reply: None }; batch.events.len()];
                batch.receipt.settle(&verdicts).await.expect("a receipt takes its verdicts");
                seen.extend(batch.events);
            }
            Pull::Again(after) => {
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    () = source.woken() => {}
                }
            }
            Pull::Exhausted => break,
        }
    }
    source.close().await.expect("close succeeds");
    seen
}

/// Writes to a sink what the engine would write, twice each as after a lost reply, and closes it.
///
/// # Panics
/// A promise is broken.
pub async fn sink_contract(sink: &mut dyn Sink, payloads: &[&'static str]) {
    sink.check().await.expect("check succeeds with its backend there");
    sink.check().await.expect("check may be called again");
    for (number, payload) in payloads.iter().enumerate() {
        let output = Output { event_id: number.to_string(), event: "{}".into(), payload: (*payload).into() };
        sink.write(std::slice::from_ref(&output)).await.expect("a write succeeds with its backend there");
        sink.write(&[output]).await.expect("a write may be repeated");
    }
    sink.close().await.expect("close succeeds");
}
