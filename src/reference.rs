//! The reference page of the configuration, rendered from its schema: what is registered is what is documented.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Said at the top of the page.
const HEAD: &str = "\
# Configuration reference

Generated from the registered components by `scripts/docs`; do not edit it by hand.

Durations are `500ms`, `5s`, `1m`, or a plain number of seconds; sizes are `64KiB`, `2MiB`, or a number of bytes.
Every value can be set by a variable, too: `GAUGEFN__FUNCTIONS__VM__SOURCE__PERIOD=2s` sets
`functions.vm.source.period` and wins over the file.
";

/// The page.
pub(crate) fn markdown(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    let none = Map::new();
    let top = schema["properties"].as_object().unwrap_or(&none);
    for (name, table) in top.iter().filter(|(name, _)| *name != "functions") {
        section(&mut page, 2, &format!("`[{name}]`"), table);
    }
    let function = &schema["properties"]["functions"]["additionalProperties"];
    section(&mut page, 2, "`[functions.NAME]`", function);
    for role in ["source", "loader", "executor", "state"] {
        variants(&mut page, &format!("`[functions.NAME.{role}]`"), &function["properties"][role]);
    }
    section(&mut page, 2, "`[functions.NAME.errors]`", &function["properties"]["errors"]);
    variants(&mut page, "`[functions.NAME.dead_letters]`", &function["properties"]["dead_letters"]);
    variants(&mut page, "`[functions.NAME.sinks.LABEL]`", &function["properties"]["sinks"]["additionalProperties"]);
    page
}

/// One role: each of its components.
fn variants(page: &mut String, title: &str, role: &Value) {
    let _ = writeln!(page, "\n## {title}\n\n{}.", sentence(role["description"].as_str().unwrap_or_default()));
    for variant in role["anyOf"].as_array().into_iter().flatten() {
        let name = variant["title"].as_str().unwrap_or_default();
        section(page, 3, &format!("`use = \"{name}\"`"), variant);
    }
}

fn section(page: &mut String, depth: usize, title: &str, table: &Value) {
    let _ = writeln!(page, "\n{} {title}", "#".repeat(depth));
    if let Some(text) = table["description"].as_str() {
        let _ = writeln!(page, "\n{}", sentence(&flat(text)));
    }
    let none = Map::new();
    let required: Vec<&str> = table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    // tables of their own have sections of their own
    let is_option = |property: &Value| {
        property["type"] != "object" && property.get("anyOf").is_none_or(|_| own_type(property).is_some())
    };
    let properties = table["properties"].as_object().unwrap_or(&none);
    let options: Vec<_> = properties.iter().filter(|(name, property)| *name != "use" && is_option(property)).collect();
    if options.is_empty() {
        page.push_str("\nNo options.\n");
        return;
    }
    page.push_str("\n| option | type | default | meaning |\n|---|---|---|---|\n");
    for (name, property) in options {
        let default = match &property["default"] {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            // it depends on other options
            _ if property["x-default"].is_string() => property["x-default"].as_str().unwrap_or_default().to_owned(),
            Value::Null => "none".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let meaning = flat(property["description"].as_str().unwrap_or_default()).replace('|', "\\|");
        let _ = writeln!(page, "| `{name}` | {} | {default} | {meaning} |", type_of(property));
    }
}

/// The name of a type that JSON has not, such as a duration, also where the option may be left out.
fn own_type(property: &Value) -> Option<&str> {
    let optional = property["anyOf"].as_array().into_iter().flatten().find_map(|variant| variant["x-type"].as_str());
    property["x-type"].as_str().or(optional)
}

/// The type of an option in one or two words.
fn type_of(property: &Value) -> String {
    let words = |value: &Value| {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" \\| ")
    };
    if let Some(name) = own_type(property) {
        return name.to_owned();
    }
    if property["enum"].is_array() {
        return words(&property["enum"]);
    }
    if let Some(variants) = property["oneOf"].as_array() {
        let names: Vec<_> =
            variants.iter().filter_map(|variant| variant["const"].as_str()).map(|word| format!("`{word}`")).collect();
        return names.join(" \\| ");
    }
    let kinds = match &property["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => return "value".to_owned(),
    };
    let names: Vec<_> = kinds
        .into_iter()
        .map(|kind| match kind {
            "string" => "text",
            "array" => "list",
            "boolean" => "`true` \\| `false`",
            other => other,
        })
        .collect();
    names.join(" or ")
}

/// Text of a doc comment on one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// With a capital at the start.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
