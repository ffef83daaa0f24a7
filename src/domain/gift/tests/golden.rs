//! Golden bytes: what is on disk stays readable. A change in `golden.txt` breaks every journal; append instead.

use super::*;
use crate::domain::calendar::ResolvedInstant;
use crate::domain::gift::names;
use crate::domain::policy::RefundRule;

const GOLDEN: &str = include_str!("golden.txt");

fn started() -> CallStarted {
    CallStarted { claim: claim(3), not_after: ATTEMPT_NOT_AFTER }
}
fn reminder() -> Reminder {
    Reminder { days: 3, due: Timestamp(1_000) }
}
fn validity() -> Validity {
    Validity { expires_at: Timestamp(2_000), reminder: Some(reminder()) }
}
fn text(text: &str) -> String {
    text.to_owned()
}

fn payment_facts() -> Vec<PaymentFact> {
    let retry_at = Timestamp(70);
    vec![
        PaymentFact::Attempted(started()),
        PaymentFact::Captured { provider: text("toss"), amount: PRICE, captured_at: Timestamp(5) },
        PaymentFact::Undecided { doubt: Doubt::NotSent, retry_at },
        PaymentFact::Undecided { doubt: Doubt::Unknown { cause: text("c") }, retry_at },
        PaymentFact::Undecided { doubt: Doubt::Pending, retry_at },
        PaymentFact::Refused { code: text("c") },
        PaymentFact::TimedOut,
        PaymentFact::RuledOut { code: text("c") },
        PaymentFact::Hinted,
    ]
}

fn plan_facts() -> Vec<PlanFact> {
    let resolved = ResolvedInstant { instant: Timestamp(9), local: text("l"), zone: text("z"), tzdb: text("2026e") };
    let change = Change {
        recipient: Some(facts("UTC")),
        sealed: Some(Sealed { nonce: [1; 12], ciphertext: vec![2] }),
        send_at: Some((SendAt::Date { date: text("d"), zone: text("z") }, resolved.clone())),
        channels: Some(Channel::ALL.to_vec()),
    };
    vec![PlanFact::Changed(Box::new(change)), PlanFact::Cancelled, PlanFact::ReResolved { resolved, moved: true }]
}

fn delivery_facts() -> Vec<DeliveryFact> {
    let (at, provider) = (Timestamp(6), text("p"));
    let next = NextAttempt { channel_index: 1, due: at };
    let mut facts = vec![
        DeliveryFact::Attempted(started()),
        DeliveryFact::Accepted { provider, receipt: text("r"), accepted_at: at, report_due: at, validity: validity() },
        DeliveryFact::Undecided { doubt: Doubt::Pending, retry_at: at },
        DeliveryFact::Failed { code: text("c"), validity: validity() },
        DeliveryFact::Confirmed { evidence: Evidence::LinkOpened },
        DeliveryFact::FailureNoted { code: text("c") },
    ];
    let classes = [RefusalClass::Retry, RefusalClass::NextChannel, RefusalClass::Permanent];
    facts.extend(classes.map(|class| DeliveryFact::Refused { code: text("c"), class, next }));
    let evidence = [
        Evidence::Report,
        Evidence::UnconfirmedReport,
        Evidence::LinkOpened,
        Evidence::ReportTimeout,
        Evidence::Unconfirmable,
    ];
    facts.extend(evidence.map(|evidence| DeliveryFact::Delivered {
        evidence,
        delivered_at: at,
        accepted_at: at,
        validity: validity(),
    }));
    facts
}

fn use_facts() -> Vec<UseFact> {
    vec![
        UseFact::Accepted,
        UseFact::Declined,
        UseFact::Transferred {
            recipient: facts("UTC"),
            channels: vec![Channel::Sms],
            sealed: Sealed { nonce: [1; 12], ciphertext: vec![2] },
            link_hash: NEW_LINK,
            code_hash: NEW_CODE,
            validity: validity(),
        },
        UseFact::Redeemed { redemption: old_till("x") },
        UseFact::RedemptionCancelled { redemption: old_till("x") },
        UseFact::Expired,
        UseFact::HandedOn(Box::new(HandedOn {
            recipient: facts("UTC"),
            channels: vec![Channel::Sms],
            sealed: Sealed { nonce: [1; 12], ciphertext: vec![2] },
            link_hash: NEW_LINK,
            code_hash: NEW_CODE,
            validity: validity(),
        })),
    ]
}

fn refund_facts() -> Vec<RefundFact> {
    let retry_at = Timestamp(70);
    let mut facts = vec![
        RefundFact::Attempted(started()),
        RefundFact::Undecided { doubt: Doubt::NotSent, retry_at },
        RefundFact::Refused { code: text("c"), retry_at },
        RefundFact::Failed { code: text("c"), review_at: retry_at },
        RefundFact::Settled { total: PRICE, retry_at },
        RefundFact::MoneyKept,
    ];
    let reasons = [
        RefundReason::Cancelled,
        RefundReason::PaymentExpired,
        RefundReason::AmountMismatch,
        RefundReason::Declined,
        RefundReason::SendFailed,
        RefundReason::Expired,
        RefundReason::CancelledByProvider,
    ];
    facts.extend(reasons.map(|reason| RefundFact::Started { reason, amount: PRICE }));
    facts
}

fn notice_facts() -> Vec<NoticeFact> {
    let steps = [
        NoticeStep::Sent { provider: text("p") },
        NoticeStep::Retry { channel: Channel::Push, tries: 1, due: Timestamp(8), code: text("c") },
        NoticeStep::Dead { code: text("c") },
        NoticeStep::Dropped,
    ];
    let results = steps.into_iter().enumerate();
    let results = results.map(|(number, step)| NoticeResult { number: u16::try_from(number).unwrap(), step });
    vec![
        NoticeFact::ReminderDue { days: 3, next: Some(reminder()) },
        NoticeFact::ReminderMoved { next: None },
        NoticeFact::Settled(results.collect()),
    ]
}

/// One of every fact.
pub(super) fn every_fact() -> Vec<GiftFact> {
    let letter = Letter::Notice(2);
    let mut facts = vec![GiftFact::Reserved(Box::new(reservation()))];
    facts.extend(payment_facts().into_iter().map(GiftFact::Payment));
    facts.extend(plan_facts().into_iter().map(GiftFact::Plan));
    facts.extend(delivery_facts().into_iter().map(GiftFact::Delivery));
    facts.extend(use_facts().into_iter().map(GiftFact::Use));
    facts.extend(refund_facts().into_iter().map(GiftFact::Refund));
    facts.extend(notice_facts().into_iter().map(GiftFact::Notice));
    facts.push(GiftFact::DeadLetterReplayed { actor: text("op"), letter: Letter::Gift, new_generation: true });
    facts.push(GiftFact::DeadLetterDiscarded { actor: text("op"), letter, reason: text("r") });
    facts.push(GiftFact::Erased);
    facts.push(GiftFact::Forgotten);
    facts
}

/// A gift in every phase.
fn every_phase() -> Vec<Play> {
    let refund = RefundRule { expired_percent: 0, declined_percent: 0, ..RefundRule::default() };
    let kept = Play::with_policy(Policy { refund, ..Policy::default() })
        .call_answers(captured())
        .call_answers(taken(due()))
        .report(0, 1, ReportStatus::Delivered);
    let end = kept.state.expires_at().unwrap() + Millis(1);
    vec![
        Play::reserved().start(),
        Play::scheduled(),
        Play::sending(),
        Play::accepted_by_provider(),
        Play::sent(),
        Play::accepted(),
        Play::accepted()
            .after(Millis::from_hours(1))
            .then(GiftCommand::Redeem { code_hash: CODE, redemption: old_till("x-1") }),
        Play::reserved().call_answers(not_captured()),
        Play::reserved().after(Millis::from_mins(5)).then(GiftCommand::Timer(names::PAYMENT_TIMEOUT)),
        Play::reserved().then(GiftCommand::Cancel),
        kept.clone().then(GiftCommand::Decline { link_hash: LINK }),
        kept.at(end).then(GiftCommand::Timer(names::EXPIRY)),
        Play::send_failed(),
        Play::refunding().start(),
        Play::refunding().call_answers(refunded(4_500)),
        Play::refund_failed(),
        Play::sent().then(GiftCommand::Transfer(Box::new(hand_on()))),
        Play::sent().then(GiftCommand::HandOn(Box::new(hand_on()))),
    ]
}

fn render() -> String {
    let mut lines = Vec::new();
    for fact in every_fact() {
        let event = GiftEvent { at: Timestamp(1), fact };
        let name = Gift::describe(&event)["type"].as_str().unwrap().to_owned();
        lines.push(format!("event {name} {}", hex::encode(codec::encode(&event))));
    }
    for play in every_phase() {
        lines.push(format!("state {} {}", play.state.status(), hex::encode(codec::encode(&play.state))));
    }
    lines.join("\n") + "\n"
}

#[test]
fn events_and_states_encode_to_their_golden_bytes() {
    let now = render();
    for (line, golden) in now.lines().zip(GOLDEN.lines()) {
        assert_eq!(line, golden);
    }
    assert_eq!(now.lines().count(), GOLDEN.lines().count());
}

#[test]
fn golden_bytes_decode_to_what_they_were() {
    let (mut facts, mut plays) = (every_fact().into_iter(), every_phase().into_iter());
    for line in GOLDEN.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let bytes = hex::decode(parts[2]).unwrap();
        if parts[0] == "event" {
            assert_eq!(codec::decode::<GiftEvent>(&bytes).unwrap().fact, facts.next().unwrap());
        } else {
            assert_eq!(codec::decode::<GiftState>(&bytes).unwrap(), plays.next().unwrap().state);
        }
        assert!(codec::decode::<GiftState>(&[bytes.as_slice(), &[0]].concat()).is_err(), "all bytes have to be used");
    }
    assert!(facts.next().is_none() && plays.next().is_none());
}

#[test]
fn described_events_hold_nothing_personal() {
    for fact in every_fact() {
        let described = Gift::describe(&GiftEvent { at: Timestamp(1), fact }).to_string();
        for secret in ["지민", "+8210", "tok_1", "007aa", "0071234567890123", "jimin@"] {
            assert!(!described.contains(secret));
        }
        assert!(described.contains("\"type\"") && described.contains("\"at\":\"1970-01-01T00:00:00.001Z\""));
    }
    assert!(!format!("{:?}", personal()).contains("지민"));
}
