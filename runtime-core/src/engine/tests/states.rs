//! The states at hand.

use super::keep::{Kept, env, kept, newer};
use super::*;
use crate::contract::{Env, Outcome, Saved, StateKey, Versioned};
use crate::engine::meters::Meters;
use crate::engine::states::States;

/// The next call would have what the store had, without what the call before it has just made of that.
#[tokio::test(start_paused = true)]
async fn a_state_does_not_expire_while_a_call_has_it() {
    let store = Kept::expiring(Duration::from_secs(1));
    store.states.lock().unwrap().insert(StateKey(None), Versioned { version: 3, env: env(7), ..Versioned::default() });
    let meters = Meters::of("vm");
    let mut states = States::new(&"vm".into(), Arc::new(store.clone()), None, &Board::default(), &meters);
    let mut events = [Event::new("1", "a")];
    assert_eq!(states.call(&mut events).await.unwrap().0.states.len(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(states.call(&mut events).await.unwrap().0.states.is_empty(), "the function has it");
    for count in [8, 9] {
        states.answered();
        let mut outcome = Outcome::from(Returned::Empty);
        outcome.states.push((StateKey(None), env(count)));
        let saves = states.changed(&events, &mut [outcome]);
        assert_eq!(store.save(&saves).await.unwrap(), Saved::Done);
        states.landed(&[(StateKey(None), saves[0].1.version)]);
    }
    assert_eq!(store.count(None), 9);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(states.call(&mut events).await.unwrap().0.states.len(), 1, "nobody has it");
}

#[tokio::test(start_paused = true)]
async fn a_reset_outlives_what_is_rolled_back() {
    let store = Kept::default();
    store.states.lock().unwrap().insert(StateKey(None), Versioned { version: 3, env: env(7), ..Versioned::default() });
    let meters = Meters::of("vm");
    let mut states = States::new(&"vm".into(), Arc::new(store.clone()), None, &Board::default(), &meters);
    let mut events = [Event::new("1", "a")];
    let handed = async |states: &mut States, events: &mut [Event]| {
        let (call, refused) = states.call(events).await.unwrap();
        assert!(refused.is_empty());
        call.states.into_iter().map(|(_, env)| env).collect::<Vec<_>>()
    };
    assert_eq!(handed(&mut states, &mut events).await, [env(7)]);
    states.reset();
    assert_eq!(handed(&mut states, &mut events).await, [Env::default()]);
    // a commit of somebody else is in between
    states.load_again();
    assert_eq!(handed(&mut states, &mut events).await, [Env::default()]);
    // a call that leaves the state as it is makes it lasting as well
    let saves = states.changed(&events, &mut [Returned::Empty.into()]);
    assert_eq!((saves[0].1.version, &saves[0].1.env), (4, &Env::default()));
    states.load_again();
    assert_eq!(handed(&mut states, &mut events).await, [Env::default()]);
    let saves = states.changed(&events, &mut [Returned::Empty.into()]);
    assert_eq!(store.save(&saves).await.unwrap(), Saved::Done);
    states.landed(&[(StateKey(None), 4)]);
    assert!(states.changed(&events, &mut [Returned::Empty.into()]).is_empty());
}

/// What a call has when another one after it comes to nothing is not over.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_withdrawn_leaves_those_before_it_their_states() {
    let store = Kept::expiring(Duration::from_secs(1));
    let key = |key: &str| StateKey(Some(key.to_owned()));
    store.states.lock().unwrap().insert(key("1"), Versioned { version: 3, env: env(7), ..Versioned::default() });
    store.broken.lock().unwrap().insert(key("2"));
    let meters = Meters::of("vm");
    let mut states = States::new(&"vm".into(), Arc::new(store.clone()), Some(""), &Board::default(), &meters);
    let (mut first, mut second) = ([Event::new("1", "1")], [Event::new("2", "2")]);
    assert_eq!(states.call(&mut first).await.unwrap().0.states.len(), 1);
    let (call, refused) = states.call(&mut second).await.unwrap();
    assert_eq!(refused.len(), 1);
    states.withdraw(call);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(states.call(&mut first).await.unwrap().0.states.is_empty(), "the function has it");
    states.answered();
    states.answered();
    assert_eq!(states.call(&mut first).await.unwrap().0.states.len(), 1, "nobody has it");
    // also where it is the withdrawn one alone that had it
    let (call, _) = states.call(&mut first).await.unwrap();
    states.answered();
    states.withdraw(call);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(states.call(&mut first).await.unwrap().0.states.len(), 1, "nobody has it");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_the_function_cannot_read_is_read_again() {
    for repaired in [None, Some(Versioned { version: 5, env: env(7), ..Versioned::default() })] {
        let (mut bench, store) = kept(&[&["{\"k\":1}", "{\"k\":2}"], &["{\"k\":1}"]], &[]);
        bench.state_key = Some("/k".to_owned());
        bench.source.script.extend([Script::Again(Duration::from_secs(1)), Script::Events(vec!["{\"k\":1}"])]);
        let key = StateKey(Some("1".to_owned()));
        let state = Versioned { version: 4, env: newer(), ..Versioned::default() };
        store.states.lock().unwrap().insert(key.clone(), state);
        let (journal, sink) = (bench.journal.clone(), bench.sink());
        let (_stopper, running) = bench.spawn();
        journal.reaches("settle", 3).await;
        assert_eq!(journal.lines("settle").concat().matches("failed: no count").count(), 2);
        let count = match repaired {
            None => {
                store.states.lock().unwrap().remove(&key);
                1
            }
            Some(state) => {
                store.states.lock().unwrap().insert(key, state);
                8
            }
        };
        assert_end!(running.await.unwrap(), End::Exhausted);
        assert_eq!(sink.texts().last(), Some(&format!("{{\"k\":1}}:{count}")));
        assert_eq!((store.count(Some("1")), store.count(Some("2"))), (count, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_the_function_can_read_is_not_read_again_for_calls_that_fail() {
    let bad = "{\"k\":1,\"bad\":1}";
    let (mut bench, store) = kept(&[&["{\"k\":1}"], &[bad], &[bad], &[bad], &["{\"k\":1}"]], &[]);
    bench.state_key = Some("/k".to_owned());
    let sink = bench.sink();
    assert_end!(bench.run().await, End::Exhausted);
    assert_eq!(sink.texts().len(), 2);
    // at the start, and for the first call
    assert_eq!((*store.loads.lock().unwrap(), store.count(Some("1"))), (2, 2));
}
