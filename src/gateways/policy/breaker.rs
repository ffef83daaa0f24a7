//! Circuit breaker: stops calling a provider that does not answer, and comes back with a few probes.
//!
//! | state | on | becomes |
//! |---|---|---|
//! | closed | `unreachable_run` connections in a row that were never made | open |
//! | closed | `failure_permille` of at least `volume_min` calls within `window` failed | open |
//! | open | its wait (exponential, half of it jitter) is over | half-open |
//! | half-open | `probes` good probes | closed |
//! | half-open | one failed probe | open, with a longer wait |
//!
//! Calls that were let through before a change of state do not count after it (each pass carries its epoch).
//! Invariants: nothing passes while open; at most `probes` are out while half-open.

use crate::gateways::policy::backoff::Backoff;
use crate::types::time::{Millis, Timestamp};
use rand::RngCore;

/// When to open and how to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// Connections never made in a row that open it.
    pub unreachable_run: u32,
    /// Share of failures that opens it, in thousandths.
    pub failure_permille: u32,
    /// Calls within the window below which the share says nothing.
    pub volume_min: u32,
    pub window: Millis,
    /// How long it stays open.
    pub reopen: Backoff,
    /// Good probes that close it, and probes out at a time.
    pub probes: u32,
}

/// What the breaker says of a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may go, and its end is reported with this epoch.
    Pass(Epoch),
    /// All probes are out: one of them has to come back first. The provider has been away since `since`.
    AwaitProbe { since: Timestamp },
    /// Not before `until`; the provider has been away since `since`.
    Shut { until: Timestamp, since: Timestamp },
}

/// Counts changes of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// How a call ended, as far as the breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The provider answered, be it with a refusal.
    Answered,
    /// It did not, or said that it cannot.
    Failed,
    /// A connection was never made.
    Unreachable,
    /// Nothing was learnt: the call was not made.
    Void,
}

/// What a call's end changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    Opened { until: Timestamp },
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open { until: Timestamp },
    HalfOpen { out: u32, good: u32 },
}

impl BreakerState {
    /// As operators read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
}

/// The breaker of one provider.
#[derive(Clone, Debug)]
pub struct Breaker {
    rules: BreakerRules,
    state: BreakerState,
    epoch: Epoch,
    unreachable: u32,
    /// Openings since it last closed, and the instant of the first of them.
    tries: u32,
    away_since: Timestamp,
    halves: [Half; 2],
    half_from: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Half {
    calls: u32,
    failed: u32,
}

impl Breaker {
    #[must_use]
    pub fn new(rules: BreakerRules, now: Timestamp) -> Self {
        Self {
            rules: BreakerRules { probes: rules.probes.max(1), ..rules },
            state: BreakerState::Closed,
            epoch: Epoch(0),
            unreachable: 0,
            tries: 0,
            away_since: now,
            halves: [Half::default(); 2],
            half_from: now,
        }
    }

    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Since when the provider is away: the first opening since it was last closed. `None` while it is closed.
    #[must_use]
    pub fn away_since(&self) -> Option<Timestamp> {
        (self.state != BreakerState::Closed).then_some(self.away_since)
    }

    /// What a call at `now` would meet. An open breaker whose wait is over becomes half-open here.
    pub fn look(&mut self, now: Timestamp) -> Gate {
        match self.state {
            BreakerState::Closed => Gate::Pass(self.epoch),
            BreakerState::Open { until } if now < until => Gate::Shut { until, since: self.away_since },
            BreakerState::Open { .. } => {
                self.turn(BreakerState::HalfOpen { out: 0, good: 0 });
                Gate::Pass(self.epoch)
            }
            BreakerState::HalfOpen { out, good } if out + good >= self.rules.probes => {
                Gate::AwaitProbe { since: self.away_since }
            }
            BreakerState::HalfOpen { .. } => Gate::Pass(self.epoch),
        }
    }

    /// The call that [`Breaker::look`] let pass is granted.
    pub fn pass(&mut self) {
        if let BreakerState::HalfOpen { out, .. } = &mut self.state {
            *out += 1;
        }
    }

    /// A call that passed under `epoch` ended.
    pub fn ended(&mut self, epoch: Epoch, end: End, now: Timestamp, rng: &mut impl RngCore) -> Turn {
        if epoch != self.epoch {
            return Turn::None;
        }
        match self.state {
            BreakerState::Closed => self.ended_closed(end, now, rng),
            BreakerState::Open { .. } => Turn::None,
            BreakerState::HalfOpen { out, good } => self.ended_probe(end, (out, good), now, rng),
        }
    }

    fn ended_closed(&mut self, end: End, now: Timestamp, rng: &mut impl RngCore) -> Turn {
        if end == End::Void {
            return Turn::None;
        }
        self.rotate(now);
        let failed = end != End::Answered;
        self.halves[0].calls += 1;
        self.halves[0].failed += u32::from(failed);
        self.unreachable = if end == End::Unreachable { self.unreachable + 1 } else { 0 };
        let calls = u64::from(self.halves[0].calls) + u64::from(self.halves[1].calls);
        let failures = u64::from(self.halves[0].failed) + u64::from(self.halves[1].failed);
        let often = calls >= u64::from(self.rules.volume_min)
            && failures * 1_000 >= calls * u64::from(self.rules.failure_permille);
        if failed && (often || self.unreachable >= self.rules.unreachable_run) {
            return self.open(now, rng);
        }
        Turn::None
    }

    fn ended_probe(&mut self, end: End, (out, good): (u32, u32), now: Timestamp, rng: &mut impl RngCore) -> Turn {
        let out = out.saturating_sub(1);
        match end {
            End::Void => self.state = BreakerState::HalfOpen { out, good },
            End::Failed | End::Unreachable => return self.open(now, rng),
            End::Answered if good + 1 >= self.rules.probes => {
                self.turn(BreakerState::Closed);
                self.tries = 0;
                self.half_from = now;
                return Turn::Closed;
            }
            End::Answered => self.state = BreakerState::HalfOpen { out, good: good + 1 },
        }
        Turn::None
    }

    fn open(&mut self, now: Timestamp, rng: &mut impl RngCore) -> Turn {
        let until = now + self.rules.reopen.wait(self.tries, rng);
        if self.tries == 0 {
            self.away_since = now;
        }
        self.tries = self.tries.saturating_add(1);
        self.turn(BreakerState::Open { until });
        Turn::Opened { until }
    }

    fn turn(&mut self, state: BreakerState) {
        self.state = state;
        self.epoch = Epoch(self.epoch.0 + 1);
        self.unreachable = 0;
        self.halves = [Half::default(); 2];
    }

    /// Moves the window on: the older half falls out after half a window.
    fn rotate(&mut self, now: Timestamp) {
        let half = (self.rules.window.0 / 2).max(1);
        let gone = (now - self.half_from).0;
        if gone < half {
            return;
        }
        let older = if gone < half.saturating_mul(2) { self.halves[0] } else { Half::default() };
        self.halves = [Half::default(), older];
        self.half_from = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const RULES: BreakerRules = BreakerRules {
        unreachable_run: 3,
        failure_permille: 500,
        volume_min: 10,
        window: Millis(10_000),
        reopen: Backoff { first: Millis(1_000), max: Millis(30_000) },
        probes: 2,
    };

    struct Bench {
        breaker: Breaker,
        rng: ChaCha8Rng,
    }

    impl Bench {
        fn new() -> Self {
            Self { breaker: Breaker::new(RULES, Timestamp(0)), rng: ChaCha8Rng::seed_from_u64(1) }
        }
        fn call(&mut self, end: End, at: i64) -> Turn {
            let Gate::Pass(epoch) = self.breaker.look(Timestamp(at)) else { panic!("not let through at {at}") };
            self.breaker.pass();
            self.breaker.ended(epoch, end, Timestamp(at), &mut self.rng)
        }
        fn opened(&mut self) -> i64 {
            self.call(End::Unreachable, 0);
            self.call(End::Unreachable, 0);
            match self.call(End::Unreachable, 0) {
                Turn::Opened { until } => until.0,
                Turn::None | Turn::Closed => panic!("still closed after three connection failures"),
            }
        }
    }

    #[test]
    fn three_connections_never_made_open_it_at_once() {
        let mut bench = Bench::new();
        let until = bench.opened();
        assert!((500..=1_000).contains(&until), "half of the wait is jitter: {until}");
        assert_eq!(
            bench.breaker.look(Timestamp(until - 1)),
            Gate::Shut { until: Timestamp(until), since: Timestamp(0) }
        );
    }

    #[test]
    fn an_answer_in_between_ends_the_run() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            for end in [End::Answered, End::Answered, End::Answered, End::Unreachable, End::Unreachable] {
                assert_eq!(bench.call(end, 0), Turn::None);
            }
        }
    }

    #[test]
    fn half_of_the_calls_failing_opens_it_and_old_failures_fall_out() {
        let mut bench = Bench::new();
        for _ in 0..9 {
            assert_eq!(bench.call(End::Failed, 0), Turn::None, "too few calls to tell");
        }
        for _ in 0..9 {
            assert_eq!(bench.call(End::Failed, 20_000), Turn::None, "the first nine are out of the window");
        }
        assert!(matches!(bench.call(End::Failed, 20_000), Turn::Opened { .. }));
    }

    #[test]
    fn probes_close_it_one_failure_opens_it_for_longer() {
        let mut bench = Bench::new();
        let mut until = bench.opened();
        let mut waits = Vec::new();
        for _ in 0..4 {
            let Turn::Opened { until: next } = bench.call(End::Failed, until) else { panic!("a failed probe opens") };
            waits.push(next.0 - until);
            until = next.0;
            let Gate::Shut { since, .. } = bench.breaker.look(Timestamp(until - 1)) else { panic!("it is open") };
            assert_eq!(since, Timestamp(0), "away since it first opened");
            assert_eq!(bench.breaker.away_since(), Some(since));
        }
        assert!(waits[3] > waits[0], "{waits:?}");
        let Gate::Pass(epoch) = bench.breaker.look(Timestamp(until)) else { panic!("its wait is over") };
        bench.breaker.pass();
        bench.breaker.pass();
        assert_eq!(
            bench.breaker.look(Timestamp(until)),
            Gate::AwaitProbe { since: Timestamp(0) },
            "two probes are out"
        );
        assert_eq!(bench.breaker.away_since(), Some(Timestamp(0)), "not back yet");
        assert_eq!(bench.breaker.ended(epoch, End::Void, Timestamp(until), &mut bench.rng), Turn::None);
        assert_eq!(bench.breaker.look(Timestamp(until)), Gate::Pass(epoch), "a probe that was not made is replaced");
        bench.breaker.pass();
        assert_eq!(bench.breaker.ended(epoch, End::Answered, Timestamp(until), &mut bench.rng), Turn::None);
        assert_eq!(bench.breaker.ended(epoch, End::Answered, Timestamp(until), &mut bench.rng), Turn::Closed);
        assert_eq!((bench.breaker.state(), bench.breaker.away_since()), (BreakerState::Closed, None));
    }

    #[test]
    fn calls_from_before_it_opened_do_not_close_it() {
        let mut bench = Bench::new();
        let until = Timestamp(bench.opened());
        let Gate::Pass(_) = bench.breaker.look(until) else { panic!("its wait is over") };
        for _ in 0..10 {
            assert_eq!(bench.breaker.ended(Epoch(0), End::Answered, until, &mut bench.rng), Turn::None);
        }
        assert_eq!(bench.breaker.state(), BreakerState::HalfOpen { out: 0, good: 0 });
    }

    proptest! {
        #[test]
        fn nothing_passes_while_open_and_few_while_half_open(
            seed: u64, steps in prop::collection::vec((0i64..3_000, 0u8..8), 1..300),
        ) {
            let mut bench = Bench::new();
            bench.rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut now, mut out) = (0i64, Vec::new());
            for (pause, step) in steps {
                now += pause;
                if step >= 4 {
                    let before = bench.breaker.state();
                    match bench.breaker.look(Timestamp(now)) {
                        Gate::Pass(epoch) => {
                            if let BreakerState::Open { until } = before {
                                prop_assert!(now >= until.0);
                            }
                            bench.breaker.pass();
                            out.push(epoch);
                        }
                        Gate::AwaitProbe { .. } => prop_assert!(!out.is_empty(), "waits for nothing: stuck"),
                        Gate::Shut { until, since } => {
                            prop_assert!(until.0 > now && until.0 - now <= RULES.reopen.max.0 && since.0 <= now);
                        }
                    }
                } else if let Some(epoch) = out.pop() {
                    let end = [End::Answered, End::Failed, End::Unreachable, End::Void][usize::from(step)];
                    bench.breaker.ended(epoch, end, Timestamp(now), &mut bench.rng);
                }
                if let BreakerState::HalfOpen { out: probes, good } = bench.breaker.state() {
                    prop_assert!(probes + good <= RULES.probes);
                }
            }
        }
    }
}
