//! Calls to another entity: repeated until it answers, not at once, and its answer is committed soon.

use super::*;
use crate::types::call::{EntityOutcome, EntityRequest};
use crate::types::limits::GATEWAY_BUSY_RETRY;

/// Wants another entity to be told, until it answered.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Teller {
    asked: bool,
    told: bool,
}

struct Telling;

impl Entity for Telling {
    type State = Teller;
    type Command = bool;
    type Event = bool;
    type Rejection = ();
    const KIND: EntityKind = EntityKind(251);
    const PREFIX: &'static str = "tell";

    /// `false`: begin. `true`: it was told.
    fn decide(_: EntityKey, s: &Teller, told: bool, _: &At) -> Result<Decision<bool>, ()> {
        let news = if told { s.asked && !s.told } else { !s.asked };
        Ok(Decision::events(if news { vec![told] } else { Vec::new() }))
    }
    fn evolve(s: &mut Teller, told: &bool) {
        s.asked = true;
        s.told = *told;
    }
    fn wants(_: EntityKey, s: &Teller) -> Effects {
        let call = CallWant { slot: CALL, lane: Lane::Entity, due: Timestamp(0), guard: Guard::Repeatable, open: None };
        let calls = if s.asked && !s.told { vec![call] } else { Vec::new() };
        Effects { calls, terminal: s.told, ..Effects::default() }
    }
    fn sealed(_: &Teller) -> Option<&Sealed> {
        None
    }
    fn request(key: EntityKey, _: &Teller, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        let request = EntityRequest { target: key, command_id: CommandId::default(), command: Vec::new() };
        Some(CallRequest::Entity(request))
    }
    fn timer_command(_: Slot) -> bool {
        false
    }
    fn attempt_command(_: AttemptStart) -> bool {
        false
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> bool {
        let done = |outcome: &CallOutcome| matches!(outcome, CallOutcome::Entity(EntityOutcome::Done { .. }));
        outcomes.iter().any(|(_, outcome)| done(outcome))
    }
    fn report_command(_: Report) -> bool {
        false
    }
    fn describe(_: &bool) -> serde_json::Value {
        serde_json::Value::Null
    }
}

fn step(driver: &mut Driver, input: Input, at: u64) -> Vec<Output> {
    let mut out = Vec::new();
    driver.step(input, both(at), &mut out);
    out
}

fn answered(outcome: EntityOutcome) -> Input {
    Input::CallDone { slot: CALL, outcome: CallOutcome::Entity(outcome) }
}

#[test]
fn an_entity_out_of_reach_is_asked_again_after_a_pause_and_its_answer_is_committed_soon() {
    let key = EntityKey { kind: Telling::KIND, id: [7; 16] };
    let kind: Arc<dyn Kind> = Arc::new(Typed::<Telling>::default());
    let mut driver = Driver::new(key, kind, Life::default(), Version(0), None).unwrap();
    let bytes = codec::encode(&false);
    let command_id = CommandId::default();
    let begin = Command { waiter: WaiterId(1), bytes, command_id, idempotency: None, if_version: None, new_key: None };
    step(&mut driver, Input::Command(begin), 1_000);
    let out = step(&mut driver, Input::Fate(Version(0), RecordFate::Applied(Version(1))), 1_000);
    assert!(matches!(out[..], [Output::Answer(..), Output::RequestPermit { lane: Lane::Entity, .. }]), "{out:?}");
    let out = step(&mut driver, Input::Granted(CALL, Lane::Entity), 1_000);
    assert!(matches!(out[..], [Output::Perform { slot: CALL, .. }]), "{out:?}");

    // Not reached: nothing is written, and it is not asked again at once.
    step(&mut driver, answered(EntityOutcome::Unknown { cause: "no leader".into() }), 1_000);
    assert!(driver.own_wake().is_some_and(|due| due.0 < 1_100), "somebody may be waiting behind it");
    let at = driver.own_wake().unwrap().0;
    assert!(step(&mut driver, Input::Wake, at).is_empty(), "nothing to commit, and not asked at once");
    let again = u64::try_from(GATEWAY_BUSY_RETRY.0).unwrap() + at;
    assert_eq!(driver.next_wake(both(at)), Some(Timestamp(i64::try_from(again).unwrap())));
    let out = step(&mut driver, Input::Wake, again);
    assert!(matches!(out[..], [Output::RequestPermit { .. }]), "{out:?}");

    step(&mut driver, Input::Granted(CALL, Lane::Entity), again);
    step(&mut driver, answered(EntityOutcome::Done { state: Vec::new() }), again);
    let at = driver.own_wake().unwrap().0;
    let out = step(&mut driver, Input::Wake, at);
    assert!(matches!(out[..], [Output::Propose(_)]), "{out:?}");
    step(&mut driver, Input::Fate(Version(1), RecordFate::Applied(Version(2))), at);
    assert!(driver.is_quiet() && driver.wants().terminal);
}
