//! The calls of a live entity: a permit for each, its personal data opened, its outcome brought home.

use super::repeated::bring_home;
use super::{AskReply, EntityMsg, EntityShell};
use crate::actors::door::AskError;
use crate::actors::driver::{Command, Driver, Input, WaiterId};
use crate::actors::loading;
use crate::actors::router::{self, Reply, Request};
use crate::actors::seats::{Seat, SeatClass, before_all_at};
use crate::gateways::{Asker, Permit, Ticket};
use crate::types::batch::Member;
use crate::types::call::{
    CallOutcome, CallRequest, EntityOutcome, EntityRequest, MessageOutcome, PaymentOutcome, ShipmentOutcome,
};
use crate::types::effect::{Lane, Slot};
use crate::types::limits::CALL_DEADLINE;
use crate::types::time::{BootMillis, Timestamp};
use ractor::ActorRef;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// A call that is not answered by then waits for a leader, and no longer for its turn in a log: it makes room for others.
const PLACE_HELD_MAX: Duration = Duration::from_millis(500);

impl EntityShell {
    pub(super) fn request_permit(&mut self, me: &ActorRef<EntityMsg>, slot: Slot, lane: Lane, due: Timestamp) {
        if lane == Lane::Entity {
            let place = Place { slot, lane, entity: Some(me.clone()), _seat: None };
            if self.args.shared.pace.request(due, Box::new(move |permit: Permit| place.granted(permit))).is_err() {
                self.step(me, Input::Busy(slot, lane));
            }
            return;
        }
        let Some(seat) = self.seat(SeatClass::of(Some(lane))) else {
            self.step(me, Input::Busy(slot, lane));
            return;
        };
        let Some(gateways) = self.args.shared.gateways.get() else { return };
        let place = Place { slot, lane, entity: Some(me.clone()), _seat: Some(seat) };
        let grant = Box::new(move |permit: Permit| place.granted(permit));
        let asker = Asker { shard: self.args.shard_id, member: Member { entity: self.args.key, slot } };
        if gateways.request(Ticket { lane, due, asker, grant }).is_err() {
            self.step(me, Input::Busy(slot, lane));
        }
    }

    fn seat(&mut self, class: SeatClass) -> Option<Seat> {
        match self.seats.iter().position(|seat| seat.class() == class) {
            Some(own) => Some(self.seats.swap_remove(own)),
            None => self.args.shared.seats.take(class),
        }
    }

    /// Tells the loader of calls that wait on disk for room in their lanes. Called when the entity is live no more.
    pub(super) fn leave_on_disk(&self) {
        for (lane, due) in self.driver.iter().flat_map(Driver::crowded) {
            self.args.shared.left_on_disk.note(SeatClass::of(Some(lane)), self.args.shard_id, before_all_at(due));
        }
    }

    pub(super) fn awaits_permit(&self, slot: Slot, lane: Lane) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.awaits_permit(slot, lane))
    }

    /// Opens the sealed personal data unless this very blob was opened before, then performs.
    pub(super) fn open_and_perform(&mut self, me: &ActorRef<EntityMsg>, slot: Slot, not_after: BootMillis) {
        let sealed = self.driver.as_ref().and_then(Driver::sealed);
        match (sealed, &self.personal) {
            (Some(sealed), Some((known, _))) if sealed == *known => self.perform(me, slot, not_after),
            (None, _) => self.perform(me, slot, not_after),
            (Some(sealed), _) => {
                let (shared, key, me) = (self.args.shared.clone(), self.args.key, me.clone());
                self.args.shared.pool.run(move || {
                    let personal = loading::open(&shared, key, &sealed);
                    let _ended = me.cast(EntityMsg::Opened { slot, not_after, sealed, personal });
                });
            }
        }
    }

    pub(super) fn perform(&mut self, me: &ActorRef<EntityMsg>, slot: Slot, not_after: BootMillis) {
        let Some(permit) = self.permits.remove(&slot) else { return };
        let Some(driver) = &self.driver else { return };
        let personal = match (&driver.sealed(), &self.personal) {
            (Some(sealed), Some((known, personal))) if sealed == known => personal.as_deref(),
            (Some(_) | None, _) => None,
        };
        let Some(mut request) = driver.request(slot, personal) else {
            tracing::error!(entity = ?self.args.key, ?slot, "a started call cannot be rendered");
            drop(permit);
            let outcome = not_rendered(self.lanes.get(&slot).copied());
            self.step(me, Input::CallDone { slot, outcome });
            return;
        };
        if let CallRequest::Entity(request) = request {
            self.ask_other(slot, request, permit);
            return;
        }
        self.note_earlier_leader(slot, &mut request);
        let (shared, key, receiver) = (self.args.shared.clone(), self.args.key, me.clone());
        let repeated_at = self.due_of(slot).filter(|_| self.is_repeated(slot));
        let done =
            Box::new(move |outcome: CallOutcome| match receiver.cast(EntityMsg::CallDone(slot, None, outcome)) {
                Ok(()) => {}
                Err(ractor::MessagingErr::SendErr(message)) => match (message, repeated_at) {
                    (EntityMsg::CallDone(slot, _, outcome), Some(due)) => {
                        bring_home(&shared, key, (slot, due), outcome)
                    }
                    (message, _) => shared.deliver(key, message),
                },
                Err(ractor::MessagingErr::ChannelClosed | ractor::MessagingErr::InvalidActorType) => {}
            });
        permit.perform(request, not_after, done);
    }

    /// A command of another entity: known by the call's id, and answered from the state when it is a repeat.
    pub(super) fn on_call(&mut self, me: &ActorRef<EntityMsg>, call: EntityRequest, reply: AskReply) {
        let waiter = self.waiter(reply);
        let EntityRequest { command_id, command: bytes, .. } = call;
        let command = Command { waiter, bytes, command_id, idempotency: None, if_version: None, new_key: None };
        self.step(me, Input::Command(command));
    }

    pub(super) fn waiter(&mut self, reply: AskReply) -> WaiterId {
        self.waiter_seq += 1;
        let waiter = WaiterId(self.waiter_seq);
        self.waiters.insert(waiter, reply);
        waiter
    }

    /// The actor ends: who waits for a decision hears that nothing was done. Who waits for a record hears nothing, for it may
    /// still be committed.
    pub(super) fn refuse_undecided(&mut self) {
        let undecided: Vec<WaiterId> = self.driver.iter().flat_map(Driver::undecided).collect();
        for reply in undecided.iter().filter_map(|waiter| self.waiters.remove(waiter)) {
            // The caller may have given up.
            let _gone = reply.send(Err(AskError::Unavailable));
        }
    }

    /// Asks another entity, wherever it lives. The target answers a repeat from its state.
    fn ask_other(&self, slot: Slot, request: EntityRequest, permit: Permit) {
        let (shared, key) = (self.args.shared.clone(), self.args.key);
        tokio::spawn(async move {
            let deadline = Instant::now() + CALL_DEADLINE.to_std();
            let mut answer = pin!(router::route(&shared, Request::Call(request)));
            let in_time = timeout(PLACE_HELD_MAX, &mut answer).await;
            drop(permit);
            let answer = match in_time {
                Ok(answer) => Ok(answer),
                Err(_) => timeout_at(deadline, answer).await,
            };
            let outcome = match answer.unwrap_or(Err(AskError::Unknown)) {
                Ok(Reply::Answer(answer)) => EntityOutcome::Done { state: answer.state },
                Ok(other) => EntityOutcome::Unknown { cause: router::unexpected(&other).to_string() },
                Err(AskError::Rejected { rejection, .. }) => EntityOutcome::Rejected { rejection },
                Err(other) => EntityOutcome::Unknown { cause: other.to_string() },
            };
            shared.deliver(key, EntityMsg::CallDone(slot, None, CallOutcome::Entity(outcome)));
        });
    }
}

/// A place in a gateway's queue. A gateway that fails drops its queue: the entity is told, and asks again.
struct Place {
    slot: Slot,
    lane: Lane,
    entity: Option<ActorRef<EntityMsg>>,
    /// Held until the place is served or lost.
    _seat: Option<Seat>,
}

impl Place {
    fn granted(mut self, permit: Permit) {
        if let Some(entity) = self.entity.take() {
            // An actor that ended drops the permit, which gives its capacity back.
            let _ended = entity.cast(EntityMsg::Granted(self.slot, self.lane, permit));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(entity) = self.entity.take() {
            let _ended = entity.cast(EntityMsg::PlaceLost(self.slot, self.lane));
        }
    }
}

/// The attempt is open and nothing left: its entity is told so, and decides what follows.
fn not_rendered(lane: Option<Lane>) -> CallOutcome {
    let cause = "not_renderable".to_owned();
    match lane {
        Some(Lane::Payment) => CallOutcome::Payment(PaymentOutcome::NotSent { cause }),
        Some(Lane::Entity) => CallOutcome::Entity(EntityOutcome::Unknown { cause }),
        Some(Lane::Shipment) => CallOutcome::Shipment(ShipmentOutcome::NotSent { cause }),
        Some(Lane::Send(_) | Lane::Notice(_)) | None => CallOutcome::Message(MessageOutcome::NotSent { cause }),
    }
}
