//! The process's first thread as a place to run things: Python's signals and many C libraries insist on it.
//!
//! `main` keeps the [`Desk`] and serves it while tokio runs on other threads; components get a [`MainThread`].

use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::contract::Fault;

type Job = Box<dyn FnOnce() + Send>;

/// Sends work to the first thread. Cheap to clone.
#[derive(Clone)]
pub struct MainThread {
    jobs: mpsc::Sender<Option<Job>>,
}

/// The first thread's own half.
pub struct Desk {
    jobs: mpsc::Receiver<Option<Job>>,
}

/// A new pair.
#[must_use]
pub fn pair() -> (MainThread, Desk) {
    let (sender, receiver) = mpsc::channel();
    (MainThread { jobs: sender }, Desk { jobs: receiver })
}

impl MainThread {
    /// Runs `job` there, after the jobs that were sent before. The job runs to its end even if the future is dropped.
    ///
    /// # Errors
    /// The first thread serves no more: the process is ending.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let (answer, wait) = oneshot::channel();
        let gone = || Fault::internal("the main thread has ended");
        self.jobs
            .send(Some(Box::new(move || {
                // a caller that has gone away does not want the answer
                let _ = answer.send(job());
            })))
            .map_err(|_| gone())?;
        wait.await.map_err(|_| gone())
    }

    /// Ends [`Desk::serve`] after the jobs that were sent before.
    pub fn close(&self) {
        // it may have ended already
        let _ = self.jobs.send(None);
    }
}

impl Desk {
    /// Runs what is sent until [`MainThread::close`], or until every [`MainThread`] is dropped. To be called on the
    /// first thread.
    pub fn serve(self) {
        while let Ok(Some(job)) = self.jobs.recv() {
            job();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_on_the_serving_thread_in_order_until_the_last_handle_goes() {
        let (main, desk) = pair();
        let caller = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let first = main.run(|| std::thread::current().id()).await.unwrap();
                let second = main.run(|| std::thread::current().id()).await.unwrap();
                (first, second)
            })
        });
        desk.serve();
        let here = std::thread::current().id();
        assert_eq!(caller.join().unwrap(), (here, here));
    }
}
