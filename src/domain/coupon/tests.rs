//! A coupon: given commands, when a command, then events; and random lives.

use super::*;
use crate::types::codec;
use crate::types::ids::CommandId;
use crate::types::money::Money;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const CAMPAIGN: EntityKey = EntityKey { kind: kinds::CAMPAIGN, id: [3; 16] };

fn payer(number: u8) -> Payer {
    Payer::Entity(EntityKey { kind: kinds::GIFT, id: [number; 16] })
}

fn grant(ticket: u64) -> CouponCommand {
    CouponCommand::Grant(Box::new(Grant {
        campaign: CAMPAIGN,
        ticket: Ticket(ticket),
        name: "첫 주문".into(),
        discount: Discount::Amount(Money::krw(1_000)),
        valid_days: 30,
        owner: "u-1".into(),
        claim: IdempotencyId([9; 16]),
    }))
}

fn pay(number: u8) -> CouponCommand {
    CouponCommand::Use { by: payer(number), owner: "u-1".into() }
}

fn restore(number: u8) -> CouponCommand {
    CouponCommand::Restore { by: payer(number) }
}

fn key() -> EntityKey {
    coupon_key(CAMPAIGN, "u-1")
}

fn decide(state: &CouponState, command: CouponCommand, now: Timestamp) -> Decided {
    let at = At { now, command_id: CommandId::default() };
    CouponEntity::decide(key(), state, command, &at).map(|decision| decision.events)
}

/// The state after commands that are all taken.
fn after(given: &[CouponCommand]) -> CouponState {
    let mut state = CouponState::default();
    for command in given {
        let events = decide(&state, command.clone(), NOW).unwrap();
        events.iter().for_each(|event| CouponEntity::evolve(&mut state, event));
    }
    state
}

fn phase(state: &CouponState) -> &'static str {
    state.get().unwrap().phase.name()
}

#[test]
fn the_first_ticket_makes_the_coupon_and_no_other_does() {
    let state = after(&[grant(7)]);
    let coupon = state.get().unwrap();
    assert_eq!((coupon.ticket, coupon.owner.as_str(), phase(&state)), (Ticket(7), "u-1", "issued"));
    assert_eq!(decide(&state, grant(7), NOW), Ok(Vec::new()), "the same grant again");
    assert_eq!(decide(&state, grant(8), NOW), Err(CouponRejection::AlreadyClaimed { refused: Ticket(8) }));
    let used = after(&[grant(7), pay(1)]);
    assert_eq!(decide(&used, grant(7), NOW), Ok(Vec::new()), "whatever became of it since");
}

#[test]
fn a_grant_for_another_member_is_not_taken() {
    let CouponCommand::Grant(mut other) = grant(7) else { panic!("a grant") };
    other.owner = "u-2".into();
    let refused = decide(&CouponState::default(), CouponCommand::Grant(other), NOW);
    assert_eq!(refused, Err(CouponRejection::WrongKey));
}

#[test]
fn it_pays_once_and_answers_its_payer_again() {
    let state = after(&[grant(7), pay(1)]);
    assert_eq!(phase(&state), "used");
    assert_eq!(decide(&state, pay(1), NOW), Ok(Vec::new()));
    assert_eq!(decide(&state, pay(2), NOW), Err(CouponRejection::AlreadyUsed));
    let stranger = CouponCommand::Use { by: payer(3), owner: "u-2".into() };
    assert_eq!(decide(&after(&[grant(7)]), stranger, NOW), Err(CouponRejection::NotOwner));
    assert_eq!(decide(&CouponState::default(), pay(1), NOW), Err(CouponRejection::NotFound));
}

#[test]
fn a_use_that_was_taken_back_never_comes_back() {
    let state = after(&[grant(7), pay(1), restore(1)]);
    assert_eq!(phase(&state), "restored");
    assert_eq!(decide(&state, restore(1), NOW), Ok(Vec::new()), "a repeat");
    assert_eq!(decide(&state, pay(1), NOW), Err(CouponRejection::TakenBack), "a late message");
    assert_eq!(phase(&after(&[grant(7), pay(1), restore(1), pay(2)])), "used");
    // The compensation overtakes the use.
    let early = after(&[grant(7), restore(1)]);
    assert_eq!(phase(&early), "issued");
    assert_eq!(decide(&early, pay(1), NOW), Err(CouponRejection::TakenBack));
    assert_eq!(phase(&after(&[grant(7), pay(2), restore(1)])), "used", "another's use stays");
}

#[test]
fn it_is_good_to_the_end_of_its_last_day_and_then_expires() {
    let state = after(&[grant(7)]);
    let last = state.get().unwrap().expires_at;
    assert_eq!(last, calendar::validity_end(NOW, 30, "Asia/Seoul"));
    assert_eq!(CouponEntity::wants(key(), &state).timers, [TimerWant { slot: EXPIRY, due: last + Millis(1) }]);
    assert!(decide(&state, pay(1), last).is_ok());
    let late = last + Millis(1);
    assert_eq!(decide(&state, pay(1), late), Err(CouponRejection::Expired), "its timer may be late");
    assert_eq!(decide(&state, CouponCommand::Expire, last), Ok(Vec::new()));
    assert_eq!(decide(&state, CouponCommand::Expire, late), Ok(vec![CouponEvent::Expired { at: late }]));
    let used = after(&[grant(7), pay(1)]);
    assert_eq!(decide(&used, CouponCommand::Expire, late), Ok(Vec::new()));
    assert!(CouponEntity::wants(key(), &used).terminal);
}

#[test]
fn persisted_bytes_are_golden() {
    let golden = [
        (CouponEvent::Used { at: Timestamp(1), by: payer(5) }, format!("01020001{}", "05".repeat(16))),
        (
            CouponEvent::Restored { at: Timestamp(1), by: Payer::Member(IdempotencyId([6; 16])), was_used: true },
            format!("020201{}01", "06".repeat(16)),
        ),
        (CouponEvent::Expired { at: Timestamp(1) }, "0302".to_owned()),
    ];
    for (event, bytes) in golden {
        assert_eq!(hex::encode(codec::encode(&event)), bytes);
        assert_eq!(codec::decode::<CouponEvent>(&hex::decode(bytes).unwrap()).unwrap(), event);
    }
    let CouponCommand::Grant(grant) = grant(7) else { panic!("a grant") };
    let issued = CouponEvent::Issued(Box::new(Issue { at: Timestamp(1), expires_at: Timestamp(2), grant: *grant }));
    let known = hex::encode(codec::encode(&issued));
    assert_eq!(known, ISSUED);
    assert_eq!(hex::encode(coupon_key(CAMPAIGN, "u-1").id), KEY);
}

const ISSUED: &str = concat!(
    "000204",
    "0303030303030303030303030303030303",
    "070aecb2ab20eca3bcebacb8",
    "00fbd007001e",
    "03752d31",
    "09090909090909090909090909090909",
);
const KEY: &str = "6d54476c078263fe32b5691f86333e0c";

fn command() -> impl Strategy<Value = CouponCommand> {
    let number = 0u8..4;
    prop_oneof![
        1 => (1u64..4).prop_map(grant),
        4 => number.clone().prop_map(pay),
        3 => number.prop_map(restore),
        1 => Just(CouponCommand::Expire),
    ]
}

proptest! {
    #[test]
    fn one_payer_at_a_time_and_none_after_it_stood_back(
        commands in proptest::collection::vec((command(), 0i64..4), 0..60),
    ) {
        let mut state = after(&[grant(1)]);
        let (mut now, mut replayed, mut stood_back) = (NOW, state.clone(), Vec::new());
        for (command, days) in commands {
            now = now + Millis::from_days(days);
            let Ok(events) = decide(&state, command.clone(), now) else { continue };
            for event in &events {
                if let CouponEvent::Used { by, .. } = event {
                    prop_assert!(!stood_back.contains(by), "{by:?} was told to stand back");
                    prop_assert!(["issued", "restored"].contains(&phase(&state)));
                }
                if let CouponEvent::Restored { by, .. } = event {
                    stood_back.push(*by);
                }
                CouponEntity::evolve(&mut state, event);
                CouponEntity::evolve(&mut replayed, event);
            }
            // What was taken is answered again from the state.
            prop_assert_eq!(decide(&state, command, now), Ok(Vec::new()));
            prop_assert_eq!(state.get().unwrap().ticket, Ticket(1));
            let wants = CouponEntity::wants(key(), &state);
            prop_assert!(wants.terminal || !wants.timers.is_empty(), "INV-9");
            let bytes = codec::encode(&state);
            prop_assert!(bytes.len() <= crate::types::limits::STATE_BYTES_MAX);
            prop_assert_eq!(&codec::decode::<CouponState>(&bytes).unwrap(), &replayed);
        }
    }
}
