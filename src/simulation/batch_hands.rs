//! The hands of a batch's flow in the simulation: they write down what they are asked, for the node to do, and wait for the
//! answer.

use crate::gateways::batch_book::{BatchBook, Later, NotAgain, NotStarted, OpenBatch};
use crate::gateways::batch_course::BatchEnd;
use crate::gateways::batch_flow::{Hands, Slip};
use crate::gateways::course::Cut;
use crate::gateways::policy::concurrency::Micros;
use crate::providers::{Ability, LookupAnswer};
use crate::simulation::batches::CHANNEL;
use crate::simulation::providers::{ability, provider_name};
use crate::types::batch::{Closing, Member, Sheet};
use crate::types::call::{MessageOutcome, MessageRequest};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::time::{BootMillis, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(super) type Reply<T> = oneshot::Sender<T>;

/// What a flow asks for.
pub(super) enum Asked {
    Start(Sheet, Reply<Result<EntityKey, NotStarted>>),
    Find(Member, Reply<Result<Option<OpenBatch>, Later>>),
    Render(Vec<Member>, Reply<Result<Option<Vec<MessageRequest>>, Later>>),
    Again(EntityKey, Option<Timestamp>, Reply<Result<(), NotAgain>>),
    Close(EntityKey, Closing, Reply<Result<(), Later>>),
    LookUp(MessageRequest, BootMillis, Reply<Result<LookupAnswer, Cut>>),
    Call(Vec<MessageRequest>, BootMillis, Reply<Replied>),
}

/// An answer to a call for several, how long it took, and when it came.
pub(super) type Replied = (Result<Vec<MessageOutcome>, Cut>, Micros, Timestamp);

#[derive(Default)]
pub(super) struct Desk {
    pub now: Timestamp,
    pub boot: BootMillis,
    pub asked: Vec<Asked>,
}

/// Hands that write down what they are asked, for the node to do.
#[derive(Default)]
pub(super) struct SimHands {
    pub desk: Mutex<Desk>,
}

impl SimHands {
    fn ask<T: Send + 'static>(&self, asked: impl FnOnce(Reply<T>) -> Asked, lost: T) -> BoxFuture<'_, T> {
        let (reply, answer) = oneshot::channel();
        self.desk.lock().asked.push(asked(reply));
        Box::pin(async move { answer.await.unwrap_or(lost) })
    }
}

impl Hands for SimHands {
    fn provider(&self) -> (&'static str, Ability) {
        (provider_name(CHANNEL), Ability { batch_max: 1_000, ..ability(CHANNEL) })
    }
    fn now(&self) -> Timestamp {
        self.desk.lock().now
    }
    fn boot(&self) -> BootMillis {
        self.desk.lock().boot
    }
    fn book(&self) -> Option<&dyn BatchBook> {
        Some(self)
    }
    /// An answer that comes late finds the call's own fence.
    fn by<'a>(
        &'a self,
        _not_after: BootMillis,
        write: BoxFuture<'a, Result<EntityKey, NotStarted>>,
    ) -> BoxFuture<'a, Result<EntityKey, NotStarted>> {
        write
    }
    fn look_up<'a>(&'a self, slip: &'a Slip) -> BoxFuture<'a, Result<LookupAnswer, Cut>> {
        let (request, not_after) = (slip.request.clone(), slip.not_after);
        self.ask(|reply| Asked::LookUp(request, not_after, reply), Err(Cut::Late))
    }
    fn call<'a>(&'a self, requests: &'a [MessageRequest], not_after: BootMillis) -> BoxFuture<'a, BatchEnd> {
        let sent = requests.to_vec();
        let lost = (Err(Cut::Late), Micros(0), Timestamp(0));
        let reply = self.ask(|reply| Asked::Call(sent, not_after, reply), lost);
        let (provider, count) = (self.provider(), requests.len());
        Box::pin(async move {
            let (answer, latency, now) = reply.await;
            BatchEnd::of(provider, count, answer, latency, now)
        })
    }
    fn close_behind(&self, batch: EntityKey, why: Closing) {
        // Nobody waits for it.
        drop(self.close(batch, why));
    }
}

impl BatchBook for SimHands {
    fn takes(&self) -> bool {
        true
    }
    fn start(&self, sheet: Sheet) -> BoxFuture<'_, Result<EntityKey, NotStarted>> {
        self.ask(|reply| Asked::Start(sheet, reply), Err(NotStarted::Unknown))
    }
    fn find(&self, _shard: ShardId, member: Member) -> BoxFuture<'_, Result<Option<OpenBatch>, Later>> {
        self.ask(|reply| Asked::Find(member, reply), Err(Later))
    }
    fn render(&self, members: Vec<Member>) -> BoxFuture<'_, Result<Option<Vec<MessageRequest>>, Later>> {
        self.ask(|reply| Asked::Render(members, reply), Err(Later))
    }
    fn again(&self, batch: EntityKey, absent_since: Option<Timestamp>) -> BoxFuture<'_, Result<(), NotAgain>> {
        self.ask(|reply| Asked::Again(batch, absent_since, reply), Err(NotAgain::Later))
    }
    fn close(&self, batch: EntityKey, why: Closing) -> BoxFuture<'_, Result<(), Later>> {
        self.ask(|reply| Asked::Close(batch, why, reply), Err(Later))
    }
}
