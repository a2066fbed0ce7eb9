//! One process of several.

use std::any::Any;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::change::Fingerprint;
use crate::contract::{Found, Lease, Saved, StateKey, Tenure, Versioned};

/// Who has it, as a test says; `None` is this process.
#[derive(Clone, Default)]
struct Told {
    other: Arc<Mutex<Option<&'static str>>>,
    silent: Arc<Mutex<bool>>,
    /// Whether this process had it when it asked last.
    had: Arc<Mutex<bool>>,
    journal: Journal,
}

#[async_trait]
impl Lease for Told {
    fn term(&self) -> Duration {
        Duration::from_secs(3)
    }

    async fn hold(&self) -> Result<Tenure, Fault> {
        if *self.silent.lock().unwrap() {
            return Err(Fault::backend("the place is away"));
        }
        let other = self.other.lock().unwrap();
        let kept = std::mem::replace(&mut *self.had.lock().unwrap(), other.is_none());
        match *other {
            None => Ok(Tenure::Mine { fingerprint: None, kept }),
            Some(other) => Ok(Tenure::Other { holder: other.to_owned(), left: Duration::from_secs(1) }),
        }
    }

    async fn release(&self) -> Result<(), Fault> {
        self.journal.note("release");
        Ok(())
    }

    fn enlist(&self, _: Option<Fingerprint>) -> Box<dyn Any + Send> {
        Box::new(())
    }
}

#[async_trait]
impl StateStore for Told {
    fn durable(&self) -> bool {
        true
    }

    async fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        self.journal.note("load");
        Ok(keys.iter().map(|_| Ok(None)).collect())
    }

    async fn save(&self, _: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        Ok(Saved::Done)
    }

    fn lease(&self) -> Option<Box<dyn Lease>> {
        Some(Box::new(self.clone()))
    }
}

fn leased(script: Vec<Script>) -> (Bench, Told) {
    let mut bench = Bench::new(Delivery::Queue, script);
    let told = Told { journal: bench.journal.clone(), ..Told::default() };
    bench.state = Some(Arc::new(told.clone()));
    (bench, told)
}

#[tokio::test(start_paused = true)]
async fn a_standby_reads_nothing_and_is_ready() {
    let (bench, told) = leased(vec![Script::Events(vec!["a"])]);
    *told.other.lock().unwrap() = Some("pod-1");
    let (journal, board) = (bench.journal.clone(), bench.board.clone());
    let (_stopper, running) = bench.spawn();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((journal.count("pull"), journal.count("load"), board.reasons()), (0, 0, vec![]));
    assert_eq!(board.functions()["vm"].standby.as_deref(), Some("pod-1"));
    *told.other.lock().unwrap() = None;
    assert_end!(running.await.unwrap(), End::Exhausted);
    assert_eq!(journal.lines("settle"), ["settle 1 done a"]);
    assert_eq!((journal.count("release"), board.functions()["vm"].standby.clone()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_standby() {
    let (bench, told) = leased(vec![Script::Events(vec!["a"])]);
    *told.other.lock().unwrap() = Some("pod-1");
    let journal = bench.journal.clone();
    let (stopper, running) = bench.spawn();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
    assert_eq!(journal.count("pull"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_loses_it_commits_nothing_more_and_goes_on_when_it_is_back() {
    for by_silence in [false, true] {
        let (mut bench, told) = leased(vec![
            Script::Events(vec!["a"]),
            Script::Again(Duration::from_secs(20)),
            Script::Events(vec!["b"]),
            Script::Wait,
        ]);
        bench = bench.taking(Duration::from_secs(2));
        let journal = bench.journal.clone();
        let (stopper, running) = bench.spawn();
        journal.reaches("settle", 1).await;
        if by_silence {
            *told.silent.lock().unwrap() = true;
        } else {
            *told.other.lock().unwrap() = Some("pod-2");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((journal.count("settle"), journal.count("call"), journal.count("close source")), (1, 1, 1));
        *told.other.lock().unwrap() = None;
        *told.silent.lock().unwrap() = false;
        journal.reaches("settle", 2).await;
        assert_eq!(journal.count("load"), 2, "the state is loaded anew");
        stopper.stop();
        assert_end!(running.await.unwrap(), End::Stopped);
        assert_eq!(journal.lines("settle"), ["settle 1 done a", "settle 2 done b"]);
        assert_eq!(journal.count("undelivered"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_after_the_loss_is_not_written() {
    let (bench, told) = leased(vec![Script::Events(vec!["a"]), Script::Wait]);
    let bench = bench.taking(Duration::from_secs(10));
    let (journal, sink) = (bench.journal.clone(), bench.sink());
    let (stopper, running) = bench.spawn();
    journal.reaches("call", 1).await;
    *told.other.lock().unwrap() = Some("pod-2");
    journal.reaches("undelivered", 1).await;
    assert_eq!((journal.count("settle"), sink.texts().len()), (0, 0));
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_sink_writes_nothing_more_once_the_lease_is_lost() {
    let (bench, told) = leased(vec![Script::Events(vec!["a"]), Script::Wait]);
    let (journal, sink, board) = (bench.journal.clone(), bench.sink(), bench.board.clone());
    sink.fail(u32::from(u16::MAX));
    let (stopper, running) = bench.spawn();
    journal.reaches("write result", 5).await;
    *told.other.lock().unwrap() = Some("pod-2");
    journal.reaches("undelivered", 1).await;
    let tried = journal.count("write result");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((journal.count("write result"), journal.count("settle")), (tried, 0));
    assert!(board.reasons().iter().all(|reason| !reason.contains("commit")), "{:?}", board.reasons());
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_one_had_in_between_is_lost() {
    let (bench, told) = leased(vec![Script::Events(vec!["a"]), Script::Wait, Script::Wait]);
    let journal = bench.journal.clone();
    let (stopper, running) = bench.spawn();
    journal.reaches("settle", 1).await;
    assert_eq!(journal.count("load"), 1);
    // taken and given back while this process did not look
    *told.had.lock().unwrap() = false;
    journal.reaches("close source", 1).await;
    journal.reaches("load", 2).await;
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_standby_whose_sink_is_back_is_ready() {
    let (bench, told) = leased(vec![Script::Wait]);
    *told.other.lock().unwrap() = Some("pod-1");
    let board = bench.board.clone();
    bench.sink().fail_checks(3);
    let (stopper, running) = bench.spawn();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(board.reasons(), ["function 'vm', sink result: the recorder cannot be opened"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(board.reasons().is_empty(), "{:?}", board.reasons());
    stopper.stop();
    assert_end!(running.await.unwrap(), End::Stopped);
}
