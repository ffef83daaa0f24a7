//! An in-memory [`Door`] for this module's tests: a map of states behind the real kinds' decide and evolve. No
//! timers and no providers: a test calls [`MemoryDoor::settle`], which performs what the states want, kindly.

use super::trouble::Loss;
pub use super::trouble::Trouble;
use crate::actors::door::{Answer, Ask, AskError, DevDoor, Door, IndexPage, JournalRow, OpsView, WebhookAnswer};
use crate::types::call::{
    CallOutcome, CallRequest, EntityOutcome, EntityRequest, MessageOutcome, PaymentOperation, PaymentOutcome,
    ShipmentOperation, ShipmentOutcome,
};
use crate::types::effect::{Guard, IndexTag, Lane};
use crate::types::hint::AvailabilityHints;
use crate::types::ids::{
    Claim, CommandId, EntityKey, Fingerprint, IdempotencyId, Incarnation, NodeId, ShardId, Term, Version,
};
use crate::types::kind::{At, AttemptStart, Decided, KindTable, Live};
use crate::types::level::{FeatureLevel, LEVELS};
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::record::{Erasure, Sealed, WrappedKey};
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering};
use tokio::sync::watch;

pub const SECRET: [u8; 32] = [42; 32];
const SHARDS: u16 = 8;

/// A clock that only the test moves.
pub struct TestClock {
    now: AtomicI64,
    boot: AtomicU64,
    moved: watch::Sender<u64>,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }
    fn boot(&self) -> BootMillis {
        BootMillis(self.boot.load(Ordering::SeqCst))
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

#[derive(Default)]
struct Entity {
    /// State after each record; the first is version 1.
    states: Vec<Vec<u8>>,
    rows: Vec<JournalRow>,
    erased: bool,
}

#[derive(Default)]
struct World {
    entities: BTreeMap<EntityKey, Entity>,
    replies: BTreeMap<IdempotencyId, (Fingerprint, EntityKey, Version)>,
}

pub struct MemoryDoor {
    kinds: KindTable,
    pub clock: Arc<TestClock>,
    world: Mutex<World>,
    changes: watch::Sender<u64>,
    drawn: AtomicU64,
    pub dev: AtomicBool,
    /// Whether an entity's calls to others are made at once, as the runtime makes them.
    pub relays: AtomicBool,
    pub trouble: Mutex<Trouble>,
    pub loss: Loss,
    /// Entities whose shard has no leader: who reads one waits.
    pub leaderless: Mutex<BTreeSet<EntityKey>>,
    pub hints: Mutex<Option<Arc<dyn AvailabilityHints>>>,
    /// The cluster's feature level.
    pub level: AtomicU16,
    /// Whether the names of all owners have one digest, so that an owner's rows are everybody's.
    pub collides: AtomicBool,
    /// What operators have changed about the cluster.
    orders: Mutex<BTreeMap<IdempotencyId, Fingerprint>>,
}

impl MemoryDoor {
    pub fn new(now: &str) -> Arc<Self> {
        let now = Timestamp::parse_rfc3339(now).unwrap();
        let clock = TestClock { now: AtomicI64::new(now.0), boot: AtomicU64::new(1_000), moved: watch::Sender::new(0) };
        Arc::new(Self {
            kinds: crate::domain::kinds::kinds(),
            clock: Arc::new(clock),
            world: Mutex::default(),
            changes: watch::Sender::new(0),
            drawn: AtomicU64::new(0),
            dev: AtomicBool::new(true),
            relays: AtomicBool::new(true),
            trouble: Mutex::new(Trouble::None),
            loss: Loss::default(),
            leaderless: Mutex::default(),
            hints: Mutex::new(None),
            level: AtomicU16::new(LEVELS.highest.0),
            collides: AtomicBool::new(false),
            orders: Mutex::default(),
        })
    }

    pub fn pass(&self, span: Millis) {
        self.clock.now.fetch_add(span.0, Ordering::SeqCst);
        self.clock.boot.fetch_add(u64::try_from(span.0).unwrap(), Ordering::SeqCst);
    }

    /// Commands one entity as the runtime would; records and replies are kept.
    fn command(&self, ask: Ask) -> Result<Answer, AskError> {
        let mut world = self.world.lock();
        if let Some((id, fingerprint)) = ask.idempotency
            && let Some((known, key, version)) = world.replies.get(&id)
        {
            if *known != fingerprint {
                return Err(AskError::KeyReused);
            }
            let state = world.entities[key].states[usize::try_from(version.0).unwrap() - 1].clone();
            return Ok(Answer { key: *key, version: *version, state, replayed: true, unwritten: false });
        }
        let entity = world.entities.entry(ask.key).or_default();
        let version = Version(entity.states.len() as u64);
        let at = At { now: self.clock.now(), command_id: CommandId(ask.idempotency.map_or([0; 16], |(id, _)| id.0)) };
        let decided = self.decide(ask.key, entity, &ask, version, &at);
        let result = match decided {
            Ok(Some(erase)) => {
                entity.erased = (entity.erased && ask.new_key.is_none()) || erase != Erasure::Nothing;
                let (version, state) = (Version(entity.states.len() as u64), entity.states.last().cloned().unwrap());
                if let Some((id, fingerprint)) = ask.idempotency {
                    world.replies.insert(id, (fingerprint, ask.key, version));
                }
                Ok(Answer { key: ask.key, version, state, replayed: false, unwritten: false })
            }
            Ok(None) => {
                let state = entity.states.last().cloned().ok_or(AskError::Unavailable)?;
                Ok(Answer { key: ask.key, version, state, replayed: false, unwritten: false })
            }
            Err(error) => Err(error),
        };
        if world.entities.get(&ask.key).is_some_and(|entity| entity.states.is_empty()) {
            world.entities.remove(&ask.key);
        }
        drop(world);
        self.changes.send_modify(|count| *count += 1);
        result
    }

    fn decide(
        &self,
        key: EntityKey,
        entity: &mut Entity,
        ask: &Ask,
        version: Version,
        at: &At,
    ) -> Result<Option<Erasure>, AskError> {
        if ask.if_version.is_some_and(|wanted| wanted != version) {
            return Err(AskError::VersionMoved { version });
        }
        let mut live = self.load(key, entity.states.last().map(Vec::as_slice));
        match live.decide(&ask.command, at).map_err(|_| AskError::Malformed)? {
            Decided::Rejected(rejection) => Err(AskError::Rejected { rejection, version }),
            Decided::Unchanged => Ok(None),
            Decided::Events { events, erase } => {
                live.evolve(&events).unwrap();
                entity.states.push(live.encode());
                entity.rows.push(JournalRow { version: version.next(), at: at.now, events });
                Ok(Some(erase))
            }
        }
    }

    fn load(&self, key: EntityKey, state: Option<&[u8]>) -> Box<dyn Live> {
        self.kinds.get(key.kind).unwrap().load(key, state).unwrap()
    }

    fn lives(&self) -> Vec<(EntityKey, Box<dyn Live>)> {
        let world = self.world.lock();
        let live =
            |(key, entity): (&EntityKey, &Entity)| (*key, self.load(*key, entity.states.last().map(Vec::as_slice)));
        world.entities.iter().map(live).collect()
    }

    fn send(&self, key: EntityKey, command: Vec<u8>) -> bool {
        let ask = Ask { key, command, idempotency: None, if_version: None, new_key: None };
        self.command(ask).is_ok()
    }

    /// What another entity says to a call.
    fn ask_other(&self, request: EntityRequest) -> CallOutcome {
        let EntityRequest { target: key, command, command_id: _ } = request;
        let answer = self.command(Ask { key, command, idempotency: None, if_version: None, new_key: None });
        CallOutcome::Entity(match answer {
            Ok(answer) => EntityOutcome::Done { state: answer.state },
            // Already so, and there is nothing yet.
            Err(AskError::Unavailable) => EntityOutcome::Done { state: Vec::new() },
            Err(AskError::Rejected { rejection, .. }) => EntityOutcome::Rejected { rejection },
            Err(other) => EntityOutcome::Unknown { cause: other.to_string() },
        })
    }

    /// Makes an entity's calls to others.
    fn relay(&self, key: EntityKey) {
        let Some((_, live)) = self.lives().into_iter().find(|(known, _)| *known == key) else { return };
        for call in live.wants().calls.iter().filter(|call| call.lane == Lane::Entity) {
            if let Some(CallRequest::Entity(request)) = live.request(call.slot, None) {
                let outcome = self.ask_other(request);
                self.send(key, live.outcome_command(vec![(call.slot, outcome)]));
            }
        }
    }

    /// As the runtime, which makes calls that a command led to behind its answer.
    fn ask_and_relay(&self, ask: Ask) -> Result<Answer, AskError> {
        let key = ask.key;
        let answer = self.command(ask);
        if self.relays.load(Ordering::SeqCst) {
            self.relay(key);
        }
        if answer.is_ok() {
            self.loss.begin();
        }
        answer
    }

    /// Performs everything that is due, with outcomes of `answer`, until nothing is.
    pub fn settle_with(&self, answer: &dyn Fn(&CallRequest, Timestamp) -> CallOutcome) {
        for _round in 0..200 {
            let now = self.clock.now();
            let mut acted = false;
            for (key, live) in self.lives() {
                let wants = live.wants();
                for timer in wants.timers.iter().filter(|timer| timer.due <= now) {
                    acted |= self.send(key, live.timer_command(timer.slot));
                }
                for call in wants.calls.iter().filter(|call| call.due <= now && call.open.is_none()) {
                    if call.guard == Guard::Fenced {
                        let claim = Claim { term: Term(1), node: NodeId(1), incarnation: Incarnation(1) };
                        let start = AttemptStart { slot: call.slot, claim, not_after: ATTEMPT_NOT_AFTER };
                        if !self.send(key, live.attempt_command(start)) {
                            continue;
                        }
                    }
                    let now_live = self.lives().into_iter().find(|(known, _)| *known == key).unwrap().1;
                    let personal = now_live.sealed().map(|sealed| scramble(&sealed.ciphertext));
                    let Some(request) = now_live.request(call.slot, personal.as_deref()) else { continue };
                    let outcome = match request {
                        CallRequest::Entity(request) => self.ask_other(request),
                        request @ (CallRequest::Message(_) | CallRequest::Payment(_) | CallRequest::Shipment(_)) => {
                            answer(&request, now)
                        }
                    };
                    acted |= self.send(key, now_live.outcome_command(vec![(call.slot, outcome)]));
                }
            }
            if !acted {
                return;
            }
        }
        panic!("the entities never settle");
    }

    /// Everything works at the first try.
    pub fn settle(&self) {
        self.settle_with(&kind_answer);
    }

    pub fn erase_everything(&self) {
        for entity in self.world.lock().entities.values_mut() {
            entity.erased = true;
        }
    }
}

/// Providers that always say yes.
pub fn kind_answer(request: &CallRequest, now: Timestamp) -> CallOutcome {
    match request {
        CallRequest::Message(message) => CallOutcome::Message(MessageOutcome::Accepted {
            provider: "test".to_owned(),
            receipt: message.reference.clone(),
            at: now,
        }),
        CallRequest::Payment(payment) => CallOutcome::Payment(match &payment.operation {
            PaymentOperation::Confirm { amount, .. } => {
                PaymentOutcome::Captured { provider: "test".to_owned(), amount: *amount, at: now }
            }
            PaymentOperation::Cancel { amount, .. } => PaymentOutcome::Refunded { amount: *amount, at: now },
            PaymentOperation::Lookup { .. } => PaymentOutcome::NotCaptured { code: "none".to_owned() },
        }),
        CallRequest::Shipment(shipment) => CallOutcome::Shipment(match &shipment.operation {
            ShipmentOperation::Prepare { .. } => {
                let tracking = shipment.reference.clone();
                ShipmentOutcome::Prepared { provider: "test".to_owned(), tracking, at: now }
            }
            ShipmentOperation::Cancel { .. } => ShipmentOutcome::Cancelled { at: now },
            ShipmentOperation::Lookup => ShipmentOutcome::Absent,
        }),
        // The door itself performs them, see `settle_with`.
        CallRequest::Entity(_) => CallOutcome::not_sent(request, "no other entities here"),
    }
}

fn scramble(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

impl Door for MemoryDoor {
    fn kinds(&self) -> &KindTable {
        &self.kinds
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }
    fn feature_level(&self) -> FeatureLevel {
        FeatureLevel(self.level.load(Ordering::SeqCst))
    }
    fn shard_count(&self) -> u16 {
        SHARDS
    }
    fn shard_of(&self, key: &EntityKey) -> ShardId {
        ShardId(u16::try_from(key.home() % u64::from(SHARDS)).unwrap())
    }
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, AskError>> {
        let trouble = self.trouble.lock().meet();
        trouble.unwrap_or_else(|| ready(self.ask_and_relay(ask)).boxed())
    }
    fn read(&self, key: EntityKey) -> BoxFuture<'_, Result<Option<Answer>, AskError>> {
        if self.leaderless.lock().contains(&key) {
            return std::future::pending().boxed();
        }
        if let Err(lost) = self.loss.check("read") {
            return ready(Err(lost)).boxed();
        }
        let world = self.world.lock();
        let answer = world.entities.get(&key).map(|entity| Answer {
            key,
            version: Version(entity.states.len() as u64),
            state: entity.states.last().cloned().unwrap(),
            replayed: false,
            unwritten: false,
        });
        ready(Ok(answer)).boxed()
    }
    fn glance(&self, key: EntityKey) -> BoxFuture<'_, Result<Option<Answer>, AskError>> {
        self.read(key)
    }
    fn beyond(&self, key: EntityKey, after: Version) -> BoxFuture<'_, Result<Answer, AskError>> {
        async move {
            self.changed(key, after).await?;
            self.read(key).await?.ok_or(AskError::Unavailable)
        }
        .boxed()
    }
    fn journal(
        &self,
        key: EntityKey,
        after: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<JournalRow>, AskError>> {
        let world = self.world.lock();
        let rows = world.entities.get(&key).map_or(&[][..], |entity| &entity.rows);
        let rows = rows.iter().filter(|row| row.version > after).take(limit).cloned().collect();
        ready(Ok(rows)).boxed()
    }
    fn changed(&self, key: EntityKey, after: Version) -> BoxFuture<'_, Result<Version, AskError>> {
        let mut changes = self.changes.subscribe();
        async move {
            self.loss.check("changed")?;
            loop {
                let version = self.world.lock().entities.get(&key).map_or(0, |entity| entity.states.len() as u64);
                if version > after.0 {
                    return Ok(Version(version));
                }
                changes.changed().await.map_err(|_| AskError::Unavailable)?;
            }
        }
        .boxed()
    }
    fn resolve(
        &self,
        shard: ShardId,
        index: IndexTag,
        key: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<EntityKey>, AskError>> {
        let holds = |live: &dyn Live| live.wants().indexes.iter().any(|want| want.index == index && want.key == key);
        let lives = self.lives().into_iter().filter(|(known, _)| self.shard_of(known) == shard);
        let found = lives.filter(|(_, live)| holds(live.as_ref())).map(|(key, _)| key).next();
        ready(Ok(found)).boxed()
    }
    fn list(
        &self,
        index: IndexTag,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<IndexPage, AskError>> {
        let mut rows: Vec<(Vec<u8>, EntityKey)> = Vec::new();
        for (entity, live) in self.lives() {
            let wants = live.wants().indexes.into_iter().filter(|want| want.index == index);
            let is_there = |key: &[u8]| self.collides.load(Ordering::SeqCst) || key.starts_with(&prefix);
            rows.extend(wants.filter(|want| is_there(&want.key)).map(|want| (want.key, entity)));
        }
        rows.sort();
        rows.retain(|(key, _)| after.as_ref().is_none_or(|after| key > after));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(key, _)| key.clone());
        ready(Ok(IndexPage { rows, next })).boxed()
    }
    fn seal_new(&self, _key: EntityKey, personal: &[u8]) -> (Sealed, WrappedKey) {
        let sealed = Sealed { nonce: [0; 12], ciphertext: scramble(personal) };
        (sealed, WrappedKey { period: 1, nonce: [0; 12], ciphertext: vec![0; 32] })
    }
    fn seal(&self, key: EntityKey, personal: Vec<u8>) -> BoxFuture<'_, Result<Option<Sealed>, AskError>> {
        let erased = self.world.lock().entities.get(&key).is_none_or(|entity| entity.erased);
        let sealed = (!erased).then(|| Sealed { nonce: [1; 12], ciphertext: scramble(&personal) });
        ready(Ok(sealed)).boxed()
    }
    fn unseal(&self, key: EntityKey, sealed: Sealed) -> BoxFuture<'_, Result<Option<Vec<u8>>, AskError>> {
        let erased = self.world.lock().entities.get(&key).is_none_or(|entity| entity.erased);
        let lost = self.loss.check("unseal");
        ready(lost.map(|()| (!erased).then(|| scramble(&sealed.ciphertext)))).boxed()
    }
    fn cluster_secret(&self) -> &[u8; 32] {
        &SECRET
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.drawn.fetch_add(1, Ordering::SeqCst);
            let mixed = drawn.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            chunk.copy_from_slice(&mixed[..chunk.len()]);
        }
    }
    fn webhook(&self, provider: String, headers: Vec<(String, String)>, body: Vec<u8>) -> BoxFuture<'_, WebhookAnswer> {
        let signed = headers.iter().any(|(name, value)| name == "x-signature" && value == "good");
        let answer = match provider.as_str() {
            "toss" if !signed => WebhookAnswer::Unsigned,
            "toss" if body.starts_with(b"{") => WebhookAnswer::Taken,
            "toss" => WebhookAnswer::Malformed,
            _ => WebhookAnswer::UnknownProvider,
        };
        ready(answer).boxed()
    }
    fn ops(&self, view: OpsView) -> BoxFuture<'_, serde_json::Value> {
        ready(serde_json::json!({"view": format!("{view:?}")})).boxed()
    }
    fn change_cluster(
        &self,
        change: crate::actors::door::ClusterChange,
        mark: (IdempotencyId, Fingerprint),
    ) -> BoxFuture<'_, Result<crate::actors::door::ClusterDone, crate::actors::door::ClusterError>> {
        let told = serde_json::json!({ "done": format!("{change:?}") });
        let mut orders = self.orders.lock();
        let done = match orders.insert(mark.0, mark.1) {
            Some(first) if first != mark.1 => Err(AskError::KeyReused.into()),
            before => Ok(crate::actors::door::ClusterDone { told, replayed: before.is_some() }),
        };
        ready(done).boxed()
    }
    fn copy(&self, part: crate::actors::door::CopyPart) -> BoxFuture<'_, Option<Vec<u8>>> {
        ready(Some(format!("{part:?}").into_bytes())).boxed()
    }
    fn dev(&self) -> Option<Arc<dyn DevDoor>> {
        self.dev.load(Ordering::SeqCst).then(|| Arc::new(TestDev(self.clock.clone())) as Arc<dyn DevDoor>)
    }
    fn ready(&self) -> bool {
        true
    }
    fn hints(&self) -> Option<Arc<dyn AvailabilityHints>> {
        self.hints.lock().clone()
    }
}

struct TestDev(Arc<TestClock>);

impl DevDoor for TestDev {
    fn advance(&self, seconds: i64) -> BoxFuture<'_, (Timestamp, bool)> {
        self.0.now.fetch_add(seconds * 1_000, Ordering::SeqCst);
        ready((self.0.now(), true)).boxed()
    }
}
