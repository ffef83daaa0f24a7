//! What must hold of the shard core itself, judged while the run goes on: logs agree, claims are one a term, what is applied
//! is durable on a majority, members agree, what was refused stays out. The first breach ends the run; all of it is what
//! INV-1, INV-5 and INV-6 rest on.

use crate::persistence::log::Membership;
use crate::replication::core::Committed;
use crate::types::ids::{Claim, LogIndex, Term};
use crate::types::record::RecordFate;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// The truth as far as it is known: what any replica was handed as committed.
#[derive(Default)]
pub struct CoreChecks {
    log: BTreeMap<LogIndex, (Term, i32, u64)>,
    claims: BTreeMap<Term, Claim>,
    leads: BTreeSet<Term>,
    members: BTreeMap<LogIndex, Membership>,
    /// Digests of records that were refused as not applied, with whom they were proposed to, and of all that were committed.
    refused: BTreeMap<u64, u64>,
    committed: BTreeSet<u64>,
    /// What became of the records of each entry where it was first applied.
    fates: BTreeMap<LogIndex, Vec<RecordFate>>,
    /// The highest index at which anything was acknowledged.
    pub acked_index: LogIndex,
}

type Verdict = Result<(), String>;

impl CoreChecks {
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.log.last_key_value().map_or(LogIndex(0), |(index, _)| *index)
    }

    #[must_use]
    pub fn terms(&self) -> u64 {
        self.leads.len() as u64
    }

    /// The newest membership of the group.
    #[must_use]
    pub fn members(&self) -> Option<&Membership> {
        self.members.last_key_value().map(|(_, members)| members)
    }

    /// An index is committed with one content, once and for all. Whether it is new.
    ///
    /// # Errors
    /// The breach.
    pub fn logs_agree(&mut self, peer: u64, entry: &Committed) -> Result<bool, String> {
        let fact = (entry.term, entry.entry_type, xxh3_64(&entry.payload));
        match self.log.get(&entry.index) {
            None => {
                self.log.insert(entry.index, fact);
                Ok(true)
            }
            Some(known) if *known == fact => Ok(false),
            Some(known) => Err(format!("INV-6: logs disagree at {}: {known:?}, but on {peer} {fact:?}", entry.index)),
        }
    }

    /// Whether the records of an entry met their fates for the first time, or others than elsewhere.
    pub fn are_fates_new(&mut self, index: LogIndex, fates: &[RecordFate]) -> bool {
        let is_new = self.fates.get(&index).is_none_or(|known| known != fates);
        if is_new {
            self.fates.insert(index, fates.to_vec());
        }
        is_new
    }

    /// One claim a term, committed in that term.
    ///
    /// # Errors
    /// The breach.
    pub fn claimed(&mut self, term: Term, claim: Claim) -> Verdict {
        if claim.term != term || self.claims.insert(claim.term, claim).is_some() {
            return Err(format!("INV-6: second or foreign claim {claim:?} in term {term}"));
        }
        Ok(())
    }

    /// Records only under the claim of their entry's own term, and none that was refused.
    ///
    /// # Errors
    /// The breach.
    pub fn records_committed(&mut self, entry: &Committed, claim: Claim, records: &[u64]) -> Verdict {
        if self.claims.get(&entry.term) != Some(&claim) {
            return Err(format!("INV-6: entry {} of term {} under {claim:?}", entry.index, entry.term));
        }
        self.committed.extend(records);
        match records.iter().find(|record| self.refused.contains_key(record)) {
            Some(_) => Err(format!("INV-6: entry {} holds a record that was refused as not applied", entry.index)),
            None => Ok(()),
        }
    }

    /// A record was handed to a leader. One that it refused before may be decided there again byte for byte, when the clock
    /// stood still meanwhile.
    pub fn proposed(&mut self, peer: u64, record: u64) {
        if self.refused.get(&record) == Some(&peer) {
            self.refused.remove(&record);
        }
    }

    /// A record was refused as not applied.
    ///
    /// # Errors
    /// The breach.
    pub fn refused(&mut self, peer: u64, record: u64) -> Verdict {
        self.refused.insert(record, peer);
        if self.committed.contains(&record) {
            return Err("INV-6: a record is refused as not applied, but was committed".to_owned());
        }
        Ok(())
    }

    /// One leader a term, once, and only under its own committed claim.
    ///
    /// # Errors
    /// The breach.
    pub fn leads(&mut self, claim: Claim) -> Verdict {
        let committed = self.claims.get(&claim.term).copied();
        if !self.leads.insert(claim.term) || committed != Some(claim) {
            return Err(format!("INV-6: {claim:?} leads a second time, or committed is {committed:?}"));
        }
        Ok(())
    }

    /// # Errors
    /// The breach.
    pub fn members_agree(&mut self, members: &Membership) -> Verdict {
        let known = self.members.entry(members.index).or_insert_with(|| members.clone());
        if known != members {
            return Err(format!("INV-6: members disagree: {known:?} and {members:?}"));
        }
        Ok(())
    }

    /// Applied ≤ committed, judged from outside: an entry that is applied anywhere is durable on a majority of the group
    /// it was committed by.
    ///
    /// # Errors
    /// The breach.
    pub fn is_durable(&self, index: LogIndex, holders: &BTreeSet<u64>) -> Verdict {
        let mut groups = self.members.range(..=index).rev().take(2).map(|(_, members)| members);
        let majority = |voters: &[u64]| voters.iter().filter(|peer| holders.contains(peer)).count() * 2 > voters.len();
        let holds = |members: &Membership| {
            majority(&members.voters) && (members.voters_outgoing.is_empty() || majority(&members.voters_outgoing))
        };
        if groups.any(holds) {
            return Ok(());
        }
        let groups: Vec<&Membership> = self.members.range(..=index).rev().take(2).map(|(_, one)| one).collect();
        Err(format!("INV-6: entry {index} is applied, but durable only on {holders:?} of {groups:?}"))
    }
}
