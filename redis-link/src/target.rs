//! One server and database, as used: everything that connecting needs, with nothing left to decide.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

use crate::address::Address;
use crate::fault::LinkError;
use crate::files::read_line;
use crate::oddity::oddity;

/// An idle connection is probed after this time, so that a peer that vanished without a word (a cut cable, an expired
/// entry in a firewall) is noticed: after 10 s + 3 × 5 s the kernel ends the connection. Shorter would wake idle
/// nodes; longer would leave a watch deaf for more than a few periods.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// Who to be on the server.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// Read again for each connection; `password` stands in while the file is missing.
    pub(crate) password_file: Option<PathBuf>,
}

/// A server, a database on it and who to be there. Made by [`Settings::resolve`](crate::Settings::resolve).
#[derive(Clone)]
pub struct Target {
    address: Address,
    db: u32,
    credentials: Credentials,
    /// Address, certificate authority and socket options, without credentials and database.
    info: ConnectionInfo,
}

impl Target {
    pub(crate) fn new(
        address: Address,
        db: u32,
        credentials: Credentials,
        authority: Option<(&Path, Vec<u8>)>,
    ) -> Result<Self, LinkError> {
        let unusable = |error: redis::RedisError| {
            LinkError::config(format!("redis at {address} cannot be used as configured")).caused_by(error)
        };
        let mut info = match &address {
            Address::Unix(path) => ConnectionAddr::Unix(path.clone()).into_connection_info().map_err(unusable)?,
            Address::Tcp { host, port, tls: false } => {
                ConnectionAddr::Tcp(host.clone(), *port).into_connection_info().map_err(unusable)?
            }
            Address::Tcp { tls: true, .. } => encrypted(&address, authority)?,
        };
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_PROBES);
        info = info
            .set_tcp_settings(TcpSettings::default().set_nodelay(true).set_keepalive(keepalive))
            // the link introduces itself by CLIENT SETNAME, whose refusal it can tell from a refused password
            .set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        Ok(Self { address, db, credentials, info })
    }

    /// The server as a url without a password: `redis://user@host:port/db`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.address.url(self.username(), self.db)
    }

    /// `host:port`, or the path of the socket, as it stands in messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    /// The host's name or address; for a socket, its path.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(path) => path.to_str().unwrap_or_default(),
        }
    }

    /// The TCP port; 0 for a socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp { port, .. } => *port,
            Address::Unix(_) => 0,
        }
    }

    /// The number of the database.
    #[must_use]
    pub fn db(&self) -> u32 {
        self.db
    }

    /// The ACL user, None for the server's default user.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.credentials.username.as_deref()
    }

    /// The password as of now. A user without a password authenticates with an empty one (`nopass`), instead of
    /// silently staying the default user.
    pub(crate) fn password(&self) -> Option<String> {
        read_line("redis.password_file", self.credentials.password_file.as_deref())
            .ok()
            .flatten()
            .or_else(|| self.credentials.password.clone())
            .or_else(|| self.username().map(|_| String::new()))
    }

    /// The sentence for a password that the server refuses, with what is odd about it or the user's name.
    pub(crate) fn password_refused(&self) -> String {
        let (place, user) = (self.place(), self.username().unwrap_or("default"));
        let odd = |what: &str, text: Option<&str>| {
            let odd = text.and_then(oddity).map(|odd| format!("; the {what} {odd}, which counts as a part of it"));
            odd.unwrap_or_default()
        };
        format!(
            "redis at {place} refuses the password of user '{user}' (WRONGPASS): check REDIS_USERNAME and \
             REDIS_PASSWORD{}{}",
            odd("user's name", self.username()),
            odd("password", self.password().as_deref())
        )
    }

    /// The sentence for a server that wants a password where none was given.
    pub(crate) fn password_wanted(&self) -> String {
        let place = self.place();
        match &self.credentials.password_file {
            Some(path) if self.password().unwrap_or_default().is_empty() => format!(
                "redis at {place} wants a password (NOAUTH), and redis.password_file '{}' is empty: write the password \
                 into it",
                path.display()
            ),
            _ => format!("redis at {place} wants a password (NOAUTH): set REDIS_PASSWORD or redis.password_file"),
        }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.address, Address::Tcp { tls: true, .. })
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// A client that only connects; authenticating is left to the link.
    pub(crate) fn client(&self) -> redis::RedisResult<Client> {
        Client::open(self.info.clone())
    }

    /// A client that also authenticates, for connections that cannot be given commands before.
    pub(crate) fn authenticating_client(&self) -> redis::RedisResult<Client> {
        let mut redis = self.info.redis_settings().clone();
        if let Some(username) = self.username() {
            redis = redis.set_username(username);
        }
        if let Some(password) = self.password() {
            redis = redis.set_password(password);
        }
        Client::open(self.info.clone().set_redis_settings(redis))
    }
}

/// Shows the endpoint, never a secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.endpoint()).finish()
    }
}

fn encrypted(address: &Address, authority: Option<(&Path, Vec<u8>)>) -> Result<ConnectionInfo, LinkError> {
    // one provider for the whole process; whoever came first has already chosen
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = match authority {
        None => None,
        Some((path, pem)) => {
            if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
                return Err(LinkError::config(format!(
                    "redis.ca_file '{}' holds no certificate: it must be in PEM form",
                    path.display()
                )));
            }
            Some(pem)
        }
    };
    Client::build_with_tls(address.url(None, 0), TlsCertificates { client_tls: None, root_cert })
        .map(|client| client.get_connection_info().clone())
        .map_err(|error| {
            LinkError::config("redis.ca_file holds a certificate that cannot be used: it must be in PEM form")
                .caused_by(error)
        })
}
