//! The connection, from its variables.

use config::{Value, ValueKind};
use runtime_core::config::Problem;
use runtime_core::config::layers::{Variables, of_variable, put};
use runtime_core::config::tree;

use super::Reader;

const HOST: &[&str] = &["REDIS_HOST", "REDIS_IP", "RUNTIME_REDIS_HOST"];
const PORT: &[&str] = &["REDIS_PORT", "RUNTIME_REDIS_PORT"];

/// Variables that are keys of `[redis]` as they are.
const PLAIN: &[(&str, &str)] = &[
    ("REDIS_URL", "url"),
    ("REDIS_DB", "db"),
    ("REDIS_USERNAME", "username"),
    ("REDIS_USERNAME_FILE", "username_file"),
    ("REDIS_PASSWORD", "password"),
    ("REDIS_PASSWORD_FILE", "password_file"),
];

/// Keys that a variable replaces in the file although they have another name.
const REPLACES: &[(&str, &[&str])] = &[
    ("url", &["host", "port", "db"]),
    ("host", &["url"]),
    ("username", &["username_file"]),
    ("username_file", &["username"]),
    ("password", &["password_file"]),
    ("password_file", &["password"]),
];

/// Fills `redis` of the layer, and removes what it contradicts from the file's tree.
pub(super) fn fill(reader: &mut Reader<'_>, layer: &mut Value, file: &mut Value) {
    let mut set = Vec::new();
    for (variable, key) in PLAIN {
        if let Some((variable, value)) = reader.first(&[variable]) {
            set.push((*key, variable, value));
        }
    }
    let host = reader.first(HOST);
    let elsewhere = set.iter().any(|(key, ..)| *key == "url") || names_host(file);
    let has_host = host.is_some();
    if let Some((variable, value)) = host {
        set.push(("host", variable, value));
    }
    if let Some((variable, value)) = reader.first(PORT) {
        // what Kubernetes injects where a Service is named redis
        match value.strip_prefix("tcp://").map(|place| place.trim_end_matches('/').rsplit_once(':')) {
            Some(Some((_, port))) if has_host => set.push(("port", variable, port.to_owned())),
            Some(_) if elsewhere => {
                reader
                    .warnings
                    .push(format!("{variable} is ignored: '{value}' is no port, and a host is given elsewhere"));
            }
            Some(Some((host, port))) => {
                set.push(("host", variable, host.trim_matches(['[', ']']).to_owned()));
                set.push(("port", variable, port.to_owned()));
            }
            Some(None) => {
                let message = format!("'{value}' is no port; write a number such as 6379, or unset it");
                reader.problems.push(Problem::new("redis.port", message, Some(variable.to_owned())));
            }
            None => set.push(("port", variable, value)),
        }
    }
    for (key, variable, value) in set {
        for replaced in REPLACES.iter().filter(|(of, _)| *of == key).flat_map(|(_, keys)| *keys) {
            remove(file, replaced);
        }
        put(layer, &["redis", key], of_variable(variable, value));
    }
}

fn names_host(file: &Value) -> bool {
    let redis = tree::table(file).and_then(|top| top.get("redis")).and_then(tree::table);
    redis.is_some_and(|redis| redis.contains_key("host") || redis.contains_key("url"))
}

fn remove(file: &mut Value, key: &str) {
    let ValueKind::Table(top) = &mut file.kind else { return };
    let Some(ValueKind::Table(redis)) = top.get_mut("redis").map(|value| &mut value.kind) else { return };
    redis.shift_remove(key);
}

/// What the context tells where nothing is contacted: the variables alone.
pub(crate) fn facts(variables: &dyn Variables) -> runtime_core::contract::Facts {
    let first = |row: &[&str]| row.iter().find_map(|name| variables.get(name));
    let port = first(PORT).and_then(|port| port.rsplit(':').next().and_then(|port| port.parse().ok()));
    runtime_core::contract::Facts {
        host: first(HOST).or_else(|| Some("localhost".to_owned())),
        port: port.or(Some(6379)),
        input_key: first(&["REDIS_INPUT_KEY"]).or_else(|| Some("metrics".to_owned())),
        output_key: first(&["REDIS_OUTPUT_KEY"]),
    }
}
