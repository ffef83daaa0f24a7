//! What must hold, whatever happens. Each rule is one function; the first violation ends the run.

use crate::machine::{Op, op_of};
use bojagi::replication::core::Committed;
use bojagi::replication::entry::decode_entry;
use bojagi::simulation::core_checks::CoreChecks;
use bojagi::types::ids::{EntityKey, LogIndex, Version};
use bojagi::types::record::{EntryBody, Record, RecordFate};
use std::collections::{BTreeMap, BTreeSet};

/// What the simulation checks of any shard core, and what is known of the operations of this one.
#[derive(Default)]
pub struct Checks {
    pub violation: Option<String>,
    pub core: CoreChecks,
    states: BTreeMap<LogIndex, u64>,
    journal: BTreeMap<(EntityKey, Version), u64>,
    committed_ops: BTreeSet<u64>,
    refused_ops: BTreeSet<u64>,
    acked: Vec<(Op, EntityKey, Version)>,
}

impl Checks {
    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn acks(&self) -> u64 {
        self.acked.len() as u64
    }

    /// Notes a breach.
    pub fn hold(&mut self, verdict: Result<(), String>) {
        if let Err(breach) = verdict {
            self.fail(breach);
        }
    }

    /// A replica is handed an entry as committed.
    pub fn committed(&mut self, peer: u64, entry: &Committed) {
        match self.core.logs_agree(peer, entry) {
            Ok(true) => self.claims_hold(entry),
            Ok(false) => {}
            Err(breach) => self.fail(breach),
        }
    }

    /// One claim a term, and records only under the claim of their entry's own term.
    fn claims_hold(&mut self, entry: &Committed) {
        if entry.entry_type != 0 || entry.payload.is_empty() {
            return;
        }
        match decode_entry(&entry.payload).expect("a committed entry decodes") {
            EntryBody::Claim(claim) => {
                let verdict = self.core.claimed(entry.term, claim);
                self.hold(verdict);
            }
            EntryBody::Records { claim, records } => {
                let verdict = self.core.records_committed(entry, claim, &[]);
                self.hold(verdict);
                records.iter().for_each(|record| self.refused_stay_out(entry.index, record));
            }
        }
    }

    /// What was refused as "not applied" is not in the log, nor is what was decided on it.
    fn refused_stay_out(&mut self, index: LogIndex, record: &Record) {
        let op = op_of(record);
        self.committed_ops.insert(op.number);
        if self.refused_ops.contains(&op.number) {
            self.fail(format!("{op:?} was refused as not applied, but is committed at {index}"));
        }
        if self.refused_ops.contains(&op.built_on) {
            self.fail(format!("{op:?} is committed at {index}, but what it builds on was refused"));
        }
    }

    pub fn refused(&mut self, op: Op) {
        self.refused_ops.insert(op.number);
        if self.committed_ops.contains(&op.number) {
            self.fail(format!("{op:?} is refused as not applied, but was committed"));
        }
    }

    /// Replicas are equal at equal applied index, in every row.
    pub fn states_agree(&mut self, peer: u64, applied: LogIndex, digest: u64) {
        let known = *self.states.entry(applied).or_insert(digest);
        if known != digest {
            self.fail(format!("the state of {peer} differs at {applied}"));
        }
    }

    /// Versions are dense and belong to one operation for good.
    pub fn versions_are_dense(&mut self, record: &Record, fate: RecordFate) {
        let RecordFate::Applied(version) = fate else { return };
        let op = op_of(record).number;
        let before = version.0 == 1 || self.journal.contains_key(&(record.key, Version(version.0 - 1)));
        let known = *self.journal.entry((record.key, version)).or_insert(op);
        if !before || known != op {
            self.fail(format!(
                "version {version} of {:?} is {op} here, {known} elsewhere, dense: {before}",
                record.key
            ));
        }
    }

    pub fn acknowledged(&mut self, op: Op, key: EntityKey, version: Version, index: LogIndex) {
        self.acked.push((op, key, version));
        self.core.acked_index = self.core.acked_index.max(index);
    }

    /// No acknowledged record is lost, and none was acknowledged that was refused.
    pub fn nothing_acknowledged_is_lost(&mut self) {
        let lost =
            |(op, key, version): &&(Op, EntityKey, Version)| self.journal.get(&(*key, *version)) != Some(&op.number);
        if let Some((op, key, version)) = self.acked.iter().find(lost) {
            let found = self.journal.get(&(*key, *version));
            self.violation.get_or_insert(format!("LOST: {op:?} acknowledged as {version} of {key:?}, found {found:?}"));
        }
    }
}
