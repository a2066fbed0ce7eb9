//! The `[redis]` table of the config file, as typed.
//!
//! ```toml
//! [redis]
//! url = "rediss://gaugefn@cache.example:6379/0"
//! password_file = "/run/secrets/redis"
//! ca_file = "/etc/ssl/private-ca.pem"
//! ```

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::{Address, DEFAULT_HOST, DEFAULT_PORT, ParsedUrl, mask_url, parse_url};
use crate::fault::LinkError;
use crate::files::{read, read_line, whole_path};
use crate::oddity::{bare, oddity};
use crate::target::{Credentials, Target};

/// The connection to Redis that every redis component uses unless it names its own `url`.
///
/// An empty text counts as not set.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Server, database and credentials in one: `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS,
    /// `unix:/path?db=0` for a socket. `host`, `port` and `db` may add what the url leaves open, not contradict it.
    #[schemars(extend("x-secret" = true))]
    pub url: Option<String>,
    /// The server's name or address; default `localhost`.
    pub host: Option<String>,
    /// The server's TCP port; default 6379.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The number of the database; default 0.
    pub db: Option<u32>,
    /// The ACL user; without it the server's default user.
    pub username: Option<String>,
    /// A file that holds the name of the ACL user; one line end after it is ignored.
    #[serde(deserialize_with = "whole_path")]
    pub username_file: Option<PathBuf>,
    /// The password of the user. A file or a secret of the platform is the better place: see `password_file`.
    #[schemars(extend("x-secret" = true))]
    pub password: Option<String>,
    /// A file that holds the password; one line end after it is ignored. It is read again for each new connection, so
    /// that a rotated password is taken up.
    #[serde(deserialize_with = "whole_path")]
    pub password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of the authority that signed the server's certificate, for `rediss://`;
    /// without it the system's authorities are trusted.
    #[serde(deserialize_with = "whole_path")]
    pub ca_file: Option<PathBuf>,
}

/// Shows which fields are set, never a secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_deref().map(mask_url))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("db", &self.db)
            .field("username", &self.username)
            .field("username_file", &self.username_file)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

impl Settings {
    /// The server as a url without a password: `redis://user@host:port/db`. For settings that [`Settings::resolve`]
    /// would refuse, the nearest thing that can be shown. Reads no file: a user that only `username_file` names is
    /// missing here and present in [`Target::endpoint`].
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self.place() {
            Ok(place) => {
                let name = self.name().or(place.username.as_deref());
                place.address.url(name, place.db)
            }
            Err(_) => filled(self.url.as_ref()).map_or_else(|| "redis://?".to_owned(), mask_url),
        }
    }

    /// Checks the settings and reads the files they name; contacts nothing.
    ///
    /// `url_override` is a component's own `url`: it replaces the whole server. The credentials of these settings are
    /// used with it only where it has no password of its own, names no other user, and leads to the same host and port
    /// (not in the clear where these settings encrypt).
    ///
    /// # Errors
    /// Of the class [`Trouble::Config`](crate::Trouble::Config), for values that contradict each other, an unusable url
    /// and a file that cannot be read.
    pub fn resolve(&self, url_override: Option<&str>) -> Result<Target, LinkError> {
        let own = self.place()?;
        let Some(text) = url_override.filter(|text| !text.is_empty()) else {
            if self.ca_file.is_some() && !own.encrypted() {
                return Err(LinkError::config(format!(
                    "redis.ca_file is set, but {} is not encrypted: write redis.url = 'rediss://…'",
                    self.endpoint()
                )));
            }
            let credentials = self.credentials(&own)?;
            return self.target(own.address, own.db, credentials);
        };
        let other = parse_url("url", text)?;
        let mut credentials = Credentials { username: other.username, password: other.password, password_file: None };
        if credentials.password.is_none() && own.address.may_share_credentials(&other.address) {
            let shared = self.credentials(&own)?;
            if credentials.username.is_none() || credentials.username == shared.username {
                credentials = shared;
            }
        }
        self.target(other.address, other.db.unwrap_or_default(), credentials)
    }

    /// Server and database, whoever one is there: the same wherever two components would meet the same keys. None where
    /// these settings say no place. Reads no file.
    #[must_use]
    pub fn server(&self, url_override: Option<&str>) -> Option<String> {
        let (address, db) = match url_override.filter(|text| !text.is_empty()) {
            Some(text) => parse_url("url", text).ok().map(|url| (url.address, url.db.unwrap_or_default()))?,
            None => self.place().ok().map(|place| (place.address, place.db))?,
        };
        let place = address.to_string();
        Some(match address {
            Address::Tcp { .. } => format!("{}/{db}", place.to_ascii_lowercase()),
            Address::Unix(_) => format!("{place}/{db}"),
        })
    }

    /// Every option that is wrong, without its table's name, each with a sentence that goes after its name. Contacts
    /// nothing. With `url_override` only that url is judged, under the name `url`.
    #[must_use]
    pub fn complaints(&self, url_override: Option<&str>) -> Vec<(String, String)> {
        let mut rest = match url_override {
            Some(_) => Self::default(),
            None => self.clone(),
        };
        let mut complaints: Vec<(String, String)> = Vec::new();
        while let Err(error) = rest.resolve(url_override) {
            let text = error.to_string();
            let (option, sentence) = text.split_once(' ').unwrap_or(("url", &text));
            let option = option.trim_start_matches("redis.").to_owned();
            complaints.push((option.clone(), sentence.to_owned()));
            if url_override.is_some() || !rest.forget(&option) {
                break;
            }
        }
        complaints
    }

    /// Leaves an option out; whether it was set.
    fn forget(&mut self, option: &str) -> bool {
        match option {
            "url" => self.url.take().is_some(),
            "host" => self.host.take().is_some(),
            "port" => self.port.take().is_some(),
            "db" => self.db.take().is_some(),
            "username" => self.username.take().is_some(),
            "username_file" => self.username_file.take().is_some(),
            "password" => self.password.take().is_some(),
            "password_file" => self.password_file.take().is_some(),
            "ca_file" => self.ca_file.take().is_some(),
            _ => false,
        }
    }

    fn target(&self, address: Address, db: u32, credentials: Credentials) -> Result<Target, LinkError> {
        let authority = match (&address, &self.ca_file) {
            (Address::Tcp { tls: true, .. }, Some(path)) => Some((path.as_path(), read("redis.ca_file", path)?)),
            _ => None,
        };
        Target::new(address, db, credentials, authority)
    }

    /// Server and database from `url`, `host`, `port` and `db`, without any file.
    fn place(&self) -> Result<Place, LinkError> {
        if self.port == Some(0) {
            return Err(LinkError::config("redis.port is 0: name the port that the server listens on, usually 6379"));
        }
        let host = filled(self.host.as_ref()).map(bare).filter(|host| !host.is_empty());
        if let Some(host) = host.filter(|host| host.contains("://")) {
            return Err(LinkError::config(format!("redis.host '{}' is a url: put it into redis.url", mask_url(host))));
        }
        if let Some(path) = host.filter(|host| host.starts_with('/')) {
            return Err(LinkError::config(format!(
                "redis.host '{path}' is a path: for a socket write redis.url = 'unix:{path}'"
            )));
        }
        // what stands before it may be a password, so nothing of it is shown
        if host.is_some_and(|host| host.contains('@')) {
            return Err(LinkError::config(
                "redis.host has a user or password before an '@': put them into redis.username and redis.password",
            ));
        }
        if let Some((host, odd)) = host.and_then(|host| Some((host, oddity(host)?))) {
            let host = host.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
            return Err(LinkError::config(format!("redis.host '{host}' {odd}, which no host's name has: remove it")));
        }
        if let Some(host) = host.filter(|host| host.contains(char::is_whitespace)) {
            return Err(LinkError::config(format!("redis.host '{host}' has white space inside: name one host")));
        }
        // several colons are an IPv6 address
        if let Some(host) = host.filter(|host| host.matches(':').count() == 1) {
            return Err(LinkError::config(format!("redis.host '{host}' names a port: put that into redis.port")));
        }
        let Some(text) = filled(self.url.as_ref()) else {
            return Ok(Place {
                address: Address::Tcp {
                    host: host.unwrap_or(DEFAULT_HOST).to_owned(),
                    port: self.port.unwrap_or(DEFAULT_PORT),
                    tls: false,
                },
                db: self.db.unwrap_or_default(),
                username: None,
                password: None,
            });
        };
        let ParsedUrl { mut address, port: url_port, db: url_db, username, password } = parse_url("redis.url", text)?;
        let contradicts = |option: &str, value: &str| {
            LinkError::config(format!(
                "redis.{option} '{value}' contradicts redis.url '{}': remove one of the two",
                mask_url(text)
            ))
        };
        match &mut address {
            Address::Tcp { host: url_host, port, .. } => {
                if let Some(host) = host.filter(|host| !host.eq_ignore_ascii_case(url_host)) {
                    return Err(contradicts("host", host));
                }
                match (self.port, url_port) {
                    (Some(own), Some(given)) if own != given => {
                        return Err(contradicts("port", &own.to_string()));
                    }
                    (Some(own), _) => *port = own,
                    (None, _) => {}
                }
            }
            Address::Unix(_) => {
                if let Some(host) = host {
                    return Err(contradicts("host", host));
                }
                if let Some(port) = self.port {
                    return Err(contradicts("port", &port.to_string()));
                }
            }
        }
        let db = match (self.db, url_db) {
            (Some(own), Some(given)) if own != given => {
                return Err(contradicts("db", &own.to_string()));
            }
            (own, given) => own.or(given).unwrap_or_default(),
        };
        Ok(Place { address, db, username, password })
    }

    /// The user's name; the server takes none with white space.
    fn name(&self) -> Option<&str> {
        filled(self.username.as_ref()).map(str::trim_ascii).filter(|name| !name.is_empty())
    }

    /// User and password from wherever they stand; each may stand in one place only.
    fn credentials(&self, place: &Place) -> Result<Credentials, LinkError> {
        let username = one_of([
            ("redis.url", place.username.clone()),
            ("redis.username", self.name().map(str::to_owned)),
            (
                "redis.username_file",
                read_line("redis.username_file", self.username_file.as_deref())?
                    .map(|name| name.trim_ascii().to_owned()),
            ),
        ])?;
        let password = one_of([
            ("redis.url", place.password.clone()),
            ("redis.password", filled(self.password.as_ref()).map(str::to_owned)),
            ("redis.password_file", read_line("redis.password_file", self.password_file.as_deref())?),
        ])?;
        Ok(Credentials { username, password, password_file: self.password_file.clone() })
    }
}

struct Place {
    address: Address,
    db: u32,
    username: Option<String>,
    password: Option<String>,
}

impl Place {
    fn encrypted(&self) -> bool {
        matches!(self.address, Address::Tcp { tls: true, .. })
    }
}

fn filled(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The one value that is set, or an error that names two places with different values, not the values.
fn one_of(places: [(&str, Option<String>); 3]) -> Result<Option<String>, LinkError> {
    let mut found: Option<(&str, String)> = None;
    for (option, value) in places {
        match (&found, value) {
            (Some((first, one)), Some(other)) if *one != other => {
                return Err(LinkError::config(format!("{option} contradicts {first}: remove one of the two")));
            }
            (None, Some(value)) => found = Some((option, value)),
            _ => {}
        }
    }
    Ok(found.map(|(_, value)| value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn from_json(value: serde_json::Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    fn refusal(value: serde_json::Value) -> String {
        let error = from_json(value).resolve(None).unwrap_err();
        assert!(!error.retry());
        error.to_string()
    }

    #[test]
    fn nothing_set_is_the_local_server() {
        assert_eq!(from_json(serde_json::json!({})), Settings::default());
        assert_eq!(Settings::default().endpoint(), "redis://localhost:6379/0");
        let target = Settings::default().resolve(None).unwrap();
        assert_eq!((target.host(), target.port(), target.db()), ("localhost", 6379, 0));
        let empty = serde_json::json!({"url": "", "host": "", "username": "", "password": ""});
        let target = from_json(empty).resolve(Some("")).unwrap();
        assert_eq!(target.endpoint(), "redis://localhost:6379/0");
        assert_eq!(target.username(), None);
    }

    #[test]
    fn parts_fill_what_the_url_leaves_open() {
        let settings = from_json(serde_json::json!({
            "url": "redis://cache", "host": "CACHE", "port": 7000, "db": 4, "username": "bob"
        }));
        assert_eq!(settings.endpoint(), "redis://bob@cache:7000/4");
        let target = settings.resolve(None).unwrap();
        assert_eq!(target.endpoint(), "redis://bob@cache:7000/4");
    }

    #[test]
    fn contradictions_name_both() {
        let url = "redis://u:s3cret@cache:6379/1";
        assert_eq!(
            refusal(serde_json::json!({"url": url, "host": "other"})),
            "redis.host 'other' contradicts redis.url 'redis://u:***@cache:6379/1': remove one of the two"
        );
        assert_eq!(
            refusal(serde_json::json!({"url": url, "port": 7000})),
            "redis.port '7000' contradicts redis.url 'redis://u:***@cache:6379/1': remove one of the two"
        );
        assert_eq!(
            refusal(serde_json::json!({"url": url, "db": 2})),
            "redis.db '2' contradicts redis.url 'redis://u:***@cache:6379/1': remove one of the two"
        );
        assert_eq!(
            refusal(serde_json::json!({"url": "unix:/run/r.sock", "port": 1})),
            "redis.port '1' contradicts redis.url 'unix:/run/r.sock?db=0': remove one of the two"
        );
        assert_eq!(
            refusal(serde_json::json!({"url": url, "password": "other"})),
            "redis.password contradicts redis.url: remove one of the two"
        );
        assert_eq!(
            refusal(serde_json::json!({"host": "redis://x:s3cret@y"})),
            "redis.host 'redis://x:***@y:6379/0' is a url: put it into redis.url"
        );
        assert_eq!(
            refusal(serde_json::json!({"ca_file": "/ca.pem"})),
            "redis.ca_file is set, but redis://localhost:6379/0 is not encrypted: write redis.url = 'rediss://…'"
        );
    }

    #[test]
    fn complaints_name_every_wrong_option() {
        let url = "redis://u:s3cret@cache:6379/1";
        let settings = from_json(serde_json::json!({"url": url, "host": "other", "db": 2, "password_file": "/no/p"}));
        let shown = "redis://u:***@cache:6379/1";
        let cannot = "'/no/p' cannot be read: check the path, the mount and its permissions".to_owned();
        assert_eq!(
            settings.complaints(None),
            [
                ("host".to_owned(), format!("'other' contradicts redis.url '{shown}': remove one of the two")),
                ("db".to_owned(), format!("'2' contradicts redis.url '{shown}': remove one of the two")),
                ("password_file".to_owned(), cannot),
            ]
        );
        assert!(settings.complaints(Some("redis://x")).is_empty());
        let [(option, sentence)] = &settings.complaints(Some("http://x"))[..] else { panic!("one complaint") };
        assert_eq!(option, "url");
        assert!(sentence.starts_with("has the unknown scheme 'http'; write redis://"), "{sentence}");
    }

    #[test]
    fn files_hold_user_and_password() {
        let folder = tempfile::tempdir().unwrap();
        let (user, password) = (folder.path().join("user"), folder.path().join("password"));
        std::fs::write(&user, "bob\n").unwrap();
        std::fs::write(&password, "two lines\n\n").unwrap();
        let settings =
            Settings { username_file: Some(user), password_file: Some(password.clone()), ..Settings::default() };
        let target = settings.resolve(None).unwrap();
        assert_eq!(target.username(), Some("bob"));
        assert_eq!(target.password().as_deref(), Some("two lines\n"));
        std::fs::write(&password, "rotated\r\n").unwrap();
        assert_eq!(target.password().as_deref(), Some("rotated"));
        std::fs::remove_file(&password).unwrap();
        assert_eq!(target.password().as_deref(), Some("two lines\n"));

        let error = settings.resolve(None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "redis.password_file '{}' cannot be read: check the path, the mount and its permissions",
                password.display()
            )
        );
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("No such file"));
        assert_eq!(error.kind(), crate::Trouble::Config);
    }

    #[test]
    fn what_stands_around_an_address_is_no_part_of_it() {
        let settings = from_json(serde_json::json!({"host": " \u{feff}cache\u{a0}\n", "username": " bob\t"}));
        assert_eq!(settings.resolve(None).unwrap().endpoint(), "redis://bob@cache:6379/0");
        assert_eq!(settings.endpoint(), "redis://bob@cache:6379/0");
        let settings = from_json(serde_json::json!({"url": "\u{feff} redis://cache:7000/1 \r\n"}));
        assert_eq!(settings.resolve(None).unwrap().endpoint(), "redis://cache:7000/1");
        assert_eq!(settings.resolve(Some("\tredis://other\u{a0}")).unwrap().endpoint(), "redis://other:6379/0");
        assert_eq!(from_json(serde_json::json!({"host": " \n"})).endpoint(), "redis://localhost:6379/0");

        assert_eq!(
            refusal(serde_json::json!({"host": "\"cache\""})),
            "redis.host '\"cache\"' is in quotes, which no host's name has: remove it"
        );
        assert_eq!(
            refusal(serde_json::json!({"host": "ca\u{200b}che"})),
            "redis.host 'ca\\u{200b}che' has a character that cannot be seen, which no host's name has: remove it"
        );
        assert_eq!(
            refusal(serde_json::json!({"host": "one two"})),
            "redis.host 'one two' has white space inside: name one host"
        );
        for (url, odd) in [
            ("\"redis://:s3cret@cache\"", "redis.url is in quotes: remove them; write redis://"),
            ("'redis://cache'", "redis.url is in quotes: remove them; write redis://"),
            ("redis://:s3\ncret@cache", "redis.url has a line end inside; write redis://"),
        ] {
            let said = refusal(serde_json::json!({"url": url}));
            assert!(said.starts_with(odd) && !said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn a_password_is_taken_as_it_is_and_what_is_odd_about_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let refused = |value: serde_json::Value| from_json(value).resolve(None).unwrap().password_refused();
        let plain = "redis at localhost:6379 refuses the password of user 'default' (WRONGPASS): check REDIS_USERNAME \
                     and REDIS_PASSWORD";
        assert_eq!(refused(serde_json::json!({"password": "s3cret"})), plain);
        for (password, odd) in [
            ("s3cret ", "ends with white space"),
            ("\u{a0}s3cret", "begins with white space"),
            ("'s3cret'", "is in quotes"),
            ("\u{feff}s3cret", "begins with a byte-order mark"),
        ] {
            std::fs::write(&file, format!("{password}\n")).unwrap();
            let both = [serde_json::json!({"password": password}), serde_json::json!({"password_file": &file})];
            for value in both {
                assert_eq!(from_json(value.clone()).resolve(None).unwrap().password().as_deref(), Some(password));
                assert_eq!(refused(value), format!("{plain}; the password {odd}, which counts as a part of it"));
            }
        }
        std::fs::write(&file, "s3cret\n\n").unwrap();
        let target = from_json(serde_json::json!({"password_file": &file})).resolve(None).unwrap();
        assert!(target.password_refused().contains("; the password ends with a line end"));
        assert_eq!(
            target.password_wanted(),
            "redis at localhost:6379 wants a password (NOAUTH): set REDIS_PASSWORD or redis.password_file"
        );
        std::fs::write(&file, "\n").unwrap();
        let target = from_json(serde_json::json!({"password_file": &file})).resolve(None).unwrap();
        assert_eq!(
            target.password_wanted(),
            format!(
                "redis at localhost:6379 wants a password (NOAUTH), and redis.password_file '{}' is empty: write the \
                 password into it",
                file.display()
            )
        );
    }

    #[test]
    fn a_components_url_gets_credentials_of_its_own_server_only() {
        let settings = from_json(serde_json::json!({
            "url": "redis://bob@cache/1", "password": "s3cret"
        }));
        let with = |url: &str| settings.resolve(Some(url)).unwrap();
        let target = with("redis://cache:6379/5");
        assert_eq!(target.endpoint(), "redis://bob@cache:6379/5");
        assert_eq!(target.password().as_deref(), Some("s3cret"));
        for other in ["redis://other:6379", "redis://cache:6380", "redis://alice@cache", "unix:/cache"] {
            let password = with(other).password().unwrap_or_default();
            assert_eq!(password, "", "{other}");
        }
        assert_eq!(with("redis://:own@cache").password().as_deref(), Some("own"));
        assert_eq!(with("redis://:own@cache").username(), None);
    }

    #[test]
    fn a_server_is_the_same_for_every_user() {
        let settings = from_json(serde_json::json!({ "host": "Cache", "password_file": "/no/such/file", "db": 1 }));
        let server = |url| settings.server(Some(url));
        assert_eq!(settings.server(None).as_deref(), Some("cache:6379/1"));
        for same in ["redis://me:s3cret@cache/1", "rediss://cache:6379/1"] {
            assert_eq!(server(same), settings.server(None), "{same}");
        }
        for other in ["redis://cache", "redis://cache:7000/1", "unix:/run/cache?db=1"] {
            assert!(server(other).is_some() && server(other) != settings.server(None), "{other}");
        }
        assert_eq!(server("http://cache"), None);
    }

    #[test]
    fn secrets_are_never_shown() {
        let settings = from_json(serde_json::json!({
            "url": "redis://bob:s3cret@cache/1", "password": "s3cret"
        }));
        let target = settings.resolve(None).unwrap();
        let shown = format!(
            "{settings:?} {} {target:?} {} {:?}",
            settings.endpoint(),
            target.endpoint(),
            crate::Link::new(target.clone())
        );
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("redis://bob@cache:6379/1"), "{shown}");
    }

    #[test]
    fn the_schema_marks_secrets_and_describes_every_field() {
        let schema = serde_json::to_value(schemars::schema_for!(Settings)).unwrap();
        let fields = schema["properties"].as_object().unwrap();
        assert_eq!(fields.len(), 9);
        for (name, field) in fields {
            assert!(field["description"].is_string(), "{name}");
            let secret = ["url", "password"].contains(&name.as_str());
            assert_eq!(field["x-secret"] == true, secret, "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
