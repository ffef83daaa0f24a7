//! `evolve`: what an event makes of a reservation. Total: a fact that does not fit changes nothing that matters.

use super::command::{End, ReservationEvent, ReservationFact, Step};
use super::state::{Booked, Ended, Phase, ReservationState, Running, Seating};
use crate::domain::calling::Call;
use crate::domain::steps::Paid;
use crate::types::time::Timestamp;

/// Applies one event.
pub(super) fn evolve(state: &mut ReservationState, event: &ReservationEvent) {
    if let ReservationFact::Assigned(assignment) = &event.fact {
        state.booked = Some(Box::new(Booked {
            assignment: (**assignment).clone(),
            method: None,
            sealed: None,
            paid: Paid::No,
            seats: Seating::Held,
            left: false,
            confirmed_at: None,
            closed: false,
            ended: None,
            phase: Phase::Idle,
            number: 0,
            updated_at: event.at,
        }));
    } else if let Some(booked) = state.booked.as_deref_mut() {
        booked.updated_at = event.at;
        booked.apply(&event.fact, event.at);
    }
}

impl Booked {
    fn apply(&mut self, fact: &ReservationFact, at: Timestamp) {
        match fact {
            // Handled before; a second one is never decided.
            ReservationFact::Assigned(_) => {}
            ReservationFact::PaymentRequested { method, sealed, .. } => {
                self.method = Some(*method);
                self.sealed.clone_from(sealed);
                self.go_on(at);
            }
            ReservationFact::Attempted { started, .. } => self.on_call(|call| call.start(started, at)),
            ReservationFact::Undecided { doubt, retry_at, .. } => self.on_call(|call| call.doubt(doubt, *retry_at)),
            ReservationFact::Hinted => self.on_call(|call| call.hasten(at)),
            ReservationFact::Refused { retry_at, .. } => self.try_again(*retry_at),
            ReservationFact::Closed => {
                self.closed = true;
                if self.phase == Phase::Idle {
                    self.go_on(at);
                }
            }
            ReservationFact::Ended { end, code, doubtful } => self.turn_back(*end, code, *doubtful, at),
            ReservationFact::Stuck { code, .. } => {
                if let Phase::Running(running) = &self.phase {
                    self.phase = Phase::Stuck { since: at, code: code.clone(), running: running.put_aside(at) };
                }
            }
            ReservationFact::Replayed { .. } => self.replay(at),
            ReservationFact::Discarded { step, .. } => self.discard(*step, at),
            ReservationFact::Forgotten => self.sealed = None,
            ReservationFact::Paid { .. }
            | ReservationFact::Confirmed
            | ReservationFact::Left
            | ReservationFact::Settled
            | ReservationFact::Released
            | ReservationFact::PaymentRuledOut { .. }
            | ReservationFact::Refunded { .. } => {
                self.note(fact, at);
                self.go_on(at);
            }
        }
    }

    /// A step was done.
    fn note(&mut self, fact: &ReservationFact, at: Timestamp) {
        let (paid, _) = self.money();
        match fact {
            ReservationFact::Paid { provider, amount } => {
                self.paid = Paid::Held { provider: provider.clone(), amount: *amount };
            }
            ReservationFact::Confirmed => {
                self.seats = Seating::Sold;
                self.confirmed_at = Some(at);
            }
            ReservationFact::Left => self.left = true,
            ReservationFact::Settled => self.paid = Paid::Spent { amount: paid },
            ReservationFact::Released => self.seats = Seating::Free,
            ReservationFact::PaymentRuledOut { .. } => self.paid = Paid::No,
            ReservationFact::Refunded { .. } => self.paid = Paid::Back { paid },
            ReservationFact::Assigned(_)
            | ReservationFact::PaymentRequested { .. }
            | ReservationFact::Attempted { .. }
            | ReservationFact::Undecided { .. }
            | ReservationFact::Refused { .. }
            | ReservationFact::Closed
            | ReservationFact::Ended { .. }
            | ReservationFact::Stuck { .. }
            | ReservationFact::Replayed { .. }
            | ReservationFact::Discarded { .. }
            | ReservationFact::Hinted
            | ReservationFact::Forgotten => {}
        }
    }

    fn on_call(&mut self, change: impl FnOnce(&mut Call)) {
        if let Phase::Running(running) = &mut self.phase {
            change(&mut running.call);
        }
    }

    /// Definitely not performed: a new number, which is a new key to the provider.
    fn try_again(&mut self, due: Timestamp) {
        if let Phase::Running(running) = &mut self.phase {
            running.try_again(due);
            self.number = self.number.wrapping_add(1);
        }
    }

    /// Begins the next step, if there is one.
    fn go_on(&mut self, at: Timestamp) {
        let Some(step) = self.next_step() else {
            self.phase = Phase::Idle;
            return;
        };
        let mut running = Running::begin(step, (), at);
        if let (Step::FindPayment, Paid::Doubtful { since }) = (step, &self.paid) {
            running.call.unknown_since = Some(*since);
        }
        self.phase = Phase::Running(running);
        self.number = self.number.wrapping_add(1);
    }

    fn turn_back(&mut self, end: End, code: &str, doubtful: bool, at: Timestamp) {
        if let Some(running) = self.running().filter(|running| doubtful && running.step == Step::Pay) {
            self.paid = Paid::Doubtful { since: running.doubtful_since(at) };
        }
        self.ended = Some(Ended { end, code: code.to_owned() });
        self.go_on(at);
    }

    fn replay(&mut self, at: Timestamp) {
        if let Phase::Stuck { running, .. } = &self.phase {
            let (running, renumbered) = running.replayed(at);
            self.phase = Phase::Running(running);
            self.number = self.number.wrapping_add(u16::from(renumbered));
        }
    }

    /// Done by hand.
    fn discard(&mut self, step: Step, at: Timestamp) {
        if !matches!(self.phase, Phase::Stuck { .. }) {
            return;
        }
        let (paid, _) = self.money();
        match step {
            Step::Settle => self.paid = Paid::Spent { amount: paid },
            Step::Release => self.seats = Seating::Free,
            Step::FindPayment => self.paid = Paid::No,
            Step::Refund => self.paid = Paid::Back { paid },
            Step::Leave => self.left = true,
            // A payment ends by itself, and seats that cannot be sold end the reservation.
            Step::Pay | Step::Sell => {}
        }
        self.go_on(at);
    }
}
