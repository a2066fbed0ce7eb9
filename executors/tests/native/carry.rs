//! A state goes on in a newer version of the library.

use std::any::Any;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_core::contract::{Env, Legacy};

use crate::bed::{call, entries, handed_over, lines, listen, open};
use crate::support::libraries::{cc, keeps, rust};
use crate::support::project;

fn matrix(folder: &Path, name: &str, definitions: &[&str]) -> PathBuf {
    let library = folder.join(name);
    let mark = format!("-DMARK=\"{}\"", folder.join("mark").display());
    cc("tests/libraries/matrix.c", &library, &[&[mark.as_str()], definitions].concat());
    library
}

#[tokio::test]
async fn typed_state_and_env_go_on_between_two_builds() {
    listen();
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.so"), folder.path().join("new.so"));
    keeps(false, &old);
    keeps(true, &new);
    let mut old = open(&old, "handler").await;
    assert_eq!(
        call(&mut old, &["\"count\"", "\"window\"", "\"count\""]).await[2],
        r#"{"version":1,"typed":2,"env":2}"#
    );

    let (env, lost) = handed_over(&mut old).await;
    assert_eq!(lost, Vec::<String>::new());
    let [(n, two), (states, typed)] = &entries(&env)[..] else { panic!("{env:?}") };
    assert_eq!((n.as_str(), two.as_str(), states.as_str()), ("\"n\"", "2", "\"gaugefn.states\""));
    assert_eq!(typed, r#"{"keeps::Count":2,"keeps::Window":[0.5]}"#);
    // it has handed over, and still goes on
    assert_eq!(call(&mut old, &["\"count\""]).await, [r#"{"version":1,"typed":3,"env":3}"#]);

    let mut new = open(&new, "handler").await;
    new.take_over(Some(Legacy::Encoded { env: env.clone(), lost })).await.unwrap();
    // nothing has been asked for yet
    assert_eq!(handed_over(&mut new).await, (env, Vec::new()));
    assert_eq!(call(&mut new, &["\"count\""]).await, [r#"{"version":2,"typed":3,"env":3}"#]);
    // what the new version cannot read begins anew, and that is told once
    assert_eq!(call(&mut new, &["\"window\"", "\"window\""]).await[1], r#"{"version":2,"samples":2}"#);
    let told: Vec<_> = lines().into_iter().filter(|line| line.starts_with("ERROR")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let start = "ERROR the state keeps::Window of the version before cannot be read, it begins anew: invalid type";
    assert!(told[0].starts_with(start), "{told:?}");

    old.retire(Duration::from_secs(10)).await.unwrap();
    // without a legacy it begins empty
    let mut fresh = open(&folder.path().join("new.so"), "handler").await;
    fresh.take_over(None).await.unwrap();
    assert_eq!(call(&mut fresh, &["\"count\""]).await, [r#"{"version":2,"typed":1,"env":1}"#]);
    new.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_carried_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("keeps.so");
    keeps(false, &library);
    let mut function = open(&library, "handler").await;
    call(&mut function, &["\"pairs\"", "\"count\""]).await;
    let (env, lost) = handed_over(&mut function).await;
    assert_eq!(lost, ["keeps::Pairs (key must be a string)"]);
    assert_eq!(entries(&env).len(), 2, "the rest is there");

    let opens = matrix(folder.path(), "opens.so", &["-DMINOR=1", "-DOLDER=1", "-DOPENS"]);
    let mut older = open(&opens, "handler").await;
    assert_eq!(call(&mut older, &["1"]).await, ["\"called\""]);
    assert_eq!(
        handed_over(&mut older).await,
        (Env::default(), vec!["the library's state (its table has no save)".to_owned()])
    );
    older.take_over(Some(Legacy::Encoded { env: Env::default(), lost: Vec::new() })).await.unwrap();
    let refused = older.take_over(Some(Legacy::Encoded { env, lost: Vec::new() })).await.unwrap_err();
    assert!(refused.to_string().starts_with("the library takes no state over (its table has no load): "), "{refused}");

    let mut stateless = open(&matrix(folder.path(), "first.so", &["-DMINOR=0", "-DOLDER=0"]), "handler").await;
    assert_eq!(handed_over(&mut stateless).await, (Env::default(), Vec::new()), "nothing is kept, nothing is lost");
    let live = Legacy::Live(Box::new(1) as Box<dyn Any + Send>);
    assert!(stateless.take_over(Some(live)).await.is_err());
}

#[tokio::test]
async fn the_examples_go_on_with_their_averages() {
    let folder = tempfile::tempdir().unwrap();
    let c = folder.path().join("libvm.so");
    cc("examples/native-c/vm_metrics.c", &c, &[]);
    let text = read_to_string(project("tests/data/metrics.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().take(30).collect();
    for library in [rust("typed"), rust("raw"), c] {
        let mut whole = open(&library, "handler").await;
        let expected = call(&mut whole, &lines).await;
        // another version each five events
        let mut found = Vec::new();
        let mut present = open(&library, "handler").await;
        for some in lines.chunks(5) {
            let legacy = present.hand_over().await.unwrap();
            let mut next = open(&library, "handler").await;
            next.take_over(Some(legacy)).await.unwrap();
            present.retire(Duration::from_secs(10)).await.unwrap();
            found.extend(call(&mut next, some).await);
            present = next;
        }
        assert_eq!(found, expected, "{}", library.display());
        assert_eq!(handed_over(&mut present).await, handed_over(&mut whole).await);
    }
}

#[tokio::test]
async fn a_library_that_refuses_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let c = folder.path().join("libvm.so");
    cc("examples/native-c/vm_metrics.c", &c, &[]);
    let legacy = |entries: &[(&'static str, &'static str)]| {
        let env = Env(entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect());
        Some(Legacy::Encoded { env, lost: Vec::new() })
    };
    let mut function = open(&c, "handler").await;
    function.take_over(legacy(&[("\"cpu3\"", " [ 1.5 ,2 ]"), ("\"cpu12\"", "[0.1]")])).await.unwrap();
    let before = handed_over(&mut function).await;
    let wanted = [("\"cpu3\"", "[1.5, 2.0]"), ("\"cpu12\"", "[0.1]")];
    assert_eq!(entries(&before.0), wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
    for odd in [("\"windows\"", "[1]"), ("\"cpu999\"", "[1]"), ("\"cpu1\"", "{}"), ("\"cpu1\"", "[\"a\"]")] {
        let refused = function.take_over(legacy(&[("\"cpu0\"", "[1.0]"), odd])).await.unwrap_err();
        assert_eq!(refused.to_string(), "the library does not take the state: not of this function");
        assert_eq!(handed_over(&mut function).await, before, "{odd:?}");
    }
    let odd = function.take_over(legacy(&[("7", "1")])).await.unwrap_err().to_string();
    assert_eq!(odd, "the state has the key 7, and a native function knows only texts as keys");
}
