//! The host around a core: performs outputs in order, each with the delay and the failure of the day.

use crate::machine::Op;
use crate::options::Defect;
use crate::world::{Event, MS, SECOND, World};
use bojagi::replication::core::{Committed, DropFate, Input, Output, SnapshotId, SnapshotSeal};
use bojagi::replication::entry::decode_entry;
use bojagi::simulation::log_disk::Write;
use bojagi::simulation::replica::Work;
use bojagi::types::ids::{EntityKey, LogIndex};
use bojagi::types::record::{EntryBody, RecordFate, VoidReason};
use std::collections::BTreeSet;

/// All rows of a state are compared at multiples of this index.
const COMPARE_EVERY: u64 = 256;

impl World {
    /// Starts a replica's process.
    pub fn boot(&mut self, peer: u64) {
        let (seed, tight, short) = (self.options.seed, self.options.tight, self.options.short_logs);
        let defect = self.options.defect;
        let Some(replica) = self.replicas.get_mut(&peer) else { return };
        let booted = replica.boot(seed, |options| {
            if tight {
                options.uncommitted_bytes_max = 3_000;
            }
            if short {
                options.log_keep_entries = 8;
                options.log_held_entries_max = 60;
            }
        });
        if let Err(error) = booted {
            return self.checks.fail(format!("{peer} does not start again: {error}"));
        }
        let core = replica.core.as_mut().expect("booted");
        core.defects.go_on_after_drop = defect == Defect::GoOnAfterDrop;
        core.defects.keep_old_claim = defect == Defect::KeepOldClaim;
        core.defects.send_before_persisted = defect == Defect::SendBeforePersisted;
        let members = core.status().members;
        let life = replica.life;
        if !members.voters.is_empty() {
            let verdict = self.checks.core.members_agree(&members);
            self.checks.hold(verdict);
        }
        let first = self.rng.below(100 * MS);
        self.after(first, Event::Tick { peer, life });
        self.after(first + SECOND, Event::Settle { peer, life });
        self.note(|| format!("{peer} up"));
    }

    pub fn outputs(&mut self, peer: u64, outputs: Vec<Output>) {
        for output in outputs {
            if self.is_tracing() && !matches!(output, Output::Send { .. } | Output::SendChunk { .. }) {
                let line = without_payloads(&format!("{peer} {output:?}"));
                self.note(|| line);
            }
            match output {
                Output::Send { to, bytes } | Output::SendChunk { to, bytes } => self.send(peer, to, bytes),
                other => {
                    self.mark(peer, &other);
                    self.perform(peer, other);
                }
            }
        }
    }

    fn perform(&mut self, peer: u64, output: Output) {
        let replica = self.replicas.get_mut(&peer).expect("outputs come from a replica");
        let life = replica.life;
        match output {
            Output::Send { .. } | Output::SendChunk { .. } => unreachable!("sent already"),
            Output::Append(append) => self.write(peer, Write::Append(append)),
            Output::Purge { start } => self.write(peer, Write::Purge(start)),
            Output::Apply(batch) => self.queue(peer, Work::Apply(batch)),
            Output::Install { seal } => self.queue(peer, Work::Install(seal)),
            Output::Dropped { tag, fate } => self.dropped(peer, tag, fate),
            Output::Lead { claim } => {
                replica.hosting = Some(claim);
                let verdict = self.checks.core.leads(claim);
                self.checks.hold(verdict);
                self.outcome.terms += 1;
            }
            Output::StepDown { .. } => replica.stop_hosting(),
            Output::ReadReady { tag } => self.read_answered(peer, tag),
            Output::ReadFailed { tag } => drop(replica.reads.remove(&tag)),
            Output::Members { members, .. } => {
                self.outcome.changes += 1;
                let verdict = self.checks.core.members_agree(&members);
                self.checks.hold(verdict);
            }
            Output::MembersRefused { .. } | Output::ExportOver { .. } => {}
            Output::Export { snapshot, cursor, .. } => {
                let delay = MS + self.rng.below(20 * MS);
                self.after(delay, Event::Exported { peer, life, snapshot, cursor });
            }
            Output::Stage { snapshot, number, bytes, seal } => {
                assert!(replica.state.stage(&bytes, seal.as_ref()), "chunks come in order");
                let delay = MS + self.rng.below(5 * MS);
                self.after(delay, Event::Staged { peer, life, snapshot, number });
            }
            Output::StageDrop { .. } => replica.state.stage_drop(),
            Output::Halt { why } => self.checks.fail(format!("{peer} halts: {why:?}")),
        }
    }

    fn write(&mut self, peer: u64, write: Write) {
        let defect = self.options.defect;
        let replica = self.replicas.get_mut(&peer).expect("a replica writes");
        if let (Defect::SkipFsync, Write::Append(append)) = (defect, &write) {
            let (life, number) = (replica.life, append.number);
            replica.inbox.push(Input::Persisted { number });
            self.after(MS, Event::Synced { peer, life, writes: 0 });
        }
        let replica = self.replicas.get_mut(&peer).expect("a replica writes");
        replica.log.write(write).expect("the disk takes every write");
        self.sync_on(peer);
    }

    fn sync_on(&mut self, peer: u64) {
        let replica = self.replicas.get_mut(&peer).expect("a replica syncs");
        let writes = replica.log.unsynced();
        if replica.syncing || writes == 0 {
            return;
        }
        replica.syncing = true;
        let slow = replica.slow_disk;
        let life = replica.life;
        let delay = if slow { self.rng.between(50 * MS, 700 * MS) } else { self.rng.between(MS / 5, 3 * MS) };
        self.after(delay, Event::Synced { peer, life, writes });
    }

    /// A sync ended: what was written when it began is durable.
    pub fn synced(&mut self, peer: u64, life: u64, writes: usize) {
        let Some(replica) = self.replicas.get_mut(&peer).filter(|replica| replica.life == life) else { return };
        if writes == 0 {
            let early = std::mem::take(&mut replica.inbox);
            self.input(peer, life, early);
            return;
        }
        replica.syncing = false;
        let number = replica.log.sync(writes);
        if let Some(number) = number.filter(|_| self.options.defect != Defect::SkipFsync) {
            self.input(peer, life, vec![Input::Persisted { number }]);
        }
        self.sync_on(peer);
    }

    fn queue(&mut self, peer: u64, work: Work) {
        let replica = self.replicas.get_mut(&peer).expect("a replica applies");
        replica.work.push_back(work);
        self.apply_on(peer);
    }

    fn apply_on(&mut self, peer: u64) {
        let replica = self.replicas.get_mut(&peer).expect("a replica applies");
        if replica.applying || replica.work.is_empty() {
            return;
        }
        replica.applying = true;
        let (slow, life) = (replica.slow_applier, replica.life);
        let delay = if slow { self.rng.between(10 * MS, 200 * MS) } else { self.rng.between(MS / 10, MS) };
        self.after(delay, Event::Applied { peer, life });
    }

    pub fn apply_next(&mut self, peer: u64, life: u64) {
        let Some(replica) = self.replicas.get_mut(&peer).filter(|replica| replica.life == life) else { return };
        replica.applying = false;
        match replica.work.pop_front() {
            Some(Work::Apply(batch)) => self.apply(peer, life, &batch),
            Some(Work::Install(seal)) => self.install(peer, life, &seal),
            None => {}
        }
        self.apply_on(peer);
    }

    fn apply(&mut self, peer: u64, life: u64, batch: &[Committed]) {
        for entry in batch {
            if entry.index > self.checks.core.last() {
                let holds = |peer: &u64| self.replicas[peer].log.durable.has(entry.index, entry.term);
                let holders: BTreeSet<u64> = self.replicas.keys().copied().filter(holds).collect();
                let verdict = self.checks.core.is_durable(entry.index, &holders);
                self.checks.hold(verdict);
            }
            self.checks.committed(peer, entry);
        }
        let ends_group = |entry: &Committed| entry.index.0.is_multiple_of(COMPARE_EVERY);
        for group in batch.split_inclusive(ends_group) {
            let state = &self.replicas[&peer].state;
            let fates = state.apply(group).expect("committed entries apply");
            for (entry, fate) in group.iter().zip(fates) {
                self.fates(peer, entry, &fate.fates);
            }
            if group.last().is_some_and(ends_group) {
                self.compare(peer);
            }
        }
        let index = batch.last().expect("a batch is not empty").index;
        self.input(peer, life, vec![Input::Applied { index }]);
    }

    /// Compares every row of a replica's state with what others had at the same index.
    pub fn compare(&mut self, peer: u64) {
        let state = &self.replicas[&peer].state;
        let (applied, digest) = (state.applied(), state.digest());
        self.checks.states_agree(peer, applied, digest);
    }

    /// Fates of an entry's records; none when the state had it already.
    fn fates(&mut self, peer: u64, entry: &Committed, fates: &[RecordFate]) {
        if fates.is_empty() {
            return;
        }
        let Ok(EntryBody::Records { records, .. }) = decode_entry(&entry.payload) else { return };
        for (at, (record, fate)) in records.iter().zip(fates).enumerate() {
            self.checks.versions_are_dense(record, *fate);
            if let Some(tag) = entry.tags.get(at) {
                self.answered(peer, *tag, *fate, entry.index);
            }
        }
    }

    /// A record was applied or found void: the client hears of it.
    fn answered(&mut self, peer: u64, tag: u64, fate: RecordFate, index: LogIndex) {
        let replica = self.replicas.get_mut(&peer).expect("a replica answers");
        let Some(proposal) = replica.proposals.remove(&tag) else {
            return self.checks.fail(format!("tag {tag} is answered twice"));
        };
        let (op, key) = (proposal.op, proposal.key);
        match fate {
            RecordFate::Applied(version) => {
                replica.resolved(key, false);
                self.checks.acknowledged(op, key, version, index);
            }
            RecordFate::Void(VoidReason::StaleClaim | VoidReason::VersionMoved) => replica.resolved(key, true),
            RecordFate::Void(why) => self.checks.fail(format!("{op:?} is void for {why:?}")),
        }
    }

    fn dropped(&mut self, peer: u64, tag: u64, fate: DropFate) {
        let replica = self.replicas.get_mut(&peer).expect("a replica drops");
        let Some(proposal) = replica.proposals.remove(&tag) else {
            return self.checks.fail(format!("tag {tag} is answered twice"));
        };
        replica.resolved(proposal.key, true);
        match fate {
            DropFate::NotApplied => {
                self.outcome.refused += 1;
                self.checks.refused(proposal.op);
            }
            DropFate::Unknown if replica.hosting.is_some() => {
                self.checks.fail(format!("{peer} says unknown before it stepped down"));
            }
            DropFate::Unknown => {}
        }
    }

    fn read_answered(&mut self, peer: u64, tag: u64) {
        let replica = self.replicas.get_mut(&peer).expect("a replica reads");
        let Some(must_see) = replica.reads.remove(&tag) else {
            return self.checks.fail(format!("read {tag} is answered twice"));
        };
        let applied = replica.state.applied();
        if applied < must_see {
            self.checks.fail(format!("{peer} reads at {applied}, but {must_see} was acknowledged"));
        }
        self.outcome.reads += 1;
    }

    pub fn export(&mut self, peer: u64, life: u64, snapshot: SnapshotId, cursor: Vec<u8>) {
        let Some(replica) = self.replicas.get(&peer).filter(|replica| replica.life == life) else { return };
        // An export ends early when it holds back too much.
        let held_back_too_much = !self.healed && self.rng.per_mille(10);
        let input = match replica.state.export(cursor) {
            Ok(chunk) if !held_back_too_much => {
                Input::Exported { snapshot, bytes: chunk.bytes, next: chunk.next, applied: chunk.applied }
            }
            Ok(_) | Err(_) => Input::ExportLost { snapshot },
        };
        self.input(peer, life, vec![input]);
    }

    pub fn staged(&mut self, peer: u64, life: u64, snapshot: SnapshotId, number: u32) {
        let Some(replica) = self.replicas.get(&peer).filter(|replica| replica.life == life) else { return };
        assert!(replica.state.sync(), "the disk syncs");
        self.input(peer, life, vec![Input::Staged { snapshot, number }]);
    }

    fn install(&mut self, peer: u64, life: u64, seal: &SnapshotSeal) {
        let replica = self.replicas.get_mut(&peer).expect("a replica installs");
        assert_eq!(replica.state.sealed().as_ref(), Some(seal), "what is installed was staged and sealed");
        replica.state.install();
        self.outcome.snapshots += 1;
        self.compare(peer);
        self.input(peer, life, vec![Input::Installed { snapshot: seal.snapshot }]);
    }

    pub fn settle(&mut self, peer: u64, life: u64) {
        let Some(replica) = self.replicas.get_mut(&peer).filter(|replica| replica.life == life) else { return };
        assert!(replica.state.sync(), "the disk syncs");
        let durable = replica.state.applied();
        self.input(peer, life, vec![Input::Purge { durable, cursor: durable }]);
        let delay = SECOND + self.rng.below(SECOND);
        self.after(delay, Event::Settle { peer, life });
    }

    /// Decides and proposes on the hosted state.
    pub fn decide(&mut self, peer: u64, key: EntityKey, padding: usize) -> Option<Input> {
        let replica = self.replicas.get_mut(&peer).expect("a replica decides");
        let pipeline = replica.pipeline(key);
        if pipeline.void || pipeline.in_flight >= 16 {
            return None;
        }
        let op = Op { number: self.next_op, built_on: pipeline.last_op };
        self.next_op += 1;
        let record = crate::machine::record(key, pipeline.version, op, padding);
        let (version, early) = (record.version_after(), self.options.defect == Defect::AckBeforeCommit);
        *pipeline =
            crate::replica::Pipeline { version, last_op: op.number, in_flight: pipeline.in_flight + 1, void: false };
        let tag = self.next_tag;
        self.next_tag += 1;
        replica.proposals.insert(tag, crate::replica::Proposal { op, key });
        if early {
            self.checks.acknowledged(op, key, version, LogIndex(0));
        }
        Some(Input::Propose { tag, record })
    }
}

/// Byte arrays say nothing in a trace.
fn without_payloads(line: &str) -> String {
    let mut parts = line.split("payload: [");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        short.push_str("payload");
        short.push_str(part.split_once(']').map_or("", |(_, rest)| rest));
    }
    short.chars().take(400).collect()
}
