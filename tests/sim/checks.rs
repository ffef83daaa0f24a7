//! What must hold, whatever happens. Each rule is one function; the first violation ends the run.

use crate::machine::{Op, op_of};
use bojagi::persistence::log::Membership;
use bojagi::replication::core::Committed;
use bojagi::replication::entry::decode_entry;
use bojagi::types::ids::{Claim, EntityKey, LogIndex, Term, Version};
use bojagi::types::record::{EntryBody, Record, RecordFate};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
struct Fact {
    term: Term,
    entry_type: i32,
    payload: Vec<u8>,
}

/// The truth as far as it is known: what any replica was handed as committed.
#[derive(Default)]
pub struct Checks {
    pub violation: Option<String>,
    log: BTreeMap<LogIndex, Fact>,
    claims: BTreeMap<Term, Claim>,
    leads: BTreeSet<Term>,
    states: BTreeMap<LogIndex, u64>,
    members: BTreeMap<LogIndex, Membership>,
    journal: BTreeMap<(EntityKey, Version), u64>,
    committed_ops: BTreeSet<u64>,
    refused_ops: BTreeSet<u64>,
    acked: Vec<(Op, EntityKey, Version)>,
    /// The highest index at which anything was acknowledged.
    pub acked_index: LogIndex,
}

impl Checks {
    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn acks(&self) -> u64 {
        self.acked.len() as u64
    }

    pub fn last(&self) -> LogIndex {
        self.log.last_key_value().map_or(LogIndex(0), |(index, _)| *index)
    }

    /// The newest membership of the group.
    pub fn members(&self) -> Option<&Membership> {
        self.members.last_key_value().map(|(_, members)| members)
    }

    /// Logs agree: an index is committed with one content, once and for all.
    pub fn logs_agree(&mut self, peer: u64, entry: &Committed) {
        let Some(known) = self.log.get(&entry.index) else {
            let (term, entry_type, payload) = (entry.term, entry.entry_type, entry.payload.clone());
            self.log.insert(entry.index, Fact { term, entry_type, payload });
            return self.claims_hold(entry);
        };
        let equal = (known.term, known.entry_type, &known.payload) == (entry.term, entry.entry_type, &entry.payload);
        if !equal {
            self.fail(format!("logs disagree at {}: {known:?}, but on {peer} {entry:?}", entry.index));
        }
    }

    /// One claim a term, and records only under the claim of their entry's own term.
    fn claims_hold(&mut self, entry: &Committed) {
        if entry.entry_type != 0 || entry.payload.is_empty() {
            return;
        }
        match decode_entry(&entry.payload).expect("a committed entry decodes") {
            EntryBody::Claim(claim) => {
                if claim.term != entry.term || self.claims.insert(claim.term, claim).is_some() {
                    self.fail(format!("second or foreign claim {claim:?} in term {}", entry.term));
                }
            }
            EntryBody::Records { claim, records } => {
                if self.claims.get(&entry.term) != Some(&claim) {
                    self.fail(format!("entry {} of term {} under {claim:?}", entry.index, entry.term));
                }
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
        self.acked_index = self.acked_index.max(index);
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

    /// One leader a term, once, and only under its own committed claim. The replica may know of a later term by now.
    pub fn leads(&mut self, claim: Claim) {
        let committed = self.claims.get(&claim.term).copied();
        if !self.leads.insert(claim.term) || committed != Some(claim) {
            self.fail(format!("{claim:?} leads a second time, or committed is {committed:?}"));
        }
    }

    /// Members agree.
    pub fn members_agree(&mut self, members: &Membership) {
        let known = self.members.entry(members.index).or_insert_with(|| members.clone());
        if known != members {
            let what = format!("members disagree: {known:?} and {members:?}");
            self.fail(what);
        }
    }

    /// Applied ≤ committed, judged from outside: an entry that is applied anywhere is durable on a majority of the
    /// group it was committed by.
    pub fn is_durable(&mut self, index: LogIndex, holders: &BTreeSet<u64>) {
        let mut groups = self.members.range(..=index).rev().take(2).map(|(_, members)| members);
        let majority = |voters: &[u64]| voters.iter().filter(|peer| holders.contains(peer)).count() * 2 > voters.len();
        let holds = |members: &Membership| {
            majority(&members.voters) && (members.voters_outgoing.is_empty() || majority(&members.voters_outgoing))
        };
        if !groups.any(holds) {
            let groups: Vec<&Membership> = self.members.range(..=index).rev().take(2).map(|(_, one)| one).collect();
            let what = format!("entry {index} is applied, but durable only on {holders:?} of {groups:?}");
            self.fail(what);
        }
    }
}
