//! Keyspace notifications of one key.
//!
//! The server announces changes only where its own configuration says so (`notify-keyspace-events` with `K` and at
//! least `$gx`; nothing here changes it): silence proves nothing, and whoever watches also looks at the key now and
//! then. Notifications are not queued for an absent subscriber: after each [`Watch::open`] the key is read again.

use futures_util::StreamExt;
use redis::Msg;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::fault::{LinkError, Subject, classify};
use crate::link::{CONNECT_TIMEOUT, Link, RESPONSE_TIMEOUT};
use crate::target::Target;

/// Events after which the key holds no other value than before, or none.
const NO_WRITES: [&[u8]; 7] = [b"expire", b"persist", b"del", b"expired", b"evicted", b"rename_from", b"move_from"];

/// A subscription to the changes of one key, on a connection of its own.
///
/// Every event of the key counts: set, del, expired, rename_to, restore and so on. A connection that is cut ends the
/// watch at once. A peer that vanished without a word is noticed by TCP keepalive after about 25 seconds; a server
/// process that merely hangs is not noticed here, but by the next read of the key.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    channel: Vec<u8>,
    /// Asks the server to confirm the subscription again.
    sink: PubSubSink,
    /// Asks the task that takes messages off the connection to answer when it has taken them all.
    drained: mpsc::Sender<oneshot::Sender<()>>,
    changes: watch::Receiver<Tally>,
    /// What was told to the caller.
    told: Tally,
}

/// Events since the subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    events: u64,
    writes: u64,
}

impl Watch {
    /// Subscribes to `__keyspace@DB__:KEY`, that very channel and no pattern. Returns once the server has confirmed:
    /// each later change wakes [`Watch::changed`]. Takes three seconds at most.
    ///
    /// # Errors
    /// As [`Link::connection`]; the ACL may also deny SUBSCRIBE on this channel
    /// ([`Trouble::Permission`](crate::Trouble)).
    pub async fn open(target: &Target, key: impl AsRef<[u8]>) -> Result<Self, LinkError> {
        let mut channel = format!("__keyspace@{}__:", target.db()).into_bytes();
        channel.extend_from_slice(key.as_ref());
        let connecting = Subject::connect();
        let failed = |error| classify(target, &connecting, error);

        let client = target.authenticating_client().map_err(failed)?;
        let opened = within(CONNECT_TIMEOUT, client.get_async_pubsub()).await;
        let (sink, messages) = match opened {
            Ok(subscription) => subscription.split(),
            Err(error) if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                // this handshake hides the server's words, the link's does not
                Link::new(target.clone()).connection().await?;
                return Err(failed(error));
            }
            Err(error) => return Err(failed(error)),
        };
        let (sender, changes) = watch::channel(Tally::default());
        let (drained, asked) = mpsc::channel(1);
        let target = target.clone();
        let mut watch = Self { target, channel, sink, drained, changes, told: Tally::default() };
        watch.subscribe().await?;
        tokio::spawn(take(messages, sender, asked));
        Ok(watch)
    }

    /// Waits for the next change of the key; all changes since the last call are one. May be dropped and called again
    /// without losing a change. Says how many of the changes gave the key a value: none where it was deleted or got
    /// another time to live.
    ///
    /// # Errors
    /// The connection has ended: open a new watch, then read the key.
    pub async fn changed(&mut self) -> Result<u64, LinkError> {
        self.changes.changed().await.map_err(|_| LinkError::closed(&self.target))?;
        Ok(self.take().unwrap_or(0))
    }

    /// Waits until every change that happened before this call has been heard of, if it was announced at all. What
    /// [`Watch::changed`] would say at once by then, None where nothing was announced since the last call of either.
    /// Takes two seconds at most.
    ///
    /// # Errors
    /// As [`Watch::changed`]; or the server does not answer in time.
    pub async fn caught_up(&mut self) -> Result<Option<u64>, LinkError> {
        // the server's answer follows, on the same connection, whatever it has announced before
        self.subscribe().await?;
        let (done, wait) = oneshot::channel();
        let closed = || LinkError::closed(&self.target);
        self.drained.send(done).await.map_err(|_| closed())?;
        wait.await.map_err(|_| closed())?;
        Ok(self.take())
    }

    async fn subscribe(&mut self) -> Result<(), LinkError> {
        within(RESPONSE_TIMEOUT, self.sink.subscribe(&self.channel[..]))
            .await
            .map_err(|error| classify(&self.target, &Subject::channel(&self.channel), error))
    }

    /// The writes since the last call, None where there was no event either.
    fn take(&mut self) -> Option<u64> {
        let now = *self.changes.borrow_and_update();
        let before = std::mem::replace(&mut self.told, now);
        (now.events > before.events).then(|| now.writes - before.writes)
    }
}

/// Takes messages off the connection whether or not somebody asks: a busy key would otherwise fill memory, and a burst
/// is one change. Ends with the connection or with the watch. Where a function's call holds this thread, messages wait
/// in the server, which ends the connection when they become too many.
async fn take(
    mut messages: PubSubStream,
    sender: watch::Sender<Tally>,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    loop {
        tokio::select! {
            // whoever asks wants all that is there counted before the answer
            biased;
            message = messages.next() => match message {
                Some(message) => sender.send_modify(|tally| {
                    tally.events += 1;
                    tally.writes += u64::from(is_write(&message));
                }),
                None => break,
            },
            Some(done) = asked.recv() => {
                // nobody waits any more if the watch is gone
                let _ = done.send(());
            }
            () = sender.closed() => break,
        }
    }
}

fn is_write(message: &Msg) -> bool {
    !NO_WRITES.contains(&message.get_payload_bytes())
}

async fn within<T>(
    limit: std::time::Duration,
    work: impl Future<Output = redis::RedisResult<T>>,
) -> redis::RedisResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
