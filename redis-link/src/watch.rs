//! Keyspace notifications of one key.
//!
//! The server announces changes only where its own configuration says so (`notify-keyspace-events` with `K` and at
//! least `$gx`; nothing here changes it): silence proves nothing, and whoever watches also looks at the key now and
//! then. Notifications are not queued for an absent subscriber: after each [`Watch::open`] the key is read again.

use futures_util::StreamExt;
use tokio::sync::watch;

use crate::fault::{LinkError, Subject, classify};
use crate::link::{CONNECT_TIMEOUT, Link, RESPONSE_TIMEOUT};
use crate::target::Target;

/// A subscription to the changes of one key, on a connection of its own.
///
/// Every event of the key counts: set, del, expired, rename_to, restore and so on. A connection that is cut ends the
/// watch at once. A peer that vanished without a word is noticed by TCP keepalive after about 25 seconds; a server
/// process that merely hangs is not noticed here, but by the next read of the key.
#[derive(Debug)]
pub struct Watch {
    changes: watch::Receiver<()>,
    target: Target,
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
        let mut subscription = match opened {
            Ok(subscription) => subscription,
            Err(error) if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                // this handshake hides the server's words, the link's does not
                Link::new(target.clone()).connection().await?;
                return Err(failed(error));
            }
            Err(error) => return Err(failed(error)),
        };
        within(RESPONSE_TIMEOUT, subscription.subscribe(&channel[..]))
            .await
            .map_err(|error| classify(target, &Subject::channel(&channel), error))?;

        let mut messages = subscription.into_on_message();
        let (sender, changes) = watch::channel(());
        // Takes messages off the connection while the function runs for long: a busy key would otherwise fill memory,
        // and a burst is one change. Ends with the connection or with the watch.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    message = messages.next() => match message {
                        Some(_) => sender.send_replace(()),
                        None => break,
                    },
                    () = sender.closed() => break,
                }
            }
        });
        Ok(Self { changes, target: target.clone() })
    }

    /// Waits for the next change of the key; all changes since the last call are one. May be dropped and called again
    /// without losing a change.
    ///
    /// # Errors
    /// The connection has ended: open a new watch, then read the key.
    pub async fn changed(&mut self) -> Result<(), LinkError> {
        self.changes.changed().await.map_err(|_| LinkError::closed(&self.target))
    }
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
