//! The sandbox's own store: one append-only file of framed events, written before anybody is answered.
//!
//! A frame is `length: u32 LE, crc32 of the payload: u32 LE, payload`. Frames are appended in the order of decisions
//! (under the book's lock) to a buffer; one thread hands the buffer to the operating system and then wakes all that
//! wait for it, so a burst costs few system calls. It survives a killed process; it is not fsynced, because a judge
//! that loses power is started again with an empty folder.
//!
//! A torn last frame (a process killed while writing) was never answered and is cut off; damage anywhere else is an error.

use crate::sandbox::event::Event;
use crate::types::codec;
use fs4::fs_std::FileExt as _;
use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

const MAGIC: &[u8; 8] = b"BJGSBX01";
const HEADER_BYTES: usize = 8;
/// A frame holds one event; the largest is a Solapi group of 10,000 fates.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Read at once when a single frame is fetched; most frames fit.
const READ_GUESS_BYTES: usize = 1 << 10;
/// Buffers above this are given back to the allocator after a burst.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the sandbox's folder is in use by another process")]
    InUse,
    #[error("not a sandbox ledger, or of another version")]
    Foreign,
    #[error("the ledger is damaged at byte {offset}; move it away to start an empty one")]
    Corrupt { offset: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The file can no longer be written; what waited for it is not known to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox's ledger cannot be written")]
pub(crate) struct JournalLost;

/// Where a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameAt(pub u64);

/// The file must reach at least here before an answer leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(pub u64);

struct Pending {
    buffer: Vec<u8>,
    /// End of the file once `buffer` is written.
    end: u64,
    waiters: Vec<oneshot::Sender<()>>,
    /// End of what the operating system has.
    written: u64,
    /// The writer waits for work.
    idle: bool,
    closed: bool,
    failed: bool,
}

struct Shared {
    pending: Mutex<Pending>,
    work: Condvar,
}

pub(crate) struct Journal {
    shared: Arc<Shared>,
    reader: File,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens or makes `dir/ledger.log` and hands every event in it to `replay`.
    ///
    /// # Errors
    /// [`JournalError`]; nothing was changed except that a torn last frame may have been cut off.
    pub(crate) fn open(dir: &Path, mut replay: impl FnMut(FrameAt, Event<'static>)) -> Result<Self, JournalError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("ledger.log");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if !file.try_lock_exclusive()? {
            return Err(JournalError::InUse);
        }
        let length = file.metadata()?.len();
        let end = if length < MAGIC.len() as u64 { found(&mut file)? } else { scan(&file, length, &mut replay)? };
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        let reader = file.try_clone()?;
        let pending = Pending {
            buffer: Vec::new(),
            end,
            waiters: Vec::new(),
            written: end,
            idle: false,
            closed: false,
            failed: false,
        };
        let shared = Arc::new(Shared { pending: Mutex::new(pending), work: Condvar::new() });
        let for_writer = shared.clone();
        let writer = std::thread::Builder::new()
            .name("sandbox-ledger".to_owned())
            .spawn(move || write_loop(&for_writer, &mut file))?;
        Ok(Self { shared, reader, writer: Mutex::new(Some(writer)) })
    }

    /// Appends one event; it is kept once [`Journal::durable`] says so. Called in the order of decisions.
    pub(crate) fn append(&self, event: &Event<'_>) -> (FrameAt, Mark) {
        let payload = codec::encode(event);
        assert!(payload.len() <= FRAME_BYTES_MAX, "a frame is bounded by the bounds of its call");
        let length = u32::try_from(payload.len()).expect("FRAME_BYTES_MAX fits a u32");
        let crc = crc32fast::hash(&payload);
        let mut pending = self.shared.pending.lock();
        let at = FrameAt(pending.end);
        pending.buffer.extend_from_slice(&length.to_le_bytes());
        pending.buffer.extend_from_slice(&crc.to_le_bytes());
        pending.buffer.extend_from_slice(&payload);
        pending.end += (HEADER_BYTES + payload.len()) as u64;
        (at, Mark(pending.end))
    }

    /// Where the file ends once everything appended so far is written.
    pub(crate) fn end(&self) -> Mark {
        Mark(self.shared.pending.lock().end)
    }

    /// Waits until everything before `mark` is in the hands of the operating system. Cancel-safe.
    ///
    /// # Errors
    /// [`JournalLost`] when the file cannot be written any more: nothing may be answered.
    pub(crate) async fn durable(&self, mark: Mark) -> Result<(), JournalLost> {
        if mark == Mark::default() {
            return Ok(());
        }
        // Lets every other call that is ready decide first, so that one write and one wake-up serve them all.
        tokio::task::yield_now().await;
        let kept = {
            let mut pending = self.shared.pending.lock();
            if pending.written >= mark.0 {
                return Ok(());
            }
            if pending.failed {
                return Err(JournalLost);
            }
            let (done, kept) = oneshot::channel();
            pending.waiters.push(done);
            if pending.idle {
                pending.idle = false;
                self.shared.work.notify_one();
            }
            kept
        };
        kept.await.map_err(|_closed| JournalLost)
    }

    /// Reads back one event. The frame must be durable.
    ///
    /// # Errors
    /// As the file system says, or `InvalidData` when the frame does not check.
    pub(crate) fn read(&self, at: FrameAt) -> io::Result<Event<'static>> {
        let mut guess = [0u8; READ_GUESS_BYTES];
        let mut have = 0;
        while have < HEADER_BYTES {
            match self.reader.read_at(&mut guess[have..], at.0 + have as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => have += read,
            }
        }
        let (length, crc) = header(&guess);
        if length > FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = guess[HEADER_BYTES..have.min(HEADER_BYTES + length)].to_vec();
        let had = payload.len();
        payload.resize(length, 0);
        self.reader.read_exact_at(&mut payload[had..], at.0 + (HEADER_BYTES + had) as u64)?;
        if crc32fast::hash(&payload) != crc {
            return Err(io::ErrorKind::InvalidData.into());
        }
        codec::decode(&payload).map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))
    }

    /// Writes what is left and ends the writer.
    pub(crate) fn close(&self) {
        {
            let mut pending = self.shared.pending.lock();
            pending.closed = true;
            self.shared.work.notify_one();
        }
        if let Some(writer) = self.writer.lock().take() {
            // A writer that panicked has nothing left to say; its waiters already heard `JournalLost`.
            let _ended = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

fn header(bytes: &[u8]) -> (usize, u32) {
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let crc = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    (length as usize, crc)
}

fn found(file: &mut File) -> io::Result<u64> {
    file.set_len(0)?;
    file.write_all(MAGIC)?;
    Ok(MAGIC.len() as u64)
}

/// Hands on every whole frame; the end of the last one is where writing goes on.
fn scan(file: &File, length: u64, replay: &mut impl FnMut(FrameAt, Event<'static>)) -> Result<u64, JournalError> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut magic = [0u8; MAGIC.len()];
    reader.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(JournalError::Foreign);
    }
    let mut offset = MAGIC.len() as u64;
    let mut payload = Vec::new();
    while length - offset >= HEADER_BYTES as u64 {
        let mut head = [0u8; HEADER_BYTES];
        reader.read_exact(&mut head)?;
        let (size, crc) = header(&head);
        let end = offset + (HEADER_BYTES + size) as u64;
        if end > length {
            break;
        }
        if size > FRAME_BYTES_MAX {
            return Err(JournalError::Corrupt { offset });
        }
        payload.resize(size, 0);
        reader.read_exact(&mut payload)?;
        if crc32fast::hash(&payload) != crc {
            if end == length {
                break;
            }
            return Err(JournalError::Corrupt { offset });
        }
        let event = codec::decode(&payload).map_err(|_wrong| JournalError::Corrupt { offset })?;
        replay(FrameAt(offset), event);
        offset = end;
    }
    Ok(offset)
}

fn write_loop(shared: &Shared, file: &mut File) {
    let mut buffer = Vec::new();
    loop {
        let (end, waiters) = {
            let mut pending = shared.pending.lock();
            // Bytes without a waiter are taken too when closing; until then somebody always waits for them.
            while pending.waiters.is_empty() && !pending.closed {
                pending.idle = true;
                shared.work.wait(&mut pending);
            }
            pending.idle = false;
            if pending.buffer.is_empty() && pending.waiters.is_empty() && pending.closed {
                return;
            }
            std::mem::swap(&mut buffer, &mut pending.buffer);
            (pending.end, std::mem::take(&mut pending.waiters))
        };
        if file.write_all(&buffer).is_err() {
            let mut pending = shared.pending.lock();
            pending.failed = true;
            pending.waiters.clear();
            tracing::error!("the sandbox's ledger cannot be written; nothing is answered any more");
            return;
        }
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        shared.pending.lock().written = end;
        for waiter in waiters {
            // A caller that went away does not wait any more.
            let _gone = waiter.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::event::MessageNumber;

    fn cancelled(number: u32) -> Event<'static> {
        Event::Cancelled { messages: vec![MessageNumber(number)] }
    }

    fn replayed(dir: &Path) -> Result<Vec<Event<'static>>, JournalError> {
        let mut events = Vec::new();
        Journal::open(dir, |_at, event| events.push(event))?;
        Ok(events)
    }

    #[tokio::test]
    async fn what_was_marked_durable_is_read_back_and_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), |_, _| panic!("empty")).unwrap();
        let (first, _) = journal.append(&cancelled(1));
        let (_, mark) = journal.append(&cancelled(2));
        journal.durable(mark).await.unwrap();
        assert_eq!(journal.read(first).unwrap(), cancelled(1));
        drop(journal);
        assert_eq!(replayed(dir.path()).unwrap(), [cancelled(1), cancelled(2)]);
    }

    #[tokio::test]
    async fn torn_tail_is_cut_and_damage_inside_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), |_, _| {}).unwrap();
        let (_, mark) = journal.append(&cancelled(1));
        journal.append(&cancelled(2));
        drop(journal);
        let path = dir.path().join("ledger.log");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(replayed(dir.path()).unwrap(), [cancelled(1)]);
        let mut damaged = whole;
        damaged[usize::try_from(mark.0).unwrap() - 1] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(replayed(dir.path()), Err(JournalError::Corrupt { offset: 8 })));
    }

    #[test]
    fn foreign_file_and_second_opener_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path(), |_, _| {}).unwrap();
        assert!(matches!(replayed(dir.path()), Err(JournalError::InUse)));
        drop(first);
        std::fs::write(dir.path().join("ledger.log"), b"something else").unwrap();
        assert!(matches!(replayed(dir.path()), Err(JournalError::Foreign)));
    }
}
