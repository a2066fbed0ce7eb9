//! The whole way from files and variables to settings, with components of the tests' own.

mod components;
mod failures;
mod labels;
mod layered;
mod shape;
mod unavailable;

use std::collections::BTreeMap;

use config::Value;

use super::settings::Settings;
use super::{layers, tree};

/// A function that has everything it needs.
const VM: &str = "[functions.vm]\nsource = { use = 'ticker' }\nloader = { use = 'text', path = 'f.py' }\n";

fn file(name: &str, text: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    layers::file(&path).unwrap()
}

/// The tree of a file with these variables over it; what the variables themselves had to complain of must be nothing.
fn layered(name: &str, text: &str, variables: &[(&str, &str)]) -> Value {
    let mut tree = file(name, text);
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (overrides, problems) = layers::overrides(&variables, &tree);
    assert_eq!(problems, []);
    tree::overlay(&mut tree, overrides);
    tree
}

fn read(text: &str) -> Settings {
    settings(&file("g.toml", text))
}

fn settings(tree: &Value) -> Settings {
    Settings::read(tree, Some("g.toml")).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// All problems, without the folder of the file that they came from.
fn problems(text: &str) -> Vec<String> {
    problems_of(&file("g.toml", text))
}

fn problems_of(tree: &Value) -> Vec<String> {
    let Err(problems) = Settings::read(tree, Some("g.toml")) else { panic!("no problem") };
    let from_file = |origin: &String| origin.contains('/') || origin == "g.toml";
    problems
        .into_iter()
        .map(|mut problem| {
            problem.origin = problem.origin.filter(|origin| !from_file(origin));
            problem.to_string()
        })
        .collect()
}
