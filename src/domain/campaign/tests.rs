//! A campaign and the coupons of its members, with messages between them that are lost, doubled and late.

use super::*;
use crate::domain::coupon::{CouponEntity, Discount};
use crate::types::limits::STATE_BYTES_MAX;
use crate::types::money::Money;
use crate::types::time::Millis;
use proptest::prelude::*;
use std::collections::BTreeSet;

pub(super) const START: Timestamp = Timestamp(1_790_000_000_000);
const END: Timestamp = Timestamp(1_790_000_000_000 + 86_400_000);

pub(super) fn key() -> EntityKey {
    EntityKey { kind: kinds::CAMPAIGN, id: [3; 16] }
}

pub(super) fn terms(quantity: u32) -> Terms {
    let discount = Discount::Percent { percent: 10, cap: Some(Money::krw(3_000)) };
    Terms { name: "첫 주문".into(), quantity, starts_at: START, ends_at: END, discount, valid_days: 30 }
}

pub(super) fn member(number: u8) -> String {
    format!("u-{number}")
}

fn claim(number: u8) -> CampaignCommand {
    CampaignCommand::Claim { owner: member(number), claim: IdempotencyId([number; 16]) }
}

/// One campaign, its members' coupons, and what is on its way between them.
struct World {
    campaign: CampaignState,
    replayed: CampaignState,
    coupons: BTreeMap<EntityKey, CouponState>,
    asked: Vec<(Slot, EntityRequest)>,
    answered: Vec<(Slot, CallOutcome)>,
    now: Timestamp,
    /// Members who were told that their coupon comes.
    promised: BTreeSet<u8>,
}

impl World {
    fn new(quantity: u32) -> Self {
        let mut world = Self {
            campaign: CampaignState::default(),
            replayed: CampaignState::default(),
            coupons: BTreeMap::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            now: START,
            promised: BTreeSet::new(),
        };
        world.command(CampaignCommand::Create(Box::new(terms(quantity)))).unwrap();
        world
    }

    fn command(&mut self, command: CampaignCommand) -> Result<usize, CampaignRejection> {
        let at = At { now: self.now, command_id: CommandId::default() };
        let events = CampaignEntity::decide(key(), &self.campaign, command, &at)?.events;
        for event in &events {
            CampaignEntity::evolve(&mut self.campaign, event);
            let again: CampaignEvent = codec::decode(&codec::encode(event)).unwrap();
            CampaignEntity::evolve(&mut self.replayed, &again);
        }
        self.check();
        Ok(events.len())
    }

    fn open(&self) -> &Campaign {
        self.campaign.get().unwrap()
    }

    fn has_coupon(&self, number: u8) -> bool {
        self.coupons.contains_key(&coupon_key(key(), &member(number)))
    }

    /// As the door does it; `looks`: it looks at the coupon first.
    fn claim(&mut self, number: u8, looks: bool) -> Result<(), CampaignRejection> {
        if looks && self.has_coupon(number) {
            return Ok(());
        }
        self.command(claim(number))?;
        self.promised.insert(number);
        Ok(())
    }

    /// Sends the call of one of the wanted slots.
    fn send(&mut self, which: usize) {
        let wants = CampaignEntity::wants(key(), &self.campaign);
        if wants.calls.is_empty() {
            return;
        }
        let slot = wants.calls[which % wants.calls.len()].slot;
        match CampaignEntity::request(key(), &self.campaign, slot, None) {
            Some(CallRequest::Entity(request)) => self.asked.push((slot, request)),
            other => panic!("a wanted call is rendered: {other:?}"),
        }
    }

    /// A coupon takes a message; `again`: it comes once more, later.
    fn deliver(&mut self, which: usize, again: bool) {
        if self.asked.is_empty() {
            return;
        }
        let place = which % self.asked.len();
        let (slot, request) = if again { self.asked[place].clone() } else { self.asked.swap_remove(place) };
        let command: CouponCommand = codec::decode(&request.command).unwrap();
        let state = self.coupons.get(&request.target).cloned().unwrap_or_default();
        let at = At { now: self.now, command_id: request.command_id };
        let outcome = match CouponEntity::decide(request.target, &state, command, &at) {
            Ok(decision) => {
                let mut state = state;
                decision.events.iter().for_each(|event| CouponEntity::evolve(&mut state, event));
                let told = EntityOutcome::Done { state: CouponEntity::answer(&state) };
                self.coupons.insert(request.target, state);
                told
            }
            Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
        };
        self.answered.push((slot, CallOutcome::Entity(outcome)));
        self.check();
    }

    fn bring_home(&mut self, which: usize, again: bool) {
        if self.answered.is_empty() {
            return;
        }
        let place = which % self.answered.len();
        let one = if again { self.answered[place].clone() } else { self.answered.swap_remove(place) };
        self.command(CampaignEntity::outcome_command(vec![one])).unwrap();
    }

    /// INV-7 and the campaign's own bounds, after every step.
    fn check(&self) {
        let campaign = self.open();
        let granted = u32::try_from(campaign.grants.len()).unwrap();
        let exist = u32::try_from(self.coupons.len()).unwrap();
        let quantity = campaign.terms.quantity;
        assert!(campaign.issued + granted <= quantity, "promised beyond the quantity");
        assert!(exist <= quantity, "issued beyond the quantity");
        assert!(campaign.issued <= exist && exist <= campaign.issued + granted, "the count is that of the coupons");
        let tickets: BTreeSet<Ticket> = self.coupons.values().map(|coupon| coupon.get().unwrap().ticket).collect();
        assert_eq!(tickets.len(), self.coupons.len(), "no ticket makes two coupons");
        assert_eq!(campaign.sold_out_at.is_some(), campaign.issued == quantity);
        assert!(campaign.grants.len() <= GRANTS_MAX);
        let wants = CampaignEntity::wants(key(), &self.campaign);
        assert!(wants.terminal || !wants.timers.is_empty() || !wants.calls.is_empty(), "INV-9");
        assert!(wants.calls.windows(2).all(|pair| pair[0].slot < pair[1].slot));
        assert_eq!(self.campaign, self.replayed);
    }

    /// No more losses: every grant comes to its end.
    fn settle(&mut self) {
        for _round in 0..10_000 {
            if self.open().grants.is_empty() {
                return;
            }
            self.send(0);
            self.deliver(self.asked.len() - 1, false);
            self.bring_home(self.answered.len() - 1, false);
        }
        panic!("the grants never end: {:?}", self.open().grants);
    }
}

#[test]
fn claims_are_taken_from_the_first_instant_to_the_last_but_none_beyond() {
    let mut world = World::new(3);
    world.now = START - Millis(1);
    assert_eq!(world.claim(1, true), Err(CampaignRejection::NotStarted));
    world.now = START;
    assert_eq!(world.claim(1, true), Ok(()));
    world.now = END - Millis(1);
    assert_eq!(world.claim(2, true), Ok(()));
    world.now = END;
    assert_eq!(world.claim(3, true), Err(CampaignRejection::Ended));
    assert_eq!(world.claim(2, true), Ok(()), "a winner who repeats waits for the same coupon");
    world.settle();
    assert!(world.has_coupon(1) && world.has_coupon(2) && !world.has_coupon(3));
}

#[test]
fn sold_out_is_said_only_when_every_coupon_exists() {
    let mut world = World::new(1);
    world.claim(1, true).unwrap();
    assert_eq!(world.claim(2, true), Err(CampaignRejection::Undecided));
    world.send(0);
    world.deliver(0, false);
    assert_eq!(world.claim(2, true), Err(CampaignRejection::Undecided));
    world.bring_home(0, false);
    assert_eq!(world.claim(2, true), Err(CampaignRejection::SoldOut));
    assert_eq!(world.open().status(END), "sold_out");
    assert_eq!(world.claim(1, true), Ok(()), "the door finds the winner's coupon");
}

#[test]
fn a_winner_who_gets_past_the_door_takes_nobodys_place() {
    let mut world = World::new(3);
    world.claim(1, true).unwrap();
    world.settle();
    // The door had looked before the coupon existed.
    world.claim(1, false).unwrap();
    assert_eq!(world.claim(2, true), Ok(()));
    assert_eq!(world.claim(3, true), Err(CampaignRejection::Undecided), "the place may come back, and does");
    world.settle();
    assert_eq!((world.coupons.len(), world.open().issued), (2, 2));
    assert_eq!(world.claim(3, true), Ok(()));
    world.settle();
    assert_eq!(world.claim(4, true), Err(CampaignRejection::SoldOut));
}

#[test]
fn an_answer_that_comes_home_when_its_slot_is_anothers_settles_nothing_else() {
    let mut world = World::new(3);
    world.claim(1, true).unwrap();
    world.send(0);
    world.deliver(0, false);
    world.bring_home(0, true);
    world.claim(2, true).unwrap();
    assert_eq!(world.open().grants.keys().collect::<Vec<_>>(), [&0], "the slot is used again");
    world.bring_home(0, false);
    assert_eq!(world.open().grants.len(), 1, "the second member's grant still stands");
    world.settle();
    assert!(world.has_coupon(2));
}

#[test]
fn grants_on_their_way_are_bounded_and_the_state_with_them() {
    let mut world = World::new(QUANTITY_MAX);
    let long = |number: u8| format!("{number:0>width$}", width = OWNER_BYTES_MAX);
    for number in 0..u8::try_from(GRANTS_MAX).unwrap() {
        let command = CampaignCommand::Claim { owner: long(number), claim: IdempotencyId([number; 16]) };
        assert_eq!(world.command(command), Ok(1));
    }
    assert_eq!(world.claim(255, true), Err(CampaignRejection::Busy));
    assert!(codec::encode(&world.campaign).len() <= STATE_BYTES_MAX / 2);
    assert!(CampaignEntity::answer(&world.campaign).len() < 512, "what a caller is told is small");
    let told: CampaignState = codec::decode(&CampaignEntity::answer(&world.campaign)).unwrap();
    assert_eq!(told.get().unwrap().terms, world.open().terms);
}

#[test]
fn it_opens_and_closes_by_its_timers() {
    let mut world = World::new(1);
    let at = At { now: START - Millis(5), command_id: CommandId::default() };
    let early =
        CampaignEntity::decide(key(), &CampaignState::default(), CampaignCommand::Create(Box::new(terms(1))), &at);
    let mut state = CampaignState::default();
    early.unwrap().events.iter().for_each(|event| CampaignEntity::evolve(&mut state, event));
    let dues: Vec<Timestamp> = CampaignEntity::wants(key(), &state).timers.iter().map(|timer| timer.due).collect();
    assert_eq!(dues, [START, END]);
    assert!(world.open().opened, "made within its window, it is open");
    world.now = END;
    assert_eq!(world.command(CampaignCommand::Timer(CLOSING)), Ok(1));
    assert_eq!(world.command(CampaignCommand::Timer(CLOSING)), Ok(0));
    assert!(CampaignEntity::wants(key(), &world.campaign).terminal);
}

#[test]
fn terms_that_are_none_are_refused() {
    let faults = |change: fn(&mut Terms)| {
        let mut terms = terms(1);
        change(&mut terms);
        terms.faults(START)
    };
    assert_eq!(faults(|_| {}), []);
    assert_eq!(faults(|terms| terms.quantity = 0), [TermsFault::Quantity]);
    assert_eq!(faults(|terms| terms.name.clear()), [TermsFault::Name]);
    assert_eq!(faults(|terms| terms.ends_at = terms.starts_at), [TermsFault::EndsAt]);
    assert_eq!(faults(|terms| terms.starts_at = START + Millis::from_days(400)).len(), 2);
    assert_eq!(faults(|terms| terms.valid_days = 0), [TermsFault::ValidDays]);
    let mut world = World::new(1);
    let again = CampaignCommand::Create(Box::new(terms(1)));
    assert_eq!(world.command(again), Err(CampaignRejection::AlreadyExists));
}

#[test]
fn persisted_bytes_are_golden() {
    let (at, ticket) = (Timestamp(1), Ticket(7));
    let grant = Granted { ticket, owner: "u".into(), claim: IdempotencyId([5; 16]), at };
    let golden = [
        (CampaignEvent::Granted { slot: 2, grant: Box::new(grant) }, format!("0102070175{}02", "05".repeat(16))),
        (CampaignEvent::Issued { at, tickets: vec![ticket], total: 3, quantity: 4 }, "020201070304".to_owned()),
        (CampaignEvent::Released { at, ticket }, "030207".to_owned()),
        (CampaignEvent::SoldOut { at }, "0402".to_owned()),
        (CampaignEvent::Opened { at }, "0502".to_owned()),
        (CampaignEvent::Closed { at, issued: 3 }, "060203".to_owned()),
        (
            CampaignEvent::Created {
                at,
                terms: Box::new(Terms {
                    name: "n".into(),
                    quantity: 9,
                    starts_at: at,
                    ends_at: Timestamp(2),
                    discount: Discount::Amount(Money::krw(2)),
                    valid_days: 30,
                }),
            },
            "0002016e0902040004001e".to_owned(),
        ),
    ];
    for (event, bytes) in golden {
        assert_eq!(hex::encode(codec::encode(&event)), bytes, "{event:?}");
        assert_eq!(codec::decode::<CampaignEvent>(&hex::decode(bytes).unwrap()).unwrap(), event);
    }
}

#[test]
fn each_event_has_its_topic_and_none_names_a_member() {
    let grant = Granted { ticket: Ticket(1), owner: "somebody".into(), claim: IdempotencyId::default(), at: START };
    let events = vec![
        CampaignEvent::Granted { slot: 0, grant: Box::new(grant) },
        CampaignEvent::Issued { at: START, tickets: vec![Ticket(1)], total: 1, quantity: 1 },
        CampaignEvent::Released { at: START, ticket: Ticket(2) },
    ];
    let told = publications(&codec::encode(&events)).unwrap();
    let topics: Vec<&str> = told.iter().map(|publication| publication.topic.0).collect();
    assert_eq!(topics, ["coupon-request.v1", "coupon-inventory.v1", "coupon-failed.v1"]);
    assert!(!format!("{told:?}").contains("somebody"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn never_beyond_the_quantity_never_twice_and_no_winner_is_lost(
        quantity in 1u32..12, steps in proptest::collection::vec((0u8..10, any::<u8>()), 0..200),
    ) {
        let mut world = World::new(quantity);
        for (kind, arg) in steps {
            let which = usize::from(arg);
            match kind {
                0..=3 => {
                    let _refused = world.claim(arg % 16, kind < 3);
                }
                4 | 5 => world.send(which),
                6 => world.deliver(which, arg & 1 == 0),
                7 | 8 => world.bring_home(which, arg & 1 == 0),
                // A crash: what was on its way is lost, or comes later.
                _ if arg & 1 == 0 => world.asked.clear(),
                _ => world.answered.clear(),
            }
        }
        world.settle();
        for number in world.promised.clone() {
            prop_assert!(world.has_coupon(number), "u-{number} was promised a coupon");
        }
        prop_assert_eq!(world.open().issued as usize, world.coupons.len());
        // Whoever still comes gets what is left, to the last coupon.
        for number in 0..16 {
            let _refused = world.claim(number, true);
            world.settle();
        }
        prop_assert_eq!(world.open().issued, quantity.min(16));
    }
}
