//! A batch: given commands, when a command, then events; and random lives.

use super::*;
use crate::types::batch::BodyHash;
use crate::types::ids::CommandId;
use crate::types::time::Millis;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const WINDOW_MS: Millis = Millis::from_mins(10);
/// Not-after, the call's deadline and the clocks' uncertainty.
const WAITED_OUT: Millis = Millis(13_000);

fn member(number: u8) -> Member {
    let mut id = [number; 16];
    id[..8].copy_from_slice(&[1; 8]);
    Member { entity: EntityKey { kind: kinds::GIFT, id }, slot: Slot(0x4001) }
}

fn sheet(members: &[u8]) -> Box<Sheet> {
    Box::new(Sheet {
        provider: "nhn".to_owned(),
        key: "k".to_owned(),
        members: members.iter().copied().map(member).collect(),
        body: BodyHash([5; 32]),
        window: WINDOW_MS,
    })
}

fn start() -> BatchCommand {
    BatchCommand::Start { sheet: sheet(&[1, 2]), by: NOW + ATTEMPT_NOT_AFTER }
}

fn key() -> EntityKey {
    batch_key_of(&sheet(&[1, 2]), NOW).unwrap()
}

fn decide(state: &BatchState, command: BatchCommand, now: Timestamp) -> Decided {
    let at = At { now, command_id: CommandId::default() };
    BatchEntity::decide(key(), state, command, &at).map(|decision| decision.events)
}

/// The state after commands that are all taken.
fn after(given: &[(BatchCommand, Timestamp)]) -> BatchState {
    let mut state = BatchState::default();
    for (command, now) in given {
        let events = decide(&state, command.clone(), *now).unwrap();
        events.iter().for_each(|event| BatchEntity::evolve(&mut state, event));
    }
    state
}

fn rows(state: &BatchState) -> Vec<IndexWant> {
    BatchEntity::wants(key(), state).indexes
}

#[test]
fn an_open_batch_holds_its_members_and_waits_for_the_end_of_its_key() {
    let open = after(&[(start(), NOW)]);
    let wants = BatchEntity::wants(key(), &open);
    assert_eq!(wants.timers, [TimerWant { slot: WINDOW, due: NOW + WINDOW_MS }]);
    assert!(wants.indexes.iter().all(|row| row.unique && row.index == kinds::INDEX_BATCH_MEMBER));
    let keys: Vec<Vec<u8>> = wants.indexes.into_iter().map(|row| row.key).collect();
    assert_eq!(keys, [member(1).to_bytes().to_vec(), member(2).to_bytes().to_vec()]);
    let closed = after(&[(start(), NOW), (BatchCommand::Close(Closing::Answered), NOW)]);
    assert_eq!(BatchEntity::wants(key(), &closed), Effects { terminal: true, ..Effects::default() });
}

#[test]
fn a_batch_begins_once_in_time_and_with_members_of_its_own() {
    assert_eq!(decide(&BatchState::default(), start(), NOW + Millis(2_001)), Err(BatchRejection::TooLate));
    for members in [&[][..], &[1], &[1, 1]] {
        let command = BatchCommand::Start { sheet: sheet(members), by: NOW };
        assert_eq!(decide(&BatchState::default(), command, NOW), Err(BatchRejection::BadMembers), "{members:?}");
    }
    let open = after(&[(start(), NOW)]);
    assert_eq!(decide(&open, start(), NOW), Err(BatchRejection::AlreadyStarted));
    let closed = after(&[(start(), NOW), (BatchCommand::Close(Closing::NeverSent), NOW)]);
    assert_eq!(decide(&closed, start(), NOW), Err(BatchRejection::AlreadyStarted));
    assert_ne!(batch_key_of(&sheet(&[1, 2]), NOW), batch_key_of(&sheet(&[1, 2]), NOW + Millis(1)));
    assert_eq!(key().home(), member(1).entity.home());
}

#[test]
fn it_is_made_again_only_when_the_last_try_is_waited_out_and_the_key_holds() {
    let open = after(&[(start(), NOW)]);
    let early = NOW + WAITED_OUT - Millis(1);
    assert_eq!(decide(&open, BatchCommand::Again, early), Err(BatchRejection::TooEarly));
    let first = NOW + WAITED_OUT;
    let tried = after(&[(start(), NOW), (BatchCommand::Again, first)]);
    assert_eq!(decide(&tried, BatchCommand::Again, first + Millis(5_000)), Err(BatchRejection::TooEarly));
    let last = NOW + Millis(WINDOW_MS.0 / 2);
    assert_eq!(decide(&tried, BatchCommand::Again, last + Millis(1)), Err(BatchRejection::KeyTooOld));
    assert!(decide(&tried, BatchCommand::Again, last).is_ok());
}

#[test]
fn with_an_old_key_it_is_made_again_when_nobody_was_found_after_the_last_try() {
    let first = NOW + WAITED_OUT;
    let tried = after(&[(start(), NOW), (BatchCommand::Again, first)]);
    let late = NOW + WINDOW_MS + WINDOW_MS;
    let absent = |since| BatchCommand::AgainAbsent { since };
    let early = absent(first + WAITED_OUT - Millis(1));
    assert_eq!(decide(&tried, early, late - Millis(1)), Err(BatchRejection::TooEarly), "a call may have come since");
    let since = first + WAITED_OUT;
    assert!(decide(&tried, absent(since), late - Millis(1)).is_ok());
    assert_eq!(decide(&tried, absent(since), late), Err(BatchRejection::KeyTooOld), "it is turned away for ever");
    assert_eq!(
        decide(&tried, absent(late), since - Millis(1)),
        Err(BatchRejection::TooEarly),
        "nothing is of the future"
    );
}

#[test]
fn it_is_given_up_only_when_no_call_is_on_its_way() {
    let give_up = BatchCommand::Close(Closing::GivenUp);
    let tried = after(&[(start(), NOW), (BatchCommand::Again, NOW + WAITED_OUT)]);
    let at = NOW + WAITED_OUT + WAITED_OUT + CLOCKS_APART_MAX;
    assert_eq!(decide(&tried, give_up.clone(), at - Millis(1)), Err(BatchRejection::TooEarly));
    assert_eq!(decide(&tried, give_up.clone(), at), Ok(vec![BatchEvent::Closed { at, why: Closing::GivenUp }]));
    let closed = after(&[(start(), NOW), (BatchCommand::Close(Closing::Taken), NOW)]);
    assert_eq!(decide(&closed, give_up, NOW), Ok(Vec::new()), "already so");
    assert_eq!(decide(&closed, BatchCommand::Again, at), Err(BatchRejection::NotOpen));
    let nothing = BatchState::default();
    assert_eq!(decide(&nothing, BatchCommand::Close(Closing::Taken), NOW), Err(BatchRejection::NotOpen));
}

#[test]
fn it_ends_with_its_key() {
    let open = after(&[(start(), NOW)]);
    let timer = BatchEntity::timer_command(WINDOW);
    assert_eq!(decide(&open, timer.clone(), NOW + WINDOW_MS - Millis(1)), Err(BatchRejection::TooEarly));
    let at = NOW + WINDOW_MS;
    let closed = vec![BatchEvent::Closed { at, why: Closing::WindowOver }];
    assert_eq!(decide(&open, timer.clone(), at), Ok(closed));
    let tried = after(&[(start(), NOW), (BatchCommand::Again, NOW + WAITED_OUT)]);
    assert_eq!(decide(&tried, timer, at), Err(BatchRejection::TooEarly), "the last try may be late, too");
    let due = NOW + WAITED_OUT + WINDOW_MS;
    assert_eq!(BatchEntity::wants(key(), &tried).timers, [TimerWant { slot: WINDOW, due }]);
}

#[test]
fn its_bytes_are_what_is_on_disk() {
    let events = vec![
        BatchEvent::Started { at: Timestamp(1), sheet: sheet(&[1]) },
        BatchEvent::TriedAgain { at: Timestamp(2) },
        BatchEvent::Closed { at: Timestamp(3), why: Closing::GivenUp },
    ];
    let bytes = codec::encode(&events);
    assert_eq!(codec::decode::<Vec<BatchEvent>>(&bytes).unwrap(), events);
    assert_eq!(hex::encode(&bytes), GOLDEN);
    assert_eq!(publications(&bytes), Ok(Vec::new()));
    assert!(publications(b"\xff").is_err());
}
const GOLDEN: &str = "030002036e686e016b010101010101010101010101010101010101fb01400505050505050505050505050505050505050505050505050505\
                      050505050505fc804f12000104020603";

fn any_command() -> impl Strategy<Value = BatchCommand> {
    let why = prop_oneof![
        Just(Closing::Answered),
        Just(Closing::Taken),
        Just(Closing::NeverSent),
        Just(Closing::GivenUp),
        Just(Closing::WindowOver),
    ];
    prop_oneof![
        2 => Just(start()),
        4 => Just(BatchCommand::Again),
        1 => why.prop_map(BatchCommand::Close),
        1 => Just(BatchCommand::WindowOver),
        2 => (0i64..1_500_000).prop_map(|span| BatchCommand::AgainAbsent { since: NOW + Millis(span) }),
        1 => Just(BatchCommand::Unwanted),
    ]
}

proptest! {
    #[test]
    fn calls_never_overlap_and_a_replay_is_the_same(
        steps in prop::collection::vec((any_command(), 0i64..20_000), 1..60),
    ) {
        let (mut state, mut now, mut journal) = (BatchState::default(), NOW, Vec::new());
        let mut last_try: Option<Timestamp> = None;
        for (command, span) in steps {
            now = now + Millis(span);
            for event in decide(&state, command, now).unwrap_or_default() {
                if let BatchEvent::Started { at, .. } | BatchEvent::TriedAgain { at } = &event {
                    prop_assert!(last_try.is_none_or(|before| *at >= before + WAITED_OUT), "two calls at a time");
                    prop_assert!(*at < NOW + ATTEMPT_NOT_AFTER + WINDOW_MS + WINDOW_MS);
                    last_try = Some(*at);
                }
                BatchEntity::evolve(&mut state, &event);
                journal.push(event);
            }
            let wants = BatchEntity::wants(key(), &state);
            let holds = state.open().is_some();
            prop_assert_eq!(rows(&state).len(), if holds { 2 } else { 0 });
            prop_assert!(wants.terminal || holds != wants.timers.is_empty(), "INV-9");
        }
        let mut replayed = BatchState::default();
        journal.iter().for_each(|event| BatchEntity::evolve(&mut replayed, event));
        prop_assert_eq!(&replayed, &state);
        prop_assert_eq!(codec::decode::<BatchState>(&codec::encode(&state)).unwrap(), state);
    }
}
