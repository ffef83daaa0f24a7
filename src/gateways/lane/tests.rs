//! Order, bounds and fairness of the queues.

use super::*;
use crate::gateways::options::GatewayOptions;
use crate::gateways::policy::concurrency::Micros;
use proptest::prelude::*;

const GOOD: Health = Health::Good { latency: Some(Micros(2_000)) };
const NOW: Timestamp = Timestamp(1_000_000);
const BOUNDS: QueueBounds = QueueBounds { sends: 50, notices: 5 };

/// A lane whose provider takes `limit` calls at once.
fn lane(limit: u32, patience: Option<Millis>) -> LaneCore<u32> {
    let mut options = GatewayOptions::default();
    options.sms.concurrency_min = limit;
    options.sms.concurrency_start = limit;
    options.sms.concurrency_max = limit;
    let policy = Policy::new(options.rules(&options.sms), 1, NOW);
    LaneCore::new(policy, BOUNDS, patience, Open::default())
}

fn offer(lane: &mut LaneCore<u32>, class: Class, due: i64, ticket: u32) {
    lane.offer(class, (Timestamp(due), None), NOW, ticket).expect("there is room");
}

fn granted(lane: &mut LaneCore<u32>, now: Timestamp) -> Vec<(u32, Class, Hold)> {
    let mut all = Vec::new();
    while let Step::Grant { ticket, class, hold } = lane.next(now) {
        all.push((ticket, class, hold));
    }
    all
}

fn numbers(grants: &[(u32, Class, Hold)]) -> Vec<u32> {
    grants.iter().map(|(ticket, _, _)| *ticket).collect()
}

/// Opens the breaker with connections that are never made.
fn break_down(lane: &mut LaneCore<u32>) {
    for ticket in 0..3 {
        offer(lane, Class::Send, 0, ticket);
        let grants = granted(lane, NOW);
        lane.finished(Class::Send, grants[0].2, Health::Unreachable, NOW);
    }
    assert!(matches!(lane.policy().view().breaker, crate::gateways::policy::breaker::BreakerState::Open { .. }));
}

#[test]
fn the_earliest_due_goes_first() {
    let mut lane = lane(2, None);
    for (due, ticket) in [(30, 0), (10, 1), (20, 2), (11, 3)] {
        offer(&mut lane, Class::Send, due, ticket);
    }
    let first = granted(&mut lane, NOW);
    assert_eq!(numbers(&first), [1, 3]);
    assert_eq!(lane.next(NOW), Step::Idle { wake: None }, "full: a return is what it waits for");
    lane.finished(Class::Send, first[0].2, GOOD, NOW);
    lane.returned(Class::Send, first[1].2, NOW);
    assert_eq!(numbers(&granted(&mut lane, NOW)), [2, 0]);
}

#[test]
fn sends_go_before_notices_whatever_their_due() {
    let mut lane = lane(4, None);
    offer(&mut lane, Class::Notice, 1, 100);
    for ticket in 0..5 {
        offer(&mut lane, Class::Send, 9, ticket);
    }
    assert!(granted(&mut lane, NOW).iter().all(|(_, class, _)| *class == Class::Send));
    assert_eq!(lane.queued(), (1, 1));
}

#[test]
fn who_comes_late_for_the_same_instant_is_not_behind_all_others() {
    let mut lane = lane(1, None);
    for ticket in 0..40 {
        offer(&mut lane, Class::Send, 9, ticket);
    }
    (40..50).for_each(|ticket| offer(&mut lane, Class::Send, 9, ticket));
    let mut order = Vec::new();
    while let Some((ticket, class, hold)) = granted(&mut lane, NOW).pop() {
        order.push(ticket);
        lane.finished(class, hold, GOOD, NOW);
    }
    let first_late = order.iter().position(|ticket| *ticket >= 40).unwrap();
    assert!(first_late < 20, "{order:?}");
    order.sort_unstable();
    assert!(order.into_iter().eq(0..50), "each goes once");
}

#[test]
fn sends_of_one_shard_and_instant_go_together_where_they_may_share_a_call() {
    let mut lane = lane(8, None).with_batches(4);
    for ticket in 0..40 {
        let shard = ShardId(u16::try_from(ticket % 5).unwrap());
        lane.offer(Class::Send, (Timestamp(9), Some(shard)), NOW, ticket).unwrap();
    }
    let mut order = Vec::new();
    loop {
        let grants = granted(&mut lane, NOW);
        if grants.is_empty() {
            break;
        }
        order.extend(numbers(&grants));
        grants.into_iter().for_each(|(_, class, hold)| lane.finished(class, hold, GOOD, NOW));
    }
    for four in order.chunks(4) {
        assert!(four.iter().all(|ticket| ticket % 5 == four[0] % 5), "{order:?}");
    }
    order.sort_unstable();
    assert!(order.into_iter().eq(0..40), "each goes once");
}

#[test]
fn a_full_queue_gives_the_ticket_back_and_the_other_class_has_its_own() {
    let mut lane = lane(1, None);
    for ticket in 0..5 {
        offer(&mut lane, Class::Notice, 0, ticket);
    }
    assert_eq!(lane.offer(Class::Notice, (Timestamp(0), None), NOW, 9), Err(Full(9)));
    assert_eq!(lane.offer(Class::Send, (Timestamp(0), None), NOW, 9), Ok(()));
}

#[test]
fn a_message_waits_its_patience_for_a_provider_that_is_away_and_is_refused() {
    let mut lane = lane(4, Some(Millis(100)));
    break_down(&mut lane);
    offer(&mut lane, Class::Send, 0, 7);
    assert_eq!(lane.next(NOW), Step::Idle { wake: Some(NOW + Millis(100)) });
    let refused = granted(&mut lane, NOW + Millis(100));
    assert_eq!(refused, [(7, Class::Send, Hold::Refusal)]);
    assert_eq!(lane.open().sends, 1, "its attempt is open until it is answered");
    lane.finished(Class::Send, Hold::Refusal, Health::Void, NOW);
    assert_eq!(lane.open().sends, 0);
}

#[test]
fn a_short_absence_refuses_nothing_of_a_long_queue() {
    let mut lane = lane(4, Some(Millis(300)));
    for ticket in 0..20 {
        offer(&mut lane, Class::Send, 0, ticket);
    }
    let later = NOW + Millis(60_000);
    for (_, class, hold) in granted(&mut lane, NOW) {
        lane.finished(class, hold, Health::Unreachable, later);
    }
    assert_eq!(lane.next(later), Step::Idle { wake: Some(later + Millis(300)) });
    assert_eq!(numbers(&granted(&mut lane, later + Millis(300))).len(), 4, "a longer one does");
}

#[test]
fn a_provider_that_is_being_probed_is_still_away() {
    let mut lane = lane(4, Some(Millis(2_000)));
    break_down(&mut lane);
    for ticket in 0..9 {
        offer(&mut lane, Class::Send, 0, ticket);
    }
    let half_open = NOW + Millis(1_500);
    let probes = granted(&mut lane, half_open);
    assert!(probes.iter().all(|(_, _, hold)| matches!(hold, Hold::Call(_))) && !probes.is_empty());
    let patient_until = NOW + Millis(2_000);
    assert_eq!(lane.next(half_open), Step::Idle { wake: Some(patient_until) }, "probes that hang hold nobody up");
    assert!(granted(&mut lane, patient_until).iter().all(|(_, _, hold)| *hold == Hold::Refusal));
    assert_eq!(lane.next(patient_until), Step::Idle { wake: None }, "refusals that are out are bounded");
}

#[test]
fn a_short_pause_that_the_provider_asks_for_is_waited_out() {
    let pause = |span: i64| {
        let mut lane = lane(4, Some(Millis(2_000))).with_pauses_held(Millis(60_000));
        offer(&mut lane, Class::Send, 0, 0);
        let first = granted(&mut lane, NOW);
        lane.finished(Class::Send, first[0].2, Health::Throttled { retry_after: Some(Millis(span)) }, NOW);
        offer(&mut lane, Class::Send, 0, 1);
        lane
    };
    let (mut short, mut long) = (pause(60_000), pause(61_000));
    let later = NOW + Millis(2_000);
    assert_eq!(short.next(later), Step::Idle { wake: Some(NOW + Millis(60_000)) });
    assert_eq!(granted(&mut long, later), [(1, Class::Send, Hold::Refusal)]);
}

#[test]
fn without_a_patience_it_waits_for_the_breaker() {
    let mut lane = lane(4, None);
    break_down(&mut lane);
    offer(&mut lane, Class::Send, 0, 7);
    let Step::Idle { wake: Some(until) } = lane.next(NOW + Millis(400)) else { panic!("it was let through") };
    assert!(until > NOW + Millis(400));
    assert!(matches!(granted(&mut lane, until)[..], [(7, Class::Send, Hold::Call(_))]), "a probe");
}

#[test]
fn refusals_out_at_a_time_are_bounded() {
    let mut lane = lane(4, Some(Millis(0)));
    break_down(&mut lane);
    for ticket in 0..10 {
        offer(&mut lane, Class::Send, 0, ticket);
    }
    assert_eq!(granted(&mut lane, NOW).len(), 4);
}

#[test]
fn closing_gives_up_what_waits_and_takes_nothing_more() {
    let mut lane = lane(1, None);
    for ticket in 0..3 {
        offer(&mut lane, Class::Send, 0, ticket);
    }
    offer(&mut lane, Class::Notice, 0, 9);
    assert_eq!(numbers(&granted(&mut lane, NOW)), [0]);
    let mut rest = lane.close();
    rest.sort_unstable();
    assert_eq!(rest, [1, 2, 9]);
    assert_eq!(lane.offer(Class::Send, (Timestamp(0), None), NOW, 5), Err(Full(5)));
    assert_eq!(lane.next(NOW), Step::Idle { wake: None });
}

#[test]
fn a_restarted_driver_counts_the_attempts_that_are_out() {
    let options = GatewayOptions::default();
    let policy = Policy::new(options.rules(&options.sms), 1, NOW);
    let limit = policy.limit();
    let mut lane = LaneCore::new(policy, BOUNDS, None, Open { sends: limit - 1, notices: 0 });
    offer(&mut lane, Class::Send, 0, 1);
    offer(&mut lane, Class::Send, 0, 2);
    assert_eq!(numbers(&granted(&mut lane, NOW)), [1]);
}

#[derive(Clone, Copy, Debug)]
enum Do {
    Offer(Class, i64),
    Finish(Health),
    Return,
    Wait(i64),
}

fn any_step() -> impl Strategy<Value = Do> {
    let class = || any::<bool>().prop_map(|send| if send { Class::Send } else { Class::Notice });
    let health = prop_oneof![
        5 => Just(GOOD),
        1 => Just(Health::Overloaded),
        1 => Just(Health::Unreachable),
        1 => Just(Health::Throttled { retry_after: Some(Millis(50)) }),
    ];
    prop_oneof![
        4 => (class(), 0i64..100).prop_map(|(class, due)| Do::Offer(class, due)),
        3 => health.prop_map(Do::Finish),
        1 => Just(Do::Return),
        1 => (0i64..2_000).prop_map(Do::Wait),
    ]
}

proptest! {
    #[test]
    fn every_ticket_leaves_once_and_no_notice_overtakes_a_send(
        patience in prop::option::of(0i64..500), steps in prop::collection::vec(any_step(), 1..400),
    ) {
        let mut lane = lane(6, patience.map(Millis));
        let (mut now, mut taken, mut left) = (NOW, 0u32, Vec::new());
        let mut out: Vec<(Class, Hold)> = Vec::new();
        for step in steps {
            match step {
                Do::Offer(class, due) => {
                    if lane.offer(class, (Timestamp(due), None), now, taken).is_ok() {
                        taken += 1;
                    }
                }
                Do::Finish(health) => if let Some((class, hold)) = out.pop() {
                    lane.finished(class, hold, health, now);
                },
                Do::Return => if let Some((class, hold)) = out.pop() {
                    lane.returned(class, hold, now);
                },
                Do::Wait(span) => now = now + Millis(span),
            }
            loop {
                let sends_waiting = lane.queued().0;
                match lane.next(now) {
                    Step::Grant { ticket, class, hold } => {
                        prop_assert!(class == Class::Send || sends_waiting == 0);
                        out.push((class, hold));
                        left.push(ticket);
                    }
                    Step::Idle { wake } => {
                        prop_assert!(wake.is_none_or(|at| at > now), "it would spin");
                        let waits = lane.queued() != (0, 0);
                        prop_assert!(!waits || wake.is_some() || !out.is_empty(), "it waits for nothing");
                        break;
                    }
                }
                prop_assert!(lane.open().sends <= 6 && lane.open().notices <= 6);
            }
            let (sends, notices) = lane.queued();
            prop_assert!(sends <= BOUNDS.sends && notices <= BOUNDS.notices);
        }
        left.extend(lane.close());
        left.sort_unstable();
        prop_assert_eq!(left, (0..taken).collect::<Vec<_>>());
    }
}
