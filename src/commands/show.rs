//! `gaugefn config`: what is in force, and where it came from. Secrets are masked.

use config::{Value, ValueKind};
use runtime_core::config::section::{Section, schema_of};
use runtime_core::config::settings::{ErrorOptions, ErrorTable};
use runtime_core::config::{Settings, tree};
use runtime_core::registry::{Role, Shared};
use serde_json::json;

use super::{Context, say};
use crate::args::ConfigArgs;

pub(super) fn show(context: &Context, args: &ConfigArgs, explain: bool) -> u8 {
    let (layered, settings) = match context.configured(args) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    for warning in &layered.warnings {
        say(&format!("warning: {warning}"));
    }
    let mut page = Page { text: String::new(), explain };
    page.all(&layered.tree, &settings);
    context.print(&page.text)
}

/// The configuration as TOML, table by table.
struct Page {
    text: String,
    explain: bool,
}

impl Page {
    fn all(&mut self, tree: &Value, settings: &Settings) {
        let top = |key: &str| tree::table(tree).and_then(|top| top.get(key)).cloned();
        let section =
            |path: &str| Section::new(path, top(path).unwrap_or_else(runtime_core::config::layers::empty), None);
        use runtime_core::config::settings::{AdminOptions, FunctionOptions, LogOptions};
        self.table(&section("log"), None, &schema_of::<LogOptions>());
        self.table(&section("admin"), None, &schema_of::<AdminOptions>());
        for shared in Shared::all() {
            self.table(&section(shared.name), None, &(shared.schema)());
        }
        for function in &settings.functions {
            let own = top("functions").as_ref().and_then(tree::table).and_then(|all| all.get(&function.name)).cloned();
            let path = format!("functions.{}", function.name);
            let own = Section::new(path.clone(), own.unwrap_or_else(runtime_core::config::layers::empty), None);
            self.table(&own, None, &schema_of::<FunctionOptions>());
            self.component(&function.source);
            if let Some(loader) = &function.loader {
                self.component(loader);
            }
            self.component(&function.executor);
            self.component(&function.state);
            let errors = own.get("errors").cloned().unwrap_or_else(runtime_core::config::layers::empty);
            self.table(&Section::new(format!("{path}.errors"), errors, None), None, &policy(&function.errors));
            if let Some(letters) = &function.dead_letters {
                self.component(letters);
            }
            for (_, sink) in &function.sinks {
                self.component(sink);
            }
        }
    }

    fn component<R: Role + ?Sized>(&mut self, choice: &runtime_core::config::settings::Choice<R>) {
        let mut schema = (choice.entry.schema)().to_value();
        let common = runtime_core::config::section::schema_of::<R::Common>().to_value();
        if let (Some(own), Some(common)) = (schema["properties"].as_object_mut(), common["properties"].as_object()) {
            own.extend(common.clone());
        }
        let schema = schemars::Schema::try_from(schema).unwrap_or_default();
        self.table(&choice.section, Some(choice.entry.name), &schema);
    }

    /// One table: what is set, and the defaults of what is not.
    fn table(&mut self, section: &Section, name: Option<&str>, schema: &schemars::Schema) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&format!("[{}]\n", section.path()));
        if let Some(name) = name {
            self.line(&format!("use = {name:?}"), None);
        }
        let properties =
            schema.get("properties").and_then(|properties| properties.as_object()).cloned().unwrap_or_default();
        for (key, property) in &properties {
            match (section.get(key), property.get("default")) {
                (Some(value), _) => {
                    let origin = tree::origin(value);
                    self.line(&format!("{key} = {}", toml_text(key, value, property)), origin.as_deref());
                }
                (None, Some(default)) if !default.is_null() => {
                    self.line(&format!("{key} = {default}"), Some("default"))
                }
                (None, _) => {}
            }
        }
    }

    fn line(&mut self, text: &str, origin: Option<&str>) {
        match origin {
            Some(origin) if self.explain => self.text.push_str(&format!("{text:<40} # {origin}\n")),
            _ => self.text.push_str(&format!("{text}\n")),
        }
    }
}

/// The table `errors`, with what is in force in the place of defaults that depend on the source.
fn policy(errors: &ErrorOptions) -> schemars::Schema {
    let mut schema = schema_of::<ErrorTable>().to_value();
    schema["properties"]["retries"]["default"] = json!(errors.retries);
    schema["properties"]["then"]["default"] = json!(errors.then);
    schemars::Schema::try_from(schema).unwrap_or_default()
}

/// A value as TOML, a secret masked. Text of a variable that stands for a number or a truth value is shown as one.
fn toml_text(key: &str, value: &Value, property: &serde_json::Value) -> String {
    let types = property.get("type").map(ToString::to_string).unwrap_or_default();
    let plain = ["integer", "number", "boolean"].iter().any(|kind| types.contains(kind));
    match &value.kind {
        ValueKind::String(text) if types.contains("array") && tree::from_variable(value) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let parts: Vec<_> = parts.map(|part| toml::Value::String(tree::masked(key, part)).to_string()).collect();
            format!("[{}]", parts.join(", "))
        }
        ValueKind::String(text) if plain && tree::from_variable(value) && !tree::is_secret(key) => text.clone(),
        ValueKind::String(text) => toml::Value::String(tree::masked(key, text)).to_string(),
        ValueKind::Array(list) => {
            let parts: Vec<_> = list.iter().map(|part| toml_text(key, part, &serde_json::Value::Null)).collect();
            format!("[{}]", parts.join(", "))
        }
        _ if tree::is_secret(key) => format!("{:?}", tree::MASK),
        _ => value.to_string(),
    }
}
