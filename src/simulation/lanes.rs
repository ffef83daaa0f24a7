//! A node's gateways: the binary's lane cores, policies and call courses, with calls that are events.

use crate::gateways::batch_flow::Slip;
use crate::gateways::course::{
    Cut, Ended, MessageCourse, PaymentCourse, ShipmentCourse, Turn as CourseTurn, refuse_message,
};
use crate::gateways::lane::{Full, Hold, LaneCore, QueueBounds, Step};
use crate::gateways::policy::{Class, Health, Open, Policy};
use crate::gateways::{GatewayOptions, LaneOptions, PAUSE_HELD, PROVIDER_AWAY};
use crate::simulation::batches::{Batches, CHANNEL, Held};
use crate::simulation::defects;
use crate::simulation::event::{Event, MS, NodeEvent, ProviderAnswer, ProviderCall, Time, Wire};
use crate::simulation::hosting::Mail;
use crate::simulation::log_disk::SHARD;
use crate::simulation::node::{Do, Node, Turn};
use crate::simulation::options::Defect;
use crate::simulation::providers::{ability, provider_name};
use crate::types::batch::Member;
use crate::types::call::{
    CallOutcome, CallRequest, EntityOutcome, MessageOutcome, PaymentOperation, PaymentOutcome, PaymentRequest, Prior,
    Purpose, RefusalClass, ShipmentOutcome,
};
use crate::types::effect::{Channel, Lane, Slot};
use crate::types::ids::EntityKey;
use crate::types::limits::CALL_DEADLINE;
use crate::types::time::{BootMillis, Millis, Timestamp};
use std::collections::BTreeMap;

/// Desks: one for each channel, one for payments, one for shipments.
pub const DESKS: usize = 6;
pub const PAYMENT_DESK: usize = 4;
pub const SHIPMENT_DESK: usize = 5;
/// Of calls to other entities.
const NO_DESK: usize = usize::MAX;

/// Capacity for one call of a live entity.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    pub lane: Lane,
    desk: usize,
    class: Class,
    /// `None` for a call to another entity, which takes no capacity.
    hold: Option<Hold>,
}

impl Permit {
    /// Whether it is for a send to a provider that takes several in a call.
    pub(super) fn may_share_a_call(&self) -> bool {
        self.lane == Lane::Send(CHANNEL) && matches!(self.hold, Some(Hold::Call(_)))
    }
}

struct Ticket {
    key: EntityKey,
    slot: Slot,
    lane: Lane,
    entity: u64,
}

struct Desk {
    core: LaneCore<Ticket>,
    armed: Option<Timestamp>,
}

pub(super) enum Course {
    Message(MessageCourse),
    Payment(PaymentCourse),
    Shipment(ShipmentCourse),
}

/// A call between its permit and its outcome.
pub(super) struct Call {
    pub key: EntityKey,
    pub slot: Slot,
    /// `None` for a call that a defect makes beside its permit.
    pub permit: Option<Permit>,
    pub request: CallRequest,
    pub course: Course,
    pub wire: Wire,
    term: u64,
    not_after: BootMillis,
    /// Counts what was sent and cut: an answer to an earlier one is void.
    pub token: u64,
    pub began: Time,
    pub end: BootMillis,
}

/// A node's gateways.
#[derive(Default)]
pub struct Lanes {
    desks: Vec<Desk>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) batches: Batches,
    numbers: u64,
}

impl Lanes {
    #[must_use]
    pub fn new(seed: u64, now: Timestamp) -> Self {
        let lane = LaneOptions {
            rate_per_s: 40,
            burst: 20,
            concurrency_min: 2,
            concurrency_start: 8,
            concurrency_max: 24,
            queue_max: 64,
            notice_queue_max: 64,
            notice_percent: 25,
            batch_max: 1,
            batch_wait_ms: 25,
        };
        let options = GatewayOptions::default();
        let bounds = QueueBounds { sends: 64, notices: 64 };
        let desk = |number: usize| {
            let policy = Policy::new(options.rules(&lane), seed.wrapping_mul(31) + number as u64, now);
            let patience = (number < PAYMENT_DESK).then_some(Millis(options.open_patience_ms));
            let core = LaneCore::new(policy, bounds, patience, Open::default());
            Desk { core: core.with_pauses_held(PAUSE_HELD), armed: None }
        };
        Self { desks: (0..DESKS).map(desk).collect(), ..Self::default() }
    }
}

impl Lanes {
    /// Whether a call is about to send a gift's own message.
    #[must_use]
    pub fn sends_a_gift(&self, call: u64) -> bool {
        let wire = self.calls.get(&call).map(|call| &call.wire);
        matches!(wire, Some(Wire::Send(request)) if request.purpose == Purpose::Gift) || self.batches.sends(call)
    }

    /// From the start on, sends by Kakao share calls.
    pub fn gather_up_to(&mut self, most: usize, forgets: bool) {
        self.batches = Batches::new(most, forgets);
        let together = u32::try_from(most).unwrap_or(1);
        let place = channel_place(CHANNEL);
        if place < self.desks.len() {
            let desk = self.desks.remove(place);
            self.desks.insert(place, Desk { core: desk.core.with_batches(together), ..desk });
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// The desk and the class of a lane. Calls to entities have none.
fn desk_of(lane: Lane) -> (usize, Class) {
    match lane {
        Lane::Send(channel) => (channel_place(channel), Class::Send),
        Lane::Notice(channel) => (channel_place(channel), Class::Notice),
        Lane::Payment | Lane::Entity => (PAYMENT_DESK, Class::Send),
        Lane::Shipment => (SHIPMENT_DESK, Class::Send),
    }
}

/// Place of a channel's desk and of its provider.
#[must_use]
pub fn channel_place(channel: Channel) -> usize {
    match channel {
        Channel::Kakao => 0,
        Channel::Sms => 1,
        Channel::Email => 2,
        Channel::Push => 3,
    }
}

impl Node {
    pub(super) fn request_permit(
        &mut self,
        key: EntityKey,
        slot: Slot,
        lane: Lane,
        due: Timestamp,
        turn: &mut Turn<'_>,
    ) {
        let now = self.clock(turn);
        let entity = self.hosting.live.get(&key).map_or(0, |entity| entity.id);
        if lane == Lane::Entity {
            // Another entity's mailbox bounds itself: as `EntityShell::request_permit`.
            let permit = Permit { lane, desk: NO_DESK, class: Class::Send, hold: None };
            return self.hosting.mail.push_back((key, Mail::Granted { entity, slot, permit }));
        }
        let (place, class) = desk_of(lane);
        let ticket = Ticket { key, slot, lane, entity };
        match self.hosting.lanes.desks[place].core.offer(class, (due, Some(SHARD)), now, ticket) {
            Ok(()) => self.grant_all(place, turn),
            Err(Full(_)) => self.step(key, crate::actors::driver::Input::Busy(slot, lane), turn),
        }
    }

    /// Grants whatever may go now, and asks to be woken when more may.
    pub fn grant_all(&mut self, place: usize, turn: &mut Turn<'_>) {
        let now = self.clock(turn);
        let life = self.life();
        let hosting = &mut self.hosting;
        let Some(desk) = hosting.lanes.desks.get_mut(place) else { return };
        loop {
            match desk.core.next(now) {
                Step::Grant { ticket, class, hold } => {
                    let Ticket { key, slot, lane, entity } = ticket;
                    let permit = Permit { lane, desk: place, class, hold: Some(hold) };
                    hosting.lanes.batches.granted(&permit);
                    hosting.mail.push_back((key, Mail::Granted { entity, slot, permit }));
                }
                Step::Idle { wake: Some(at) } => {
                    if desk.armed != Some(at) {
                        desk.armed = Some(at);
                        let wait_ms = u64::try_from((at - now).0).unwrap_or(0).clamp(1, 3_600_000);
                        turn.after(wait_ms * MS, Event::Node(life, NodeEvent::LaneWake { desk: place, armed: at }));
                    }
                    return;
                }
                Step::Idle { wake: None } => return,
            }
        }
    }

    pub fn on_lane_wake(&mut self, place: usize, armed: Timestamp, turn: &mut Turn<'_>) {
        if let Some(desk) = self.hosting.lanes.desks.get_mut(place)
            && desk.armed == Some(armed)
        {
            desk.armed = None;
            self.grant_all(place, turn);
        }
    }

    pub(super) fn give_back(&mut self, permit: Permit, turn: &mut Turn<'_>) {
        let now = self.clock(turn);
        if let (Some(desk), Some(hold)) = (self.hosting.lanes.desks.get_mut(permit.desk), permit.hold) {
            desk.core.returned(permit.class, hold, now);
        }
        self.batch_left(&permit, turn);
        self.grant_all(permit.desk, turn);
    }

    /// Opens the personal data unless this very blob was opened before, renders the call and makes it.
    pub(super) fn open_and_call(
        &mut self,
        key: EntityKey,
        slot: Slot,
        lane: Lane,
        not_after: BootMillis,
        turn: &mut Turn<'_>,
    ) {
        let vault = &self.replica.state.vault;
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        let sealed = entity.driver.sealed();
        if let Some(sealed) = sealed
            && entity.personal.as_ref().is_none_or(|(known, _)| *known != sealed)
        {
            let personal = if turn.defect == Defect::SealOpen {
                Some(sealed.ciphertext.clone())
            } else {
                vault.open(key, &sealed).expect("the key disk is readable")
            };
            entity.personal = Some((sealed, personal));
        }
        let personal = entity.personal.as_ref().and_then(|(_, personal)| personal.as_deref());
        match entity.driver.request(slot, personal) {
            Some(request) => self.begin_call(key, (slot, lane), request, not_after, turn),
            None => {
                let permit = entity.permits.remove(&slot);
                if let Some(permit) = permit {
                    self.give_back(permit, turn);
                }
                let cause = "not_renderable".to_owned();
                let outcome = match lane {
                    Lane::Payment => CallOutcome::Payment(PaymentOutcome::NotSent { cause }),
                    Lane::Shipment => CallOutcome::Shipment(ShipmentOutcome::NotSent { cause }),
                    Lane::Entity => CallOutcome::Entity(EntityOutcome::Unknown { cause }),
                    Lane::Send(_) | Lane::Notice(_) => CallOutcome::Message(MessageOutcome::NotSent { cause }),
                };
                self.hosting.mail.push_back((key, Mail::CallDone(slot, outcome)));
            }
        }
    }

    /// Makes a call with the slot's permit.
    pub(super) fn begin_call(
        &mut self,
        key: EntityKey,
        (slot, lane): (Slot, Lane),
        mut request: CallRequest,
        not_after: BootMillis,
        turn: &mut Turn<'_>,
    ) {
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        // The call of a defect leaves the permit to the one that follows.
        let permit = if turn.defect == Defect::SendBeforeRecord && entity.driver.awaits_permit(slot, lane) {
            None
        } else {
            entity.permits.remove(&slot)
        };
        break_request(&mut request, turn);
        if let Some(permit) = permit
            && permit.hold == Some(Hold::Refusal)
        {
            let outcome = refusal(&request);
            return self.end_call(key, slot, Some(permit), (outcome, Health::Void), turn);
        }
        if let (Some(permit), CallRequest::Message(message)) = (permit, &request) {
            let member = Member { entity: key, slot };
            let slip = Slip { member, request: message.clone(), not_after };
            if self.take_into_batch(Held { key, slot, permit, slip }, turn).is_none() {
                return;
            }
        }
        self.make_call(key, (slot, permit), request, not_after, turn);
    }

    /// A send goes by itself after all.
    pub(super) fn call_alone(&mut self, held: Held, turn: &mut Turn<'_>) {
        let Held { key, slot, permit, slip } = held;
        self.make_call(key, (slot, Some(permit)), CallRequest::Message(slip.request), slip.not_after, turn);
    }

    fn make_call(
        &mut self,
        key: EntityKey,
        (slot, permit): (Slot, Option<Permit>),
        request: CallRequest,
        not_after: BootMillis,
        turn: &mut Turn<'_>,
    ) {
        let now = self.clock(turn);
        if let Some(outcome) = defects::claimed(key, &request, turn.defect, now) {
            return self.end_call(key, slot, permit, (outcome, Health::Void), turn);
        }
        let (course, first) = match &request {
            CallRequest::Message(message) => {
                let provider = provider_name(message.channel);
                let (course, first) = MessageCourse::begin(provider, ability(message.channel), message.prior, now);
                (Course::Message(course), self.wire_of(first, &request))
            }
            CallRequest::Payment(payment) => {
                let (course, first) = PaymentCourse::begin(payment);
                (Course::Payment(course), Ok(Wire::Pay(first)))
            }
            CallRequest::Entity(request) => {
                let call = NodeEvent::Call { source: key, slot, request: request.clone() };
                let delay = MS / 10 + turn.dice.below(2 * MS);
                return turn.after(delay, self.event(call));
            }
            CallRequest::Shipment(shipment) => {
                let (course, first) = ShipmentCourse::begin(shipment);
                (Course::Shipment(course), Ok(Wire::Ship(first)))
            }
        };
        let wire = match first {
            Ok(wire) => wire,
            Err((outcome, health)) => return self.end_call(key, slot, permit, (outcome, health), turn),
        };
        let lanes = &mut self.hosting.lanes;
        let number = lanes.number();
        let term = self.hosting.claim.map_or(0, |claim| claim.term.0);
        let end = BootMillis(u64::MAX);
        let call = Call { key, slot, permit, request, course, wire, term, not_after, token: 0, began: turn.now, end };
        lanes.calls.insert(number, call);
        let delay = MS / 10 + turn.dice.below(2 * MS);
        turn.after(delay, self.event(NodeEvent::Write { call: number }));
    }

    /// What a message's course does next, on the wire; or its end.
    pub(super) fn wire_of(&self, next: CourseTurn, request: &CallRequest) -> Result<Wire, (CallOutcome, Health)> {
        match (next, request) {
            (CourseTurn::Send, CallRequest::Message(message)) => Ok(Wire::Send(message.clone())),
            (CourseTurn::LookUp, CallRequest::Message(message)) => Ok(Wire::LookUp(message.clone())),
            (CourseTurn::End(Ended { outcome, health }), _) => Err((CallOutcome::Message(outcome), health)),
            (CourseTurn::Send | CourseTurn::LookUp, _) => {
                Err((CallOutcome::not_sent(request, "not a message"), Health::Void))
            }
        }
    }

    /// The fence: the boot clock is compared with `not_after` in the very step that writes the first byte.
    pub fn write_call(&mut self, number: u64, turn: &mut Turn<'_>) {
        let (boot, life) = (self.boot_clock(turn.now), self.life());
        let Some(call) = self.hosting.lanes.calls.get_mut(&number) else { return self.write_line(number, turn) };
        call.token += 1;
        let token = call.token;
        if boot >= call.not_after && turn.defect != Defect::LateFirstByte {
            return self.on_answer(number, token, ProviderAnswer::Cut(Cut::NotBegun), turn);
        }
        call.end = BootMillis(boot.0 + CALL_DEADLINE.0.unsigned_abs());
        call.began = turn.now;
        let arrival = |wire: Wire| {
            Event::Arrive(Box::new(ProviderCall {
                from: life,
                call: number,
                token,
                term: call.term,
                wire,
                late: false,
            }))
        };
        let delay = MS + turn.dice.below(30 * MS);
        let first = arrival(call.wire.clone());
        turn.after(delay, first);
        if let Wire::Pay(request) = &call.wire
            && turn.defect == Defect::RefundTwice
            && matches!(request.operation, PaymentOperation::Cancel { .. })
        {
            let idempotency_key = format!("{}~", request.idempotency_key);
            turn.out
                .push(Do::After(2 * delay, arrival(Wire::Pay(PaymentRequest { idempotency_key, ..request.clone() }))));
        }
        let cut = NodeEvent::Answered { call: number, token, answer: ProviderAnswer::Cut(Cut::Late) };
        turn.after(CALL_DEADLINE.0.unsigned_abs() * MS, Event::Node(life, cut));
    }

    pub(super) fn end_call(
        &mut self,
        key: EntityKey,
        slot: Slot,
        permit: Option<Permit>,
        (outcome, health): (CallOutcome, Health),
        turn: &mut Turn<'_>,
    ) {
        let now = self.clock(turn);
        self.hosting.mail.push_back((key, Mail::CallDone(slot, outcome)));
        if let Some(Permit { desk, class, hold: Some(hold), .. }) = permit {
            if let Some(desk) = self.hosting.lanes.desks.get_mut(desk) {
                desk.core.finished(class, hold, health, now);
            }
            self.grant_all(desk, turn);
        }
    }
}

/// The answer to a call that is not made: its provider is away.
fn refusal(request: &CallRequest) -> CallOutcome {
    match request {
        CallRequest::Message(message) => {
            CallOutcome::Message(refuse_message(message.prior, PROVIDER_AWAY, RefusalClass::Retry))
        }
        CallRequest::Payment(_) | CallRequest::Entity(_) | CallRequest::Shipment(_) => {
            CallOutcome::not_sent(request, PROVIDER_AWAY)
        }
    }
}

fn break_request(request: &mut CallRequest, turn: &mut Turn<'_>) {
    let CallRequest::Message(message) = request else { return };
    if turn.defect == Defect::PriorForgotten {
        message.prior = Prior::None;
    }
    if turn.defect == Defect::KeyRenewed {
        message.reference = format!("{}.{}", message.reference, turn.dice.below(1 << 30));
    }
}
