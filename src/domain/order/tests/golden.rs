//! Golden bytes: what is on disk stays readable. A change in `golden.txt` breaks every journal; append instead.

use super::model::{KEY, Mood, World, new_order};
use super::*;
use crate::domain::calling::{CallStarted, Doubt};
use crate::types::ids::{Claim, Incarnation, NodeId, Term};
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::publication::Topic;
use std::collections::BTreeSet;

const GOLDEN: &str = include_str!("golden.txt");

fn text(text: &str) -> String {
    text.to_owned()
}

/// One of every fact.
fn every_fact() -> Vec<OrderFact> {
    let claim = Claim { term: Term(3), node: NodeId(1), incarnation: Incarnation(2) };
    let started = CallStarted { claim, not_after: ATTEMPT_NOT_AFTER };
    let (retry_at, amount, code) = (Timestamp(70), Money::krw(12_000), text("c"));
    let steps = [
        Step::Pay,
        Step::Reserve(1),
        Step::Ship,
        Step::Confirm(1),
        Step::Settle,
        Step::Unship,
        Step::Release(1),
        Step::FindPayment,
        Step::Refund,
    ];
    let mut facts = vec![OrderFact::Created(Box::new(new_order(Method::Balance)))];
    facts.push(OrderFact::PaymentRequested { method: Method::Card, amount });
    facts.extend(steps.map(|step| OrderFact::Attempted { step, started }));
    let step = Step::Ship;
    let (sku, quantity, line) = (text("mug"), 2, 1);
    facts.extend([
        OrderFact::Undecided { step, doubt: Doubt::Unknown { cause: text("c") }, retry_at },
        OrderFact::Refused { step, code: code.clone(), retry_at },
        OrderFact::Paid { provider: text("p"), amount },
        OrderFact::Reserved { line, sku: sku.clone(), quantity },
        OrderFact::Shipped { provider: text("p"), tracking: text("t"), prepared_at: Timestamp(9) },
        OrderFact::Confirmed { line, sku: sku.clone(), quantity },
        OrderFact::Settled,
        OrderFact::Completed,
        OrderFact::CancelRequested,
        OrderFact::Compensating { step, code: code.clone(), cancelled: false, doubtful: true },
        OrderFact::Unshipped,
        OrderFact::Released { line, sku, quantity },
        OrderFact::PaymentRuledOut { code: code.clone() },
        OrderFact::Refunded { amount },
        OrderFact::Failed { code: code.clone() },
        OrderFact::Cancelled,
        OrderFact::Stuck { step, code },
        OrderFact::Replayed { actor: text("op") },
        OrderFact::Discarded { step, actor: text("op"), reason: text("r") },
        OrderFact::Hinted,
        OrderFact::Forgotten,
    ]);
    facts
}

/// An order in every phase.
fn every_phase() -> Vec<OrderState> {
    let at = |step| {
        let mut world = World::new(Method::Card);
        world.run_to(step);
        world
    };
    let mut doubtful = at(Step::Pay);
    doubtful.call(Mood::DropsReply);
    let mut looked_up = doubtful.clone();
    looked_up.advance(StepLimits::default().payment);
    looked_up.fire();
    let mut refused = at(Step::Ship);
    refused.call(Mood::RefusesForGood);
    let mut stuck = refused.clone();
    stuck.run_to(Step::Refund);
    stuck.call(Mood::RefusesForGood);
    let mut cancelled = at(Step::Ship);
    cancelled.ask(OrderCommand::Cancel).unwrap();
    let worlds = [
        at(Step::Pay),
        doubtful,
        looked_up,
        at(Step::Reserve(1)),
        at(Step::Ship),
        at(Step::Confirm(1)),
        refused.clone(),
        stuck,
        done(at(Step::Pay)),
        done(World::new(Method::Balance)),
        done(refused),
        done(cancelled),
    ];
    worlds.into_iter().map(|world| world.state).collect()
}

fn render() -> String {
    let mut lines = Vec::new();
    for fact in every_fact() {
        let event = OrderEvent { at: Timestamp(1), fact };
        let name = Order::describe(&event)["type"].as_str().unwrap().to_owned();
        lines.push(format!("event {name} {}", hex::encode(codec::encode(&event))));
    }
    for state in every_phase() {
        lines.push(format!("state {} {}", state.status(), hex::encode(codec::encode(&state))));
    }
    lines.join("\n") + "\n"
}

#[test]
fn events_and_states_encode_to_their_golden_bytes_and_back() {
    let now = render();
    for (line, golden) in now.lines().zip(GOLDEN.lines()) {
        assert_eq!(line, golden);
    }
    assert_eq!(now.lines().count(), GOLDEN.lines().count(), "{now}");
    let (mut facts, mut states) = (every_fact().into_iter(), every_phase().into_iter());
    for line in GOLDEN.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let bytes = hex::decode(parts[2]).unwrap();
        if parts[0] == "event" {
            assert_eq!(codec::decode::<OrderEvent>(&bytes).unwrap().fact, facts.next().unwrap());
        } else {
            assert_eq!(codec::decode::<OrderState>(&bytes).unwrap(), states.next().unwrap());
        }
    }
    assert!(facts.next().is_none() && states.next().is_none());
}

#[test]
fn every_event_is_published_under_a_listed_topic_and_every_topic_is_used() {
    let notice = OrderFact::NoticeDiscarded { number: 0, actor: text("op"), reason: text("r") };
    let facts = every_fact().into_iter().chain([notice]);
    let events: Vec<OrderEvent> = facts.map(|fact| OrderEvent { at: Timestamp(1), fact }).collect();
    let said = publications(&codec::encode(&events)).unwrap();
    assert_eq!(said.len(), events.len());
    let used: BTreeSet<Topic> = said.iter().map(|said| said.topic).collect();
    assert_eq!(used, BTreeSet::from(TOPICS));
    for said in said {
        let text = serde_json::Value::Object(said.details).to_string();
        for secret in ["tok_1", "지민", "서울", "\"op\"", "u-1"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let topic = |fact: OrderFact| {
        publications(&codec::encode(&vec![OrderEvent { at: Timestamp(1), fact }])).unwrap()[0].topic.0
    };
    assert_eq!(topic(OrderFact::Completed), "order-completed.v1");
    assert_eq!(topic(OrderFact::Failed { code: text("c") }), "order-failed.v1");
}

#[test]
fn each_call_of_an_order_has_an_id_of_its_own_and_a_repeat_the_same() {
    let id = |number| crate::types::call::EntityRequest::of(KEY, number, KEY, Vec::new()).command_id;
    assert_eq!((0..4).map(id).collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(id(3), id(3));
}
