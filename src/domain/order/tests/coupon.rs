//! An order that pays with a coupon: what is left of the price is paid in money, to the won; undone, the coupon is free.

use super::model::{KEY, Mood, START, World, new_order};
use super::*;
use crate::domain::coupon::testing;
use crate::domain::coupon::{CouponRejection, Payer};
use crate::domain::tender::{CouponHold, CouponTerms};
use crate::types::call::EntityOutcome;

const OFF: i64 = 3_001;

fn ours(world: &World) -> bool {
    testing::is_used_by(&world.coupon, Payer::Entity(KEY))
}

#[test]
fn the_coupon_is_used_first_and_the_rest_is_paid_in_money() {
    for method in [Method::Card, Method::Balance] {
        let world = done(World::paying(method, Some(OFF)));
        assert_eq!((world.state.status(), world.state.amount()), (Status::Completed, Money::krw(12_000 - OFF)));
        assert_eq!(types(&world)[..4], ["created", "payment_requested", "coupon_used", "payment_completed"]);
        assert!(ours(&world));
        world.assert_end();
    }
}

#[test]
fn what_a_coupon_pays_whole_needs_no_payment() {
    let world = done(World::paying(Method::Card, Some(12_000)));
    assert_eq!((world.state.status(), world.state.amount()), (Status::Completed, Money::krw(0)));
    let told = types(&world);
    assert!(!told.iter().any(|event| event.starts_with("payment")), "{told:?}");
    assert_eq!(world.till.captured, 0);
    world.assert_end();
}

#[test]
fn an_order_that_is_undone_gives_back_the_money_that_was_paid_and_then_the_coupon() {
    for (method, off) in [(Method::Card, OFF), (Method::Balance, OFF), (Method::Card, 12_000)] {
        let mut world = World::paying(method, Some(off));
        world.put_stock(1, 2);
        world.drain();
        assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("out_of_stock")));
        assert_eq!(world.state.refunded(), Money::krw(12_000 - off));
        assert_eq!(types(&world).iter().rev().take(2).collect::<Vec<_>>(), ["failed", "coupon_returned"]);
        assert!(!ours(&world));
        world.assert_end();
    }
}

#[test]
fn a_coupon_that_another_order_used_fails_this_one_before_anything_is_paid() {
    let mut world = World::paying(Method::Card, Some(OFF));
    world.other_payer(true);
    world.call(Mood::Willing);
    let late = world.on_the_way.clone();
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("coupon_used")));
    assert_eq!(world.till.captured, 0);
    // The refused use comes once more when the coupon is free again: it is kept out.
    world.other_payer(false);
    for request in late {
        world.deliver(&request);
    }
    assert!(!ours(&world));
    assert_eq!(world.state.coupon().unwrap().hold, CouponHold::Returned);
}

#[test]
fn a_coupon_that_does_not_answer_in_time_is_given_back_though_it_may_have_been_used() {
    let mut world = World::paying(Method::Card, Some(OFF));
    world.call(Mood::DropsReply);
    assert!(ours(&world));
    world.advance(StepLimits::default().payment);
    world.fire();
    assert_eq!(world.state.step(), Some("coupon_return"));
    world.drain();
    assert_eq!((world.state.status(), world.state.failure_code()), (Status::Failed, Some("coupon_timeout")));
    assert!(!ours(&world));
}

#[test]
fn a_cancel_at_each_step_returns_the_coupon() {
    for step in [Step::UseCoupon, Step::Pay, Step::Reserve(0), Step::Ship] {
        let mut world = World::paying(Method::Balance, Some(OFF));
        world.run_to(step);
        world.ask(OrderCommand::Cancel).unwrap();
        world.drain();
        assert_eq!(world.state.status(), Status::Cancelled, "{step:?}");
        assert!(!ours(&world));
        world.assert_end();
    }
}

#[test]
fn terms_that_are_not_of_this_price_are_refused() {
    let mut bad = vec![CouponTerms { coupon: testing::key(), off: Money::krw(0) }];
    bad.push(CouponTerms { off: Money::krw(12_001), ..bad[0] });
    bad.push(CouponTerms { coupon: KEY, off: Money::krw(1) });
    for terms in bad {
        let at = At { now: START, command_id: crate::types::ids::CommandId::default() };
        let command = OrderCommand::CreateWith(Box::new(new_order(Method::Card)), terms);
        let refused = Order::decide(KEY, &OrderState::default(), command, &at);
        assert_eq!(refused, Err(OrderRejection::NotAcceptable), "{terms:?}");
    }
}

#[test]
fn new_bytes_are_golden_and_published() {
    let terms = CouponTerms { coupon: testing::key(), off: Money::krw(7) };
    let old = OrderEvent { at: Timestamp(1), fact: OrderFact::Created(Box::new(new_order(Method::Card))) };
    let new = OrderEvent { at: Timestamp(1), fact: OrderFact::CreatedWith(Box::new(new_order(Method::Card)), terms) };
    let old = hex::encode(codec::encode(&old));
    let expected = format!("0218{}{}", &old[4..], hex::encode(codec::encode(&terms)));
    assert_eq!(hex::encode(codec::encode(&new)), expected, "the order as ever, and what the coupon takes off");
    let mut events = vec![new];
    for (fact, bytes) in
        [(OrderFact::CouponUsed, "0219"), (OrderFact::CouponReturned, "021a"), (OrderFact::Erased, "021b")]
    {
        let event = OrderEvent { at: Timestamp(1), fact };
        assert_eq!(hex::encode(codec::encode(&event)), bytes);
        assert_eq!(codec::decode::<OrderEvent>(&codec::encode(&event)), Ok(event.clone()));
        events.push(event);
    }
    let said = publications(&codec::encode(&events)).unwrap();
    let topics: Vec<&str> = said.iter().map(|said| said.topic.0).collect();
    assert_eq!(topics, ["order-created.v1", "order-step.v1", "order-step.v1", "order-forgotten.v1"]);
    assert_eq!(said[0].details["coupon"]["discount"]["value"], 7);
    // The state with a coupon is the one without it, under a tag of its own and with the coupon behind.
    let with = World::paying(Method::Card, Some(OFF)).state;
    let bytes = codec::encode(&with);
    assert_eq!(bytes[0], 2);
    assert_eq!(codec::decode::<OrderState>(&bytes), Ok(with));
    assert_eq!(hex::encode(codec::encode(&Step::UseCoupon)), "09");
    assert_eq!(hex::encode(codec::encode(&Step::GiveCoupon)), "0a");
}

#[test]
fn a_coupon_that_cannot_be_found_has_nothing_to_be_given_back() {
    let mut world = World::paying(Method::Card, Some(OFF));
    let rejected = |rejection: CouponRejection| EntityOutcome::Rejected { rejection: codec::encode(&rejection) };
    for expected in [Status::Compensating, Status::Failed] {
        let outcome = CallOutcome::Entity(rejected(CouponRejection::NotFound));
        world.ask(OrderCommand::Outcomes(vec![(world.slot(), outcome)])).unwrap();
        assert_eq!(world.state.status(), expected);
    }
    assert_eq!(world.state.failure_code(), Some("unknown_coupon"));
}
