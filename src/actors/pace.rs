//! How many calls of entities to each other this node has open at once: as many as are answered in good time.
//!
//! What a request leads to (the steps of an order behind its acceptance, the payment of a seat from a wallet) competes
//! with the next requests for the same log. While answers take long more open calls only queue in logs, and every request
//! would wait behind them; so the work that nobody waits for goes at the pace that is left, in due order, and never
//! slower than [`BOUNDS`] allows. It is the policy of the gateways' own delay, for calls that never leave the cluster.

use crate::gateways::policy::concurrency::{Bounds, Concurrency, Micros};
use crate::gateways::{Busy, GrantSink, Permit};
use crate::types::time::{BootMillis, Clock, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Open calls. The start is the least that a slow log leaves: enough for some tens of calls a second when each takes one.
const BOUNDS: Bounds = Bounds { min: 16, start: 16, max: 1_024 };
/// Calls that wait in memory; the wants of others stay on disk.
const WAITING_MAX: usize = 16_384;

struct Open {
    limit: Concurrency,
    count: u32,
    /// Grants by due instant, then arrival.
    waiting: BTreeMap<(Timestamp, u64), GrantSink>,
    arrivals: u64,
    /// Somebody is granting: a place that is given back meanwhile is seen there.
    granting: bool,
}

/// One per node; see the file header.
pub struct Pace {
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
}

impl Pace {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let limit = Concurrency::new(BOUNDS);
        let open = Open { limit, count: 0, waiting: BTreeMap::new(), arrivals: 0, granting: false };
        Arc::new(Self { clock, open: Mutex::new(open) })
    }

    /// Grants a call its place, now or when its turn has come; dropping the permit gives the place back.
    ///
    /// # Errors
    /// [`Busy`]: too many wait; `grant` was dropped.
    pub fn request(self: &Arc<Self>, due: Timestamp, grant: GrantSink) -> Result<(), Busy> {
        {
            let mut open = self.open.lock();
            if open.waiting.len() >= WAITING_MAX {
                return Err(Busy);
            }
            open.arrivals += 1;
            let place = (due, open.arrivals);
            open.waiting.insert(place, grant);
        }
        self.grant();
        Ok(())
    }

    /// Calls open, and waiting for their turn.
    #[must_use]
    pub fn load(&self) -> (u32, usize) {
        let open = self.open.lock();
        (open.count, open.waiting.len())
    }

    /// Grants what there is room for. No lock is held while a sink is called, and a sink that drops its permit at once does
    /// not call the next one: thousands may do so, of entities that have ended.
    fn grant(self: &Arc<Self>) {
        if std::mem::replace(&mut self.open.lock().granting, true) {
            return;
        }
        while let Some(grant) = self.next() {
            let (pace, granted_at) = (Arc::clone(self), self.clock.boot());
            grant(Permit::new(Box::new(|_, _, _| {}), Box::new(move || pace.give_back(granted_at))));
        }
    }

    fn next(&self) -> Option<GrantSink> {
        let mut open = self.open.lock();
        let next = if open.count < open.limit.limit() { open.waiting.pop_first() } else { None };
        match next {
            Some((_, grant)) => {
                open.count += 1;
                let count = open.count;
                open.limit.opened(count);
                Some(grant)
            }
            None => {
                open.granting = false;
                None
            }
        }
    }

    fn give_back(self: &Arc<Self>, granted_at: BootMillis) {
        let held_ms = self.clock.boot().0.saturating_sub(granted_at.0);
        {
            let mut open = self.open.lock();
            open.count -= 1;
            // All of it is the cluster's own doing.
            open.limit.good(Micros(0), Micros(held_ms.saturating_mul(1_000)));
        }
        self.grant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::HandBoot;
    use std::sync::atomic::Ordering;

    type Granted = Arc<Mutex<Vec<(i64, Permit)>>>;

    struct Bench {
        clock: Arc<HandBoot>,
        pace: Arc<Pace>,
        granted: Granted,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(HandBoot::default());
            Self { pace: Pace::new(clock.clone()), clock, granted: Granted::default() }
        }

        fn ask(&self, due: i64) -> Result<(), Busy> {
            let granted = self.granted.clone();
            self.pace.request(Timestamp(due), Box::new(move |permit| granted.lock().push((due, permit))))
        }

        fn open(&self) -> usize {
            self.granted.lock().len()
        }

        /// All open calls are answered after so long; returns what they were due at.
        fn answer_all(&self, after_ms: u64) -> Vec<i64> {
            self.clock.0.fetch_add(after_ms, Ordering::Relaxed);
            let answered = std::mem::take(&mut *self.granted.lock());
            answered.into_iter().map(|(due, _given_back)| due).collect()
        }
    }

    #[test]
    fn so_many_at_once_the_others_in_due_order() {
        let bench = Bench::new();
        (0..40).rev().for_each(|due| bench.ask(due).unwrap());
        assert_eq!(bench.open(), 16);
        assert_eq!(bench.pace.load(), (16, 24));
        assert_eq!(
            bench.answer_all(400),
            (24..40).rev().collect::<Vec<_>>(),
            "whoever came first, while there was room"
        );
        assert_eq!(bench.answer_all(400), (0..16).collect::<Vec<_>>());
        assert_eq!(bench.answer_all(400), (16..24).collect::<Vec<_>>());
        assert_eq!(bench.open(), 0);
    }

    #[test]
    fn answers_in_good_time_raise_the_limit_and_late_ones_lower_it_to_where_it_began() {
        let bench = Bench::new();
        let keep_full = |rounds: usize, after_ms: u64| {
            for _ in 0..rounds {
                (0..2_000).for_each(|due| bench.ask(due).unwrap());
                while !bench.answer_all(after_ms).is_empty() {}
            }
        };
        keep_full(4, 5);
        (0..2_000).for_each(|due| bench.ask(due).unwrap());
        assert_eq!(bench.open(), 1_024);
        while !bench.answer_all(5).is_empty() {}
        keep_full(200, 400);
        (0..2_000).for_each(|due| bench.ask(due).unwrap());
        assert_eq!(bench.open(), 16);
    }

    #[test]
    fn places_that_nobody_wants_any_more_go_on_to_the_next_without_a_stack_of_their_own() {
        let bench = Bench::new();
        (0..16).for_each(|due| bench.ask(due).unwrap());
        (0..WAITING_MAX).for_each(|_| bench.pace.request(Timestamp(0), Box::new(drop)).unwrap());
        bench.answer_all(1);
        (0..16).for_each(|due| bench.ask(due).unwrap());
        assert_eq!(bench.open(), 16);
    }

    #[test]
    fn more_than_may_wait_are_turned_away() {
        let bench = Bench::new();
        (0..WAITING_MAX + 16).for_each(|_| bench.ask(0).unwrap());
        assert_eq!(bench.ask(0), Err(Busy));
        bench.answer_all(1);
        assert!(bench.ask(0).is_ok());
    }
}
