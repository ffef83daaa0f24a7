//! The reservation's machine: each line of its table, deadlines, cancels, dead letters, and random lives in a world with a
//! real area, wallet and queue and a payment provider that loses replies.

mod model;

use super::*;
use crate::domain::area::{SeatStatus, Serial};
use crate::domain::calling::{CallStarted, Doubt};
use crate::domain::order::Method;
use crate::domain::policy::RETENTION;
use crate::types::call::PaymentOperation;
use crate::types::codec;
use crate::types::ids::{Claim, CommandId};
use crate::types::money::Money;
use crate::types::publication::Topic;
use crate::types::record::Erasure;
use crate::types::time::{Millis, Timestamp};
use model::{Mood, World, assignment, payment, sealed};
use proptest::prelude::*;

fn types(world: &World) -> Vec<String> {
    let told = world.records.iter().flatten().map(Reservation::describe);
    let told = told.map(|event| event["type"].as_str().unwrap().to_owned());
    told.filter(|event| event != "step_attempted").collect()
}

#[test]
fn a_payment_is_pending_at_once_and_confirmed_behind_it() {
    for method in [Method::Card, Method::Balance] {
        let mut world = World::new();
        assert_eq!((world.state.status(), world.seat()), (Status::TemporaryAssigned, SeatStatus::TemporaryAssigned));
        world.ask(payment(method)).unwrap();
        assert_eq!(world.state.status(), Status::PaymentPending);
        let again = ReservationRejection::NotPayable { status: Status::PaymentPending };
        assert_eq!(world.ask(payment(method)), Err(again));
        world.drain();
        assert_eq!((world.state.status(), world.seat()), (Status::Confirmed, SeatStatus::Sold));
        let expected = ["temporary_assigned", "payment_requested", "payment_completed", "confirmed", "queue_left"];
        assert_eq!(types(&world), expected);
        assert!(!world.is_in_queue(), "the next one is let in");
        world.assert_end();
    }
}

#[test]
fn what_is_refused_for_sure_fails_and_frees_the_seat() {
    let mut card = World::paying(Method::Card);
    card.call(Mood::RefusesForGood);
    assert_eq!((card.state.status(), card.state.code()), (Status::PaymentFailed, Some("REJECTED")));
    let mut poor = World::new();
    poor.wallet = Default::default();
    poor.ask(payment(Method::Balance)).unwrap();
    poor.call(Mood::Willing);
    assert_eq!((poor.state.status(), poor.state.code()), (Status::PaymentFailed, Some("insufficient_balance")));
    for mut world in [card, poor] {
        assert_eq!(world.seat(), SeatStatus::TemporaryAssigned, "until the area is told");
        world.drain();
        assert!(world.wants().terminal && world.is_in_queue(), "another seat may be chosen");
        world.assert_end();
        let refused = ReservationRejection::NotPayable { status: Status::PaymentFailed };
        assert_eq!(world.ask(payment(Method::Card)), Err(refused));
    }
}

#[test]
fn seats_are_given_up_after_five_minutes_whether_nobody_pays_or_nobody_answers() {
    let mut world = World::new();
    world.advance(Millis(HELD_FOR.0 - 1));
    world.fire();
    assert_eq!(world.state.status(), Status::TemporaryAssigned);
    world.advance(Millis(1));
    assert_eq!(world.ask(payment(Method::Card)), Err(ReservationRejection::TimeIsOver), "its timer is late");
    world.fire();
    assert_eq!((world.state.status(), world.state.code()), (Status::Expired, Some("not_paid")));
    world.drain();
    world.assert_end();
    let mut world = World::paying(Method::Card);
    while world.now < model::START + HELD_FOR {
        world.call(Mood::NotSent);
        world.advance_to_call();
        world.fire();
    }
    world.drain();
    assert_eq!((world.state.status(), world.state.code()), (Status::Expired, Some("payment_timeout")));
    world.assert_end();
}

#[test]
fn a_late_capture_is_found_and_refunded_after_the_seat_is_free() {
    let mut world = World::paying(Method::Card);
    world.call(Mood::DropsReply);
    world.advance(HELD_FOR);
    world.fire();
    assert_eq!(world.state.status(), Status::Expired);
    world.call(Mood::Willing);
    assert_eq!(world.seat(), SeatStatus::Available, "others need not wait for the money");
    world.drain();
    assert_eq!(world.till.refunded, model::PRICE);
    assert!(types(&world).ends_with(&["seats_released", "payment_completed", "refunded"].map(str::to_owned)));
    world.assert_end();
}

#[test]
fn a_cancel_gives_back_whatever_was_done() {
    for method in [Method::Card, Method::Balance] {
        for steps in 0..4 {
            for mood in [Mood::Willing, Mood::DropsReply, Mood::DropsRequest] {
                let mut world = World::paying(method);
                for _ in 0..steps {
                    world.advance_to_call();
                    world.call(mood);
                }
                world.ask(ReservationCommand::Cancel).unwrap();
                assert_eq!(world.state.status(), Status::Cancelled);
                world.ask(ReservationCommand::Cancel).unwrap();
                world.drain();
                world.assert_end();
            }
        }
    }
    let mut unpaid = World::new();
    unpaid.ask(ReservationCommand::Cancel).unwrap();
    unpaid.drain();
    unpaid.assert_end();
}

#[test]
fn a_confirmed_one_can_be_cancelled_for_seven_days_and_then_the_wallet_pays() {
    let mut world = World::paying(Method::Balance);
    world.drain();
    assert_eq!((world.wallet.held().minor, world.wallet.spent().minor), (model::PRICE, 0));
    world.advance(CANCELLABLE_FOR);
    let refused = ReservationRejection::NotCancellable { status: Status::Confirmed };
    assert_eq!(world.ask(ReservationCommand::Cancel), Err(refused.clone()), "its timer is late");
    world.fire();
    world.drain();
    assert_eq!((world.wallet.held().minor, world.wallet.spent().minor), (0, model::PRICE));
    assert!(world.wants().terminal);
    assert_eq!(world.ask(ReservationCommand::Cancel), Err(refused));
    world.assert_end();
}

#[test]
fn another_amount_than_asked_for_goes_back() {
    let mut world = World::paying(Method::Card);
    world.till.short_by = 1;
    world.drain();
    assert_eq!((world.state.status(), world.state.code()), (Status::PaymentFailed, Some("amount_mismatch")));
    world.assert_end();
}

#[test]
fn seats_that_the_area_does_not_know_any_more_are_paid_back() {
    let mut world = World::paying(Method::Card);
    world.call(Mood::Willing);
    world.area = Default::default();
    world.advance_to_call();
    let lost = crate::domain::area::AreaRejection::NotFound;
    let outcome = crate::types::call::EntityOutcome::Rejected { rejection: codec::encode(&lost) };
    let slot = world.wants().calls[0].slot;
    world.ask(ReservationCommand::Outcomes(vec![(slot, CallOutcome::Entity(outcome))])).unwrap();
    assert_eq!((world.state.status(), world.state.code()), (Status::PaymentFailed, Some("seats_lost")));
}

#[test]
fn a_refund_refused_for_good_is_stuck_until_an_operator_replays_or_discards_it() {
    let mut world = World::paying(Method::Card);
    world.drain();
    world.ask(ReservationCommand::Cancel).unwrap();
    world.call(Mood::Willing);
    let key = |world: &World| match world.request() {
        Some(CallRequest::Payment(request)) => request.idempotency_key,
        other => panic!("{other:?}"),
    };
    let first = key(&world);
    world.call(Mood::RefusesForGood);
    let letter = world.state.letter().unwrap();
    assert_eq!((letter.command, letter.money_held), ("refund", world.state.amount()));
    let is_letter = |row: &crate::types::effect::IndexWant| row.index == kinds::INDEX_DEAD_LETTER;
    assert!(world.wants().indexes.iter().any(is_letter));
    let (mut by_hand, mut forgotten) = (world.clone(), world.clone());
    forgotten.advance(crate::domain::steps::REVIEW_AFTER);
    forgotten.fire();
    assert!(forgotten.state.letter().is_none(), "nobody came: it is tried again by itself");
    world.ask(ReservationCommand::Replay { actor: "op".into() }).unwrap();
    assert_ne!(key(&world), first, "the provider would answer the old key with its old refusal");
    world.drain();
    world.assert_end();
    let discard = ReservationCommand::Discard { actor: "op".into(), reason: "paid in cash".into() };
    by_hand.ask(discard.clone()).unwrap();
    assert!(by_hand.wants().calls.is_empty());
    assert_eq!(by_hand.ask(discard), Err(ReservationRejection::NotADeadLetter));
}

#[test]
fn the_payment_key_is_only_in_the_call_and_forgotten_after_the_retention() {
    let mut world = World::paying(Method::Card);
    match world.request() {
        Some(CallRequest::Payment(request)) => match request.operation {
            PaymentOperation::Confirm { payment_key, .. } => assert_eq!(payment_key.0, "tok_1"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    world.call(Mood::RefusesForGood);
    world.drain();
    let told: String = world.records.iter().flatten().map(|event| Reservation::describe(event).to_string()).collect();
    assert!(!told.contains("tok_1") && !told.contains("u-1"));
    world.advance(RETENTION);
    let at = At { now: world.now, command_id: CommandId::default() };
    let command = ReservationCommand::Timer(super::request::RETENTION_TIMER);
    let decision = Reservation::decide(model::KEY, &world.state, command, &at).unwrap();
    assert_eq!(decision.erase, Erasure::Journal);
    decision.events.iter().for_each(|event| Reservation::evolve(&mut world.state, event));
    assert!(Reservation::sealed(&world.state).is_none() && world.wants().timers.is_empty());
}

#[test]
fn another_assignment_is_refused_by_its_serial() {
    let mut world = World::new();
    let known = world.state.assignment().unwrap().clone();
    assert_eq!(world.ask(ReservationCommand::Assign(Box::new(known.clone()))), Ok(()));
    let other = Assignment { serial: Serial(9), ..known };
    let refused = ReservationRejection::Assigned { refused: Serial(9) };
    assert_eq!(world.ask(ReservationCommand::Assign(Box::new(other))), Err(refused));
    let first = world.state.as_assigned();
    world.ask(payment(Method::Card)).unwrap();
    world.drain();
    assert_eq!(world.state.as_assigned(), first, "what its request was answered with");
}

#[test]
fn golden_bytes_and_topics() {
    let started = CallStarted { claim: Claim::default(), not_after: Millis(1) };
    let (amount, code, retry_at) = (Money::krw(7), "c".to_owned(), Timestamp(2));
    let facts = [
        ReservationFact::Assigned(Box::new(assignment())),
        ReservationFact::PaymentRequested { method: Method::Card, amount, sealed: None },
        ReservationFact::Attempted { step: Step::Pay, started },
        ReservationFact::Undecided { step: Step::Sell, doubt: Doubt::Pending, retry_at },
        ReservationFact::Refused { step: Step::Leave, code: code.clone(), retry_at },
        ReservationFact::Paid { provider: "p".into(), amount },
        ReservationFact::Confirmed,
        ReservationFact::Left,
        ReservationFact::Closed,
        ReservationFact::Settled,
        ReservationFact::Ended { end: End::Cancelled, code: code.clone(), doubtful: true },
        ReservationFact::Released,
        ReservationFact::PaymentRuledOut { code: code.clone() },
        ReservationFact::Refunded { amount },
        ReservationFact::Stuck { step: Step::Refund, code },
        ReservationFact::Replayed { actor: "o".into() },
        ReservationFact::Discarded { step: Step::FindPayment, actor: "o".into(), reason: "r".into() },
        ReservationFact::Hinted,
        ReservationFact::Forgotten,
    ];
    let id = |kind: &str, byte: &str| format!("{kind}{}", byte.repeat(16));
    let assigned = format!(
        "0200{}00{}0001410104fbc05d0003752d3101{}{}00",
        id("0c", "07"),
        id("08", "03"),
        "01".repeat(16),
        "02".repeat(16)
    );
    let golden = [
        assigned.as_str(),
        "0201000e0000",
        "02020000000002",
        "0203010204",
        "020402016304",
        "020501700e00",
        "0206",
        "0207",
        "0208",
        "0209",
        "020a02016301",
        "020b",
        "020c0163",
        "020d0e00",
        "020e060163",
        "020f016f",
        "021005016f0172",
        "0211",
        "0212",
    ];
    let events = facts.map(|fact| ReservationEvent { at: Timestamp(1), fact });
    for (event, bytes) in events.iter().zip(golden) {
        assert_eq!(hex::encode(codec::encode(event)), bytes, "{event:?}");
        assert_eq!(&codec::decode::<ReservationEvent>(&codec::encode(event)).unwrap(), event);
    }
    let said = publications(&codec::encode(&events.to_vec())).unwrap();
    let mut used: Vec<Topic> = said.iter().map(|said| said.topic).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!((said.len(), used.len()), (19, TOPICS.len()));
    assert_eq!(said[1].topic, Topic("payment-requests.v1"));
    let state = ReservationState::default();
    assert_eq!(hex::encode(codec::encode(&state)), "00");
    assert_eq!(sealed().nonce, [0; 12]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any life, with messages lost, doubled and late, crashes, refusals, cancels and time: it comes to rest with the seat
    /// sold and paid, or free and paid back, within its five minutes.
    #[test]
    fn every_temporary_seat_is_confirmed_or_released(
        by_card in any::<bool>(),
        steps in proptest::collection::vec((0u8..9, 0usize..6, 0i64..60_000), 0..60),
    ) {
        let method = if by_card { Method::Card } else { Method::Balance };
        let mut world = World::new();
        for (kind, mood, span) in steps {
            let mood = Mood::ALL[mood];
            match kind {
                0 => { let _refused = world.ask(payment(method)); }
                1..=3 => { world.call(mood); }
                4 => world.crash(mood),
                5 => world.deliver_again(usize::try_from(span).unwrap()),
                6 if span < 5_000 => { let _refused = world.ask(ReservationCommand::Cancel); }
                _ => world.advance(Millis(span)),
            }
            world.fire();
            if world.now >= model::START + HELD_FOR {
                let held = matches!(world.state.status(), Status::TemporaryAssigned);
                prop_assert!(!held, "held beyond its time");
            }
        }
        world.drain();
        if world.state.status() == Status::TemporaryAssigned {
            world.advance(HELD_FOR);
            world.fire();
            world.drain();
        }
        for which in 0..world.on_the_way.len() {
            world.deliver_again(which);
        }
        world.assert_end();
        let mut replayed = ReservationState::default();
        world.records.iter().flatten().for_each(|event| Reservation::evolve(&mut replayed, event));
        prop_assert_eq!(&replayed, &world.state);
        prop_assert_eq!(&codec::decode::<ReservationState>(&codec::encode(&replayed)).unwrap(), &replayed);
    }
}

#[test]
fn a_hold_that_the_wallet_refused_and_hears_again_takes_nothing_for_good() {
    for late in [false, true] {
        let mut world = World::new();
        world.wallet = Default::default();
        world.ask(payment(Method::Balance)).unwrap();
        world.call(Mood::Willing);
        assert_eq!(world.state.status(), Status::PaymentFailed);
        if late {
            world.drain();
        }
        world.charge(50_000);
        world.deliver_again(0);
        world.drain();
        assert!(world.wants().terminal);
        world.assert_end();
    }
}
