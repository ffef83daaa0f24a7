//! The file `takeovers` of a data folder: when this machine applied the claims of each shard.
//!
//! Not in a store: what a store has taken lies in the process for a while, and a killed one takes it along. What is written
//! here is the kernel's at once. A power cut may take it, and with it goes the boot clock that it is of: nothing is synced.

use crate::persistence::codec::{frame_value, unframe_value};
use crate::persistence::store::StoreError;
use crate::types::ids::{ShardId, Term};
use crate::types::takeovers::Takeovers;
use crate::types::time::Clock;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Each shard has a place of this size in the file, by its number: two bytes of length, then what it has.
const PLACE_BYTES: usize = 1_024;

pub struct TakeoverFile(File);

impl TakeoverFile {
    /// # Errors
    /// [`StoreError`] when the file cannot be opened or made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?))
    }

    /// Notes that claims of these terms are applied; all that is known then. What is missing or damaged counts as unknown:
    /// attempts of those terms are then waited out for longer. One thread at a time for each shard.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read or written.
    pub fn note(
        &self,
        shard: ShardId,
        terms: impl IntoIterator<Item = Term>,
        clock: &dyn Clock,
    ) -> Result<Takeovers, StoreError> {
        let mut takeovers = self.read(shard)?.on(clock.boot_id());
        let at = clock.boot();
        let news = terms.into_iter().filter(|term| takeovers.saw(*term, at)).count();
        if news > 0 {
            self.write(shard, &takeovers)?;
        }
        Ok(takeovers)
    }

    fn read(&self, shard: ShardId) -> Result<Takeovers, StoreError> {
        let mut place = [0; PLACE_BYTES];
        let mut filled = 0;
        while filled < PLACE_BYTES {
            match self.0.read_at(&mut place[filled..], offset(shard) + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        let length = usize::from(u16::from_be_bytes([place[0], place[1]]));
        if length == 0 {
            return Ok(Takeovers::default());
        }
        let noted = place.get(2..2 + length).map(|bytes| unframe_value(&context(shard), bytes));
        Ok(noted.and_then(Result::ok).unwrap_or_else(|| {
            tracing::warn!(%shard, "the record of when claims were applied is damaged");
            Takeovers::default()
        }))
    }

    fn write(&self, shard: ShardId, takeovers: &Takeovers) -> Result<(), StoreError> {
        let value = frame_value(&context(shard), takeovers);
        let length = u16::try_from(value.len()).ok().filter(|length| usize::from(*length) + 2 <= PLACE_BYTES);
        let length = length.ok_or_else(|| StoreError::Corrupt { what: format!("{} bytes of claims", value.len()) })?;
        let place = [&length.to_be_bytes()[..], &value].concat();
        Ok(self.0.write_all_at(&place, offset(shard))?)
    }
}

fn offset(shard: ShardId) -> u64 {
    u64::from(shard.0) * PLACE_BYTES as u64
}

fn context(shard: ShardId) -> Vec<u8> {
    [b"takeovers of shard ".as_slice(), &shard.0.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::META_SHARD;
    use crate::types::time::{BootId, BootMillis, Timestamp};

    const SHARD: ShardId = ShardId(3);

    struct At(u8, u64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
        fn boot(&self) -> BootMillis {
            BootMillis(self.1)
        }
        fn boot_id(&self) -> BootId {
            BootId([self.0; 16])
        }
        fn moved(&self) -> tokio::sync::watch::Receiver<u64> {
            tokio::sync::watch::channel(0).1
        }
    }

    fn note(file: &TakeoverFile, terms: &[u64], clock: &At) -> [Option<u64>; 4] {
        let known = file.note(SHARD, terms.iter().copied().map(Term), clock).unwrap();
        [1, 2, 3, 4].map(|term| known.over(Term(term)).map(|at| at.0))
    }

    #[test]
    fn when_claims_were_applied_is_known_to_the_next_process_but_not_after_a_power_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("takeovers");
        let file = TakeoverFile::open(&path).unwrap();
        assert_eq!(note(&file, &[], &At(7, 1)), [None; 4]);
        note(&file, &[2], &At(7, 10));
        note(&file, &[3, 4], &At(7, 20));
        file.note(META_SHARD, [Term(9)], &At(7, 20)).unwrap();
        file.note(ShardId(2), [Term(9)], &At(7, 20)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            hex::encode(&bytes[3_072..3_072 + 30]),
            "001c0114d41bca0707070707070707070707070707070703020a03140414"
        );

        let next = TakeoverFile::open(&path).unwrap();
        assert_eq!(note(&next, &[4], &At(7, 90)), [Some(10), Some(20), Some(20), None]);
        assert_eq!(note(&next, &[4], &At(8, 5)), [Some(5), Some(5), Some(5), None], "what was applied was so before");
        assert_eq!(note(&next, &[5], &At(8, 7)), [Some(5), Some(5), Some(5), Some(7)]);
    }

    #[test]
    fn a_damaged_place_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = TakeoverFile::open(&dir.path().join("takeovers")).unwrap();
        note(&file, &[4], &At(7, 10));
        file.0.write_all_at(b"x", offset(SHARD) + 9).unwrap();
        assert_eq!(note(&file, &[], &At(7, 11)), [None; 4]);
        file.0.write_all_at(&[255, 255], offset(SHARD)).unwrap();
        assert_eq!(note(&file, &[5], &At(7, 12)), [Some(12); 4]);
    }

    #[test]
    fn the_longest_record_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = TakeoverFile::open(&dir.path().join("takeovers")).unwrap();
        let from = u64::MAX - 100;
        file.note(SHARD, (from..u64::MAX).map(Term), &At(7, u64::MAX)).unwrap();
        assert_eq!(file.read(SHARD).unwrap().over(Term(u64::MAX - 2)), Some(BootMillis(u64::MAX)));
    }
}
