//! What counts as sent has to be sent.

use super::lateness::{FAILED, bad};
use super::*;

/// The gift's last record says this, and no provider has its message.
fn unsent(fact: Fact) -> History {
    let mut history = whole();
    history.sends.clear();
    history.calls.clear();
    history.records[4].facts = vec![fact];
    history
}

fn broken(history: &History) -> Vec<&'static str> {
    check_all(history).iter().map(|violation| violation.invariant).collect()
}

const ACCEPTED: Fact = Fact::SendAccepted { delivery: 0, attempt: 1 };

#[test]
fn what_counts_as_sent_and_was_not_is_seen() {
    assert_eq!(broken_by(|history| history.records[4].facts.push(ACCEPTED)), [""; 0]);
    assert_eq!(broken(&unsent(ACCEPTED)), ["INV-2"]);
    assert_eq!(broken(&unsent(Fact::SendReported { delivery: 0 })), ["INV-2"]);
    let other_attempt = Fact::SendAccepted { delivery: 0, attempt: 2 };
    assert_eq!(broken_by(|history| history.records[4].facts.push(other_attempt)), ["INV-2"]);
    let other_delivery = Fact::SendReported { delivery: 1 };
    assert_eq!(broken_by(|history| history.records[4].facts.push(other_delivery)), ["INV-2"]);
    assert_eq!(
        broken_by(|history| {
            history.records[4].facts.push(ACCEPTED);
            history.sends[0].failed = true;
        }),
        [""; 0],
        "its provider says later that it did not arrive"
    );
    assert_eq!(
        broken_by(|history| {
            history.records[3].facts.push(ACCEPTED);
        }),
        ["INV-2"],
        "before any provider had it"
    );
}

#[test]
fn a_paid_gift_that_was_due_and_never_left_is_seen() {
    assert_eq!(broken(&unsent(Fact::Redeemed)), ["INV-2"]);
    let not_due = History { ended_at: DUE + Millis::from_mins(2), ..unsent(Fact::Redeemed) };
    assert_eq!(broken(&not_due), [""; 0]);
    assert_eq!(broken(&unsent(Fact::Cancelled)), [""; 0]);
    let mut unpaid = unsent(Fact::Redeemed);
    unpaid.records[2].facts.pop();
    assert_eq!(broken(&unpaid), [""; 0]);
}

#[test]
fn what_is_unconfirmed_was_asked_for_or_met_a_fault() {
    let unconfirmed = unsent(Fact::SendUnconfirmed { delivery: 0 });
    assert_eq!(broken(&unconfirmed), ["INV-2"]);
    assert_eq!(broken(&History { calls: vec![call(DUE + Millis(40))], ..unconfirmed.clone() }), [""; 0]);
    let span = FaultSpan { class: "kill", from: DUE, to: DUE + Millis(5) };
    assert_eq!(broken(&History { faults: vec![span], ..unconfirmed }), [""; 0]);
}

#[test]
fn a_dead_letter_that_no_provider_refused_is_seen() {
    assert_eq!(broken(&unsent(FAILED)), ["INV-2"]);
    let with = |answer: BadAnswer| History { bad_answers: vec![answer], ..unsent(FAILED) };
    assert_eq!(broken(&with(bad(40, true))), [""; 0]);
    assert_eq!(broken(&with(bad(40, false))), ["INV-2"], "it may have been taken");
    assert_eq!(broken(&with(BadAnswer { of: Some((GIFT, 0, 2)), ..bad(40, true) })), ["INV-2"], "another attempt");
    let reported = |history: &mut History| {
        history.sends[0].failed = true;
        history.records[4].facts = vec![FAILED];
    };
    assert_eq!(broken_by(reported), [""; 0], "its provider says that it did not arrive");
    let away = |at: i64| {
        let letter = unsent(Fact::SendFailed { delivery: 0, attempt: 1, away: true });
        History { bad_answers: vec![BadAnswer { of: None, ..bad(at, true) }], ..letter }
    };
    assert_eq!(broken(&away(-100_000)), [""; 0]);
    assert_eq!(broken(&away(-200_000)), ["INV-2"], "it was back");
    let mut in_doubt = unsent(FAILED);
    in_doubt.records[4].at = DUE + Millis::from_hours(24);
    in_doubt.ended_at = DUE + Millis::from_hours(25);
    in_doubt.replies.clear();
    assert_eq!(broken(&in_doubt), [""; 0], "for a day");
    assert_eq!(broken_by(|history| history.gifts[0].dead = true), ["INV-2"], "no record made it one");
}
