//! A function that has the next batch at hand while it works on one.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::*;
use crate::contract::{Call, Outcome, Pipeline};

/// Works on one batch after the other, each for a second, and fails for texts that begin with `bad`, once.
struct Ahead {
    given: VecDeque<(Arc<[Event]>, Option<Instant>)>,
    failed: Vec<String>,
    journal: Journal,
}

impl Ahead {
    fn boxed(journal: &Journal) -> Box<dyn Function> {
        Box::new(Self { given: VecDeque::new(), failed: Vec::new(), journal: journal.clone() })
    }

    fn outcomes(&mut self, events: &[Event]) -> Vec<Outcome> {
        let each = events.iter().map(|event| {
            let text = String::from_utf8_lossy(&event.payload).into_owned();
            if text.starts_with("bad") && !self.failed.contains(&text) {
                self.failed.push(text);
                return Returned::Failed(Fault::function("boom")).into();
            }
            echo(event, &text).into()
        });
        each.collect()
    }

    /// When the oldest will be done: its second begins with the end of the one before.
    fn due(&mut self) -> Option<Instant> {
        let (_, due) = self.given.front_mut()?;
        Some(*due.get_or_insert_with(|| Instant::now() + Duration::from_secs(1)))
    }
}

#[async_trait]
impl Function for Ahead {
    async fn invoke(&mut self, events: &[Event], _call: Call) -> Result<Vec<Outcome>, Fault> {
        assert!(self.given.is_empty(), "called while something is given");
        self.journal.note(format!("alone {}", events[0].id));
        Ok(self.outcomes(events))
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        Some(self)
    }
}

#[async_trait]
impl Pipeline for Ahead {
    async fn give(&mut self, events: Arc<[Event]>, _call: Call) {
        assert!(self.given.len() < 2, "more than two are given");
        self.journal.note(format!("give {}", events[0].id));
        self.given.push_back((events, None));
        self.due();
    }

    async fn answered(&mut self) {
        match self.due() {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    async fn take(&mut self) -> Result<Vec<Outcome>, Fault> {
        self.answered().await;
        let (events, _) = self.given.pop_front().unwrap();
        self.journal.note(format!("take {}", events[0].id));
        self.due();
        Ok(self.outcomes(&events))
    }
}

fn bench(texts: &[&'static str]) -> Bench {
    let mut bench = Bench::new(Delivery::Queue, texts.iter().map(|text| Script::Events(vec![text])));
    bench.function = Ahead::boxed(&bench.journal);
    bench
}

/// The journal without what other stages note.
fn ahead(journal: &Journal) -> Vec<String> {
    let words = ["give", "take", "alone", "settle"];
    journal.lines("").into_iter().filter(|line| words.iter().any(|word| line.starts_with(word))).collect()
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_is_at_hand_and_order_stays() {
    let bench = bench(&["a", "b", "c", "d"]);
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    assert_end!(bench.run().await, End::Exhausted);
    let lines = ahead(&journal);
    let at = |wanted: &str| lines.iter().position(|line| line.starts_with(wanted)).unwrap();
    assert!(at("give 2") < at("take 1") && at("give 3") < at("take 2"), "{lines:?}");
    let settled: Vec<_> = lines.iter().filter(|line| line.starts_with("settle")).cloned().collect();
    assert_eq!(settled, ["settle 1 done a", "settle 2 done b", "settle 3 done c", "settle 4 done d"]);
    assert_eq!(sink.texts(), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_further_attempt_is_a_batch_of_its_own_behind_the_others() {
    let bench = bench(&["bad", "b", "c"]).retrying(2, Then::Skip);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Exhausted);
    let lines = ahead(&journal);
    let at = |wanted: &str| lines.iter().position(|line| line.starts_with(wanted)).unwrap();
    let gives: Vec<_> = lines.iter().filter(|line| line.starts_with("give")).cloned().collect();
    assert_eq!(gives, ["give 1", "give 2", "give 3", "give 1"], "{lines:?}");
    assert!(at("settle 3") < at("settle 1"), "{lines:?}");
    let settled: Vec<_> = lines.iter().filter(|line| line.starts_with("settle")).cloned().collect();
    assert_eq!(settled, ["settle 2 done b", "settle 3 done c", "settle 1 done bad"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_failure_ends_everything_nothing_is_given_ahead() {
    let bench = bench(&["a", "bad", "c"]).retrying(0, Then::Stop);
    let journal = bench.journal.clone();
    assert_end!(bench.run().await, End::Policy { event } if event == "2");
    let lines = ahead(&journal);
    let calls: Vec<_> = lines.iter().filter(|line| !line.starts_with("settle")).cloned().collect();
    assert_eq!(calls, ["give 1", "take 1", "give 2", "take 2"], "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_was_given() {
    let (stopper, task) = {
        let mut bench = bench(&["a", "b"]);
        bench.source.script.push_back(Script::Wait);
        let journal = bench.journal.clone();
        let (stopper, task) = bench.spawn();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(ahead(&journal), ["give 1", "give 2"]);
        (stopper, (task, journal))
    };
    stopper.stop();
    let (task, journal) = task;
    assert_end!(task.await.unwrap(), End::Stopped);
    let lines = ahead(&journal);
    assert_eq!(lines[2..], ["take 1", "settle 1 done a", "take 2", "settle 2 done b"], "{lines:?}");
}
