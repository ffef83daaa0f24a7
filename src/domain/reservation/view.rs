//! What the front door may see of a reservation.

use super::command::{Assignment, ReservationEvent, ReservationFact};
use super::evolve::evolve;
use super::state::{Booked, HELD_FOR, Phase, ReservationState, Seating, Status};
use crate::domain::order::Method;
use crate::domain::steps::{Paid, StepLetter};
use crate::types::money::Money;
use crate::types::time::Timestamp;

impl ReservationState {
    /// What it was made of; `None` when it does not exist.
    #[must_use]
    pub fn assignment(&self) -> Option<&Assignment> {
        self.booked.as_deref().map(|booked| &booked.assignment)
    }

    /// # Panics
    /// For a reservation that does not exist; a committed answer's always does.
    fn get(&self) -> &Booked {
        self.booked.as_deref().expect("a committed reservation exists")
    }
    #[must_use]
    pub fn status(&self) -> Status {
        self.get().status()
    }
    /// `sub` of the user.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.get().assignment.owner
    }
    #[must_use]
    pub fn amount(&self) -> Money {
        self.get().assignment.amount
    }
    /// `None` until it is to be paid.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        self.get().method
    }
    /// Captured so far.
    #[must_use]
    pub fn paid(&self) -> Money {
        self.get().money().0
    }
    #[must_use]
    pub fn refunded(&self) -> Money {
        self.get().money().1
    }
    #[must_use]
    pub fn paid_state(&self) -> &Paid {
        &self.get().paid
    }
    #[must_use]
    pub fn seating(&self) -> Seating {
        self.get().seats
    }
    /// When the seats are given up unless they are paid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.get().assignment.assigned_at + HELD_FOR
    }
    /// Why it ended without its seats; of a stuck one, why it is stuck.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        let booked = self.get();
        match (&booked.ended, &booked.phase) {
            (Some(ended), _) => Some(&ended.code),
            (None, Phase::Stuck { code, .. }) => Some(code),
            (None, Phase::Idle | Phase::Running(_)) => None,
        }
    }
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        self.get().updated_at
    }
    /// The step that was given up and waits for an operator.
    #[must_use]
    pub fn letter(&self) -> Option<StepLetter> {
        let booked = self.get();
        let Phase::Stuck { since, code, running } = &booked.phase else { return None };
        Some(running.letter(running.step.name(), code, &booked.paid, *since))
    }

    /// As its request was answered, whatever became of it since.
    #[must_use]
    pub fn as_assigned(&self) -> Self {
        let assignment = self.get().assignment.clone();
        let at = assignment.assigned_at;
        let mut state = Self::default();
        evolve(&mut state, &ReservationEvent { at, fact: ReservationFact::Assigned(Box::new(assignment)) });
        state
    }
}
