//! Random lives: whatever people, providers, the network and crashes do, the order is done completely or undone
//! completely, and the money adds up.

use super::model::{Mood, World};
use super::*;
use proptest::prelude::*;

/// One random step: which, and with what.
type Move = (u8, u8);

fn mood(arg: u8) -> Mood {
    Mood::ALL[usize::from(arg) % Mood::ALL.len()]
}

fn step(world: &mut World, (kind, arg): Move) {
    match kind % 16 {
        0..=6 => {
            world.advance_to_next();
            world.call(mood(arg));
        }
        7..=8 => {
            world.call(Mood::Willing);
        }
        9 => world.crash(mood(arg)),
        10 => {
            let span = [1, 5, 60, 400, 4_000, 90_000][usize::from(arg) % 6];
            world.advance(Millis::from_secs(span));
            world.fire();
        }
        11 if arg % 8 == 0 => world.restock(),
        11 if arg % 8 == 1 => world.other_payer(arg & 16 == 0),
        11 => world.fire(),
        12 | 13 if !world.on_the_way.is_empty() => {
            let request = world.on_the_way[usize::from(arg) % world.on_the_way.len()].clone();
            world.deliver(&request);
        }
        14 if arg % 3 == 0 => {
            let _refused = world.ask(OrderCommand::Cancel);
        }
        15 if arg % 4 == 0 => {
            let _not_stuck = world.ask(OrderCommand::Replay { actor: "op".into() });
        }
        _ => {
            let _nothing_unknown = world.ask(OrderCommand::Hint);
        }
    }
}

/// What the coupon takes off 12,000 won: nothing, a part, all.
const OFF: [Option<i64>; 3] = [None, Some(3_001), Some(12_000)];

fn live(balance: bool, stock: u8, steps: &[Move]) -> World {
    let method = if balance { Method::Balance } else { Method::Card };
    let mut world = World::paying(method, OFF[usize::from(stock) % OFF.len()]);
    if stock < 40 {
        world.put_stock(usize::from(stock & 1), u32::from(stock % 5));
    }
    for one in steps {
        step(&mut world, *one);
    }
    world
}

fn replay(records: &[Vec<OrderEvent>]) -> OrderState {
    let mut state = OrderState::default();
    records.iter().flatten().for_each(|event| Order::evolve(&mut state, event));
    state
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    proptest::collection::vec(any::<Move>(), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn random_lives_end_complete_or_completely_undone(balance: bool, stock: u8, steps in moves()) {
        let mut world = live(balance, stock, &steps);
        world.drain();
        world.assert_end();
    }

    #[test]
    fn replay_equals_live_and_snapshot_with_tail_equals_replay(
        balance: bool, stock: u8, steps in moves(), cut in any::<proptest::sample::Index>()
    ) {
        let world = live(balance, stock, &steps);
        prop_assert_eq!(&replay(&world.records), &world.state);
        let cut = cut.index(world.records.len() + 1);
        let mut state: OrderState = codec::decode(&codec::encode(&replay(&world.records[..cut]))).unwrap();
        for record in &world.records[cut..] {
            let events: Vec<OrderEvent> = codec::decode(&codec::encode(record)).unwrap();
            events.iter().for_each(|event| Order::evolve(&mut state, event));
        }
        prop_assert_eq!(&state, &world.state);
    }

    #[test]
    fn evolve_is_total_over_events_in_any_order(first in moves(), second in moves(), seed: u64) {
        let worlds = [live(false, 3, &first), live(true, 255, &second)];
        let mut events: Vec<OrderEvent> = worlds.iter().flat_map(|world| world.records.concat()).collect();
        let (mut random, mut state) = (seed, World::new(Method::Card).state);
        while !events.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let event = events.swap_remove(usize::try_from(random >> 33).unwrap() % events.len());
            Order::evolve(&mut state, &event);
            Order::describe(&event);
            let _any = (Order::wants(model::KEY, &state), state.status(), state.letter());
        }
    }
}
