//! The state store `file`: what it keeps, and what it refuses.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use runtime_core::change::fingerprint;
use runtime_core::contract::{Blame, Env, Saved, StateKey, StateStore, Versioned};
use runtime_core::{Fault, Kind, Site};
use serde_json::json;
use stores::file::{Config, File};

async fn store(path: &Path, options: serde_json::Value) -> Box<dyn StateStore> {
    let mut table = json!({ "path": path });
    table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(table).unwrap();
    assert!(File::review(&config).is_empty());
    let (main_thread, _) = runtime_core::main_thread::pair();
    let stdout = Arc::new(fs::File::create("/dev/null").unwrap());
    File::build(config, &Site { function: "vm", shared: &[], main_thread, stdout }).await.unwrap()
}

fn state(version: u64, value: &str) -> Versioned {
    let entry = |key: &str, value: &str| (key.to_owned().into(), value.to_owned().into());
    let env = Env(vec![entry("\"b\"", "1"), entry("\"a\"", value), entry("7", "null")]);
    Versioned { version, env, fingerprint: Some(fingerprint(value.as_bytes()).unwrap()), ..Versioned::default() }
}

fn key(key: &str) -> StateKey {
    StateKey(Some(key.to_owned()))
}

const ALONE: StateKey = StateKey(None);

async fn load(store: &dyn StateStore, key: &StateKey) -> Option<Versioned> {
    let state = store.load(std::slice::from_ref(key)).await.unwrap().remove(0).unwrap();
    // how long it still has is up to the clock
    state.map(|state| Versioned { left: None, ..state })
}

/// Why the file of this key cannot be used.
async fn refused(store: &dyn StateStore, key: &StateKey) -> Fault {
    store.load(std::slice::from_ref(key)).await.unwrap().remove(0).unwrap_err()
}

#[tokio::test]
async fn a_state_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let first = store(&path, json!({})).await;
    assert!(first.durable());
    assert_eq!(load(&*first, &ALONE).await, None);
    for version in 1..4 {
        let state = state(version, &version.to_string());
        assert_eq!(first.save(&[(ALONE, state.clone())]).await.unwrap(), Saved::Done);
        assert_eq!(load(&*first, &ALONE).await, Some(state));
    }
    drop(first);
    let second = store(&path, json!({})).await;
    assert_eq!(load(&*second, &ALONE).await, Some(state(3, "3")));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"gaugefn_state\":1,\"function\":\"vm\",\"version\":3,"), "{text}");
}

#[tokio::test]
async fn a_save_builds_on_what_was_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let first = store(&path, json!({})).await;
    assert_eq!(first.save(&[(ALONE, state(1, "1"))]).await.unwrap(), Saved::Done);
    for version in [1, 3, 9] {
        assert_eq!(first.save(&[(ALONE, state(version, "2"))]).await.unwrap(), Saved::Stale(vec![ALONE]));
    }
    drop(first);
    // also without having loaded it
    let second = store(&path, json!({})).await;
    assert_eq!(second.save(&[(ALONE, state(1, "2"))]).await.unwrap(), Saved::Stale(vec![ALONE]));
    assert_eq!(second.save(&[(ALONE, state(2, "2"))]).await.unwrap(), Saved::Done);
}

#[tokio::test]
async fn several_states_are_saved_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let first = store(&path, json!({})).await;
    let keys = [ALONE, key("a"), key("../b/\u{0}"), key(""), key(&"long".repeat(1000))];
    let states: Vec<_> = keys.iter().cloned().zip((0..5).map(|n| state(1, &n.to_string()))).collect();
    assert!(first.load(&keys).await.unwrap().into_iter().all(|found| found.unwrap().is_none()));
    assert_eq!(first.save(&states).await.unwrap(), Saved::Done);
    // one of them alone, by a file of its own
    assert_eq!(first.save(&[(key("a"), state(2, "9"))]).await.unwrap(), Saved::Done);
    // one that is stale keeps all of them back
    let mixed = [(key(""), state(2, "8")), (key("a"), state(2, "8"))];
    assert_eq!(first.save(&mixed).await.unwrap(), Saved::Stale(vec![key("a")]));
    drop(first);
    let second = store(&path, json!({})).await;
    let found: Vec<_> =
        second.load(&keys).await.unwrap().into_iter().map(|state| state.unwrap().unwrap().version).collect();
    assert_eq!(found, [1, 2, 1, 1, 1]);
    assert_eq!(fs::read_dir(folder.path().join("vm.json.d")).unwrap().count(), 4, "and nothing else is left");
}

/// What a crash can leave behind of a set of states, at each of its steps.
#[tokio::test]
async fn a_set_is_saved_by_one_rename() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let keys = [ALONE, key("a"), key("b")];
    let set = |version| keys.iter().cloned().map(|key| (key, state(version, "1"))).collect::<Vec<_>>();
    let first = store(&path, json!({})).await;
    assert_eq!(first.save(&set(1)).await.unwrap(), Saved::Done);
    drop(first);
    let other = folder.path().join("other.json");
    let second = store(&other, json!({})).await;
    assert_eq!(second.save(&set(1)).await.unwrap(), Saved::Done);
    assert_eq!(second.save(&set(2)).await.unwrap(), Saved::Done);
    drop(second);

    let (old, new) = (folder.path().join("vm.json.d"), folder.path().join("other.json.d"));
    let versions = || async {
        let store = store(&path, json!({})).await;
        let states = store.load(&keys).await.unwrap();
        states.into_iter().map(|state| state.unwrap().unwrap().version).collect::<Vec<_>>()
    };
    // written, not renamed: as if nothing had happened
    fs::create_dir(old.join(".next")).unwrap();
    let fill = |target: &Path| {
        fs::copy(&other, target.join("state.json")).unwrap();
        for entry in fs::read_dir(&new).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
    };
    fill(&old.join(".next"));
    assert_eq!(versions().await, [1, 1, 1]);
    // renamed, one of them in its place: all of them are new
    fs::rename(old.join(".next"), old.join(".commit")).unwrap();
    fs::rename(old.join(".commit/state.json"), &path).unwrap();
    assert_eq!(versions().await, [2, 2, 2]);
    assert!(!old.join(".commit").exists());
    assert_eq!(versions().await, [2, 2, 2]);
}

#[tokio::test]
async fn a_file_that_is_cut_off_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let store = store(&path, json!({})).await;
    assert_eq!(store.save(&[(ALONE, state(1, "1"))]).await.unwrap(), Saved::Done);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let fault = refused(&*store, &ALONE).await;
        assert_eq!((fault.blame(), fault.retry()), (Blame::File, false), "{length}: {fault}");
    }
    let said = refused(&*store, &ALONE).await.to_string();
    assert!(
        said.starts_with(&format!("state file '{}' cannot be used: ", path.display()))
            && said.ends_with("; restore it from a copy, or delete it to begin with an empty state"),
        "{said}"
    );
    // half of the next one beside it is no matter
    fs::write(&path, &whole).unwrap();
    for length in 0..whole.len() {
        fs::write(folder.path().join("vm.json.tmp"), &whole[..length]).unwrap();
        assert_eq!(load(&*store, &ALONE).await, Some(state(1, "1")));
    }
    assert_eq!(store.save(&[(ALONE, state(2, "2"))]).await.unwrap(), Saved::Done);
    assert_eq!(load(&*store, &ALONE).await, Some(state(2, "2")));
}

#[tokio::test]
async fn a_file_written_by_hand_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    fs::write(&path, "{\"gaugefn_state\":1,\"env\":[[\"count\",3]]}\n").unwrap();
    let store = store(&path, json!({})).await;
    let state = load(&*store, &ALONE).await.unwrap();
    assert_eq!((state.version, &*state.env.0[0].1, state.fingerprint), (0, &b"3"[..], None));
    assert_eq!(store.save(&[(ALONE, self::state(1, "1"))]).await.unwrap(), Saved::Done);
}

#[tokio::test]
async fn one_process_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let first = store(&path, json!({})).await;
    assert_eq!(load(&*first, &ALONE).await, None);
    let second = store(&path, json!({})).await;
    let fault = second.load(&[ALONE]).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        format!(
            "state file '{}' is in use by another function of this process: end that one, or give each a path of its own",
            path.display()
        )
    );
    assert!(fault.retry(), "the other one may end");
    fs::write(folder.path().join("vm.json.lock"), "4242").unwrap();
    let said = second.save(&[(ALONE, state(1, "1"))]).await.unwrap_err().to_string();
    assert!(said.contains("is in use by process 4242: "), "{said}");
    assert!(first.lease().is_none(), "the lock is enough");
    drop(first);
    assert_eq!(load(&*second, &ALONE).await, None);
}

#[tokio::test]
async fn states_expire() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let first = store(&path, json!({ "ttl": "1h" })).await;
    let set = [(ALONE, state(1, "0")), (key("a"), state(1, "1")), (key("b"), state(1, "2"))];
    assert_eq!(first.save(&set).await.unwrap(), Saved::Done);
    let long_ago = SystemTime::now() - Duration::from_secs(3700);
    let age = |path: &Path| fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    age(&path);
    let files: Vec<_> =
        fs::read_dir(folder.path().join("vm.json.d")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.iter().for_each(|path| age(path));
    assert_eq!(first.save(&[(key("b"), state(2, "3"))]).await.unwrap(), Saved::Done, "it is nobody else's");
    assert_eq!(load(&*first, &key("a")).await, None);
    assert_eq!(first.save(&[(key("a"), state(1, "3"))]).await.unwrap(), Saved::Done);
    let left = first.load(&[key("a")]).await.unwrap().remove(0).unwrap().unwrap().left.unwrap();
    assert!(left > Duration::from_secs(3000) && left <= Duration::from_secs(3600), "{left:?}");
    fs::File::open(&files[1]).unwrap().set_modified(long_ago).unwrap();
    fs::File::open(&files[0]).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(first.save(&[(key("a"), state(2, "3"))]).await.unwrap(), Saved::Done);
    drop(first);
    let second = store(&path, json!({ "ttl": "1h" })).await;
    assert_eq!(load(&*second, &key("a")).await, Some(state(2, "3")));
    assert_eq!(load(&*second, &ALONE).await, None);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(folder.path().join("vm.json.d")).unwrap().count(), 1, "what expired is removed");
}

#[tokio::test]
async fn the_state_for_all_begins_anew_when_it_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let first = store(&path, json!({ "ttl": "300ms" })).await;
    assert_eq!(first.ttl(), Some(Duration::from_millis(300)));
    let start = Instant::now();
    assert_eq!(first.save(&[(ALONE, state(1, "1"))]).await.unwrap(), Saved::Done);
    let found = load(&*first, &ALONE).await;
    assert!(found == Some(state(1, "1")) || start.elapsed() > Duration::from_millis(280), "{found:?}");
    tokio::time::sleep(Duration::from_millis(350)).await;
    // in a process that has it, and in the next one
    assert_eq!(load(&*first, &ALONE).await, None);
    assert_eq!(first.save(&[(ALONE, state(1, "2"))]).await.unwrap(), Saved::Done);
    drop(first);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let second = store(&path, json!({ "ttl": "300ms" })).await;
    assert_eq!(load(&*second, &ALONE).await, None);

    let short: Config = serde_json::from_value(json!({ "path": path, "ttl": "99ms" })).unwrap();
    assert_eq!(File::review(&short).len(), 1);
}

#[tokio::test]
async fn a_save_that_is_repeated_is_not_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let set = [(ALONE, state(1, "1")), (key("a"), state(1, "2"))];
    for states in [&set[..1], &set[..]] {
        let first = store(&path, json!({})).await;
        assert_eq!(first.save(states).await.unwrap(), Saved::Done);
        drop(first);
        // nothing is known of the first time, as after a look for expired files
        let second = store(&path, json!({})).await;
        assert_eq!(second.save(states).await.unwrap(), Saved::Done);
        let other = [(ALONE, state(1, "3"))];
        assert_eq!(second.save(&other).await.unwrap(), Saved::Stale(vec![ALONE]));
    }
}

#[tokio::test]
async fn what_expired_is_removed_while_the_process_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let store = store(&path, json!({ "ttl": "1s" })).await;
    assert_eq!(store.save(&[(key("a"), state(1, "1"))]).await.unwrap(), Saved::Done);
    let files = || fs::read_dir(folder.path().join("vm.json.d")).unwrap().count();
    let end = Instant::now() + Duration::from_secs(60);
    while files() == 1 {
        assert!(Instant::now() < end, "it stays");
        assert_eq!(load(&*store, &key("b")).await, None);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(files(), 0);
    assert_eq!(store.save(&[(key("a"), state(2, "1"))]).await.unwrap(), Saved::Stale(vec![key("a")]));
    assert_eq!(store.save(&[(key("a"), state(1, "1"))]).await.unwrap(), Saved::Done);
}

#[tokio::test]
async fn a_damaged_file_is_the_trouble_of_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.json");
    let store = store(&path, json!({})).await;
    assert_eq!(store.save(&[(key("a"), state(1, "1"))]).await.unwrap(), Saved::Done);
    let file = fs::read_dir(folder.path().join("vm.json.d")).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "{\"gaugefn_state\":1").unwrap();
    assert_eq!(store.save(&[(key("b"), state(1, "2"))]).await.unwrap(), Saved::Done);
    let mut found = store.load(&[key("a"), key("b")]).await.unwrap();
    assert_eq!(found.remove(1).unwrap(), Some(state(1, "2")));
    let fault = found.remove(0).unwrap_err();
    assert!(fault.to_string().starts_with(&format!("state file '{}' cannot be used", file.display())), "{fault}");
    assert!(!fault.retry());
}

#[tokio::test]
async fn what_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/vm.json");
    let fault = store(&path, json!({})).await.load(&[ALONE]).await.unwrap_err();
    let shown = path.display();
    assert_eq!(
        fault.to_string(),
        format!("state file '{shown}.lock': its folder does not exist; make it, or name another path")
    );
    assert_eq!(fault.blame(), Blame::File);

    let path = folder.path().join("vm.json");
    let small = store(&path, json!({ "max_bytes": "100" })).await;
    let large = state(1, &format!("\"{}\"", "x".repeat(200)));
    let fault = small.save(&[(ALONE, large)]).await.unwrap_err();
    assert!(fault.to_string().contains("under the key \"a\"") && !fault.retry(), "{fault}");
    assert!(!path.exists());

    let config: Config = serde_json::from_value(json!({ "path": "" })).unwrap();
    assert_eq!(File::review(&config).len(), 1);
}
