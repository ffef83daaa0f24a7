//! What a shard has to say behind a cursor: its log as far as it is applied, or its journal where the log no longer
//! reaches back. Reads only; the log is never held back for it.
//!
//! | cursor | the log | reads |
//! |---|---|---|
//! | none, or of another past | is whole | the entries from the first one on |
//! | none, or of another past | was purged | the journal from its beginning |
//! | tail | reaches back to it | the entries behind it |
//! | tail | was purged beyond it | the journal from the cursor's instant less a margin |
//! | scan | | the journal on from the scan's last row; at its end a tail from the entry where the scan began |
//!
//! A record of the log was applied if its journal row says so, to the letter: a void record and its repeat may carry the
//! same command. Rows that are newer than the scan come twice, never out of order; nothing is left out but what every
//! topic has let go of by age, and the past of an entity that was forgotten meanwhile.

use crate::persistence::log_store::{FOUNDING_INDEX, LogStore};
use crate::persistence::state_store::{AppliedRow, JournalRecord, StateStore};
use crate::persistence::store::StoreError;
use crate::replication::entry::decode_entry;
use crate::stream::{CLOCK_MARGIN, Cursor, EventStream, OutgoingEvent, Scan, Tail};
use crate::types::codec::CodecError;
use crate::types::ids::{EntityKey, LogIndex, ShardId, Term, Version};
use crate::types::kind::KindTable;
use crate::types::publication::Publish;
use crate::types::record::{EntryBody, Record};
use crate::types::time::Timestamp;
use std::sync::Arc;

/// Entries of one read, in bytes of payload: some hundred records.
const TAIL_BYTES: usize = 64 << 10;
/// Rows of one read of the journal.
const SCAN_ROWS: usize = 512;

/// Why there is nothing to be said of a shard now. Nothing is skipped for it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a record of {key:?} cannot be published: {cause}")]
    Events { key: EntityKey, cause: CodecError },
    #[error("reading panicked")]
    Panicked,
    #[error("entry {index} cannot be read: {cause}")]
    Entry { index: LogIndex, cause: CodecError },
}

/// The next events of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub events: Vec<OutgoingEvent>,
    /// Where they end.
    pub cursor: Cursor,
}

/// Reads what is to be published. From any thread; calls may block on the disk.
pub struct Source {
    pub log: Arc<LogStore>,
    pub state: Arc<StateStore>,
    pub kinds: KindTable,
    pub publish: Publish,
    pub stream: EventStream,
}

impl Source {
    /// What follows the cursor, at most some hundred records of it; `None` when there is nothing behind it. `applied` is
    /// the shard's applied row, read before.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn next(
        &self,
        shard: ShardId,
        cursor: Option<&Cursor>,
        applied: &AppliedRow,
        now: Timestamp,
    ) -> Result<Option<Chunk>, SourceError> {
        let begin = |from| Scan { from, began: now, index: applied.index, term: applied.term, after: None };
        match cursor {
            Some(Cursor::Tail(tail)) if self.is_of_this_log(shard, tail.index, tail.term, applied)? => {
                if tail.index == applied.index {
                    return Ok(None);
                }
                match self.tail(shard, *tail, applied)? {
                    Some(chunk) => Ok(Some(chunk)),
                    None => self.scan(shard, begin(tail.at - CLOCK_MARGIN)).map(Some),
                }
            }
            Some(Cursor::Scan(scan)) if self.is_of_this_log(shard, scan.index, scan.term, applied)? => {
                self.scan(shard, *scan).map(Some)
            }
            Some(Cursor::Tail(_) | Cursor::Scan(_)) | None => {
                // At the founding there was no state yet, so a log that begins there tells everything, and each once.
                let (index, term) = self.log.span(shard).truncated;
                let start = Tail { index, term, at: Timestamp(i64::MIN) };
                let whole = if index <= FOUNDING_INDEX { self.tail(shard, start, applied)? } else { None };
                match whole {
                    Some(chunk) => Ok(Some(chunk)),
                    None => self.scan(shard, begin(self.stream.oldest_kept(now))).map(Some),
                }
            }
        }
    }

    /// Not so when Redis holds the cursor of a past that this shard never had: the data was restored from a backup.
    fn is_of_this_log(
        &self,
        shard: ShardId,
        index: LogIndex,
        term: Term,
        applied: &AppliedRow,
    ) -> Result<bool, SourceError> {
        let known = self.log.term(shard, index)?;
        Ok(index <= applied.index && known.is_none_or(|known| known == term))
    }

    /// `None` when the log does not reach back to the cursor.
    fn tail(
        &self,
        shard: ShardId,
        Tail { mut index, mut term, mut at }: Tail,
        applied: &AppliedRow,
    ) -> Result<Option<Chunk>, SourceError> {
        let begins = |log: &LogStore| log.span(shard).truncated.0;
        if begins(&self.log) > index {
            return Ok(None);
        }
        let entries = match self.log.entries(shard, index.next(), applied.index.next(), TAIL_BYTES) {
            Ok(entries) if !entries.is_empty() => entries,
            Ok(_) => return Ok(None),
            // Purged between the look and the read.
            Err(_) if begins(&self.log) > index => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut events = Vec::new();
        for entry in entries {
            (index, term) = (entry.index, entry.term);
            // Membership changes, and the first entry of a term, say nothing.
            if entry.entry_type != 0 || entry.payload.is_empty() {
                continue;
            }
            let body = decode_entry(&entry.payload).map_err(|cause| SourceError::Entry { index, cause })?;
            let EntryBody::Records { records, .. } = body else { continue };
            for record in records {
                at = at.max(record.at);
                if self.was_applied(shard, &record)? {
                    self.say(record.key, record.version_after(), &record.events, &mut events)?;
                }
            }
        }
        Ok(Some(Chunk { events, cursor: Cursor::Tail(Tail { index, term, at }) }))
    }

    fn was_applied(&self, shard: ShardId, record: &Record) -> Result<bool, SourceError> {
        let Record { key, at, command_id, events, .. } = record;
        let row = self.state.journal_row(shard, key, record.version_after())?;
        Ok(row.is_some_and(|row| row.command_id == *command_id && row.at == *at && row.events == *events))
    }

    fn scan(&self, shard: ShardId, scan: Scan) -> Result<Chunk, SourceError> {
        let rows = self.state.journal_scan(shard, scan.after, SCAN_ROWS)?;
        let mut events = Vec::new();
        for (key, JournalRecord { version, at, events: encoded, .. }) in &rows {
            if *at >= scan.from {
                let mut said = Vec::new();
                self.say(*key, *version, encoded, &mut said)?;
                events.extend(said.into_iter().filter(|event| *at >= self.stream.kept_since(event.topic, scan.began)));
            }
        }
        let cursor = match rows.last() {
            Some((key, row)) if rows.len() == SCAN_ROWS => {
                Cursor::Scan(Scan { after: Some((*key, row.version)), ..scan })
            }
            Some(_) | None => Cursor::Tail(Tail { index: scan.index, term: scan.term, at: scan.began }),
        };
        Ok(Chunk { events, cursor })
    }

    fn say(
        &self,
        key: EntityKey,
        version: Version,
        encoded: &[u8],
        events: &mut Vec<OutgoingEvent>,
    ) -> Result<(), SourceError> {
        let said = (self.publish)(key.kind, encoded).map_err(|cause| SourceError::Events { key, cause })?;
        let entity = self.kinds.format(key);
        events.extend(said.into_iter().enumerate().map(|(place, publication)| OutgoingEvent {
            topic: publication.topic,
            event_id: format!("{entity}.{version}.{place}"),
            entity: entity.clone(),
            event_type: publication.event_type,
            at: publication.at,
            details: serde_json::Value::Object(publication.details).to_string(),
        }));
        Ok(())
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
