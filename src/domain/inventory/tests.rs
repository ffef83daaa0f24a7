//! Stock never goes below zero and never loses a unit, whatever orders do and how often they repeat it.

use super::*;
use crate::domain::holds::OPEN_MAX;
use crate::types::ids::CommandId;
use crate::types::limits::STATE_BYTES_MAX;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn holder(number: u16) -> EntityKey {
    let mut id = [3; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    EntityKey { kind: kinds::ORDER, id }
}

fn ask(state: &mut StockState, command: StockCommand, now: i64) -> Result<usize, StockRejection> {
    let at = At { now: Timestamp(now), command_id: CommandId::default() };
    let events = StockEntity::decide(stock_key("mug"), state, command, &at)?.events;
    events.iter().for_each(|event| StockEntity::evolve(state, event));
    Ok(events.len())
}

fn put(quantity: u32) -> StockCommand {
    StockCommand::Put { sku: "mug".into(), quantity, price: Some(Money::krw(4_500)) }
}
fn reserve(number: u16, quantity: u32, now: i64) -> StockCommand {
    StockCommand::Reserve { holder: holder(number), quantity, stamp: Timestamp(now) }
}
fn confirm(number: u16, now: i64) -> StockCommand {
    StockCommand::Confirm { holder: holder(number), stamp: Timestamp(now) }
}
fn release(number: u16, now: i64) -> StockCommand {
    StockCommand::Release { holder: holder(number), stamp: Timestamp(now) }
}

fn stocked(quantity: u32) -> StockState {
    let mut state = StockState::default();
    ask(&mut state, put(quantity), 1).unwrap();
    state
}

#[test]
fn units_are_held_then_gone_and_repeats_are_answered_from_the_state() {
    let mut state = stocked(5);
    assert_eq!(ask(&mut state, reserve(1, 3, 10), 10), Ok(1));
    assert_eq!(ask(&mut state, reserve(1, 3, 10), 11), Ok(0), "a repeat");
    assert_eq!((state.held(), state.available()), (3, 2));
    assert_eq!(ask(&mut state, reserve(2, 3, 12), 12), Err(StockRejection::OutOfStock { available: 2 }));
    assert_eq!(ask(&mut state, put(2), 13), Err(StockRejection::BelowHeld { held: 3 }));
    assert_eq!(ask(&mut state, confirm(1, 14), 14), Ok(1));
    assert_eq!(ask(&mut state, confirm(1, 14), 15), Ok(0), "a repeat");
    assert_eq!((state.get().unwrap().quantity, state.held()), (2, 0));
    assert_eq!(ask(&mut state, reserve(1, 3, 10), 16), Err(StockRejection::Hold(HoldFault::Closed)));
}

#[test]
fn a_release_gives_back_once_and_keeps_a_late_reserve_out() {
    let mut state = stocked(5);
    ask(&mut state, reserve(1, 3, 10), 10).unwrap();
    assert_eq!(ask(&mut state, release(1, 11), 11), Ok(1));
    assert_eq!(ask(&mut state, release(1, 11), 12), Ok(0));
    assert_eq!((state.get().unwrap().quantity, state.available()), (5, 5));
    assert_eq!(ask(&mut state, release(2, 13), 13), Ok(1), "before its reserve");
    assert_eq!(ask(&mut state, reserve(2, 1, 12), 14), Err(StockRejection::Hold(HoldFault::Closed)));
    assert_eq!(ask(&mut StockState::default(), reserve(1, 1, 10), 10), Err(StockRejection::NotFound));
}

#[test]
fn a_crowd_is_refused_before_the_state_grows() {
    let mut state = stocked(QUANTITY_MAX);
    for number in 0..2_000u16 {
        let taken = ask(&mut state, reserve(number, 1, 10), 10);
        assert_eq!(taken.is_ok(), usize::from(number) < OPEN_MAX, "{number}");
    }
    assert_eq!(ask(&mut state, reserve(5_000, 1, 10), 10), Err(StockRejection::Hold(HoldFault::Full)));
    assert!(codec::encode(&state).len() < STATE_BYTES_MAX);
}

#[test]
fn golden_bytes_and_topics() {
    let (at, sku, holder, stamp) = (Timestamp(1), "mug".to_owned(), holder(1), Timestamp(2));
    let events = [
        StockEvent::Put { at, sku, quantity: 5, price: Some(Money::krw(4_500)) },
        StockEvent::Reserved { at, holder, quantity: 2 },
        StockEvent::Confirmed { at, holder, stamp },
        StockEvent::Released { at, holder, stamp },
    ];
    let id = "0703030303030303030303030303030001";
    let golden =
        ["0002036d75670501fb282300".to_owned(), format!("0102{id}02"), format!("0202{id}04"), format!("0302{id}04")];
    for (event, bytes) in events.iter().zip(golden) {
        assert_eq!(hex::encode(codec::encode(event)), bytes, "{event:?}");
        assert_eq!(&codec::decode::<StockEvent>(&codec::encode(event)).unwrap(), event);
    }
    let said = publications(&codec::encode(&events.to_vec())).unwrap();
    assert!(said.len() == 4 && said.iter().all(|said| TOPICS.contains(&said.topic)));
    let mut state = stocked(5);
    ask(&mut state, reserve(1, 3, 10), 10).unwrap();
    ask(&mut state, release(2, 11), 11).unwrap();
    let golden = "01036d75670501fb2823000202010703030303030303030303030303030001060103030303030300021600";
    assert_eq!(hex::encode(codec::encode(&state)), golden);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Random orders with repeats and delays: what was put is what is there, held and gone.
    #[test]
    fn stock_is_never_negative_and_no_unit_is_lost(steps in proptest::collection::vec((0u8..5, 0u16..8, 1u32..5, 0i64..9), 0..200)) {
        let mut state = stocked(20);
        let (mut put_in_all, mut gone) = (20i64, BTreeMap::new());
        for (now, (kind, number, quantity, delay)) in (100i64..).zip(steps) {
            let held = state.holds.of(holder(number)).map(|hold| hold.amount);
            let before = state.get().unwrap().quantity;
            match kind {
                0 | 1 => { let _refused = ask(&mut state, reserve(number, quantity, now - delay), now); }
                2 => {
                    ask(&mut state, confirm(number, now), now).unwrap();
                    if let Some(amount) = held {
                        prop_assert!(gone.insert(number, amount).is_none(), "confirmed twice");
                    }
                }
                3 => { ask(&mut state, release(number, now), now).unwrap(); }
                _ => if ask(&mut state, put(quantity * 5), now).is_ok() {
                    put_in_all += i64::from(quantity * 5) - i64::from(before);
                },
            }
            let left = i64::from(state.get().unwrap().quantity);
            prop_assert!(left >= i64::from(state.held()));
            prop_assert_eq!(left, put_in_all - gone.values().sum::<i64>());
        }
    }
}
