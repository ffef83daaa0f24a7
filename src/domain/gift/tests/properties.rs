//! Random lives: whatever people, providers, crashes and late truths do, the invariants hold, the books agree, and
//! every gift comes to its end.

use super::model::{Mood, World};
use super::model_beside::Paying;
use super::*;
use proptest::prelude::*;

/// One random step: which, and with what.
type Step = (u8, u8);

fn command(arg: u8) -> GiftCommand {
    let link_hash = if arg & 0x80 == 0 { LINK } else { NEW_LINK };
    let code_hash = if arg & 0x80 == 0 { CODE } else { NEW_CODE };
    let letter = if arg & 0x40 == 0 { Letter::Gift } else { Letter::Notice(u16::from(arg & 0x07)) };
    let redemption = till(&format!("x-{}", arg >> 4 & 1));
    match arg % 13 {
        0 => GiftCommand::Cancel,
        1 => GiftCommand::Opened { link_hash },
        2 | 3 => GiftCommand::Accept { link_hash },
        4 => GiftCommand::Decline { link_hash },
        5 if arg & 0x20 != 0 => GiftCommand::HandOn(Box::new(Transfer { link_hash, ..hand_on() })),
        5 => GiftCommand::Transfer(Box::new(Transfer { link_hash, ..hand_on() })),
        6 | 7 => GiftCommand::Redeem { code_hash, redemption },
        8 => GiftCommand::CancelRedeem { code_hash, redemption },
        9 => GiftCommand::Replay { actor: "op".into(), letter, new_generation: arg & 0x20 != 0 },
        10 => GiftCommand::Discard { actor: "op".into(), letter, reason: "r".into() },
        11 => GiftCommand::Change(Box::new(Change {
            channels: Some(vec![Channel::Sms, Channel::Kakao]),
            ..Change::default()
        })),
        _ => GiftCommand::Timer(Slot(u16::from(arg >> 4))),
    }
}

fn status(arg: u8) -> ReportStatus {
    match arg % 5 {
        0 | 1 => ReportStatus::Delivered,
        2 => ReportStatus::SentUnconfirmed,
        3 => failed("3018", RefusalClass::NextChannel),
        _ => failed("3040", RefusalClass::Retry),
    }
}

fn mood(arg: u8) -> Mood {
    Mood::ALL[usize::from(arg) % Mood::ALL.len()]
}

fn step(world: &mut World, (kind, arg): Step) {
    match kind % 16 {
        0..=2 => {
            world.advance_to_next();
        }
        3 => world.advance(Millis::from_secs(i64::from(arg))),
        4 => {
            world.fire();
        }
        5 | 6 => {
            world.start(mood(arg));
        }
        7..=9 => {
            world.answer(mood(arg));
        }
        10 if arg % 4 == 0 => world.meddle(arg >> 2),
        10 => {
            world.notify(mood(arg));
        }
        11 if arg & 3 != 0 => {
            world.ask_others(mood(arg >> 2));
        }
        12 if arg & 3 == 0 => world.deliver_again(usize::from(arg >> 2)),
        11 | 12 => world.report(usize::from(arg >> 4), status(arg)),
        _ => world.ask(command(arg)),
    }
}

fn live(steps: &[Step]) -> World {
    live_paying(Paying::CARD, steps)
}

fn live_paying(paying: Paying, steps: &[Step]) -> World {
    let mut world = World::new(paying);
    // Half of the lives begin where most of them pass.
    if steps.len().is_multiple_of(2) {
        world.ask_others(Mood::Willing);
        world.start(Mood::Willing);
        world.answer(Mood::Willing);
        world.ask_others(Mood::Willing);
        world.advance_to_next();
        world.notify(Mood::Willing);
    }
    for one in steps {
        step(&mut world, *one);
    }
    world
}

fn replay(records: &[Vec<GiftEvent>]) -> GiftState {
    let mut state = GiftState::default();
    for event in records.iter().flatten() {
        Gift::evolve(&mut state, event);
    }
    state
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<Step>(), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_lives_keep_every_invariant_and_end(paying in 0..Paying::ALL.len(), steps in steps()) {
        let mut world = live_paying(Paying::ALL[paying], &steps);
        world.drain();
        if !world.by_hand {
            world.assert_end_beside();
        }
        // INV-4 against the provider's books, once nothing is in doubt any more.
        let ledger = world.play.state.ledger();
        let by_card = world.paying.method == PaymentMethod::Card;
        prop_assert_eq!(if by_card { ledger.paid().minor } else { 0 }, world.till.captured);
        if !world.by_hand && by_card {
            prop_assert_eq!(ledger.refunded().minor, world.till.refunded);
        }
        let listed = super::transitions::listed();
        for transition in &world.play.transitions {
            prop_assert!(super::transitions::is_listed(&listed, *transition), "{:?}", transition);
        }
    }

    #[test]
    fn replay_equals_live_and_snapshot_with_tail_equals_replay(
        paying in 0..Paying::ALL.len(), steps in steps(), cut in any::<proptest::sample::Index>(),
    ) {
        let world = live_paying(Paying::ALL[paying], &steps);
        let records = &world.play.records;
        prop_assert_eq!(&replay(records), &world.play.state);
        let cut = cut.index(records.len() + 1);
        let snapshot = codec::encode(&replay(&records[..cut]));
        let mut state: GiftState = codec::decode(&snapshot).unwrap();
        for record in &records[cut..] {
            let events: Vec<GiftEvent> = codec::decode(&codec::encode(record)).unwrap();
            events.iter().for_each(|event| Gift::evolve(&mut state, event));
        }
        prop_assert_eq!(&state, &world.play.state);
    }

    #[test]
    fn evolve_is_total_over_events_in_any_order(first in steps(), second in steps(), seed in any::<u64>()) {
        let mut events: Vec<GiftEvent> =
            [live(&first), live_paying(Paying::ALL[4], &second)].iter().flat_map(|world| world.play.records.concat()).collect();
        let mut random = seed;
        let mut state = Play::scheduled().state;
        while !events.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let event = events.swap_remove(usize::try_from(random >> 33).unwrap() % events.len());
            Gift::evolve(&mut state, &event);
            Gift::describe(&event);
        }
        prop_assert!(state.ledger().is_sound());
    }

    #[test]
    fn dormant_gift_is_small(message in 0usize..400) {
        let mut play = Play::scheduled();
        play = super::notices::settle_all(play);
        let rest = codec::encode(&play.state).len() - sealed().ciphertext.len();
        // Names, phone, token, code, key and words, sealed.
        let typical = 150 + message;
        prop_assert!(rest + 150 < 700, "{rest} without the sealed part");
        prop_assert!(rest + typical < STATE_BYTES_MAX);
    }
}
