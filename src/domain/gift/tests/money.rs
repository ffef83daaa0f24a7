//! Payments, their timeouts and late truths; refunds until they are settled or dead.

use super::*;
use crate::domain::gift::names;
use crate::domain::policy::RefundRule;

fn payment_request(play: &Play) -> PaymentRequest {
    match play.request() {
        CallRequest::Payment(request) => request,
        CallRequest::Message(_) | CallRequest::Entity(_) | CallRequest::Shipment(_) => panic!("not a payment"),
    }
}

#[test]
fn captured_payment_schedules_the_gift() {
    let gift = Play::reserved().start();
    let slot = gift.call().slot;
    let gift = check(
        &gift,
        GiftCommand::Outcomes(vec![(slot, captured())]),
        Then::Events(&["payment_captured"], Status::Scheduled),
    );
    assert_eq!(gift.state.ledger().held(), PRICE);
    assert_eq!((gift.call().lane, gift.call().due), (Lane::Send(Channel::Kakao), due()));
    assert_eq!(gift.timer(names::PAYMENT_TIMEOUT), None);
}

#[test]
fn refused_payment_is_final_and_told() {
    let gift = Play::reserved().call_answers(not_captured());
    assert_eq!((gift.state.state(), gift.state.failure_code()), (Status::PaymentFailed, Some("REJECT_CARD_PAYMENT")));
    assert_eq!(gift.state.notices()[0].template, Template::SenderFailed);
    assert_eq!(gift.state.ledger().paid(), Money::krw(0));
    let status = Status::PaymentFailed;
    check(&gift, GiftCommand::Cancel, Then::Rejected(GiftRejection::NotCancellable { status }));
}

#[test]
fn unknown_payment_is_repeated_under_the_same_key_with_its_history() {
    let gift = Play::reserved();
    let first = payment_request(&gift);
    assert_eq!((first.order_id.as_str(), first.prior), (format!("g_{}", KEY.hex()).as_str(), Prior::None));
    let gift = gift.call_answers(payment_unknown());
    let second = payment_request(&gift);
    assert_eq!(second.prior, Prior::Unknown { first_tried_at: reserved_at() });
    assert_eq!((second.idempotency_key, second.operation), (first.idempotency_key, first.operation));
    assert_eq!(gift.call().due, reserved_at() + Millis::from_secs(5));
    assert_eq!(gift.clone().call_answers(payment_unknown()).call().due, reserved_at() + Millis::from_secs(15));
    // What never left is not a try.
    let unsent = Play::reserved().call_answers(CallOutcome::Payment(PaymentOutcome::NotSent { cause: "x".into() }));
    assert_eq!(payment_request(&unsent).prior, Prior::None);
}

#[test]
fn payment_without_answer_expires_and_is_looked_up_until_it_is_ruled_out() {
    let gift = Play::reserved().call_answers(payment_unknown()).at(reserved_at() + Millis::from_mins(5));
    let early = gift.clone().at(gift.now - Millis(1));
    check(&early, GiftCommand::Timer(names::PAYMENT_TIMEOUT), Then::Rejected(GiftRejection::NotDue));
    let gift = check(
        &gift,
        GiftCommand::Timer(names::PAYMENT_TIMEOUT),
        Then::Events(&["payment_expired"], Status::PaymentExpired),
    );
    let request = payment_request(&gift);
    assert!(matches!(request.operation, PaymentOperation::Lookup { .. }));
    assert!(matches!(request.prior, Prior::Unknown { .. }));
    let pending = gift.call_answers(CallOutcome::Payment(PaymentOutcome::Pending));
    assert!(!pending.wants().terminal);
    let late = pending.clone().call_answers(captured());
    assert_eq!(late.state.refund_reason(), Some(RefundReason::PaymentExpired));
    assert_eq!((late.state.state(), late.state.ledger().held()), (Status::Refunding, PRICE));
    let clear = pending.call_answers(not_captured());
    assert_eq!(clear.state.state(), Status::PaymentExpired);
    assert!(clear.wants().calls.iter().all(|call| call.guard == Guard::Repeatable));
}

#[test]
fn confirmation_in_flight_survives_timeout_and_cancel() {
    let open = Play::reserved().start().at(reserved_at() + Millis::from_mins(5));
    let expired = open.clone().then(GiftCommand::Timer(names::PAYMENT_TIMEOUT));
    assert!(expired.call().open.is_some());
    assert_eq!(expired.outcome(captured()).state.state(), Status::Refunding);
    let cancelled = open.then(GiftCommand::Cancel);
    assert_eq!(cancelled.clone().outcome(captured()).state.state(), Status::Refunding);
    assert!(cancelled.outcome(not_captured()).wants().terminal);
}

#[test]
fn other_amount_than_asked_for_goes_back() {
    let gift = Play::reserved().start();
    let wrong = PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(5_000), at: reserved_at() };
    let gift = gift.outcome(CallOutcome::Payment(wrong));
    assert_eq!(gift.state.refund_reason(), Some(RefundReason::AmountMismatch));
    let gift = gift.call_answers(refunded(5_000));
    assert_eq!((gift.state.state(), gift.state.refunded()), (Status::Refunded, Money::krw(5_000)));
}

#[test]
fn payment_cancelled_at_the_provider_is_booked_both_ways() {
    let gift = Play::reserved().call_answers(refunded(4_500));
    assert_eq!((gift.state.state(), gift.state.ledger().paid()), (Status::Refunded, PRICE));
    assert_eq!(gift.state.refunded(), PRICE);
}

#[test]
fn payment_cancelled_in_part_at_the_provider_goes_back_whole() {
    let gift = Play::reserved().call_answers(refunded(1_000));
    assert_eq!((gift.state.state(), gift.state.ledger().paid()), (Status::Refunding, PRICE));
    assert_eq!(gift.state.refunded(), Money::krw(1_000));
    let gift = gift.call_answers(refunded(4_500));
    assert_eq!((gift.state.state(), gift.state.refunded()), (Status::Refunded, PRICE));
}

#[test]
fn refund_in_doubt_keeps_its_number_and_a_refused_one_gets_a_new_one() {
    let gift = Play::refunding();
    let key = |play: &Play| payment_request(play).idempotency_key;
    assert_eq!(key(&gift), format!("g_{}.refund.1", KEY.hex()));
    let doubtful = gift.call_answers(payment_unknown());
    assert_eq!(key(&doubtful), format!("g_{}.refund.1", KEY.hex()));
    assert!(matches!(payment_request(&doubtful).prior, Prior::Unknown { .. }));
    let refused = doubtful.call_answers(refund_refused("FORBIDDEN_CONSECUTIVE_REQUEST", RefusalClass::Retry));
    assert_eq!(key(&refused), format!("g_{}.refund.2", KEY.hex()));
    assert_eq!(payment_request(&refused).prior, Prior::None);
    assert_eq!(refused.call_answers(refunded(4_500)).state.state(), Status::Refunded);
}

#[test]
fn late_outcome_of_an_earlier_refund_is_not_taken_for_the_next() {
    let first = Play::refunding().start();
    let slot = first.call().slot;
    let second = first.outcome(refund_refused("x", RefusalClass::Retry));
    let late = GiftCommand::Outcomes(vec![(slot, refund_refused("y", RefusalClass::Permanent))]);
    check(&second, late, Then::Unchanged);
}

#[test]
fn refund_refused_for_good_is_a_dead_letter_that_holds_its_money() {
    let gift = Play::refund_failed();
    let letters = gift.state.dead_letters();
    assert_eq!((letters[0].command, letters[0].money_held), ("refund", PRICE));
    assert_eq!(gift.state.ledger().held(), PRICE);
    let replay = GiftCommand::Replay { actor: "op-1".into(), letter: Letter::Gift, new_generation: false };
    let again = check(&gift, replay.clone(), Then::Events(&["dead_letter_replayed"], Status::Refunding));
    let done = again.call_answers(refunded(4_500));
    assert_eq!((done.state.state(), done.state.refunded()), (Status::Refunded, PRICE));
    check(&done, replay, Then::Rejected(GiftRejection::NotADeadLetter));
    // Forgotten by everybody, it is tried again by itself.
    let week = gift.clone().after(Millis::from_days(7));
    let reviewed = GiftCommand::Timer(names::REFUND_REVIEW);
    check(&gift, reviewed.clone(), Then::Rejected(GiftRejection::NotDue));
    check(&week, reviewed, Then::Events(&["dead_letter_replayed"], Status::Refunding));
    let by_hand = GiftCommand::Discard { actor: "op-1".into(), letter: Letter::Gift, reason: "bank".into() };
    check(&gift, by_hand, Then::Events(&["dead_letter_discarded"], Status::Refunded));
}

#[test]
fn refund_refused_again_and_again_ends_as_a_dead_letter() {
    let mut gift = Play::refunding();
    let mut tries = 0;
    while gift.state.state() == Status::Refunding {
        gift = gift.call_answers(refund_refused("busy", RefusalClass::Retry));
        tries += 1;
    }
    assert_eq!((gift.state.state(), tries), (Status::RefundFailed, 31));
    assert!(gift.now - reserved_at() > Millis::from_days(3));
}

#[test]
fn partial_refund_is_followed_by_the_rest() {
    let gift = Play::refunding().call_answers(refunded(1_000));
    assert_eq!((gift.state.state(), gift.state.refunded()), (Status::Refunding, Money::krw(1_000)));
    match payment_request(&gift).operation {
        PaymentOperation::Cancel { amount, .. } => assert_eq!(amount, Money::krw(3_500)),
        other => panic!("{other:?}"),
    }
    let gift = gift.call_answers(refunded(4_500));
    assert_eq!((gift.state.state(), gift.state.refunded()), (Status::Refunded, PRICE));
}

#[test]
fn policy_that_refunds_a_share_earns_the_rest() {
    let refund = RefundRule { expired_percent: 90, declined_percent: 0, ..RefundRule::default() };
    let sent = Play::with_policy(Policy { refund, ..Policy::default() })
        .call_answers(captured())
        .call_answers(taken(due()))
        .report(0, 1, ReportStatus::Delivered);
    let expired = sent.clone().at(sent.timer(names::EXPIRY).unwrap()).then(GiftCommand::Timer(names::EXPIRY));
    assert_eq!(expired.state.ledger().held(), PRICE);
    let done = expired.call_answers(refunded(4_050));
    assert_eq!((done.state.refunded(), done.state.ledger().used()), (Money::krw(4_050), Money::krw(450)));
    let declined = check(
        &sent,
        GiftCommand::Decline { link_hash: LINK },
        Then::Events(&["delivery_confirmed", "declined", "money_kept"][1..], Status::Declined),
    );
    assert_eq!(declined.state.ledger().used(), PRICE);
}

#[test]
fn payment_webhook_only_makes_us_look_sooner() {
    let hint = |play: &Play| {
        let reference = format!("g_{}", KEY.hex());
        let status = ReportStatus::Failed { code: "CANCELED".into(), class: RefusalClass::Permanent };
        GiftCommand::Report(Report { reference, provider: "toss".into(), status, at: play.now })
    };
    let waiting = Play::reserved().call_answers(payment_unknown());
    let hinted = check(&waiting, hint(&waiting), Then::Events(&["payment_hinted"], Status::PaymentPending));
    assert_eq!(hinted.call().due, waiting.now);
    check(&hinted, hint(&hinted), Then::Unchanged);
    check(&Play::sent(), hint(&Play::sent()), Then::Unchanged);
    let in_flight = Play::reserved().start();
    check(&in_flight, hint(&in_flight), Then::Unchanged);
}
