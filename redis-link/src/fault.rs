//! Every way in which the link goes wrong: its class, whether trying again can help, and what to do.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::target::Target;
use cut::UNREAD;
use subject::shown;

pub(crate) use subject::Subject;

mod cut;
mod subject;

/// The class of a [`LinkError`]: whoever logs compares it with the last one, to speak once per change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No server there, no answer in time, or the connection was cut.
    Unreachable,
    /// The server's certificate is not trusted, or it does not speak TLS.
    Tls,
    /// There, but not serving: LOADING, BUSY, MASTERDOWN, TRYAGAIN, CLUSTERDOWN, out of memory, too many clients.
    Busy,
    /// The user or password is refused, or a password is wanted.
    Password,
    /// The user may not run this command on this key.
    Permission,
    /// A write reached a replica.
    ReadOnly,
    /// The key holds a value of another type.
    WrongType,
    /// It is sent more than it takes at once.
    TooLarge,
    /// The settings are wrong; only a restart with other settings helps.
    Config,
    /// The server refuses the command itself, or its answer cannot be used.
    Response,
}

impl Trouble {
    /// A stable name for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Busy => "busy",
            Self::Password => "password",
            Self::Permission => "permission",
            Self::ReadOnly => "read_only",
            Self::WrongType => "wrong_type",
            Self::TooLarge => "too_large",
            Self::Config => "config",
            Self::Response => "response",
        }
    }

    /// Whether the same call may succeed later although these settings stay: servers come back, passwords, rules and
    /// keys are put right by somebody. False for [`Trouble::TooLarge`], [`Trouble::Config`] and [`Trouble::Response`].
    #[must_use]
    pub const fn retry(self) -> bool {
        !matches!(self, Self::TooLarge | Self::Config | Self::Response)
    }

    /// Whether the server itself cannot be used, as opposed to one key or command on it.
    pub(crate) const fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Tls | Self::Busy | Self::Password)
    }
}

/// An error of the link. `Display` is one lower-case line that names the server, what was refused, the server's code
/// and the remedy; the server's own words are the [`source`](Error::source), which it does not print.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LinkError {
    trouble: Trouble,
    message: String,
    /// What holds something else than the script of a commit needs.
    key: Option<Box<str>>,
    /// While it was opened.
    connecting: bool,
    #[source]
    cause: Option<Cause>,
}

impl LinkError {
    fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self { trouble, message: message.into(), key: None, connecting: false, cause: None }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Trouble::Config, message)
    }

    pub(crate) fn wrong_type(target: &Target, key: &str, wanted: &str) -> Self {
        let (place, shown) = (target.place(), shown(key.as_bytes()));
        let message =
            format!("redis at {place} holds no {wanted} under '{shown}' (WRONGTYPE): delete the key or name another");
        Self { key: Some(key.into()), ..Self::new(Trouble::WrongType, message) }
    }

    /// A command that the user may not run, found out before anything was written.
    pub(crate) fn denied(target: &Target, command: &str, key: &str) -> Self {
        let subject = Subject::script(command, key);
        Self::new(Trouble::Permission, denial(target, &subject))
    }

    pub(crate) fn busy(message: String) -> Self {
        Self::new(Trouble::Busy, message)
    }

    pub(crate) fn too_large(message: String) -> Self {
        Self::new(Trouble::TooLarge, message)
    }

    pub(crate) fn closed(target: &Target) -> Self {
        Self::new(Trouble::Unreachable, format!("redis at {} closed the connection", target.place()))
    }

    pub(crate) fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Cause { text: cause.to_string(), error: Arc::new(cause) });
        self
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        self.trouble.retry()
    }

    /// The class of the error.
    #[must_use]
    pub fn kind(&self) -> Trouble {
        self.trouble
    }

    /// Which of its keys holds something of another type, where a commit has found that out.
    #[must_use]
    pub fn wrong_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The error of the redis crate behind this one, if it came from there.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisError> {
        self.cause.as_ref()?.error.downcast_ref()
    }

    /// The server's own word for it, `NOGROUP` for example; None where the server did not answer.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        server_answer(self.redis()?).map(|(_, code, _)| code)
    }

    /// Whether the answer did not come in time: the server hangs, or what was asked for is too much.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.redis().is_some_and(RedisError::is_timeout)
    }

    /// Whether the server itself refused the command, on a connection that goes on.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.code().is_some() && !self.breaks_connection()
    }

    /// Whether the connection must not be used again. Also after READONLY and MASTERDOWN: after a failover the name
    /// leads to another server, which only a new connection finds; and after NOAUTH, for a password set meanwhile.
    pub(crate) fn breaks_connection(&self) -> bool {
        let Some(error) = self.redis() else {
            return false;
        };
        let code = server_answer(error).map(|(_, code, _)| code);
        error.is_io_error()
            || error.is_unrecoverable_error()
            || self.is_unread()
            || matches!(code.as_deref(), Some("READONLY" | "MASTERDOWN" | "NOAUTH"))
    }
}

/// The end of the chain: the redis crate repeats a text at each level of its own errors.
#[derive(Debug, Clone)]
struct Cause {
    text: String,
    error: Arc<dyn Error + Send + Sync>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {}

/// Names an error of the redis crate: what was asked of whom.
pub(crate) fn classify(target: &Target, subject: &Subject, error: RedisError) -> LinkError {
    let place = target.place();
    let user = target.username().unwrap_or("default");
    let Some((_, code, detail)) = server_answer(&error) else {
        return transport(target, subject, error);
    };
    let refused = |trouble, message: String| LinkError::new(trouble, message);
    let named = match code.as_str() {
        "WRONGPASS" => refused(Trouble::Password, target.password_refused()),
        "NOAUTH" => refused(Trouble::Password, target.password_wanted()),
        _ if subject.command == "AUTH" && detail.contains("without any password configured") => refused(
            Trouble::Password,
            format!("redis at {place} has no password set ({code}): remove REDIS_PASSWORD or redis.password_file"),
        ),
        "NOPERM" if detail.starts_with(SCRIPT_DENIED) => refused(
            Trouble::Permission,
            format!(
                "redis at {place} denies user '{user}' a command that a script runs{} (NOPERM): allow it all commands \
                 and keys that docs/operating.md lists",
                subject.key.as_ref().map(|key| format!(" on '{key}'")).unwrap_or_default()
            ),
        ),
        "NOPERM" => refused(Trouble::Permission, denial(target, subject)),
        "DENIED" => refused(
            Trouble::Permission,
            format!(
                "redis at {place} is in protected mode and denies other hosts (DENIED): give it a password and set \
                 REDIS_PASSWORD"
            ),
        ),
        "READONLY" => refused(
            Trouble::ReadOnly,
            format!("redis at {place} is a read-only replica (READONLY): point REDIS_HOST at the primary"),
        ),
        "WRONGTYPE" => refused(Trouble::WrongType, wrong_type(&place, subject)),
        "LOADING" => {
            refused(Trouble::Busy, format!("redis at {place} is still loading its data (LOADING): wait until it has"))
        }
        "BUSY" => refused(
            Trouble::Busy,
            format!("redis at {place} is busy with a script (BUSY): wait for it or end it with SCRIPT KILL"),
        ),
        "MASTERDOWN" => refused(
            Trouble::Busy,
            format!(
                "redis at {place} is a replica that has lost its primary (MASTERDOWN): restore the primary or point \
                 REDIS_HOST at it"
            ),
        ),
        "TRYAGAIN" | "CLUSTERDOWN" => {
            refused(Trouble::Busy, format!("redis at {place} is rearranging its cluster ({code}): wait until it has"))
        }
        "OOM" => refused(
            Trouble::Busy,
            format!("redis at {place} is out of memory for {subject} (OOM): raise maxmemory or remove data"),
        ),
        "MISCONF" | "NOREPLICAS" => refused(
            Trouble::Busy,
            format!("redis at {place} takes no writes at present ({code}): see the server's log"),
        ),
        "MOVED" | "ASK" | "CROSSSLOT" => refused(
            Trouble::Response,
            format!(
                "redis at {place} is a node of a cluster that holds other keys than {subject} ({code}): point \
                     REDIS_HOST at a server without cluster mode"
            ),
        ),
        _ if detail.starts_with(UNREAD) => refused(
            Trouble::Unreachable,
            format!("redis at {place} cannot read {subject} ({code}) and closed the connection"),
        ),
        _ if detail.contains("max number of clients") => refused(
            Trouble::Busy,
            format!("redis at {place} has too many clients ({code}): raise maxclients or close some"),
        ),
        _ if subject.command == "SELECT" => {
            LinkError::config(format!("redis at {place} has no database {} ({code}): check REDIS_DB", target.db()))
        }
        _ => refused(
            Trouble::Response,
            format!("redis at {place} refuses {subject} ({code}): check that the server knows the command"),
        ),
    };
    let text = format!("{code} {detail}").trim_end().to_owned();
    LinkError { cause: Some(Cause { text, error: Arc::new(error) }), ..named }
}

/// The place in the pipeline, the code and the words of the server's (first) error; of one that a script was ended by, its
/// own.
pub(crate) fn server_answer(error: &RedisError) -> Option<(usize, String, String)> {
    let answers = error.clone().into_server_errors()?;
    let (index, answer) = answers.first()?;
    let (code, detail) = inside_script(answer.code(), answer.details().unwrap_or_default());
    Some((*index, code.to_owned(), detail.to_owned()))
}

/// How servers begin to say that a command inside a script is denied; to the script's caller it is an ERR.
const SCRIPT_DENIED: &str = "The user executing the script can't";

/// Servers before 7.0 say `ERR Error running script (call to f_HASH): @user_script:LINE: CODE words`, for what they refuse
/// themselves with `@user_script: LINE: -CODE words` behind that.
fn inside_script<'a>(code: &'a str, detail: &'a str) -> (&'a str, &'a str) {
    let place = |text: &'a str| {
        let line = text.strip_prefix("@user_script:")?.trim_start();
        line.trim_start_matches(|digit: char| digit.is_ascii_digit()).strip_prefix(": ")
    };
    let Some((_, mut words)) = detail.split_once("): ").filter(|_| detail.starts_with("Error running script")) else {
        return (if detail.starts_with(SCRIPT_DENIED) { "NOPERM" } else { code }, detail);
    };
    while let Some(rest) = place(words) {
        words = rest;
    }
    let words = words.trim_start_matches('-').trim_end();
    match words.split_once(' ') {
        _ if words.starts_with(SCRIPT_DENIED) => ("NOPERM", words),
        Some((inner, words)) if is_code(inner) => (inner, words),
        _ => (code, words),
    }
}

fn is_code(word: &str) -> bool {
    word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// What an ACL needs to allow it.
fn rule(subject: &Subject) -> String {
    let command = subject.command.to_lowercase();
    match &subject.key {
        Some(channel) if command == "subscribe" => format!("+subscribe '&{channel}'"),
        Some(key) => format!("+{command} '~{key}'"),
        None => format!("+{command}"),
    }
}

/// The sentence about what a user may not do.
fn denial(target: &Target, subject: &Subject) -> String {
    let (place, user) = (target.place(), target.username().unwrap_or("default"));
    let rule = rule(subject);
    format!("redis at {place} denies {subject} to user '{user}' (NOPERM): allow it with ACL SETUSER {user} {rule}")
}

fn wrong_type(place: &str, subject: &Subject) -> String {
    let expected = match subject.command.as_bytes() {
        b"GET" | b"SET" | b"SETEX" | b"GETRANGE" | b"STRLEN" | b"INCR" => "a string",
        [b'X', ..] => "a stream",
        [b'H', ..] => "a hash",
        _ => "a value of another type",
    };
    let (command, key) = (&subject.command, subject.key.as_deref().unwrap_or("?"));
    format!(
        "redis at {place} holds no {} under '{key}', as {command} expects (WRONGTYPE): delete the key or name another",
        expected.trim_start_matches("a ")
    )
}

/// The server has not answered, or not in its language.
fn transport(target: &Target, subject: &Subject, error: RedisError) -> LinkError {
    let place = target.place();
    let text = error.to_string();
    let connecting = subject.command == "CONNECT";
    let (trouble, message) = match error.kind() {
        ErrorKind::AuthenticationFailed => (
            Trouble::Password,
            format!(
                "redis at {place} refuses the password of user '{}': check REDIS_USERNAME and REDIS_PASSWORD",
                target.username().unwrap_or("default")
            ),
        ),
        ErrorKind::Io if error.is_timeout() => (
            Trouble::Unreachable,
            format!("redis at {place} does not answer in time: check that it runs and that no firewall is between"),
        ),
        ErrorKind::Io if target.is_socket() && connecting => (
            Trouble::Unreachable,
            format!("redis at {place} cannot be reached: check that it runs and that this user may use the socket"),
        ),
        ErrorKind::Io if error.is_connection_refusal() => (
            Trouble::Unreachable,
            format!("redis at {place} refuses the connection: start it, or check REDIS_HOST and REDIS_PORT"),
        ),
        ErrorKind::Io if text.contains("lookup address") => {
            (Trouble::Unreachable, format!("redis host '{}' does not resolve: check REDIS_HOST", target.host()))
        }
        ErrorKind::Io if error.is_connection_dropped() && connecting => (
            Trouble::Unreachable,
            format!(
                "redis at {place} closed the connection while it was opened: check that it {} TLS",
                if target.is_encrypted() { "speaks" } else { "does not want" }
            ),
        ),
        ErrorKind::Io if error.is_connection_dropped() => {
            (Trouble::Unreachable, format!("redis at {place} closed the connection"))
        }
        ErrorKind::Io | ErrorKind::Client if connecting && target.is_encrypted() => (
            Trouble::Tls,
            format!("redis at {place} offers no trusted TLS: check its certificate's name and redis.ca_file"),
        ),
        ErrorKind::Io => (
            Trouble::Unreachable,
            format!("redis at {place} cannot be reached: check the network, REDIS_HOST and REDIS_PORT"),
        ),
        ErrorKind::Parse if connecting => (
            Trouble::Unreachable,
            format!("redis at {place} does not speak the redis protocol: check REDIS_HOST and REDIS_PORT"),
        ),
        _ => (Trouble::Response, format!("redis at {place} gave an answer to {subject} that cannot be used")),
    };
    LinkError { trouble, message, key: None, connecting, cause: Some(Cause { text, error: Arc::new(error) }) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Settings;
    use redis::Cmd;

    fn answer(line: &str, cmd: &Cmd) -> LinkError {
        let target = Settings { url: Some("redis://bob:s3cret@cache:6379/7".to_owned()), ..Settings::default() }
            .resolve(None)
            .unwrap();
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let error = value.extract_error().unwrap_err();
        classify(&target, &Subject::of(cmd), error)
    }

    fn get() -> Cmd {
        redis::cmd("GET").arg("metrics").take()
    }

    #[test]
    fn each_code_has_its_class_and_remedy() {
        let auth = redis::cmd("AUTH").arg("bob").arg("s3cret").take();
        let table = [
            ("LOADING Redis is loading the dataset in memory", get(), "busy", true),
            ("MASTERDOWN Link with MASTER is down", get(), "busy", true),
            ("BUSY Redis is busy running a script", get(), "busy", true),
            ("TRYAGAIN Multiple keys", get(), "busy", true),
            ("CLUSTERDOWN The cluster is down", get(), "busy", true),
            ("OOM command not allowed", get(), "busy", true),
            ("ERR max number of clients reached", auth.clone(), "busy", true),
            ("WRONGPASS invalid username-password pair", auth.clone(), "password", true),
            ("NOAUTH Authentication required.", get(), "password", true),
            ("ERR AUTH <password> called without any password configured for the default user", auth, "password", true),
            ("NOPERM this user has no permissions", get(), "permission", true),
            ("DENIED Redis is running in protected mode", get(), "permission", true),
            ("READONLY You can't write against a read only replica.", get(), "read_only", true),
            ("WRONGTYPE Operation against a key", get(), "wrong_type", true),
            ("ERR DB index is out of range", redis::cmd("SELECT").arg(7).take(), "config", false),
            ("ERR unknown command", get(), "response", false),
            ("MOVED 1 cache:7000", get(), "response", false),
        ];
        for (line, cmd, kind, retry) in table {
            let error = answer(line, &cmd);
            let (code, text) = (line.split(' ').next().unwrap(), error.to_string());
            assert_eq!(error.kind().as_str(), kind, "{line}");
            assert_eq!(error.retry(), retry, "{line}");
            assert!(text.contains(&format!("({code})")), "{text}");
            assert!(text.contains("cache:6379"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
            assert!(!text.ends_with('.') && text.starts_with("redis at"), "{text}");
            // the server's own words are the cause, once, and not in the text
            let cause = error.source().unwrap();
            assert_eq!(cause.to_string(), line);
            assert!(cause.source().is_none());
        }
    }

    #[test]
    fn the_exact_sentences() {
        assert_eq!(
            answer("WRONGPASS x", &get()).to_string(),
            "redis at cache:6379 refuses the password of user 'bob' (WRONGPASS): check REDIS_USERNAME and REDIS_PASSWORD"
        );
        assert_eq!(
            answer("NOPERM x", &get()).to_string(),
            "redis at cache:6379 denies GET 'metrics' to user 'bob' (NOPERM): allow it with ACL SETUSER bob +get \
             '~metrics'"
        );
        assert_eq!(
            answer("READONLY x", &get()).to_string(),
            "redis at cache:6379 is a read-only replica (READONLY): point REDIS_HOST at the primary"
        );
        assert_eq!(
            answer("WRONGTYPE x", &get()).to_string(),
            "redis at cache:6379 holds no string under 'metrics', as GET expects (WRONGTYPE): delete the key or name \
             another"
        );
        assert_eq!(
            answer("ERR DB index is out of range", &redis::cmd("SELECT").arg(7).take()).to_string(),
            "redis at cache:6379 has no database 7 (ERR): check REDIS_DB"
        );
    }

    #[test]
    fn errors_inside_scripts_are_what_they_are_outside() {
        let script = redis::cmd("EVALSHA").arg("abc").arg(1).arg("in").take();
        let called = "ERR Error running script (call to f_5fd00e85): @user_script:18: ";
        let table = [
            // as 7.0 says it
            ("NOGROUP No such key 'in' or consumer group 'vm' script: 5fd0, on @user_script:18.".to_owned(), "NOGROUP"),
            (format!("ERR {SCRIPT_DENIED} run this command or subcommand script: 5fd0, on @user_script:1."), "NOPERM"),
            (format!("ERR {SCRIPT_DENIED} access at least one of the keys mentioned"), "NOPERM"),
            // as 6.2 says it
            (format!("{called}NOGROUP No such key 'in' or consumer group 'vm'"), "NOGROUP"),
            (format!("{called}@user_script: 18: -READONLY You can't write against a read only replica. "), "READONLY"),
            (format!("{called}@user_script: 18: -OOM command not allowed when used memory > 'maxmemory'."), "OOM"),
            (format!("{called}@user_script: 18: {SCRIPT_DENIED} run this command or subcommand"), "NOPERM"),
            (format!("{called}WRONGTYPE Operation against a key holding the wrong kind of value"), "WRONGTYPE"),
            (format!("{called}attempt to index a nil value"), "ERR"),
        ];
        for (line, code) in table {
            assert_eq!(answer(&line, &script).code().as_deref(), Some(code), "{line}");
        }
        assert_eq!(
            answer(&format!("ERR {SCRIPT_DENIED} run this command or subcommand"), &script).to_string(),
            "redis at cache:6379 denies user 'bob' a command that a script runs on 'in' (NOPERM): allow it all commands \
             and keys that docs/operating.md lists"
        );
        assert!(answer(&format!("{called}@user_script: 1: -READONLY no"), &script).breaks_connection());
    }

    #[test]
    fn subjects_name_the_key_and_no_other_argument() {
        let of = |words: &[&str]| {
            let mut cmd = redis::cmd(words[0]);
            for word in &words[1..] {
                cmd.arg(*word);
            }
            Subject::of(&cmd).to_string()
        };
        assert_eq!(of(&["set", "out", "secret"]), "SET 'out'");
        assert_eq!(of(&["AUTH", "secret"]), "AUTH");
        assert_eq!(of(&["EVALSHA", "abc", "2", "one", "two"]), "EVALSHA 'one'");
        assert_eq!(of(&["EVALSHA", "abc", "0", "arg"]), "EVALSHA");
        assert_eq!(of(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "events", ">"]), "XREADGROUP 'events'");
        assert_eq!(of(&["XGROUP", "CREATE", "events", "g", "$"]), "XGROUP 'events'");
        let long = of(&["GET", &"k".repeat(500)]);
        assert!(long.chars().count() < 100 && long.ends_with("…'"), "{long}");
        assert_eq!(Subject::of(redis::cmd("GET").arg(b"a\n\xff")).to_string(), "GET 'a\\n\u{fffd}'");
    }

    #[test]
    fn what_breaks_a_connection() {
        for (line, breaks) in [
            ("READONLY x", true),
            ("MASTERDOWN x", true),
            ("NOAUTH x", true),
            ("LOADING x", false),
            ("WRONGTYPE x", false),
            ("NOPERM x", false),
            ("ERR x", false),
        ] {
            assert_eq!(answer(line, &get()).breaks_connection(), breaks, "{line}");
        }
    }
}
