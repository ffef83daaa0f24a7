//! Schedules: the same seed draws the same, and whatever is begun is ended.

use super::*;
use clap::ValueEnum;
use std::collections::{BTreeMap, BTreeSet};

const STAGE: Stage = Stage {
    nodes: 5,
    heal_after_ms: 8_000,
    after_percent: (10, 40),
    first_due_ms: -20_000,
    due_for_ms: 200_000,
    every_ms: 7_000,
};

fn drawn(nemesis: Nemesis, seed: u64) -> Schedule {
    draw(&[nemesis], &STAGE, seed, 1)
}

fn order() -> Vec<u16> {
    vec![3, 1, 5, 2, 4]
}

#[test]
fn the_same_seed_draws_the_same_and_another_one_another() {
    for nemesis in Nemesis::value_variants() {
        assert_eq!(drawn(*nemesis, 7), drawn(*nemesis, 7), "{nemesis:?}");
        if *nemesis != Nemesis::None {
            let others: BTreeSet<String> = (0..20).map(|seed| format!("{:?}", drawn(*nemesis, seed))).collect();
            assert!(others.len() > 1, "{nemesis:?}");
        }
    }
    let rounds: BTreeSet<String> =
        (1..20).map(|round| format!("{:?}", draw(&[Nemesis::KillRandom], &STAGE, 1, round))).collect();
    assert!(rounds.len() > 10, "rounds of one run differ");
}

/// What is still wrong after all steps of a track.
fn left_wrong(track: &[Step]) -> BTreeMap<String, Deed> {
    let mut wrong = BTreeMap::new();
    for Step { deed, .. } in track {
        let (about, begins) = match deed {
            Deed::Kill(place) | Deed::Stop(place) => (format!("{place:?} down"), true),
            Deed::Start(place) => (format!("{place:?} down"), false),
            Deed::Pause(place) => (format!("{place:?} paused"), true),
            Deed::Resume(place) => (format!("{place:?} paused"), false),
            Deed::Order { name, .. } => (name.clone(), true),
            Deed::Lift { name } => (name.clone(), false),
            Deed::Clock { place, off_ms } => (format!("{place:?} clock"), *off_ms != 0),
            Deed::Disk { place, ill } => (format!("{place:?} disk"), ill.is_some()),
            Deed::Provider(_) => ("provider".to_owned(), true),
            Deed::ProviderWell => ("provider".to_owned(), false),
            Deed::RedisKill => ("redis".to_owned(), true),
            Deed::RedisStart => ("redis".to_owned(), false),
            Deed::Drain(place) => (format!("{place:?} drained"), true),
            Deed::Undrain(place) => (format!("{place:?} drained"), false),
            // It starts each that it killed.
            Deed::KillAgain { .. } | Deed::Join | Deed::Backup | Deed::AwaitWhole | Deed::AwaitClocks => continue,
        };
        if begins {
            wrong.insert(about, deed.clone())
        } else {
            wrong.remove(&about)
        };
    }
    wrong
}

#[test]
fn whatever_is_begun_is_ended_and_steps_are_in_order() {
    for nemesis in Nemesis::value_variants() {
        for seed in 0..200 {
            for nodes in [1, 3, 5, 9] {
                let schedule = draw(&[*nemesis], &Stage { nodes, ..STAGE }, seed, 1);
                let track = &schedule.tracks[0];
                assert!(left_wrong(track).is_empty(), "{nemesis:?} seed {seed}: {:?}", left_wrong(track));
                assert!(track.is_sorted_by_key(|step| step.at_ms), "{nemesis:?} seed {seed}: {track:?}");
                assert_eq!(*nemesis == Nemesis::None, track.is_empty());
            }
        }
    }
}

#[test]
fn a_kill_at_the_peak_comes_within_a_second_of_it_and_clocks_move_before_it() {
    for seed in 0..200 {
        let offset = |nemesis| match drawn(nemesis, seed).trigger {
            Trigger::Peak { offset_ms } => offset_ms,
            Trigger::Delivered { percent } => panic!("begins at {percent} % delivered"),
        };
        assert!((-1_000..=1_000).contains(&offset(Nemesis::KillAtPeak)));
        assert!((-8_000..=-4_000).contains(&offset(Nemesis::ClockAhead)));
        assert!((-8_000..=-4_000).contains(&offset(Nemesis::ClockJumps)));
        let Trigger::Delivered { percent } = drawn(Nemesis::KillBusiest, seed).trigger else { panic!("at the peak") };
        assert!((10..=40).contains(&percent));
    }
}

#[test]
fn ranks_are_those_of_the_moment() {
    let two = drawn(Nemesis::KillTwo, 1);
    assert_eq!(two.victims(&order(), true), [3, 1]);
    assert_eq!(drawn(Nemesis::KillMajority, 1).victims(&order(), true), [3, 1, 5]);
    assert_eq!(drawn(Nemesis::KillAll, 1).victims(&order(), true).len(), 5);
    let recovery = drawn(Nemesis::KillDuringRecovery, 1);
    assert_eq!((recovery.victims(&order(), true), recovery.victims(&order(), false)), (vec![3], vec![3, 1]));
    assert_eq!(drawn(Nemesis::Join, 1).victims(&order(), false), Vec::<u16>::new());
}

#[test]
fn the_second_kill_comes_while_the_first_node_catches_up() {
    for seed in 0..100 {
        let track = drawn(Nemesis::KillDuringRecovery, seed).tracks.remove(0);
        let at = |deed: &Deed| track.iter().find(|step| step.deed == *deed).unwrap().at_ms;
        let first_back = at(&Deed::Start(Place::Ranked(0)));
        assert!((300..=1_500).contains(&(at(&Deed::Kill(Place::Ranked(1))) - first_back)));
    }
}

#[test]
fn kills_go_on_through_the_round_and_hit_the_busiest_node_the_most() {
    for seed in 0..50 {
        let schedule = drawn(Nemesis::KillAgain, seed);
        let Trigger::Peak { offset_ms } = schedule.trigger else { panic!("begins with the first gifts") };
        assert!((-19_000..=-17_000).contains(&offset_ms), "{offset_ms}");
        let [Step { at_ms: 0, deed: Deed::KillAgain { places, every_ms: 7_000, down_ms: 8_000 } }] =
            &schedule.tracks[0][..]
        else {
            panic!("{schedule:?}")
        };
        let busiest = places.iter().filter(|place| **place == Place::Ranked(0)).count();
        assert_eq!(places.len(), 29);
        assert!((12..29).contains(&busiest), "{busiest} of 29");
    }
}

#[test]
fn two_nemeses_take_other_nodes() {
    let pair = draw(&[Nemesis::KillBusiest, Nemesis::DiskSlow], &STAGE, 1, 1);
    assert_eq!(pair.tracks.len(), 2);
    assert_eq!(pair.victims(&order(), true), [3, 1]);
    let mixed = draw(&[Nemesis::ProviderTimeouts, Nemesis::KillAtPeak], &STAGE, 1, 1);
    assert!(matches!(mixed.trigger, Trigger::Peak { .. }), "the peak goes first");
}

#[test]
fn sides_are_the_links_that_they_say() {
    let order = [2, 1, 3];
    let pairs = |side: Side| -> BTreeSet<(u16, u16)> {
        side.directions(&order).iter().map(|direction| (direction.from, direction.to)).collect()
    };
    assert_eq!(pairs(Side::Out(Place::Ranked(0))), [(2, 1), (2, 3)].into());
    assert_eq!(pairs(Side::In(Place::Ranked(0))), [(1, 2), (3, 2)].into());
    assert_eq!(pairs(Side::Around(Place::Ranked(0))), [(2, 1), (2, 3), (1, 2), (3, 2)].into());
    assert_eq!(pairs(Side::Between(Place::Node(1), Place::Node(3))), [(1, 3), (3, 1)].into());
    assert_eq!(pairs(Side::Against(vec![Place::Node(3), Place::Node(1)])), [(1, 2), (2, 1), (3, 2), (2, 3)].into());
}

#[test]
fn a_split_leaves_a_majority_together() {
    for seed in 0..50 {
        for nodes in [3, 5, 9] {
            let schedule = draw(&[Nemesis::Split], &Stage { nodes, ..STAGE }, seed, 1);
            let all: Vec<u16> = (1..=nodes).collect();
            assert!(schedule.victims(&all, true).len() * 2 < usize::from(nodes));
        }
    }
}
