//! What is registered: in this build, and in the one that is shipped, whose linker leaves out what nobody names.
//! And the schema that is made of it.

use crate::support::gaugefn::Gaugefn;
use crate::support::project;
use serde_json::Value;
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Every component of this version, in the order in which an event meets them.
const EXPECTED: &[(&str, &[&str])] = &[
    ("source", &["file", "host", "redis_key", "redis_stream"]),
    ("loader", &["dir", "file", "native", "zip"]),
    ("executor", &["native", "passthrough", "python"]),
    ("state", &["file", "memory", "redis"]),
    ("sink", &["file", "redis_key", "redis_stream", "stdout"]),
    ("dead_letters", &["file", "redis"]),
];

fn expected() -> Vec<(String, String)> {
    EXPECTED
        .iter()
        .flat_map(|(role, names)| names.iter().map(|name| ((*role).to_owned(), (*name).to_owned())))
        .collect()
}

/// Role and name of each row of `gaugefn components --format json`.
fn rows(json: &str) -> Vec<(String, String)> {
    let rows: Vec<Value> = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_else(|| panic!("no {key} in {row}")).to_owned();
    for row in &rows {
        let summary = text(row, "summary");
        assert!(!summary.is_empty() && !summary.contains('\n') && !summary.ends_with('.'), "{row}");
        assert_eq!(row.as_object().unwrap().len(), 3, "{row}");
    }
    rows.iter().map(|row| (text(row, "role"), text(row, "name"))).collect()
}

#[test]
fn this_build_registers_every_component() {
    let json = Gaugefn::command().args(["components", "--format", "json"]).output(PATIENCE);
    assert_eq!((json.status.code(), json.stderr.as_str()), (Some(0), ""), "{json:?}");
    assert_eq!(rows(&json.stdout), expected());

    let table = Gaugefn::command().args(["components"]).output(PATIENCE);
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned())
    };
    assert_eq!(table.stdout.lines().map(read).collect::<Vec<_>>(), expected());
}

mod load {
    use super::*;

    /// Builds it where it is not built yet, which takes some minutes and both cores.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the runner's variables must be known to be taken out")]
    fn a_release_build_registers_every_component() {
        let manifest: toml::Table = read_to_string(project("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["profile"]["release"]["lto"].as_str(), Some("thin"), "this is about builds with LTO");

        let mut build = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        build.current_dir(project("")).args(["build", "--release", "--locked", "--bin", "gaugefn"]);
        // what the test runner tells this test about itself would make build scripts run again, here and next time
        for (name, _) in std::env::vars_os() {
            let own = name.to_str().is_some_and(|name| {
                name.starts_with("CARGO_PKG_")
                    || name.starts_with("CARGO_MANIFEST_")
                    || name.starts_with("CARGO_BIN_EXE_")
                    || name.starts_with("NEXTEST")
                    || ["CARGO", "LD_LIBRARY_PATH", "OUT_DIR"].contains(&name)
            });
            if own {
                build.env_remove(name);
            }
        }
        let built = build.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let listed = Command::new(target.join("release/gaugefn"))
            .args(["components", "--format", "json"])
            .env_clear()
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        assert_eq!(rows(&String::from_utf8(listed.stdout).unwrap()), expected());
    }
}

fn schema() -> Value {
    let output = Gaugefn::command().args(["schema"]).output(PATIENCE);
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

/// What is wrong with a value by this schema; a keyword that JSON Schema does not know, or knows otherwise, panics.
fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(always) = schema.as_bool() {
        return if always { vec![] } else { vec![format!("{path}: nothing is accepted")] };
    }
    let mut found = Vec::new();
    let mut wrong = |text: String| found.push(format!("{path}: {text}"));
    for (keyword, rule) in schema.as_object().unwrap_or_else(|| panic!("{path}: no schema: {schema}")) {
        match keyword.as_str() {
            "$schema" | "title" | "description" => assert!(rule.is_string(), "{path}: {keyword}"),
            "default" => {}
            "format" => assert!(rule.is_string(), "{path}: {keyword}"),
            own if own.starts_with("x-") => {}
            "type" => {
                let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                if !kinds.iter().any(|kind| is_of(value, kind.as_str().unwrap())) {
                    wrong(format!("{value} is no {rule}"));
                }
            }
            "const" if rule != value => wrong(format!("{value} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => wrong(format!("{value} is none of {rule}")),
            "const" | "enum" => {}
            "minimum" if value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap()) => {
                wrong(format!("{value} is below {rule}"));
            }
            "maximum" if value.as_f64().is_some_and(|number| number > rule.as_f64().unwrap()) => {
                wrong(format!("{value} is above {rule}"));
            }
            "minimum" | "maximum" => assert!(rule.is_number(), "{path}: {keyword}"),
            "minLength" => {
                let least = rule.as_u64().unwrap();
                if value.as_str().is_some_and(|text| (text.chars().count() as u64) < least) {
                    wrong(format!("{value} is shorter than {least}"));
                }
            }
            // this crate has no engine for them; what they accept is the settings' own test
            "pattern" => assert!(rule.as_str().is_some_and(|text| text.starts_with('^')), "{path}: {rule}"),
            "required" => {
                for key in rule.as_array().unwrap() {
                    if value.as_object().is_some_and(|table| !table.contains_key(key.as_str().unwrap())) {
                        wrong(format!("{key} is missing"));
                    }
                }
            }
            "anyOf" => {
                let each: Vec<_> =
                    rule.as_array().unwrap().iter().map(|variant| problems(variant, value, path)).collect();
                if each.iter().all(|problems| !problems.is_empty()) {
                    wrong(format!("{value} fits no variant: {each:?}"));
                }
            }
            "oneOf" => {
                let fits = rule.as_array().unwrap().iter().filter(|variant| problems(variant, value, path).is_empty());
                let count = fits.count();
                if count != 1 {
                    wrong(format!("{value} fits {count} variants"));
                }
            }
            "properties" | "additionalProperties" | "propertyNames" | "items" => {}
            other => panic!("{path}: '{other}' is no keyword of JSON Schema that is used here"),
        }
    }
    if let (Some(table), Some(_)) = (value.as_object(), schema.as_object()) {
        for (key, inner) in table {
            let path = format!("{path}.{key}");
            match (schema["properties"].get(key), schema.get("additionalProperties")) {
                (Some(rule), _) => found.extend(problems(rule, inner, &path)),
                (None, Some(Value::Bool(false))) => found.push(format!("{path}: unknown")),
                (None, Some(rule)) => found.extend(problems(rule, inner, &path)),
                (None, None) => {}
            }
        }
    }
    for (n, inner) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(problems(&schema["items"], inner, &format!("{path}[{n}]")));
    }
    found
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("'{other}' is no type of JSON Schema"),
    }
}

fn judged(toml: &str) -> Vec<String> {
    let table: toml::Table = toml.parse().unwrap();
    problems(&schema(), &serde_json::to_value(table).unwrap(), "$")
}

#[test]
fn the_schema_accepts_the_example_and_refuses_mistakes() {
    let example = read_to_string(project("examples/gaugefn.toml")).unwrap();
    assert_eq!(judged(&example), Vec::<String>::new());
    for (mistake, place) in [
        (example.replace("trigger = ", "triger = "), "triger"),
        (example.replace("\"redis_key\"\nkey = \"metrics\"", "\"redis_kye\"\nkey = \"metrics\""), "redis_kye"),
        (example.replace("format = \"text\"", "format = \"yaml\""), "$.log.format"),
        (example.replace("key = \"vm-result\"", ""), "$.functions.vm.sinks.result"),
        (format!("{example}\n[functions.empty]\n"), "$.functions.empty: \"source\" is missing"),
        (format!("colour = 1\n{example}"), "$.colour: unknown"),
    ] {
        assert_ne!(mistake, example);
        let problems = judged(&mistake);
        assert!(problems.iter().any(|problem| problem.contains(place)), "{place}: {problems:?}");
    }
}

#[test]
fn the_schema_names_its_dialect_and_describes_every_option() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let mut bare = Vec::new();
    undescribed(&schema, "$", &mut bare);
    assert_eq!(bare, Vec::<String>::new(), "options without a description or a default");
    // every component can be chosen
    let function = &schema["properties"]["functions"]["additionalProperties"]["properties"];
    for (role, names) in EXPECTED {
        let variants = if *role == "sink" { &function["sinks"]["additionalProperties"] } else { &function[role] };
        let titles: Vec<_> =
            variants["anyOf"].as_array().unwrap().iter().map(|variant| variant["title"].as_str().unwrap()).collect();
        assert_eq!(titles, *names, "{role}");
    }
}

/// Collects the paths of options, at any depth, that say nothing of themselves or do not tell their default.
fn undescribed(schema: &Value, path: &str, bare: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let table = property["type"] == "object" || property["anyOf"].is_array() && property.get("x-type").is_none();
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&name.as_str().into()));
        if !table
            && !required
            && name != "use"
            && property.get("default").is_none()
            && !property["x-default"].is_string()
            && !property["x-secret"].is_boolean()
        {
            bare.push(format!("{path}: no default"));
        }
        if !table && property["description"].as_str().is_none_or(str::is_empty) {
            bare.push(path.clone());
        }
        undescribed(property, &path, bare);
    }
    if schema["additionalProperties"].is_object() {
        undescribed(&schema["additionalProperties"], &format!("{path}.*"), bare);
    }
    for variant in schema["anyOf"].as_array().into_iter().flatten() {
        let title = variant["title"].as_str().unwrap_or_default();
        undescribed(variant, &format!("{path}({title})"), bare);
    }
}

/// `gaugefn config` with these variables.
fn config(args: &[&str], env: &[(&str, &str)]) -> (String, String) {
    let mut command = Gaugefn::command().current_dir(project("")).args(["config"]).args(args);
    for (name, value) in env {
        command = command.env(name, value);
    }
    let output = command.output(PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    (output.stdout, output.stderr)
}

#[test]
fn the_effective_configuration_is_a_config_file_of_the_same_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("effective.toml");
    let example = ["--config", "examples/gaugefn.toml"];
    let changed = [
        ("GAUGEFN__FUNCTIONS__VM__SOURCE__PERIOD", "2"),
        ("REDIS_OUTPUT_KEY", "out"),
        ("GAUGEFN__LOG__FORMAT", "json"),
    ];
    for (args, env) in [(&example[..], &[][..]), (&[], &[]), (&example, &changed[..]), (&[], &changed[1..])] {
        let (effective, _) = config(args, env);
        std::fs::write(&path, &effective).unwrap();
        let again = config(&["--config", path.to_str().unwrap()], &[]);
        assert_eq!(again, (effective.clone(), String::new()));
        assert_eq!(judged(&effective), Vec::<String>::new(), "{effective}");
    }
    let (effective, _) = config(&[], &changed[1..]);
    let table: toml::Table = effective.parse().unwrap();
    assert_eq!(table["log"]["format"].as_str(), Some("json"));
    assert_eq!(table["functions"]["default"]["source"]["trigger"].as_str(), Some("change"), "defaults are shown");
    assert_eq!(table["functions"]["default"]["errors"]["then"].as_str(), Some("skip"));
}

#[test]
fn every_value_has_an_origin_and_no_secret_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter3\n").unwrap();
    let file = secret.to_str().unwrap();
    let env = [("REDIS_URL", "redis://me:hunter2@localhost:7/1"), ("REDIS_OUTPUT_KEY", "out")];
    let (text, _) = config(&["--explain"], &env);
    assert!(text.contains("url = \"redis://me:********@localhost:7/1\"") && text.contains("# REDIS_URL"), "{text}");
    let (file_text, _) = config(&["--explain"], &[("REDIS_PASSWORD_FILE", file), ("REDIS_USERNAME", "me")]);
    let (plain, _) = config(&["--explain"], &[("REDIS_PASSWORD", "hunter2")]);
    assert!(plain.contains("password = \"********\""), "{plain}");
    for text in [text, file_text, plain] {
        assert!(!text.contains("hunter"), "{text}");
        for line in text.lines().filter(|line| line.contains(" = ") && !line.starts_with("use = ")) {
            assert!(line.contains(" # "), "no origin: {line}");
        }
    }
}
