//! Several sends in one call, and the same call again after a crash (ADR-13). All that it waits for are its [`Hands`]: the
//! book of batches and the provider. So the simulator runs these very functions.
//!
//! | a send | goes |
//! |---|---|
//! | first try, with others of its shard | behind the committed record of their batch, under the batch's key |
//! | first try whose batch was not written | alone, under its own key |
//! | earlier try in doubt, in no open batch | looked up, then alone under its own key |
//! | earlier try in doubt, in an open batch | looked up; then its batch once more as it was, by whoever comes first |
//!
//! What makes it once (each line is a line of code below):
//! - A call for several is made only after its record is committed, within the `not_after` of each member.
//! - A member is told `NotSent` only when its batch was never written or is closed: so what has no try in doubt is in no
//!   open batch, and no attempt is ever in two.
//! - What is in an open batch is never sent alone. A batch is closed once a reply told of all its members, a lookup
//!   found one, or it cannot be made again and no call of it can be on its way (the entity sees to the last).
//! - Before a batch is made again its last try is waited out, that is written down, and what is to be sent has the hash
//!   that was written down. Whoever comes meanwhile waits for the same reply.

use crate::gateways::batch_book::{BatchBook, Later, NotAgain, NotStarted, OpenBatch};
use crate::gateways::batch_course::{BatchEnd, batch_window, mate_of, sheet};
use crate::gateways::course::{Cut, MessageCourse, Turn};
use crate::gateways::policy::Health;
use crate::providers::{Ability, LookupAnswer};
use crate::types::batch::{BodyHash, Closing, Member};
use crate::types::call::{MessageOutcome, MessageRequest};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::time::{BootMillis, Timestamp};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A started attempt.
#[derive(Clone, Debug)]
pub(crate) struct Slip {
    pub member: Member,
    pub request: MessageRequest,
    pub not_after: BootMillis,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    End(MessageOutcome, Health),
    /// By itself, as if there were no batches: whatever was asked of the provider before is asked again.
    Alone,
}

impl Fate {
    fn not_sent(cause: &str) -> Self {
        Self::End(MessageOutcome::NotSent { cause: cause.to_owned() }, Health::Void)
    }

    fn unknown(cause: &str) -> Self {
        Self::End(MessageOutcome::Unknown { cause: cause.to_owned() }, Health::Void)
    }
}

/// What the flow of a batch needs of the world.
pub(crate) trait Hands: Send + Sync {
    fn provider(&self) -> (&'static str, Ability);
    fn now(&self) -> Timestamp;
    fn boot(&self) -> BootMillis;
    /// `None` before the node has one: then nothing may be concluded about batches.
    fn book(&self) -> Option<&dyn BatchBook>;
    /// What `write` gives before `not_after`; then whether it is written is not known.
    fn by<'a>(
        &'a self,
        not_after: BootMillis,
        write: BoxFuture<'a, Result<EntityKey, NotStarted>>,
    ) -> BoxFuture<'a, Result<EntityKey, NotStarted>>;
    /// Asks the provider for an earlier try.
    fn look_up<'a>(&'a self, slip: &'a Slip) -> BoxFuture<'a, Result<LookupAnswer, Cut>>;
    /// One call for several, begun within `not_after`.
    fn call<'a>(&'a self, requests: &'a [MessageRequest], not_after: BootMillis) -> BoxFuture<'a, BatchEnd>;
    /// Closes a batch while its members go on. Should it stay open, its members are looked up.
    fn close_behind(&self, batch: EntityKey, why: Closing);
}

/// First tries of one shard and template: one fate for each, in order.
pub(crate) async fn first_try(hands: &dyn Hands, slips: &[Slip]) -> Vec<Fate> {
    let all = |fate: Fate| vec![fate; slips.len()];
    let (provider, ability) = hands.provider();
    let (Some(book), Some(window)) = (hands.book(), batch_window(ability)) else { return all(Fate::Alone) };
    let requests: Vec<MessageRequest> = slips.iter().map(|slip| slip.request.clone()).collect();
    let members = slips.iter().map(|slip| slip.member).collect();
    let not_after = slips.iter().map(|slip| slip.not_after).min().unwrap_or(BootMillis(0));
    let written = book.start(sheet(provider, window, members, &requests));
    let batch = match hands.by(not_after, written).await {
        Ok(batch) => batch,
        Err(NotStarted::Refused) => return all(Fate::Alone),
        Err(NotStarted::Unknown) => return all(Fate::unknown("whether its batch is written is not known")),
    };
    let end = hands.call(&requests, not_after).await;
    if end.was_never_sent() {
        let cause = Cut::NotBegun.cause();
        return match book.close(batch, Closing::NeverSent).await {
            Ok(()) => all(Fate::not_sent(&cause)),
            Err(Later) => all(Fate::unknown(&cause)),
        };
    }
    if end.is_definite() {
        hands.close_behind(batch, Closing::Answered);
    }
    let healths = std::iter::once(end.health).chain(std::iter::repeat(mate_of(end.health)));
    end.outcomes.into_iter().zip(healths).map(|(outcome, health)| Fate::End(outcome, health)).collect()
}

/// What came of making a batch again.
enum Again {
    /// The reply; the first who takes it speaks for it to the breaker.
    Sent {
        outcomes: BTreeMap<Member, MessageOutcome>,
        health: Health,
        told: AtomicBool,
    },
    /// It is closed, and no call of it can be on its way: each member by itself.
    Closed,
    Later,
}

/// Batches that are being made again; whoever comes for one waits for the same reply.
#[derive(Clone, Default)]
pub(crate) struct Repeats(Arc<Mutex<BTreeMap<EntityKey, Repeating>>>);

type Repeating = Shared<BoxFuture<'static, Arc<Again>>>;

/// A send whose earlier try is in doubt.
pub(crate) async fn repeat(hands: Arc<dyn Hands>, repeats: &Repeats, shard: ShardId, slip: &Slip) -> Fate {
    let Some(book) = hands.book() else { return Fate::not_sent("the batches of before cannot be looked for yet") };
    let batch = match book.find(shard, slip.member).await {
        Ok(Some(batch)) => batch,
        Ok(None) => return Fate::Alone,
        Err(Later) => return Fate::not_sent("whether it was in a batch cannot be told now"),
    };
    let (provider, ability) = hands.provider();
    let (course, _) = MessageCourse::begin(provider, ability, slip.request.prior, hands.now());
    match course.looked_up(hands.look_up(slip).await) {
        Turn::End(ended) => {
            if matches!(ended.outcome, MessageOutcome::Accepted { .. }) {
                hands.close_behind(batch.key, Closing::Taken);
            }
            return Fate::End(ended.outcome, ended.health);
        }
        Turn::Send | Turn::LookUp => {}
    }
    match &*made_again(&hands, repeats, batch, slip.not_after).await {
        Again::Sent { outcomes, health, told } => {
            let health = if told.swap(true, Ordering::Relaxed) { mate_of(*health) } else { *health };
            match outcomes.get(&slip.member) {
                Some(outcome) => Fate::End(outcome.clone(), health),
                None => Fate::unknown("its batch was made again without it"),
            }
        }
        // Its lookup may be older than the last call of the batch: from here on one is decisive.
        Again::Closed => Fate::Alone,
        Again::Later => Fate::not_sent("its batch cannot be made again now"),
    }
}

async fn made_again(hands: &Arc<dyn Hands>, repeats: &Repeats, batch: OpenBatch, not_after: BootMillis) -> Arc<Again> {
    let key = batch.key;
    let repeating = {
        let begin = || make_again(Arc::clone(hands), batch, not_after).map(Arc::new).boxed().shared();
        repeats.0.lock().entry(key).or_insert_with(begin).clone()
    };
    let again = repeating.await;
    // Should another have begun since, the entity keeps the two apart.
    repeats.0.lock().remove(&key);
    again
}

/// The batch once more, as it was.
async fn make_again(hands: Arc<dyn Hands>, batch: OpenBatch, not_after: BootMillis) -> Again {
    let (Some(book), OpenBatch { key, sheet }) = (hands.book(), batch) else { return Again::Later };
    let Ok(requests) = book.render(sheet.members.clone()).await else { return Again::Later };
    let as_written =
        |requests: &Vec<MessageRequest>| sheet.provider == hands.provider().0 && BodyHash::of(requests) == sheet.body;
    let Some(requests) = requests.filter(as_written) else { return give_up(book, key).await };
    let asked = hands.boot();
    match book.again(key).await {
        Ok(()) => {}
        Err(NotAgain::Later) => return Again::Later,
        Err(NotAgain::KeyTooOld) => return give_up(book, key).await,
        Err(NotAgain::NotOpen) => return Again::Closed,
    }
    let own_not_after = BootMillis(asked.0 + ATTEMPT_NOT_AFTER.0.unsigned_abs());
    let end = hands.call(&requests, not_after.min(own_not_after)).await;
    if end.was_never_sent() {
        return Again::Later;
    }
    if end.is_definite() {
        hands.close_behind(key, Closing::Answered);
    }
    let outcomes = sheet.members.into_iter().zip(end.outcomes).collect();
    Again::Sent { outcomes, health: end.health, told: AtomicBool::new(false) }
}

/// The call cannot be made again as it was: from here on each member is by itself.
async fn give_up(book: &dyn BatchBook, key: EntityKey) -> Again {
    match book.close(key, Closing::GivenUp).await {
        Ok(()) => Again::Closed,
        Err(Later) => Again::Later,
    }
}

#[cfg(test)]
mod tests;
