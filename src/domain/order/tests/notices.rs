//! What the buyer is told, beside the saga: never in its way, over one channel after the other, with dead letters.

use super::model::{KEY, Mood, START, World, new_order};
use super::*;
use crate::domain::gift::{ContactSet, SenderContact};
use crate::domain::stored::GrownRef;
use crate::types::call::{
    Address, CallRequest, MessageOutcome, MessageRequest, Purpose, RefusalClass, Report, ReportStatus, Template,
};
use crate::types::effect::{CallWant, Channel, Guard, Lane};

fn by_phone() -> ContactSet {
    ContactSet { phone: true, ..ContactSet::default() }
}

fn buyer() -> SenderContact {
    SenderContact { phone: Some("+821012345678".into()), ..SenderContact::default() }
}

fn telling(contacts: ContactSet) -> World {
    let mut world = World::new(Method::Card);
    (world.state, world.records) = (OrderState::default(), Vec::new());
    let new = Box::new(new_order(Method::Card));
    world.ask(OrderCommand::CreateTelling(new, None, contacts)).unwrap();
    world
}

fn wanted(world: &World) -> Vec<CallWant> {
    let calls = world.wants().calls.into_iter();
    calls.filter(|call| matches!(call.lane, Lane::Notice(_))).collect()
}

fn render(world: &World, slot: Slot, buyer: &SenderContact) -> MessageRequest {
    let personal = Personal::default();
    let bytes = codec::encode(&GrownRef::of(&personal, Some(buyer)));
    match Order::request(KEY, &world.state, slot, Some(&bytes)) {
        Some(CallRequest::Message(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn answer(world: &mut World, outcome: MessageOutcome) {
    let want = wanted(world).remove(0);
    world.now = world.now.max(want.due);
    world.ask(OrderCommand::Outcomes(vec![(want.slot, CallOutcome::Message(outcome))])).unwrap();
}

fn taken() -> MessageOutcome {
    MessageOutcome::Accepted { provider: "p".into(), receipt: "r".into(), at: START }
}

fn refused(class: RefusalClass) -> MessageOutcome {
    MessageOutcome::Refused { code: "NO".into(), class }
}

fn told(world: &World) -> Vec<(Template, &'static str)> {
    world.state.notices().iter().map(|notice| (notice.template, notice.status())).collect()
}

#[test]
fn the_buyer_is_told_that_it_was_placed_and_how_it_ended() {
    let mut world = telling(ContactSet::default());
    let placed = wanted(&world).remove(0);
    assert_eq!((placed.lane, placed.due, placed.guard), (Lane::Notice(Channel::Push), START, Guard::Repeatable));
    let request = render(&world, placed.slot, &SenderContact::default());
    assert!(request.to.0 == Address::Push("/topics/u-u-1".into()), "without a contact, by topic");
    assert_eq!((request.template, request.purpose), (Template::OrderPlaced, Purpose::Notice));
    assert_eq!(request.reference, format!("o_{}.n.{}.0", KEY.hex(), placed.slot.0));
    let variables: Vec<(&str, &str)> =
        request.variables.iter().map(|(name, value)| (name.as_str(), value.0.as_str())).collect();
    assert_eq!(variables, [("items", "mug +1"), ("amount", "12000")]);
    world.drain();
    assert_eq!(told(&world), [(Template::OrderPlaced, "pending"), (Template::OrderCompleted, "pending")]);
    answer(&mut world, taken());
    answer(&mut world, taken());
    assert!(told(&world).iter().all(|(_, status)| *status == "sent"));

    let mut failed = telling(by_phone());
    failed.call(Mood::RefusesForGood);
    assert_eq!(told(&failed)[1].0, Template::OrderFailed);
    let mut cancelled = telling(by_phone());
    cancelled.run_to(Step::Ship);
    cancelled.ask(OrderCommand::Cancel).unwrap();
    cancelled.drain();
    assert_eq!(told(&cancelled)[1].0, Template::OrderCancelled);
    let silent = done(World::new(Method::Card));
    assert_eq!((told(&silent), wanted(&silent)), (vec![], vec![]), "one of before tells nothing");
}

#[test]
fn the_saga_goes_on_whatever_becomes_of_its_notices_and_is_done_only_when_they_are() {
    let mut world = telling(by_phone());
    world.drain();
    assert_eq!(world.state.status(), Status::Completed);
    assert!(!world.wants().terminal, "two notices are still to leave");
    let slots: Vec<Slot> = world.wants().calls.iter().map(|call| call.slot).collect();
    assert!(slots.is_sorted() && slots.iter().all(|slot| slot.0 < 0x8000), "{slots:?}");
    // Both outcomes in one record, one of them twice.
    let outcomes = wanted(&world).iter().map(|want| (want.slot, CallOutcome::Message(taken()))).collect::<Vec<_>>();
    let records = world.records.len();
    world.ask(OrderCommand::Outcomes([outcomes.clone(), outcomes].concat())).unwrap();
    assert_eq!(world.records.len(), records + 1);
    assert_eq!(world.records.last().unwrap().len(), 1);
    assert!(world.wants().terminal && world.wants().calls.is_empty());
}

#[test]
fn a_notice_goes_from_channel_to_channel_and_then_among_the_dead_letters() {
    let mut world = telling(by_phone());
    assert_eq!(wanted(&world)[0].lane, Lane::Notice(Channel::Kakao));
    answer(&mut world, refused(RefusalClass::NextChannel));
    let sms = wanted(&world).remove(0);
    assert_eq!(sms.lane, Lane::Notice(Channel::Sms));
    assert!(render(&world, sms.slot, &buyer()).to.0 == Address::Phone("+821012345678".into()));
    for _ in 0..3 {
        answer(&mut world, refused(RefusalClass::Retry));
        assert_eq!(wanted(&world)[0].slot, sms.slot);
    }
    answer(&mut world, refused(RefusalClass::Retry));
    assert_eq!(wanted(&world), []);
    let letters = world.state.notice_letters();
    assert_eq!(
        (letters.len(), letters[0].0, letters[0].1.command, letters[0].1.cause.as_str()),
        (1, 0, "notice", "NO")
    );
    assert!(world.wants().indexes.iter().any(|row| row.index == kinds::INDEX_DEAD_LETTER));
    assert_eq!(world.state.letter(), None, "the order itself goes on");

    let actor = || "op".to_owned();
    let other = world.ask(OrderCommand::ReplayNotice { actor: actor(), number: 1 });
    assert_eq!(other, Err(OrderRejection::NotADeadLetter));
    world.ask(OrderCommand::ReplayNotice { actor: actor(), number: 0 }).unwrap();
    assert_eq!(wanted(&world)[0].lane, Lane::Notice(Channel::Kakao), "from the first channel");
    answer(&mut world, refused(RefusalClass::NextChannel));
    answer(&mut world, refused(RefusalClass::Permanent));
    let reason = "wrong number".to_owned();
    world.ask(OrderCommand::DiscardNotice { actor: actor(), number: 0, reason }).unwrap();
    assert_eq!(told(&world)[0].1, "dropped");
    assert!(!world.wants().indexes.iter().any(|row| row.index == kinds::INDEX_DEAD_LETTER));
    world.drain();
    assert_eq!(world.state.status(), Status::Completed);
}

#[test]
fn a_report_of_failure_sends_it_over_the_next_channel_once() {
    let mut world = telling(by_phone());
    let kakao = wanted(&world).remove(0);
    let reference = render(&world, kakao.slot, &buyer()).reference;
    answer(&mut world, taken());
    let status = ReportStatus::Failed { code: "3008".into(), class: RefusalClass::NextChannel };
    let report = Report { reference, provider: "p".into(), status, at: START };
    for _ in 0..2 {
        world.ask(Order::report_command(report.clone())).unwrap();
    }
    assert_eq!(wanted(&world)[0].lane, Lane::Notice(Channel::Sms));
    answer(&mut world, taken());
    world.ask(Order::report_command(report.clone())).unwrap();
    assert_eq!(wanted(&world), [], "what the first channel reports again is not the second's");
    let payment = Report { reference: format!("o_{}", KEY.hex()), ..report };
    assert_eq!(Order::report_command(payment), OrderCommand::Hint);
}

#[test]
fn nobody_is_told_anything_once_the_personal_data_is_gone() {
    let mut world = telling(by_phone());
    world.drain();
    // The first on both of its channels, the second on its first.
    for _ in 0..3 {
        answer(&mut world, refused(RefusalClass::NextChannel));
    }
    world.ask(OrderCommand::Erase).unwrap();
    assert_eq!(told(&world).iter().map(|(_, status)| *status).collect::<Vec<_>>(), ["dead_letter", "dropped"]);
    assert!(world.wants().terminal && wanted(&world).is_empty());
    let replay = OrderCommand::ReplayNotice { actor: "op".into(), number: 0 };
    assert_eq!(world.ask(replay), Err(OrderRejection::Erased));
}

#[test]
fn persisted_bytes_are_golden_and_an_order_of_before_has_those_that_it_had() {
    use crate::domain::notices::{NoticeResult, NoticeStep};
    let results = vec![
        NoticeResult { number: 3, step: NoticeStep::Sent { provider: "p".into() } },
        NoticeResult { number: 4, step: NoticeStep::Dead { code: "c".into() } },
    ];
    let (actor, reason) = ("op".to_owned(), "r".to_owned());
    let golden = [
        (OrderFact::TellsBuyer { contacts: by_phone() }, "021c01000000"),
        (OrderFact::NoticesSettled(results), "021d020300017004020163"),
        (OrderFact::NoticeReplayed { number: 3, actor: actor.clone() }, "021e03026f70"),
        (OrderFact::NoticeDiscarded { number: 3, actor, reason }, "021f03026f700172"),
    ];
    for (fact, bytes) in golden {
        let event = OrderEvent { at: Timestamp(1), fact };
        assert_eq!(hex::encode(codec::encode(&event)), bytes, "{event:?}");
        assert_eq!(codec::decode::<OrderEvent>(&codec::encode(&event)).unwrap(), event);
    }
    let (before, with) = (World::new(Method::Card), telling(by_phone()));
    let (before, bytes) = (codec::encode(&before.state), codec::encode(&with.state));
    assert_eq!(bytes[..before.len()], before);
    let due = hex::encode(codec::encode(&START));
    // The mark, the contacts, one notice that is wanted, and one made.
    assert_eq!(hex::encode(&bytes[before.len()..]), format!("0101000000010008000000{due}0000{due}01"));
    assert_eq!(codec::decode::<OrderState>(&bytes).unwrap(), with.state);
}
