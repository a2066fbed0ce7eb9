//! What was asked of the server, in the words of a message.

use std::fmt;

use redis::{Arg, Cmd};

/// What was asked of the server, as it stands in a message. Holds no argument but the key.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(super) command: String,
    pub(super) key: Option<String>,
}

impl Subject {
    /// Connecting and introducing oneself.
    pub(crate) fn connect() -> Self {
        Self::named("CONNECT")
    }

    pub(crate) fn named(command: &str) -> Self {
        Self { command: command.to_owned(), key: None }
    }

    pub(crate) fn script(command: &str, key: &str) -> Self {
        Self { command: command.to_owned(), key: Some(shown(key.as_bytes())) }
    }

    pub(crate) fn channel(channel: &[u8]) -> Self {
        Self { command: "SUBSCRIBE".to_owned(), key: Some(shown(channel)) }
    }

    pub(crate) fn is_one_of(&self, commands: &[&str]) -> bool {
        commands.contains(&self.command.as_str())
    }

    pub(crate) fn of(cmd: &Cmd) -> Self {
        let argument = |index| match cmd.args_iter().nth(index) {
            Some(Arg::Simple(bytes)) => Some(bytes),
            _ => None,
        };
        let command = argument(0).map(shown).unwrap_or_default().to_uppercase();
        let position = match command.as_str() {
            "AUTH" | "HELLO" | "SELECT" | "CLIENT" | "PING" => None,
            "EVAL" | "EVALSHA" | "FCALL" => argument(2).filter(|count| *count != b"0").map(|_| 3),
            "XGROUP" | "XINFO" | "OBJECT" | "MEMORY" => Some(2),
            "XREAD" | "XREADGROUP" => cmd
                .args_iter()
                .position(|word| matches!(word, Arg::Simple(word) if word.eq_ignore_ascii_case(b"STREAMS")))
                .map(|position| position + 1),
            _ => Some(1),
        };
        let key = position.and_then(argument).map(shown);
        Self { command, key }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} '{key}'", self.command),
            None => f.write_str(&self.command),
        }
    }
}

/// Keys are bytes and may be long; a message shows at most this many characters of one.
const SHOWN: usize = 80;

pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
