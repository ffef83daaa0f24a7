//! One shard: its replicas compared with each other, the history that its journals and the ledger tell, and the verdict.

use crate::audit::AuditError;
use crate::audit::promises::Promises;
use crate::audit::provided::{Message, OfGift, Provided};
use crate::audit::trace::{self, Trace};
use crate::chaos::checkers::history::{
    CallRow, Fact, FaultSpan, History, Money4, MoneyMove, PaymentRow, RecordRow, ReplicaRow, Reply, SendRow, Told,
};
use crate::chaos::checkers::{Violation, check_all};
use crate::domain::kinds::GIFT;
use crate::persistence::state_store::StateStore;
use crate::persistence::store::StoreError;
use crate::types::codec::CodecError;
use crate::types::ids::{EntityKey, LogIndex, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// Rows that are read at a time.
const ROWS: usize = 1_000;
/// How far the time of a record and that of the ledger may be apart: shards take theirs from clocks that agree within this.
const CLOCK_ERROR: Millis = Millis::from_secs(1);

/// One node's copy of a shard.
pub struct Replica<'a> {
    pub node: u16,
    pub state: &'a StateStore,
}

/// A shard to be judged.
pub struct ShardAudit<'a> {
    pub shard: ShardId,
    pub kinds: &'a KindTable,
    pub replicas: &'a [Replica<'a>],
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Judged {
    pub gifts: u64,
    pub records: u64,
    pub violations: Vec<Violation>,
}

/// The calls of a gift that its records began, with the terms of their claims.
#[derive(Default)]
struct Begun {
    sends: BTreeMap<(u16, u16), Vec<(Timestamp, u64)>>,
    payments: Vec<(Timestamp, u64)>,
}

impl ShardAudit<'_> {
    /// Compares the replicas and judges what the one that is furthest has, with what is known of its gifts.
    ///
    /// # Errors
    /// [`AuditError::Store`]: a row cannot be read.
    pub fn judge(&self, promises: &mut Promises, provided: &mut Provided) -> Result<Judged, AuditError> {
        let mut history = History {
            // Something was broken then; the harness knows what, and judges lateness by it.
            faults: vec![FaultSpan { class: "run", from: Timestamp(0), to: promises.ended_at }],
            clock_error: CLOCK_ERROR,
            record_clock_error: CLOCK_ERROR,
            healed_at: promises.ended_at,
            ended_at: promises.ended_at,
            ..History::default()
        };
        let mut furthest: Option<(LogIndex, &StateStore)> = None;
        for replica in self.replicas {
            let digest = replica.state.stats(self.shard)?.digest;
            // At rest: what came since, as the nodes stopped, are claims, which no row tells of.
            history.replicas.push(ReplicaRow { replica: u64::from(replica.node), applied: LogIndex(0), digest });
            let applied = replica.state.applied(self.shard)?.index;
            if furthest.is_none_or(|(index, _)| index < applied) {
                furthest = Some((applied, replica.state));
            }
        }
        let Some((_, state)) = furthest else { return Ok(Judged::default()) };
        let mut gifts = 0;
        for (key, begun) in self.read_records(state, &mut history)? {
            self.read_state(state, key, &mut history)?;
            if key.kind != GIFT {
                continue;
            }
            gifts += 1;
            history.replies.extend(promises.acknowledged.remove(&key.id).map(|at| acknowledged(key, at)));
            note_provided(&mut history, key, &begun, &provided.take(&key.id));
        }
        let records = history.records.len() as u64;
        Ok(Judged { gifts, records, violations: check_all(&history) })
    }

    /// Every record of every entity in order; the entities, with the calls that they began.
    fn read_records(
        &self,
        state: &StateStore,
        history: &mut History,
    ) -> Result<BTreeMap<EntityKey, Begun>, AuditError> {
        let mut found: BTreeMap<EntityKey, Begun> = BTreeMap::new();
        let mut current: Option<(EntityKey, Trace)> = None;
        let mut after = None;
        loop {
            let page = state.journal_scan(self.shard, after, ROWS)?;
            let Some((last, record)) = page.last() else { return Ok(found) };
            after = Some((*last, record.version));
            for (gift, record) in page {
                let begun = found.entry(gift).or_default();
                let trace = match &mut current {
                    Some((known, trace)) if *known == gift => trace,
                    _other => &mut current.insert((gift, Trace::default())).1,
                };
                let told = match gift.kind {
                    GIFT => trace.record(gift, &record.events),
                    // Its money is in no provider's ledger, and its calls are not sends.
                    _other => Ok((Vec::new(), Money4::default())),
                };
                let (facts, money) = told.map_err(|cause| damaged(gift, &cause))?;
                facts.iter().for_each(|fact| begun.note(fact, record.at));
                let (version, command_id, at) = (record.version, record.command_id, record.at);
                history.records.push(RecordRow { gift, version, command_id, at, facts, money });
            }
        }
    }

    fn read_state(&self, state: &StateStore, key: EntityKey, history: &mut History) -> Result<(), AuditError> {
        let Some(row) = state.get(self.shard, &key)? else { return Ok(()) };
        if key.kind == GIFT {
            let left = trace::left(key, row.version, &row.state).map_err(|cause| damaged(key, &cause))?;
            history.gifts.push(left);
            return Ok(());
        }
        let Some(kind) = self.kinds.get(key.kind) else { return Ok(()) };
        let live = kind.load(key, Some(&row.state)).map_err(|cause| damaged(key, &cause))?;
        let left = trace::other_left(key, row.version, &live.wants());
        // A product or a wallet waits for nothing but to be asked.
        if left.next_due.is_some() {
            history.gifts.push(left);
        }
        Ok(())
    }
}

impl Begun {
    fn note(&mut self, fact: &Fact, at: Timestamp) {
        match *fact {
            Fact::SendStarted { delivery, attempt, term } => {
                self.sends.entry((delivery, attempt)).or_default().push((at, term));
            }
            Fact::PaymentStarted { term } => self.payments.push((at, term)),
            _other => {}
        }
    }
}

/// The term of the call that a provider took then. Providers do not know it: it is the last that was begun before, or none.
fn term_at(begun: &[(Timestamp, u64)], at: Timestamp) -> u64 {
    let before = begun.iter().rev().find(|(since, _)| *since <= at + CLOCK_ERROR);
    before.map_or(0, |(_, term)| *term)
}

/// Its first record is there, since it was acknowledged at the latest.
fn acknowledged(gift: EntityKey, at: Timestamp) -> Reply {
    let told = Told::Done { version: Version(1), digest: 0, written: false };
    Reply { gift, key: gift.id, asked: at, at, told }
}

fn note_provided(history: &mut History, gift: EntityKey, begun: &Begun, provided: &OfGift) {
    for message in &provided.messages {
        note_message(history, gift, begun, message);
    }
    let (captured, refunded) = (provided.captured, provided.refunded);
    history.payments.push(PaymentRow { gift, captured, refunded });
    if let Some(at) = provided.captured_at {
        let term = term_at(&begun.payments, at);
        history.moves.push(MoneyMove { gift, refund: None, term, at, minor: captured });
    }
}

fn note_message(history: &mut History, gift: EntityKey, begun: &Begun, message: &Message) {
    let Message { delivery, attempt, requests, effective, first_at, last_at } = *message;
    let instants = || std::iter::once(first_at).chain(std::iter::repeat(last_at));
    let begun = begun.sends.get(&(delivery, attempt)).map(Vec::as_slice).unwrap_or_default();
    for at in instants().take(usize::try_from(requests).unwrap_or(usize::MAX)) {
        history.calls.push(CallRow { gift, delivery, attempt, at });
    }
    // The ledger counts what was taken and then did not arrive as nothing, and what was refused too.
    let (rows, failed) = if effective == 0 { (1, true) } else { (effective, false) };
    for at in instants().take(usize::try_from(rows).unwrap_or(usize::MAX)) {
        let term = term_at(begun, at);
        history.sends.push(SendRow { gift, delivery, attempt, term, at, effective: true, failed });
    }
}

fn damaged(key: EntityKey, cause: &CodecError) -> StoreError {
    StoreError::Corrupt { what: format!("{key:?}: {cause}") }
}
