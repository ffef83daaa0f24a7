//! For tests: a clock that follows tokio's paused time and can be moved by hand, providers that answer by script, and a
//! book of batches in memory.

use crate::gateways::batch_book::{BatchBook, Later, NotAgain, NotStarted, OpenBatch};
use crate::providers::{
    Ability, LookupAnswer, MessageProvider, PaymentProvider, PollFailure, Span, WebhookError, WebhookHeaders,
};
use crate::types::batch::{Closing, Member, Sheet};
use crate::types::call::{
    Address, MessageOutcome, MessageRequest, PaymentOperation, PaymentOutcome, PaymentRequest, Prior, Purpose,
    RefusalClass, Report, Template,
};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::ids::{EntityKey, EntityKind, ShardId};
use crate::types::money::Money;
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use tokio::sync::watch;

/// Wall time at the start of a test.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) struct TestClock {
    origin: tokio::time::Instant,
    wall_offset: AtomicI64,
    /// Milliseconds that only CLOCK_BOOTTIME went on: the machine slept, or the process was frozen.
    boot_offset: AtomicU64,
    moved: watch::Sender<u64>,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: tokio::time::Instant::now(),
            wall_offset: AtomicI64::new(0),
            boot_offset: AtomicU64::new(0),
            moved: watch::channel(0).0,
        })
    }
    /// Moves the dev clock.
    pub(crate) fn advance(&self, span: Millis) {
        self.wall_offset.fetch_add(span.0, Ordering::SeqCst);
        self.moved.send_modify(|count| *count += 1);
    }
    pub(crate) fn freeze(&self, millis: u64) {
        self.boot_offset.fetch_add(millis, Ordering::SeqCst);
    }
    pub(crate) fn real_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        START + Millis(i64::try_from(self.real_ms()).unwrap()) + Millis(self.wall_offset.load(Ordering::SeqCst))
    }
    fn boot(&self) -> BootMillis {
        BootMillis(self.real_ms() + self.boot_offset.load(Ordering::SeqCst))
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

/// What a scripted send does.
pub(crate) enum Act {
    Answer(MessageOutcome),
    /// One for each message of the call.
    Each(Vec<MessageOutcome>),
    After(Millis, MessageOutcome),
    Panic,
    /// Freezes the process (CLOCK_BOOTTIME only) for so long in the middle of the call, then counts the byte.
    FrozenThenWrite(Millis),
}

type Script = Box<dyn Fn(usize) -> Act + Send + Sync>;

pub(crate) struct FakeMessages {
    pub channel: Channel,
    pub ability: Ability,
    pub script: Script,
    pub lookups: Mutex<Vec<LookupAnswer>>,
    pub lookup_ms: i64,
    pub reports: Mutex<Result<Vec<Report>, String>>,
    /// Messages of each call.
    pub calls: Mutex<Vec<usize>>,
    /// References in the order in which they were sent.
    pub sent: Mutex<Vec<String>>,
    pub looked_up: Mutex<Vec<String>>,
    /// References of what the client refuses by itself.
    pub refused_here: Mutex<Vec<String>>,
    pub polled_since: Mutex<Vec<Timestamp>>,
    pub late_writes: AtomicU64,
    pub clock: Arc<TestClock>,
}

pub(crate) const KEY_AND_LOOKUP: Ability =
    Ability { key_window: Some(Millis::from_mins(10)), lookup: true, batch_max: 1 };
pub(crate) const BATCHES: Ability = Ability { batch_max: 1_000, ..KEY_AND_LOOKUP };
pub(crate) const KEY_ONLY: Ability = Ability { key_window: Some(Millis::from_mins(10)), lookup: false, batch_max: 1 };
pub(crate) const NEITHER: Ability = Ability { key_window: None, lookup: false, batch_max: 1 };

impl FakeMessages {
    pub(crate) fn new(
        clock: &Arc<TestClock>,
        channel: Channel,
        ability: Ability,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self {
            channel,
            ability,
            script: Box::new(script),
            lookups: Mutex::new(Vec::new()),
            lookup_ms: 0,
            reports: Mutex::new(Ok(Vec::new())),
            calls: Mutex::new(Vec::new()),
            sent: Mutex::new(Vec::new()),
            looked_up: Mutex::new(Vec::new()),
            refused_here: Mutex::new(Vec::new()),
            polled_since: Mutex::new(Vec::new()),
            late_writes: AtomicU64::new(0),
            clock: Arc::clone(clock),
        }
    }
}

impl MessageProvider for FakeMessages {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn channel(&self) -> Channel {
        self.channel
    }
    fn ability(&self) -> Ability {
        self.ability
    }
    fn send<'a>(&'a self, batch: &'a [MessageRequest], _deadline: Millis) -> BoxFuture<'a, Vec<MessageOutcome>> {
        Box::pin(async move {
            let all = |outcome: MessageOutcome| vec![outcome; batch.len()];
            self.calls.lock().push(batch.len());
            let number = {
                let mut sent = self.sent.lock();
                sent.extend(batch.iter().map(|request| request.reference.clone()));
                sent.len() - 1
            };
            match (self.script)(number) {
                Act::Answer(outcome) => all(outcome),
                Act::Each(outcomes) => outcomes,
                Act::After(span, outcome) => {
                    tokio::time::sleep(span.to_std()).await;
                    all(outcome)
                }
                Act::Panic => panic!("ordered by a test"),
                Act::FrozenThenWrite(span) => {
                    self.clock.freeze(u64::try_from(span.0).unwrap());
                    tokio::task::yield_now().await;
                    self.late_writes.fetch_add(1, Ordering::SeqCst);
                    all(accepted())
                }
            }
        })
    }
    fn refuses(&self, request: &MessageRequest) -> bool {
        self.refused_here.lock().contains(&request.reference)
    }
    fn lookup<'a>(&'a self, request: &'a MessageRequest, _deadline: Millis) -> BoxFuture<'a, LookupAnswer> {
        Box::pin(async move {
            tokio::time::sleep(Millis(self.lookup_ms).to_std()).await;
            self.looked_up.lock().push(request.reference.clone());
            self.lookups.lock().pop().unwrap_or(LookupAnswer::Absent)
        })
    }
    fn poll(&self, span: Span, _deadline: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>> {
        self.polled_since.lock().push(span.since);
        let reports = self.reports.lock().clone();
        Box::pin(async move { reports.map_err(PollFailure::Failed) })
    }
    fn webhook(&self, headers: &WebhookHeaders, _body: &[u8]) -> Result<Vec<Report>, WebhookError> {
        if headers.is_empty() {
            return Err(WebhookError::Unsigned);
        }
        Ok(self.reports.lock().clone().unwrap())
    }
}

/// A book of batches that does as it is told, and notes what it was asked.
pub(crate) struct FakeBook {
    pub asked: Mutex<Vec<String>>,
    pub start: Mutex<Result<(), NotStarted>>,
    pub open: Mutex<Option<OpenBatch>>,
    pub away: AtomicBool,
    /// What is to be sent for the members of a batch.
    pub rendered: Mutex<Option<Vec<MessageRequest>>>,
    pub again: Mutex<Result<(), NotAgain>>,
}

impl FakeBook {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            start: Mutex::new(Ok(())),
            open: Mutex::default(),
            away: AtomicBool::new(false),
            rendered: Mutex::default(),
            again: Mutex::new(Ok(())),
        })
    }
    fn note<T: Send + 'static>(&self, what: String, answer: T) -> BoxFuture<'_, T> {
        self.asked.lock().push(what);
        Box::pin(std::future::ready(answer))
    }
    fn unless_away<T>(&self, answer: T) -> Result<T, Later> {
        if self.away.load(Ordering::SeqCst) { Err(Later) } else { Ok(answer) }
    }
}

/// The batch that [`FakeBook`] starts.
pub(crate) const BATCH: EntityKey = EntityKey { kind: EntityKind(13), id: [9; 16] };

impl BatchBook for FakeBook {
    fn takes(&self) -> bool {
        true
    }
    fn start(&self, sheet: Sheet) -> BoxFuture<'_, Result<EntityKey, NotStarted>> {
        let answer = *self.start.lock();
        self.note(format!("start {}", sheet.members.len()), answer.map(|()| BATCH))
    }
    fn find(&self, _shard: ShardId, _member: Member) -> BoxFuture<'_, Result<Option<OpenBatch>, Later>> {
        let open = self.open.lock().clone();
        self.note("find".to_owned(), self.unless_away(open))
    }
    fn render(&self, _members: Vec<Member>) -> BoxFuture<'_, Result<Option<Vec<MessageRequest>>, Later>> {
        let rendered = self.rendered.lock().clone();
        self.note("render".to_owned(), self.unless_away(rendered))
    }
    fn again(&self, _batch: EntityKey, absent_since: Option<Timestamp>) -> BoxFuture<'_, Result<(), NotAgain>> {
        let answer = if absent_since.is_some() { Ok(()) } else { *self.again.lock() };
        let asked = if absent_since.is_some() { "again, all are absent" } else { "again" };
        self.note(asked.to_owned(), answer)
    }
    fn close(&self, _batch: EntityKey, why: Closing) -> BoxFuture<'_, Result<(), Later>> {
        self.note(format!("close {}", why.name()), self.unless_away(()))
    }
}

/// Answers payments by script, one after the other; `Lookup` and the rest are logged by name.
pub(crate) struct FakePayments {
    pub answers: Mutex<Vec<PaymentOutcome>>,
    pub log: Mutex<Vec<(&'static str, String)>>,
}

impl FakePayments {
    /// `answers` in the order of the calls; `Unknown` when they are used up.
    pub(crate) fn new(mut answers: Vec<PaymentOutcome>) -> Self {
        answers.reverse();
        Self { answers: Mutex::new(answers), log: Mutex::new(Vec::new()) }
    }
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.log.lock().iter().map(|(name, _)| *name).collect()
    }
}

impl PaymentProvider for FakePayments {
    fn name(&self) -> &'static str {
        "fakepay"
    }
    fn perform<'a>(&'a self, request: &'a PaymentRequest, _deadline: Millis) -> BoxFuture<'a, PaymentOutcome> {
        let name = match request.operation {
            PaymentOperation::Confirm { .. } => "confirm",
            PaymentOperation::Cancel { .. } => "cancel",
            PaymentOperation::Lookup { .. } => "lookup",
        };
        self.log.lock().push((name, request.idempotency_key.clone()));
        let answer = self.answers.lock().pop();
        Box::pin(async move { answer.unwrap_or(PaymentOutcome::Unknown { cause: "no script".to_owned() }) })
    }
    fn webhook(&self, _headers: &WebhookHeaders, body: &[u8]) -> Result<Vec<String>, WebhookError> {
        Ok(vec![String::from_utf8(body.to_vec()).unwrap()])
    }
}

pub(crate) fn accepted() -> MessageOutcome {
    MessageOutcome::Accepted { provider: "fake".to_owned(), receipt: "r".to_owned(), at: START }
}

pub(crate) fn refused(code: &str, class: RefusalClass) -> MessageOutcome {
    MessageOutcome::Refused { code: code.to_owned(), class }
}

pub(crate) fn timed_out() -> MessageOutcome {
    MessageOutcome::Unknown { cause: "timeout".to_owned() }
}

pub(crate) fn message(channel: Channel, reference: &str, prior: Prior) -> MessageRequest {
    MessageRequest {
        reference: reference.to_owned(),
        purpose: Purpose::Gift,
        channel,
        template: Template::GiftArrived,
        to: Private(Address::Phone("+821000000000".to_owned())),
        variables: Vec::new(),
        link: None,
        prior,
    }
}

pub(crate) fn payment(operation: PaymentOperation, prior: Prior) -> PaymentRequest {
    PaymentRequest { order_id: "g_1".to_owned(), operation, idempotency_key: "k".to_owned(), prior }
}

pub(crate) fn confirm() -> PaymentOperation {
    PaymentOperation::Confirm { payment_key: Private("pk".to_owned()), amount: Money::krw(5_000) }
}

pub(crate) fn cancel() -> PaymentOperation {
    PaymentOperation::Cancel {
        payment_key: Private("pk".to_owned()),
        amount: Money::krw(5_000),
        reason: "expired".to_owned(),
    }
}

pub(crate) fn unknown_since(ago: Millis) -> Prior {
    Prior::Unknown { first_tried_at: START - ago }
}
