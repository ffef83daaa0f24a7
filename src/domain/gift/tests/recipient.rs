//! What the recipient and the till do: accept, decline, hand on, redeem, take back; and the end of validity.

use super::*;
use crate::domain::gift::names;
use crate::domain::policy::DeclineRule;
use crate::types::record::Erasure;

fn accept(link_hash: [u8; 16]) -> GiftCommand {
    GiftCommand::Accept { link_hash }
}
fn decline() -> GiftCommand {
    GiftCommand::Decline { link_hash: LINK }
}
fn redeem(transaction: &str) -> GiftCommand {
    GiftCommand::Redeem { code_hash: CODE, redemption: till(transaction) }
}
fn take_back(transaction: &str) -> GiftCommand {
    GiftCommand::CancelRedeem { code_hash: CODE, redemption: till(transaction) }
}
fn hand_on_remembering() -> GiftCommand {
    GiftCommand::HandOn(Box::new(hand_on()))
}
fn transfer() -> GiftCommand {
    GiftCommand::Transfer(Box::new(hand_on()))
}

#[test]
fn gift_is_accepted_through_its_link_once() {
    let gift = check(&Play::sent(), accept(LINK), Then::Events(&["accepted"], Status::Accepted));
    assert_eq!(gift.state.notices().last().unwrap().template, Template::SenderAccepted);
    check(&gift, accept(LINK), Then::Unchanged);
    check(&Play::sent(), accept(NEW_LINK), Then::Rejected(GiftRejection::LinkDead));
    check(&Play::used(), accept(LINK), Then::Rejected(GiftRejection::AlreadyUsed));
    let status = Status::Scheduled;
    check(&Play::scheduled(), accept(LINK), Then::Rejected(GiftRejection::WrongState { status }));
    check(&Play::sending(), accept(LINK), Then::Events(&["sent", "accepted"], Status::Accepted));
    check(&Play::send_failed(), accept(LINK), Then::Events(&["sent", "accepted"], Status::Accepted));
}

#[test]
fn declined_gift_is_refunded() {
    let gift = check(&Play::sent(), decline(), Then::Events(&["declined", "refund_started"], Status::Refunding));
    assert_eq!(gift.state.refund_reason(), Some(RefundReason::Declined));
    check(&gift, decline(), Then::Unchanged);
    let status = Status::Refunding;
    check(&gift, accept(LINK), Then::Rejected(GiftRejection::WrongState { status }));
    check(&Play::accepted(), decline(), Then::Events(&["declined", "refund_started"], Status::Refunding));
    check(&Play::used(), decline(), Then::Rejected(GiftRejection::AlreadyUsed));
}

#[test]
fn policy_says_how_long_a_gift_may_be_declined() {
    let sent = |decline| {
        Play::with_policy(Policy { decline, ..Policy::default() })
            .call_answers(captured())
            .call_answers(taken(due()))
            .report(0, 1, ReportStatus::Delivered)
    };
    check(&sent(DeclineRule::Never), decline(), Then::Rejected(GiftRejection::DeclineNotAllowed));
    let accepted = sent(DeclineRule::UntilAccepted).then(accept(LINK));
    check(&accepted, decline(), Then::Rejected(GiftRejection::DeclineNotAllowed));
    let before = sent(DeclineRule::UntilAccepted);
    check(&before, decline(), Then::Events(&["declined", "refund_started"], Status::Refunding));
}

#[test]
fn handing_on_kills_link_and_code_and_sends_at_once() {
    let given = Play::accepted();
    let expires_at = given.state.expires_at().unwrap();
    let gift = check(&given, transfer(), Then::Events(&["transferred"], Status::Sending));
    assert_eq!((gift.state.transfers_left(), gift.state.delivery().generation), (0, 1));
    assert_eq!((gift.call().lane, gift.call().due), (Lane::Send(Channel::Kakao), gift.now));
    // The same last day, at its end in New York.
    assert_eq!(gift.state.expires_at().unwrap() - expires_at, Millis::from_hours(14));
    let keys: Vec<_> = gift.wants().indexes.into_iter().filter(|row| row.unique).map(|row| row.key).collect();
    assert_eq!(keys, [NEW_LINK.to_vec(), NEW_CODE.to_vec()]);
    check(&gift, accept(LINK), Then::Rejected(GiftRejection::LinkDead));
    check(&gift, redeem("x-1"), Then::Rejected(GiftRejection::NotFound));
    let sent = gift.call_answers(taken(given.now)).report(1, 1, ReportStatus::Delivered);
    assert_eq!(sent.state.delivery().lateness, Some(Millis(0)));
    let accepted = sent.then(accept(NEW_LINK));
    let again = Transfer { link_hash: NEW_LINK, new_link_hash: LINK, new_code_hash: CODE, ..hand_on() };
    let again = GiftCommand::Transfer(Box::new(again));
    check(&accepted, again, Then::Rejected(GiftRejection::AlreadyTransferred));
}

#[test]
fn a_gift_that_was_handed_on_remembers_its_dead_link_until_it_is_erased() {
    let gift = check(&Play::accepted(), hand_on_remembering(), Then::Events(&["transferred"], Status::Sending));
    let unique = |play: &Play| -> Vec<_> {
        play.wants().indexes.into_iter().filter(|row| row.unique).map(|row| row.key).collect()
    };
    assert_eq!(unique(&gift), [NEW_LINK.to_vec(), LINK.to_vec(), NEW_CODE.to_vec()]);
    check(&gift, accept(LINK), Then::Rejected(GiftRejection::LinkDead));
    assert!(!gift.state.is_current_link(&LINK) && gift.state.is_current_link(&NEW_LINK));
    let bytes = codec::encode(&gift.state);
    assert_eq!(codec::decode::<GiftState>(&bytes).unwrap(), gift.state);
    let sent = gift.call_answers(taken(due())).report(1, 1, ReportStatus::Delivered);
    let used = sent.then(accept(NEW_LINK)).then(GiftCommand::Redeem { code_hash: NEW_CODE, redemption: till("x-1") });
    let erased = super::notices::settle_all(used).then(GiftCommand::Erase);
    assert_eq!(unique(&erased), Vec::<Vec<u8>>::new());
}

#[test]
fn handing_on_needs_a_usable_gift_and_a_way_to_the_new_recipient() {
    check(&Play::used(), transfer(), Then::Rejected(GiftRejection::AlreadyUsed));
    let status = Status::Scheduled;
    check(&Play::scheduled(), transfer(), Then::Rejected(GiftRejection::WrongState { status }));
    let unreachable = Transfer {
        recipient: RecipientFacts { contacts: ContactSet { kakao: true, ..ContactSet::default() }, ..facts("UTC") },
        ..hand_on()
    };
    check(&Play::sent(), GiftCommand::Transfer(Box::new(unreachable)), Then::Rejected(GiftRejection::NoChannel));
    let same = Transfer { new_code_hash: CODE, ..hand_on() };
    check(&Play::sent(), GiftCommand::Transfer(Box::new(same)), Then::Rejected(GiftRejection::NotReservable));
}

#[test]
fn handed_on_gift_that_expires_on_its_way_is_refunded_and_sent_no_more() {
    let gift = Play::sent().then(transfer());
    let end = gift.timer(names::EXPIRY).unwrap();
    let slot = gift.call().slot;
    let late = gift.at(end);
    let start = GiftCommand::Attempt(AttemptStart { slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER });
    check(&late, start, Then::Rejected(GiftRejection::NotWanted));
    let timer = GiftCommand::Timer(names::EXPIRY);
    check(&late, timer, Then::Events(&["expired", "refund_started"], Status::Refunding));
}

#[test]
fn voucher_is_used_once_and_the_same_transaction_replays() {
    let gift = check(&Play::accepted(), redeem("x-1"), Then::Events(&["used"], Status::Used));
    assert_eq!((gift.state.ledger().used(), gift.state.ledger().held()), (PRICE, Money::krw(0)));
    check(&gift, redeem("x-1"), Then::Unchanged);
    check(&gift, redeem("x-2"), Then::Rejected(GiftRejection::AlreadyUsed));
    check(&Play::sent(), redeem("x-1"), Then::Rejected(GiftRejection::NotAccepted));
    check(&Play::scheduled(), redeem("x-1"), Then::Rejected(GiftRejection::NotFound));
    let other = GiftCommand::Redeem { code_hash: NEW_CODE, redemption: till("x-1") };
    check(&Play::accepted(), other, Then::Rejected(GiftRejection::NotFound));
    let blank = GiftCommand::Redeem { code_hash: CODE, redemption: till("") };
    check(&Play::accepted(), blank, Then::Rejected(GiftRejection::NotReservable));
}

#[test]
fn net_cancel_takes_a_redemption_back_for_good() {
    let used = Play::used();
    let gift =
        check(&used, take_back("x-1"), Then::Events(&["redemption_cancelled", "reminder_moved"], Status::Accepted));
    assert_eq!((gift.state.ledger().used(), gift.state.ledger().held()), (Money::krw(0), PRICE));
    check(&gift, take_back("x-1"), Then::Unchanged);
    // The lost approval arrives after its cancel.
    check(&gift, redeem("x-1"), Then::Rejected(GiftRejection::TransactionCancelled));
    check(&gift, redeem("x-2"), Then::Events(&["used"], Status::Used));
    check(&used, take_back("x-2"), Then::Rejected(GiftRejection::AlreadyUsed));
    let late = used.after(Millis(Millis::from_hours(24).0 + 1));
    check(&late, take_back("x-1"), Then::Rejected(GiftRejection::TooLateToCancel));
}

#[test]
fn two_merchants_may_name_store_till_and_transaction_alike() {
    let other = RedemptionKey { store: Store::of("m-2", "s-1"), ..till("x-1") };
    let (redeem_there, take_back_there) = (
        GiftCommand::Redeem { code_hash: CODE, redemption: other.clone() },
        GiftCommand::CancelRedeem { code_hash: CODE, redemption: other },
    );
    let used = Play::used();
    check(&used, redeem("x-1"), Then::Unchanged);
    check(&used, redeem_there.clone(), Then::Rejected(GiftRejection::AlreadyUsed));
    check(&used, take_back_there.clone(), Then::Rejected(GiftRejection::AlreadyUsed));
    let barred_there = Play::accepted().then(take_back_there);
    check(&barred_there, redeem_there, Then::Rejected(GiftRejection::TransactionCancelled));
    check(&barred_there, redeem("x-1"), Then::Events(&["used"], Status::Used));
}

#[test]
fn a_redemption_written_down_without_its_merchant_is_known_again() {
    let used = Play::accepted().then(GiftCommand::Redeem { code_hash: CODE, redemption: old_till("x-1") });
    check(&used, redeem("x-1"), Then::Unchanged);
    check(&used, redeem("x-2"), Then::Rejected(GiftRejection::AlreadyUsed));
    check(&used, take_back("x-1"), Then::Events(&["redemption_cancelled", "reminder_moved"], Status::Accepted));
}

#[test]
fn net_cancel_of_an_approval_that_never_came_keeps_it_out() {
    for gift in [Play::sent(), Play::accepted()] {
        let status = gift.state.state();
        let barred = check(&gift, take_back("x-9"), Then::Events(&["redemption_cancelled"], status));
        let barred = if status == Status::Sent { barred.then(accept(LINK)) } else { barred };
        check(&barred, redeem("x-9"), Then::Rejected(GiftRejection::TransactionCancelled));
    }
    check(&Play::scheduled(), take_back("x-9"), Then::Rejected(GiftRejection::NotFound));
    check(&Play::refunding(), take_back("x-9"), Then::Unchanged);
}

#[test]
fn remembered_net_cancels_are_bounded() {
    let mut gift = Play::accepted();
    for number in 0..50 {
        gift = gift.then(take_back(&format!("x-{number}")));
    }
    check(&gift, redeem("x-49"), Then::Rejected(GiftRejection::TransactionCancelled));
    assert!(codec::encode(&gift.state).len() < 2_000);
}

#[test]
fn unused_gift_expires_after_its_last_day_and_is_refunded() {
    for gift in [Play::sent(), Play::accepted()] {
        let last = gift.clone().at(gift.state.expires_at().unwrap());
        let timer = GiftCommand::Timer(names::EXPIRY);
        check(&last, timer.clone(), Then::Rejected(GiftRejection::NotDue));
        if last.state.state() == Status::Accepted {
            check(&last, redeem("x-1"), Then::Events(&["used"], Status::Used));
        }
        let over = last.after(Millis(1));
        assert_eq!(over.timer(names::EXPIRY), Some(over.now));
        // Even before the timer is served.
        check(&over, accept(LINK), Then::Rejected(GiftRejection::Expired));
        if over.state.state() == Status::Accepted {
            check(&over, redeem("x-1"), Then::Rejected(GiftRejection::Expired));
        }
        let expired = check(&over, timer, Then::Events(&["expired", "refund_started"], Status::Refunding));
        check(&expired, redeem("x-1"), Then::Rejected(GiftRejection::Expired));
        check(&expired, accept(LINK), Then::Rejected(GiftRejection::Expired));
        let done = expired.call_answers(refunded(4_500));
        assert_eq!((done.state.state(), done.state.refunded()), (Status::Refunded, PRICE));
        check(&done, redeem("x-1"), Then::Rejected(GiftRejection::Expired));
    }
}

#[test]
fn only_a_finished_gift_is_erased() {
    let status = Status::Accepted;
    check(&Play::accepted(), GiftCommand::Erase, Then::Rejected(GiftRejection::WrongState { status }));
    let used = notices::settle_all(Play::used());
    let at_once = At { now: used.now, command_id: CommandId::default() };
    let decided = Gift::decide(KEY, &used.state, GiftCommand::Erase, &at_once).unwrap();
    assert_eq!(decided.erase, Erasure::PersonalData);
    let erased = check(&used, GiftCommand::Erase, Then::Events(&["erased"], Status::Used));
    assert_eq!(erased.state.sealed(), None);
    assert!(erased.wants().indexes.iter().all(|row| !row.unique));
    check(&erased, GiftCommand::Erase, Then::Unchanged);
    check(&erased, take_back("x-1"), Then::Rejected(GiftRejection::TooLateToCancel));
    check(&erased, redeem("x-1"), Then::Unchanged);
}

#[test]
fn a_gift_that_is_done_is_forgotten_after_the_retention_and_keeps_its_books() {
    let used = notices::settle_all(Play::used());
    for given in [check(&used, GiftCommand::Erase, Then::Events(&["erased"], Status::Used)), used] {
        let due = given.timer(names::RETENTION).expect("it is done");
        assert_eq!(due, given.state.updated_at() + Millis::from_days(90));
        let early = Play { now: due - Millis(1), ..given.clone() };
        check(&early, GiftCommand::Timer(names::RETENTION), Then::Rejected(GiftRejection::NotDue));
        let over = Play { now: due, ..given };
        let timer = GiftCommand::Timer(names::RETENTION);
        let at_due = At { now: due, command_id: CommandId::default() };
        let decided = Gift::decide(KEY, &over.state, timer.clone(), &at_due).unwrap();
        assert_eq!(decided.erase, Erasure::Journal);
        let gone = check(&over, timer.clone(), Then::Events(&["forgotten"], Status::Used));
        assert_eq!(gone.state.sealed(), None);
        assert_eq!(gone.wants().timers, [], "nothing is left to do");
        assert_eq!(gone.state.amount(), over.state.amount());
        check(&gone, timer, Then::Rejected(GiftRejection::NotWanted));
    }
    let alive = Play::accepted();
    assert_eq!(alive.timer(names::RETENTION), None);
}
