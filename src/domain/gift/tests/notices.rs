//! Notices and reminders: who gets what over which channel, retries, dead letters, quiet hours.

use super::*;
use crate::domain::gift::names;
use crate::domain::policy::QuietHours;

fn wanted(play: &Play) -> Vec<CallWant> {
    play.wants().calls.into_iter().filter(|call| call.guard == Guard::Repeatable).collect()
}
fn last(play: &Play) -> &Notice {
    play.state.notices().last().unwrap()
}
fn render(play: &Play, slot: Slot) -> MessageRequest {
    let bytes = codec::encode(&personal());
    match Gift::request(KEY, &play.state, slot, Some(&bytes)) {
        Some(CallRequest::Message(request)) => request,
        other => panic!("{other:?}"),
    }
}
/// Every notice that is wanted is taken by its provider, in one record.
pub(super) fn settle_all(play: Play) -> Play {
    let outcomes = wanted(&play).iter().map(|call| (call.slot, taken(play.now))).collect();
    play.then(GiftCommand::Outcomes(outcomes))
}
fn answer(play: Play, outcome: CallOutcome) -> Play {
    let call = wanted(&play).pop().unwrap();
    play.clone().at(play.now.max(call.due)).then(GiftCommand::Outcomes(vec![(call.slot, outcome)]))
}
/// At the first reminder.
fn reminded() -> Play {
    let gift = settle_all(Play::accepted());
    gift.clone().at(gift.timer(names::REMINDER).unwrap()).then(GiftCommand::Timer(names::REMINDER))
}

#[test]
fn sender_is_told_of_each_stage() {
    let templates: Vec<Template> = Play::accepted().state.notices().iter().map(|notice| notice.template).collect();
    assert_eq!(templates, [Template::SenderReserved, Template::SenderSent, Template::SenderAccepted]);
    let refunded = Play::refunding().call_answers(refunded(4_500));
    assert_eq!(last(&refunded).template, Template::SenderRefunded);
}

#[test]
fn sender_without_contacts_is_reached_by_topic() {
    let gift = Play::scheduled();
    let call = wanted(&gift).remove(0);
    assert_eq!((call.lane, call.due), (Lane::Notice(Channel::Push), gift.now));
    let request = render(&gift, call.slot);
    assert!(request.to.0 == Address::Push("/topics/u-u-1".into()));
    assert_eq!(request.purpose, Purpose::Notice);
    assert_eq!(request.reference, format!("g_{}.n.{}.0", KEY.hex(), call.slot.0));
    assert_eq!(request.link, None);
    let names: Vec<&str> = request.variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["recipient", "product", "send_at"]);
    assert_eq!(topic_of("a b/지"), "/topics/u-a%20b%2F%EC%A7%80");
}

#[test]
fn outcomes_of_several_notices_are_one_record() {
    let gift = Play::accepted();
    let settled = settle_all(gift.clone());
    assert_eq!(settled.records.len(), gift.records.len() + 1);
    assert!(settled.state.notices().iter().all(|notice| notice.status() == "sent"));
    assert!(wanted(&settled).is_empty());
}

#[test]
fn notice_is_retried_on_its_own_schedule_then_dead_on_its_own() {
    let mut gift = Play::scheduled();
    let mut pauses = Vec::new();
    while !wanted(&gift).is_empty() {
        gift = answer(gift, refused("503", RefusalClass::Retry));
        pauses.extend(wanted(&gift).first().map(|call| (call.due - gift.now).0));
    }
    assert_eq!(pauses, [10_000, 60_000, 600_000]);
    // The gift itself goes on.
    assert_eq!((gift.state.state(), gift.call().due), (Status::Scheduled, due()));
    let letter = &gift.state.dead_letters()[0];
    assert_eq!((letter.command, letter.letter), ("notice", Letter::Notice(0)));
    let replay = GiftCommand::Replay { actor: "op".into(), letter: Letter::Notice(0), new_generation: false };
    let again = check(&gift, replay.clone(), Then::Events(&["dead_letter_replayed"], Status::Scheduled));
    assert_eq!(wanted(&again).len(), 1);
    let discard = GiftCommand::Discard { actor: "op".into(), letter: Letter::Notice(0), reason: "old".into() };
    let dropped = check(&gift, discard, Then::Events(&["dead_letter_discarded"], Status::Scheduled));
    assert!(dropped.state.dead_letters().is_empty());
    check(&dropped, replay, Then::Rejected(GiftRejection::NotADeadLetter));
}

#[test]
fn sender_out_of_reach_on_one_channel_is_told_on_the_next() {
    let mut with_phone = reservation();
    with_phone.sender = ContactSet { phone: true, push: true, ..ContactSet::default() };
    let gift = Play::new().then(GiftCommand::Reserve(Box::new(with_phone))).call_answers(captured());
    let gift = answer(gift, refused("UNREGISTERED", RefusalClass::NextChannel));
    assert_eq!(wanted(&gift)[0].lane, Lane::Notice(Channel::Kakao));
    // May have arrived: again on this channel, but on no other.
    let mut doubtful = gift;
    while !wanted(&doubtful).is_empty() {
        assert_eq!(wanted(&doubtful)[0].lane, Lane::Notice(Channel::Kakao));
        doubtful = answer(doubtful, unknown());
    }
    assert_eq!(last(&doubtful).status(), "dead_letter");
}

#[test]
fn a_notice_that_may_have_arrived_is_looked_for_before_it_is_sent_again() {
    let gift = reminded();
    let since = last(&gift).made_at;
    let prior = |gift: &Play| render(gift, wanted(gift)[0].slot).prior;
    assert_eq!(prior(&gift), Prior::None);
    let doubtful = answer(gift, unknown());
    assert_eq!((prior(&doubtful), wanted(&doubtful)[0].lane), (Prior::Perhaps { since }, Lane::Notice(Channel::Kakao)));
    let elsewhere = answer(doubtful, refused("3019", RefusalClass::NextChannel));
    assert_eq!((prior(&elsewhere), wanted(&elsewhere)[0].lane), (Prior::None, Lane::Notice(Channel::Sms)));
}

#[test]
fn reported_failure_of_a_notice_goes_to_the_next_channel() {
    let gift = answer(reminded(), taken(due()));
    let slot = names::NOTICES.slot(last(&gift).number, Channel::Kakao);
    let reference = format!("g_{}.n.{}.0", KEY.hex(), slot.0);
    let status = failed("3019", RefusalClass::NextChannel);
    let report = Report { reference, provider: "nhn_alimtalk".into(), status, at: gift.now };
    let report = GiftCommand::Report(report);
    let gift = check(&gift, report.clone(), Then::Events(&["notices_settled"], Status::Accepted));
    assert_eq!(wanted(&gift)[0].lane, Lane::Notice(Channel::Sms));
    // Reported again, before and after the next channel took it: that one has not failed.
    check(&gift, report.clone(), Then::Unchanged);
    let gift = answer(gift, taken(due()));
    check(&gift, report, Then::Unchanged);
    assert_eq!(last(&gift).status(), "sent");
}

#[test]
fn recipient_is_reminded_three_days_and_one_day_before() {
    let gift = reminded();
    let call = wanted(&gift).remove(0);
    assert_eq!(call.lane, Lane::Notice(Channel::Kakao));
    let request = render(&gift, call.slot);
    assert_eq!(request.template, Template::ExpiresInDays);
    let values: Vec<(&str, &str)> =
        request.variables.iter().map(|(name, value)| (name.as_str(), value.0.as_str())).collect();
    assert_eq!(values[3..], [("days", "3"), ("expires_on", "2027-01-24")]);
    assert!(request.link.is_some());
    assert_eq!(gift.timer(names::REMINDER), Some(at("2027-01-23T01:00:00Z")));
    let gift = gift.at(at("2027-01-23T01:00:00Z")).then(GiftCommand::Timer(names::REMINDER));
    assert_eq!((last(&gift).days, gift.timer(names::REMINDER)), (Some(1), None));
}

#[test]
fn reminders_not_shorter_than_the_validity_are_skipped() {
    let sent = |validity_days| {
        Play::with_policy(Policy { validity_days, ..Policy::default() })
            .call_answers(captured())
            .call_answers(taken(due()))
            .report(0, 1, ReportStatus::Delivered)
    };
    assert_eq!(sent(3).timer(names::REMINDER), Some(at("2026-12-27T01:00:00Z")));
    assert_eq!(sent(1).timer(names::REMINDER), None);
}

#[test]
fn reminder_that_an_outage_delayed_is_never_wrong() {
    let gift = Play::accepted();
    let timer = || GiftCommand::Timer(names::REMINDER);
    check(&gift, timer(), Then::Rejected(GiftRejection::NotDue));
    // Later on the same day, by daylight: still three days.
    let same_day = gift.clone().at(at("2027-01-21T09:00:00Z"));
    check(&same_day, timer(), Then::Events(&["reminder_due"], Status::Accepted));
    // At 22:00 local: quiet hours, and tomorrow it would be wrong.
    let night = gift.clone().at(at("2027-01-21T13:00:00Z"));
    let skipped = check(&night, timer(), Then::Events(&["reminder_moved"], Status::Accepted));
    assert_eq!(skipped.timer(names::REMINDER), Some(at("2027-01-23T01:00:00Z")));
    // Two days late: the second reminder is the one that is due.
    let late = gift.clone().at(at("2027-01-23T02:00:00Z"));
    assert_eq!(last(&late.then(timer())).days, Some(1));
    // Early in the morning it waits for the end of quiet hours.
    let early_bird = Policy { reminder_hour: 7, ..Policy::default() };
    let gift = Play::with_policy(early_bird).call_answers(captured()).call_answers(taken(due())).report(
        0,
        1,
        ReportStatus::Delivered,
    );
    let gift = gift.clone().at(gift.timer(names::REMINDER).unwrap()).then(timer());
    assert_eq!(gift.timer(names::REMINDER), Some(at("2027-01-20T23:00:00Z")));
    let gift = gift.at(at("2027-01-20T23:00:00Z"));
    check(&gift, timer(), Then::Events(&["reminder_due"], Status::Sent));
}

#[test]
fn reminder_of_a_gift_that_is_gone_is_dropped() {
    let gift = reminded().then(GiftCommand::Redeem { code_hash: CODE, redemption: till("x") });
    assert_eq!(last(&gift).status(), "dropped");
    assert!(gift.wants().terminal);
    assert_eq!(gift.timer(names::REMINDER), None);
}

#[test]
fn quiet_hours_cover_midnight() {
    let night = QuietHours { from_hour: 21, to_hour: 8 };
    assert!([21, 23, 0, 7].iter().all(|hour| night.covers(*hour)));
    assert!([8, 12, 20].iter().all(|hour| !night.covers(*hour)));
    assert!(QuietHours { from_hour: 12, to_hour: 14 }.covers(13));
    assert!(!QuietHours { from_hour: 12, to_hour: 12 }.covers(12));
}

#[test]
fn notification_log_is_bounded() {
    let mut gift = Play::scheduled();
    for number in 0..100i64 {
        let mut resolved = gift.state.send_at().clone();
        resolved.tzdb = format!("x{number}");
        resolved.instant = resolved.instant + Millis::from_hours(1);
        gift = gift.then(GiftCommand::ReResolve { resolved });
    }
    assert_eq!(gift.state.notices().len(), NOTICES_MAX);
    assert_eq!(last(&gift).number, 100);
}
