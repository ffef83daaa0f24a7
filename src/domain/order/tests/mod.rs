//! The order's machine: each step's success and failure, cancel, deadlines, dead letters, and random lives in a world
//! with real stocks, a real wallet and providers that lose replies.

mod coupon;
mod golden;
mod model;
mod notices;
mod properties;

use super::*;
use crate::domain::policy::RETENTION;
use crate::types::call::{PaymentOperation, ShipTo};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::money::Money;
use crate::types::record::Erasure;
use crate::types::time::{Millis, Timestamp};
use model::{Mood, World, sealed};

fn done(mut world: World) -> World {
    world.drain();
    world
}

fn types(world: &World) -> Vec<String> {
    let told = world.records.iter().flatten().map(Order::describe);
    let told = told.map(|event| event["type"].as_str().unwrap().to_owned());
    told.filter(|event| event != "step_attempted").collect()
}

#[test]
fn an_order_goes_from_payment_over_stock_to_shipping_and_is_completed() {
    for method in [Method::Card, Method::Balance] {
        let world = done(World::new(method));
        assert_eq!(world.state.status(), Status::Completed);
        let mut expected = vec![
            "created",
            "payment_requested",
            "payment_completed",
            "inventory_reserved",
            "inventory_reserved",
            "shipping_prepared",
            "inventory_confirmed",
            "inventory_confirmed",
        ];
        if method == Method::Balance {
            expected.push("payment_settled");
        }
        expected.push("completed");
        assert_eq!(types(&world), expected);
        world.assert_end();
        let effects = Order::wants(world.key, &world.state);
        assert!(effects.terminal && effects.calls.is_empty());
    }
}

#[test]
fn a_refused_card_ends_the_order_and_nothing_else_was_touched() {
    let mut world = World::new(Method::Card);
    world.call(Mood::RefusesForGood);
    assert_eq!(world.state.status(), Status::Failed);
    assert_eq!(world.state.failure_code(), Some("REJECTED"));
    assert_eq!(types(&world), ["created", "payment_requested", "compensating", "failed"]);
    world.assert_end();
}

#[test]
fn too_little_balance_fails_the_order_with_its_code() {
    let mut world = World::new(Method::Balance);
    world.spend_all_but(11_999);
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("insufficient_balance")));
    world.assert_end();
}

#[test]
fn out_of_stock_on_the_second_line_releases_the_first_and_refunds() {
    for method in [Method::Card, Method::Balance] {
        let mut world = World::new(method);
        world.put_stock(1, 2);
        world.drain();
        assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("out_of_stock")));
        let told = types(&world);
        assert!(told.ends_with(&["inventory_released", "refunded", "failed"].map(str::to_owned)), "{told:?}");
        world.assert_end();
    }
}

#[test]
fn a_shipment_refused_for_good_releases_the_stock_and_refunds() {
    let mut world = World::new(Method::Card);
    world.run_to(Step::Ship);
    world.call(Mood::RefusesForGood);
    assert_eq!(world.state.status(), Status::Compensating);
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("GOODS_REFUSED")));
    world.assert_end();
}

#[test]
fn a_shipping_provider_that_is_away_is_waited_for_until_the_deadline() {
    let mut world = World::new(Method::Card);
    world.run_to(Step::Ship);
    for _ in 0..20 {
        world.call(Mood::NotSent);
        world.advance_to_next();
    }
    assert_eq!(world.state.status(), Status::Shipping);
    world.drain();
    assert_eq!(world.state.status(), Status::Completed);
    let mut world = World::new(Method::Card);
    world.run_to(Step::Ship);
    world.advance(StepLimits::default().shipping);
    world.fire();
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("shipping_timeout")));
    world.assert_end();
}

#[test]
fn a_cancel_before_the_goods_are_prepared_undoes_everything() {
    for step in [Step::Pay, Step::Reserve(0), Step::Reserve(1), Step::Ship] {
        let mut world = World::new(Method::Card);
        world.run_to(step);
        assert_eq!(world.ask(OrderCommand::Cancel), Ok(()));
        world.drain();
        assert_eq!(world.state.status(), Status::Cancelled, "{step:?}");
        world.assert_end();
        assert_eq!(world.ask(OrderCommand::Cancel), Ok(()), "a repeat is answered");
    }
}

#[test]
fn a_cancel_while_a_call_is_open_waits_for_its_outcome() {
    for step in [Step::Pay, Step::Ship] {
        let mut world = World::new(Method::Card);
        world.run_to(step);
        world.call(Mood::DropsReply);
        assert_eq!(world.ask(OrderCommand::Cancel), Ok(()));
        assert!(world.state.cancel_requested());
        assert_ne!(world.state.status(), Status::Compensating, "not before it is known what the call did");
        world.drain();
        assert_eq!(world.state.status(), Status::Cancelled);
        assert!(!world.shipped_now());
        world.assert_end();
    }
}

#[test]
fn no_cancel_once_the_goods_are_prepared() {
    let mut world = World::new(Method::Card);
    world.run_to(Step::Confirm(0));
    let refused = Err(OrderRejection::NotCancellable { status: Status::Shipping });
    assert_eq!(world.ask(OrderCommand::Cancel), refused);
    world.drain();
    let refused = Err(OrderRejection::NotCancellable { status: Status::Completed });
    assert_eq!(world.ask(OrderCommand::Cancel), refused);
}

#[test]
fn a_payment_in_doubt_past_its_deadline_is_looked_up_and_given_back() {
    let mut world = World::new(Method::Card);
    world.call(Mood::DropsReply);
    world.advance(StepLimits::default().payment);
    world.fire();
    assert_eq!(world.state.step(), Some("payment_lookup"));
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("payment_timeout")));
    assert_eq!(world.state.refunded(), world.state.amount());
    world.assert_end();
}

#[test]
fn another_amount_than_asked_for_goes_back() {
    let mut world = World::new(Method::Card);
    world.till.short_by = 1;
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("amount_mismatch")));
    world.assert_end();
}

#[test]
fn a_refund_refused_for_good_is_stuck_until_an_operator_replays_or_discards_it() {
    let mut world = World::new(Method::Card);
    world.put_stock(0, 0);
    world.run_to(Step::Refund);
    let key = |world: &World| match world.request() {
        Some(CallRequest::Payment(request)) => (request.idempotency_key, request.prior),
        other => panic!("{other:?}"),
    };
    let first = key(&world);
    world.call(Mood::RefusesForGood);
    assert_eq!((world.state.status(), world.state.step()), (Status::Stuck, Some("refund")));
    let letter = world.state.letter().unwrap();
    assert_eq!((letter.command, letter.money_held), ("refund", world.state.amount()));
    let rows = Order::wants(world.key, &world.state).indexes;
    assert!(rows.iter().any(|row| row.index == kinds::INDEX_DEAD_LETTER));
    let mut by_hand = world.clone();
    let mut forgotten = world.clone();
    forgotten.advance(crate::domain::steps::REVIEW_AFTER);
    forgotten.fire();
    assert_eq!(forgotten.state.status(), Status::Compensating, "nobody came: it is tried again by itself");
    assert_eq!(world.ask(OrderCommand::Replay { actor: "op".into() }), Ok(()));
    let again = key(&world);
    assert!(again.0 != first.0 && again.1 == first.1, "the provider would answer the old key with its old refusal");
    world.drain();
    assert_eq!(world.state.status(), Status::Failed);
    world.assert_end();
    let discard = OrderCommand::Discard { actor: "op".into(), reason: "paid in cash".into() };
    assert_eq!(by_hand.ask(discard.clone()), Ok(()));
    assert_eq!(by_hand.state.status(), Status::Failed);
    assert_eq!(by_hand.ask(discard), Err(OrderRejection::NotADeadLetter));
}

#[test]
fn an_attempt_keeps_its_key_while_in_doubt_and_gets_a_new_one_after_a_refusal() {
    let mut world = World::new(Method::Card);
    world.run_to(Step::Ship);
    let key = |world: &World| match world.request() {
        Some(CallRequest::Shipment(request)) => request.idempotency_key,
        other => panic!("{other:?}"),
    };
    let first = key(&world);
    world.call(Mood::RefusesForNow);
    let second = key(&world);
    assert_ne!(second, first);
    world.advance_to_next();
    world.call(Mood::DropsRequest);
    assert_eq!(key(&world), second);
    world.advance_to_next();
    world.call(Mood::RefusesForNow);
    assert_eq!(key(&world), second, "a refusal for now says nothing of the try before");
}

#[test]
fn goods_that_may_be_prepared_are_taken_back_though_the_provider_turned_away_the_lookup() {
    for cancels in [true, false] {
        let mut world = World::new(Method::Card);
        world.run_to(Step::Ship);
        world.call(Mood::DropsReply);
        world.advance_to_next();
        if cancels {
            assert_eq!(world.ask(OrderCommand::Cancel), Ok(()));
        }
        world.call(Mood::RefusesForNow);
        assert!(world.shipped_now() && world.state.status() != Status::Compensating, "its outcome is not known yet");
        world.advance(StepLimits::default().shipping);
        world.fire();
        world.drain();
        assert!(!world.shipped_now(), "cancelled: {cancels}");
        assert_eq!(world.state.status(), if cancels { Status::Cancelled } else { Status::Failed });
        world.assert_end();
    }
}

#[test]
fn the_payment_key_and_the_address_are_only_in_the_call() {
    let mut world = World::new(Method::Card);
    assert!(!format!("{:?}", world.state).contains("tok_1"));
    match world.request() {
        Some(CallRequest::Payment(request)) => match request.operation {
            PaymentOperation::Confirm { payment_key, .. } => assert_eq!(payment_key.0, "tok_1"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    assert_eq!(Order::request(world.key, &world.state, world.slot(), None), None, "erased");
    world.run_to(Step::Ship);
    let told: String = world.records.iter().flatten().map(|event| Order::describe(event).to_string()).collect();
    assert!(!told.contains("tok_1") && !told.contains("서울"));
}

#[test]
fn an_order_that_is_done_is_forgotten_after_the_retention() {
    let mut world = done(World::new(Method::Card));
    assert_eq!(world.ask(OrderCommand::Timer(super::request::RETENTION_TIMER)), Err(OrderRejection::NotWanted));
    world.advance(RETENTION);
    let at = At { now: world.now, command_id: crate::types::ids::CommandId::default() };
    let command = OrderCommand::Timer(super::request::RETENTION_TIMER);
    let decision = Order::decide(world.key, &world.state, command, &at).unwrap();
    assert_eq!(decision.erase, Erasure::Journal);
    decision.events.iter().for_each(|event| Order::evolve(&mut world.state, event));
    assert!(Order::sealed(&world.state).is_none() && Order::wants(world.key, &world.state).timers.is_empty());
}

#[test]
fn an_order_is_erased_by_order_once_it_is_done() {
    let mut world = World::new(Method::Card);
    let refused = Err(OrderRejection::NotDone { status: Status::Payment });
    assert_eq!(world.ask(OrderCommand::Erase), refused);
    world.drain();
    let at = At { now: world.now, command_id: crate::types::ids::CommandId::default() };
    let decision = Order::decide(world.key, &world.state, OrderCommand::Erase, &at).unwrap();
    assert_eq!(decision.erase, Erasure::PersonalData);
    assert_eq!(world.ask(OrderCommand::Erase), Ok(()));
    assert!(world.state.is_erased() && Order::wants(world.key, &world.state).timers.is_empty());
    let records = world.records.len();
    assert_eq!(world.ask(OrderCommand::Erase), Ok(()));
    assert_eq!(world.records.len(), records, "a repeat changes nothing");
}

#[test]
fn unsound_orders_are_refused() {
    let line = |sku: &str, quantity, price| NewLine { sku: sku.to_owned(), quantity, price: Money::krw(price) };
    let bad = [
        vec![],
        vec![line("a", 0, 1)],
        vec![line("a", QUANTITY_MAX + 1, 1)],
        vec![line("a", 1, 0)],
        vec![line("a", 1, 1), line("a", 2, 1)],
        vec![line("a", 2, i64::MAX)],
        vec![line("", 1, 1)],
        (0..=LINES_MAX).map(|number| line(&number.to_string(), 1, 1)).collect(),
    ];
    for lines in bad {
        let new = NewOrder { lines, ..model::new_order(Method::Card) };
        let at = At { now: Timestamp(1), command_id: crate::types::ids::CommandId::default() };
        let command = OrderCommand::Create(Box::new(new));
        let refused = Order::decide(model::KEY, &OrderState::default(), command, &at);
        assert_eq!(refused, Err(OrderRejection::NotAcceptable));
    }
}

#[test]
fn an_order_is_small() {
    let world = World::new(Method::Card);
    assert!(codec::encode(&world.state).len() - sealed().ciphertext.len() < 500);
    let to = ShipTo { name: "지민".into(), phone: None, address: "서울".into() };
    assert!(!format!("{:?}", Private(to.clone())).contains("지민") && !format!("{to:?}").contains("서울"));
    assert_eq!(Millis::from_mins(5), StepLimits::default().payment);
}
