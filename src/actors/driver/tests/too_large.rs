//! Steps that no record holds end at once: callers are refused, and the entity's own leave nothing that spins.

use super::*;
use crate::actors::door::AskError;
use crate::types::limits::{ENTITY_PIPELINE_MAX, RECORD_EVENTS_BYTES_MAX};
use crate::types::time::Millis;

/// Bytes of an event that leave room for its own length, and its list's.
const FITS: u32 = RECORD_EVENTS_BYTES_MAX as u32 - 16;
const CALLS: [Slot; 2] = [Slot(1), Slot(2)];

/// Notes as many bytes as it is told, on command, by its timer, and for the outcome of each call.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Swollen {
    /// Of each step of its own; none: it wants nothing.
    own: u32,
    noted: u32,
}

#[derive(Serialize, Deserialize)]
enum Note {
    Bytes(u32),
    Own(u32),
    Timer,
    Outcomes(u32),
}

#[derive(Serialize, Deserialize)]
enum Noted {
    Bytes(#[serde(with = "codec::bytes")] Vec<u8>),
    Own(u32),
}

struct Notebook;

impl Entity for Notebook {
    type State = Swollen;
    type Command = Note;
    type Event = Noted;
    type Rejection = ();
    const KIND: EntityKind = EntityKind(251);
    const PREFIX: &'static str = "note";
    const SHARES_RECORDS: bool = true;

    fn decide(_: EntityKey, s: &Swollen, c: Note, _: &At) -> Result<Decision<Noted>, ()> {
        let bytes = |count: u32| Noted::Bytes(vec![0; count as usize]);
        Ok(Decision::events(match c {
            Note::Bytes(count) => vec![bytes(count)],
            Note::Own(count) => vec![Noted::Own(count)],
            Note::Timer => vec![bytes(s.own)],
            Note::Outcomes(calls) => (0..calls).map(|_| bytes(s.own)).collect(),
        }))
    }
    fn evolve(s: &mut Swollen, e: &Noted) {
        match e {
            Noted::Bytes(_) => s.noted += 1,
            Noted::Own(count) => s.own = *count,
        }
    }
    fn wants(_: EntityKey, s: &Swollen) -> Effects {
        let mut effects = Effects::default();
        if s.own > 0 && s.noted < 3 {
            effects.timers.push(TimerWant { slot: TIMER, due: Timestamp(0) });
            let call = |slot| CallWant { slot, lane: LANE, due: Timestamp(0), guard: Guard::Repeatable, open: None };
            effects.calls.extend(CALLS.map(call));
        }
        effects
    }
    fn sealed(_: &Swollen) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &Swollen, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_: Slot) -> Note {
        Note::Timer
    }
    fn attempt_command(_: AttemptStart) -> Note {
        Note::Bytes(1)
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> Note {
        Note::Outcomes(u32::try_from(outcomes.len()).unwrap())
    }
    fn report_command(_: Report) -> Note {
        Note::Timer
    }
    fn describe(_: &Noted) -> serde_json::Value {
        serde_json::Value::Null
    }
}

fn driver(own: u32) -> Driver {
    let kind: Arc<dyn Kind> = Arc::new(Typed::<Notebook>::default());
    let key = EntityKey { kind: Notebook::KIND, id: [7; 16] };
    let state = codec::encode(&Swollen { own, noted: 0 });
    Driver::new(key, kind, Life::default(), Version(1), Some(&state)).unwrap()
}

fn step(driver: &mut Driver, input: Input, at: Timestamp) -> Vec<Output> {
    let mut out = Vec::new();
    driver.step(input, Now { wall: at, boot: BootMillis(u64::try_from(at.0).unwrap()), steady: at }, &mut out);
    out
}

fn note(waiter: u64, bytes: u32) -> Input {
    Input::Command(Command {
        waiter: WaiterId(waiter),
        bytes: codec::encode(&Note::Bytes(bytes)),
        command_id: CommandId::default(),
        idempotency: None,
        if_version: None,
        new_key: None,
    })
}

fn applied(version: u64) -> Input {
    Input::Fate(Version(version), RecordFate::Applied(Version(version + 1)))
}

const AT: Timestamp = Timestamp(1_000_000);

#[test]
fn a_command_that_no_record_holds_is_refused_and_the_next_goes_on() {
    let mut driver = driver(0);
    // With a condition of its own it would have a record for itself.
    for if_version in [None, Some(Version(1))] {
        let Input::Command(command) = note(1, RECORD_EVENTS_BYTES_MAX as u32) else { continue };
        let out = step(&mut driver, Input::Command(Command { if_version, ..command }), AT);
        assert!(matches!(out[..], [Output::Answer(WaiterId(1), Err(AskError::TooLarge))]), "{out:?}");
        assert!(driver.is_quiet(), "nothing is left of it");
    }
    let out = step(&mut driver, note(2, FITS), AT);
    let [Output::Propose(record)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(record.version_before, Version(1));
}

#[test]
fn a_refusal_stands_behind_the_records_that_it_rests_on() {
    let mut driver = driver(0);
    step(&mut driver, note(1, 10), AT);
    assert!(step(&mut driver, note(2, RECORD_EVENTS_BYTES_MAX as u32), AT).is_empty());
    let out = step(&mut driver, applied(1), AT);
    assert!(
        matches!(out[..], [Output::Answer(WaiterId(1), Ok(_)), Output::Answer(WaiterId(2), Err(AskError::TooLarge))]),
        "{out:?}"
    );
}

#[test]
fn of_commands_that_share_a_record_the_one_that_fits_into_none_is_refused_alone() {
    let mut driver = driver(0);
    let places = u64::try_from(ENTITY_PIPELINE_MAX).unwrap();
    let begun = (0..places).map(|waiter| step(&mut driver, note(waiter, 1), AT).len()).sum::<usize>();
    let begun = u64::try_from(begun).unwrap();
    for (waiter, bytes) in [(100, FITS / 2), (101, FITS + 16), (102, FITS / 4), (103, FITS / 2)] {
        assert!(step(&mut driver, note(waiter, bytes), AT).is_empty(), "they wait");
    }
    let out = step(&mut driver, applied(1), AT);
    let records: Vec<&Record> = out
        .iter()
        .filter_map(|output| if let Output::Propose(record) = output { Some(record) } else { None })
        .collect();
    let sizes: Vec<usize> = records.iter().map(|record| record.events.len()).collect();
    assert_eq!(records.len(), 2, "the last of them has no room beside the others: {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= RECORD_EVENTS_BYTES_MAX), "{sizes:?}");
    let mut answers = std::collections::BTreeMap::new();
    for version in 2..begun + 3 {
        for output in step(&mut driver, applied(version), AT) {
            let Output::Answer(waiter, answer) = output else { continue };
            answers.insert(waiter.0, answer.map(|answer| answer.version.0));
        }
    }
    assert_eq!(answers[&100], Ok(begun + 2));
    assert_eq!(answers[&101], Err(AskError::TooLarge));
    assert_eq!((answers[&102].clone(), answers[&103].clone()), (Ok(begun + 2), Ok(begun + 3)));
}

#[test]
fn a_timer_that_no_record_holds_waits_an_hour_or_for_another_state() {
    let mut driver = driver(FITS + 16);
    let out = step(&mut driver, Input::Wake, AT);
    assert!(!out.iter().any(|output| matches!(output, Output::Propose(_))), "{out:?}");
    assert!(driver.is_needed(AT), "who has a row that is due stays in memory");
    let later = AT + Millis::from_hours(1) - Millis(1);
    assert!(step(&mut driver, Input::Wake, later).is_empty());
    assert_eq!(driver.next_wake(both(u64::try_from(later.0).unwrap())), Some(AT + Millis::from_hours(1)));
    let smaller = Input::Command(Command {
        waiter: WaiterId(1),
        bytes: codec::encode(&Note::Own(5)),
        command_id: CommandId::default(),
        idempotency: None,
        if_version: None,
        new_key: None,
    });
    assert!(matches!(step(&mut driver, smaller, later)[..], [Output::Propose(_)]));
    let out = step(&mut driver, applied(1), later);
    assert!(out.iter().any(|output| matches!(output, Output::Propose(_))), "it fires at once: {out:?}");
}

/// Both calls of an entity whose own steps are so large are made and come back.
fn outcomes(own: u32) -> (Driver, Vec<Output>) {
    let mut driver = driver(own);
    step(&mut driver, Input::Wake, AT);
    for slot in CALLS {
        let out = step(&mut driver, Input::Granted(slot, LANE), AT);
        assert!(matches!(out[..], [Output::Perform { .. }]), "{out:?}");
    }
    for slot in CALLS {
        let outcome = MessageOutcome::Unconfirmed { provider: "p".into(), at: AT };
        assert!(step(&mut driver, Input::CallDone { slot, outcome: CallOutcome::Message(outcome) }, AT).is_empty());
    }
    let out = step(&mut driver, Input::Wake, AT + Millis(300));
    (driver, out)
}

#[test]
fn outcomes_that_no_record_holds_together_are_noted_one_by_one() {
    // The timer's record is in flight already.
    let (driver, out) = outcomes(FITS / 2 + 16);
    assert!(matches!(out[..], [Output::Propose(_), Output::Propose(_)]), "{out:?}");
    assert_eq!(driver.in_flight().count(), 2);
}

#[test]
fn a_call_whose_outcome_no_record_holds_is_not_made_again() {
    let (mut driver, out) = outcomes(FITS + 16);
    assert!(out.is_empty(), "{out:?}");
    for minute in 1..=120 {
        assert!(step(&mut driver, Input::Wake, AT + Millis::from_mins(minute)).is_empty(), "minute {minute}");
    }
    assert!(!driver.is_quiet(), "it stays, so that no other actor makes the call");
}
