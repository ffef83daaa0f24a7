//! Adaptive concurrency: how many calls a provider is given at once, learnt from its latency and its overload answers, and
//! from how long this node itself takes to commit what it decided before it calls.
//!
//! AIMD over windows of about one "round" (as many calls as the limit, 8 to 256):
//!
//! | what the window showed | limit |
//! |---|---|
//! | the provider says that it is too much (429) | × 0.7 at once, at most once for the calls that were open then |
//! | more than an eighth of a window failed (5xx, timeout, no connection) | the same, as soon as that is seen |
//! | fewer failed | nothing: replies get lost, one machine of many is broken, and fewer calls at once would mend neither |
//! | some failed, at most half, and the limit is no higher than at the start | the same at the window's end, and that share is the usual one, to which the eighth is added, and slow start again: it is not we who make calls fail |
//! | mean latency > 2 × baseline + 25 ms | × 0.9; × 0.7 beyond twice that |
//! | the same, and the limit is at its lower bound | the mean is the baseline, and slow start again: it is not we who make it slow |
//! | mean delay of our own > 250 ms | × 0.9, not below the start: more open attempts only queue in our log |
//! | mean delay of our own > 100 ms | unchanged, unless below the start |
//! | healthy and at least 80 % used, never congested yet | × 2 (slow start) |
//! | healthy and at least 80 % used | + √limit |
//! | healthy, less used | unchanged: an idle provider proves nothing |
//!
//! The baseline is the lowest window mean, drifting up by 1/64 of the excess a window. The usual share of failures is 0 until one is
//! accepted; then it follows the windows by 1/16 down and 1/64 up. Growth and cuts follow Netflix' concurrency-limits (AIMD and Gradient2).
//!
//! Invariant: `min ≤ limit ≤ max`, always.

/// Latency of one call in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// Delay of our own, between the grant and the end of a call less its latency, at which more attempts bring nothing. It is
/// about what every other record of this node waits as well, and a reservation makes several of them.
const OWN_DELAY_ENOUGH: Micros = Micros(100_000);
const OWN_DELAY_TOO_LONG: Micros = Micros(250_000);
/// What one call adds to the mean at most: a clock that jumps is not a delay.
const OWN_DELAY_MAX: Micros = Micros(10_000_000);
/// Added to twice the baseline before latency counts as congestion: scheduling noise of this machine.
const TOLERANCE: Micros = Micros(25_000);
/// A window in which more than one call of so many fails shows an overload. A limit that every lost reply cut would come to rest where
/// a window holds one of them: 5 % of lost replies would hold a node to some twenty calls at once, however well the provider is.
const FAILURES_TOLERATED_PERMILLE: u32 = 125;
/// A larger share is no usual one: that is the breaker's to judge.
const FAILURES_USUAL_PERMILLE_MAX: u32 = 500;
const WINDOW_MIN: u32 = 8;
const WINDOW_MAX: u32 = 256;

/// Bounds of the limit, in open attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    /// Where it begins; after an outage it begins at `min`.
    pub start: u32,
    pub max: u32,
}

/// The adaptive limit.
#[derive(Clone, Debug)]
pub struct Concurrency {
    bounds: Bounds,
    limit: u32,
    slow_start: bool,
    baseline: Option<Micros>,
    /// Of so many calls in a thousand it is known that they fail however few there are at once.
    usual_failures: u32,
    window: Window,
    /// Calls that were open at the last cut and say nothing new about overload.
    stale: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Good calls.
    count: u32,
    failed: u32,
    sum: u64,
    own_delay_sum: u64,
    open_peak: u32,
}

impl Concurrency {
    /// Bounds out of order are put in order: `1 ≤ min ≤ start ≤ max`.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let min = bounds.min.max(1);
        let max = bounds.max.max(min);
        let bounds = Bounds { min, max, start: bounds.start.clamp(min, max) };
        let limit = bounds.start;
        let window = Window::default();
        Self { bounds, limit, slow_start: true, baseline: None, usual_failures: 0, window, stale: 0 }
    }

    /// Open attempts allowed now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// A call was granted; `open` counts it.
    pub fn opened(&mut self, open: u32) {
        self.window.open_peak = self.window.open_peak.max(open);
    }

    /// A call came back healthy, `held` after it was granted.
    pub fn good(&mut self, latency: Micros, held: Micros) {
        let own_delay = held.0.saturating_sub(latency.0).min(OWN_DELAY_MAX.0);
        self.stale = self.stale.saturating_sub(1);
        self.window.count += 1;
        self.window.sum = self.window.sum.saturating_add(latency.0);
        self.window.own_delay_sum += own_delay;
        self.close_full_window();
    }

    /// The provider says that it is given too much; `open` counts the calls still open.
    pub fn throttled(&mut self, open: u32) {
        if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        self.cut_for(open);
    }

    /// A call failed, or did not come back in time; `open` counts those still open.
    pub fn failed(&mut self, open: u32) {
        if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        self.window.failed += 1;
        let failures = self.window.failed * 1_000 / self.window_size();
        if self.limit > self.bounds.start && failures > self.tolerated_failures() {
            self.cut_for(open);
        } else {
            self.close_full_window();
        }
    }

    /// Of a thousand calls in a window.
    fn tolerated_failures(&self) -> u32 {
        self.usual_failures + FAILURES_TOLERATED_PERMILLE
    }

    /// A call came back and says nothing about the provider's health.
    pub fn void(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// Begins again at the lower bound, in slow start: the provider comes back from an outage.
    pub fn restart(&mut self) {
        self.limit = self.bounds.min;
        self.slow_start = true;
        self.usual_failures = 0;
        self.window = Window::default();
        self.stale = 0;
    }

    fn cut_for(&mut self, open: u32) {
        self.cut(700, self.bounds.min);
        self.stale = open;
        self.window = Window::default();
    }

    fn window_size(&self) -> u32 {
        self.limit.clamp(WINDOW_MIN, WINDOW_MAX)
    }

    fn close_full_window(&mut self) {
        if self.window.count + self.window.failed >= self.window_size() {
            self.close_window();
        }
    }

    fn close_window(&mut self) {
        let window = std::mem::take(&mut self.window);
        let failures = window.failed * 1_000 / (window.count + window.failed).max(1);
        let too_many = failures > self.tolerated_failures();
        if too_many {
            self.cut(700, self.bounds.min);
        }
        if failures > FAILURES_USUAL_PERMILLE_MAX {
            return;
        }
        self.learn_failures(failures);
        if too_many {
            return;
        }
        let mean = Micros(window.sum / u64::from(window.count.max(1)));
        let baseline = match self.baseline {
            Some(known) if known < mean => Micros(known.0 + (mean.0 - known.0) / 64),
            Some(_) | None => mean,
        };
        self.baseline = Some(baseline);
        let own_delay = Micros(window.own_delay_sum / u64::from(window.count.max(1)));
        let used = u64::from(window.open_peak) * 10 >= u64::from(self.limit) * 8;
        let slow = baseline.0.saturating_mul(2).saturating_add(TOLERANCE.0);
        if mean.0 > slow && self.limit > self.bounds.min {
            self.cut(if mean.0 > slow.saturating_mul(2) { 700 } else { 900 }, self.bounds.min);
        } else if mean.0 > slow {
            self.baseline = Some(mean);
            self.slow_start = true;
        } else if own_delay > OWN_DELAY_TOO_LONG {
            // At the start of a burst much of this node's work is behind it; slow start goes on when it is done.
            if self.limit > self.bounds.start {
                self.cut(900, self.bounds.start);
            }
        } else if used && (own_delay <= OWN_DELAY_ENOUGH || self.limit < self.bounds.start) {
            let step = if self.slow_start { self.limit } else { self.limit.isqrt().max(1) };
            self.limit = self.limit.saturating_add(step).min(self.bounds.max);
        }
    }

    /// Of a window with a tolerable share of failures, in thousandths.
    fn learn_failures(&mut self, share: u32) {
        let usual = self.usual_failures;
        self.usual_failures = if share > usual && self.limit <= self.bounds.start {
            self.slow_start = true;
            share
        } else if share < usual {
            usual - (usual - share) / 16
        } else if usual > 0 {
            usual + (share - usual) / 64
        } else {
            0
        };
    }

    fn cut(&mut self, permille: u64, floor: u32) {
        let limit = u64::from(self.limit) * permille / 1_000;
        self.limit = u32::try_from(limit).unwrap_or(u32::MAX).clamp(floor, self.bounds.max);
        self.slow_start = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    const BOUNDS: Bounds = Bounds { min: 4, start: 16, max: 200 };

    /// `rounds` rounds of a provider that is kept full.
    fn busy_rounds(limit: &mut Concurrency, rounds: u32, latency: Micros) {
        for _ in 0..rounds {
            limit.opened(limit.limit());
            for _ in 0..limit.limit().clamp(WINDOW_MIN, WINDOW_MAX) {
                limit.good(latency, latency);
            }
        }
    }

    #[test]
    fn a_healthy_busy_provider_is_given_the_maximum_within_a_few_rounds() {
        let mut limit = Concurrency::new(BOUNDS);
        busy_rounds(&mut limit, 4, Micros(5_000));
        assert_eq!(limit.limit(), 200);
    }

    #[test]
    fn an_idle_provider_is_not_given_more() {
        let mut limit = Concurrency::new(BOUNDS);
        for _ in 0..1_000 {
            limit.opened(1);
            limit.good(Micros(5_000), Micros(5_000));
        }
        assert_eq!(limit.limit(), 16);
    }

    #[test]
    fn one_wave_of_overload_cuts_once() {
        let mut limit = Concurrency::new(BOUNDS);
        busy_rounds(&mut limit, 4, Micros(5_000));
        for open in (0..100).rev() {
            limit.throttled(open);
        }
        assert_eq!(limit.limit(), 140);
        limit.throttled(0);
        assert_eq!(limit.limit(), 98, "a call that was made after the cut tells something new");
    }

    #[test]
    fn replies_that_get_lost_now_and_then_do_not_hold_the_limit_down() {
        let mut limit = Concurrency::new(BOUNDS);
        for call in 0u32..4_000 {
            limit.opened(limit.limit());
            if call % 20 == 0 {
                limit.failed(limit.limit());
            } else {
                limit.good(Micros(5_000), Micros(5_000));
            }
        }
        assert_eq!(limit.limit(), 200);
    }

    /// Calls of which `failing` in a thousand fail, as a generator of fixed seed has it; the limit after each.
    fn failing_rounds(limit: &mut Concurrency, calls: u32, failing: u32) -> Vec<u32> {
        let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let step = |_| {
            limit.opened(limit.limit());
            if dice.random_range(0..1_000) < failing {
                limit.failed(limit.limit());
            } else {
                limit.good(Micros(5_000), Micros(5_000));
            }
            limit.limit()
        };
        (0..calls).map(step).collect()
    }

    #[test]
    fn calls_that_fail_however_few_there_are_at_once_do_not_hold_the_limit_down() {
        for failing in [150, 200, 300, 400] {
            let mut limit = Concurrency::new(BOUNDS);
            busy_rounds(&mut limit, 4, Micros(5_000));
            let limits = failing_rounds(&mut limit, 4_000, failing);
            assert!(limits.iter().any(|limit| *limit < 16), "{failing}: fewer at once are tried first");
            let later = &limits[1_000..];
            let mean = later.iter().sum::<u32>() / 3_000;
            assert!(mean > 100, "{failing}: {mean}");
        }
    }

    #[test]
    fn a_share_that_was_accepted_is_forgotten_when_calls_succeed_again() {
        let mut limit = Concurrency::new(BOUNDS);
        failing_rounds(&mut limit, 4_000, 300);
        busy_rounds(&mut limit, 200, Micros(5_000));
        assert_eq!((limit.limit(), limit.usual_failures < 20), (200, true));
        failing_rounds(&mut limit, 200, 300);
        assert!(limit.limit() < 200, "and is an overload again");
    }

    #[test]
    fn a_provider_that_answers_little_or_nothing_is_given_the_minimum() {
        for failing in [700, 1_000] {
            let mut limit = Concurrency::new(BOUNDS);
            busy_rounds(&mut limit, 4, Micros(5_000));
            let limits = failing_rounds(&mut limit, 4_000, failing);
            let later = &limits[1_000..];
            assert!(later.iter().sum::<u32>() / 3_000 < 8, "{failing}");
        }
    }

    #[test]
    fn one_wave_of_failures_cuts_once() {
        let mut limit = Concurrency::new(BOUNDS);
        busy_rounds(&mut limit, 4, Micros(5_000));
        for open in (0..200).rev() {
            limit.failed(open);
        }
        assert_eq!(limit.limit(), 140);
    }

    #[test]
    fn rising_latency_lowers_the_limit_and_recovery_is_additive() {
        let mut limit = Concurrency::new(BOUNDS);
        busy_rounds(&mut limit, 4, Micros(5_000));
        busy_rounds(&mut limit, 3, Micros(60_000));
        assert_eq!(limit.limit(), 145, "200 x 0.9 x 0.9 x 0.9");
        busy_rounds(&mut limit, 1, Micros(5_000));
        assert_eq!(limit.limit(), 157, "plus the square root, not twice");
    }

    #[test]
    fn a_provider_that_became_slow_for_good_is_accepted() {
        let mut limit = Concurrency::new(BOUNDS);
        busy_rounds(&mut limit, 4, Micros(5_000));
        busy_rounds(&mut limit, 60, Micros(60_000));
        assert_eq!(limit.limit(), 200);
        busy_rounds(&mut limit, 10, Micros(5_000_000));
        assert!(limit.limit() < 16, "fewer at once are tried first: {}", limit.limit());
        busy_rounds(&mut limit, 10, Micros(5_000_000));
        assert_eq!(limit.limit(), 200, "and then it is not our doing");
    }

    /// Rounds in which the provider answers at once and this node takes `held` about each call.
    fn slow_rounds(limit: &mut Concurrency, rounds: u32, held: Micros) {
        for _ in 0..rounds {
            limit.opened(limit.limit());
            (0..limit.limit().clamp(WINDOW_MIN, WINDOW_MAX)).for_each(|_| limit.good(Micros(5_000), held));
        }
    }

    #[test]
    fn attempts_that_would_only_queue_in_our_own_log_are_not_opened() {
        let mut limit = Concurrency::new(BOUNDS);
        slow_rounds(&mut limit, 20, Micros(200_000));
        assert_eq!(limit.limit(), 16, "enough: it stays where it began");
        slow_rounds(&mut limit, 4, Micros(20_000));
        assert_eq!(limit.limit(), 200);
        slow_rounds(&mut limit, 2, Micros(300_000));
        assert_eq!(limit.limit(), 162, "200 x 0.9 x 0.9");
        slow_rounds(&mut limit, 100, Micros(300_000));
        assert_eq!(limit.limit(), 16, "a slow log is no reason to send less than at the start");
    }

    #[test]
    fn a_burst_whose_first_calls_are_slow_here_is_still_given_the_maximum_soon() {
        let mut limit = Concurrency::new(BOUNDS);
        slow_rounds(&mut limit, 3, Micros(900_000));
        assert_eq!(limit.limit(), 16);
        slow_rounds(&mut limit, 4, Micros(20_000));
        assert_eq!(limit.limit(), 200);
    }

    #[test]
    fn below_the_start_our_own_delay_neither_cuts_nor_holds_down() {
        let mut limit = Concurrency::new(BOUNDS);
        for _ in 0..20 {
            limit.throttled(0);
        }
        assert_eq!(limit.limit(), 4);
        slow_rounds(&mut limit, 3, Micros(900_000));
        assert_eq!(limit.limit(), 4, "too long a delay: no more");
        slow_rounds(&mut limit, 40, Micros(200_000));
        assert_eq!(limit.limit(), 16, "back to where it began");
    }

    #[test]
    fn after_an_outage_it_begins_at_the_minimum() {
        let mut limit = Concurrency::new(BOUNDS);
        busy_rounds(&mut limit, 4, Micros(5_000));
        limit.restart();
        assert_eq!(limit.limit(), 4);
        busy_rounds(&mut limit, 1, Micros(5_000));
        assert_eq!(limit.limit(), 8);
    }

    proptest! {
        #[test]
        fn the_limit_never_leaves_its_bounds(
            min in 0u32..50, start in 0u32..500, max in 0u32..300,
            steps in prop::collection::vec((0u8..6, 0u64..500_000, 0u64..2_000_000, 0u32..400), 0..600),
        ) {
            let mut limit = Concurrency::new(Bounds { min, start, max });
            let bounds = limit.bounds();
            for (step, latency, held, open) in steps {
                match step {
                    0 => limit.throttled(open),
                    5 => limit.failed(open),
                    1 => limit.restart(),
                    2 => limit.opened(open),
                    _ => limit.good(Micros(latency), Micros(held)),
                }
                prop_assert!(limit.limit() >= bounds.min && limit.limit() <= bounds.max && bounds.min >= 1);
            }
        }
    }
}
