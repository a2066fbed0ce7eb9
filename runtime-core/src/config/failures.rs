//! What happens when calls fail, and where events are kept that failed for good.

use config::{Map, Value, ValueKind};

use super::reader::Reader;
use super::section::Section;
use super::settings::{Choice, ErrorOptions, ErrorTable, Then};
use crate::contract::{DeadLetters, Sink, Source, StateStore};

/// Named as the origin of values that nobody wrote.
const DEFAULT: &str = "default";

/// The component that keeps letters on a server, and what the names of all components there begin with.
const REDIS: &str = "redis";

/// The component that keeps letters on this machine; source and store of files have the same name.
const FILE: &str = "file";

impl Reader {
    /// The error policy, and the dead letters where it wants some. `letters` is their table, where there is one; parts
    /// that are none have problems of their own.
    pub(super) fn failures(
        &mut self,
        errors: &Section,
        letters: Option<Section>,
        source: Option<&Choice<dyn Source>>,
        state: Option<&Choice<dyn StateStore>>,
        sinks: Option<&[(String, Choice<dyn Sink>)]>,
    ) -> (ErrorOptions, Option<Choice<dyn DeadLetters>>) {
        let (table, problems) = errors.read::<ErrorTable>(&[]);
        let unreadable = problems.iter().any(|problem| problem.path.ends_with(".then"));
        self.problems.extend(problems);
        let table = table.unwrap_or_default();
        let policy = table.resolve(source.is_some_and(|source| source.entry.keeps_events));
        let wanted = policy.then == Then::DeadLetter;
        // without them, what the policy is cannot be told
        let known = !unreadable && (source.is_some() || table.then.is_some());
        let chosen = match letters {
            Some(letters) => {
                if known && !wanted {
                    let then = if policy.then == Then::Stop { "stop" } else { "skip" };
                    let message = format!(
                        "nothing would be kept here, as errors.then is '{then}'; set it to 'dead_letter', or remove this \
                         table"
                    );
                    self.problems.push(letters.problem("", message));
                }
                self.choose::<dyn DeadLetters>(letters, None)
            }
            None if known && wanted => {
                let (Some(source), Some(state), Some(sinks)) = (source, state, sinks) else { return (policy, None) };
                let path = errors.path().strip_suffix(".errors").unwrap_or_default();
                match implied(source, state, sinks) {
                    Some(table) => {
                        let section = Section::new(format!("{path}.dead_letters"), table, errors.origin());
                        self.choose::<dyn DeadLetters>(section, None)
                    }
                    None => {
                        let message = format!(
                            "'dead_letter' has no place to keep events: add [{path}.dead_letters] with use = \"file\" \
                             and a path"
                        );
                        self.problems.push(errors.problem("then", message));
                        None
                    }
                }
            }
            None => None,
        };
        (policy, chosen.filter(|_| wanted))
    }
}

/// The place that the function's other parts suggest, best first: where the letters can be committed together with
/// everything else, then where something of the function outlives the process already.
fn implied(
    source: &Choice<dyn Source>,
    state: &Choice<dyn StateStore>,
    sinks: &[(String, Choice<dyn Sink>)],
) -> Option<Value> {
    let of_redis = |name: &str| name.starts_with(REDIS);
    let server = |section: &Section| table(REDIS, section.get("url").map(|url| ("url", url.clone())));
    let beside = |section: &Section| {
        let ValueKind::String(path) = &section.get("path")?.kind else { return None };
        // standard input
        (path != "-").then(|| table(FILE, Some(("path", value(&format!("{path}.dead"))))))
    };
    if of_redis(source.entry.name) {
        return Some(server(&source.section));
    }
    let files = [(state.entry.name, &state.section), (source.entry.name, &source.section)];
    let mut files = files.into_iter().filter(|(name, _)| *name == FILE);
    if let Some(table) = files.find_map(|(_, section)| beside(section)) {
        return Some(table);
    }
    if of_redis(state.entry.name) {
        return Some(server(&state.section));
    }
    sinks.iter().find(|(_, sink)| of_redis(sink.entry.name)).map(|(_, sink)| server(&sink.section))
}

fn table(name: &str, option: Option<(&str, Value)>) -> Value {
    let mut table = Map::new();
    table.insert("use".to_owned(), value(name));
    if let Some((key, value)) = option {
        table.insert(key.to_owned(), value);
    }
    Value::new(None, ValueKind::Table(table))
}

fn value(text: &str) -> Value {
    Value::new(Some(&DEFAULT.to_owned()), text)
}
