//! What callers are told, and when: as `actors::local`, a refusal or an answer that wrote nothing rests on a state that a
//! newer leader may have moved on from, so it is said behind a read barrier only.

use crate::actors::door::{Answer, Ask, AskError};
use crate::actors::recall::{self, IdempotencyCheck};
use crate::domain::coupon::CouponRejection;
use crate::domain::inventory::StockRejection;
use crate::replication::core::Input;
use crate::simulation::coupons;
use crate::simulation::hosting::Mail;
use crate::simulation::log_disk::SHARD;
use crate::simulation::node::{Do, Node, Turn};
use crate::simulation::options::Defect;
use crate::simulation::world::World;
use crate::types::call::{CallOutcome, EntityOutcome};
use crate::types::codec;
use crate::types::effect::Slot;
use crate::types::ids::{CommandId, EntityKey};
use crate::types::kind::{At, Decided};

/// Marks the barriers of answers among all reads.
const TAG: u64 = 1 << 60;

/// One try of a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Try {
    pub request: u64,
    pub number: u32,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Client(Try),
    /// Another entity of the same shard, by a call.
    Entity {
        source: EntityKey,
        slot: Slot,
    },
    /// A flow of the node's batches.
    Batch(u64),
}

/// An answer that waits for its barrier.
pub struct Behind {
    to: Caller,
    answer: Result<Answer, AskError>,
}

impl Node {
    /// Tells a caller, behind a read barrier where the answer needs one.
    pub(super) fn tell(&mut self, to: Caller, answer: Result<Answer, AskError>, turn: &mut Turn<'_>) {
        if !rests_on_leadership(&answer) || turn.defect == Defect::HostAfterMove {
            return self.hand_out(to, answer, turn);
        }
        let hosting = &mut self.hosting;
        hosting.barriers += 1;
        let tag = TAG | hosting.barriers;
        hosting.behind.insert(tag, Behind { to, answer });
        hosting.inputs.push(Input::ReadBarrier { tag });
    }

    pub(super) fn hand_out(&mut self, to: Caller, answer: Result<Answer, AskError>, turn: &mut Turn<'_>) {
        match to {
            Caller::Client(to) => turn.out.push(Do::Reply { to, answer }),
            Caller::Entity { source, slot } => self.bring_home(source, slot, answer, turn),
            Caller::Batch(number) => self.batch_answered(number, answer, turn),
        }
    }

    /// An entity's answer to another one. Between nodes some are lost, and the caller's patience ends.
    fn bring_home(&mut self, source: EntityKey, slot: Slot, answer: Result<Answer, AskError>, turn: &mut Turn<'_>) {
        let lost = turn.dice.below(10_000) < turn.loses_answers;
        let answer = if lost { Err(AskError::Unknown) } else { answer };
        let outcome = match answer {
            Ok(answer) => EntityOutcome::Done { state: answer.state },
            Err(AskError::Rejected { rejection, .. }) => EntityOutcome::Rejected { rejection },
            Err(error) => EntityOutcome::Unknown { cause: error.to_string() },
        };
        let outcome = match outcome {
            EntityOutcome::Unknown { .. } if turn.defect == Defect::UnknownIsNo => self.taken_for_no(source, slot),
            outcome @ (EntityOutcome::Done { .. } | EntityOutcome::Rejected { .. } | EntityOutcome::Unknown { .. }) => {
                outcome
            }
        };
        self.hosting.mail.push_back((source, Mail::CallDone(slot, CallOutcome::Entity(outcome))));
    }

    /// A defect: a node that does not lead answers what needs no record, from what it has applied so far.
    pub(super) fn answer_unasked(&self, ask: &Ask, turn: &Turn<'_>) -> Option<Result<Answer, AskError>> {
        if turn.defect != Defect::FollowerAnswers || self.hosting.claim.is_some() {
            return None;
        }
        let (key, now) = (ask.key, self.own_wall(turn.wall));
        let (state, kinds) = (&self.state.state, &self.hosting.kinds);
        let known = recall::check(state, kinds, SHARD, ask, now).ok()?;
        let row = state.get(SHARD, &key).ok()??;
        let live = kinds.get(key.kind)?.load(key, Some(&row.state)).ok()?;
        let at = At { now, command_id: CommandId::default() };
        match (known, live.decide(&ask.command, &at).ok()?) {
            (IdempotencyCheck::Fresh, Decided::Rejected(rejection)) => {
                Some(Err(AskError::Rejected { rejection, version: row.version }))
            }
            (IdempotencyCheck::Fresh, Decided::Unchanged) => {
                let (version, state) = (row.version, live.answer());
                Some(Ok(Answer { key, version, state, replayed: false, unwritten: true }))
            }
            (IdempotencyCheck::Fresh, Decided::Events { .. }) | (IdempotencyCheck::Settled(_), _) => None,
        }
    }

    /// A defect: who did not answer is said to have refused.
    fn taken_for_no(&self, source: EntityKey, slot: Slot) -> EntityOutcome {
        let request = self.hosting.live.get(&source).and_then(|entity| entity.driver.request(slot, None));
        let ticket = request.as_ref().and_then(coupons::ticket_of);
        let rejection = match ticket {
            Some(refused) => codec::encode(&CouponRejection::AlreadyClaimed { refused }),
            None => codec::encode(&StockRejection::OutOfStock { available: 0 }),
        };
        EntityOutcome::Rejected { rejection }
    }
}

impl World {
    /// A read barrier is passed, or failed because leadership is not confirmed.
    pub(super) fn read_over(&mut self, peer: u64, tag: u64, ready: bool) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        if let Some(Behind { to, answer }) = node.hosting.behind.remove(&tag) {
            let answer = if ready { answer } else { Err(AskError::Unavailable) };
            return self.with_node(peer, |node, turn| node.hand_out(to, answer, turn));
        }
        let Some(must_see) = node.reads.remove(&tag).filter(|_| ready) else { return };
        let applied = node.state.applied();
        self.outcome.reads += 1;
        if applied < must_see {
            self.fail(format!("INV-1: {peer} reads at {applied}, but {must_see} was acknowledged"));
        }
    }
}

fn rests_on_leadership(answer: &Result<Answer, AskError>) -> bool {
    match answer {
        Ok(answer) => answer.unwritten,
        Err(
            AskError::Rejected { .. }
            | AskError::VersionMoved { .. }
            | AskError::KeyReused
            | AskError::KeyExpired
            | AskError::TooLarge,
        ) => true,
        Err(
            AskError::KeyInFlight
            | AskError::Overloaded { .. }
            | AskError::Unknown
            | AskError::Unavailable
            | AskError::Malformed
            | AskError::NotFinalized { .. },
        ) => false,
    }
}
