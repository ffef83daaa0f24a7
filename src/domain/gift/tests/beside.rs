//! A gift paid with a coupon, from the sender's wallet, or both.

use super::model::{Mood, World};
use super::model_beside::{BALANCE, Paying};
use super::*;
use crate::domain::coupon::testing;
use crate::domain::gift::names;
use crate::domain::policy::RefundRule;
use crate::domain::tender::{CouponHold, CouponTerms};
use crate::types::publication::Topic;

const PART: i64 = 1_001;
const BY_CARD: Paying = Paying { method: PaymentMethod::Card, off: PART };
const BY_WALLET: Paying = Paying { method: PaymentMethod::Balance, off: 0 };
const BY_BOTH: Paying = Paying { method: PaymentMethod::Balance, off: PART };
const WHOLE: Paying = Paying { method: PaymentMethod::Card, off: 4_500 };

/// Paid, and waiting for its instant.
fn scheduled(paying: Paying) -> World {
    let mut world = World::new(paying);
    for _ in 0..4 {
        world.ask_others(Mood::Willing);
        world.start(Mood::Willing);
        world.answer(Mood::Willing);
    }
    assert_eq!(world.play.state.state(), Status::Scheduled);
    world
}

/// With its recipient, who has accepted it.
fn accepted(paying: Paying) -> World {
    let mut world = scheduled(paying);
    world.play.now = due();
    world.start(Mood::Willing);
    world.answer(Mood::Willing);
    world.report(0, ReportStatus::Delivered);
    world.ask(GiftCommand::Accept { link_hash: LINK });
    assert_eq!(world.play.state.state(), Status::Accepted);
    world
}

fn figures(world: &World) -> (i64, i64, i64) {
    (world.wallet.balance().minor, world.wallet.held().minor, world.wallet.spent().minor)
}

fn types(world: &World) -> Vec<String> {
    let told = world.play.records.iter().flatten().map(Gift::describe);
    told.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_card_pays_what_the_coupon_leaves_once_the_coupon_is_used() {
    let mut world = World::new(BY_CARD);
    assert!(world.play.wants().calls.iter().all(|call| call.lane == Lane::Entity), "no payment before the coupon");
    world.ask_others(Mood::Willing);
    assert!(world.coupon_is_ours());
    world.start(Mood::Willing);
    world.answer(Mood::Willing);
    assert_eq!((world.till.captured, world.play.state.ledger().paid()), (3_499, Money::krw(3_499)));
    assert_eq!(world.play.state.state(), Status::Scheduled);
    world.ask(GiftCommand::Cancel);
    world.drain();
    assert_eq!((world.play.state.state(), world.till.refunded), (Status::Refunded, 3_499), "what was paid in money");
    world.assert_end_beside();
    assert_eq!(world.play.state.coupon().unwrap().hold, CouponHold::Returned);
}

#[test]
fn a_gift_that_a_coupon_pays_whole_needs_no_payment_and_no_refund() {
    let mut world = scheduled(WHOLE);
    assert_eq!((world.till.captured, world.play.state.amount()), (0, Money::krw(0)));
    let used = {
        let mut world = accepted(WHOLE);
        world.ask(GiftCommand::Redeem { code_hash: CODE, redemption: till("x") });
        world.drain();
        world
    };
    assert!(used.coupon_is_ours() && used.play.state.state() == Status::Used);
    world.ask(GiftCommand::Cancel);
    assert_eq!(world.play.state.state(), Status::Refunded);
    world.drain();
    assert!(!world.coupon_is_ours());
}

#[test]
fn a_coupon_that_somebody_else_used_fails_the_gift_and_keeps_a_late_use_out() {
    let mut world = World::new(BY_CARD);
    world.meddle(0);
    world.ask_others(Mood::Willing);
    assert_eq!(
        (world.play.state.state(), world.play.state.failure_code()),
        (Status::PaymentFailed, Some("coupon_used"))
    );
    assert_eq!(world.till.captured, 0);
    world.drain();
    world.meddle(1);
    world.assert_end_beside();
}

#[test]
fn a_coupon_whose_answer_is_lost_is_asked_again_and_used_once() {
    let mut world = World::new(BY_CARD);
    for mood in [Mood::DropsReply, Mood::DropsRequest, Mood::DropsReply] {
        world.ask_others(mood);
        assert_eq!(world.play.state.coupon().unwrap().hold, CouponHold::Free);
    }
    world.ask_others(Mood::Willing);
    assert_eq!(world.play.state.coupon().unwrap().hold, CouponHold::Used);
}

#[test]
fn cancelled_or_timed_out_before_the_coupon_answered_nothing_is_looked_up_and_the_coupon_is_free() {
    for cancels in [true, false] {
        let mut world = World::new(BY_CARD);
        world.ask_others(Mood::DropsReply);
        if cancels {
            world.ask(GiftCommand::Cancel);
        } else {
            world.advance(Millis::from_mins(5));
            world.fire();
        }
        assert!(world.play.wants().calls.iter().all(|call| call.lane != Lane::Payment), "it was never begun");
        world.drain();
        world.assert_end_beside();
        assert!(!world.coupon_is_ours());
    }
}

#[test]
fn a_wallet_holds_the_price_until_the_gift_is_used_and_can_be_taken_back_no_more() {
    let mut world = accepted(BY_WALLET);
    assert_eq!(figures(&world), (BALANCE - 4_500, 4_500, 0));
    world.ask(GiftCommand::Redeem { code_hash: CODE, redemption: till("x") });
    assert!(!world.ask_others(Mood::Willing), "not yet");
    world.ask(GiftCommand::CancelRedeem { code_hash: CODE, redemption: till("x") });
    assert_eq!(world.play.state.state(), Status::Accepted);
    world.ask(GiftCommand::Redeem { code_hash: CODE, redemption: till("y") });
    world.advance(Policy::default().net_cancel_window);
    world.advance(Millis::from_mins(1));
    world.ask_others(Mood::Willing);
    assert_eq!(figures(&world), (BALANCE - 4_500, 0, 4_500));
    assert_eq!(types(&world).last().unwrap(), "wallet_settled");
    let late = world.play.ask(GiftCommand::CancelRedeem { code_hash: CODE, redemption: till("y") });
    assert_eq!(late, Err(GiftRejection::TooLateToCancel));
    world.drain();
    world.assert_end_beside();
}

#[test]
fn a_cancel_gives_back_to_the_wallet_what_came_from_it_and_to_the_member_the_coupon() {
    let mut world = scheduled(BY_BOTH);
    assert_eq!(figures(&world), (BALANCE - 3_499, 3_499, 0));
    world.ask(GiftCommand::Cancel);
    world.drain();
    assert_eq!((world.play.state.state(), figures(&world)), (Status::Refunded, (BALANCE, 0, 0)));
    assert_eq!((world.till.captured, world.play.state.refunded()), (0, Money::krw(3_499)));
    world.assert_end_beside();
}

#[test]
fn a_share_that_a_policy_keeps_is_spent_and_the_rest_goes_back_in_one() {
    let refund = RefundRule { declined_percent: 90, ..RefundRule::default() };
    let mut reservation = reservation();
    reservation.product.policy = Policy { refund, ..Policy::default() };
    let mut world = World::new(BY_BOTH);
    world.play = Play::new().then(BY_BOTH.reserving(reservation));
    for _ in 0..3 {
        world.ask_others(Mood::Willing);
    }
    world.play.now = due();
    world.start(Mood::Willing);
    world.answer(Mood::Willing);
    world.ask(GiftCommand::Decline { link_hash: LINK });
    world.drain();
    assert_eq!(world.play.state.state(), Status::Refunded);
    assert_eq!(figures(&world), (BALANCE - 350, 0, 350), "3,149 of 3,499 back");
    assert!(world.coupon_is_ours(), "a gift that was kept in part was bought");
    world.assert_end_beside();
}

#[test]
fn too_little_balance_fails_the_gift_and_a_late_hold_is_kept_out() {
    let mut world = World::new(BY_BOTH);
    world.spend_all_but(3_498);
    world.ask_others(Mood::Willing);
    world.ask_others(Mood::Willing);
    let state = &world.play.state;
    assert_eq!((state.state(), state.failure_code()), (Status::PaymentFailed, Some("insufficient_balance")));
    world.drain();
    world.meddle(3);
    world.assert_end_beside();
    assert_eq!(world.wallet.held(), Money::krw(0));
}

#[test]
fn a_hold_in_flight_when_the_gift_is_cancelled_is_let_go_whatever_its_answer() {
    let mut world = World::new(BY_WALLET);
    world.ask_others(Mood::DropsReply);
    assert_eq!(world.wallet.held(), Money::krw(4_500));
    world.ask(GiftCommand::Cancel);
    // The answer to the hold comes after all: it is not taken for that of the release.
    let outcome = CallOutcome::Entity(EntityOutcome::Done { state: Vec::new() });
    world.ask(GiftCommand::Outcomes(vec![(names::PAYMENT, outcome)]));
    assert!(!world.play.wants().terminal);
    world.drain();
    assert_eq!((world.play.state.state(), figures(&world)), (Status::Cancelled, (BALANCE, 0, 0)));
    world.assert_end_beside();
}

#[test]
fn reservations_whose_amount_is_not_what_the_coupon_leaves_are_refused() {
    let terms = CouponTerms { coupon: testing::key(), off: Money::krw(PART) };
    for (terms, amount) in [
        (terms, 4_500),
        (terms, 3_498),
        (CouponTerms { off: Money::krw(4_501), ..terms }, -1),
        (CouponTerms { off: Money::krw(0), ..terms }, 4_500),
        (CouponTerms { coupon: KEY, ..terms }, 3_499),
    ] {
        let mut reservation = reservation();
        reservation.payment.amount = Money::krw(amount);
        let command = GiftCommand::ReserveWith(Box::new(reservation), terms);
        let at = At { now: reserved_at(), command_id: CommandId::default() };
        let refused = Gift::decide(KEY, &GiftState::default(), command, &at);
        assert_eq!(refused, Err(GiftRejection::NotReservable), "{terms:?} {amount}");
    }
}

#[test]
fn neither_coupon_nor_wallet_is_called_by_way_of_a_fenced_attempt_or_a_hint() {
    let world = World::new(BY_BOTH);
    let order = Report {
        reference: format!("g_{}", KEY.hex()),
        provider: "toss".into(),
        status: ReportStatus::Delivered,
        at: reserved_at(),
    };
    check(&world.play, GiftCommand::Report(order), Then::Unchanged);
    for slot in [names::PAYMENT, names::COUPON_USE, names::WALLET_CLOSE, names::WALLET_RELEASE] {
        let start = AttemptStart { slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER };
        check(&world.play, GiftCommand::Attempt(start), Then::Rejected(GiftRejection::NotWanted));
    }
}

#[test]
fn new_bytes_are_golden_and_published() {
    let terms = CouponTerms { coupon: testing::key(), off: Money::krw(7) };
    let event = |fact| GiftEvent { at: Timestamp(1), fact };
    let old = hex::encode(codec::encode(&event(GiftFact::Reserved(Box::new(reservation())))));
    let new = event(GiftFact::ReservedWith(Box::new(reservation()), terms));
    let expected = format!("020b{}{}", &old[4..], hex::encode(codec::encode(&terms)));
    assert_eq!(hex::encode(codec::encode(&new)), expected, "the gift as ever, and what the coupon takes off");
    let mut events = vec![new];
    for (fact, bytes) in [
        (GiftFact::Coupon(CouponFact::Used), "020c00"),
        (GiftFact::Coupon(CouponFact::Returned), "020c01"),
        (GiftFact::Payment(PaymentFact::HoldClosed), "020107"),
    ] {
        assert_eq!(hex::encode(codec::encode(&event(fact.clone()))), bytes);
        assert_eq!(codec::decode::<GiftEvent>(&codec::encode(&event(fact.clone()))), Ok(event(fact.clone())));
        events.push(event(fact));
    }
    let said = publications(&codec::encode(&events)).unwrap();
    let topics: Vec<Topic> = said.iter().map(|said| said.topic).collect();
    assert_eq!(
        topics.iter().map(|topic| topic.0).collect::<Vec<_>>()[..2],
        ["reservation.requested.v1", "payment.result.v1"]
    );
    assert!(topics.iter().all(|topic| TOPICS.contains(topic)));
    assert_eq!(said[0].details["coupon"]["discount"]["value"], 7);
    assert_eq!(hex::encode(codec::encode(&PaymentMethod::Balance)), "05");
    // Behind the gift, under a tag of its own.
    for (paying, tail) in [(BY_CARD, "00"), (BY_WALLET, "0100")] {
        let state = Play::new().then(paying.command()).state;
        let bytes = codec::encode(&state);
        assert_eq!(bytes[0], 2);
        assert!(hex::encode(&bytes).ends_with(tail), "{paying:?}");
        assert_eq!(codec::decode::<GiftState>(&bytes), Ok(state));
    }
}
