//! Where Redis is, and what Kubernetes puts into the environment.

use std::collections::BTreeMap;

use runtime_core::config::tree;

use super::{HOST, PORT, alone, pair, row, toml, with_file};

#[test]
fn kubernetes_service_variable() {
    let injected = "tcp://10.0.0.1:6380";
    for port in PORT {
        let nothing_else = alone(&[(port, injected)]);
        assert_eq!(nothing_else.at("redis.host"), pair("10.0.0.1", port));
        assert_eq!(nothing_else.at("redis.port"), pair("6380", port));
        for host in HOST {
            let with_host = alone(&[(port, injected), (host, "cache")]);
            assert_eq!(with_host.at("redis.host"), pair("cache", host));
            assert_eq!(with_host.at("redis.port"), pair("6380", port), "its port alone is taken");
            assert_eq!(with_host.other_warnings(), [""; 0]);
            let file = &mut toml("[redis]\nhost = 'other'\nport = 7000");
            let with_both = with_file(&[(port, injected), (host, "cache")], file);
            assert_eq!(with_both.at("redis.host"), pair("cache", host));
            assert_eq!(with_both.at("redis.port"), pair("6380", port));
        }
        let warning = format!("{port} is ignored: '{injected}' is no port, and a host is given elsewhere");
        let with_url = alone(&[(port, injected), ("REDIS_URL", "redis://cache")]);
        assert_eq!((with_url.at("redis.host"), with_url.at("redis.port")), (None, None));
        assert_eq!(with_url.other_warnings(), [warning.as_str()]);
        for name in ["GAUGEFN__REDIS__HOST", "GAUGEFN__REDIS__URL", "GAUGEFN__redis__host"] {
            let overriding = alone(&[(port, injected), (name, "redis://cache")]);
            assert_eq!((overriding.at("redis.host"), overriding.at("redis.port")), (None, None), "{name}");
            assert_eq!(overriding.other_warnings(), [warning.as_str()]);
            let empty = alone(&[(port, injected), (name, "")]);
            assert_eq!(empty.at("redis.host"), pair("10.0.0.1", port));
        }
        for file in ["[redis]\nhost = 'cache'", "[redis]\nurl = 'redis://cache'"] {
            let with_file = with_file(&[(port, injected)], &mut toml(file));
            assert_eq!((with_file.at("redis.host"), with_file.at("redis.port")), (None, None), "{file}");
            assert_eq!(with_file.other_warnings(), [warning.as_str()]);
        }
        for file in ["[redis]\ndb = 1", "[redis]\nhost = ''", "[log]\nlevel = 'warn'"] {
            let with_file = with_file(&[(port, injected)], &mut toml(file));
            assert_eq!(with_file.at("redis.host"), pair("10.0.0.1", port), "{file}");
        }
        assert_eq!(alone(&[(port, "tcp://[fd00::1]:6379")]).at("redis.host"), pair("fd00::1", port));
        assert_eq!(alone(&[(port, "tcp://10.0.0.1:6379/")]).at("redis.port"), pair("6379", port));
        assert_eq!(
            alone(&[(port, "tcp://nonsense")]).at("redis.port"),
            pair("tcp://nonsense", port),
            "refused by type"
        );
    }
}

#[test]
fn redis_connection() {
    row(HOST, "redis.host", "cache", &[]);
    row(PORT, "redis.port", "7000", &[]);
    for (name, key, value) in [
        ("REDIS_DB", "db", "3"),
        ("REDIS_URL", "url", "rediss://cache:1/2"),
        ("REDIS_USERNAME", "username", "me"),
        ("REDIS_USERNAME_FILE", "username_file", "/run/user"),
        ("REDIS_PASSWORD", "password", "s3cret"),
        ("REDIS_PASSWORD_FILE", "password_file", "/run/password"),
    ] {
        row(&[name], &format!("redis.{key}"), value, &[]);
    }
}

#[test]
fn a_variable_replaces_what_the_file_says_in_other_words() {
    let all = "[redis]\nurl = 'rediss://file:1/1'\nusername_file = '/u'\npassword_file = '/p'\nca_file = '/ca'";
    let left = |set: &[(&str, &str)], text: &str| {
        let mut file = toml(text);
        let result = with_file(set, &mut file);
        let redis = tree::table(tree::table(&file).unwrap().get("redis").unwrap()).unwrap();
        let keys: Vec<String> = redis.keys().cloned().collect();
        (keys.join(" "), result.other_warnings().join("\n"))
    };
    let (keys, warning) = left(&[("REDIS_HOST", "cache")], all);
    assert_eq!(keys, "username_file password_file ca_file");
    assert!(warning.starts_with("redis.url of ") && warning.ends_with("is ignored: REDIS_HOST names the server"));
    let (keys, warning) = left(&[("REDIS_USERNAME", "me"), ("REDIS_PASSWORD", "x")], all);
    assert_eq!((keys.as_str(), warning.as_str()), ("url ca_file", ""));
    let parts = "[redis]\nhost = 'file'\nport = 1\ndb = 2\nusername = 'a'\npassword = 'b'";
    let (keys, warning) =
        left(&[("REDIS_URL", "redis://cache"), ("REDIS_USERNAME_FILE", "/u"), ("REDIS_PASSWORD_FILE", "/p")], parts);
    assert_eq!((keys.as_str(), warning.as_str()), ("", ""));
    let (keys, _) = left(&[("REDIS_PORT", "7000"), ("REDIS_DB", "1")], parts);
    assert_eq!(keys, "host port db username password", "these are simply laid over");
}

#[test]
fn facts_of_the_context_come_from_the_variables_alone() {
    let facts = |set: &[(&str, &str)]| {
        let set: BTreeMap<String, String> = set.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let facts = super::super::facts(&set);
        (facts.host.unwrap(), facts.port.unwrap(), facts.input_key.unwrap(), facts.output_key)
    };
    let local = ("localhost".to_owned(), 6379, "metrics".to_owned(), None);
    assert_eq!(facts(&[]), local);
    assert_eq!(facts(&[("REDIS_PORT", "")]), local);
    assert_eq!(facts(&[("REDIS_PORT", "wrong")]), local);
    let at = |set: &[(&str, &str)]| (facts(set).0, facts(set).1);
    assert_eq!(at(&[("REDIS_URL", "rediss://me:s3cret@cache:7000/1")]), ("cache".to_owned(), 7000));
    assert_eq!(at(&[("REDIS_PORT", "tcp://10.0.0.1:7")]), ("10.0.0.1".to_owned(), 7));
    assert_eq!(at(&[("RUNTIME_REDIS_HOST", "h"), ("REDIS_PASSWORD_FILE", "/none")]), ("h".to_owned(), 6379));
    assert_eq!(
        facts(&[
            ("REDIS_IP", "h"),
            ("REDIS_PORT", "tcp://10.0.0.1:7"),
            ("REDIS_INPUT_KEY", "i"),
            ("REDIS_OUTPUT_KEY", "o")
        ]),
        ("h".to_owned(), 7, "i".to_owned(), Some("o".to_owned()))
    );
}
