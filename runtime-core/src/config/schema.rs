//! The JSON Schema of the config file, composed from the registered components.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::section::schema_of;
use super::settings::{AdminOptions, ErrorTable, FunctionOptions, LogOptions};
use crate::contract::{DeadLetters, Executor, Fault, Loader, Sink, Source, StateStore};
use crate::registry::{Entry, Registry, Role, Shared};

/// The schema of the whole file.
///
/// # Errors
/// Two components share one name.
pub fn whole() -> Result<Value, Fault> {
    let mut function = closed(value_of::<FunctionOptions>());
    let properties = properties_of(&mut function);
    properties.insert("source".to_owned(), any_of::<dyn Source>("where events come from", true)?);
    properties.insert("loader".to_owned(), any_of::<dyn Loader>("where the function's code comes from", true)?);
    properties
        .insert("executor".to_owned(), any_of::<dyn Executor>("what runs the code; where none is named the loader's file decides: native for a shared library, else python", false)?);
    properties
        .insert("state".to_owned(), any_of::<dyn StateStore>("what keeps context.env; memory without a table", false)?);
    properties.insert("errors".to_owned(), closed(value_of::<ErrorTable>()));
    let letters = "what keeps events that failed for good, with errors.then = \"dead_letter\"; without a table it is \
                   `redis` where the source is of Redis, else `file` beside the state's or the source's file, else \
                   `redis` where the state or a sink is of Redis";
    properties.insert("dead_letters".to_owned(), any_of::<dyn DeadLetters>(letters, true)?);
    let sinks =
        any_of::<dyn Sink>("where a result goes; `use` may be left out where the label is a component's name", false)?;
    let label = json!("^[a-z][a-z0-9_-]*$");
    properties.insert(
        "sinks".to_owned(),
        json!({
            "type": "object", "description": "where results go, each under a label of its own",
            "propertyNames": { "pattern": label }, "additionalProperties": sinks,
        }),
    );
    function["required"] = json!(["source"]);

    let mut top = Map::new();
    top.insert("log".to_owned(), closed(value_of::<LogOptions>()));
    top.insert("admin".to_owned(), closed(value_of::<AdminOptions>()));
    for table in Shared::all() {
        top.insert(table.name.to_owned(), closed((table.schema)().to_value()));
    }
    top.insert(
        "functions".to_owned(),
        json!({
            "type": "object", "description": "the functions, each under a label of its own",
            "propertyNames": { "pattern": label }, "additionalProperties": function,
        }),
    );
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gaugefn",
        "description": "The config file of gaugefn: TOML, YAML or JSON.",
        "type": "object",
        "properties": top,
        "additionalProperties": false,
    }))
}

fn value_of<T: JsonSchema>() -> Value {
    schema_of::<T>().to_value()
}

fn properties_of(schema: &mut Value) -> &mut Map<String, Value> {
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"].as_object_mut().unwrap_or_else(|| unreachable!("made an object above"))
}

/// Unknown keys are refused, so an editor may mark them.
fn closed(mut schema: Value) -> Value {
    properties_of(&mut schema);
    schema["additionalProperties"] = json!(false);
    schema
}

/// One of the components of a role, told apart by `use`.
fn any_of<R: Role + ?Sized>(description: &str, needs_use: bool) -> Result<Value, Fault>
where
    Entry<R>: inventory::Collect,
{
    let mut variants = Vec::new();
    for entry in Registry::<R>::collect()?.entries() {
        let mut schema = closed((entry.schema)().to_value());
        schema["description"] = json!(entry.summary);
        schema["title"] = json!(entry.name);
        let mut common = value_of::<R::Common>();
        properties_of(&mut schema).append(properties_of(&mut common));
        properties_of(&mut schema)
            .insert("use".to_owned(), json!({ "const": entry.name, "description": "the component" }));
        if needs_use {
            match schema["required"].as_array_mut() {
                Some(required) => required.push(json!("use")),
                None => schema["required"] = json!(["use"]),
            }
        }
        variants.push(schema);
    }
    Ok(json!({ "description": description, "anyOf": variants }))
}
