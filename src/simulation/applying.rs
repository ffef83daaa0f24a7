//! What a replica's applier does: committed entries in their order, snapshots out and in, and what the checkers see of it.

use crate::chaos::checkers::history::ReplicaRow;
use crate::persistence::snapshot::SnapshotError;
use crate::replication::core::{Committed, Input, SnapshotId, SnapshotSeal};
use crate::replication::entry::decode_entry;
use crate::simulation::event::MS;
use crate::simulation::event::NodeEvent;
use crate::simulation::host::record_digest;
use crate::simulation::log_disk::SHARD;
use crate::simulation::options::Defect;
use crate::simulation::replica::Work;
use crate::simulation::world::World;
use crate::types::record::{EntryBody, RecordFate};
use std::collections::BTreeSet;

/// All rows of a state are compared at multiples of this index.
const COMPARE_EVERY: u64 = 4_096;

impl World {
    pub(super) fn queue(&mut self, peer: u64, work: Work) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        node.work.push_back(work);
        self.apply_on(peer);
    }

    fn apply_on(&mut self, peer: u64) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        if node.applying || node.work.is_empty() {
            return;
        }
        node.applying = true;
        let applied = node.event(NodeEvent::Applied);
        let slow = node.slow_applier;
        let delay = if slow { self.dice.between(10 * MS, 200 * MS) } else { self.dice.between(MS / 10, MS) };
        self.after(delay, applied);
    }

    pub(super) fn apply_next(&mut self, peer: u64) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        node.applying = false;
        match node.work.pop_front() {
            Some(Work::Apply(batch)) => self.apply(peer, batch),
            Some(Work::Install(seal)) => self.install(peer, &seal),
            None => {}
        }
        self.apply_on(peer);
    }

    fn apply(&mut self, peer: u64, mut batch: Vec<Committed>) {
        for entry in &batch {
            self.committed(peer, entry);
        }
        if self.options.defect == Defect::SkipEntry && peer == 2 && self.dice.per_mille(5) {
            batch.iter_mut().take(1).for_each(|entry| entry.payload.clear());
        }
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let fates = match node.state.apply(&batch) {
            Ok(fates) => fates,
            Err(error) if node.flipped => return self.damaged(peer, &error.to_string()),
            // What cannot be applied ends the process; the entries are applied again from the log.
            Err(_) => return self.crash(peer, false),
        };
        let mut claims = fates.iter().filter_map(|fate| fate.claim).map(|claim| claim.term).peekable();
        if claims.peek().is_some() {
            node.note_claims(claims, node.steady_at(self.now, self.jumped));
        }
        for (entry, fate) in batch.iter().zip(fates) {
            self.fates(peer, entry, &fate.fates);
        }
        let index = batch.last().expect("a batch is not empty").index;
        if batch.iter().any(|entry| entry.index.0.is_multiple_of(COMPARE_EVERY)) && batch.len() == 1 {
            self.compare(peer);
        }
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs()) else { return };
        node.hosting.inputs.push(Input::Applied { index });
    }

    /// A replica is handed an entry as committed.
    fn committed(&mut self, peer: u64, entry: &Committed) {
        if entry.index > self.checks.last() {
            let holds = |peer: &u64| self.nodes[peer].log.durable.has(entry.index, entry.term);
            let holders: BTreeSet<u64> = self.nodes.keys().copied().filter(holds).collect();
            let verdict = self.checks.is_durable(entry.index, &holders);
            self.hold(verdict);
        }
        match self.checks.logs_agree(peer, entry) {
            Ok(false) => return,
            Ok(true) => {}
            Err(breach) => return self.fail(breach),
        }
        if entry.entry_type != 0 || entry.payload.is_empty() {
            return;
        }
        let verdict = match decode_entry(&entry.payload).expect("a committed entry decodes") {
            EntryBody::Claim(claim) => self.checks.claimed(entry.term, claim),
            EntryBody::Records { claim, records } => {
                let digests: Vec<u64> = records.iter().map(record_digest).collect();
                self.checks.records_committed(entry, claim, &digests)
            }
        };
        self.hold(verdict);
    }

    /// Compares every row of a replica's state with what others had at the same index.
    pub fn compare(&mut self, peer: u64) {
        let node = &self.nodes[&peer];
        if node.flipped {
            return;
        }
        let (applied, digest) = (node.state.applied(), node.state.digest());
        let row = ReplicaRow { replica: peer, applied, digest };
        self.recorder.history.replicas.push(row);
    }

    /// Fates of an entry's records; none when the state had it already.
    fn fates(&mut self, peer: u64, entry: &Committed, fates: &[RecordFate]) {
        if fates.is_empty() {
            return;
        }
        if self.checks.are_fates_new(entry.index, fates)
            && let Ok(EntryBody::Records { records, .. }) = decode_entry(&entry.payload)
        {
            let wall = self.true_wall();
            for (record, fate) in records.iter().zip(fates) {
                if let RecordFate::Applied(version) = fate {
                    self.recorder.applied(record, *version, wall);
                    self.outcome.records += 1;
                }
            }
        }
        for (tag, fate) in entry.tags.iter().zip(fates) {
            self.checks.acked_index = self.checks.acked_index.max(entry.index);
            let node = self.nodes.get_mut(&peer).expect("a replica answers");
            node.proposed.remove(tag);
            node.settle_record(*tag, *fate);
        }
    }

    pub(super) fn export(&mut self, peer: u64, snapshot: SnapshotId, cursor: Vec<u8>) {
        // An export ends early when it holds back too much: some do, never two in a row, however many chunks they have.
        let held_back_too_much = !self.healed && self.dice.per_mille(10) && snapshot.number % 3 == 1;
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let input = match node.state.export(cursor) {
            Ok(chunk) if !held_back_too_much => {
                Input::Exported { snapshot, bytes: chunk.bytes, next: chunk.next, applied: chunk.applied }
            }
            Err(SnapshotError::Store(error)) => return self.damaged(peer, &error.to_string()),
            Ok(_) | Err(SnapshotError::Lost | SnapshotError::OutOfOrder { .. }) => Input::ExportLost { snapshot },
        };
        node.hosting.inputs.push(input);
    }

    pub(super) fn install(&mut self, peer: u64, seal: &SnapshotSeal) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        assert_eq!(node.state.sealed().as_ref(), Some(seal), "what is installed was staged and sealed");
        node.state.install();
        let applied = node.state.state.applied(SHARD).expect("a whole state says how far it is");
        node.note_claims([applied.claim.term], node.steady_at(self.now, self.jumped));
        node.hosting.inputs.push(Input::Installed { snapshot: seal.snapshot });
        self.outcome.snapshots += 1;
        self.compare(peer);
    }
}
