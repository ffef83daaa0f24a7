//! Commands that find no place in the pipeline: they wait, share records, and each hears what became of it.

use super::*;
use crate::types::limits::{DROP_PAUSES_MS, ENTITY_COMMANDS_WAITING_MAX, ENTITY_PIPELINE_MAX};

#[test]
fn commands_that_wait_share_a_record_and_each_is_answered_as_decided() {
    let mut world = World::new();
    for _ in 0..ENTITY_PIPELINE_MAX {
        world.command(&CounterCommand::Move, 0);
    }
    // One moved; the others found it so, and are answered behind it.
    assert_eq!((world.log.len(), world.promised.len()), (1, ENTITY_PIPELINE_MAX));
    world.take(Turn::ApplyOldest);
    assert!(world.promised.is_empty());
    for _ in 0..100 {
        world.take(Turn::Add(0));
        world.take(Turn::Add(1));
    }
    let alone = world.log.len();
    assert!(alone < ENTITY_PIPELINE_MAX, "the entity's own work keeps its places");
    let refused = 200 - world.promised.len();
    assert_eq!(refused, 1, "only the first refusal stood behind nothing");
    world.take(Turn::ApplyOldest);
    let shared: Vec<CounterEvent> = codec::decode(&world.log.back().unwrap().events).unwrap();
    assert!(shared.len() > 10, "{} events in one record", shared.len());
    while !world.log.is_empty() {
        world.take(Turn::ApplyOldest);
    }
    assert_eq!((world.promised.len(), world.state.total, world.added), (0, 100, 100));
}

#[test]
fn a_void_record_takes_all_that_share_it_and_what_waits_is_decided_anew() {
    let mut world = World::new();
    for _ in 0..60 {
        world.take(Turn::Add(1));
    }
    let decided = u32::try_from(world.log.len()).unwrap();
    world.take(Turn::VoidAll);
    world.take(Turn::Pass(DROP_PAUSES_MS[0]));
    while !world.log.is_empty() {
        world.take(Turn::ApplyOldest);
    }
    assert!(world.promised.is_empty(), "every caller heard what became of it");
    assert_eq!((world.state.total, world.added), (60 - decided, 60 - decided));
    for _ in 0..60 {
        world.take(Turn::Add(1));
    }
    world.take(Turn::ApplyOldest);
    let before = world.added;
    // The newest record is a shared one.
    world.take(Turn::RefuseNewest);
    for _ in 0..2 {
        while !world.log.is_empty() {
            world.take(Turn::ApplyOldest);
        }
        world.take(Turn::Pass(DROP_PAUSES_MS[0]));
    }
    assert!(world.promised.is_empty() && world.log.is_empty());
    assert!(world.added > before && world.added < before + 59, "some were taken, those of the shared record not");
}

#[test]
fn more_commands_than_may_wait_are_refused_at_once() {
    let mut world = World::new();
    let room = ENTITY_PIPELINE_MAX + ENTITY_COMMANDS_WAITING_MAX;
    for _ in 0..room + 10 {
        world.command(&CounterCommand::Add(1), 1);
    }
    assert!(world.promised.len() <= room);
    assert_eq!(world.added, 0, "refused, not acknowledged");
    while !world.log.is_empty() {
        world.take(Turn::ApplyOldest);
    }
    assert!(world.promised.is_empty());
}

#[test]
fn each_command_of_a_shared_record_is_decided_on_what_those_before_it_lead_to() {
    let mut world = World::new();
    while world.log.len() < ENTITY_PIPELINE_MAX - 4 {
        world.take(Turn::Add(1));
    }
    for _ in 0..5 {
        world.take(Turn::Move);
    }
    world.take(Turn::ApplyOldest);
    let shared: Vec<CounterEvent> = codec::decode(&world.log.back().unwrap().events).unwrap();
    assert!(matches!(shared[..], [CounterEvent::Moved]), "{} events", shared.len());
}
