//! What a round is judged and drawn by, put together from the ledger, the clients and the looks at the cluster.

use crate::chaos::failover::{due_soon, failovers};
use crate::chaos::gauge::Blow;
use crate::chaos::happening::{Happening, What};
use crate::chaos::looks::{Axis, Looks};
use crate::chaos::report::Seen;
use crate::chaos::series::{Exchanges, Observed, series};
use crate::chaos::spans::{Span, disturbed_ms, spans};
use crate::chaos::stats::Spread;
use crate::chaos::worst::WorstGift;
use crate::load::ledger::Arrival;

/// What the lateness of a gift may not exceed, beyond the faults' own length.
const PROMISE_MS: i64 = 60_000;
const SECOND_MS: i64 = 1_000;

/// A round as it was found.
pub struct Findings<'a> {
    pub axis: Axis,
    pub shards: u16,
    pub arrivals: &'a [Arrival],
    pub looks: &'a Looks,
    pub happenings: &'a [Happening],
    /// How the clients that reserve meanwhile were answered.
    pub clients: &'a Clients,
}

/// The clients that reserve through the faults.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    /// When they began, on the axis, and for how many seconds they asked.
    pub began_ms: i64,
    pub seconds: u64,
    pub exchanges: Vec<Exchanges>,
}

impl Findings<'_> {
    /// Each kill again, with the gifts that were due at it by the ledger: those of a ramp are not all due at once.
    #[must_use]
    pub fn blows(&self, blows: Vec<Blow>) -> Vec<Blow> {
        let soon = |blow: &Blow| due_soon(self.arrivals, self.axis, blow.at_ms_since_round_start);
        blows.into_iter().map(|blow| Blow { due_soon: soon(&blow), ..blow }).collect()
    }

    /// For the report.
    #[must_use]
    pub fn seen(&self, blows: &[Blow], worst: Vec<WorstGift>) -> Seen {
        let Self { axis, shards, arrivals, looks, happenings, clients } = self;
        let observed = Observed { axis: *axis, arrivals, exchanges: &clients.exchanges, happenings, looks };
        let mut lateness = Spread::default();
        arrivals.iter().filter_map(Arrival::lateness_ms).for_each(|ms| lateness.record(ms));
        let spans = spans(happenings);
        let late = arrivals.iter().filter(|arrival| is_late(arrival, *axis, &spans)).count();
        let fault = happenings.iter().find(|edge| edge.what == What::Began).map(|edge| edge.at_ms_since_round_start);
        let bad_seconds = bad_seconds(clients);
        let fault = fault.and_then(|ms| i64::try_from(ms).ok());
        let back = fault.zip(bad_seconds.last()).map(|(fault_ms, from_ms)| from_ms + SECOND_MS - fault_ms);
        Seen {
            series: series(&observed),
            failovers: failovers(happenings, blows, (looks, arrivals, &bad_seconds), (*axis, *shards)),
            worst,
            lateness,
            late_beyond_faults: late as u64,
            asked_seconds: clients.seconds,
            good_seconds: clients.seconds.saturating_sub(bad_seconds.len() as u64),
            clients_back_ms: back.and_then(|ms| u64::try_from(ms).ok()),
        }
    }
}

fn is_late(arrival: &Arrival, axis: Axis, spans: &[Span]) -> bool {
    let (Some(sent), Some(lateness)) = (arrival.first_at, arrival.lateness_ms()) else { return false };
    if lateness <= PROMISE_MS {
        return false;
    }
    lateness - disturbed_ms(spans, axis.place_ms(arrival.gift.due), axis.place_ms(sent)) > PROMISE_MS
}

/// The begins of the seconds, in order, in which less than half of what came back was an acceptance, or nothing was.
fn bad_seconds(clients: &Clients) -> Vec<i64> {
    let is_bad = |from_ms: &i64| {
        let within = clients.exchanges.iter().filter(|row| (*from_ms..from_ms + SECOND_MS).contains(&row.at_ms));
        let (mut accepted, mut all) = (0, 0);
        for row in within {
            accepted += row.accepted;
            all += row.accepted + row.refused + row.silent;
        }
        accepted == 0 || accepted * 2 < all
    };
    let seconds = i64::try_from(clients.seconds).unwrap_or(0);
    (0..seconds).map(|second| clients.began_ms + second * SECOND_MS).filter(is_bad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::happening::Target;
    use crate::load::ledger::Promise;
    use crate::types::time::Timestamp;

    fn arrival(due: i64, sent: i64) -> Arrival {
        let gift = Promise { id: [1; 16], due: Timestamp(due), number: 0 };
        Arrival { gift, requests: 1, effective: 1, first_at: Some(Timestamp(sent)) }
    }

    fn edge(at: u64, what: What) -> Happening {
        Happening { at_ms_since_round_start: at, target: Target::Node(1), what, name: "killed".to_owned() }
    }

    fn seen(arrivals: &[Arrival], happenings: &[Happening], clients: &Clients) -> Seen {
        let (axis, looks) = (Axis::new(Timestamp(0), 0), Looks::default());
        let found = Findings { axis, shards: 64, arrivals, looks: &looks, happenings, clients };
        found.seen(&[], Vec::new())
    }

    #[test]
    fn a_gift_may_be_late_by_the_promise_and_the_faults_length() {
        let faults = [edge(10_000, What::Began), edge(40_000, What::Ended)];
        let late = |sent| seen(&[arrival(5_000, sent)], &faults, &Clients::default()).late_beyond_faults;
        assert_eq!([late(65_000), late(95_000), late(95_001)], [0, 0, 1]);
        let calm = seen(&[arrival(50_000, 110_001)], &faults, &Clients::default());
        assert_eq!(calm.late_beyond_faults, 1, "the fault was over before it was due");
    }

    #[test]
    fn seconds_without_an_answer_or_with_mostly_refusals_are_lost() {
        let row = |at_ms, accepted, refused| Exchanges { at_ms, accepted, refused, silent: 0 };
        let exchanges = vec![row(1_100, 5, 0), row(2_500, 1, 2), row(3_200, 1, 1), row(5_900, 9, 0)];
        let clients = Clients { began_ms: 1_000, seconds: 5, exchanges };
        let found = seen(&[], &[edge(2_400, What::Began)], &clients);
        assert_eq!((found.asked_seconds, found.good_seconds), (5, 3));
        assert_eq!(found.clients_back_ms, Some(2_600), "the second from 4 s to 5 s had no answer");
        let calm = Clients { seconds: 1, ..clients };
        assert_eq!(seen(&[], &[edge(2_400, What::Began)], &calm).clients_back_ms, None);
    }

    #[test]
    fn what_was_due_at_a_kill_is_read_from_the_ledger() {
        let arrivals = [arrival(1_000, 9_000), arrival(6_900, 9_000), arrival(7_100, 9_000), arrival(0, 1_500)];
        let (axis, looks, clients) = (Axis::new(Timestamp(0), 0), Looks::default(), Clients::default());
        let found =
            Findings { axis, shards: 64, arrivals: &arrivals, looks: &looks, happenings: &[], clients: &clients };
        let blow = Blow { node: 1, at_ms_since_round_start: 2_000, open_attempts: 3, due_soon: 99 };
        assert_eq!(found.blows(vec![blow])[0].due_soon, 2);
    }
}
