//! The JSON Schema, and the way from settings to a running function.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;

use super::*;
use crate::config::schema;
use crate::contract::Facts;
use crate::engine::assemble::Surroundings;
use crate::engine::{Board, End, assemble, run, stop};
use crate::isolation::Restarts;
use crate::main_thread;

/// Every object of the schema that describes an object.
fn objects<'a>(schema: &'a Json, found: &mut Vec<&'a Json>) {
    match schema {
        Json::Object(map) => {
            if map.get("type") == Some(&Json::from("object")) {
                found.push(schema);
            }
            map.values().for_each(|value| objects(value, found));
        }
        Json::Array(list) => list.iter().for_each(|value| objects(value, found)),
        _ => {}
    }
}

fn titles(any_of: &Json) -> Vec<&str> {
    any_of["anyOf"].as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap()).collect()
}

#[test]
fn the_schema_has_every_table_and_every_component() {
    let whole = schema::whole().unwrap();
    assert_eq!(whole["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let top: Vec<_> = whole["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(top, ["log", "admin", "link", "functions"]);
    let function = &whole["properties"]["functions"]["additionalProperties"];
    let parts = &function["properties"];
    assert_eq!(titles(&parts["source"]), ["file", "newest", "redis_queue", "ticker"]);
    assert_eq!(titles(&parts["loader"]), ["text"]);
    assert_eq!(titles(&parts["executor"]), ["bare", "python"]);
    assert_eq!(titles(&parts["state"]), ["file", "memory", "redis"]);
    assert_eq!(titles(&parts["sinks"]["additionalProperties"]), ["paper", "redis_set"]);
    assert_eq!(titles(&parts["dead_letters"]), ["file", "redis"]);
    assert_eq!(function["required"], serde_json::json!(["source"]));
    let text = &parts["loader"]["anyOf"][0];
    assert_eq!(text["required"], serde_json::json!(["path", "use"]));
    assert_eq!(text["properties"]["use"]["const"], "text");
    assert_eq!(parts["sinks"]["additionalProperties"]["anyOf"][0].get("required"), None);
    assert_eq!(
        parts["sinks"]["additionalProperties"]["anyOf"][0]["properties"]["sheets"]["description"],
        "How much of it."
    );
}

#[test]
fn the_schema_is_closed_and_complete_in_itself() {
    let whole = schema::whole().unwrap();
    let mut found = Vec::new();
    objects(&whole, &mut found);
    assert!(found.len() > 10, "{}", found.len());
    for object in found {
        assert!(object.get("additionalProperties").is_some(), "an editor cannot mark unknown keys: {object}");
        let properties: BTreeSet<_> = object["properties"].as_object().into_iter().flat_map(|all| all.keys()).collect();
        for required in object["required"].as_array().into_iter().flatten() {
            assert!(properties.contains(&required.as_str().unwrap().to_owned()), "{required} in {object}");
        }
    }
    assert!(!whole.to_string().contains("\"$ref\""), "definitions are written in place");
}

#[tokio::test]
async fn settings_become_a_function_that_runs() {
    let settings = read(&format!("{VM}handler = 'module.name'\nisolation = 'inline'\n[functions.vm.sinks.paper]\n"));
    let board = Board::default();
    let around = Surroundings {
        shared: &settings.shared,
        main_thread: main_thread::pair().0,
        stdout: Arc::new(tempfile::tempfile().unwrap()),
        facts: Facts { host: Some("h".to_owned()), input_key: Some("not this one".to_owned()), ..Facts::default() },
        isolate: None,
        encoded_state: false,
        restarts: Restarts::default(),
    };
    let mut parts = assemble(&settings.functions[0], &around, &board).await.unwrap_or_else(|fault| panic!("{fault}"));
    let told = parts.function.invoke(&[crate::contract::Event::new("1", "{}")], Default::default()).await.unwrap();
    let crate::contract::Returned::Output(told) = &told[0].returned else { panic!("{told:?}") };
    assert_eq!(told, "vm module.name Some(\"f.py\") Some(\"ticks\")");
    let status = &board.functions()["vm"];
    assert_eq!(status.revision.as_deref(), Some("0123456789ab"));
    let shown: Vec<_> = status.parts.iter().map(|(part, name)| format!("{part} {name}")).collect();
    assert_eq!(shown, ["executor python", "sinks paper", "source ticker", "state memory"]);
    let (_stopper, stop) = stop();
    assert!(matches!(run(parts, stop, board, true).await, End::Exhausted));

    let settings = read(&format!("{VM}handler = 'module.missing'\nisolation = 'inline'\n"));
    let around = Surroundings { shared: &settings.shared, ..around };
    let refused = assemble(&settings.functions[0], &around, &Board::default()).await;
    assert_eq!(refused.err().unwrap().to_string(), "no function 'missing'");
}

#[test]
fn options_that_every_component_of_a_role_has() {
    let with = |options: &str| VM.replace("'f.py'", &format!("'f.py', {options}"));
    let settings = read(&with("reload = false, reload_state = 'reset'"));
    let reload = settings.functions[0].reload;
    assert_eq!(
        reload,
        crate::config::settings::ReloadOptions {
            reload: false,
            reload_state: crate::config::settings::ReloadState::Reset
        }
    );
    assert_eq!(read(VM).functions[0].reload, crate::config::settings::ReloadOptions::default());
    assert_eq!(
        problems(&with("reload = 'maybe', reload_state = 'drop', reloud = true")),
        [
            "functions.vm.loader.reload: invalid type: string \"maybe\", expected a boolean",
            "functions.vm.loader.reload_state: unknown variant `drop`, expected `keep` or `reset`",
            "functions.vm.loader.reloud: unknown key, did you mean 'reload'?",
        ]
    );
}
