//! Records that the shard dropped: decided again after a pause, in which commands wait and nothing spins.

use super::*;
use crate::actors::door::AskError;
use crate::types::limits::DROP_PAUSES_MS;

fn step(driver: &mut Driver, input: Input, at: u64) -> Vec<Output> {
    let mut out = Vec::new();
    driver.step(input, both(at), &mut out);
    out
}

/// Its timer is due.
fn due() -> (Driver, Vec<u8>) {
    let state = codec::encode(&Counter { total: 5, ..Counter::default() });
    let kind: Arc<dyn Kind> = Arc::new(Typed::<Toy>::default());
    (Driver::new(key(), kind, Life::default(), Version(1), Some(&state)).unwrap(), state)
}

fn void(version_before: u64, reason: VoidReason) -> Input {
    Input::Fate(Version(version_before), RecordFate::Void(reason))
}

fn add() -> Input {
    Input::Command(Command {
        waiter: WaiterId(1),
        bytes: codec::encode(&CounterCommand::Add(1)),
        command_id: CommandId::default(),
        idempotency: None,
        if_version: None,
        new_key: None,
    })
}

#[test]
fn what_was_dropped_is_decided_again_after_a_pause_that_grows_to_its_bound() {
    assert!(DROP_PAUSES_MS.windows(2).all(|pair| pair[1] == 2 * pair[0]));
    let (mut driver, state) = due();
    let mut at = 100_000;
    let out = step(&mut driver, Input::Wake, at);
    assert!(matches!(out[..], [Output::Propose(_)]), "{out:?}");
    for pause_ms in DROP_PAUSES_MS.into_iter().chain([DROP_PAUSES_MS[3]; 2]) {
        assert!(step(&mut driver, void(1, VoidReason::Dropped), at).is_empty(), "not at once");
        assert_eq!((driver.own_wake(), driver.next_wake(both(at))), (Some(BootMillis(at + pause_ms)), None));
        assert!(step(&mut driver, Input::Wake, at + pause_ms - 1).is_empty() && !driver.is_quiet());
        at += pause_ms;
        let out = step(&mut driver, Input::Wake, at);
        assert!(matches!(out[..], [Output::Reload]), "{out:?}");
        assert_eq!((driver.own_wake(), driver.next_wake(both(at))), (None, None), "woken by what was read");
        let read = Input::Reloaded { version: Version(1), state: Some(state.clone()) };
        let out = step(&mut driver, read, at);
        assert!(matches!(out[..], [Output::Propose(_)]), "what is due is late by the pause and no more: {out:?}");
    }
    step(&mut driver, Input::Fate(Version(1), RecordFate::Applied(Version(2))), at);
    step(&mut driver, add(), at);
    step(&mut driver, void(2, VoidReason::Dropped), at);
    assert_eq!(driver.own_wake(), Some(BootMillis(at + DROP_PAUSES_MS[0])), "one was taken in between");
}

#[test]
fn what_is_void_by_the_log_is_decided_again_at_once() {
    for reason in [VoidReason::StaleClaim, VoidReason::VersionMoved, VoidReason::NotUnique] {
        let (mut driver, _) = due();
        step(&mut driver, Input::Wake, 1_000);
        let out = step(&mut driver, void(1, reason), 1_000);
        assert!(matches!(out[..], [Output::Reload]), "{reason:?}: {out:?}");
    }
}

#[test]
fn the_pause_runs_while_the_fates_of_what_was_decided_behind_it_are_awaited() {
    let (mut driver, state) = due();
    step(&mut driver, Input::Wake, 1_000);
    step(&mut driver, add(), 1_000);
    assert!(step(&mut driver, void(1, VoidReason::Dropped), 1_000).is_empty());
    assert_eq!(driver.own_wake(), None, "a wake leads to nothing before the other's fate is known");
    let over = 1_000 + DROP_PAUSES_MS[0];
    assert!(step(&mut driver, Input::Wake, over).is_empty());
    let out = step(&mut driver, void(2, VoidReason::Dropped), over);
    assert!(matches!(out[..], [Output::Answer(_, Err(AskError::Unavailable)), Output::Reload]), "{out:?}");
    step(&mut driver, Input::Reloaded { version: Version(1), state: Some(state) }, over);
    step(&mut driver, void(1, VoidReason::Dropped), over);
    assert_eq!(driver.own_wake(), Some(BootMillis(over + DROP_PAUSES_MS[1])), "both were one drop");
}

#[test]
fn commands_wait_out_the_pause_and_are_decided_on_what_is_committed() {
    let mut world = World::new();
    world.take(Turn::Add(1));
    world.take(Turn::VoidAll);
    assert!(world.promised.is_empty(), "whose record was dropped hears so at once");
    world.take(Turn::Add(2));
    world.take(Turn::Add(3));
    assert_eq!((world.log.len(), world.driver.undecided().count()), (0, 2));
    world.take(Turn::Pass(DROP_PAUSES_MS[0]));
    assert_eq!((world.log.len(), world.driver.undecided().count()), (1, 0), "they waited together");
    world.take(Turn::ApplyOldest);
    assert_eq!((world.promised.len(), world.added), (0, 5));
}
