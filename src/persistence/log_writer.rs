//! The one thread that writes the log of a node: group commit over all shards.
//!
//! It drains its inbox, writes one batch, makes it durable, notes the watermark, and only then says so. A batch costs
//! about the same for one append as for fifty, so under load they are paced: one begins no sooner than two milliseconds
//! after the one before, and an append that comes after a rest is written at once. Nothing is acknowledged after a
//! failure: the process ends.

use crate::persistence::last_words::EndsProcess;
use crate::persistence::log::LogAppend;
use crate::persistence::log_store::{LogStore, LogWrite};
use crate::persistence::store::StoreError;
use crate::persistence::watermark::Watermark;
use crate::types::ids::{LogIndex, ShardId};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, after, bounded, select, tick};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writes that may wait for the thread; a submitter beyond them waits.
const INBOX_WRITES_MAX: usize = 4_096;
/// Bytes of one batch, after which it is flushed (sled must not pile up more).
const BATCH_BYTES_MAX: usize = 384 << 10;
/// From the begin of one batch to the begin of the next, at least.
const PACE: Duration = Duration::from_millis(2);
/// The watermark's own durability may lag this much.
const WATERMARK_SYNC_EVERY: Duration = Duration::from_millis(100);

/// Called after each durable batch with the highest append number of each shard in it.
pub type Persisted = Box<dyn Fn(Vec<(ShardId, u64)>) + Send>;

/// Is told how long each batch takes to become durable.
pub trait SyncWatch: Send {
    fn begins(&self) {}
    fn ends(&self) {}
}

/// Nobody wants to know.
pub struct Unwatched;

impl SyncWatch for Unwatched {}

/// Handle of the thread. Dropping it writes what was submitted, then ends the thread.
pub struct LogWriter {
    inbox: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

enum Task {
    Write(LogWrite),
    /// Answered once everything before it is durable.
    Barrier(Sender<()>),
    /// As `Barrier`; what is still to be purged of the shard is left.
    Settle(ShardId, Sender<()>),
    /// Makes something durable although there may be nothing to write.
    Probe,
}

impl LogWriter {
    /// Starts the thread. A failed write ends the process.
    ///
    /// # Panics
    /// When the operating system gives no thread.
    #[must_use]
    pub fn start(store: Arc<LogStore>, sidecar: Watermark, persisted: Persisted) -> Self {
        Self::start_watched(store, sidecar, persisted, Box::new(Unwatched))
    }

    /// As [`LogWriter::start`]; `watch` is told when each batch begins to be written and when it is durable.
    ///
    /// # Panics
    /// When the operating system gives no thread.
    #[must_use]
    pub fn start_watched(
        store: Arc<LogStore>,
        sidecar: Watermark,
        persisted: Persisted,
        watch: Box<dyn SyncWatch>,
    ) -> Self {
        Self::start_with(store, sidecar, (persisted, watch), abort)
    }

    /// As [`LogWriter::start_watched`]; `fatal` is called instead of ending the process, and the thread stops.
    ///
    /// # Panics
    /// When the operating system gives no thread.
    #[must_use]
    pub fn start_with(
        store: Arc<LogStore>,
        sidecar: Watermark,
        (persisted, watch): (Persisted, Box<dyn SyncWatch>),
        fatal: fn(&StoreError),
    ) -> Self {
        let (inbox, tasks) = bounded(INBOX_WRITES_MAX);
        let (purges, pace) = (BTreeMap::new(), after(Duration::ZERO));
        let mut worker = Worker { store, sidecar, persisted, watch, tasks, purges, pace };
        let run = move || {
            let _guard = EndsProcess("log-writer");
            match worker.run() {
                Ok(()) => {}
                Err(error) => fatal(&error),
            }
        };
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(run);
        Self { inbox: Some(inbox), thread: Some(thread.expect("a thread for the log writer")) }
    }

    /// Hands an append to the thread; waits while the inbox is full. After a failure it is dropped unanswered.
    pub fn submit(&self, append: LogAppend) {
        self.send(Task::Write(LogWrite::Append(append)));
    }

    /// Purges entries below `below`, a chunk at a time, riding on the batches to come. The caller has made sure that
    /// the durable state has applied them.
    pub fn purge(&self, shard: ShardId, below: LogIndex) {
        self.send(Task::Write(LogWrite::Purge { shard, below }));
    }

    /// Waits until everything submitted before is durable; `false` when the thread has failed.
    #[must_use]
    pub fn barrier(&self) -> bool {
        let (done, wait) = bounded(1);
        self.send(Task::Barrier(done));
        wait.recv().is_ok()
    }

    /// As [`LogWriter::barrier`]; and nothing is purged of the shard any more. For a log that is about to be forgotten: the one
    /// that comes after it must not be written to or purged in its stead. Nothing more of it may be submitted meanwhile.
    #[must_use]
    pub fn settle(&self, shard: ShardId) -> bool {
        let (done, wait) = bounded(1);
        self.send(Task::Settle(shard, done));
        wait.recv().is_ok()
    }

    /// Has the disk make something durable, for the [`SyncWatch`]: what is found out about a log that nobody writes to.
    pub fn probe(&self) {
        self.send(Task::Probe);
    }

    fn send(&self, task: Task) {
        let inbox = self.inbox.as_ref().expect("open until dropped");
        // The thread is gone only after `fatal`, which ends the process; a test's `fatal` returns.
        inbox.send(task).unwrap_or_default();
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        drop(self.inbox.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            thread.join().unwrap_or_default();
        }
    }
}

fn abort(error: &StoreError) {
    tracing::error!(%error, "the log cannot be written: ending the process, nothing more is acknowledged");
    std::process::abort();
}

struct Worker {
    store: Arc<LogStore>,
    sidecar: Watermark,
    persisted: Persisted,
    watch: Box<dyn SyncWatch>,
    tasks: Receiver<Task>,
    /// How far each shard is to be purged.
    purges: BTreeMap<ShardId, LogIndex>,
    /// Fires when the next batch may begin.
    pace: Receiver<Instant>,
}

/// What one round writes.
#[derive(Default)]
struct Round {
    writes: Vec<LogWrite>,
    bytes: usize,
    barriers: Vec<Sender<()>>,
    probe: bool,
}

impl Worker {
    fn run(&mut self) -> Result<(), StoreError> {
        let ticker = tick(WATERMARK_SYNC_EVERY);
        let mut dirty = false;
        loop {
            let first = if self.purges.is_empty() {
                select! {
                    recv(self.tasks) -> task => task.ok(),
                    recv(ticker) -> _ => {
                        self.sync_watermark(&mut dirty)?;
                        continue;
                    }
                }
            } else {
                match self.tasks.recv_timeout(Duration::ZERO) {
                    Ok(task) => Some(task),
                    Err(RecvTimeoutError::Timeout) => {
                        self.write(Round::default())?;
                        dirty = true;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => None,
                }
            };
            let Some(first) = first else {
                return self.sync_watermark(&mut dirty);
            };
            let round = self.gather(first);
            self.write(round)?;
            dirty = true;
            if ticker.try_recv().is_ok() {
                self.sync_watermark(&mut dirty)?;
            }
        }
    }

    fn sync_watermark(&self, dirty: &mut bool) -> Result<(), StoreError> {
        if std::mem::take(dirty) { self.sidecar.sync() } else { Ok(()) }
    }

    /// Everything that waits, and what comes before the batch may begin.
    fn gather(&mut self, first: Task) -> Round {
        let mut round = Round::default();
        self.take(&mut round, first);
        let mut paced = false;
        while round.bytes < BATCH_BYTES_MAX && round.barriers.is_empty() {
            match self.tasks.try_recv() {
                Ok(task) => self.take(&mut round, task),
                Err(_) if paced => break,
                Err(_) => select! {
                    recv(self.tasks) -> task => match task {
                        Ok(task) => self.take(&mut round, task),
                        Err(_) => break,
                    },
                    recv(self.pace) -> _ => paced = true,
                },
            }
        }
        self.pace = after(PACE);
        round
    }

    fn take(&mut self, round: &mut Round, task: Task) {
        match task {
            Task::Barrier(done) => round.barriers.push(done),
            Task::Settle(shard, done) => {
                self.purges.remove(&shard);
                round.barriers.push(done);
            }
            Task::Probe => round.probe = true,
            Task::Write(LogWrite::Purge { shard, below }) => {
                let known = self.purges.entry(shard).or_default();
                *known = below.max(*known);
            }
            Task::Write(write) => {
                round.bytes += write.bytes();
                round.writes.push(write);
            }
        }
    }

    fn write(&mut self, mut round: Round) -> Result<(), StoreError> {
        self.ride(&mut round);
        if !round.writes.is_empty() {
            self.watch.begins();
            let seq = self.store.write(&round.writes)?;
            self.store.sync()?;
            self.sidecar.write(seq)?;
            self.watch.ends();
        } else if round.probe {
            self.watch.begins();
            self.store.sync()?;
            // The same number in its own slot again: a torn write of it tears nothing.
            self.sidecar.write(self.store.batch_seq())?;
            self.sidecar.sync()?;
            self.watch.ends();
        }
        let persisted = highest_numbers(&round.writes);
        if !persisted.is_empty() {
            (self.persisted)(persisted);
        }
        for done in round.barriers {
            // The waiter may have given up.
            done.send(()).unwrap_or_default();
        }
        Ok(())
    }

    /// Adds one chunk of one pending purge.
    fn ride(&mut self, round: &mut Round) {
        while let Some((shard, below)) = self.purges.pop_first() {
            if self.store.purgeable(shard, below) {
                round.writes.push(LogWrite::Purge { shard, below });
                self.purges.insert(shard, below);
                return;
            }
        }
    }
}

fn highest_numbers(writes: &[LogWrite]) -> Vec<(ShardId, u64)> {
    let mut numbers = BTreeMap::new();
    for write in writes {
        match write {
            LogWrite::Append(append) => {
                let known = numbers.entry(append.shard).or_insert(append.number);
                *known = append.number.max(*known);
            }
            LogWrite::Purge { .. } | LogWrite::Forget { .. } => {}
        }
    }
    numbers.into_iter().collect()
}

#[cfg(test)]
#[path = "log_writer_tests.rs"]
mod tests;
