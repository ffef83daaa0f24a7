//! The lasting part of a gateway: its provider, its counters and the way to its actor, which may be restarted.
//!
//! Permits and calls hold the desk, not the actor, so that none of them is lost with an actor: their ends are counted
//! here first and then told to whichever actor serves the lane now.

use crate::gateways::actor::GatewayMsg;
use crate::gateways::batch_book::BatchBook;
use crate::gateways::batch_flow::Slip;
use crate::gateways::batching::{self, Batching, Waiting};
use crate::gateways::call::Call;
use crate::gateways::lane::{Hold, QueueBounds};
use crate::gateways::meter::{GatewayState, LaneStatus, Meter, QuotaState, lane_name};
use crate::gateways::options::{GatewayOptions, LaneOptions, WhenOpen};
use crate::gateways::perform::{self, Ended, Fence};
use crate::gateways::policy::{Class, Health, Open, Policy, View};
use crate::gateways::{Asker, Busy, GrantSink, OutcomeSink, Permit};
use crate::providers::{MessageProvider, PaymentProvider, ShippingProvider};
use crate::types::call::{CallOutcome, CallRequest, RefusalClass};
use crate::types::effect::{Channel, Lane};
use crate::types::quota::{FleetQuota, QuotaAnswer, QuotaAsk};
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use futures_util::FutureExt;
use parking_lot::{Mutex, RwLock};
use ractor::ActorRef;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Code of a refusal without a call: the breaker is open, or the provider asked for a long pause.
pub const PROVIDER_AWAY: &str = "provider_away";
/// Code of a refusal on a channel that no provider serves.
pub const NO_PROVIDER: &str = "no_provider";

/// A pause that a provider asks for is waited out up to this long.
pub(crate) const PAUSE_HELD: Millis = Millis::from_secs(60);

/// Stands for the number of members when nobody can be asked: the smallest part there is.
const MEMBERS_UNKNOWN: u32 = 64;

/// Whom a gateway calls.
pub(crate) enum Carrier {
    Message(Arc<dyn MessageProvider>),
    Payment(Arc<dyn PaymentProvider>),
    /// `None`: no provider is configured, and every call waits for one.
    Shipment(Option<Arc<dyn ShippingProvider>>),
    /// No provider serves the channel: its messages are refused towards the next one.
    Absent(Channel),
}

impl Carrier {
    fn name(&self) -> &'static str {
        match self {
            Self::Message(provider) => provider.name(),
            Self::Payment(provider) => provider.name(),
            Self::Shipment(provider) => provider.as_ref().map_or("none", |provider| provider.name()),
            Self::Absent(_) => "none",
        }
    }

    fn lane(&self, class: Class) -> Lane {
        let of = |channel| match class {
            Class::Send => Lane::Send(channel),
            Class::Notice => Lane::Notice(channel),
        };
        match self {
            Self::Message(provider) => of(provider.channel()),
            Self::Payment(_) => Lane::Payment,
            Self::Shipment(_) => Lane::Shipment,
            Self::Absent(channel) => of(*channel),
        }
    }
}

/// What a permit was granted for.
#[derive(Clone, Copy)]
pub(super) struct Grant {
    pub class: Class,
    pub hold: Hold,
    pub asker: Asker,
}

/// One gateway, apart from its queue.
pub(crate) struct Desk {
    carrier: Carrier,
    pub clock: Arc<dyn Clock>,
    options: GatewayOptions,
    lane: LaneOptions,
    seed: u64,
    runtime: Handle,
    actor: RwLock<Option<ActorRef<GatewayMsg>>>,
    quota: OnceLock<Arc<dyn FleetQuota>>,
    /// `None`: its provider takes no batches.
    batching: Option<Batching>,
    sends: Arc<Meter>,
    notices: Arc<Meter>,
    view: Mutex<View>,
    /// The instant at which the lane goes on by itself.
    wake: Mutex<Option<Timestamp>>,
    shut: AtomicBool,
    in_flight: AtomicUsize,
    idle: Notify,
}

impl Desk {
    pub(crate) fn new(
        carrier: Carrier,
        options: &GatewayOptions,
        lane: &LaneOptions,
        number: u64,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Arc<Self> {
        let now = clock.now();
        let (sends, notices) =
            (Meter::new(carrier.lane(Class::Send), now), Meter::new(carrier.lane(Class::Notice), now));
        let seed = options.seed.wrapping_mul(31).wrapping_add(number);
        let view = Policy::new(options.rules(lane), seed, now).view();
        let batching = match &carrier {
            Carrier::Message(provider) => {
                Batching::of(provider, lane, &lane_name(carrier.lane(Class::Send)), (&clock, &runtime))
            }
            Carrier::Payment(_) | Carrier::Shipment(_) | Carrier::Absent(_) => None,
        };
        Arc::new(Self {
            carrier,
            options: options.clone(),
            lane: lane.clone(),
            seed,
            runtime,
            actor: RwLock::new(None),
            quota: OnceLock::new(),
            batching,
            sends,
            notices,
            view: Mutex::new(view),
            wake: Mutex::new(None),
            shut: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            clock,
        })
    }

    pub(crate) fn name(&self) -> String {
        lane_name(self.carrier.lane(Class::Send))
    }

    pub(crate) fn policy(&self) -> Policy {
        let now = self.clock.now();
        let mut policy = Policy::new(self.options.rules(&self.lane), self.seed, now);
        if self.quota.get().is_some() {
            policy.join_fleet(now);
        }
        policy
    }

    /// The lane's quota is the fleet's from here on.
    pub(crate) fn share_quota(&self, quota: &Arc<dyn FleetQuota>) {
        if self.quota.set(Arc::clone(quota)).is_ok() {
            // An actor that is just being started anew finds the quota by itself.
            let _ = self.tell(GatewayMsg::Fleet);
        }
    }

    /// Where batches are written down and found.
    pub(crate) fn keep_batches(&self, book: &Arc<dyn BatchBook>) {
        if let Some(batching) = &self.batching {
            batching.keep(book);
        }
    }

    pub(super) fn batching(&self) -> Option<&Batching> {
        self.batching.as_ref()
    }

    /// Sends of one shard that may share a call.
    pub(crate) fn together(&self) -> u32 {
        self.batching.as_ref().map_or(1, Batching::most)
    }

    /// Asks for permits of the fleet's quota; the actor is told the answer. Whoever fails to answer counts as away.
    pub(crate) fn ask_fleet(self: &Arc<Self>, permits: u32) {
        let Some(quota) = self.quota.get().map(Arc::clone) else { return };
        let ask = QuotaAsk { quota: self.quota_name(), per_s: self.lane.rate_per_s, burst: self.lane.burst, permits };
        let desk = Arc::clone(self);
        self.runtime.spawn(async move {
            let answer = AssertUnwindSafe(quota.take(ask)).catch_unwind().await;
            desk.tell_end(GatewayMsg::Quota(answer.unwrap_or(QuotaAnswer::Away { members: MEMBERS_UNKNOWN })));
        });
    }

    /// One name on every node; a channel's sends and notices share it.
    fn quota_name(&self) -> String {
        match &self.carrier {
            Carrier::Message(provider) => provider.channel().name().to_owned(),
            Carrier::Absent(channel) => channel.name().to_owned(),
            Carrier::Payment(_) => "payment".to_owned(),
            Carrier::Shipment(_) => "shipment".to_owned(),
        }
    }

    fn quota_state(&self) -> QuotaState {
        match self.quota.get() {
            None => QuotaState::Node,
            Some(quota) if quota.is_shared() => QuotaState::Shared,
            Some(_) => QuotaState::Fallback,
        }
    }

    pub(crate) fn queue_bounds(&self) -> QueueBounds {
        QueueBounds { sends: self.bound(Class::Send), notices: self.bound(Class::Notice) }
    }

    /// Payments and shipments wait for a provider that is away; messages as the options say.
    pub(crate) fn patience(&self) -> Option<Millis> {
        match (&self.carrier, self.options.when_open) {
            (Carrier::Payment(_) | Carrier::Shipment(_), _) | (_, WhenOpen::Hold) => None,
            (Carrier::Message(_) | Carrier::Absent(_), WhenOpen::Retry | WhenOpen::NextChannel) => {
                Some(Millis(self.options.open_patience_ms))
            }
        }
    }

    /// Pauses that a provider asks for, up to which its messages are not refused: going through the retry schedule takes longer.
    pub(crate) fn pause_held(&self) -> Millis {
        match self.options.when_open {
            WhenOpen::Hold | WhenOpen::Retry => PAUSE_HELD,
            WhenOpen::NextChannel => Millis(0),
        }
    }

    pub(crate) fn actor(&self) -> Option<ActorRef<GatewayMsg>> {
        self.actor.read().clone()
    }

    pub(crate) fn serve_with(&self, actor: Option<ActorRef<GatewayMsg>>) {
        *self.actor.write() = actor;
    }

    pub(crate) fn open(&self) -> Open {
        let count = |class| u32::try_from(self.meter(class).open.load(Ordering::SeqCst)).unwrap_or(u32::MAX);
        Open { sends: count(Class::Send), notices: count(Class::Notice) }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn queued(&self) -> usize {
        self.sends.queued.load(Ordering::SeqCst) + self.notices.queued.load(Ordering::SeqCst)
    }

    pub(crate) fn wake(&self) -> Option<Timestamp> {
        *self.wake.lock()
    }

    pub(crate) fn publish(&self, view: View, wake: Option<Timestamp>) {
        *self.view.lock() = view;
        *self.wake.lock() = wake;
        self.sends.export();
        self.notices.export();
    }

    pub(crate) fn status(&self) -> Vec<LaneStatus> {
        let (view, now, shut) = (*self.view.lock(), self.clock.now(), self.is_shut());
        let quota = self.quota_state();
        let status = |class| LaneStatus { quota, ..self.meter(class).status(self.carrier.name(), &view, shut, now) };
        match self.carrier {
            Carrier::Message(_) | Carrier::Absent(_) => vec![status(Class::Send), status(Class::Notice)],
            Carrier::Payment(_) | Carrier::Shipment(_) => vec![status(Class::Send)],
        }
    }

    pub(crate) fn state(&self) -> GatewayState {
        let served = !matches!(self.carrier, Carrier::Absent(_) | Carrier::Shipment(None));
        GatewayState {
            lane: self.carrier.lane(Class::Send),
            served,
            open_since: self.view.lock().away_since,
            quota_per_s: self.lane.rate_per_s,
            quota: self.quota_state(),
        }
    }

    /// Queues a ticket. Lean: two atomics and one cast.
    pub(crate) fn request(&self, class: Class, (due, asker): (Timestamp, Asker), grant: GrantSink) -> Result<(), Busy> {
        if self.is_shut() {
            return Err(Busy);
        }
        let place = self.meter(class).enqueue(self.bound(class)).ok_or(Busy)?;
        self.tell(GatewayMsg::Request { class, due, asker, grant, place })
    }

    /// A permit for what was granted.
    pub(crate) fn permit(self: &Arc<Self>, class: Class, hold: Hold, asker: Asker) -> Permit {
        self.meter(class).open.fetch_add(1, Ordering::SeqCst);
        let grant = Grant { class, hold, asker };
        batching::granted(self, grant);
        let (caller, giver) = (Arc::clone(self), Arc::clone(self));
        Permit::new(
            Box::new(move |request, not_after, done| caller.perform(grant, request, not_after, done)),
            Box::new(move || {
                giver.meter(class).open.fetch_sub(1, Ordering::SeqCst);
                giver.tell_end(GatewayMsg::Returned { class, hold });
                batching::left(&giver, grant);
            }),
        )
    }

    /// No call begins from here on.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    /// Completes once the actor has stopped and no call is at the provider. Cancellation safe.
    pub(crate) async fn drained(&self) {
        if let Some(actor) = self.actor() {
            actor.get_cell().wait(None).await.expect("a wait without a limit does not time out");
        }
        loop {
            let idle = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    fn bound(&self, class: Class) -> usize {
        let bound = match class {
            Class::Send => self.lane.queue_max,
            Class::Notice => self.lane.notice_queue_max,
        };
        usize::try_from(bound).unwrap_or(usize::MAX)
    }

    pub(super) fn meter(&self, class: Class) -> &Arc<Meter> {
        match class {
            Class::Send => &self.sends,
            Class::Notice => &self.notices,
        }
    }

    fn tell(&self, message: GatewayMsg) -> Result<(), Busy> {
        match &*self.actor.read() {
            Some(actor) => actor.cast(message).map_err(|_| Busy),
            None => Err(Busy),
        }
    }

    fn tell_end(&self, message: GatewayMsg) {
        // Without an actor there is nobody to tell: a new one starts from the counters, which are right already.
        let _ = self.tell(message);
    }

    /// A call begins.
    pub(super) fn begins(&self, class: Class) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.meter(class).in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// A call's outcome was handed over.
    pub(super) fn ended(&self, class: Class, end: GatewayMsg) {
        let meter = self.meter(class);
        meter.open.fetch_sub(1, Ordering::SeqCst);
        meter.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.tell_end(end);
        if self.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.idle.notify_waiters();
        }
    }

    fn perform(self: Arc<Self>, grant: Grant, request: CallRequest, not_after: BootMillis, done: OutcomeSink) {
        let mut call = Call::begin(Arc::clone(&self), (grant.class, grant.hold), &request, done);
        if self.is_shut() {
            call.end(CallOutcome::not_sent(&request, "the gateway is closing"), Health::Void);
            return batching::left(&self, grant);
        }
        match (grant.hold, request) {
            (Hold::Refusal, request) => call.end(self.refusal(&request), Health::Void),
            (Hold::Call(_), CallRequest::Message(request)) if batching::is_for(&self, grant, &request) => {
                batching::take(
                    &self,
                    grant,
                    Waiting { call, slip: Slip { member: grant.asker.member, request, not_after } },
                );
            }
            (Hold::Call(_), request) => {
                batching::left(&self, grant);
                self.make(call, request, not_after);
            }
        }
    }

    /// Makes a call for one alone.
    pub(super) fn make(self: Arc<Self>, mut call: Call, request: CallRequest, not_after: BootMillis) {
        self.runtime.clone().spawn(async move {
            let fence = Fence { clock: &*self.clock, not_after, begun: &call.begun };
            let (outcome, health) = self.carry(&request, &fence).await;
            call.end(outcome, health);
        });
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    async fn carry(&self, request: &CallRequest, fence: &Fence<'_>) -> (CallOutcome, Health) {
        match (&self.carrier, request) {
            (Carrier::Message(provider), CallRequest::Message(message)) if message.channel == provider.channel() => {
                let Ended { outcome, health } = perform::message(&**provider, message, fence).await;
                (CallOutcome::Message(outcome), health)
            }
            (Carrier::Payment(provider), CallRequest::Payment(payment)) => {
                let Ended { outcome, health } = perform::payment(&**provider, payment, fence).await;
                (CallOutcome::Payment(outcome), health)
            }
            (Carrier::Shipment(Some(provider)), CallRequest::Shipment(shipment)) => {
                let Ended { outcome, health } = perform::shipment(&**provider, shipment, fence).await;
                (CallOutcome::Shipment(outcome), health)
            }
            (Carrier::Shipment(None), CallRequest::Shipment(_)) => {
                (CallOutcome::not_sent(request, NO_PROVIDER), Health::Void)
            }
            (Carrier::Absent(channel), CallRequest::Message(message)) if message.channel == *channel => {
                let outcome = perform::refuse_message(message.prior, NO_PROVIDER, RefusalClass::NextChannel);
                (CallOutcome::Message(outcome), Health::Void)
            }
            (Carrier::Message(_) | Carrier::Payment(_) | Carrier::Shipment(_) | Carrier::Absent(_), request) => {
                tracing::error!(lane = self.name(), "a call came to the gateway of another lane");
                (CallOutcome::not_sent(request, "another lane's call"), Health::Void)
            }
        }
    }

    fn refusal(&self, request: &CallRequest) -> CallOutcome {
        let class = match self.options.when_open {
            WhenOpen::NextChannel => RefusalClass::NextChannel,
            WhenOpen::Hold | WhenOpen::Retry => RefusalClass::Retry,
        };
        match request {
            CallRequest::Message(message) => {
                CallOutcome::Message(perform::refuse_message(message.prior, PROVIDER_AWAY, class))
            }
            CallRequest::Payment(_) | CallRequest::Shipment(_) | CallRequest::Entity(_) => {
                CallOutcome::not_sent(request, PROVIDER_AWAY)
            }
        }
    }
}
