//! Where a server listens, and how that is written as a url.

use std::fmt;
use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo};
use url::Url;

use crate::fault::LinkError;
use crate::oddity::bare;

pub(crate) const DEFAULT_HOST: &str = "localhost";
pub(crate) const DEFAULT_PORT: u16 = 6379;

const SHAPE: &str = "write redis://[user[:password]@]host[:port][/db], rediss://… or unix:/path?db=0; \
                     special characters in a password are percent-encoded, or put it into a password file";

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Address {
    /// Whether credentials meant for `self` may be sent to `other`: the same host and port, and not in the clear
    /// where `self` encrypts.
    pub(crate) fn may_share_credentials(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { host, port, tls }, Self::Tcp { host: other_host, port: other_port, tls: other_tls }) => {
                host.eq_ignore_ascii_case(other_host) && port == other_port && (!tls || *other_tls)
            }
            (Self::Unix(path), Self::Unix(other)) => path == other,
            _ => false,
        }
    }

    /// The address as a url, without a password. The user's name helps to tell two deployments apart.
    pub(crate) fn url(&self, username: Option<&str>, db: u32) -> String {
        match self {
            Self::Tcp { tls, .. } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let user = username.map(|name| format!("{name}@")).unwrap_or_default();
                format!("{scheme}://{user}{self}/{db}")
            }
            Self::Unix(path) => {
                let user = username.map(|name| format!("&user={name}")).unwrap_or_default();
                format!("unix:{}?db={db}{user}", path.display())
            }
        }
    }
}

/// `host:port`, or the path of the socket: short enough for a message.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A url taken apart. What the url does not say is None, so that it can be told from a default.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ParsedUrl {
    pub(crate) address: Address,
    pub(crate) port: Option<u16>,
    pub(crate) db: Option<u32>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// Takes a url apart. `option` is its name in messages. A message shows the scheme at most: in a url that does not
/// parse, any part may belong to the password.
pub(crate) fn parse_url(option: &str, text: &str) -> Result<ParsedUrl, LinkError> {
    let refuse = |why: String| LinkError::config(format!("{option} {why}; {SHAPE}"));
    let text = bare(text);
    if text.starts_with(['"', '\'']) {
        return Err(refuse("is in quotes: remove them".to_owned()));
    }
    // the parser would leave it out, and what is left might be another password
    if text.contains(['\n', '\r', '\t']) {
        return Err(refuse("has a line end inside".to_owned()));
    }
    let url = Url::parse(text).map_err(|error| refuse(format!("is no url ({error})")))?;
    let unix = match url.scheme() {
        "redis" | "rediss" | "valkey" | "valkeys" => false,
        "unix" | "redis+unix" | "valkey+unix" => true,
        other => return Err(refuse(format!("has the unknown scheme '{other}'"))),
    };
    let scheme = url.scheme().to_owned();
    if url.fragment() == Some("insecure") {
        return Err(LinkError::config(format!(
            "{option} asks for '#insecure', which accepts any certificate: name the certificate authority in \
             redis.ca_file instead"
        )));
    }
    if url.fragment().is_some() {
        return Err(refuse(format!("('{scheme}://…') has a part after '#', which is not understood")));
    }
    let known: &[&str] = if unix { &["db", "user", "pass"] } else { &[] };
    if url.query_pairs().any(|(key, _)| !known.contains(&key.as_ref())) {
        return Err(refuse(format!("('{scheme}://…') has parameters after '?' that are not understood")));
    }
    let says_db = match unix {
        true => url.query_pairs().any(|(key, _)| key == "db"),
        false => !url.path().trim_matches('/').is_empty(),
    };
    let port = url.port();
    let info = url
        .into_connection_info()
        .map_err(|error| refuse(format!("('{scheme}://…') is not usable ({})", error.to_string().to_lowercase())))?;
    let db = u32::try_from(info.redis_settings().db())
        .map_err(|_| refuse(format!("('{scheme}://…') has a negative database number")))?;
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Address::Tcp { host: host.clone(), port: *port, tls: false },
        ConnectionAddr::TcpTls { host, port, .. } => Address::Tcp { host: host.clone(), port: *port, tls: true },
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        _ => return Err(refuse(format!("('{scheme}://…') is of an unknown kind"))),
    };
    let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(ParsedUrl {
        address,
        port,
        db: says_db.then_some(db),
        username: filled(info.redis_settings().username()),
        password: filled(info.redis_settings().password()),
    })
}

/// The url with its password replaced by `***`; only the scheme of a text that is no usable url.
#[must_use]
pub fn mask_url(text: &str) -> String {
    match parse_url("url", text) {
        Ok(parsed) => {
            let secret = parsed.password.is_some();
            let user = match (parsed.username, secret) {
                (Some(user), true) => Some(format!("{user}:***")),
                (None, true) => Some(":***".to_owned()),
                (user, false) => user,
            };
            parsed.address.url(user.as_deref(), parsed.db.unwrap_or_default())
        }
        Err(_) => match text.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') => {
                format!("{scheme}://***")
            }
            _ => "***".to_owned(),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ParsedUrl {
        parse_url("redis.url", text).map_err(|e| e.to_string()).unwrap()
    }

    #[test]
    fn says_only_what_is_written() {
        let url = parsed("redis://cache");
        assert_eq!(url.address.to_string(), "cache:6379");
        assert_eq!((url.port, url.db), (None, None));
        let url = parsed("rediss://bob:p%40ss%2F%23@[::1]:7000/3");
        assert_eq!(url.address.to_string(), "[::1]:7000");
        assert_eq!((url.port, url.db), (Some(7000), Some(3)));
        assert_eq!(url.username.as_deref(), Some("bob"));
        assert_eq!(url.password.as_deref(), Some("p@ss/#"));
        assert_eq!(url.address.url(url.username.as_deref(), 3), "rediss://bob@[::1]:7000/3");
    }

    #[test]
    fn unix_sockets_in_all_spellings() {
        for text in [
            "unix:/run/r.sock?db=2&user=bob&pass=s3cret",
            "unix:///run/r.sock?db=2&user=bob&pass=s3cret",
            "redis+unix:///run/r.sock?db=2&user=bob&pass=s3cret",
        ] {
            let url = parsed(text);
            assert_eq!(url.address, Address::Unix("/run/r.sock".into()), "{text}");
            assert_eq!(url.db, Some(2));
            assert_eq!(url.password.as_deref(), Some("s3cret"));
            assert_eq!(mask_url(text), "unix:/run/r.sock?db=2&user=bob:***");
        }
    }

    #[test]
    fn a_broken_url_never_shows_what_may_be_its_password() {
        for text in [
            "redis://:s3cret#x@host/0",
            "redis://:s3cret/x@host/0",
            "redis://user:12/s3cret@host",
            "redis://user:12?s3cret@host",
            "redis://user:12#s3cret",
            "redis://host/s3cret",
            "s3cret",
            "http://:s3cret@host",
            "redis://u:s3cret@0.0.0.0",
            "redis://u:s3cret@host/-1",
            "rediss://u:s3cret@host/#insecure",
        ] {
            let error = parse_url("redis.url", text).err().unwrap();
            assert!(!error.to_string().contains("s3cret"), "{error}");
            assert!(!mask_url(text).contains("s3cret"), "{text}");
            assert!(!error.retry());
        }
        assert_eq!(mask_url("redis://u:s3cret@h:1/2"), "redis://u:***@h:1/2");
        assert_eq!(mask_url("redis://:s3cret@h:1/2"), "redis://:***@h:1/2");
    }

    #[test]
    fn credentials_stay_with_host_and_port_and_encryption() {
        let of = |text: &str| parsed(text).address;
        let base = of("redis://Cache:6379");
        assert!(base.may_share_credentials(&of("redis://cache/5")));
        assert!(base.may_share_credentials(&of("rediss://cache")));
        assert!(!of("rediss://cache").may_share_credentials(&base));
        assert!(!base.may_share_credentials(&of("redis://cache:6380")));
        assert!(!base.may_share_credentials(&of("redis://other")));
        assert!(!base.may_share_credentials(&of("unix:/cache")));
    }
}
