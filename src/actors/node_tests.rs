//! The runtime on a real data folder, with a small entity kind and a provider that counts: a send leaves by the
//! entity's own timer, a panicking actor loses nothing, a restart goes on where the last life stopped.

use crate::actors::door::{Ask, AskError, Door};
use crate::actors::entity::EntityMsg;
use crate::actors::node::{Node, NodeParts, ReplicaSpec};
use crate::actors::service::NodeDoor;
use crate::domain::entity::{Decision, Entity, Typed};
use crate::gateways::GatewayOptions;
use crate::persistence::folder::{Folder, OpenOptions};
use crate::providers::{
    Ability, LookupAnswer, MessageProvider, PaymentProvider, PollFailure, Span, WebhookError, WebhookHeaders,
};
use crate::types::call::{
    Address, CallOutcome, CallRequest, MessageOutcome, MessageRequest, PaymentOperation, PaymentOutcome,
    PaymentRequest, Prior, Purpose, Report, Template,
};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::effect::{CallWant, Channel, Effects, Guard, Lane, OpenAttempt, Slot};
use crate::types::ids::{EntityKey, EntityKind, Fingerprint, IdempotencyId, ShardId, Version};
use crate::types::kind::{At, AttemptStart, KindTable};
use crate::types::record::Sealed;
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// A parcel is sent once at its instant.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Parcel {
    at: Option<Timestamp>,
    /// Paid for instead of sent.
    paid: bool,
    /// A notice of it is sent instead, at least once.
    told: bool,
    open: Option<OpenAttempt>,
    sent: bool,
}

#[derive(Clone, Serialize, Deserialize)]
enum ParcelCommand {
    Post { at: Timestamp },
    Pay { at: Timestamp },
    Tell { at: Timestamp },
    Attempt(AttemptStart),
    Outcome,
    Nothing,
}

#[derive(Serialize, Deserialize)]
enum ParcelEvent {
    Posted { at: Timestamp, paid: bool },
    Told { at: Timestamp },
    Attempted(OpenAttempt),
    Sent,
}

struct Post;

impl Entity for Post {
    type State = Parcel;
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = String;
    const KIND: EntityKind = EntityKind(251);
    const PREFIX: &'static str = "parcel";

    fn decide(_: EntityKey, s: &Parcel, c: ParcelCommand, at: &At) -> Result<Decision<ParcelEvent>, String> {
        let event = match c {
            ParcelCommand::Post { .. } if s.at.is_some() => return Err("posted already".to_owned()),
            ParcelCommand::Post { at } => ParcelEvent::Posted { at, paid: false },
            ParcelCommand::Pay { at } => ParcelEvent::Posted { at, paid: true },
            ParcelCommand::Tell { at } => ParcelEvent::Told { at },
            ParcelCommand::Attempt(_) if s.sent => return Ok(Decision::unchanged()),
            ParcelCommand::Attempt(AttemptStart { claim, not_after, .. }) => {
                ParcelEvent::Attempted(OpenAttempt { claim, started_at: at.now, not_after })
            }
            ParcelCommand::Outcome if s.open.is_some() || s.told => ParcelEvent::Sent,
            ParcelCommand::Outcome | ParcelCommand::Nothing => return Ok(Decision::unchanged()),
        };
        Ok(Decision::events(vec![event]))
    }
    fn evolve(s: &mut Parcel, e: &ParcelEvent) {
        match e {
            ParcelEvent::Posted { at, paid } => (s.at, s.paid) = (Some(*at), *paid),
            ParcelEvent::Told { at } => (s.at, s.told) = (Some(*at), true),
            ParcelEvent::Attempted(open) => s.open = Some(*open),
            ParcelEvent::Sent => (s.sent, s.open) = (true, None),
        }
    }
    fn wants(_: EntityKey, s: &Parcel) -> Effects {
        let mut effects = Effects::default();
        if let (Some(due), false) = (s.at, s.sent) {
            let (lane, guard) = match (s.paid, s.told) {
                (true, _) => (Lane::Payment, Guard::Fenced),
                (false, true) => (Lane::Notice(Channel::Sms), Guard::Repeatable),
                (false, false) => (Lane::Send(Channel::Sms), Guard::Fenced),
            };
            effects.calls.push(CallWant { slot: Slot(1), lane, due, guard, open: s.open });
        }
        effects
    }
    fn sealed(_: &Parcel) -> Option<&Sealed> {
        None
    }
    fn request(key: EntityKey, s: &Parcel, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        if s.paid {
            return Some(CallRequest::Payment(PaymentRequest {
                order_id: key.hex(),
                operation: PaymentOperation::Lookup { payment_key: Private(String::new()) },
                idempotency_key: key.hex(),
                prior: Prior::None,
            }));
        }
        Some(CallRequest::Message(MessageRequest {
            reference: format!("parcel_{}.0.1", key.hex()),
            purpose: Purpose::Gift,
            channel: Channel::Sms,
            template: Template::GiftArrived,
            to: Private(Address::Phone("+821012345678".to_owned())),
            variables: Vec::new(),
            link: None,
            prior: Prior::None,
        }))
    }
    fn timer_command(_: Slot) -> ParcelCommand {
        ParcelCommand::Nothing
    }
    fn attempt_command(start: AttemptStart) -> ParcelCommand {
        ParcelCommand::Attempt(start)
    }
    fn outcome_command(_: Vec<(Slot, CallOutcome)>) -> ParcelCommand {
        ParcelCommand::Outcome
    }
    fn report_command(_: Report) -> ParcelCommand {
        ParcelCommand::Nothing
    }
    fn describe(_: &ParcelEvent) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// Wall time is set by hand; boot time is real enough for timers.
struct HandClock {
    now: Mutex<Timestamp>,
    moved: watch::Sender<u64>,
    started: tokio::time::Instant,
}

impl HandClock {
    fn new() -> Arc<Self> {
        let now = Mutex::new(Timestamp(1_800_000_000_000));
        Arc::new(Self { now, moved: watch::channel(0).0, started: tokio::time::Instant::now() })
    }
    fn advance(&self, span: Millis) {
        let mut now = self.now.lock();
        *now = *now + span;
        drop(now);
        self.moved.send_modify(|count| *count += 1);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.now.lock()
    }
    fn boot(&self) -> BootMillis {
        BootMillis(u64::try_from(self.started.elapsed().as_millis()).unwrap())
    }
    fn steady(&self) -> Timestamp {
        self.now()
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

/// Accepts everything and counts by reference.
#[derive(Default)]
struct Counting {
    sends: Mutex<BTreeMap<String, u32>>,
    changed: tokio::sync::Notify,
    /// Never answers the first send.
    swallows_first: bool,
    /// How long a send takes.
    takes_ms: AtomicU64,
    /// Finds what it was sent before.
    remembers: AtomicBool,
}

impl Counting {
    fn of(&self, key: EntityKey) -> u32 {
        self.sends.lock().get(&format!("parcel_{}.0.1", key.hex())).copied().unwrap_or(0)
    }
    async fn until(&self, key: EntityKey, count: u32) {
        loop {
            let changed = self.changed.notified();
            if self.of(key) >= count {
                return;
            }
            changed.await;
        }
    }
}

impl MessageProvider for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn channel(&self) -> Channel {
        Channel::Sms
    }
    fn ability(&self) -> Ability {
        Ability { key_window: Some(Millis::from_mins(10)), lookup: true, batch_max: 1 }
    }
    fn send<'a>(&'a self, batch: &'a [MessageRequest], _: Millis) -> BoxFuture<'a, Vec<MessageOutcome>> {
        for request in batch {
            *self.sends.lock().entry(request.reference.clone()).or_default() += 1;
        }
        self.changed.notify_waiters();
        let swallowed = self.swallows_first && self.sends.lock().values().sum::<u32>() == 1;
        let accepted = || MessageOutcome::Accepted { provider: "c".into(), receipt: "r".into(), at: Timestamp(0) };
        let takes = std::time::Duration::from_millis(self.takes_ms.load(Ordering::Relaxed));
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            if swallowed {
                std::future::pending::<()>().await;
            }
            batch.iter().map(|_| accepted()).collect()
        })
    }
    fn lookup<'a>(&'a self, request: &'a MessageRequest, _: Millis) -> BoxFuture<'a, LookupAnswer> {
        let known = self.remembers.load(Ordering::Relaxed) && self.sends.lock().contains_key(&request.reference);
        let found = LookupAnswer::Found { receipt: "r".into(), at: Timestamp(0) };
        Box::pin(async move { if known { found } else { LookupAnswer::Absent } })
    }
    fn poll(&self, _: Span, _: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn webhook(&self, _: &WebhookHeaders, _: &[u8]) -> Result<Vec<Report>, WebhookError> {
        Ok(Vec::new())
    }
}

/// Answers nothing while it is down, and counts by order.
struct Till {
    up: watch::Sender<bool>,
    captured: Mutex<BTreeMap<String, u32>>,
}

impl Till {
    fn new(up: bool) -> Arc<Self> {
        Arc::new(Self { up: watch::channel(up).0, captured: Mutex::default() })
    }
}

impl PaymentProvider for Till {
    fn name(&self) -> &'static str {
        "till"
    }
    fn perform<'a>(&'a self, request: &'a PaymentRequest, _: Millis) -> BoxFuture<'a, PaymentOutcome> {
        let mut up = self.up.subscribe();
        Box::pin(async move {
            up.wait_for(|up| *up).await.unwrap();
            *self.captured.lock().entry(request.order_id.clone()).or_default() += 1;
            PaymentOutcome::NotCaptured { code: "none".into() }
        })
    }
    fn webhook(&self, _: &WebhookHeaders, _: &[u8]) -> Result<Vec<String>, WebhookError> {
        Ok(Vec::new())
    }
}

struct Bench {
    node: Arc<Node>,
    door: NodeDoor,
    clock: Arc<HandClock>,
    provider: Arc<Counting>,
}

async fn start(dir: &Path, clock: Arc<HandClock>, provider: Arc<Counting>) -> Bench {
    start_with(dir, clock, provider, Till::new(true), GatewayOptions::default()).await
}

async fn start_with(
    dir: &Path,
    clock: Arc<HandClock>,
    provider: Arc<Counting>,
    till: Arc<Till>,
    gateway_options: GatewayOptions,
) -> Bench {
    let options = OpenOptions { shards: 4, create: true, ballast_bytes: 0, ..OpenOptions::default() };
    let node = Node::start(NodeParts {
        folder: Folder::open(dir, options).unwrap(),
        link: None,
        introduction: None,
        bootstrap: Vec::new(),
        replicas: (0..4).map(|shard| ReplicaSpec::lone(ShardId(shard), 1)).collect(),
        kinds: KindTable::new(vec![Arc::new(Typed::<Post>::default())]),
        clock: clock.clone(),
        gateway_options,
        messages: vec![provider.clone()],
        payments: till,
        shipping: None,
        dev: true,
    })
    .await
    .unwrap();
    while !node.is_ready() {
        tokio::task::yield_now().await;
    }
    Bench { door: NodeDoor::new(node.clone(), None), node, clock, provider }
}

fn key(number: u8) -> EntityKey {
    EntityKey { kind: Post::KIND, id: [number; 16] }
}

fn post(number: u8, at: Timestamp) -> Ask {
    let idempotency = Some((IdempotencyId([number; 16]), Fingerprint([1; 16])));
    Ask { idempotency, ..plain(key(number), &ParcelCommand::Post { at }) }
}

fn plain(key: EntityKey, command: &ParcelCommand) -> Ask {
    Ask { key, command: codec::encode(command), idempotency: None, if_version: None, new_key: None }
}

fn rt() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_parcel_leaves_at_its_instant_never_before_and_once() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let at = bench.clock.now() + Millis::from_mins(20);
        let answer = bench.door.ask(post(1, at)).await.unwrap();
        assert_eq!(answer.version, Version(1));
        bench.clock.advance(Millis::from_mins(19));
        bench.door.read(key(1)).await.unwrap();
        assert_eq!(bench.provider.of(key(1)), 0);
        bench.clock.advance(Millis::from_mins(1));
        bench.provider.until(key(1), 1).await;
        while bench.door.read(key(1)).await.unwrap().unwrap().version < Version(3) {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.provider.of(key(1)), 1);
        bench.node.stop().await;
    });
}

#[test]
fn the_send_leaves_by_the_entitys_own_timer_and_a_panic_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let at = bench.clock.now() + Millis::from_secs(2);
        bench.door.ask(post(1, at)).await.unwrap();
        assert!(bench.node.shared.live.contains_key(&key(1)), "due soon: it stays in memory");
        bench.node.shared.deliver(key(1), EntityMsg::PanicForTest);
        bench.clock.advance(Millis::from_secs(2));
        bench.provider.until(key(1), 1).await;
        assert!(bench.node.shared.counters.entity_restarts.load(std::sync::atomic::Ordering::Relaxed) >= 1);
        bench.node.stop().await;
    });
}

#[test]
fn an_entity_with_nothing_due_soon_leaves_memory_and_comes_back_for_its_send() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let at = bench.clock.now() + Millis::from_mins(20);
        bench.door.ask(post(1, at)).await.unwrap();
        while bench.node.shared.live.contains_key(&key(1)) {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.provider.of(key(1)), 0);
        bench.clock.advance(Millis::from_mins(20));
        bench.provider.until(key(1), 1).await;
        bench.node.stop().await;
    });
}

#[test]
fn an_attempt_that_outlives_its_actor_is_waited_out_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let provider = Arc::new(Counting { swallows_first: true, ..Counting::default() });
        let bench = start(folder.path(), HandClock::new(), provider).await;
        bench.door.ask(post(1, bench.clock.now())).await.unwrap();
        bench.provider.until(key(1), 1).await;
        bench.node.shared.deliver(key(1), EntityMsg::PanicForTest);
        // Long enough for a quiet entity to leave memory; the loader has gone past its row by now.
        let now = bench.clock.boot();
        while bench.clock.boot().0 < now.0 + 2 * crate::types::limits::PASSIVATE_AFTER_MS {
            tokio::task::yield_now().await;
        }
        bench.clock.advance(Millis::from_secs(14));
        let again = bench.provider.until(key(1), 2);
        tokio::time::timeout(std::time::Duration::from_secs(5), again).await.expect("tried again once waited out");
    });
}

#[test]
fn a_repeat_under_the_same_key_gets_the_first_answer_before_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let clock = HandClock::new();
        let bench = start(folder.path(), clock.clone(), Arc::default()).await;
        let at = clock.now() + Millis::from_hours(20);
        let first = bench.door.ask(post(1, at)).await.unwrap();
        let again = bench.door.ask(post(1, at)).await.unwrap();
        assert!(!first.replayed && again.replayed);
        assert_eq!((first.version, &first.state), (again.version, &again.state));
        let mut other = post(1, at);
        other.idempotency = Some((IdempotencyId([1; 16]), Fingerprint([2; 16])));
        assert_eq!(bench.door.ask(other).await.unwrap_err(), AskError::KeyReused);
        bench.node.stop().await;
        drop(bench);
        let bench = start(folder.path(), clock, Arc::default()).await;
        let again = bench.door.ask(post(1, at)).await.unwrap();
        assert!(again.replayed);
        assert_eq!(first.state, again.state);
        bench.node.stop().await;
    });
}

#[test]
fn what_was_posted_before_a_restart_is_sent_after_it() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let clock = HandClock::new();
        let provider: Arc<Counting> = Arc::default();
        let at = clock.now() + Millis::from_mins(20);
        let bench = start(folder.path(), clock.clone(), provider.clone()).await;
        for number in 1..=40 {
            bench.door.ask(post(number, at)).await.unwrap();
        }
        bench.node.stop().await;
        drop(bench);
        clock.advance(Millis::from_mins(30));
        let bench = start(folder.path(), clock, provider.clone()).await;
        for number in 1..=40 {
            provider.until(key(number), 1).await;
            assert_eq!(provider.of(key(number)), 1);
        }
        bench.node.stop().await;
    });
}

#[cfg(test)]
#[path = "leaving_tests.rs"]
mod leaving;

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod cluster;
#[cfg(test)]
#[path = "growth_tests.rs"]
mod growth;
#[cfg(test)]
#[path = "handing_tests.rs"]
mod handing;
#[cfg(test)]
#[path = "notices_tests.rs"]
mod notices;
#[cfg(test)]
#[path = "outage_tests.rs"]
mod outage;
