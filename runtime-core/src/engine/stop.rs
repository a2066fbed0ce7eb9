//! The wish to stop, known to everybody who waits.

use tokio::sync::watch;
use tokio::time::Instant;

/// Utters the wish.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Option<Instant>>);

/// Hears it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Instant>>);

/// A new pair.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// From now on everybody should finish what is in flight and leave.
    pub fn stop(&self) {
        self.0.send_if_modified(|since| {
            let is_first = since.is_none();
            since.get_or_insert_with(Instant::now);
            is_first
        });
    }
}

impl Stop {
    /// Whether the wish was uttered.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.since().is_some()
    }

    /// When it was uttered.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Resolves once it is. May be dropped at any time.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(Option::is_some).await.is_err() {
            // nobody is left who could ask
            std::future::pending::<()>().await;
        }
    }
}
