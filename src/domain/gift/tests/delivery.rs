//! The way to the recipient: retries, channels, unknown outcomes, reports in any order, dead letters.

use super::*;
use crate::domain::gift::names;

fn message(play: &Play) -> MessageRequest {
    match play.request() {
        CallRequest::Message(request) => request,
        CallRequest::Payment(_) | CallRequest::Entity(_) | CallRequest::Shipment(_) => panic!("not a message"),
    }
}
fn not_sent(cause: &str) -> CallOutcome {
    CallOutcome::Message(MessageOutcome::NotSent { cause: cause.to_owned() })
}
fn retry(play: Play) -> Play {
    play.call_answers(refused("429", RefusalClass::Retry))
}

#[test]
fn gift_leaves_at_its_instant_and_is_sent_when_the_report_says_so() {
    let gift = Play::sending();
    assert_eq!(gift.state.state(), Status::Sending);
    let request = message(&gift);
    assert_eq!(request.reference, format!("g_{}.0.1", KEY.hex()));
    assert_eq!((request.channel, request.prior), (Channel::Kakao, Prior::None));
    assert_eq!(request.link.unwrap().0, "http://127.0.0.1:8080/g/007aa");
    let gift = gift.outcome(taken(due() + Millis(300)));
    let delivery = gift.state.delivery();
    assert_eq!((gift.state.state(), delivery.lateness), (Status::Sending, Some(Millis(300))));
    assert_eq!(gift.state.expires_at().unwrap().to_string(), "2027-01-24T14:59:59.999Z");
    let gift = gift.report(0, 1, ReportStatus::Delivered);
    assert_eq!((gift.state.state(), gift.state.delivery().confirmed), (Status::Sent, Some(true)));
    assert_eq!(gift.timer(names::EXPIRY), Some(at("2027-01-24T15:00:00Z")));
    assert_eq!(gift.timer(names::REMINDER), Some(at("2027-01-21T01:00:00Z")));
}

#[test]
fn refusals_that_may_pass_are_retried_on_schedule_then_the_next_channel_then_dead() {
    let mut gift = Play::scheduled();
    let mut seen = Vec::new();
    while gift.state.state() != Status::SendFailed {
        let call = gift.call();
        seen.push((call.lane, (call.due - gift.now.max(due())).0));
        gift = retry(gift);
    }
    let (kakao, sms) = (Lane::Send(Channel::Kakao), Lane::Send(Channel::Sms));
    assert_eq!(
        seen,
        [
            (kakao, 0),
            (kakao, 10_000),
            (kakao, 30_000),
            (kakao, 120_000),
            (sms, 0),
            (sms, 10_000),
            (sms, 30_000),
            (sms, 120_000),
        ]
    );
    assert_eq!(gift.state.delivery().attempts, 8);
    let letter = &gift.state.dead_letters()[0];
    assert_eq!((letter.command, letter.cause.as_str(), letter.attempts, letter.money_held), ("send", "429", 8, PRICE));
    assert_eq!(gift.state.notices().last().unwrap().template, Template::SenderFailed);
}

#[test]
fn person_out_of_reach_is_tried_on_the_next_channel_at_once() {
    for class in [RefusalClass::NextChannel, RefusalClass::Permanent] {
        let gift = Play::sending().outcome(refused("3019", class));
        assert_eq!((gift.call().lane, gift.call().due), (Lane::Send(Channel::Sms), gift.now));
        assert_eq!(message(&gift).reference, format!("g_{}.0.2", KEY.hex()));
    }
}

#[test]
fn unknown_outcome_stays_on_its_channel_under_its_number() {
    let mut gift = Play::sending();
    let first = message(&gift);
    for _ in 0..20 {
        gift = gift.outcome(unknown());
        assert_eq!(gift.call().lane, Lane::Send(Channel::Kakao));
        let again = message(&gift);
        assert_eq!(again.prior, Prior::Unknown { first_tried_at: due() });
        assert_eq!(MessageRequest { prior: Prior::None, ..again }, first);
        let next = gift.call().due;
        assert!(next > gift.now && next <= gift.now + Millis::from_mins(5));
        gift = gift.at(next).start();
    }
    // The lookup says no after all, and the repeat is refused: only now another attempt.
    let gift = gift.outcome(refused("3019", RefusalClass::NextChannel));
    assert_eq!(message(&gift).reference, format!("g_{}.0.2", KEY.hex()));
    assert_eq!(message(&gift).prior, Prior::None);
}

#[test]
fn outcome_that_stays_unknown_for_a_day_is_a_dead_letter_that_keeps_its_doubt() {
    let mut gift = Play::sending();
    while gift.state.state() == Status::Sending {
        gift = gift.outcome(unknown());
        if gift.state.state() == Status::Sending {
            let next = gift.call().due;
            gift = gift.at(next).start();
        }
    }
    assert!(gift.now - due() > Millis::from_hours(20));
    assert_eq!(gift.state.state(), Status::SendFailed);
    let replay = GiftCommand::Replay { actor: "op".into(), letter: Letter::Gift, new_generation: false };
    let gift = gift.then(replay);
    assert_eq!(message(&gift).reference, format!("g_{}.0.1", KEY.hex()));
    assert!(matches!(message(&gift).prior, Prior::Unknown { .. }));
}

#[test]
fn successor_repeats_the_open_attempt_as_unknown() {
    let gift = Play::sending();
    assert_eq!(gift.call().open.unwrap().claim, claim(1));
    let gift = gift.after(Millis::from_secs(13)).start_under(2);
    assert_eq!(gift.call().open.unwrap().claim, claim(2));
    assert_eq!(message(&gift).prior, Prior::Unknown { first_tried_at: due() });
    assert_eq!(message(&gift).reference, format!("g_{}.0.1", KEY.hex()));
}

#[test]
fn what_never_left_is_tried_again_as_if_for_the_first_time() {
    let gift = Play::sending().outcome(CallOutcome::Message(MessageOutcome::NotSent { cause: "late".into() }));
    assert_eq!(gift.call().due, due() + Millis::from_secs(1));
    assert_eq!(message(&gift).prior, Prior::None);
}

#[test]
fn late_outcome_of_an_earlier_attempt_is_not_taken_for_the_current() {
    let first = Play::sending();
    let slot = first.call().slot;
    // The report of failure overtakes the reply.
    let second = first.report(0, 1, failed("3020", RefusalClass::NextChannel)).start();
    let late = GiftCommand::Outcomes(vec![(slot, taken(due()))]);
    check(&second, late, Then::Unchanged);
}

#[test]
fn channel_that_cannot_be_asked_is_final_as_unconfirmed() {
    let unconfirmed = MessageOutcome::Unconfirmed { provider: "smtp".into(), at: due() + Millis(900) };
    let gift = Play::sending().after(Millis::from_secs(2)).outcome(CallOutcome::Message(unconfirmed));
    let delivery = gift.state.delivery();
    assert_eq!((gift.state.state(), delivery.confirmed), (Status::Sent, Some(false)));
    assert_eq!(delivery.accepted_at, Some(due() + Millis(900)));
    assert!(gift.state.expires_at().is_some());
}

#[test]
fn report_of_no_reach_while_sending_goes_to_the_next_channel_of_the_same_delivery() {
    let gift = Play::accepted_by_provider().report(0, 1, failed("3018", RefusalClass::NextChannel));
    assert_eq!(gift.state.state(), Status::Sending);
    assert_eq!((gift.call().lane, gift.state.delivery().generation), (Lane::Send(Channel::Sms), 0));
    assert_eq!((gift.state.delivery().accepted_at, gift.state.expires_at()), (None, None));
    // The same report again is about an attempt that is over.
    let again = report(0, 1, failed("3018", RefusalClass::NextChannel), gift.now);
    check(&gift, GiftCommand::Report(again), Then::Unchanged);
}

#[test]
fn kakao_3005_is_sent_unconfirmed_and_never_followed_by_another_channel() {
    let gift = Play::accepted_by_provider().report(0, 1, ReportStatus::SentUnconfirmed);
    assert_eq!((gift.state.state(), gift.state.delivery().confirmed), (Status::Sent, Some(false)));
    assert!(gift.wants().calls.iter().all(|call| call.guard == Guard::Repeatable));
    let gift = gift.report(0, 1, ReportStatus::Delivered);
    assert_eq!(gift.state.delivery().confirmed, Some(true));
}

#[test]
fn no_report_in_time_is_sent_unconfirmed() {
    let gift = Play::accepted_by_provider();
    let timeout = GiftCommand::Timer(names::REPORT_TIMEOUT);
    assert_eq!(gift.timer(names::REPORT_TIMEOUT), Some(gift.now + Millis::from_mins(10)));
    check(&gift, timeout.clone(), Then::Rejected(GiftRejection::NotDue));
    let gift = check(&gift.after(Millis::from_mins(10)), timeout.clone(), Then::Events(&["sent"], Status::Sent));
    assert_eq!(gift.state.delivery().confirmed, Some(false));
    check(&gift, timeout, Then::Rejected(GiftRejection::NotWanted));
    // Late truth: it never arrived.
    let dead = gift.report(0, 1, failed("3040", RefusalClass::Permanent));
    assert_eq!(dead.state.state(), Status::SendFailed);
    assert_eq!(dead.state.ledger().held(), PRICE);
}

#[test]
fn failure_after_the_recipient_has_it_is_only_noted() {
    let failure = || failed("3040", RefusalClass::Permanent);
    let opened = Play::accepted_by_provider().then(GiftCommand::Opened { link_hash: LINK });
    for gift in [opened, Play::accepted(), Play::used()] {
        let status = gift.state.state();
        let command = GiftCommand::Report(report(0, 1, failure(), gift.now));
        let noted = check(&gift, command.clone(), Then::Events(&["delivery_failure_noted"], status));
        check(&noted, command, Then::Unchanged);
    }
    // Reordered: the failure is older than the arrival.
    let sent = Play::sent();
    let older = report(0, 1, failure(), due() - Millis(1));
    check(&sent, GiftCommand::Report(older), Then::Events(&["delivery_failure_noted"], Status::Sent));
}

#[test]
fn reports_of_strangers_and_of_other_generations_change_nothing() {
    let gift = Play::accepted_by_provider();
    for reference in ["", "g_00.0.1", &format!("g_{}.7.1", KEY.hex()), &format!("g_{}.n.32768.0", KEY.hex())] {
        let mut report = report(0, 1, ReportStatus::Delivered, gift.now);
        report.reference = reference.to_owned();
        let expected = if reference == "g_00.0.1" {
            // The runtime routes by id; what reaches us is ours.
            Then::Events(&["sent"], Status::Sent)
        } else {
            Then::Unchanged
        };
        check(&gift, GiftCommand::Report(report), expected);
    }
}

#[test]
fn dead_letter_is_replayed_in_the_same_delivery_unless_told_otherwise() {
    let gift = Play::send_failed();
    let replay = |new_generation| GiftCommand::Replay { actor: "op".into(), letter: Letter::Gift, new_generation };
    let same = check(&gift, replay(false), Then::Events(&["dead_letter_replayed"], Status::Sending));
    assert_eq!(message(&same).reference, format!("g_{}.0.3", KEY.hex()));
    assert_eq!(same.call().lane, Lane::Send(Channel::Kakao));
    let new = check(&gift, replay(true), Then::Events(&["dead_letter_replayed"], Status::Sending));
    assert_eq!(message(&new).reference, format!("g_{}.1.1", KEY.hex()));
    let sent = same.call_answers(taken(gift.now)).report(0, 3, ReportStatus::Delivered);
    assert_eq!(sent.state.state(), Status::Sent);
    assert!(sent.state.dead_letters().is_empty());
}

#[test]
fn dead_letter_that_nobody_answers_is_refunded_in_the_end() {
    let gift = Play::send_failed();
    let discard = GiftCommand::Discard { actor: "op".into(), letter: Letter::Gift, reason: "no phone".into() };
    let discarded =
        check(&gift, discard, Then::Events(&["dead_letter_discarded", "refund_started"], Status::Refunding));
    assert_eq!(discarded.state.refund_reason(), Some(RefundReason::SendFailed));
    let end = gift.timer(names::EXPIRY).unwrap();
    let forgotten = gift.at(end);
    let timer = GiftCommand::Timer(names::EXPIRY);
    check(&forgotten, timer, Then::Events(&["refund_started"], Status::Refunding));
}

#[test]
fn link_proves_arrival_whatever_the_provider_says() {
    for gift in [Play::sending(), Play::accepted_by_provider(), Play::send_failed()] {
        let opened = check(&gift, GiftCommand::Opened { link_hash: LINK }, Then::Events(&["sent"], Status::Sent));
        assert_eq!(opened.state.delivery().confirmed, Some(true));
        check(&opened, GiftCommand::Opened { link_hash: LINK }, Then::Unchanged);
        check(&gift, GiftCommand::Opened { link_hash: NEW_LINK }, Then::Rejected(GiftRejection::LinkDead));
    }
    check(&Play::scheduled(), GiftCommand::Opened { link_hash: LINK }, Then::Unchanged);
}

#[test]
fn attempts_of_one_delivery_are_bounded() {
    let mut gift = Play::send_failed();
    let replay = |new_generation| GiftCommand::Replay { actor: "op".into(), letter: Letter::Gift, new_generation };
    loop {
        match gift.ask(replay(false)) {
            Ok(_) => {
                gift = gift.call_answers(refused("x", RefusalClass::NextChannel));
                gift = gift.call_answers(refused("x", RefusalClass::NextChannel));
            }
            Err(rejection) => break assert_eq!(rejection, GiftRejection::AttemptsExhausted),
        }
    }
    assert!(gift.state.delivery().attempts <= 256);
    check(&gift, replay(true), Then::Events(&["dead_letter_replayed"], Status::Sending));
}

#[test]
fn failure_of_an_earlier_attempt_is_stale_once_the_next_has_begun() {
    let gift = Play::sending()
        .outcome(refused("3019", RefusalClass::NextChannel))
        .start()
        .outcome(taken(due() + Millis::from_secs(1)));
    let stale = report(0, 1, failed("3019", RefusalClass::NextChannel), gift.now);
    check(&gift, GiftCommand::Report(stale), Then::Unchanged);
    // The arrival of an earlier attempt counts all the same.
    let late = report(0, 1, ReportStatus::Delivered, gift.now);
    check(&gift, GiftCommand::Report(late), Then::Events(&["sent"], Status::Sent));
}

#[test]
fn outcome_of_a_call_that_was_not_made_changes_nothing() {
    let waiting = Play::sending().outcome(refused("429", RefusalClass::Retry));
    let slot = waiting.call().slot;
    for outcome in [taken(due()), unknown(), refused("x", RefusalClass::Permanent), captured()] {
        check(&waiting, GiftCommand::Outcomes(vec![(slot, outcome)]), Then::Unchanged);
    }
    check(&waiting, GiftCommand::Outcomes(Vec::new()), Then::Unchanged);
}

#[test]
fn no_call_begins_before_it_is_due() {
    let retries = [
        Play::reserved().call_answers(payment_unknown()),
        Play::sending().outcome(refused("429", RefusalClass::Retry)),
        Play::sending().outcome(unknown()),
        Play::refunding().call_answers(refund_refused("x", RefusalClass::Retry)),
    ];
    for waiting in retries {
        let call = waiting.call();
        let start = AttemptStart { slot: call.slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER };
        let early = waiting.clone().at(call.due - Millis(1));
        check(&early, GiftCommand::Attempt(start), Then::Rejected(GiftRejection::NotDue));
        let status = waiting.state.state();
        let types: &'static [&'static str] = match call.lane {
            Lane::Payment if status == Status::Refunding => &["refund_attempted"],
            Lane::Payment => &["payment_attempted"],
            Lane::Send(_) | Lane::Notice(_) | Lane::Entity | Lane::Shipment => &["send_attempted"],
        };
        check(&early.after(Millis(1)), GiftCommand::Attempt(start), Then::Events(types, status));
    }
}

#[test]
fn a_gift_is_accepted_on_its_day_whatever_the_other_clock_says() {
    let gift = Play::sending().outcome(taken(due() - Millis(200)));
    assert_eq!(gift.state.delivery().accepted_at, Some(due()));
    assert_eq!(gift.state.expires_at(), Play::accepted_by_provider().state.expires_at(), "not a day less");
    let gift = Play::sending().outcome(taken(due() + Millis::from_days(9)));
    assert_eq!(gift.state.delivery().accepted_at, Some(due() + Millis::from_mins(1)));
}

#[test]
fn what_was_not_begun_in_time_is_tried_again_soon_however_often_it_was_in_doubt() {
    let mut gift = Play::sending().outcome(unknown());
    for _ in 0..12 {
        gift = gift.call_answers(unknown());
    }
    let gift = gift.call_answers(not_sent(NOT_BEGUN));
    assert_eq!(gift.call().due, gift.now + Millis::from_secs(1));
    let gift = gift.call_answers(not_sent("away"));
    assert_eq!(gift.call().due, gift.now + Millis::from_secs(30));
}

#[test]
fn a_doubt_is_a_dead_letter_after_a_day_not_after_so_many_looks() {
    let mut gift = Play::sending().outcome(unknown());
    let begun = gift.now;
    for _ in 0..400 {
        let due = gift.call().due.max(gift.now);
        if due - begun > Millis::from_hours(23) {
            break;
        }
        gift = gift.call_answers(not_sent("away"));
    }
    let gift = gift.call_answers(unknown());
    assert_eq!(gift.state.state(), Status::Sending);
    let gift = gift.at(begun + Millis::from_hours(25)).call_answers(unknown());
    assert_eq!(gift.state.state(), Status::SendFailed);
}
