//! What one step of a gift costs: decide, evolve and wants, typed and through the bytes that the runtime carries.

use bojagi::domain::calendar::SendAt;
use bojagi::domain::entity::{Entity, Typed};
use bojagi::domain::gift::{
    ContactSet, Gift, GiftCommand, GiftState, PaymentTerms, ProductSnapshot, RecipientFacts, Reservation,
};
use bojagi::domain::kinds;
use bojagi::domain::policy::{PaymentMethod, Policy, RefundWindows};
use bojagi::types::call::{CallOutcome, MessageOutcome, PaymentOutcome};
use bojagi::types::codec;
use bojagi::types::effect::{Channel, Slot};
use bojagi::types::ids::{Claim, CommandId, EntityKey};
use bojagi::types::kind::{At, AttemptStart, Decided, Kind};
use bojagi::types::limits::ATTEMPT_NOT_AFTER;
use bojagi::types::money::Money;
use bojagi::types::record::Sealed;
use bojagi::types::time::{Millis, Timestamp};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const KEY: EntityKey = EntityKey { kind: kinds::GIFT, id: [0x5f; 16] };
/// 2026-12-20T00:00:00Z.
const NOW: Timestamp = Timestamp(1_797_724_800_000);

fn reservation() -> Reservation {
    let send_at = SendAt::local("2026-12-25T00:00", "Asia/Seoul").expect("a local time");
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
        sealed: Sealed { nonce: [7; 12], ciphertext: vec![9; 180] },
        link_hash: [1; 16],
        code_hash: [2; 16],
        resolved: send_at.resolve().expect("resolves"),
        send_at,
        channels: vec![Channel::Kakao, Channel::Sms],
        payment: PaymentTerms {
            method: PaymentMethod::Card,
            amount: Money::krw(4_500),
            refund_by: PaymentMethod::Card.refund_by(NOW, &RefundWindows::default()),
        },
    }
}

fn apply(state: &mut GiftState, command: GiftCommand, now: Timestamp) {
    let at = At { now, command_id: CommandId::default() };
    let decision = Gift::decide(KEY, state, command, &at).expect("accepted");
    decision.events.iter().for_each(|event| Gift::evolve(state, event));
}

fn fenced_slot(state: &GiftState) -> Slot {
    Gift::wants(KEY, state).calls.first().expect("a call is wanted").slot
}

fn start(slot: Slot) -> GiftCommand {
    GiftCommand::Attempt(AttemptStart { slot, claim: Claim::default(), not_after: ATTEMPT_NOT_AFTER })
}

/// A gift that is due, and its send slot.
fn scheduled() -> (GiftState, Slot, Timestamp) {
    let mut state = GiftState::default();
    apply(&mut state, GiftCommand::Reserve(Box::new(reservation())), NOW);
    let slot = fenced_slot(&state);
    apply(&mut state, start(slot), NOW);
    let captured = PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(4_500), at: NOW };
    apply(&mut state, GiftCommand::Outcomes(vec![(slot, CallOutcome::Payment(captured))]), NOW);
    let due = state.send_at().instant;
    let slot = fenced_slot(&state);
    (state, slot, due)
}

/// One whole life, from the reservation to the redemption.
fn life() -> GiftState {
    let (mut state, slot, due) = scheduled();
    apply(&mut state, start(slot), due);
    let taken = MessageOutcome::Accepted { provider: "nhn".into(), receipt: "r".into(), at: due };
    apply(&mut state, GiftCommand::Outcomes(vec![(slot, CallOutcome::Message(taken))]), due);
    apply(&mut state, GiftCommand::Accept { link_hash: [1; 16] }, due + Millis::from_mins(5));
    state
}

fn typed(c: &mut Criterion) {
    let (state, slot, due) = scheduled();
    let at = At { now: due, command_id: CommandId::default() };
    c.bench_function("decide/send_attempt", |b| {
        b.iter(|| Gift::decide(KEY, black_box(&state), start(slot), &at).expect("accepted"));
    });
    c.bench_function("wants/scheduled", |b| b.iter(|| Gift::wants(KEY, black_box(&state))));
    c.bench_function("decide/reserve", |b| {
        let at = At { now: NOW, command_id: CommandId::default() };
        let command = GiftCommand::Reserve(Box::new(reservation()));
        let none = GiftState::default();
        b.iter_batched(
            || command.clone(),
            |command| Gift::decide(KEY, &none, command, &at).expect("accepted"),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("life/reserve_to_accept", |b| b.iter(life));
}

/// What apply does on every replica with one record: load, wants, evolve, wants, encode.
fn bytes(c: &mut Criterion) {
    let (state, slot, due) = scheduled();
    let kind = Typed::<Gift>::default();
    let state = codec::encode(&state);
    let live = kind.load(KEY, Some(&state)).expect("decodes");
    let command = codec::encode(&start(slot));
    let at = At { now: due, command_id: CommandId::default() };
    let Ok(Decided::Events { events, .. }) = live.decide(&command, &at) else {
        return;
    };
    c.bench_function("live/decide_bytes", |b| b.iter(|| live.decide(black_box(&command), &at)));
    c.bench_function("live/apply_record", |b| {
        b.iter(|| {
            let mut live = kind.load(KEY, Some(black_box(&state))).expect("decodes");
            let before = live.wants();
            live.evolve(&events).expect("decodes");
            (before, live.wants(), live.encode())
        });
    });
}

fn calendar(c: &mut Criterion) {
    let send_at = SendAt::local("2026-12-25T00:00", "America/New_York").expect("a local time");
    c.bench_function("calendar/resolve", |b| b.iter(|| black_box(&send_at).resolve()));
}

criterion_group!(benches, typed, bytes, calendar);
criterion_main!(benches);
