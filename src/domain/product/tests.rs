//! A product: given events, when a command, then events.

use super::*;
use crate::domain::policy::PolicyField;
use crate::types::codec;
use crate::types::ids::CommandId;

const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn put(price: i64, days: Option<u16>) -> ProductCommand {
    ProductCommand::Put {
        id: "americano".into(),
        name: "아메리카노".into(),
        price: Money::krw(price),
        overrides: PolicyOverrides { validity_days: days, ..PolicyOverrides::default() },
        active: true,
    }
}

/// Given commands, when a command: the events of the last one and the state after it.
fn check(
    given: &[ProductCommand],
    when: ProductCommand,
    key: EntityKey,
) -> Result<(Vec<ProductEvent>, ProductState), ProductRejection> {
    let at = At { now: NOW, command_id: CommandId::default() };
    let mut state = ProductState::default();
    let mut last = Vec::new();
    for command in given.iter().cloned().chain([when]) {
        last = ProductEntity::decide(key, &state, command, &at)?.events;
        last.iter().for_each(|event| ProductEntity::evolve(&mut state, event));
    }
    Ok((last, state))
}

#[test]
fn put_product_has_the_default_policy_but_for_its_overrides() {
    let (_, state) = check(&[], put(4_500, Some(90)), product_key("americano")).unwrap();
    let product = state.get().unwrap();
    assert_eq!(product.policy(), Policy { validity_days: 90, ..Policy::default() });
    assert_eq!((product.price, product.active), (Money::krw(4_500), true));
}

#[test]
fn retired_product_stays_readable() {
    let (events, state) = check(&[put(4_500, None)], ProductCommand::Retire, product_key("americano")).unwrap();
    assert_eq!(events.len(), 1);
    assert!(!state.get().unwrap().active);
}

#[test]
fn same_product_again_writes_nothing() {
    let key = product_key("americano");
    let at = At { now: NOW, command_id: CommandId::default() };
    let (_, state) = check(&[], put(4_500, None), key).unwrap();
    assert_eq!(ProductEntity::decide(key, &state, put(4_500, None), &at), Ok(Decision::unchanged()));
    assert_eq!(ProductEntity::decide(key, &state, put(4_600, None), &at).unwrap().events.len(), 1);
}

#[test]
fn products_that_are_none_are_refused() {
    let key = product_key("americano");
    assert_eq!(check(&[], ProductCommand::Retire, key).unwrap_err(), ProductRejection::NotFound);
    assert_eq!(check(&[], put(0, None), key).unwrap_err(), ProductRejection::BadPrice);
    assert_eq!(check(&[], put(4_500, None), product_key("latte")).unwrap_err(), ProductRejection::WrongId);
    let fault = PolicyFault { field: PolicyField::ValidityDays };
    assert_eq!(check(&[], put(4_500, Some(0)), key).unwrap_err(), ProductRejection::BadPolicy(fault));
    assert_eq!(check(&[], ProductCommand::Unwanted, key).unwrap_err(), ProductRejection::NotWanted);
}

#[test]
fn persisted_bytes_are_golden() {
    let event = ProductEvent::Put {
        at: Timestamp(1),
        id: "a".into(),
        name: "b".into(),
        price: Money::krw(2),
        overrides: PolicyOverrides::default(),
        active: true,
    };
    let bytes = codec::encode(&event);
    assert_eq!(hex::encode(&bytes), "0002016101620400000000000000000000000001");
    assert_eq!(codec::decode::<ProductEvent>(&bytes).unwrap(), event);
    assert_eq!(hex::encode(codec::encode(&ProductEvent::Retired { at: Timestamp(1) })), "0102");
    assert_eq!(hex::encode(product_key("americano").id), "2fb443d43e8399fa1b5881b10940f941");
}
