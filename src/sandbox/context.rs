//! What all the providers share: the book under its lock, the journal, the faults and the clock.
//!
//! A call decides under the lock, where each event is appended to the journal and applied to the book in one step;
//! its answer leaves only when the journal has what was decided.

use crate::sandbox::book::Book;
use crate::sandbox::event::{Event, Fired, KeyDigest};
use crate::sandbox::faults::Faults;
use crate::sandbox::journal::{FrameAt, Journal, JournalError, JournalLost, Mark};
use crate::sandbox::settings::SOLAPI_SIGNATURE_WINDOW;
use crate::sandbox::webhook::Hooks;
use crate::types::time::{Clock, Timestamp};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use tokio::sync::Notify;

pub(crate) struct Context {
    book: Mutex<Book>,
    pub journal: Journal,
    pub faults: Faults,
    pub clock: Arc<dyn Clock>,
    pub hooks: Arc<Hooks>,
    /// Wakes the task that lets results come out.
    pub results_wake: Notify,
    /// Until when that task sleeps; an earlier result wakes it.
    pub results_armed: AtomicI64,
    /// Batches of results that came out and are not with the webhooks yet.
    pub results_open: AtomicUsize,
    signatures: Mutex<Signatures>,
    running: Mutex<HashSet<KeyDigest>>,
}

/// Used Solapi signatures, kept for their window. They are not persisted: a restart forgets them, as it forgets sessions.
#[derive(Default)]
struct Signatures {
    used: HashMap<u128, Timestamp>,
    by_age: VecDeque<(Timestamp, u128)>,
}

/// One step under the lock.
pub(crate) struct Decision<'a> {
    pub book: &'a mut Book,
    pub now: Timestamp,
    journal: &'a Journal,
    mark: Mark,
}

impl Decision<'_> {
    /// Writes an event down and lets it take effect.
    pub(crate) fn record(&mut self, event: &Event<'_>) {
        let (frame, mark) = self.journal.append(event);
        self.book.apply(event, frame);
        self.mark = mark;
    }
}

impl Context {
    /// # Errors
    /// [`JournalError`] when the store cannot be opened.
    pub(crate) fn open(dir: &Path, clock: Arc<dyn Clock>, seed: u64, hooks: Arc<Hooks>) -> Result<Self, JournalError> {
        let mut book = Book::default();
        let journal = Journal::open(dir, |frame, event| book.apply(&event, frame))?;
        Ok(Self {
            book: Mutex::new(book),
            journal,
            faults: Faults::new(seed),
            clock,
            hooks,
            results_wake: Notify::new(),
            results_armed: AtomicI64::new(i64::MAX),
            results_open: AtomicUsize::new(0),
            signatures: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// Decides and records; the mark is what the answer has to wait for.
    pub(crate) fn decide<R>(&self, decide: impl FnOnce(&mut Decision<'_>) -> R) -> (R, Mark) {
        let mut book = self.book.lock();
        // Read under the lock, so that arrival order and arrival instants agree.
        let now = self.clock.now();
        let mut decision = Decision { book: &mut book, now, journal: &self.journal, mark: Mark::default() };
        let decided = decide(&mut decision);
        let mark = decision.mark;
        let due = book.next_due().map_or(i64::MAX, |at| at.0);
        drop(book);
        if due < self.results_armed.load(Ordering::Acquire) {
            self.results_wake.notify_one();
        }
        (decided, mark)
    }

    /// Looks, then waits until everything that was seen can be read back from the journal.
    ///
    /// # Errors
    /// [`JournalLost`]
    pub(crate) async fn look<R>(&self, look: impl FnOnce(&mut Book, Timestamp) -> R) -> Result<R, JournalLost> {
        let (seen, end) = {
            let mut book = self.book.lock();
            (look(&mut book, self.clock.now()), self.journal.end())
        };
        self.journal.durable(end).await?;
        Ok(seen)
    }

    /// Looks at what is in memory only.
    pub(crate) fn glance<R>(&self, look: impl FnOnce(&mut Book, Timestamp) -> R) -> R {
        look(&mut self.book.lock(), self.clock.now())
    }

    /// Takes the results that are due, records them, and returns them with how to wait for the record.
    pub(crate) fn fire_results(&self, limit: usize) -> (Vec<Fired>, Mark) {
        self.decide(|decision| {
            let fired = decision.book.take_due(decision.now, limit);
            if !fired.is_empty() {
                // Still under the lock: whoever sees nothing due sees this.
                self.results_open.fetch_add(1, Ordering::AcqRel);
                let at = decision.now;
                decision.record(&Event::Results { at, fired: fired.clone() });
            }
            fired
        })
    }

    /// Reads back an event that [`Context::look`] saw.
    ///
    /// # Errors
    /// As the file system says.
    pub(crate) fn read(&self, frame: FrameAt) -> std::io::Result<Event<'static>> {
        self.journal.read(frame)
    }

    /// Whether this signature is used for the first time within its window.
    pub(crate) fn signature_is_new(&self, digest: u128, now: Timestamp) -> bool {
        let mut signatures = self.signatures.lock();
        while let Some((at, oldest)) = signatures.by_age.front().copied() {
            if now - at < SOLAPI_SIGNATURE_WINDOW {
                break;
            }
            signatures.by_age.pop_front();
            signatures.used.remove(&oldest);
        }
        if signatures.used.contains_key(&digest) {
            return false;
        }
        signatures.used.insert(digest, now);
        signatures.by_age.push_back((now, digest));
        true
    }

    /// Marks an idempotent call as running until the guard is dropped; nothing when one runs already.
    pub(crate) fn run(self: &Arc<Self>, key: KeyDigest) -> Option<Running> {
        self.running.lock().insert(key).then(|| Running { context: self.clone(), key })
    }
}

/// A call that is being processed. Ends with its reply, or when its caller goes away.
pub(crate) struct Running {
    context: Arc<Context>,
    key: KeyDigest,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.context.running.lock().remove(&self.key);
    }
}
