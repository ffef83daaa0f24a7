//! The file `takeovers` of a data folder: when this machine applied the claims of each shard.
//!
//! Not in a store: what a store has taken lies in the process for a while, and a killed one takes it along. What is written
//! here is the kernel's at once. A power cut may take it, and with it goes the boot clock that it is of: nothing is synced.

use crate::persistence::codec::{frame_value, unframe_value};
use crate::types::ids::{ShardId, Term};
use crate::types::takeovers::Takeovers;
use crate::types::time::Clock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Each shard has a place of this size in the file, by its number: two bytes of length, then what it has.
const PLACE_BYTES: usize = 1_024;

/// What this process noted counts, and the file only for the processes after it: what cannot be read, is missing or damaged
/// counts as unknown, and attempts of those terms are waited out for longer.
pub struct TakeoverFile {
    /// `None` when it cannot be opened or made.
    file: Option<File>,
    known: Mutex<BTreeMap<ShardId, Takeovers>>,
}

impl TakeoverFile {
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "file not opened")).ok();
        Self { file, known: Mutex::default() }
    }

    /// Notes that claims of these terms are applied; all that is known then. One thread at a time for each shard.
    pub fn note(&self, shard: ShardId, terms: impl IntoIterator<Item = Term>, clock: &dyn Clock) -> Takeovers {
        let known = self.known.lock().remove(&shard);
        let at = clock.steady();
        let mut takeovers = known.unwrap_or_else(|| self.read(shard).on(clock.boot_id(), at));
        let news = terms.into_iter().filter(|term| takeovers.saw(*term, at)).count();
        if news > 0 {
            self.write(shard, &takeovers);
        }
        self.known.lock().insert(shard, takeovers.clone());
        takeovers
    }

    fn read(&self, shard: ShardId) -> Takeovers {
        let mut place = [0; PLACE_BYTES];
        let mut filled = 0;
        while let Some(file) = self.file.as_ref().filter(|_| filled < PLACE_BYTES) {
            match file.read_at(&mut place[filled..], offset(shard) + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => {
                    tracing::warn!(%shard, %error, "when claims were applied cannot be read");
                    return Takeovers::default();
                }
            }
        }
        let length = usize::from(u16::from_be_bytes([place[0], place[1]]));
        if length == 0 {
            return Takeovers::default();
        }
        let noted = place.get(2..2 + length).map(|bytes| unframe_value(&context(shard), bytes));
        noted.and_then(Result::ok).unwrap_or_else(|| {
            tracing::warn!(%shard, "the record of when claims were applied is damaged");
            Takeovers::default()
        })
    }

    fn write(&self, shard: ShardId, takeovers: &Takeovers) {
        let value = frame_value(&context(shard), takeovers);
        let length = u16::try_from(value.len()).ok().filter(|length| usize::from(*length) + 2 <= PLACE_BYTES);
        let (Some(file), Some(length)) = (&self.file, length) else { return };
        let place = [&length.to_be_bytes()[..], &value].concat();
        if let Err(error) = file.write_all_at(&place, offset(shard)) {
            tracing::warn!(%shard, %error, "when claims were applied cannot be noted for the next process");
        }
    }
}

fn offset(shard: ShardId) -> u64 {
    u64::from(shard.0) * PLACE_BYTES as u64
}

fn context(shard: ShardId) -> Vec<u8> {
    [b"claims of shard ".as_slice(), &shard.0.to_be_bytes()].concat()
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

    fn note(file: &TakeoverFile, terms: &[u64], clock: &At) -> [Option<i64>; 4] {
        let known = file.note(SHARD, terms.iter().copied().map(Term), clock);
        [1, 2, 3, 4].map(|term| known.over(Term(term)).map(|at| at.0))
    }

    #[test]
    fn when_claims_were_applied_is_known_to_the_next_process_but_not_after_a_power_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("takeovers");
        let file = TakeoverFile::open(&path);
        assert_eq!(note(&file, &[], &At(7, 1)), [None; 4]);
        note(&file, &[2], &At(7, 10));
        note(&file, &[3, 4], &At(7, 20));
        file.note(META_SHARD, [Term(9)], &At(7, 20));
        file.note(ShardId(2), [Term(9)], &At(7, 20));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            hex::encode(&bytes[3_072..3_072 + 30]),
            "001c015d9522390707070707070707070707070707070703021403280428"
        );

        let next = TakeoverFile::open(&path);
        assert_eq!(note(&next, &[4], &At(7, 90)), [Some(10), Some(20), Some(20), None]);
        let rebooted = TakeoverFile::open(&path);
        assert_eq!(
            note(&rebooted, &[4], &At(8, 5)),
            [Some(5), Some(5), Some(5), None],
            "what was applied was so before"
        );
        assert_eq!(note(&rebooted, &[5], &At(8, 7)), [Some(5), Some(5), Some(5), Some(7)]);
    }

    #[test]
    fn a_damaged_place_and_a_file_that_cannot_be_read_or_written_are_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("takeovers");
        let damage = |bytes: &[u8], at| {
            note(&TakeoverFile::open(&path), &[4], &At(7, 10));
            File::options().write(true).open(&path).unwrap().write_all_at(bytes, at).unwrap();
            note(&TakeoverFile::open(&path), &[5], &At(7, 12))
        };
        assert_eq!(damage(b"x", offset(SHARD) + 9), [Some(12); 4]);
        assert_eq!(damage(&[255, 255], offset(SHARD)), [Some(12); 4]);
        let unreadable = File::options().write(true).open(&path).unwrap();
        for file in [unreadable, File::open(&path).unwrap()].map(Some).into_iter().chain([None]) {
            let file = TakeoverFile { file, known: Mutex::default() };
            note(&file, &[6], &At(7, 20));
            assert_eq!(note(&file, &[7], &At(7, 30))[3], Some(20), "what this process saw it knows");
        }
    }

    #[test]
    fn the_longest_record_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = TakeoverFile::open(&dir.path().join("takeovers"));
        let from = u64::MAX - 100;
        file.note(SHARD, (from..u64::MAX).map(Term), &At(7, u64::MAX));
        assert_eq!(file.read(SHARD).over(Term(u64::MAX - 2)), Some(Timestamp(i64::MAX)));
    }
}
