//! The process's first thread as a place to run things: Python's signals and many C libraries insist on it.
//!
//! `main` keeps the [`Desk`] and serves it while tokio runs on other threads; components get a [`MainThread`]. What
//! takes turns with such work, one call after the other, can live there altogether ([`MainThread::spawn`]): a job
//! that is sent from there needs no other thread to wake, which is most of the price of a short call.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::contract::Fault;

type Job = Box<dyn FnOnce() + Send>;

/// Sends work to the first thread. Cheap to clone.
#[derive(Clone)]
pub struct MainThread {
    jobs: mpsc::UnboundedSender<Option<Job>>,
    place: Arc<OnceLock<Place>>,
}

/// The first thread's own half.
pub struct Desk {
    jobs: mpsc::UnboundedReceiver<Option<Job>>,
    place: Arc<OnceLock<Place>>,
}

/// The serving thread, known once it serves.
struct Place {
    thread: ThreadId,
    runtime: Handle,
}

/// A new pair.
#[must_use]
pub fn pair() -> (MainThread, Desk) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let place = Arc::new(OnceLock::new());
    (MainThread { jobs: sender, place: Arc::clone(&place) }, Desk { jobs: receiver, place })
}

impl MainThread {
    /// Runs `job` there: at once where the caller is there itself, else after the jobs that were sent before. A job
    /// that was sent runs to its end even if the future is dropped.
    ///
    /// # Errors
    /// The first thread serves no more: the process is ending.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        if self.place.get().is_some_and(|place| place.thread == thread::current().id()) {
            return Ok(job());
        }
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

    /// Sends a job there and does not wait for it.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) {
        // a thread that has ended has no use for it
        let _ = self.jobs.send(Some(Box::new(job)));
    }

    /// Runs a task there. It and its connections stand still while a job runs, so this is for what waits for its jobs
    /// anyway. Before the first thread serves, the task goes to the caller's runtime.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        match self.place.get() {
            Some(place) => place.runtime.spawn(task),
            None => tokio::spawn(task),
        }
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
    ///
    /// # Errors
    /// The process has no descriptors left to wait with.
    pub fn serve(mut self) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let place = Place { thread: thread::current().id(), runtime: runtime.handle().clone() };
        // a desk is made with its own cell and served once
        let _ = self.place.set(place);
        runtime.block_on(async {
            while let Some(Some(job)) = self.jobs.recv().await {
                job();
            }
        });
        // a blocking task of somebody else's must not hold up the end
        runtime.shutdown_background();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn elsewhere<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> thread::JoinHandle<T> {
        thread::spawn(move || runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
    }

    #[test]
    fn jobs_run_on_the_serving_thread_until_the_last_handle_goes() {
        let (main, desk) = pair();
        let caller = elsewhere(async move {
            let first = main.run(|| thread::current().id()).await.unwrap();
            let second = main.run(|| thread::current().id()).await.unwrap();
            (first, second)
        });
        desk.serve().unwrap();
        let here = thread::current().id();
        assert_eq!(caller.join().unwrap(), (here, here));
    }

    #[test]
    fn a_task_there_runs_its_jobs_at_once() {
        let (main, desk) = pair();
        let caller = elsewhere(async move {
            // the desk serves once it has answered
            main.run(|| ()).await.unwrap();
            let there = main.clone();
            let task = main.spawn(async move {
                let mut done = 0;
                for _ in 0..3 {
                    // were it sent, it would wait for this very task
                    done += there.run(|| 1).await.unwrap();
                }
                (done, thread::current().id())
            });
            let result = task.await.unwrap();
            main.close();
            result
        });
        desk.serve().unwrap();
        assert_eq!(caller.join().unwrap(), (3, thread::current().id()));
    }
}
