//! Threads for reads that may block on the disk, so that no async worker ever does.

use crate::persistence::last_words::EndsProcess;
use crossbeam_channel::{Sender, bounded};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed pool with a bounded queue. Dropping it ends the threads once the queue is empty.
pub struct Pool {
    jobs: Sender<Job>,
}

/// Jobs waiting for a thread, at most; `run` blocks beyond it, which bounds how far readers can run ahead of the disk.
const QUEUE_MAX: usize = 65_536;

impl Pool {
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let (jobs, inbox) = bounded::<Job>(QUEUE_MAX);
        for number in 0..threads {
            let inbox = inbox.clone();
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                let _guard = EndsProcess("read");
                for job in inbox {
                    job();
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Runs a job on one of the threads.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        if self.jobs.send(Box::new(job)).is_err() {
            tracing::debug!("read job dropped: the pool has ended");
        }
    }

    /// Jobs that wait for a thread.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Runs a job and hands its result back; `None` when the pool ended.
    pub async fn ask<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (reply, result) = tokio::sync::oneshot::channel();
        self.run(move || {
            // The caller may have given up; its result is then of no use to anybody.
            let _gone = reply.send(job());
        });
        result.await.ok()
    }
}
