//! Connections that are closed under a question.

use std::fmt::Display;

use redis::RedisError;

use super::{LinkError, server_answer};
use crate::target::Target;

/// How a server begins its last words, where it cannot read what it is sent: a value is larger than it takes, mostly.
pub(super) const UNREAD: &str = "Protocol error";

impl LinkError {
    /// Whether the connection was closed before the answer had come: the server has ended or restarted, somebody has cut
    /// it off, or the answer was more than the server lets through.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let was_open = |error: &RedisError| !error.is_connection_refusal() && !error.is_timeout();
        !self.connecting && self.redis().is_some_and(|error| error.is_connection_dropped() && was_open(error))
    }

    /// Whether the server has closed the connection as it could not read what it was sent, and could say so.
    pub(crate) fn is_unread(&self) -> bool {
        self.redis().and_then(server_answer).is_some_and(|(_, _, words)| words.starts_with(UNREAD))
    }

    /// The same of a connection that was closed at this question more than once: what may be behind it.
    #[must_use]
    pub fn cut_at(self, target: &Target, question: &dyn Display) -> Self {
        if !self.is_cut() {
            return self;
        }
        let place = target.place();
        let message = format!(
            "redis at {place} closes the connection at each {question}: the answer may be larger than its \
             client-output-buffer-limit; raise that, or remove what is so large"
        );
        Self { message, ..self }
    }
}
