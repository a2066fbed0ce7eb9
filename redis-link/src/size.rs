//! How much a server takes at once. One that is sent more closes the connection, mostly without a word that arrives, which
//! looks like an outage and would be the same with each further try.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Arg, Cmd, Pipeline, Value};

use crate::fault::LinkError;
use crate::link::{Link, RESPONSE_TIMEOUT};

/// Every server takes this much, in one value and in one command: no setting goes below.
const ALWAYS: usize = 1 << 20;

/// So often in a row the server must have closed the connection on the same command before that is taken for its answer,
/// where it does not tell its limits.
const CLOSED: u32 = 3;

/// A line that carries less a second is no line.
const SLOWEST: u64 = 1 << 20;

/// The limits of one value and of all that is sent before it is worked off, as servers call them.
const VALUE: &str = "proto-max-bulk-len";
const BUFFER: &str = "client-query-buffer-limit";

/// The size of what is sent in one go, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Of the largest value.
    value: usize,
    all: usize,
}

impl Size {
    pub(crate) fn of(cmd: &Cmd) -> Self {
        cmd.args_iter().fold(Self::default(), |size, arg| match arg {
            Arg::Simple(bytes) => size.and(bytes.len()),
            _ => size,
        })
    }

    pub(crate) fn of_all(pipeline: &Pipeline) -> Self {
        pipeline
            .cmd_iter()
            .map(Self::of)
            .fold(Self::default(), |sum, size| Self { value: sum.value.max(size.value), all: sum.all + size.all })
    }

    /// With another value.
    #[must_use]
    pub(crate) const fn and(self, value: usize) -> Self {
        let largest = if value > self.value { value } else { self.value };
        Self { value: largest, all: self.all + value }
    }

    pub(crate) const fn bytes(self) -> usize {
        self.all
    }

    const fn is_always_taken(self) -> bool {
        self.all <= ALWAYS
    }

    /// How long the answer may take: what is large is on its way for a while.
    pub(crate) fn patience(self) -> Duration {
        RESPONSE_TIMEOUT + Duration::from_secs(self.all as u64 / SLOWEST)
    }
}

/// What the server has closed the connection on last, and how often in a row.
#[derive(Debug, Default)]
pub(crate) struct Closed(Mutex<(Size, u32)>);

impl Closed {
    fn again(&self, size: Size) -> u32 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (size, if last.0 == size { last.1 + 1 } else { 1 });
        last.1
    }

    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Size::default(), 0);
    }
}

impl Link {
    /// The error of sending that much: what it means where the connection was closed on it.
    pub(crate) async fn weighed(&self, size: Size, error: LinkError) -> LinkError {
        if size.is_always_taken() || !(error.is_cut() || error.is_unread()) {
            return error;
        }
        let place = self.target().place();
        let limits = match self.limits().await {
            Ok(limits) => limits,
            // the server is away: what was sent has nothing to do with it
            Err(_) => {
                self.closed().forget();
                return error;
            }
        };
        let limit = |name: &str| limits.get(name).copied().filter(|limit| *limit > 0);
        let too_much = |what: &str, size: usize, name: &str| {
            limit(name).filter(|limit| size > *limit).map(|limit| {
                let message = format!(
                    "redis at {place} takes no {what} of {size} bytes ({name} {limit}): keep results smaller, or raise it"
                );
                LinkError::too_large(message)
            })
        };
        let limits = [("value", size.value, VALUE), ("value", size.value, BUFFER), ("command", size.all, BUFFER)];
        if let Some(told) = limits.into_iter().find_map(|(what, size, name)| too_much(what, size, name)) {
            return told;
        }
        if self.closed().again(size) < CLOSED {
            return error;
        }
        self.closed().forget();
        LinkError::too_large(format!(
            "redis at {place} closes the connection whenever it is sent a command of {} bytes with a value of {}: keep \
             results smaller, or raise {VALUE} or {BUFFER}",
            size.all, size.value
        ))
    }

    /// What the server tells of its limits; nothing where this user may not ask.
    ///
    /// # Errors
    /// It is away.
    async fn limits(&self) -> Result<BTreeMap<String, usize>, LinkError> {
        let mut limits = BTreeMap::new();
        for name in [VALUE, BUFFER] {
            // servers before 7.0 take one name
            let asked = redis::cmd("CONFIG").arg("GET").arg(name).take();
            match self.query::<Value>(&asked).await {
                Ok(answer) => {
                    limits.extend(redis::from_redis_value::<BTreeMap<String, usize>>(answer).unwrap_or_default())
                }
                Err(error) if error.kind().is_outage() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_and_all_of_them() {
        let set = redis::cmd("SET").arg("key").arg("value").take();
        assert_eq!(Size::of(&set), Size { value: 5, all: 11 });
        let mut pipeline = redis::pipe();
        pipeline.add_command(set).cmd("GET").arg("another");
        assert_eq!(Size::of_all(&pipeline), Size { value: 7, all: 21 });
        assert_eq!(Size::default().patience(), RESPONSE_TIMEOUT);
        assert_eq!(Size { value: 0, all: 10 << 20 }.patience(), RESPONSE_TIMEOUT + Duration::from_secs(10));
    }

    #[test]
    fn another_size_is_another_trouble() {
        let closed = Closed::default();
        let size = |all| Size { value: 1, all };
        assert_eq!([1, 1, 2, 2, 2].map(|all| closed.again(size(all))), [1, 2, 1, 2, 3]);
        closed.forget();
        assert_eq!(closed.again(size(2)), 1);
    }
}
