//! The gift on the event stream: everything is said, under the documents' names, and nothing personal.

use super::golden::every_fact;
use super::*;
use crate::types::publication::{Publication, Topic};

const CANARY: &str = "카나리아-010-9876-5432";

fn said(facts: Vec<GiftFact>) -> Vec<Publication> {
    let events: Vec<GiftEvent> = facts.into_iter().map(|fact| GiftEvent { at: Timestamp(1), fact }).collect();
    publications(&codec::encode(&events)).unwrap()
}

fn topic(fact: GiftFact) -> &'static str {
    said(vec![fact])[0].topic.0
}

fn captured_fact() -> GiftFact {
    GiftFact::Payment(PaymentFact::Captured { provider: "toss".into(), amount: PRICE, captured_at: Timestamp(5) })
}

#[test]
fn every_event_is_published_under_a_listed_topic_and_every_topic_is_used() {
    let facts = every_fact();
    let count = facts.len();
    let mut used: BTreeSet<Topic> = facts.into_iter().map(|fact| Topic(topic(fact))).collect();
    assert!(used.iter().all(|topic| TOPICS.contains(topic)), "{used:?}");
    assert_eq!(used.len(), TOPICS.len(), "of {:?} only {used:?}", TOPICS);
    used.clear();
    assert_eq!(said(every_fact()).len(), count, "one for each event, also of one record");
}

#[test]
fn the_documents_names_are_kept() {
    let claim = CallStarted { claim: claim(1), not_after: ATTEMPT_NOT_AFTER };
    let names = [
        (captured_fact(), "reservation.created.v1"),
        (GiftFact::Delivery(DeliveryFact::Attempted(claim)), "dispatch.request.v1"),
        (GiftFact::Delivery(DeliveryFact::FailureNoted { code: "c".into() }), "delivery.result.v1"),
        (GiftFact::Notice(NoticeFact::ReminderDue { days: 3, next: None }), "gift.expired.soon.v1"),
        (GiftFact::Use(UseFact::Expired), "gift.expired.v1"),
        (GiftFact::Plan(PlanFact::Cancelled), "reservation.cancelled.v1"),
        (GiftFact::Refund(RefundFact::Settled { total: PRICE, retry_at: Timestamp(1) }), "refund.completed.v1"),
    ];
    for (fact, name) in names {
        assert_eq!(topic(fact), name);
    }
}

#[test]
fn a_payment_that_goes_straight_back_creates_nothing() {
    let refund = GiftFact::Refund(RefundFact::Started { reason: RefundReason::PaymentExpired, amount: PRICE });
    let topics: Vec<&str> = said(vec![captured_fact(), refund]).iter().map(|said| said.topic.0).collect();
    assert_eq!(topics, ["payment.result.v1", "refund.request.v1"]);
}

#[test]
fn no_free_text_and_no_operator_reaches_the_stream() {
    let canary = || CANARY.to_owned();
    let doubt = || Doubt::Unknown { cause: canary() };
    let retry_at = Timestamp(9);
    let validity = Validity { expires_at: Timestamp(9), reminder: None };
    let mut reserved = reservation();
    reserved.owner = canary();
    reserved.sealed.ciphertext = CANARY.as_bytes().to_vec();
    let change = Change { recipient: None, sealed: Some(reserved.sealed.clone()), send_at: None, channels: None };
    let facts = vec![
        GiftFact::Reserved(Box::new(reserved)),
        GiftFact::Plan(PlanFact::Changed(Box::new(change))),
        GiftFact::Payment(PaymentFact::Undecided { doubt: doubt(), retry_at }),
        GiftFact::Delivery(DeliveryFact::Undecided { doubt: doubt(), retry_at }),
        GiftFact::Refund(RefundFact::Undecided { doubt: doubt(), retry_at }),
        GiftFact::Delivery(DeliveryFact::Accepted {
            provider: "p".into(),
            receipt: canary(),
            accepted_at: retry_at,
            report_due: retry_at,
            validity,
        }),
        GiftFact::DeadLetterReplayed { actor: canary(), letter: Letter::Gift, new_generation: false },
        GiftFact::DeadLetterDiscarded { actor: canary(), letter: Letter::Gift, reason: canary() },
    ];
    let count = facts.len();
    let said = said(facts);
    assert_eq!(said.len(), count);
    for publication in said {
        let text = format!("{publication:?}");
        assert!(!text.contains("카나리아") && !text.contains("9876"), "{text}");
    }
    let refund = GiftFact::Refund(RefundFact::Started { reason: RefundReason::Cancelled, amount: PRICE });
    assert_eq!(
        super::publish::said(vec![refund])[0].details["reason"],
        "cancelled",
        "a reason of ours is no free text"
    );
}
