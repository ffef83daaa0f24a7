//! States, commands and events of the entity kinds, as replicas and other nodes hand them over in bytes.

use crate::engine::Target;
use crate::{PLACE, heap, round_trips};
use bojagi::domain::calendar::SendAt;
use bojagi::domain::gift::{
    ContactSet, GiftCommand, GiftState, PaymentTerms, ProductSnapshot, RecipientFacts, RedemptionKey, Reservation,
    Store,
};
use bojagi::domain::kinds;
use bojagi::domain::policy::{PaymentMethod, Policy, RefundWindows};
use bojagi::types::call::{CallOutcome, MessageOutcome, PaymentOutcome};
use bojagi::types::codec;
use bojagi::types::effect::{Channel, Slot};
use bojagi::types::ids::{Claim, CommandId, EntityKey};
use bojagi::types::kind::{At, AttemptStart, Decided, Live};
use bojagi::types::limits::ATTEMPT_NOT_AFTER;
use bojagi::types::money::Money;
use bojagi::types::record::Sealed;
use bojagi::types::time::{Millis, Timestamp};

const KEY: EntityKey = EntityKey { kind: kinds::GIFT, id: [0x5f; 16] };
/// 2026-12-20T00:00:00Z.
const NOW: Timestamp = Timestamp(1_797_724_800_000);

fn reservation() -> Reservation {
    let send_at = SendAt::local("2026-12-25T00:00", "Asia/Seoul").unwrap();
    Reservation {
        owner: "u-1".into(),
        product: ProductSnapshot {
            id: "americano".into(),
            name: "아메리카노".into(),
            price: Money::krw(4_500),
            policy: Policy::default(),
        },
        recipient: RecipientFacts {
            contacts: ContactSet { phone: true, ..ContactSet::default() },
            zone: "Asia/Seoul".into(),
        },
        sender: ContactSet::default(),
        sealed: Sealed { nonce: [7; 12], ciphertext: vec![9; 40] },
        link_hash: [1; 16],
        code_hash: [2; 16],
        resolved: send_at.resolve().unwrap(),
        send_at,
        channels: vec![Channel::Kakao, Channel::Sms],
        payment: PaymentTerms {
            method: PaymentMethod::Card,
            amount: Money::krw(4_500),
            refund_by: PaymentMethod::Card.refund_by(NOW, &RefundWindows::default()),
        },
    }
}

fn load(state: Option<&[u8]>) -> Result<Box<dyn Live>, codec::CodecError> {
    kinds::kinds().get(kinds::GIFT).unwrap().load(KEY, state)
}

fn slot(live: &dyn Live) -> Slot {
    live.wants().calls.first().expect("a call is wanted").slot
}

/// States, commands and events of one whole life.
#[derive(Default)]
struct Life {
    states: Vec<Vec<u8>>,
    commands: Vec<Vec<u8>>,
    events: Vec<Vec<u8>>,
}

impl Life {
    fn step(&mut self, live: &mut Box<dyn Live>, command: &GiftCommand, now: Timestamp) {
        let bytes = codec::encode(command);
        let decided = live.decide(&bytes, &At { now, command_id: CommandId::default() }).unwrap();
        let Decided::Events { events, .. } = decided else { panic!("{command:?} was not taken") };
        live.evolve(&events).unwrap();
        self.states.push(live.encode());
        self.commands.push(bytes);
        self.events.push(events);
    }

    fn lived() -> Self {
        let mut life = Self::default();
        let mut live = load(None).unwrap();
        let start =
            |slot| GiftCommand::Attempt(AttemptStart { slot, claim: Claim::default(), not_after: ATTEMPT_NOT_AFTER });
        life.step(&mut live, &GiftCommand::Reserve(Box::new(reservation())), NOW);
        let pay = slot(&*live);
        life.step(&mut live, &start(pay), NOW);
        let captured = PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(4_500), at: NOW };
        life.step(&mut live, &GiftCommand::Outcomes(vec![(pay, CallOutcome::Payment(captured))]), NOW);
        let due = reservation().resolved.instant;
        let send = slot(&*live);
        life.step(&mut live, &start(send), due);
        let taken = MessageOutcome::Accepted { provider: "nhn".into(), receipt: "r".into(), at: due };
        life.step(&mut live, &GiftCommand::Outcomes(vec![(send, CallOutcome::Message(taken))]), due);
        let later = due + Millis::from_mins(5);
        life.step(&mut live, &GiftCommand::Accept { link_hash: [1; 16] }, later);
        let redemption =
            RedemptionKey { store: Store::of("m", "s"), terminal_id: "t".into(), transaction_id: "x".into() };
        life.step(&mut live, &GiftCommand::Redeem { code_hash: [2; 16], redemption }, later);
        life
    }
}

#[test]
fn gift_states() {
    let corpus = Life::lived().states;
    Target { name: "gift_states", place: PLACE, corpus, dictionary: &[], cases: 6_000 }.run(|input, _| {
        if round_trips::<GiftState>(input).is_some() {
            let live = heap::modest(input, || load(Some(input))).unwrap();
            assert_eq!(load(Some(&live.encode())).unwrap().encode(), live.encode());
            assert_eq!(live.fork().encode(), live.encode());
        }
    });
}

#[test]
fn gift_commands() {
    let life = Life::lived();
    let corpus = life.commands.clone();
    Target { name: "gift_commands", place: PLACE, corpus, dictionary: &[], cases: 10_000 }.run(|input, rng| {
        let Some(_command) = round_trips::<GiftCommand>(input) else { return };
        let before = rng.pick(&life.states);
        let mut live = load(Some(before)).unwrap();
        let now = NOW + Millis(rng.below(40 * 86_400_000) as i64);
        let decided = live.decide(input, &At { now, command_id: CommandId([3; 16]) }).unwrap();
        assert_eq!(live.encode(), *before, "deciding changes nothing");
        if let Decided::Events { events, .. } = decided {
            live.evolve(&events).unwrap();
            let after = live.encode();
            assert_eq!(load(Some(&after)).unwrap().encode(), after);
            let state: GiftState = codec::decode(&after).unwrap();
            assert!(state.ledger().is_sound(), "money that does not add up");
            let _wants = live.wants();
            live.describe(&events).unwrap();
        }
    });
}

#[test]
fn gift_events() {
    let life = Life::lived();
    let corpus = life.events.clone();
    Target { name: "gift_events", place: PLACE, corpus, dictionary: &[], cases: 6_000 }.run(|input, rng| {
        let before = rng.pick(&life.states);
        let mut live = load(Some(before)).unwrap();
        let described = heap::modest(input, || live.describe(input));
        assert_eq!(described.is_ok(), live.evolve(input).is_ok(), "events are events for both");
        let after = live.encode();
        assert_eq!(load(Some(&after)).unwrap().encode(), after, "evolve is total");
    });
}
