//! What happens when calls fail, where that follows from the other parts, and where the failed events go.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::config::settings::{Choice, ErrorOptions, Then};
use crate::contract::{DeadLetters, Delivery, Fault, Filed, Letter, Pull, Sink, Source, StateStore};
use crate::options::Span;
use crate::registry::{Entry, Kind, Site};
use crate::testkit::{Recorder, discard_state};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(dead_code)]
struct Server {
    url: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Place {
    path: PathBuf,
}

/// Takes no letters, and gives no events: nothing here is run.
struct Nobody;

#[async_trait]
impl Source for Nobody {
    fn delivery(&self) -> Delivery {
        Delivery::Queue
    }

    async fn next_batch(&mut self, _: usize) -> Result<Pull, Fault> {
        Ok(Pull::Exhausted)
    }
}

#[async_trait]
impl DeadLetters for Nobody {
    async fn put(&self, _: &[Letter]) -> Result<(), Fault> {
        Ok(())
    }

    fn describe(&self) -> String {
        "nowhere".to_owned()
    }

    async fn list(&self, _: Option<&str>, _: usize) -> Result<Vec<Filed>, Fault> {
        Ok(Vec::new())
    }

    async fn get(&self, _: &str) -> Result<Option<Filed>, Fault> {
        Ok(None)
    }

    async fn remove(&self, _: &[String]) -> Result<u64, Fault> {
        Ok(0)
    }
}

/// A component that is chosen and never built.
macro_rules! component {
    ($kind:ident: $role:ident $name:literal, $config:ident, $made:expr $(, $flag:ident)?) => {
        struct $kind;

        impl Kind for $kind {
            type Role = dyn $role;
            type Config = $config;
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = "for these tests";
            $(const $flag: bool = true;)?

            async fn build(_: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
                Ok($made)
            }
        }

        inventory::submit!(Entry::of::<$kind>());
    };
}

component!(RedisQueue: Source "redis_queue", Server, Box::new(Nobody), KEEPS_EVENTS);
component!(FileSource: Source "file", Place, Box::new(Nobody));
component!(RedisState: StateStore "redis", Server, discard_state(), DURABLE);
component!(FileState: StateStore "file", Place, discard_state(), DURABLE);
component!(RedisSink: Sink "redis_set", Server, Box::new(Recorder::default()));
component!(RedisLetters: DeadLetters "redis", Server, Box::new(Nobody));
component!(FileLetters: DeadLetters "file", Place, Box::new(Nobody));

const LOADER: &str = "[functions.vm]\nloader = { use = 'text', path = 'f.py' }\n";

/// The policy of a function with these lines in its table, and where its dead letters go.
fn failures(lines: &str) -> (ErrorOptions, Option<String>) {
    let function = read(&format!("{LOADER}{lines}\n")).functions.remove(0);
    let place = |choice: Choice<dyn DeadLetters>| {
        let options = choice.section.table().unwrap().iter();
        let options: Vec<_> = options.map(|(key, value)| format!(" {key}={value}")).collect();
        format!("{}{}", choice.entry.name, options.join(""))
    };
    (function.errors, function.dead_letters.map(place))
}

fn policy(retries: u32, then: Then) -> ErrorOptions {
    ErrorOptions { retries, backoff: Span(Duration::from_millis(200)), then }
}

#[test]
fn defaults_are_those_of_the_source() {
    assert_eq!(failures("source.use = 'ticker'"), (policy(0, Then::Skip), None));
    assert_eq!(failures("source.use = 'redis_queue'"), (policy(3, Then::DeadLetter), Some("redis".to_owned())));
    assert_eq!(failures("source.use = 'redis_queue'\nerrors.then = 'skip'"), (policy(3, Then::Skip), None));
    assert_eq!(failures("source.use = 'redis_queue'\nerrors.retries = 0").0, policy(0, Then::DeadLetter));
}

#[test]
fn letters_go_where_something_of_the_function_is() {
    let place = |lines: &str| failures(&format!("{lines}\nerrors.then = 'dead_letter'")).1.unwrap();
    let file = "source = { use = 'file', path = 'in.jsonl' }";
    assert_eq!(
        place("source = { use = 'redis_queue', url = 'redis://a' }\nstate = { use = 'file', path = 's' }"),
        "redis url=redis://a"
    );
    assert_eq!(place(&format!("{file}\nstate = {{ use = 'file', path = '/s.json' }}")), "file path=/s.json.dead");
    assert_eq!(place(&format!("{file}\nstate.use = 'redis'")), "file path=in.jsonl.dead");
    let piped = "source = { use = 'file', path = '-' }";
    assert_eq!(place(&format!("{piped}\nstate = {{ use = 'redis', url = 'redis://b' }}")), "redis url=redis://b");
    assert_eq!(
        place("source.use = 'ticker'\nsinks.paper = {}\nsinks.out = { use = 'redis_set', url = 'redis://c' }"),
        "redis url=redis://c"
    );
    assert_eq!(place("source.use = 'ticker'\ndead_letters = { use = 'file', path = 'd' }"), "file path=d");

    let nowhere = "functions.vm.errors.then: 'dead_letter' has no place to keep events: add [functions.vm.dead_letters] \
                   with use = \"file\" and a path";
    for source in ["source.use = 'ticker'", piped] {
        assert_eq!(problems(&format!("{LOADER}{source}\nerrors.then = 'dead_letter'\n")), [nowhere]);
    }
}

#[test]
fn wrong_tables_are_named() {
    let of = |lines: &str| problems(&format!("{LOADER}{lines}\n"));
    let unused = |then: &str| {
        format!(
            "functions.vm.dead_letters: nothing would be kept here, as errors.then is '{then}'; set it to 'dead_letter', \
             or remove this table"
        )
    };
    assert_eq!(of("source.use = 'ticker'\ndead_letters.use = 'redis'"), [unused("skip")]);
    assert_eq!(of("source.use = 'redis_queue'\nerrors.then = 'stop'\ndead_letters.use = 'redis'"), [unused("stop")]);
    assert_eq!(
        of("source.use = 'redis_queue'\ndead_letters = { use = 'fiel', path = 'x' }"),
        ["functions.vm.dead_letters.use: unknown dead_letters 'fiel', did you mean 'file'?"]
    );
    assert_eq!(
        of("source.use = 'redis_queue'\ndead_letters.path = 'x'"),
        ["functions.vm.dead_letters.use: missing; name the dead_letters: available are file, redis"]
    );
    // what the policy would be is not known
    assert_eq!(
        of("source.use = 'tikcer'\ndead_letters.use = 'redis'"),
        ["functions.vm.source.use: unknown source 'tikcer', did you mean 'ticker'?"]
    );
    assert_eq!(of("source.use = 'ticker'\ndead_letters.use = 'redis'\nerrors.then = 'shrug'").len(), 1);
    assert_eq!(
        of("source.use = 'redis_queue'\ndead_leters.use = 'redis'"),
        ["functions.vm.dead_leters: unknown key, did you mean 'dead_letters'?"]
    );
}

#[test]
fn state_that_is_kept_belongs_to_no_worker() {
    let with = |state: &str| format!("{LOADER}source.use = 'redis_queue'\nworkers = 2\nstate = {{ {state} }}\n");
    for (state, name) in [("use = 'redis'", "redis"), ("use = 'file', path = 's'", "file")] {
        assert_eq!(
            problems(&with(&format!("{state}, scope = 'worker'"))),
            [format!(
                "functions.vm.state.scope: 'worker' is for state that ends with the process, and the store '{name}' keeps \
                 it; set state.key, or workers = 1"
            )]
        );
        assert_eq!(read(&with(&format!("{state}, key = '/host'"))).functions.len(), 1);
    }
}
