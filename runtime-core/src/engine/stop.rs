//! The wish to stop, known to everybody who waits.

use tokio::sync::watch;

/// Utters the wish.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<bool>);

/// Hears it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A new pair.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// From now on everybody should finish what is in flight and leave.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether the wish was uttered.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once it is. May be dropped at any time.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|stop| *stop).await.is_err() {
            // nobody is left who could ask
            std::future::pending::<()>().await;
        }
    }
}
