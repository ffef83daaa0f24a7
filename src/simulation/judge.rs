//! The end of a run: the healed cluster works, and what happened is judged by the checkers.

use crate::chaos::checkers::history::{BookingEnd, BookingRow, ClaimTold, Fact, Told, VoterRow};
use crate::chaos::checkers::{check_all, inv03_on_time, proves_something};
use crate::domain::kinds::{GIFT, kinds};
use crate::simulation::log_disk::SHARD;
use crate::simulation::world::World;
use crate::types::ids::EntityKey;
use crate::types::time::Millis;
use std::collections::BTreeSet;

/// Honest clocks are within 200 ms of true time, and read in whole milliseconds.
const CLOCK_ERROR: Millis = Millis(250);

impl World {
    /// Judges the run.
    pub fn judge(&mut self) {
        let Some(leader) = self.leader() else {
            return self.fail("INV-9: the healed cluster has no leader".to_owned());
        };
        for peer in self.running() {
            self.compare(peer);
        }
        self.gather(leader);
        let history = &self.recorder.history;
        let violations = check_all(history);
        if let Some(first) = violations.first() {
            let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let what = if violations.len() > 1 { all.join("\n  ") } else { first.to_string() };
            return self.fail(what);
        }
        if let Err(lack) = proves_something(history) {
            return self.fail(lack.to_owned());
        }
        if self.clients.acknowledged == 0 || self.outcome.records == 0 {
            self.fail("a run in which nothing was acknowledged proves nothing".to_owned());
        }
    }

    /// The gifts as the leader's disk holds them, the providers' ledgers, and the sums.
    fn gather(&mut self, leader: u64) {
        let keys: Vec<EntityKey> = self.recorder.traces.keys().copied().collect();
        for gift in keys {
            let row = self.nodes[&leader].state.state.get(SHARD, &gift).expect("rows are readable");
            if let Some(row) = row {
                self.recorder.left(gift, row.version, &row.state);
            }
        }
        let kinds = kinds();
        for key in self.recorder.others.clone() {
            let row = self.nodes[&leader].state.state.get(SHARD, &key).expect("rows are readable");
            let kind = kinds.get(key.kind).expect("it is registered");
            if let Some(row) = row {
                let live = kind.load(key, Some(&row.state)).expect("a stored state decodes");
                self.recorder.other_left(key, row.version, &live.wants());
            }
        }
        let wall = self.true_wall();
        self.providers.bank.settle(wall);
        self.gather_orders(leader);
        self.gather_bookings();
        let (voters, unanswered) = (self.voters(leader), self.unanswered());
        let history = &mut self.recorder.history;
        (history.voters, history.unanswered) = (voters, unanswered);
        history.seats = std::mem::take(&mut self.recorder.seats.rows);
        history.queues = std::mem::take(&mut self.recorder.seats.queues);
        history.sends = std::mem::take(&mut self.providers.sends);
        history.calls = std::mem::take(&mut self.providers.calls);
        history.bad_answers = std::mem::take(&mut self.providers.bad_answers);
        history.moves = std::mem::take(&mut self.providers.bank.moves);
        history.payments = self.providers.bank.rows();
        history.clock_error = CLOCK_ERROR;
        history.ended_at = wall;
        self.count();
    }

    /// The voters that run, the leader first.
    fn voters(&self, leader: u64) -> Vec<VoterRow> {
        let members = self.checks.members().map(|members| members.voters.clone()).unwrap_or_default();
        let others = members.into_iter().filter(|peer| *peer != leader && self.nodes[peer].runs());
        let row = |replica: u64| VoterRow { replica, applied: self.nodes[&replica].state.applied() };
        std::iter::once(leader).chain(others).map(row).collect()
    }

    /// The sums of the run.
    fn count(&mut self) {
        let history = &self.recorder.history;
        let outcome = &mut self.outcome;
        outcome.reserved = self.clients.reserved;
        outcome.acknowledged = self.clients.acknowledged;
        outcome.refused = self.clients.refused;
        outcome.repeated = self.clients.repeated;
        outcome.unanswered = self.clients.unanswered;
        outcome.entries = self.checks.last().0;
        outcome.terms = self.checks.terms();
        outcome.sends = history.sends.iter().filter(|row| row.effective).count() as u64;
        outcome.absorbed = history.sends.iter().filter(|row| !row.effective).count() as u64;
        outcome.batched = self.providers.batched;
        outcome.captured = history.moves.iter().filter(|row| row.refund.is_none()).count() as u64;
        outcome.refunded = history.moves.iter().filter(|row| row.refund.is_some()).count() as u64;
        let told: BTreeSet<EntityKey> = history
            .replies
            .iter()
            .filter(|reply| matches!(reply.told, Told::Done { .. }))
            .map(|reply| reply.gift)
            .collect();
        outcome.gifts = told.iter().filter(|key| key.kind == GIFT).count() as u64;
        outcome.coupons = history.claims.iter().filter(|claim| claim.told == ClaimTold::Won).count() as u64;
        let makes_part = |fact: &&Fact| matches!(fact, Fact::PartPromised { .. });
        outcome.parts = history.records.iter().flat_map(|row| &row.facts).filter(makes_part).count() as u64;
        outcome.orders = history.orders.len() as u64;
        let confirmed = |booking: &&BookingRow| matches!(booking.end, BookingEnd::Confirmed { .. });
        outcome.booked = history.bookings.iter().filter(confirmed).count() as u64;
        outcome.unbooked = history.bookings.len() as u64 - outcome.booked;
        let beyond = inv03_on_time::beyond_faults(history).into_values().map(|(_, _, beyond)| beyond.0);
        outcome.late_max_ms = beyond.max().unwrap_or(0).max(0);
        debug_assert!(
            history.records.iter().any(|row| row.facts.iter().any(|fact| matches!(fact, Fact::Reserved { .. })))
        );
    }
}
