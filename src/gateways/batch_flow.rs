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
//! - What is in an open batch is never sent alone, and an open batch is made again under its own key: a call of it that
//!   was thought lost may arrive minutes late, and that key is all that keeps it from harm. So a batch is closed only once
//!   no call of it can take effect: the first reply told of all its members, the provider has had it (it said so, or a
//!   lookup found a member), a member is decided (which follows from one of these), or its window has passed.
//! - That a repeat was turned away says nothing of the calls before it: its members stay in doubt.
//! - Before a batch is made again its last try is waited out, that is written down, and what is to be sent has the hash
//!   that was written down. Once its key may be forgotten, each member is looked up after that, as a single one is.
//!   Whoever comes meanwhile waits for the same reply.

use crate::gateways::batch_book::{BatchBook, Later, NotAgain, NotStarted, OpenBatch};
use crate::gateways::batch_course::{BatchEnd, batch_window, mate_of, sheet};
use crate::gateways::course::{Cut, MessageCourse, Turn};
use crate::gateways::policy::Health;
use crate::providers::{Ability, LookupAnswer};
use crate::types::batch::{BodyHash, Closing, Member};
use crate::types::call::{MessageOutcome, MessageRequest, Prior};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::time::{BootMillis, Timestamp};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Members of one batch that are looked up at a time.
const LOOKUPS_AT_ONCE: usize = 16;

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
    // A member that was late before has longer; the batch has not.
    let not_after = slips.iter().map(|slip| slip.not_after).fold(after(hands.boot()), BootMillis::min);
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
    /// It is closed, and no call of it takes effect any more: each member by itself.
    Closed,
    Later,
}

impl Again {
    fn closed(closed: Result<(), Later>) -> Self {
        match closed {
            Ok(()) => Self::Closed,
            Err(Later) => Self::Later,
        }
    }
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
    let requests = match book.render(sheet.members.clone()).await {
        Ok(Some(requests)) => requests,
        Ok(None) => return Again::closed(book.close(key, Closing::GivenUp).await),
        Err(Later) => return Again::Later,
    };
    // Another provider, or another text since an upgrade: then it stays open until its window has passed.
    if sheet.provider != hands.provider().0 || BodyHash::of(&requests) != sheet.body {
        return Again::Later;
    }
    let asked = hands.boot();
    let not_after = match book.again(key, None).await {
        Ok(()) => not_after.min(after(asked)),
        Err(NotAgain::KeyTooOld) => match once_absent(&*hands, book, key, (&sheet.members, &requests)).await {
            Ok(not_after) => not_after,
            Err(again) => return again,
        },
        Err(NotAgain::Later) => return Again::Later,
        Err(NotAgain::NotOpen) => return Again::Closed,
    };
    let end = hands.call(&requests, not_after).await.of_repeat();
    if end.was_never_sent() {
        return Again::Later;
    }
    if end.is_definite() {
        hands.close_behind(key, Closing::Answered);
    }
    let outcomes = sheet.members.into_iter().zip(end.outcomes).collect();
    Again::Sent { outcomes, health: end.health, told: AtomicBool::new(false) }
}

fn after(asked: BootMillis) -> BootMillis {
    BootMillis(asked.0 + ATTEMPT_NOT_AFTER.0.unsigned_abs())
}

fn first_try_of(prior: Prior) -> Option<Timestamp> {
    match prior {
        Prior::Unknown { first_tried_at } => Some(first_tried_at),
        Prior::None | Prior::Perhaps { .. } => None,
    }
}

/// Looks all members up. When nobody is there it is written down that the call is made again: by when at the latest.
/// That is the fence of the batch alone: while it is open its members have no calls of their own.
async fn once_absent(
    hands: &dyn Hands,
    book: &dyn BatchBook,
    key: EntityKey,
    (members, requests): (&[Member], &[MessageRequest]),
) -> Result<BootMillis, Again> {
    let since = hands.now();
    // Whose doubt is not written down yet was first tried with the others.
    let first = requests.iter().filter_map(|request| first_try_of(request.prior)).min();
    let prior = first.map_or(Prior::None, |first_tried_at| Prior::Unknown { first_tried_at });
    let named: Vec<_> = members.iter().zip(requests).collect();
    for some in named.chunks(LOOKUPS_AT_ONCE) {
        let not_after = after(hands.boot());
        let slip = |(member, request): &(&Member, &MessageRequest)| {
            let request = MessageRequest { prior, ..(*request).clone() };
            Slip { member: **member, request, not_after }
        };
        let slips: Vec<Slip> = some.iter().map(slip).collect();
        for answer in join_all(slips.iter().map(|slip| hands.look_up(slip))).await {
            match answer {
                Ok(LookupAnswer::Absent) => {}
                Ok(LookupAnswer::Found { .. }) => return Err(Again::closed(book.close(key, Closing::Taken).await)),
                Ok(LookupAnswer::Unknown { .. }) | Err(_) => return Err(Again::Later),
            }
        }
    }
    let asked = hands.boot();
    match book.again(key, Some(since)).await {
        Ok(()) => Ok(after(asked)),
        Err(NotAgain::NotOpen) => Err(Again::Closed),
        Err(NotAgain::Later | NotAgain::KeyTooOld) => Err(Again::Later),
    }
}

#[cfg(test)]
mod tests;
