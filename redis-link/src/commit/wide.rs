//! A letter whose entry has more fields than a script can add: its language unpacks some thousands of values at once. The
//! commands themselves have no such limit, so it goes by a transaction of them, on a connection of its own.

use std::error::Error;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Value};

use super::Write;
use crate::fault::{LinkError, Subject, classify};
use crate::link::{Link, dial};
use crate::size::Size;

/// Removes the letter where all that was added before it has found a stream. Keys: dead stream, then the others; the id.
const REMOVE: &str = "for i = 2, #KEYS do if redis.call('TYPE', KEYS[i]).ok ~= 'stream' then return 0 end end \
                      return redis.call('XDEL', KEYS[1], ARGV[1])";

/// The letters are watched, so that none is fed that somebody has just removed; each new one lets the transaction fail.
const TRIES: usize = 100;

/// Removes a letter and adds what belongs to it; false where it is gone already, and nothing is added.
pub(super) async fn feed(link: &Link, dead_stream: &str, id: &str, writes: &[Write]) -> Result<bool, LinkError> {
    let size = writes.iter().fold(Size::default(), |size, write| write.measure(size));
    let connection = dial(link.target(), Some(size.patience())).await?;
    let mut own = Own { link, connection };
    match own.feed(dead_stream, id, writes).await {
        Err(error) => Err(link.weighed(size, error).await),
        fed => fed,
    }
}

struct Own<'a> {
    link: &'a Link,
    connection: MultiplexedConnection,
}

impl Own<'_> {
    async fn feed(&mut self, dead_stream: &str, id: &str, writes: &[Write]) -> Result<bool, LinkError> {
        let streams: Vec<&str> = writes.iter().filter_map(Write::stream).collect();
        for _ in 0..TRIES {
            let () = self.ask(redis::cmd("WATCH").arg(dead_stream)).await?;
            for stream in streams.iter().chain([&dead_stream]) {
                let kind: String = self.ask(redis::cmd("TYPE").arg(*stream)).await?;
                if kind != "none" && kind != "stream" {
                    return Err(LinkError::wrong_type(self.link.target(), stream, "stream"));
                }
            }
            let there: Vec<Value> = self.ask(redis::cmd("XRANGE").arg(dead_stream).arg(id).arg(id)).await?;
            if there.is_empty() {
                return Ok(false);
            }
            // one after the other: what this user may not do is named, and all of it is dropped with the connection
            let () = self.ask(&redis::cmd("MULTI")).await?;
            for write in writes {
                let () = self.ask(&write.command()).await?;
            }
            // who may not remove learns it before anything is added
            let () = self.ask(redis::cmd("XDEL").arg(dead_stream).arg("0-1")).await?;
            let mut remove = redis::cmd("EVAL");
            let () = self.ask(remove.arg(REMOVE).arg(streams.len() + 1).arg(dead_stream).arg(&streams).arg(id)).await?;
            let done: Option<Vec<Value>> =
                self.ask(&redis::cmd("EXEC")).await.map_err(|error| self.ended(error, dead_stream))?;
            if let Some(answers) = done {
                return Ok(answers.last() == Some(&Value::Int(1)));
            }
        }
        Err(LinkError::busy(format!(
            "redis at {} has new letters in '{dead_stream}' all the time, so that letter {id} could not be fed back: try \
             again when fewer events fail",
            self.link.target().place()
        )))
    }

    async fn ask<T: FromRedisValue>(&mut self, cmd: &Cmd) -> Result<T, LinkError> {
        let answer = cmd.query_async(&mut self.connection).await;
        answer.map_err(|error| classify(self.link.target(), &Subject::of(cmd), error))
    }

    /// A server that does not let this user end the step says so in words of its own.
    fn ended(&self, error: LinkError, dead_stream: &str) -> LinkError {
        let words = error.source().map(ToString::to_string).unwrap_or_default();
        if words.contains("has no permissions to run") {
            LinkError::denied(self.link.target(), "EXEC", dead_stream)
        } else {
            error
        }
    }
}
