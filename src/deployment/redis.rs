//! The connection, from its variables.

use config::{Value, ValueKind};
use redis_link::Settings;
use runtime_core::config::layers::{self, PREFIX, Variables, of_variable, put};
use runtime_core::config::{Section, os_text, tree};
use runtime_core::contract::Facts;

use super::{INPUT, OUTPUT, Reader};

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

/// Keys of a lower layer that a higher one replaces although they have another name.
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
    let mut set = |key: &str, variable: &str, value: String| put(layer, &["redis", key], of_variable(variable, value));
    for (variable, key) in PLAIN {
        if let Some((variable, value)) = reader.first(&[variable]) {
            set(key, variable, value);
        }
    }
    let host = reader.first(HOST);
    let has_host = host.is_some();
    if let Some((variable, value)) = host {
        set("host", variable, value);
    }
    if let Some((variable, value)) = reader.first(PORT) {
        match Injected::parse(&value) {
            None => set("port", variable, value),
            Some(injected) if has_host => set("port", variable, injected.port.to_owned()),
            Some(_) if says_host(reader.variables, file) => {
                reader
                    .warnings
                    .push(format!("{variable} is ignored: '{value}' is no port, and a host is given elsewhere"));
            }
            Some(injected) => {
                set("host", variable, injected.host.to_owned());
                set("port", variable, injected.port.to_owned());
            }
        }
    }
    reader.warnings.extend(make_way(file, layer));
}

/// What Kubernetes puts into REDIS_PORT where a Service is named redis: `tcp://10.0.0.1:6379`.
struct Injected<'a> {
    host: &'a str,
    port: &'a str,
}

impl<'a> Injected<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let place = value.trim().strip_prefix("tcp://")?;
        let (host, port) = place.trim_end_matches('/').rsplit_once(':')?;
        Some(Self { host: host.trim_matches(['[', ']']), port })
    }
}

/// Whether REDIS_URL, the config file or an overriding variable says where the server is.
fn says_host(variables: &dyn Variables, file: &Value) -> bool {
    let redis = tree::table(file).and_then(|top| top.get("redis")).and_then(tree::table);
    let filled = |key: &str| redis.and_then(|redis| redis.get(key)).is_some_and(|value| !value.to_string().is_empty());
    let overriding = |name: &String| {
        let name_of = |key: &str| format!("{PREFIX}redis__{key}").to_lowercase();
        [name_of("host"), name_of("url")].contains(&name.to_lowercase()) && variables.get(name).is_some()
    };
    variables.get("REDIS_URL").is_some() || filled("host") || filled("url") || variables.names().iter().any(overriding)
}

/// Removes from the lower layer's `redis` what a key of another name in the upper layer stands for. A url that goes
/// may have said that the connection is encrypted, so that is worth a warning.
pub(crate) fn make_way(lower: &mut Value, upper: &Value) -> Vec<String> {
    let Some(upper) = tree::table(upper).and_then(|top| top.get("redis")).and_then(tree::table) else {
        return Vec::new();
    };
    let ValueKind::Table(top) = &mut lower.kind else { return Vec::new() };
    let Some(ValueKind::Table(lower)) = top.get_mut("redis").map(|value| &mut value.kind) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    for (key, replaced) in REPLACES {
        let Some(value) = upper.get(*key) else { continue };
        // where the upper layer has both, it says itself what is to be
        for replaced in replaced.iter().filter(|replaced| !upper.contains_key(**replaced)) {
            let Some(gone) = lower.shift_remove(*replaced) else { continue };
            if *replaced == "url" {
                let by = |value: &Value| tree::origin(value).unwrap_or_default();
                warnings.push(format!("redis.url of {} is ignored: {} names the server", by(&gone), by(value)));
            }
        }
    }
    warnings
}

/// What the context tells where nothing is contacted: the variables alone.
pub(crate) fn facts(variables: &dyn Variables) -> Facts {
    let mut reader = Reader { variables, warnings: Vec::new(), problems: Vec::new() };
    let mut layer = layers::empty();
    fill(&mut reader, &mut layer, &mut layers::empty());
    let redis = tree::table(&layer).and_then(|top| top.get("redis")).cloned();
    let (settings, _) = Section::new("redis", redis.unwrap_or_else(layers::empty), None).read::<Settings>(&[]);
    let settings = settings.unwrap_or_default();
    // only the place: credentials might be in files, and nothing is read for a fact
    let place = Settings { url: settings.url, host: settings.host, port: settings.port, ..Settings::default() };
    let target = place.resolve(None).or_else(|_| Settings::default().resolve(None)).ok();
    Facts {
        host: target.as_ref().map(|target| target.host().to_owned()),
        port: target.as_ref().map(redis_link::Target::port),
        input_key: Some(reader.first(INPUT).map_or_else(|| "metrics".to_owned(), |(_, key)| os_text::shown(&key))),
        output_key: reader.first(OUTPUT).map(|(_, key)| os_text::shown(&key)),
    }
}
