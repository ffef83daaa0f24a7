//! Reservation, change and cancel; the re-resolution under new time-zone data.

use super::*;
use crate::domain::gift::names;
use crate::domain::policy::Overdue;

fn reserve_with(edit: impl FnOnce(&mut Reservation)) -> GiftCommand {
    let mut reservation = reservation();
    edit(&mut reservation);
    GiftCommand::Reserve(Box::new(reservation))
}
fn move_to(local: &str) -> Change {
    let send_at = SendAt::local(local, "Asia/Seoul").unwrap();
    let resolved = send_at.resolve().unwrap();
    Change { send_at: Some((send_at, resolved)), ..Change::default() }
}
fn change(change: Change) -> GiftCommand {
    GiftCommand::Change(Box::new(change))
}

#[test]
fn reservation_wants_its_payment_at_once_and_a_timeout() {
    let gift = check(
        &Play::new(),
        GiftCommand::Reserve(Box::new(reservation())),
        Then::Events(&["reserved"], Status::PaymentPending),
    );
    assert_eq!((gift.call().lane, gift.call().due), (Lane::Payment, reserved_at()));
    assert_eq!(gift.timer(names::PAYMENT_TIMEOUT), Some(reserved_at() + Millis::from_mins(5)));
    check(&gift, GiftCommand::Reserve(Box::new(reservation())), Then::Rejected(GiftRejection::AlreadyExists));
    check(&Play::sent(), GiftCommand::Reserve(Box::new(reservation())), Then::Rejected(GiftRejection::AlreadyExists));
}

#[test]
fn reservation_that_cannot_hold_is_refused() {
    let none = Play::new();
    let cases = [
        (reserve_with(|r| r.payment.amount = Money::krw(0)), GiftRejection::NotReservable),
        (reserve_with(|r| r.product.policy.validity_days = 0), GiftRejection::NotReservable),
        (reserve_with(|r| r.sealed.ciphertext = vec![0; 20_000]), GiftRejection::NotReservable),
        (reserve_with(|r| r.owner = "u".repeat(300)), GiftRejection::NotReservable),
        (reserve_with(|r| r.channels = vec![]), GiftRejection::NoChannel),
        (reserve_with(|r| r.channels = vec![Channel::Push]), GiftRejection::NoChannel),
        (reserve_with(|r| r.channels = vec![Channel::Sms, Channel::Sms]), GiftRejection::NoChannel),
        (reserve_with(|r| r.resolved.instant = reserved_at() + Millis::from_mins(8)), GiftRejection::SendAtOutOfRange),
        (
            reserve_with(|r| r.resolved.instant = reserved_at() + Millis::from_days(366)),
            GiftRejection::SendAtOutOfRange,
        ),
        (
            reserve_with(|r| {
                r.payment.refund_by = PaymentMethod::Carrier.refund_by(reserved_at(), &RefundWindows::default())
            }),
            GiftRejection::RefundWindowTooShort,
        ),
    ];
    for (command, rejection) in cases {
        check(&none, command, Then::Rejected(rejection));
    }
    // The request may have waited a little since the front door looked at the clock.
    for span in [Millis(Millis::from_mins(10).0 - 20_000), Millis(Millis::from_days(365).0)] {
        let command = reserve_with(|r| r.resolved.instant = reserved_at() + span);
        check(&none, command, Then::Events(&["reserved"], Status::PaymentPending));
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    check(&Play::new(), GiftCommand::Cancel, Then::Rejected(GiftRejection::NotFound));
    check(&Play::new(), GiftCommand::Timer(Slot(1)), Then::Rejected(GiftRejection::NotFound));
}

#[test]
fn change_is_possible_until_one_hour_before() {
    let gift = Play::scheduled();
    let moved = check(&gift, change(move_to("2026-12-31T09:00")), Then::Events(&["changed"], Status::Scheduled));
    assert_eq!(moved.call().due, at("2026-12-31T00:00:00Z"));
    let last = gift.clone().at(due() - Millis::from_hours(1));
    check(&last, change(move_to("2026-12-31T09:00")), Then::Events(&["changed"], Status::Scheduled));
    let late = last.after(Millis(1));
    check(&late, change(move_to("2026-12-31T09:00")), Then::Rejected(GiftRejection::TooLateToModify));
    check(&Play::sent(), change(move_to("2026-12-31T09:00")), Then::Rejected(GiftRejection::TooLateToModify));
    let status = Status::Refunding;
    check(&Play::refunding(), change(Change::default()), Then::Rejected(GiftRejection::WrongState { status }));
    check(&gift, change(Change::default()), Then::Unchanged);
}

#[test]
fn change_has_to_leave_a_gift_that_can_be_sent() {
    let gift = Play::scheduled();
    let by_mail =
        RecipientFacts { contacts: ContactSet { email: true, ..ContactSet::default() }, zone: "Asia/Seoul".into() };
    let recipient = Change { recipient: Some(by_mail), sealed: Some(sealed()), ..Change::default() };
    check(&gift, change(recipient.clone()), Then::Rejected(GiftRejection::NoChannel));
    let with_channel = Change { channels: Some(vec![Channel::Email]), ..recipient.clone() };
    let changed = check(&gift, change(with_channel), Then::Events(&["changed"], Status::Scheduled));
    assert_eq!(changed.call().lane, Lane::Send(Channel::Email));
    let unsealed = Change { sealed: None, channels: Some(vec![Channel::Email]), ..recipient };
    check(&gift, change(unsealed), Then::Rejected(GiftRejection::NotReservable));
    let soon = move_to("2026-12-20T09:05");
    check(&gift, change(soon), Then::Rejected(GiftRejection::SendAtOutOfRange));
}

#[test]
fn cancel_before_the_send_refunds_in_full() {
    let gift = check(
        &Play::scheduled(),
        GiftCommand::Cancel,
        Then::Events(&["cancelled", "refund_started"], Status::Refunding),
    );
    assert_eq!(gift.state.refund_reason(), Some(RefundReason::Cancelled));
    check(&gift, GiftCommand::Cancel, Then::Unchanged);
    let done = gift.call_answers(refunded(4_500));
    assert_eq!((done.state.state(), done.state.refunded()), (Status::Refunded, PRICE));
    check(&done, GiftCommand::Cancel, Then::Unchanged);
}

#[test]
fn cancel_and_send_exclude_each_other() {
    // The send was committed first.
    check(&Play::sending(), GiftCommand::Cancel, Then::Rejected(GiftRejection::AlreadyDispatched));
    check(&Play::sent(), GiftCommand::Cancel, Then::Rejected(GiftRejection::AlreadyDispatched));
    check(&Play::used(), GiftCommand::Cancel, Then::Rejected(GiftRejection::AlreadyDispatched));
    // The cancel was: the send's slot is not wanted any more, and nothing is early either.
    let gift = Play::scheduled();
    let start =
        GiftCommand::Attempt(AttemptStart { slot: gift.call().slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER });
    check(&gift.clone().at(due() - Millis(1)), start.clone(), Then::Rejected(GiftRejection::NotDue));
    let cancelled = gift.then(GiftCommand::Cancel).at(due());
    check(&cancelled, start, Then::Rejected(GiftRejection::NotWanted));
}

#[test]
fn cancel_while_the_payment_is_open_waits_for_its_fate() {
    let gift = check(&Play::reserved(), GiftCommand::Cancel, Then::Events(&["cancelled"], Status::Cancelled));
    assert!(!gift.wants().terminal);
    assert!(matches!(
        gift.request(),
        CallRequest::Payment(PaymentRequest { operation: PaymentOperation::Lookup { .. }, .. })
    ));
    let clear = gift.clone().call_answers(not_captured());
    assert_eq!(clear.state.state(), Status::Cancelled);
    assert!(clear.wants().terminal);
    let late = gift.call_answers(captured());
    assert_eq!((late.state.state(), late.state.refund_reason()), (Status::Refunding, Some(RefundReason::Cancelled)));
}

#[test]
fn new_time_zone_data_moves_unsent_local_gifts() {
    let gift = Play::scheduled();
    let newer = |shift: Millis| {
        let mut resolved = gift.state.send_at().clone();
        resolved.tzdb = "2027a".into();
        resolved.instant = resolved.instant + shift;
        GiftCommand::ReResolve { resolved }
    };
    assert!(gift.state.wants_resolution("2027a") && !gift.state.wants_resolution("2026e"));
    let same = check(&gift, newer(Millis(0)), Then::Events(&["send_at_resolved"], Status::Scheduled));
    assert_eq!(same.state.notices().len(), gift.state.notices().len());
    check(&same, newer(Millis(0)), Then::Unchanged);
    let hour = Millis::from_hours(1);
    let moved = check(&gift, newer(hour), Then::Events(&["send_at_resolved"], Status::Scheduled));
    assert_eq!(moved.call().due, due() + hour);
    assert_eq!(moved.state.notices().last().unwrap().template, Template::SenderMoved);
    check(&Play::sent(), newer(hour), Then::Unchanged);
}

#[test]
fn overdue_gift_is_sent_or_becomes_a_dead_letter_by_policy() {
    let late = Millis::from_hours(3);
    assert_eq!(Play::scheduled().at(due() + late).start().state.state(), Status::Sending);
    let overdue = Overdue::DeadLetterAfter(Millis::from_hours(2));
    let strict = Play::with_policy(Policy { overdue, ..Policy::default() }).call_answers(captured());
    let slot = strict.call().slot;
    let start = GiftCommand::Attempt(AttemptStart { slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER });
    let strict = strict.at(due() + late);
    check(&strict, start, Then::Rejected(GiftRejection::NotWanted));
    let dead = check(&strict, GiftCommand::Timer(names::OVERDUE), Then::Events(&["send_failed"], Status::SendFailed));
    assert_eq!(dead.state.dead_letters()[0].cause, "overdue");
}
