//! Verification of a folder: every checksum, every journal replayed against its state, every derived row made anew
//! from the states and compared.

use crate::persistence::codec::damaged;
use crate::persistence::effect_rows::{EffectRows, effect_rows};
use crate::persistence::folder::Folder;
use crate::persistence::key::{self, Table};
use crate::persistence::log_store::LogStore;
use crate::persistence::state_store::{
    AppliedRow, StateRow, StateStore, decode_idempotency, decode_index, decode_journal, decode_state, decode_wake,
};
use crate::persistence::store::StoreError;
use crate::types::ids::{EntityKey, META_SHARD, ShardId, Version};
use crate::types::kind::{KindTable, Live};
use std::fmt;

/// Problems that are listed one by one; the rest is counted.
pub const PROBLEMS_LISTED_MAX: usize = 100;

/// Something that is not as it should be. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A row or a file cannot be read, or fails its check.
    Damaged(String),
    /// An entity is of a kind that this build does not know.
    UnknownKind(EntityKey),
    /// Journal and state of an entity tell different things.
    JournalDiffers { key: EntityKey, journal: Version, state: Version },
    /// A record is missing in the middle of a journal.
    JournalGap { key: EntityKey, after: Version },
    /// Records of an entity that has no state.
    Orphan(EntityKey),
    /// A derived row that the states ask for is missing or different.
    RowMissing { key: EntityKey, row: Vec<u8> },
    /// A derived row that no state asks for.
    RowExtra { key: EntityKey, row: Vec<u8> },
    /// A stored reply names a version that the entity has not reached.
    ReplyAhead { key: EntityKey, version: Version },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "damaged: {what}"),
            Self::UnknownKind(key) => write!(f, "{key:?} is of an unknown kind"),
            Self::JournalDiffers { key, journal, state } => {
                write!(f, "{key:?}: the journal at version {journal} does not give the state at version {state}")
            }
            Self::JournalGap { key, after } => write!(f, "{key:?}: the record after version {after} is missing"),
            Self::Orphan(key) => write!(f, "{key:?} has records and no state"),
            Self::RowMissing { key, row } => write!(f, "{key:?}: derived row {} is missing", hex::encode(row)),
            Self::RowExtra { key, row } => write!(f, "{key:?}: derived row {} is not wanted", hex::encode(row)),
            Self::ReplyAhead { key, version } => write!(f, "{key:?}: a reply at version {version}, not reached"),
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub entities: u64,
    pub records: u64,
    pub derived_rows: u64,
    pub replies: u64,
    pub log_entries: u64,
    pub keys: u64,
    /// The first [`PROBLEMS_LISTED_MAX`].
    pub problems: Vec<Problem>,
    pub problem_count: u64,
}

impl VerifyReport {
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn note(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_LISTED_MAX {
            self.problems.push(problem);
        }
    }

    /// Turns a damaged row into a problem, and lets every other error end the run.
    fn readable<T>(&mut self, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Corrupt { what }) => {
                self.note(Problem::Damaged(what));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} entities, {} records, {} derived rows, {} stored replies, {} log entries, {} data keys",
            self.entities, self.records, self.derived_rows, self.replies, self.log_entries, self.keys
        )?;
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problem_count {
            0 => write!(f, "no problem found"),
            count => write!(f, "{count} problems found"),
        }
    }
}

/// Verifies an open folder that no node is writing to.
///
/// # Errors
/// [`StoreError`] when the disk gives up; damage is a problem in the report.
pub fn verify(folder: &Folder, kinds: &KindTable) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    let scanned = LogStore::open(folder.log.store().clone());
    report.readable(scanned.map(|_| ()))?;
    let mut after = None;
    while let Some(page) = report.readable(folder.keys.page(after))? {
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        report.keys += page.len() as u64;
    }
    for shard in (0..folder.shards).map(ShardId).chain([META_SHARD]) {
        let span = folder.log.span(shard);
        report.log_entries += span.last.0.0 - span.truncated.0.0;
        verify_shard(&folder.state, kinds, shard, &mut report)?;
    }
    Ok(report)
}

/// Verifies the state of one shard.
///
/// # Errors
/// As [`verify`].
pub fn verify_shard(
    state: &StateStore,
    kinds: &KindTable,
    shard: ShardId,
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    report.readable::<AppliedRow>(state.applied(shard))?;
    let mut check = ShardCheck { state, kinds, shard, report, last: None };
    check.states()?;
    check.journals()?;
    check.replies()?;
    check.derived_rows()
}

struct ShardCheck<'a> {
    state: &'a StateStore,
    kinds: &'a KindTable,
    shard: ShardId,
    report: &'a mut VerifyReport,
    /// The derived rows of the entity that was looked up last.
    last: Option<(EntityKey, EffectRows)>,
}

/// A journal as it is being replayed.
struct Replay {
    key: EntityKey,
    live: Option<Box<dyn Live>>,
    reached: Version,
}

impl ShardCheck<'_> {
    /// Every state loads, and every row that it asks for is there.
    fn states(&mut self) -> Result<(), StoreError> {
        self.state.visit(key::shard_rows(Table::State, self.shard), |row_key, value| {
            self.report.entities += 1;
            let (_, entity) = key::parse_state(row_key).ok_or_else(|| damaged(row_key, "not a state key"))?;
            let Some(row) = self.report.readable(decode_state(row_key, value))? else { return Ok(()) };
            for (derived_key, derived) in self.derived(entity, &row)? {
                if self.state.store().get(&derived_key)?.as_ref() != Some(&derived) {
                    self.report.note(Problem::RowMissing { key: entity, row: derived_key });
                }
            }
            let journal = key::journal_of(self.shard, &entity);
            let (from, to) = journal.bounds();
            if self.state.store().last(from, to)?.is_none() {
                self.report.note(Problem::JournalDiffers { key: entity, journal: Version(0), state: row.version });
            }
            Ok(())
        })
    }

    fn derived(&mut self, entity: EntityKey, row: &StateRow) -> Result<EffectRows, StoreError> {
        let Some(kind) = self.kinds.get(entity.kind) else {
            self.report.note(Problem::UnknownKind(entity));
            return Ok(EffectRows::new());
        };
        let live = kind.load(entity, Some(&row.state));
        let live = live.map_err(|cause| StoreError::Corrupt { what: format!("state of {entity:?}: {cause}") });
        let live = self.report.readable(live)?;
        Ok(live.map(|live| effect_rows(self.shard, entity, &live.wants())).unwrap_or_default())
    }

    /// Every journal is dense and, when it is whole, gives the state.
    fn journals(&mut self) -> Result<(), StoreError> {
        let mut replay: Option<Replay> = None;
        self.state.visit(key::shard_rows(Table::Journal, self.shard), |row_key, value| {
            self.report.records += 1;
            let parsed = key::parse_journal(row_key);
            let (_, entity, version) = parsed.ok_or_else(|| damaged(row_key, "not a journal key"))?;
            if replay.as_ref().is_none_or(|replay| replay.key != entity) {
                self.end_replay(replay.take())?;
                let reached = Version(version.0 - 1);
                // A journal that was purged from the front cannot be replayed, only followed.
                let live = match self.kinds.get(entity.kind) {
                    Some(kind) if reached == Version(0) => kind.load(entity, None).ok(),
                    Some(_) | None => None,
                };
                replay = Some(Replay { key: entity, live, reached });
            }
            let current = replay.as_mut().expect("one was just begun");
            if version != current.reached.next() {
                self.report.note(Problem::JournalGap { key: entity, after: current.reached });
                current.live = None;
            }
            current.reached = version;
            match self.report.readable(decode_journal(row_key, value))? {
                Some(record) => {
                    let evolved = current.live.as_mut().map(|live| live.evolve(&record.events));
                    if let Some(Err(cause)) = evolved {
                        self.report.note(Problem::Damaged(format!("events of {entity:?} at {version}: {cause}")));
                        current.live = None;
                    }
                }
                None => current.live = None,
            }
            Ok::<(), StoreError>(())
        })?;
        self.end_replay(replay)
    }

    fn end_replay(&mut self, replay: Option<Replay>) -> Result<(), StoreError> {
        let Some(Replay { key, live, reached }) = replay else { return Ok(()) };
        let Some(state) = self.report.readable(self.state.get(self.shard, &key))? else { return Ok(()) };
        match state {
            None => self.report.note(Problem::Orphan(key)),
            Some(row) => {
                let same = live.is_none_or(|live| live.encode() == row.state);
                if !same || reached != row.version {
                    self.report.note(Problem::JournalDiffers { key, journal: reached, state: row.version });
                }
            }
        }
        Ok(())
    }

    fn replies(&mut self) -> Result<(), StoreError> {
        self.state.visit(key::shard_rows(Table::Idempotency, self.shard), |row_key, value| {
            self.report.replies += 1;
            let Some(reply) = self.report.readable(decode_idempotency(row_key, value))? else { return Ok(()) };
            let Some(state) = self.report.readable(self.state.get(self.shard, &reply.key))? else { return Ok(()) };
            if state.is_none_or(|row| row.version < reply.version) {
                self.report.note(Problem::ReplyAhead { key: reply.key, version: reply.version });
            }
            Ok(())
        })
    }

    /// Every derived row is asked for by the state of its entity.
    fn derived_rows(&mut self) -> Result<(), StoreError> {
        type Decode = fn(&[u8], &[u8]) -> Result<EntityKey, StoreError>;
        let wake: Decode = |row_key, value| decode_wake(row_key, value).map(|row| row.key);
        let tables: [(Table, Decode); 2] = [(Table::Wake, wake), (Table::Index, decode_index)];
        for (table, decode) in tables {
            self.state.visit(key::shard_rows(table, self.shard), |row_key, value| {
                self.report.derived_rows += 1;
                let entity = decode(row_key, value);
                let Some(entity) = self.report.readable(entity)? else { return Ok(()) };
                if self.last.as_ref().is_none_or(|(last, _)| *last != entity) {
                    let state = self.report.readable(self.state.get(self.shard, &entity))?.flatten();
                    let rows = match state {
                        Some(row) => self.derived(entity, &row)?,
                        None => EffectRows::new(),
                    };
                    self.last = Some((entity, rows));
                }
                let wanted = self.last.as_ref().is_some_and(|(_, rows)| rows.contains_key(row_key));
                if !wanted {
                    self.report.note(Problem::RowExtra { key: entity, row: row_key.to_vec() });
                }
                Ok::<(), StoreError>(())
            })?;
        }
        Ok(())
    }
}
