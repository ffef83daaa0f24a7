//! The part of a desk whose provider takes batches: which of its sends wait for company, and the hands of
//! [`crate::gateways::batch_flow`] in the real world.

use crate::gateways::batch_book::{BatchBook, NotStarted};
use crate::gateways::batch_course::{BatchEnd, batch_window};
use crate::gateways::batch_flow::{self, Fate, Hands, Repeats, Slip};
use crate::gateways::call::Call;
use crate::gateways::course::Cut;
use crate::gateways::desk::{Desk, Grant};
use crate::gateways::gather::Gather;
use crate::gateways::lane::Hold;
use crate::gateways::options::LaneOptions;
use crate::gateways::perform::{self, Fence};
use crate::gateways::policy::Class;
use crate::providers::{Ability, LookupAnswer, MessageProvider};
use crate::types::batch::Closing;
use crate::types::call::{CallRequest, MessageRequest, Prior};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;

/// A started attempt that waits for company, or is on its way.
pub(super) struct Waiting {
    pub call: Call,
    pub slip: Slip,
}

/// See the file header.
pub(super) struct Batching {
    most: usize,
    wait: Millis,
    gather: Mutex<Gather<Waiting>>,
    repeats: Repeats,
    hands: Arc<RealHands>,
}

struct RealHands {
    provider: Arc<dyn MessageProvider>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    book: OnceLock<Arc<dyn BatchBook>>,
    exported: Exported,
}

/// Handles of the `metrics` crate, looked up once, so that they are there before the first batch, and without one.
struct Exported {
    batches: metrics::Counter,
    messages: metrics::Counter,
}

impl Batching {
    /// `None`: its provider takes none. With batches switched off those of an earlier life are found still.
    pub(super) fn of(
        provider: &Arc<dyn MessageProvider>,
        options: &LaneOptions,
        lane: &str,
        (clock, runtime): (&Arc<dyn Clock>, &Handle),
    ) -> Option<Self> {
        let ability = provider.ability();
        batch_window(ability)?;
        let most = usize::try_from(options.batch_max).unwrap_or(1).min(ability.batch_max).max(1);
        let (provider, clock, runtime) = (Arc::clone(provider), Arc::clone(clock), runtime.clone());
        let exported = Exported {
            batches: metrics::counter!("gateway_batches_total", "lane" => lane.to_owned()),
            messages: metrics::counter!("gateway_batched_messages_total", "lane" => lane.to_owned()),
        };
        Some(Self {
            most,
            wait: Millis(options.batch_wait_ms),
            gather: Mutex::new(Gather::new(most)),
            repeats: Repeats::default(),
            hands: Arc::new(RealHands { provider, clock, runtime, book: OnceLock::new(), exported }),
        })
    }

    pub(super) fn keep(&self, book: &Arc<dyn BatchBook>) {
        // The first one stays.
        let _again = self.hands.book.set(Arc::clone(book));
    }

    pub(super) fn most(&self) -> u32 {
        u32::try_from(self.most).unwrap_or(u32::MAX)
    }

    /// Off, no permit is counted: then a send costs nothing here.
    fn is_on(&self) -> bool {
        self.most > 1
    }

    /// A message without a link could be guessed from the hash.
    fn may_share(&self, request: &MessageRequest) -> bool {
        let takes = |book: &Arc<dyn BatchBook>| book.takes();
        let is_on = self.is_on() && self.hands.book.get().is_some_and(takes);
        is_on && request.link.is_some() && !self.hands.provider.refuses(request)
    }
}

/// Permits for sends on a desk that takes batches are counted until they are used.
fn counts(grant: Grant) -> bool {
    grant.class == Class::Send && matches!(grant.hold, Hold::Call(_))
}

/// A permit is on its way to its attempt.
pub(super) fn granted(desk: &Desk, grant: Grant) {
    if let Some(batching) = desk.batching().filter(|batching| batching.is_on() && counts(grant)) {
        batching.gather.lock().granted(grant.asker.shard);
    }
}

/// A permit came back unused, or was used for something that is not gathered.
pub(super) fn left(desk: &Arc<Desk>, grant: Grant) {
    if let Some(batching) = desk.batching().filter(|batching| batching.is_on() && counts(grant)) {
        let groups = batching.gather.lock().left(grant.asker.shard);
        groups.into_iter().for_each(|group| send_off(desk, group));
    }
}

/// Whether [`take`] is to be asked: a send that may share its call, or that may have shared one.
pub(super) fn is_for(desk: &Desk, grant: Grant, request: &MessageRequest) -> bool {
    let of = |batching: &Batching| request.channel == batching.hands.provider.channel();
    counts(grant) && desk.batching().is_some_and(of)
}

/// A started attempt comes with its permit.
pub(super) fn take(desk: &Arc<Desk>, grant: Grant, waiting: Waiting) {
    let Some(batching) = desk.batching() else { return alone(desk, waiting) };
    let (shard, request) = (grant.asker.shard, &waiting.slip.request);
    match request.prior {
        Prior::Unknown { .. } => {
            left(desk, grant);
            desk.runtime().spawn(repeat(Arc::clone(desk), shard, waiting));
        }
        // What is sent at least once never shared a call.
        Prior::Perhaps { .. } => {
            left(desk, grant);
            alone(desk, waiting);
        }
        Prior::None if !batching.may_share(request) => {
            left(desk, grant);
            alone(desk, waiting);
        }
        Prior::None => {
            let gathered = batching.gather.lock().came(shard, request.template, waiting);
            gathered.groups.into_iter().for_each(|group| send_off(desk, group));
            let Some(number) = gathered.waits else { return };
            let (owner, wait) = (Arc::clone(desk), batching.wait.to_std());
            desk.runtime().spawn(async move {
                tokio::time::sleep(wait).await;
                let group = owner.batching().and_then(|batching| batching.gather.lock().overdue(number));
                group.into_iter().for_each(|group| send_off(&owner, group));
            });
        }
    }
}

fn alone(desk: &Arc<Desk>, waiting: Waiting) {
    let Waiting { call, slip: Slip { request, not_after, .. } } = waiting;
    call.begun.store(false, Ordering::Relaxed);
    Arc::clone(desk).make(call, CallRequest::Message(request), not_after);
}

fn send_off(desk: &Arc<Desk>, mut group: Vec<Waiting>) {
    if group.len() > 1 {
        desk.runtime().spawn(first_try(Arc::clone(desk), group));
    } else if let Some(one) = group.pop() {
        alone(desk, one);
    }
}

async fn first_try(desk: Arc<Desk>, group: Vec<Waiting>) {
    let Some(batching) = desk.batching() else { return };
    // From here on a member that is given up is in doubt: its batch may be written.
    group.iter().for_each(|one| one.call.begun.store(true, Ordering::Relaxed));
    let slips: Vec<Slip> = group.iter().map(|one| one.slip.clone()).collect();
    let fates = batch_flow::first_try(&*batching.hands, &slips).await;
    for (mut one, fate) in group.into_iter().zip(fates) {
        match fate {
            Fate::End(outcome, health) => one.call.end_message(outcome, health),
            Fate::Alone => alone(&desk, one),
        }
    }
}

async fn repeat(desk: Arc<Desk>, shard: ShardId, mut one: Waiting) {
    let Some(batching) = desk.batching() else { return };
    let hands = Arc::clone(&batching.hands);
    let fate = batch_flow::repeat(hands.clone() as Arc<dyn Hands>, &batching.repeats, shard, &one.slip).await;
    match fate {
        Fate::End(outcome, health) => {
            one.call.begun.store(true, Ordering::Relaxed);
            one.call.end_message(outcome, health);
        }
        Fate::Alone => alone(&desk, one),
    }
}

impl Hands for RealHands {
    fn provider(&self) -> (&'static str, Ability) {
        (self.provider.name(), self.provider.ability())
    }
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    fn boot(&self) -> BootMillis {
        self.clock.boot()
    }
    fn book(&self) -> Option<&dyn BatchBook> {
        self.book.get().map(|book| &**book)
    }
    fn by<'a>(
        &'a self,
        not_after: BootMillis,
        write: BoxFuture<'a, Result<EntityKey, NotStarted>>,
    ) -> BoxFuture<'a, Result<EntityKey, NotStarted>> {
        let left = Duration::from_millis(not_after.0.saturating_sub(self.clock.boot().0));
        Box::pin(async move { tokio::time::timeout(left, write).await.unwrap_or(Err(NotStarted::Unknown)) })
    }
    fn look_up<'a>(&'a self, slip: &'a Slip) -> BoxFuture<'a, Result<LookupAnswer, Cut>> {
        Box::pin(async move {
            let begun = AtomicBool::new(false);
            let fence = Fence { clock: &*self.clock, not_after: slip.not_after, begun: &begun };
            perform::look_up(&*self.provider, &slip.request, &fence).await
        })
    }
    fn call<'a>(&'a self, requests: &'a [MessageRequest], not_after: BootMillis) -> BoxFuture<'a, BatchEnd> {
        Box::pin(async move {
            let begun = AtomicBool::new(false);
            let fence = Fence { clock: &*self.clock, not_after, begun: &begun };
            let (answer, latency) = perform::send(&*self.provider, requests, &fence).await;
            if begun.load(Ordering::Relaxed) {
                self.exported.batches.increment(1);
                self.exported.messages.increment(requests.len() as u64);
            }
            BatchEnd::of(self.provider(), requests.len(), answer, latency, self.clock.now())
        })
    }
    fn close_behind(&self, batch: EntityKey, why: Closing) {
        let Some(book) = self.book.get().map(Arc::clone) else { return };
        self.runtime.spawn(async move {
            if book.close(batch, why).await.is_err() {
                tracing::debug!(?batch, "a batch stays open until a lookup or the end of its key closes it");
            }
        });
    }
}

#[cfg(test)]
mod tests;
