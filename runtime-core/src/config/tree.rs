//! Small helpers over the merged tree of [`config::Value`]s.

use config::{Map, Value, ValueKind};

use super::os_text;

/// What an option's value is replaced by where it is a secret.
pub const MASK: &str = "********";

/// Whether the value came from an environment variable. The origin of a file's value is a path with an extension,
/// that of a variable its name, and a name of a variable that we read has no dot.
#[must_use]
pub fn from_variable(value: &Value) -> bool {
    value.origin().is_some_and(|origin| !origin.contains(['.', '/']))
}

/// Where the value came from; a table made by merging has no origin of its own, so its first value's is taken.
#[must_use]
pub fn origin(value: &Value) -> Option<String> {
    if let Some(origin) = value.origin() {
        return Some(origin.to_owned());
    }
    match &value.kind {
        ValueKind::Table(table) => table.values().find_map(origin),
        ValueKind::Array(list) => list.iter().find_map(origin),
        _ => None,
    }
}

/// The table below, or nothing.
#[must_use]
pub fn table(value: &Value) -> Option<&Map<String, Value>> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// What kind of value it is, with the value where it is short: `integer `5``.
#[must_use]
pub fn noun(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(it) => format!("boolean `{it}`"),
        ValueKind::I64(it) => format!("integer `{it}`"),
        ValueKind::I128(it) => format!("integer `{it}`"),
        ValueKind::U64(it) => format!("integer `{it}`"),
        ValueKind::U128(it) => format!("integer `{it}`"),
        ValueKind::Float(it) => format!("floating point `{it}`"),
        ValueKind::String(it) => format!("string {:?}", masked("", it)),
        ValueKind::Table(_) => "table".to_owned(),
        ValueKind::Array(_) => "list".to_owned(),
    }
}

/// Lays `upper` over `lower`: tables are merged key by key, everything else is replaced. Where the upper table of a
/// component sets a different `use`, the lower one's options go: they belong to another component.
pub fn overlay(lower: &mut Value, upper: Value) {
    overlay_at(lower, upper, &mut Vec::new());
}

/// What a table at this place is about where it does not say so. A state in memory has no options of its own: those of
/// its table are for every store, or for the one that is named above.
fn implied<'a>(path: &'a [String]) -> Option<&'a str> {
    let path: Vec<&'a str> = path.iter().map(String::as_str).collect();
    match *path.as_slice() {
        ["functions", _, "executor"] => Some(super::reader::PYTHON),
        ["functions", _, "sinks", label] => super::reader::is_sink(label).then_some(label),
        _ => None,
    }
}

fn overlay_at(lower: &mut Value, upper: Value, path: &mut Vec<String>) {
    let ValueKind::Table(upper_table) = upper.kind else {
        if !matches!(upper.kind, ValueKind::Nil) {
            *lower = upper;
        }
        return;
    };
    let ValueKind::Table(lower_table) = &mut lower.kind else {
        // whole, as the origin of what is replaced goes with it
        *lower = Value::new(None, ValueKind::Table(Map::new()));
        return overlay_at(lower, Value::new(None, ValueKind::Table(upper_table)), path);
    };
    let name_of = |table: &Map<String, Value>| table.get("use").map(|value| value.to_string());
    let below = name_of(lower_table).or_else(|| implied(path).map(str::to_owned));
    if let (Some(new), Some(old)) = (name_of(&upper_table), below)
        && new != old
    {
        lower_table.clear();
    }
    for (key, value) in upper_table {
        match lower_table.get_mut(&key) {
            Some(below) => {
                path.push(key);
                overlay_at(below, value, path);
                path.pop();
            }
            None => {
                lower_table.insert(key, value);
            }
        }
    }
}

/// Whether an option of this name holds a secret. A `…_file` names a file and is none.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    ["password", "token", "secret"].iter().any(|word| key == *word || key.ends_with(&format!("_{word}")))
}

/// The value as text with secrets masked: whole where the key says so, the password inside a URL otherwise.
#[must_use]
pub fn masked(key: &str, text: &str) -> String {
    if is_secret(key) {
        return MASK.to_owned();
    }
    // white space and quotes in front do not make a url another thing
    let begins = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
    let (before, text) = text.split_at(begins);
    format!("{before}{}", masked_url(text))
}

fn masked_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return os_text::shown(text);
    };
    let Some(rest) = rest.strip_prefix("//") else {
        // the one kind of address that goes without them
        return if scheme.ends_with("unix") { without_parameters(text) } else { text.to_owned() };
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((user_info, _)) => {
            let user = user_info.split(':').next().unwrap_or("");
            let place = without_parameters(&rest[user_info.len()..]);
            format!("{scheme}://{user}:{MASK}{place}")
        }
        // a password with a slash that nobody encoded ends the authority too early
        None if rest.contains('@') => format!("{scheme}://{MASK}"),
        None => without_parameters(text),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A URL whose parameters after `?` are masked where their names say so: `unix:/run/redis.sock?user=me&pass=x`.
fn without_parameters(url: &str) -> String {
    let Some((place, parameters)) = url.split_once('?') else {
        return url.to_owned();
    };
    let shown = parameters.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if name == "pass" || is_secret(name) => format!("{name}={MASK}"),
        _ => parameter.to_owned(),
    });
    format!("{place}?{}", shown.collect::<Vec<_>>().join("&"))
}

/// `message` without the secrets that stand in `value`, which it may quote.
#[must_use]
pub fn without_secrets(message: String, value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => {
            let shown = masked("", text);
            if shown == *text {
                return message;
            }
            // quoted with and without escapes
            let escaped = text.escape_debug().to_string();
            message.replace(&escaped, &shown).replace(text.as_str(), &shown)
        }
        ValueKind::Table(table) => table.values().fold(message, without_secrets),
        ValueKind::Array(list) => list.iter().fold(message, without_secrets),
        _ => message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Value {
        let file = config::File::from_str(text, config::FileFormat::Toml);
        let built = config::Config::builder().add_source(file).build().unwrap();
        built.cache
    }

    #[test]
    fn another_component_drops_the_options_of_the_first() {
        let mut lower = toml("[s]\nuse = 'redis_key'\nkey = 'metrics'\n[t]\nuse = 'x'\na = 1");
        overlay(&mut lower, toml("[s]\nuse = 'host'\nperiod = '1s'\n[t]\nuse = 'x'\nb = 2"));
        let s = table(&table(&lower).unwrap()["s"]).unwrap();
        assert_eq!(s.keys().collect::<Vec<_>>(), ["use", "period"]);
        assert_eq!(table(&table(&lower).unwrap()["t"]).unwrap().len(), 3);
    }

    #[test]
    fn secrets_are_masked_also_inside_urls() {
        assert_eq!(masked("password", "x"), MASK);
        assert_eq!(masked("password_file", "/run/p"), "/run/p");
        assert_eq!(masked("url", "redis://me:p%40s@h:1/0"), format!("redis://me:{MASK}@h:1/0"));
        assert_eq!(masked("url", "redis://:a:b@c@h/0"), format!("redis://:{MASK}@h/0"));
        assert_eq!(masked("url", "redis://h:1/0"), "redis://h:1/0");
        assert_eq!(masked("url", "redis://me:a/b@h:1/0"), format!("redis://{MASK}"));
        assert_eq!(masked("url", "unix:/r.sock?user=me&pass=x&db=1"), format!("unix:/r.sock?user=me&pass={MASK}&db=1"));
        assert_eq!(masked("url", "https://h/f?token=x"), format!("https://h/f?token={MASK}"));
        assert_eq!(masked("url", " \"redis://:x@h\"\n"), format!(" \"redis://:{MASK}@h\"\n"));
        assert_eq!(masked("key", "what: is?pass=1"), "what: is?pass=1");
        assert_eq!(masked("key", "result:{/host}"), "result:{/host}");
        assert_eq!(noun(&ValueKind::String("redis://:x@h".to_owned())), format!("string \"redis://:{MASK}@h\""));
    }

    #[test]
    fn a_message_does_not_quote_secrets() {
        let list = toml("a = ['redis://:x\"y@h', 'plain']");
        let message = "string \"redis://:x\\\"y@h\" and plain".to_owned();
        assert_eq!(without_secrets(message, &list), format!("string \"redis://:{MASK}@h\" and plain"));
    }
}
