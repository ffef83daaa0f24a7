//! A report as a run writes it, for tests.

use crate::chaos::build::Build;
use crate::chaos::failover::Failover;
use crate::chaos::gauge::Blow;
use crate::chaos::happening::{Happening, Target, What};
use crate::chaos::kept::Kept;
use crate::chaos::profile::Profile;
use crate::chaos::report::{Books, ChaosReport, Round, Run, SCHEMA, Seen};
use crate::chaos::series::{NodeSeries, Series};
use crate::chaos::stats::Spread;
use crate::chaos::worst::{Step, WorstGift};
use crate::load::{LatencyMicros, MeasureReport, ReserveReport};

/// Gifts of a round.
pub const GIFTS: u64 = 2_000;
/// Steps of a round's series, a second each.
const STEPS: usize = 30;

pub fn books(after_round: u32) -> Books {
    let paid_krw = 9_000_000 * i64::from(after_round);
    Books {
        after_round,
        gifts: GIFTS * u64::from(after_round),
        paid_krw,
        held_krw: paid_krw,
        balanced: true,
        provider_paid_krw: paid_krw,
        ..Books::default()
    }
}

pub fn run(id: &str) -> Run {
    Run {
        id: id.to_owned(),
        began_at: "2026-11-11T00:00:00.000Z".to_owned(),
        command: "bojagi chaos run --gifts 2000 --seed 7".to_owned(),
        nemesis: "kill-busiest".to_owned(),
        profile: Profile::Midnight,
        nodes: 3,
        gifts: GIFTS,
        shards: 64,
        seed: 7,
        due_rate: 300,
        heal_after_s: 8,
        every_s: 7,
        lost_replies: 0,
        hung_replies: 0,
        reserve_rate: 100,
        books: Vec::new(),
        audit: None,
    }
}

/// One that held: in each round node 2 is killed at 12 s and comes back 6 s later.
pub fn report(id: &str, rounds: u32) -> ChaosReport {
    let build =
        Build { version: "0.1.0".to_owned(), commit: Some("abcdef0123456789".to_owned()), digest: "d".to_owned() };
    let run = Run { books: vec![books(rounds)], ..run(id) };
    ChaosReport {
        schema: SCHEMA,
        build,
        runs: vec![run],
        rounds: (1..=rounds).map(round).collect(),
        broken_off: Vec::new(),
    }
}

pub fn round(number: u32) -> Round {
    let link = Target::Link { from: 1, to: 3 };
    let reserve = ReserveReport { asked: GIFTS, acknowledged: GIFTS, ..ReserveReport::default() };
    let meanwhile = ReserveReport {
        asked: 2_400,
        acknowledged: 2_400,
        acknowledged_within_3_s: 2_390,
        latency_micros: LatencyMicros { max: 2_500_000, ..LatencyMicros::default() },
        ..ReserveReport::default()
    };
    let measure = MeasureReport {
        gifts: GIFTS,
        arrived: GIFTS,
        lateness_ms_p99: Some(4_900),
        last_acceptance_ms: Some(6_400),
        ..MeasureReport::default()
    };
    Round {
        run: 0,
        number,
        nemesis: "kill-busiest".to_owned(),
        victims: vec![2],
        open_attempts: 130,
        delivered_before: 600,
        fault_after_ms: 2_000,
        reserve,
        meanwhile: Some(meanwhile),
        kept: Some(Kept {
            acknowledged: 2_400,
            statuses: [("scheduled".to_owned(), 2_400)].into(),
            examples: Vec::new(),
        }),
        claims: None,
        measure,
        blows: vec![Blow { node: 2, at_ms_since_round_start: 12_000, open_attempts: 130, due_soon: 1_400 }],
        due_at_ms: 10_000,
        happenings: vec![
            happening(9, Target::Provider, What::Began, "slow"),
            happening(12, Target::Node(2), What::Began, "killed"),
            happening(13, link, What::Began, "cut <&> \"quoted\""),
            happening(15, link, What::Ended, "cut <&> \"quoted\""),
            happening(18, Target::Node(2), What::Ended, "killed"),
            happening(20, Target::Disk(1), What::Began, "full"),
            happening(22, Target::Disk(1), What::Ended, "full"),
        ],
        seen: seen(),
    }
}

fn happening(at_s: u64, target: Target, what: What, name: &str) -> Happening {
    Happening { at_ms_since_round_start: at_s * 1_000, target, what, name: name.to_owned() }
}

fn seen() -> Seen {
    let mut lateness = Spread::default();
    (0..GIFTS).for_each(|n| lateness.record(i64::try_from(n * 6_400 / GIFTS).unwrap()));
    Seen {
        series: series(),
        failovers: vec![Failover {
            at_ms: 12_000,
            node: 2,
            name: "killed".to_owned(),
            led: 21,
            open_attempts: 130,
            due_soon: 1_400,
            detection_ms: Some(40),
            election_ms: vec![700, 900, 1_300],
            send_ms: vec![900, 1_200, 1_500],
            clients_back_ms: None,
        }],
        worst: vec![WorstGift {
            id: "g_00ff".to_owned(),
            fate: "late".to_owned(),
            due_ms: 10_000,
            due: "2026-11-11T00:00:10.000Z".to_owned(),
            lateness_ms: Some(6_400),
            requests: 2,
            effective: 1,
            steps: vec![
                Step { after_due_ms: -3_000_000, what: "reserved".to_owned() },
                Step { after_due_ms: 1_200, what: "send_started, attempt 1, channel kakao".to_owned() },
                Step { after_due_ms: 6_420, what: "sent, attempt 2".to_owned() },
            ],
        }],
        lateness,
        late_beyond_faults: 0,
        asked_seconds: 24,
        good_seconds: 24,
        clients_back_ms: None,
    }
}

fn series() -> Series {
    let node = |node: u16| {
        let down = |step: usize| node == 2 && (12..18).contains(&step);
        NodeSeries {
            node,
            leads: (0..STEPS).map(|step| if down(step) { Some(0) } else { Some(21) }).collect(),
            open_attempts: (0..STEPS).map(|step| if down(step) { None } else { Some(130) }).collect(),
            state: (0..STEPS).map(|step| if down(step) { 'g' } else { 'u' }).collect(),
        }
    };
    let within = |step: usize| (10..17).contains(&step);
    let late = |step: usize, less: i64| within(step).then(|| 1_000 * i64::try_from(step - 9).unwrap() - less);
    let each = |of: &dyn Fn(usize) -> u32| (0..STEPS).map(of).collect::<Vec<u32>>();
    Series {
        from_ms: 0,
        step_ms: 1_000,
        due: each(&|step| if step == 10 { 2_000 } else { 0 }),
        sent: each(&|step| if within(step) { 285 } else { 0 }),
        lateness_p50_ms: (0..STEPS).map(|step| late(step, 600)).collect(),
        lateness_p99_ms: (0..STEPS).map(|step| late(step, 100)).collect(),
        lateness_max_ms: (0..STEPS).map(|step| late(step, 0)).collect(),
        accepted: each(&|step| if (4..28).contains(&step) { 100 } else { 0 }),
        refused: each(&|step| if step == 12 { 30 } else { 0 }),
        silent: each(&|step| if step == 12 { 12 } else { 0 }),
        nodes: [1, 2, 3].map(node).to_vec(),
    }
}
