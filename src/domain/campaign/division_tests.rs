//! A campaign in parts, and the coupons of its members, with claims at any part and messages that are lost, doubled and late.

use super::tests::{START, key, member, terms};
use super::*;
use crate::domain::coupon::CouponEntity;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn at() -> At {
    At { now: START, command_id: CommandId::default() }
}

fn apply(key: EntityKey, state: &mut CampaignState, command: CampaignCommand) -> Result<usize, CampaignRejection> {
    let events = CampaignEntity::decide(key, state, command, &at())?.events;
    events.iter().for_each(|event| CampaignEntity::evolve(state, event));
    let stored: CampaignState = codec::decode(&codec::encode(state)).unwrap();
    assert_eq!(stored, *state);
    Ok(events.len())
}

fn homes(parts: u8) -> Vec<u64> {
    (0..parts).map(|number| part_home(key(), number, 0)).collect()
}

fn whole(quantity: u32, parts: u8) -> CampaignState {
    let mut whole = CampaignState::default();
    let command = CampaignCommand::CreateWhole(Box::new(terms(quantity)), homes(parts));
    assert_eq!(apply(key(), &mut whole, command), Ok(1));
    whole
}

/// The calls that a whole wants, rendered.
fn asked(whole: &CampaignState) -> Vec<(Slot, EntityKey, CampaignCommand)> {
    let calls = CampaignEntity::wants(key(), whole).calls;
    let rendered = calls.iter().map(|call| match CampaignEntity::request(key(), whole, call.slot, None) {
        Some(CallRequest::Entity(request)) => (call.slot, request.target, codec::decode(&request.command).unwrap()),
        other => panic!("a wanted call is rendered: {other:?}"),
    });
    rendered.collect()
}

fn done() -> CallOutcome {
    CallOutcome::Entity(EntityOutcome::Done { state: Vec::new() })
}

#[test]
fn a_whole_has_its_parts_made_and_gives_out_nothing_itself() {
    let mut whole = whole(10, 3);
    let calls = asked(&whole);
    assert_eq!(calls.len(), 3);
    let keys: Vec<EntityKey> = calls.iter().map(|(_, target, _)| *target).collect();
    assert_eq!(keys, whole.get().unwrap().parts(key()));
    let mut shares = Vec::new();
    for (_, target, command) in &calls {
        let mut part = CampaignState::default();
        assert_eq!(apply(*target, &mut part, command.clone()), Ok(1));
        assert_eq!(apply(*target, &mut part, command.clone()), Ok(0), "a repeat");
        let other = EntityKey { id: [1; 16], ..*target };
        assert_eq!(apply(other, &mut CampaignState::default(), command.clone()), Err(CampaignRejection::NotWanted));
        assert_eq!(part.part_of().unwrap().whole, key());
        assert!(CampaignEntity::wants(*target, &part).indexes.is_empty(), "a part is in no list");
        shares.push(part.get().unwrap().terms.quantity);
    }
    assert_eq!(shares, [4, 3, 3]);
    let claim = CampaignCommand::Claim { owner: member(1), claim: IdempotencyId([1; 16]) };
    assert_eq!(apply(key(), &mut whole, claim), Err(CampaignRejection::NotWanted));

    // One call got no answer: it is made again, the others are not.
    let lost = CallOutcome::Entity(EntityOutcome::Unknown { cause: "lost".to_owned() });
    let outcomes = vec![(calls[0].0, done()), (calls[1].0, lost), (calls[2].0, done())];
    assert_eq!(apply(key(), &mut whole, CampaignEntity::outcome_command(outcomes.clone())), Ok(2));
    assert_eq!(apply(key(), &mut whole, CampaignEntity::outcome_command(outcomes)), Ok(0));
    assert_eq!(asked(&whole), [calls[1].clone()]);
    assert_eq!(apply(key(), &mut whole, CampaignEntity::outcome_command(vec![(calls[1].0, done())])), Ok(1));
    assert_eq!(asked(&whole), []);
    assert_eq!(CampaignEntity::wants(key(), &whole).indexes.len(), 1);
}

#[test]
fn parts_are_from_two_up_and_each_has_a_coupon_at_least() {
    for (quantity, parts) in [(10, 0), (10, 1), (3, 4), (1_000, 65)] {
        let command = CampaignCommand::CreateWhole(Box::new(terms(quantity)), homes(parts));
        let refused = apply(key(), &mut CampaignState::default(), command);
        assert_eq!(refused, Err(CampaignRejection::BadTerms(TermsFault::Parts)), "{quantity} in {parts}");
    }
    assert_eq!(asked(&whole(64, PARTS_MAX)).len(), 64);
    assert!(codec::encode(&whole(64, PARTS_MAX)).len() < 1_024);
}

#[test]
fn persisted_bytes_are_golden() {
    let (at, of) = (Timestamp(1), PartOf { whole: key(), number: 2 });
    let events = [
        (CampaignEvent::PartMade { at, number: 3 }, "090203".to_owned()),
        (
            CampaignEvent::CreatedWhole { at, terms: Box::new(terms(9)), homes: vec![1, 2] },
            format!("0702{}020102", hex::encode(codec::encode(&terms(9)))),
        ),
        (
            CampaignEvent::CreatedPart { at, part: Box::new(NewPart { terms: terms(9), of }) },
            format!("0802{}03{}02", hex::encode(codec::encode(&terms(9))), "03".repeat(16)),
        ),
    ];
    for (event, bytes) in events {
        assert_eq!(hex::encode(codec::encode(&event)), bytes, "{event:?}");
    }
    // A campaign that stands alone has the bytes that it had before there were parts.
    let state = |event: &CampaignEvent| {
        let mut state = CampaignState::default();
        CampaignEntity::evolve(&mut state, event);
        hex::encode(codec::encode(&state))
    };
    let alone = state(&CampaignEvent::Created { at, terms: Box::new(terms(9)) });
    let whole = state(&CampaignEvent::CreatedWhole { at, terms: Box::new(terms(9)), homes: vec![1, 2] });
    assert!(alone.starts_with("01"), "{alone}");
    assert_eq!(whole, format!("02{}0002010200", &alone[2..]));
}

/// The parts of a campaign, the coupons of its members, and what is on its way between them.
struct Parts {
    keys: Vec<EntityKey>,
    parts: Vec<CampaignState>,
    coupons: BTreeMap<EntityKey, CouponState>,
    asked: Vec<(usize, Slot, EntityRequest)>,
    answered: Vec<(usize, Slot, CallOutcome)>,
    promised: BTreeSet<u8>,
}

impl Parts {
    fn new(quantity: u32, count: u8) -> Self {
        let (mut keys, mut parts) = (Vec::new(), Vec::new());
        for (_, target, command) in asked(&whole(quantity, count)) {
            let mut part = CampaignState::default();
            apply(target, &mut part, command).unwrap();
            keys.push(target);
            parts.push(part);
        }
        let promised = BTreeSet::new();
        Self { keys, parts, coupons: BTreeMap::new(), asked: Vec::new(), answered: Vec::new(), promised }
    }

    /// At any part, as if all doors knew different things; `looks`: the coupon is read first.
    fn claim(&mut self, number: u8, part: usize, looks: bool) -> Result<(), CampaignRejection> {
        if looks && self.coupons.contains_key(&coupon_key(key(), &member(number))) {
            return Ok(());
        }
        let command = CampaignCommand::Claim { owner: member(number), claim: IdempotencyId([number; 16]) };
        apply(self.keys[part], &mut self.parts[part], command)?;
        self.promised.insert(number);
        Ok(())
    }

    fn send(&mut self, part: usize, which: usize) {
        let calls = CampaignEntity::wants(self.keys[part], &self.parts[part]).calls;
        let Some(slot) = (!calls.is_empty()).then(|| calls[which % calls.len()].slot) else { return };
        match CampaignEntity::request(self.keys[part], &self.parts[part], slot, None) {
            Some(CallRequest::Entity(request)) => self.asked.push((part, slot, request)),
            other => panic!("a wanted call is rendered: {other:?}"),
        }
    }

    fn deliver(&mut self, which: usize, again: bool) {
        if self.asked.is_empty() {
            return;
        }
        let place = which % self.asked.len();
        let (part, slot, request) = if again { self.asked[place].clone() } else { self.asked.swap_remove(place) };
        let mut state = self.coupons.get(&request.target).cloned().unwrap_or_default();
        let command = codec::decode(&request.command).unwrap();
        let outcome = match CouponEntity::decide(request.target, &state, command, &at()) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| CouponEntity::evolve(&mut state, event));
                self.coupons.insert(request.target, state.clone());
                EntityOutcome::Done { state: CouponEntity::answer(&state) }
            }
            Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
        };
        self.answered.push((part, slot, CallOutcome::Entity(outcome)));
    }

    fn bring_home(&mut self, which: usize, again: bool) {
        if self.answered.is_empty() {
            return;
        }
        let place = which % self.answered.len();
        let (part, slot, outcome) = if again { self.answered[place].clone() } else { self.answered.swap_remove(place) };
        let command = CampaignEntity::outcome_command(vec![(slot, outcome)]);
        apply(self.keys[part], &mut self.parts[part], command).unwrap();
    }

    /// INV-7 over all parts, after every step.
    fn check(&self, quantity: u32) {
        let of =
            |count: fn(&Campaign) -> u32| -> u32 { self.parts.iter().map(|part| count(part.get().unwrap())).sum() };
        let (issued, granted) = (of(|part| part.issued), of(|part| u32::try_from(part.grants.len()).unwrap()));
        let exist = u32::try_from(self.coupons.len()).unwrap();
        assert!(issued + granted <= quantity && exist <= quantity, "{issued} + {granted}, {exist} of {quantity}");
        assert!(issued <= exist && exist <= issued + granted, "the count is that of the coupons");
        let tickets: BTreeSet<Ticket> = self.coupons.values().map(|coupon| coupon.get().unwrap().ticket).collect();
        assert_eq!(tickets.len(), self.coupons.len(), "no ticket of any part makes two coupons");
        for coupon in self.coupons.values() {
            assert_eq!(coupon.get().unwrap().campaign, key(), "a coupon knows the whole");
        }
    }

    fn settle(&mut self) {
        for part in 0..self.parts.len() {
            for _round in 0..10_000 {
                if self.parts[part].get().unwrap().grants.is_empty() {
                    break;
                }
                self.send(part, 0);
                self.deliver(self.asked.len() - 1, false);
                self.bring_home(self.answered.len() - 1, false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn shares_add_up_and_differ_by_one_at_most(quantity in 1u32..=QUANTITY_MAX, parts in 1u8..=PARTS_MAX) {
        let shares: Vec<u32> = (0..parts).map(|number| share_of(quantity, number, parts)).collect();
        prop_assert_eq!(shares.iter().sum::<u32>(), quantity);
        prop_assert!(shares[0] - shares[shares.len() - 1] <= 1);
        let member = format!("m-{quantity}");
        prop_assert!(part_of_member(&member, parts) < parts);
    }

    #[test]
    fn wherever_members_claim_no_coupon_is_too_many_none_double_and_none_lost(
        quantity in 4u32..14, count in 2u8..5, steps in proptest::collection::vec((0u8..10, any::<u8>(), any::<u8>()), 0..200),
    ) {
        let mut world = Parts::new(quantity, count);
        for (kind, arg, place) in steps {
            let (which, part) = (usize::from(arg), usize::from(place % count));
            match kind {
                0..=3 => {
                    let _refused = world.claim(arg % 20, part, kind < 3);
                }
                4 | 5 => world.send(part, which),
                6 => world.deliver(which, arg & 1 == 0),
                7 | 8 => world.bring_home(which, arg & 1 == 0),
                _ if arg & 1 == 0 => world.asked.clear(),
                _ => world.answered.clear(),
            }
            world.check(quantity);
        }
        world.settle();
        for number in &world.promised {
            prop_assert!(world.coupons.contains_key(&coupon_key(key(), &member(*number))), "u-{number} was promised one");
        }
        // Whoever still comes goes round the parts as the door does, to the last coupon.
        for number in 0..20 {
            let own = usize::from(part_of_member(&member(number), count));
            for step in 0..usize::from(count) {
                let told = world.claim(number, (own + step) % usize::from(count), true);
                world.settle();
                if told != Err(CampaignRejection::SoldOut) {
                    break;
                }
            }
        }
        world.check(quantity);
        prop_assert_eq!(world.coupons.len(), quantity as usize);
        prop_assert!(world.parts.iter().all(|part| part.get().unwrap().sold_out_at.is_some()));
    }
}
