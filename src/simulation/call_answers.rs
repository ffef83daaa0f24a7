//! What comes back for the calls of a node's gateways, and what their courses do next.

use crate::gateways::course::{Cut, Ended, PaymentTurn, ShipmentTurn, Turn as CourseTurn};
use crate::gateways::policy::Health;
use crate::gateways::policy::concurrency::Micros;
use crate::simulation::event::{MS, NodeEvent, ProviderAnswer, Wire};
use crate::simulation::lanes::Course;
use crate::simulation::node::{Node, Turn};
use crate::simulation::options::Defect;
use crate::types::call::{CallOutcome, MessageOutcome, PaymentOutcome, RefusalClass, ShipmentOutcome};

impl Node {
    /// What a provider said, or that it said nothing in time.
    pub fn on_answer(&mut self, number: u64, token: u64, answer: ProviderAnswer, turn: &mut Turn<'_>) {
        let (boot, now) = (self.boot_clock(turn.now), self.clock(turn));
        let Some(call) = self.hosting.lanes.calls.get_mut(&number) else {
            return self.on_line_answer(number, token, answer, turn);
        };
        if call.token != token {
            return;
        }
        let answer = if boot >= call.end { ProviderAnswer::Cut(Cut::Late) } else { answer };
        let latency = Micros(turn.now - call.began);
        let next = match (&mut call.course, answer) {
            (Course::Message(course), ProviderAnswer::Sent(outcome)) => {
                CourseTurn::End(course.sent(Ok(vec![outcome]), latency, now))
            }
            (Course::Message(course), ProviderAnswer::LookedUp(answer)) => course.looked_up(Ok(answer)),
            (Course::Message(course), ProviderAnswer::Cut(cut)) => match call.wire {
                Wire::LookUp(_) => course.looked_up(Err(cut)),
                Wire::Send(_) | Wire::Batch(_) | Wire::Pay(_) | Wire::Ship(_) => {
                    CourseTurn::End(course.sent(Err(cut), latency, now))
                }
            },
            (Course::Payment(_), answer) => {
                let answer = match answer {
                    ProviderAnswer::Paid(outcome) => Ok(outcome),
                    ProviderAnswer::Cut(cut) => Err(cut),
                    ProviderAnswer::Sent(_)
                    | ProviderAnswer::SentMany(_)
                    | ProviderAnswer::LookedUp(_)
                    | ProviderAnswer::Shipped(_) => return,
                };
                return self.on_paid(number, latency, answer, turn);
            }
            (Course::Shipment(_), answer) => {
                let answer = match answer {
                    ProviderAnswer::Shipped(outcome) => Ok(outcome),
                    ProviderAnswer::Cut(cut) => Err(cut),
                    ProviderAnswer::Sent(_)
                    | ProviderAnswer::SentMany(_)
                    | ProviderAnswer::LookedUp(_)
                    | ProviderAnswer::Paid(_) => return,
                };
                return self.on_shipped(number, latency, answer, turn);
            }
            (
                Course::Message(_),
                ProviderAnswer::SentMany(_) | ProviderAnswer::Paid(_) | ProviderAnswer::Shipped(_),
            ) => return,
        };
        let request = call.request.clone();
        match self.wire_of(next, &request) {
            Ok(wire) => self.go_on(number, wire, turn),
            Err((outcome, health)) => self.finish(number, outcome, health, turn),
        }
    }

    fn on_paid(&mut self, number: u64, latency: Micros, answer: Result<PaymentOutcome, Cut>, turn: &mut Turn<'_>) {
        let Some(call) = self.hosting.lanes.calls.get_mut(&number) else { return };
        let Course::Payment(course) = &mut call.course else { return };
        match course.answered(answer, latency) {
            PaymentTurn::Call(request) => self.go_on(number, Wire::Pay(request), turn),
            PaymentTurn::End(Ended { outcome, health }) => {
                self.finish(number, CallOutcome::Payment(outcome), health, turn);
            }
        }
    }

    fn on_shipped(&mut self, number: u64, latency: Micros, answer: Result<ShipmentOutcome, Cut>, turn: &mut Turn<'_>) {
        let Some(call) = self.hosting.lanes.calls.get_mut(&number) else { return };
        let Course::Shipment(course) = &mut call.course else { return };
        match course.answered(answer, latency) {
            ShipmentTurn::Call(request) => self.go_on(number, Wire::Ship(request), turn),
            ShipmentTurn::End(Ended { outcome, health }) => {
                self.finish(number, CallOutcome::Shipment(outcome), health, turn);
            }
        }
    }

    fn go_on(&mut self, number: u64, wire: Wire, turn: &mut Turn<'_>) {
        if let Some(call) = self.hosting.lanes.calls.get_mut(&number) {
            call.wire = wire;
            turn.after(MS / 10, self.event(NodeEvent::Write { call: number }));
        }
    }

    fn finish(&mut self, number: u64, outcome: CallOutcome, health: Health, turn: &mut Turn<'_>) {
        if turn.defect == Defect::UnboundedRetry
            && let CallOutcome::Message(MessageOutcome::Refused { class: RefusalClass::Retry, .. }) = &outcome
        {
            let wire = self.hosting.lanes.calls.get(&number).map(|call| call.wire.clone());
            return wire.into_iter().for_each(|wire| self.go_on(number, wire, turn));
        }
        let Some(call) = self.hosting.lanes.calls.remove(&number) else { return };
        if call.permit.is_none() {
            return;
        }
        let outcome = break_outcome(outcome, turn.defect);
        self.end_call(call.key, call.slot, call.permit, (outcome, health), turn);
    }
}

fn break_outcome(outcome: CallOutcome, defect: Defect) -> CallOutcome {
    match (outcome, defect) {
        (CallOutcome::Message(MessageOutcome::Unknown { cause }), Defect::AnotherChannel) => {
            CallOutcome::Message(MessageOutcome::Refused { code: cause, class: RefusalClass::NextChannel })
        }
        (outcome, _) => outcome,
    }
}
