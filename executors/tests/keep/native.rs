//! A library in this process.

use runtime_core::contract::{Call, Env, Event, Returned};
use runtime_core::main_thread::MainThread;

use crate::bed::{Bed, Keeper, event, keep, shown, warnings};
use crate::support::libraries::{cc, keeps};

fn events(texts: &[&str]) -> Vec<Event> {
    texts.iter().enumerate().map(|(id, text)| event(id, None, (*text).to_owned())).collect()
}

fn bed(file: std::path::PathBuf) -> Bed {
    Bed { executor: "native", file, key: None, workers: 0 }
}

pub(crate) async fn what_fails_leaves_no_trace(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("keeps.so");
    keeps(false, &library);
    let mut function = bed(library).open(&main).await;
    for bad in ["\"fail\"", "{", "\"unknown\""] {
        for pattern in super::python::PATTERNS {
            let texts: Vec<_> = pattern.chars().map(|letter| if letter == 'x' { bad } else { "\"count\"" }).collect();
            let mut keeper = Keeper::default();
            let call = Call { states: vec![(Default::default(), Env::default())], ..keep() };
            function.invoke(&[], call).await.unwrap();
            let results = keeper.drive(&mut *function, &events(&texts)).await;
            let good = texts.iter().filter(|text| **text != bad).count();
            let mut n = 0;
            let wanted: Vec<_> = texts
                .iter()
                .map(|text| {
                    n += usize::from(*text != bad);
                    let result = format!("{{\"version\":1,\"typed\":{n},\"env\":{n}}}");
                    if *text == bad { "failed".to_owned() } else { result }
                })
                .collect();
            assert_eq!(results, wanted, "{bad} {pattern}");
            let state: Vec<_> = keeper.state(None).into_iter().collect();
            let text = |key: &str, value: String| (format!("\"{key}\""), value);
            let wanted = [text("gaugefn.states", format!("{{\"keeps::Count\":{good}}}")), text("n", good.to_string())];
            assert_eq!(state, if good == 0 { &[][..] } else { &wanted[..] }, "{bad} {pattern}");
        }
    }
}

pub(crate) async fn what_has_no_text_stays_and_is_told_of_once(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("keeps.so");
    keeps(false, &library);
    let mut function = bed(library).open(&main).await;
    let batch = events(&["\"count\"", "\"pairs\""]);
    let mut keeper = Keeper::default();
    let first = keeper.drive(&mut *function, &batch).await;
    assert_eq!(first[1], "1");
    let second = keeper.drive(&mut *function, &events(&["\"pairs\"", "\"fail\"", "\"count\"", "\"pairs\""])).await;
    assert_eq!(second[2], r#"{"version":1,"typed":2,"env":2}"#);
    // it stays as it is, and is called once more
    assert_eq!([second[0].as_str(), second[3].as_str()], ["3", "4"]);
    let wanted =
        "no store can keep 'keeps::Pairs' (key must be a string): it stays in memory, and is gone with the process";
    assert_eq!(warnings(), [wanted]);
    let outcomes = function.invoke(&events(&["\"remaining\""]), keep()).await.unwrap();
    assert!(outcomes[0].states.is_empty());
}

pub(crate) async fn a_library_that_cannot_tell_its_state_is_refused(main: MainThread) {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("older.so");
    let mark = format!("-DMARK=\"{}\"", folder.path().join("mark").display());
    cc("tests/libraries/matrix.c", &library, &[&mark, "-DMINOR=1", "-DOLDER=1", "-DOPENS"]);
    let mut function = bed(library).open(&main).await;
    let outcomes = function.invoke(&events(&["1", "2"]), keep()).await.unwrap();
    for outcome in &outcomes {
        let Returned::Failed(fault) = &outcome.returned else { panic!("{}", shown(outcome)) };
        assert!(fault.to_string().starts_with("the library cannot keep its state in a store"), "{fault}");
    }
}
