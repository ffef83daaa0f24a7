//! Log entries on their way into a backup and out of it: the data keys that they put are taken out and put back in.

use crate::persistence::backup_file::EntryItem;
use crate::persistence::copying::{Copied, LogKey, LogPage};
use crate::persistence::log::LogEntry;
use crate::persistence::log_store::LogStore;
use crate::persistence::store::StoreError;
use crate::replication::entry::{decode_entry, encode_entry};
use crate::types::ids::{LogIndex, ShardId, Term};
use crate::types::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::types::record::{EntryBody, VaultChange, WrappedKey};
use crate::types::time::Timestamp;

/// A page of committed entries after `after`; what it lacks up to `committed` is asked for next.
///
/// # Errors
/// [`StoreError`] when entries cannot be read or understood.
pub fn log_page(
    log: &LogStore,
    shard: ShardId,
    after: LogIndex,
    committed: LogIndex,
    at: Timestamp,
) -> Result<Copied, StoreError> {
    if after < log.span(shard).truncated.0 {
        return Ok(Copied::Lost);
    }
    let read = log.entries(shard, after.next(), committed.next(), SNAPSHOT_CHUNK_BYTES_MAX)?;
    // It may have been purged between the two looks.
    if read.is_empty() && after < log.span(shard).truncated.0 {
        return Ok(Copied::Lost);
    }
    let mut page = LogPage { entries: Vec::with_capacity(read.len()), keys: Vec::new(), committed, at };
    for entry in read {
        page.entries.push(without_keys(shard, entry, &mut page.keys)?);
    }
    Ok(Copied::Log(page))
}

fn corrupt(shard: ShardId, index: LogIndex, what: &str) -> StoreError {
    StoreError::Corrupt { what: format!("entry {index} of shard {shard}: {what}") }
}

/// The entry as it may stand in a backup. What changes a group's members is of no use in another cluster, and is empty.
fn without_keys(shard: ShardId, entry: LogEntry, keys: &mut Vec<LogKey>) -> Result<EntryItem, StoreError> {
    let LogEntry { index, term, entry_type, payload } = entry;
    if entry_type != 0 || payload.is_empty() {
        return Ok((index, term, 0, Vec::new()));
    }
    let mut body = decode_entry(&payload).map_err(|error| corrupt(shard, index, error.what))?;
    let EntryBody::Records { records, .. } = &mut body else { return Ok((index, term, 0, payload)) };
    let before = keys.len();
    for (place, record) in (0u8..).zip(records) {
        if let VaultChange::Put(wrapped) = &mut record.vault {
            let none = WrappedKey { period: 0, nonce: [0; 12], ciphertext: Vec::new() };
            keys.push((index, place, std::mem::replace(wrapped, none)));
        }
    }
    let payload = if keys.len() == before { payload } else { encode_entry(&body) };
    Ok((index, term, 0, payload))
}

/// Entries as they are applied, with the keys that were taken out of them.
///
/// # Errors
/// [`StoreError::Corrupt`] when an entry cannot be understood, or keys and entries do not belong together.
pub fn with_keys(
    shard: ShardId,
    entries: Vec<EntryItem>,
    keys: Vec<LogKey>,
) -> Result<Vec<(LogIndex, Term, Vec<u8>)>, StoreError> {
    let mut keys = keys.into_iter().peekable();
    let mut whole = Vec::with_capacity(entries.len());
    for (index, term, _, payload) in entries {
        let mut of_entry = Vec::new();
        while let Some((_, place, wrapped)) = keys.next_if(|(of, ..)| *of == index) {
            of_entry.push((place, wrapped));
        }
        let payload = if of_entry.is_empty() { payload } else { fill(shard, index, &payload, of_entry)? };
        whole.push((index, term, payload));
    }
    match keys.next() {
        None => Ok(whole),
        Some((index, ..)) => Err(corrupt(shard, index, "a data key without its entry")),
    }
}

fn fill(shard: ShardId, index: LogIndex, payload: &[u8], keys: Vec<(u8, WrappedKey)>) -> Result<Vec<u8>, StoreError> {
    let mut body = decode_entry(payload).map_err(|error| corrupt(shard, index, error.what))?;
    for (place, key) in keys {
        let record = match &mut body {
            EntryBody::Records { records, .. } => records.get_mut(usize::from(place)),
            EntryBody::Claim(_) => None,
        };
        match record.map(|record| &mut record.vault) {
            Some(VaultChange::Put(wrapped)) => *wrapped = key,
            Some(VaultChange::None | VaultChange::Erase | VaultChange::Forget) | None => {
                return Err(corrupt(shard, index, "a data key without its record"));
            }
        }
    }
    Ok(encode_entry(&body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::toy::{Event, claim, record};
    use crate::types::record::Record;

    const SHARD: ShardId = ShardId(1);

    fn key(n: u8) -> WrappedKey {
        WrappedKey { period: 3, nonce: [n; 12], ciphertext: vec![n; 48] }
    }

    fn entry(index: u64, vaults: &[VaultChange]) -> LogEntry {
        let of = |(n, vault): (u8, &VaultChange)| Record { vault: vault.clone(), ..record(n, 0, &[Event::Added(1)]) };
        let records = (1u8..).zip(vaults).map(of).collect();
        let payload = encode_entry(&EntryBody::Records { claim: claim(1), records });
        LogEntry { index: LogIndex(index), term: Term(1), entry_type: 0, payload }
    }

    #[test]
    fn keys_leave_their_entries_and_come_back_to_their_records() {
        let put = |n| VaultChange::Put(key(n));
        let log = [
            entry(5, &[VaultChange::None, put(1), VaultChange::Erase, put(2)]),
            entry(6, &[VaultChange::Forget]),
            entry(7, &[put(3)]),
        ];
        let mut keys = Vec::new();
        let bare: Vec<_> = log.iter().map(|entry| without_keys(SHARD, entry.clone(), &mut keys).unwrap()).collect();
        let taken: Vec<_> = keys.iter().map(|(index, place, _)| (index.0, *place)).collect();
        assert_eq!(taken, [(5, 1), (5, 3), (7, 0)]);
        for (_, _, _, payload) in &bare {
            assert!(!(1..=3).any(|n| payload.windows(48).any(|window| window == [n; 48])), "no key is left");
        }
        let back = with_keys(SHARD, bare.clone(), keys.clone()).unwrap();
        let wanted: Vec<_> = log.into_iter().map(|entry| (entry.index, entry.term, entry.payload)).collect();
        assert_eq!(back, wanted);

        keys[0].1 = 2;
        assert!(with_keys(SHARD, bare.clone(), keys.clone()).is_err(), "the record puts no key");
        keys[0] = (LogIndex(9), 0, key(1));
        assert!(with_keys(SHARD, bare, keys).is_err(), "no such entry");
    }

    #[test]
    fn changes_of_the_groups_members_stay_behind() {
        let mut keys = Vec::new();
        let change = LogEntry { index: LogIndex(5), term: Term(2), entry_type: 2, payload: vec![1, 2] };
        assert_eq!(without_keys(SHARD, change, &mut keys).unwrap(), (LogIndex(5), Term(2), 0, Vec::new()));
    }
}
