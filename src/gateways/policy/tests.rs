//! What the parts of the policy do together.

use super::*;
use proptest::prelude::*;

const RULES: Rules = Rules {
    rate: Rate { per_s: 1_000, burst: 100 },
    concurrency: Bounds { min: 4, start: 16, max: 64 },
    notice_permille: 250,
    breaker: BreakerRules {
        unreachable_run: 3,
        failure_permille: 500,
        volume_min: 20,
        window: Millis(10_000),
        reopen: Backoff { first: Millis(1_000), max: Millis(30_000) },
        probes: 2,
    },
    throttle: Backoff { first: Millis(200), max: Millis(10_000) },
    pause_max: Millis(60_000),
    slow_start: Millis(10_000),
    slow_start_permille: 100,
};

const GOOD: Health = Health::Good { latency: Some(Micros(2_000)) };

struct Bench {
    policy: Policy,
    open: Open,
    now: Timestamp,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { policy: Policy::new(rules, 5, Timestamp(0)), open: Open::default(), now: Timestamp(0) }
    }
    /// The end of the wait of a breaker that is open.
    fn shut_until(&mut self) -> Timestamp {
        match self.admit(Class::Send) {
            Admission::Away { how: Absence::Shut { until }, .. } => until,
            other => panic!("it is not open: {other:?}"),
        }
    }
    fn admit(&mut self, class: Class) -> Admission {
        let admission = self.policy.admit(class, self.open, self.now);
        if let Admission::Granted(_) = admission {
            match class {
                Class::Send => self.open.sends += 1,
                Class::Notice => self.open.notices += 1,
            }
        }
        admission
    }
    /// Grants as many as go; their passes.
    fn fill(&mut self, class: Class) -> Vec<Pass> {
        let mut passes = Vec::new();
        while let Admission::Granted(pass) = self.admit(class) {
            passes.push(pass);
        }
        passes
    }
    fn finish(&mut self, pass: Pass, health: Health) {
        self.open.sends = self.open.sends.saturating_sub(1);
        self.policy.finished(pass, health, self.open, self.now);
    }
    fn one(&mut self, health: Health) {
        let Admission::Granted(pass) = self.admit(Class::Send) else { panic!("no capacity") };
        self.finish(pass, health);
    }
}

#[test]
fn notices_take_a_share_of_the_concurrency_and_no_send_counts_them() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.fill(Class::Notice).len(), 4, "a quarter of 16");
    assert_eq!(bench.fill(Class::Send).len(), 16, "all of it is still there for sends");
    assert_eq!(bench.admit(Class::Notice), Admission::AfterReturn);
}

#[test]
fn a_flood_of_notices_leaves_the_burst_to_the_sends() {
    let rules = Rules { concurrency: Bounds { min: 1_000, start: 1_000, max: 1_000 }, ..RULES };
    let mut bench = Bench::new(rules);
    assert_eq!(bench.fill(Class::Notice).len(), 25);
    bench.now = Timestamp(1_000);
    assert_eq!(bench.fill(Class::Notice).len(), 25, "a rest gives them their share again, no more");
    assert_eq!(bench.fill(Class::Send).len(), 75);
}

#[test]
fn what_sends_have_left_of_the_burst_is_not_for_notices() {
    let rules = Rules { concurrency: Bounds { min: 1_000, start: 1_000, max: 1_000 }, ..RULES };
    let mut bench = Bench::new(rules);
    for _ in 0..50 {
        assert!(matches!(bench.admit(Class::Send), Admission::Granted(_)));
    }
    assert_eq!(bench.admit(Class::Notice), Admission::At(Timestamp(26)), "76 permits are there again by then");
    assert_eq!(bench.fill(Class::Send).len(), 50);
}

#[test]
fn a_permit_given_back_is_as_if_it_had_not_been_granted() {
    let mut bench = Bench::new(RULES);
    for class in [Class::Send, Class::Notice] {
        for _ in 0..500 {
            let Admission::Granted(pass) = bench.admit(class) else { panic!("{class:?} lost capacity") };
            bench.open = Open::default();
            bench.policy.returned(class, pass, bench.now);
        }
    }
}

fn paused(until: i64, since: Timestamp) -> Admission {
    Admission::Away { since, how: Absence::Pause { until: Timestamp(until) } }
}

#[test]
fn retry_after_stops_the_lane_until_then_and_it_comes_back_slowly() {
    let mut bench = Bench::new(RULES);
    bench.one(Health::Throttled { retry_after: Some(Millis(30_000)) });
    let away = paused(30_000, Timestamp(0));
    assert_eq!(bench.admit(Class::Send), away);
    assert_eq!(bench.admit(Class::Notice), away);
    assert_eq!(bench.policy.view().paused_until(bench.now), Some(Timestamp(30_000)));
    assert_eq!(bench.policy.view().rate_per_s(bench.now), 0);
    bench.now = Timestamp(30_000);
    assert_eq!(bench.policy.view().rate_per_s(bench.now), 100, "a tenth of the rate, seen before anyone asks");
    assert_eq!(bench.fill(Class::Send).len(), 1, "nothing was saved up");
    assert_eq!(bench.admit(Class::Send), Admission::At(Timestamp(30_010)));
    bench.now = Timestamp(40_000);
    assert!(!bench.policy.view().is_slow(bench.now));
    assert_eq!(bench.policy.view().rate_per_s(bench.now), 1_000);
}

#[test]
fn a_longer_retry_after_than_allowed_is_cut_and_a_pause_is_never_shortened() {
    let mut bench = Bench::new(RULES);
    let passes = bench.fill(Class::Send);
    bench.finish(passes[0], Health::Throttled { retry_after: Some(Millis::from_days(2)) });
    bench.finish(passes[1], Health::Throttled { retry_after: Some(Millis(1)) });
    bench.finish(passes[2], Health::Throttled { retry_after: None });
    assert_eq!(bench.admit(Class::Send), paused(60_000, Timestamp(0)));
}

#[test]
fn a_wave_of_429_pauses_once_and_repeated_ones_for_longer() {
    let mut bench = Bench::new(RULES);
    let mut waits = Vec::new();
    for _ in 0..5 {
        for pass in bench.fill(Class::Send) {
            bench.finish(pass, Health::Throttled { retry_after: None });
        }
        let Admission::Away { since, how: Absence::Pause { until } } = bench.admit(Class::Send) else {
            panic!("not paused")
        };
        assert_eq!(since, bench.now);
        waits.push((until - bench.now).0);
        bench.now = until;
    }
    assert!((100..=200).contains(&waits[0]), "{waits:?}");
    assert!((1_600..=3_200).contains(&waits[4]), "{waits:?}");
    assert_eq!(bench.policy.limit(), 4, "and the concurrency went down");
}

#[test]
fn an_outage_ends_with_probes_then_few_calls_at_a_low_rate() {
    let mut bench = Bench::new(Rules { concurrency: Bounds { min: 4, start: 64, max: 64 }, ..RULES });
    for _ in 0..3 {
        bench.one(Health::Unreachable);
    }
    let until = bench.shut_until();
    bench.now = until;
    let probes = bench.fill(Class::Send);
    assert_eq!(probes.len(), 2);
    assert_eq!(bench.admit(Class::Send), Admission::Away { since: Timestamp(0), how: Absence::Probed });
    for pass in probes {
        bench.finish(pass, GOOD);
    }
    assert_eq!(bench.policy.view().breaker, BreakerState::Closed);
    assert_eq!(bench.policy.limit(), 4);
    assert!(bench.policy.view().is_slow(bench.now));
    assert_eq!(bench.fill(Class::Send).len(), 1, "not the burst that the outage saved up");
}

#[test]
fn a_429_closes_a_half_open_breaker_but_pauses() {
    let mut bench = Bench::new(RULES);
    for _ in 0..3 {
        bench.one(Health::Unreachable);
    }
    let until = bench.shut_until();
    bench.now = until;
    for pass in bench.fill(Class::Send) {
        bench.finish(pass, Health::Throttled { retry_after: Some(Millis(5_000)) });
    }
    assert_eq!(bench.policy.view().breaker, BreakerState::Closed, "the provider is there");
    assert_eq!(bench.admit(Class::Send), paused(until.0 + 5_000, until));
}

fn any_health() -> impl Strategy<Value = Health> {
    prop_oneof![
        4 => (0u64..200_000).prop_map(|latency| Health::Good { latency: Some(Micros(latency)) }),
        1 => prop::option::of(0i64..100_000)
            .prop_map(|span| Health::Throttled { retry_after: span.map(Millis) }),
        1 => Just(Health::Overloaded),
        1 => Just(Health::Unreachable),
        1 => Just(Health::Void),
    ]
}

proptest! {
    #[test]
    fn it_never_grants_beyond_its_limit_and_never_stays_stuck(
        seed: u64,
        steps in prop::collection::vec((0i64..500, any::<bool>(), any::<bool>(), any_health()), 1..300),
    ) {
        let mut bench = Bench::new(RULES);
        bench.policy = Policy::new(RULES, seed, Timestamp(0));
        let mut passes = Vec::new();
        for (pause, grant, notice, health) in steps {
            bench.now = bench.now + Millis(pause);
            let class = if notice { Class::Notice } else { Class::Send };
            if grant {
                let (paused, limit) = (bench.policy.view().paused_until(bench.now), bench.policy.limit());
                match bench.admit(class) {
                    Admission::Granted(pass) => {
                        prop_assert!(paused.is_none());
                        prop_assert!(bench.open.sends <= limit.max(bench.policy.limit()) || notice);
                        prop_assert!(bench.open.notices * 4 <= limit.max(4) || !notice);
                        passes.push((class, pass));
                    }
                    Admission::At(at)
                    | Admission::Away { how: Absence::Pause { until: at } | Absence::Shut { until: at }, .. } => {
                        prop_assert!(at > bench.now && at <= bench.now + Millis(60_000));
                    }
                    Admission::AfterReturn | Admission::Away { how: Absence::Probed, .. } => prop_assert!(!passes.is_empty(), "waits for nothing"),
                    Admission::AfterGrant => prop_assert!(false, "there is no fleet"),
                }
            } else if let Some((class, pass)) = passes.pop() {
                match class {
                    Class::Send => bench.open.sends -= 1,
                    Class::Notice => bench.open.notices -= 1,
                }
                bench.policy.finished(pass, health, bench.open, bench.now);
            }
        }
        bench.open = Open::default();
        for (_, pass) in passes {
            bench.policy.finished(pass, GOOD, bench.open, bench.now);
        }
        for class in [Class::Send, Class::Notice] {
            let granted = (0..200).any(|_| match bench.admit(class) {
                Admission::Granted(pass) => {
                    bench.open = Open::default();
                    bench.policy.finished(pass, GOOD, bench.open, bench.now);
                    true
                }
                Admission::At(at)
                | Admission::Away { how: Absence::Pause { until: at } | Absence::Shut { until: at }, .. } => {
                    bench.now = at;
                    false
                }
                Admission::AfterReturn
                | Admission::AfterGrant
                | Admission::Away { how: Absence::Probed, .. } => false,
            });
            prop_assert!(granted, "{class:?} is stuck: {:?}", bench.policy);
        }
    }
}
