//! How far the log must reach: a small file beside the log database.
//!
//! A torn sled opens silently short. After each durable batch its number goes into one of two slots of this file, in
//! turn, so that a torn write leaves the other one; at start a log that ends before the watermark is refused. The
//! file itself is made durable every 100 ms only: what it says is always a lower bound.

use crate::persistence::codec::{FRAME_BYTES, frame, unframe};
use crate::persistence::log_store::BatchSeq;
use crate::persistence::sled_store::io_error;
use crate::persistence::store::StoreError;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Slots lie in different sectors, so that one torn write spoils one slot.
const SLOT_SPACING: u64 = 4096;
const SLOT_BYTES: usize = FRAME_BYTES + 8;
const CONTEXT: &[u8] = b"bojagi log watermark";

/// The watermark. Clones share the file.
#[derive(Clone)]
pub struct Watermark {
    place: Arc<Mutex<Place>>,
}

enum Place {
    Memory(BatchSeq),
    File { file: File, dirty: bool },
}

impl Watermark {
    /// One that lives as long as its clones, for the simulator.
    #[must_use]
    pub fn memory() -> Self {
        Self { place: Arc::new(Mutex::new(Place::Memory(BatchSeq(0)))) }
    }

    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(io_error)?;
        file.set_len(SLOT_SPACING + SLOT_BYTES as u64).map_err(io_error)?;
        Ok(Self { place: Arc::new(Mutex::new(Place::File { file, dirty: false })) })
    }

    /// The highest number in a good slot; 0 of a new file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when both slots are damaged: the log cannot be vouched for.
    pub fn read(&self) -> Result<BatchSeq, StoreError> {
        let place = self.place.lock();
        let file = match &*place {
            Place::Memory(seq) => return Ok(*seq),
            Place::File { file, .. } => file,
        };
        let mut best = None;
        let mut blank = true;
        for slot in 0..2 {
            let mut bytes = [0u8; SLOT_BYTES];
            file.read_exact_at(&mut bytes, slot * SLOT_SPACING)?;
            blank &= bytes == [0u8; SLOT_BYTES];
            if let Ok(body) = unframe(CONTEXT, &bytes) {
                let seq = u64::from_be_bytes(body.try_into().expect("the slot's length is fixed"));
                best = best.max(Some(BatchSeq(seq)));
            }
        }
        match best {
            Some(seq) => Ok(seq),
            None if blank => Ok(BatchSeq(0)),
            None => Err(StoreError::Corrupt { what: "both slots of the log watermark".to_owned() }),
        }
    }

    /// Notes that the log is durable up to a batch.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be written.
    pub fn write(&self, seq: BatchSeq) -> Result<(), StoreError> {
        match &mut *self.place.lock() {
            Place::Memory(known) => *known = seq,
            Place::File { file, dirty } => {
                let slot = frame(CONTEXT, &seq.0.to_be_bytes());
                file.write_all_at(&slot, (seq.0 % 2) * SLOT_SPACING).map_err(io_error)?;
                *dirty = true;
            }
        }
        Ok(())
    }

    /// Makes the file durable, if it was written since.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn sync(&self) -> Result<(), StoreError> {
        match &mut *self.place.lock() {
            Place::File { file, dirty } if *dirty => {
                file.sync_data().map_err(io_error)?;
                *dirty = false;
            }
            Place::File { .. } | Place::Memory(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_read_back_and_a_torn_slot_falls_back_to_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watermark");
        assert_eq!(Watermark::open(&path).unwrap().read().unwrap(), BatchSeq(0));
        let watermark = Watermark::open(&path).unwrap();
        for seq in 1..=7 {
            watermark.write(BatchSeq(seq)).unwrap();
        }
        watermark.sync().unwrap();
        assert_eq!(Watermark::open(&path).unwrap().read().unwrap(), BatchSeq(7));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"torn", SLOT_SPACING + 3).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().read().unwrap(), BatchSeq(6));
        file.write_all_at(b"torn", 3).unwrap();
        assert!(matches!(Watermark::open(&path).unwrap().read(), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_slot_has_its_golden_bytes() {
        assert_eq!(hex::encode(frame(CONTEXT, &7u64.to_be_bytes())), GOLDEN_SLOT);
    }
    const GOLDEN_SLOT: &str = "01ac0365ef0000000000000007";
}
