//! From the command line and the environment to settings: reads the layers, lays them over each other, checks them.

use config::{Value, ValueKind};
use runtime_core::config::layers::{self, Variables};
use runtime_core::config::{Problem, Settings, os_text, tree};
use runtime_core::contract::Fault;
use runtime_core::options::Span;

use crate::args::ConfigArgs;
use crate::deployment;
use crate::log;

/// The merged tree, not yet checked.
pub(crate) struct Layered {
    /// All layers, one over the other.
    pub(crate) tree: Value,
    /// The config file as it was named.
    pub(crate) file: Option<String>,
    /// For the log.
    pub(crate) warnings: Vec<String>,
    /// What the layers themselves had to complain of.
    problems: Vec<Problem>,
}

/// Reads all layers.
///
/// # Errors
/// The config file is missing or cannot be parsed.
pub(crate) fn layered(args: &ConfigArgs, variables: &dyn Variables) -> Result<Layered, Fault> {
    let path = args.config.clone().or_else(|| variables.get("GAUGEFN_CONFIG").map(|path| os_text::path(&path)));
    let mut tree = match &path {
        Some(path) => layers::file(path)?,
        None => layers::empty(),
    };
    let twice = layers::spelled_twice(&tree);
    let deployment = deployment::read(variables, &mut tree);
    let buried_in_file = buried(&tree, &deployment.tree, "");
    tree::overlay(&mut tree, deployment.tree);
    let (overrides, mut problems) = layers::overrides(variables, &tree);
    let mut warnings = deployment.warnings;
    warnings.extend(deployment::make_way(&mut tree, &overrides));
    problems.extend(buried(&tree, &overrides, ""));
    tree::overlay(&mut tree, overrides);
    oddities(&tree, "", &mut warnings);
    problems.extend(twice);
    problems.extend(buried_in_file);
    problems.extend(deployment.problems);
    Ok(Layered { tree, file: path.map(|path| path.display().to_string()), warnings, problems })
}

/// What a lower layer has in the place of a table: the upper layer's table would replace it without a word.
fn buried(lower: &Value, upper: &Value, path: &str) -> Vec<Problem> {
    let (Some(lower), Some(upper)) = (tree::table(lower), tree::table(upper)) else {
        return Vec::new();
    };
    let both = upper.iter().filter_map(|(key, upper)| Some((key, lower.get(key)?, upper)));
    both.flat_map(|(key, lower, upper)| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match &lower.kind {
            ValueKind::Table(_) => buried(lower, upper, &path),
            ValueKind::Nil => Vec::new(),
            _ if tree::table(upper).is_none() => Vec::new(),
            kind => {
                let message = format!("invalid type: {}, expected a table", tree::noun(kind));
                vec![Problem::new(path, message, tree::origin(lower))]
            }
        }
    })
    .collect()
}

/// What is odd about texts of variables, where it counts: copied white space in a key makes another key of it. Values
/// are not shown, as some are secrets.
fn oddities(value: &Value, path: &str, found: &mut Vec<String>) {
    // addresses lose what stands around them, and code may look as it likes
    const FREE: &[&str] = &["host", "url", "port", "db", "username", "source", "base64"];
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                let free = matches!(value.kind, ValueKind::String(_)) && FREE.contains(&key.as_str());
                if !free {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    oddities(value, &path, found);
                }
            }
        }
        ValueKind::String(text) if tree::from_variable(value) && text.trim().parse::<Span>().is_err() => {
            if let Some(odd) = redis_link::oddity(text) {
                let origin = tree::origin(value).unwrap_or_default();
                found.push(format!("{path} {odd}, which counts as a part of it (from {origin})"));
            }
        }
        _ => {}
    }
}

impl Layered {
    /// The settings.
    ///
    /// # Errors
    /// All problems at once, sorted by path.
    pub(crate) fn settings(&self) -> Result<Settings, Vec<Problem>> {
        let mut problems = self.problems.clone();
        problems.extend(self.wrong_level());
        match Settings::read(&self.tree, self.file.as_deref()) {
            Ok(settings) if problems.is_empty() => return Ok(settings),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        problems.sort();
        problems.dedup();
        Err(problems)
    }

    /// What is a filter is known here alone: the settings take any text.
    fn wrong_level(&self) -> Option<Problem> {
        let level = tree::table(&self.tree)?.get("log").and_then(tree::table)?.get("level")?;
        let ValueKind::String(text) = &level.kind else { return None };
        let message = log::filter(text).err()?;
        Some(Problem::new("log.level", message, tree::origin(level)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(file: &str, variables: &[(&str, &str)]) -> Layered {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gaugefn.toml");
        std::fs::write(&path, file).unwrap();
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        layered(&ConfigArgs { config: Some(path) }, &variables).unwrap()
    }

    fn redis(layered: &Layered) -> String {
        let table = tree::table(&layered.tree).unwrap().get("redis").and_then(tree::table).unwrap();
        let mut all: Vec<_> = table.iter().map(|(key, value)| format!("{key}={value}")).collect();
        all.sort();
        all.join(" ")
    }

    #[test]
    fn an_overriding_variable_replaces_what_lower_layers_say_in_other_words() {
        let file = "[redis]\nhost = 'file'\nport = 1\npassword_file = '/p'\n[functions.vm]\n";
        let url = ("GAUGEFN__REDIS__URL", "redis://over");
        assert_eq!(redis(&of(file, &[("REDIS_DB", "2"), url])), "password_file=/p url=redis://over");
        let host = ("GAUGEFN__REDIS__HOST", "over");
        let layered = of("[functions.vm]\n", &[("REDIS_URL", "rediss://cache"), host]);
        assert_eq!(redis(&layered), "host=over");
        assert_eq!(layered.warnings, ["redis.url of REDIS_URL is ignored: GAUGEFN__REDIS__HOST names the server"]);
        let both = [("REDIS_URL", "redis://cache"), ("GAUGEFN__REDIS__URL", "redis://over/1"), host];
        assert_eq!(redis(&of("[functions.vm]\n", &both)), "host=over url=redis://over/1");
        let password = [("REDIS_PASSWORD", "a"), ("GAUGEFN__REDIS__PASSWORD_FILE", "/q")];
        assert_eq!(redis(&of(file, &password)), "host=file password_file=/q port=1");
    }

    #[test]
    fn what_a_table_would_bury_is_a_problem() {
        let said = |file: &str, variables: &[(&str, &str)]| {
            let problems = of(file, variables).settings().err().unwrap_or_default();
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>()
        };
        let host = [("REDIS_HOST", "cache"), ("REDIS_OUTPUT_KEY", "r")];
        assert_eq!(said("", &host), [""; 0]);
        assert_eq!(said("redis = 'cache'", &host), ["redis: invalid type: string \"cache\", expected a table"]);
        assert_eq!(said("functions = 5", &host), ["functions: invalid type: integer `5`, expected a table"]);
    }

    #[test]
    fn what_is_odd_about_a_variable_is_said_without_its_value() {
        let odd = [
            ("REDIS_PASSWORD", "s3cret "),
            ("REDIS_HOST", " cache "),
            ("REDIS_INPUT_KEY", "\"metrics\""),
            ("REDIS_OUTPUT_KEY", "result\n"),
            ("REDIS_MONITOR_PERIOD", " 5 "),
            ("GAUGEFN__FUNCTIONS__DEFAULT__STATE__KEY", "/host\u{a0}"),
            ("PYFILE", "\ndef handler(input, context):\n    pass\n"),
        ];
        assert_eq!(
            of("", &odd).warnings,
            [
                "redis.password ends with white space, which counts as a part of it (from REDIS_PASSWORD)",
                "functions.default.source.key is in quotes, which counts as a part of it (from REDIS_INPUT_KEY)",
                "functions.default.state.key ends with white space, which counts as a part of it \
                 (from GAUGEFN__FUNCTIONS__DEFAULT__STATE__KEY)",
            ]
        );
        assert_eq!(of("[redis]\npassword = 's3cret '\n[functions.vm]\n", &[]).warnings, [""; 0]);
    }

    #[test]
    fn a_wrong_level_is_named_beside_other_problems() {
        let problems = of("[log]\nlevel = 'loud'\nformat = 'xml'\n", &[]).settings().err().unwrap();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["log.format", "log.level"]);
    }
}
