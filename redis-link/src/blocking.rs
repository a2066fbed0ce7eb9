//! A connection of its own for commands that wait in the server.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

use crate::fault::{LinkError, Subject, classify};
use crate::link::{Link, RESPONSE_TIMEOUT, dial, is_over};
use crate::target::Target;

/// A connection for one blocking command at a time. Nothing else may be sent on it: it would queue behind.
///
/// Unlike a [`Link`] it does not come back by itself: whoever gets an error opens another one.
#[derive(Clone)]
pub struct Blocking {
    target: Target,
    connection: MultiplexedConnection,
    /// None where this user may not ask.
    id: Option<i64>,
}

impl Blocking {
    /// Connects and introduces itself, like a [`Link`]: a second at most.
    ///
    /// # Errors
    /// The server is away, hung, or refuses these credentials.
    pub async fn open(target: &Target) -> Result<Self, LinkError> {
        // a time-out of the redis crate's would end every read that waits longer
        let mut connection = dial(target, None).await?;
        let ask = redis::cmd("CLIENT").arg("ID").take();
        let id = tokio::time::timeout(RESPONSE_TIMEOUT, ask.query_async(&mut connection)).await;
        let id = id.ok().and_then(Result::ok);
        Ok(Self { target: target.clone(), connection, id })
    }

    /// Runs a command that waits in the server for `wait` at most. The future owns what it needs: a caller can keep it
    /// and go on waiting later.
    ///
    /// Dropping the future does not take the command back: the server may still act on it.
    ///
    /// # Errors
    /// As for [`Link::query`]; also no answer two seconds after `wait`. The connection is of no use any more then,
    /// unless the server itself refused the command ([`LinkError::code`]).
    pub fn query(&self, cmd: Cmd, wait: Duration) -> impl Future<Output = Result<Value, LinkError>> + Send + 'static {
        let Self { target, mut connection, .. } = self.clone();
        async move {
            let answer = tokio::time::timeout(wait + RESPONSE_TIMEOUT, cmd.query_async(&mut connection)).await;
            let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            answer.unwrap_or_else(|_| late()).map_err(|error| classify(&target, &Subject::of(&cmd), error))
        }
    }

    /// Whether the connection has ended while nothing waited on it: nothing can have been lost with it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        is_over(&mut self.connection.clone())
    }

    /// Ends the wait of a blocked command, which then answers as after its time. Best effort: the user may lack the
    /// permission, and the command may just have got its answer.
    pub async fn unblock(&self, link: &Link) {
        if let Some(id) = self.id {
            let _: Result<Value, _> = link.query(redis::cmd("CLIENT").arg("UNBLOCK").arg(id)).await;
        }
    }
}

/// Shows the endpoint, never a secret.
impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("endpoint", &self.target.endpoint()).field("id", &self.id).finish()
    }
}
