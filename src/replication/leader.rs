//! What a leader does: claims the shard, turns proposals into entries, confirms reads, changes the group, hands over.
//!
//! Order of a leadership: elected → `Claim` proposed → claim applied → `Lead` → proposals → `StepDown`, and only
//! after it the fate of what was in flight.

use crate::replication::core::ShardCore;
use crate::replication::entry::{EntryFormat, encode_entry};
use crate::replication::io::{DropFate, MemberChange, MembersRefusal, Output};
use crate::replication::members;
use crate::types::ids::{Claim, LogIndex, Term};
use crate::types::limits::{ENTRY_RECORDS_MAX, HEIR_LAG_MAX, PROMOTE_LAG_MAX, REPORT_TICKS, UNAPPLIED_ENTRIES_MAX};
use crate::types::record::{EntryBody, Record};
use raft::{INVALID_ID, ProgressState, StateRole};
use std::collections::BTreeMap;

/// State that only a leader has.
#[derive(Default)]
pub(crate) struct Leadership {
    /// Index of this term's own claim.
    claimed: Option<(LogIndex, Claim)>,
    /// The claim, once it is applied.
    leading: Option<Claim>,
    change: Option<Change>,
    /// What peers said of themselves in this term: learners, and voters that are behind.
    reports: BTreeMap<u64, Report>,
    #[cfg(debug_assertions)]
    kept: Option<Claim>,
}

struct Report {
    whole: bool,
    applied: LogIndex,
    /// The core's tick at which it came.
    at: u64,
}

struct Change {
    tag: u64,
    index: u64,
    term: u64,
}

impl Leadership {
    pub(crate) fn leading(&self) -> Option<Claim> {
        self.leading
    }

    pub(crate) fn report(&mut self, peer: u64, whole: bool, applied: LogIndex, at: u64) {
        self.reports.insert(peer, Report { whole, applied, at });
    }

    /// A membership change is committed: its tag, when it was proposed here.
    pub(crate) fn change_committed(&mut self, index: u64, term: u64) -> Option<u64> {
        self.change.take_if(|change| change.index == index && change.term == term).map(|change| change.tag)
    }
}

impl ShardCore {
    /// Whether this replica leads and its claim is applied: the only state in which it takes proposals.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.lead.leading.is_some()
    }

    /// The claim under which this replica leads, once applied.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        self.lead.leading
    }

    /// How records that are proposed from now on are written. All replicas must be able to read it; an older one than they
    /// could is no harm.
    pub fn write_entries_as(&mut self, format: EntryFormat) {
        self.proposals.format = format;
    }

    fn is_raft_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Proposes this term's claim. Raft takes it: a fresh leader has nothing uncommitted of its own.
    pub(crate) fn claim_leadership(&mut self) {
        if self.lead.claimed.is_some() {
            return;
        }
        let claim = self.claim_of(Term(self.raw.raft.term));
        #[cfg(debug_assertions)]
        if let Some(kept) = self.lead.kept.filter(|_| self.defects.keep_old_claim) {
            self.lead.claimed = Some((LogIndex(self.raw.raft.raft_log.last_index()), kept));
            return;
        }
        if self.raw.propose(Vec::new(), encode_entry(&EntryBody::Claim(claim))).is_ok() {
            self.lead.claimed = Some((LogIndex(self.raw.raft.raft_log.last_index()), claim));
        }
    }

    pub(crate) fn tick_leader(&mut self, out: &mut Vec<Output>) {
        if self.is_raft_leader() {
            self.claim_leadership();
            self.lead_if_claimed(out);
        }
    }

    pub(crate) fn lead_if_claimed(&mut self, out: &mut Vec<Output>) {
        let Some((index, claim)) = self.lead.claimed else { return };
        if self.lead.leading.is_none() && index <= self.applied && self.is_raft_leader() {
            self.lead.leading = Some(claim);
            #[cfg(debug_assertions)]
            self.lead.kept.get_or_insert(claim);
            out.push(Output::Lead { claim });
        }
    }

    /// Leadership is lost: hosting stops first, then everything in flight hears its fate.
    pub(crate) fn stepped_down(&mut self, out: &mut Vec<Output>) {
        if self.lead.leading.take().is_some() {
            out.push(Output::StepDown { term: Term(self.raw.raft.term), leader: self.leader() });
        }
        self.lead.claimed = None;
        self.lead.reports.clear();
        let pending = self.proposals.drop_pending();
        out.extend(pending.into_iter().map(|tag| Output::Dropped { tag, fate: DropFate::Unknown }));
        self.drop_queued(out);
        self.proposals.forget_voided();
        out.extend(self.reads.fail().into_iter().map(|tag| Output::ReadFailed { tag }));
        if let Some(change) = self.lead.change.take() {
            out.push(Output::MembersRefused { tag: change.tag, why: MembersRefusal::Unfinished });
        }
    }

    fn drop_queued(&mut self, out: &mut Vec<Output>) {
        let queued = self.proposals.drop_queued();
        out.extend(queued.into_iter().map(|tag| Output::Dropped { tag, fate: DropFate::NotApplied }));
    }

    pub(crate) fn propose(&mut self, tag: u64, record: &Record, out: &mut Vec<Output>) {
        if self.lead.leading.is_none() {
            // Decided under a leadership that is over: it binds nobody who is hosted under a later one.
            out.push(Output::Dropped { tag, fate: DropFate::NotApplied });
            return;
        }
        let log = &self.raw.raft.raft_log;
        let backlogged = log.last_index() - self.applied.0 >= UNAPPLIED_ENTRIES_MAX;
        let open = self.raw.raft.lead_transferee.is_none() && !backlogged;
        if self.proposals.is_void(record) && !self.goes_on_after_drop() {
            out.push(Output::Dropped { tag, fate: DropFate::NotApplied });
            return;
        }
        if !open || !self.proposals.push(tag, record) {
            self.proposals.void(record.key, record.version_before);
            out.push(Output::Dropped { tag, fate: DropFate::NotApplied });
            return;
        }
        if self.proposals.queued() >= ENTRY_RECORDS_MAX {
            self.flush(out);
        }
    }

    fn goes_on_after_drop(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.defects.go_on_after_drop;
        #[cfg(not(debug_assertions))]
        false
    }

    /// Turns queued proposals into entries.
    pub(crate) fn flush(&mut self, out: &mut Vec<Output>) {
        let Some(claim) = self.lead.leading else { return };
        while let Some(entry) = self.proposals.next_entry(claim) {
            if self.raw.propose(Vec::new(), entry.payload).is_ok() {
                let raft = &self.raw.raft;
                self.proposals.accepted(raft.raft_log.last_index(), raft.term, entry.tags);
                continue;
            }
            // Raft refused this entry for its size or a transfer, and might take a smaller one behind it.
            out.extend(entry.tags.into_iter().map(|tag| Output::Dropped { tag, fate: DropFate::NotApplied }));
            if !self.goes_on_after_drop() {
                entry.steps.into_iter().for_each(|(key, version)| self.proposals.void(key, version));
                self.drop_queued(out);
            }
        }
    }

    pub(crate) fn transfer(&mut self, to: u64, out: &mut Vec<Output>) {
        // As it was before the flush: what that adds, raft brings over anyway.
        let may = self.may_hand_over_to(to);
        self.flush(out);
        if may {
            self.raw.transfer_leader(to);
        }
    }

    /// The peer that leadership is being handed to.
    #[must_use]
    pub fn transferee(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// Whether this peer could lead at once: a voter that has, and has applied, nearly everything. From the transfer until it
    /// leads the shard takes no records.
    #[must_use]
    pub fn may_hand_over_to(&self, peer: u64) -> bool {
        let members = self.members();
        let is_voter = members.voters.contains(&peer) && !members::is_joint(members);
        let raft = &self.raw.raft;
        // One that is probed may have everything: after a snapshot it is, until the shard's next entry.
        let keeps_up = raft.prs().get(peer).is_some_and(|progress| {
            progress.state != ProgressState::Snapshot && progress.matched + HEIR_LAG_MAX >= raft.raft_log.last_index()
        });
        let is_behind = self.lead.reports.get(&peer).is_some_and(|report| {
            let is_recent = report.at + 2 * u64::from(REPORT_TICKS) > self.ticks;
            is_recent && !(report.whole && report.applied.0 + HEIR_LAG_MAX >= raft.raft_log.committed)
        });
        self.is_raft_leader() && is_voter && peer != self.options.peer_id && keeps_up && !is_behind
    }

    pub(crate) fn read_barrier(&mut self, tag: u64, out: &mut Vec<Output>) {
        if self.lead.leading.is_none() || !self.reads.push(tag) {
            out.push(Output::ReadFailed { tag });
            return;
        }
        self.ask_for_reads();
    }

    fn ask_for_reads(&mut self) {
        if let Some(context) = self.reads.ask() {
            self.raw.read_index(context);
        }
    }

    pub(crate) fn answer_reads(&mut self, out: &mut Vec<Output>) {
        let ready = self.reads.ready(self.applied.0);
        out.extend(ready.into_iter().map(|tag| Output::ReadReady { tag }));
        self.ask_for_reads();
    }

    pub(crate) fn change_members(&mut self, tag: u64, changes: &[MemberChange], out: &mut Vec<Output>) {
        if let Err(why) = self.try_change(tag, changes) {
            out.push(Output::MembersRefused { tag, why });
        }
    }

    fn try_change(&mut self, tag: u64, changes: &[MemberChange]) -> Result<(), MembersRefusal> {
        if self.lead.leading.is_none() {
            return Err(MembersRefusal::NotLeader);
        }
        if self.lead.change.is_some() || self.raw.raft.has_pending_conf() {
            return Err(MembersRefusal::Busy);
        }
        let leader = self.options.peer_id;
        let change = members::plan(self.members(), leader, changes, |peer| self.has_caught_up(peer))?;
        self.raw.propose_conf_change(Vec::new(), change).map_err(|_| MembersRefusal::Busy)?;
        let raft = &self.raw.raft;
        self.lead.change = Some(Change { tag, index: raft.raft_log.last_index(), term: raft.term });
        Ok(())
    }

    /// A learner may vote once its state is whole and close to the leader's.
    fn has_caught_up(&self, peer: u64) -> bool {
        let committed = self.raw.raft.raft_log.committed;
        let report = self.lead.reports.get(&peer);
        report.is_some_and(|report| report.whole && report.applied.0 + PROMOTE_LAG_MAX >= committed)
    }

    /// The group changed under a leader: it may have been removed, or the receiver of its snapshot.
    pub(crate) fn after_members(&mut self, out: &mut Vec<Output>) {
        let me = self.options.peer_id;
        let group = self.members().clone();
        self.lead.reports.retain(|peer, _| members::contains(&group, *peer));
        self.drop_stream_without(&group, out);
        let votes = group.voters.contains(&me) || group.voters_outgoing.contains(&me);
        if self.is_raft_leader() && !votes {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, INVALID_ID);
        }
    }
}

#[cfg(test)]
#[path = "heir_tests.rs"]
mod tests;
