//! The show's machine: what areas report, in any order, and when it is sold out.

use super::*;
use crate::types::codec;
use crate::types::ids::CommandId;
use crate::types::limits::STATE_BYTES_MAX;
use crate::types::money::Money;

const KEY: EntityKey = EntityKey { kind: kinds::SHOW, id: [1; 16] };
const OPENS: Timestamp = Timestamp(1_800_000_000_000);

fn terms(rows: &[(&str, u16)]) -> Terms {
    let row = |(section, count): &(&str, u16)| SeatRow {
        section: (*section).into(),
        row: String::new(),
        count: *count,
        price: Money::krw(1_000),
    };
    let admission = Admission { opens_at: OPENS, per_second: 10, active_max: 10 };
    Terms { title: "t".into(), rows: rows.iter().map(row).collect(), admission }
}

fn ask(state: &mut ShowState, command: ShowCommand, now: Timestamp) -> Result<usize, ShowRejection> {
    let at = At { now, command_id: CommandId::default() };
    let events = ShowEntity::decide(KEY, state, command, &at)?.events;
    events.iter().for_each(|event| ShowEntity::evolve(state, event));
    Ok(events.len())
}

fn report(section: u16, revision: u32, seats: u16, full_at: Option<Timestamp>) -> ShowCommand {
    ShowCommand::Report(SoldReport { section: SectionNumber(section), sold: Sold { revision, seats, full_at } })
}

#[test]
fn it_is_sold_out_when_every_section_is_and_keeps_its_rank() {
    let mut state = ShowState::default();
    assert_eq!(ask(&mut state, report(0, 1, 1, None), OPENS), Err(ShowRejection::NotFound));
    let create = ShowCommand::Create(Box::new(terms(&[("A", 2), ("B", 1)])));
    assert_eq!(ask(&mut state, create.clone(), OPENS - Millis(5)), Ok(1));
    assert_eq!(ask(&mut state, create, OPENS), Err(ShowRejection::AlreadyExists));
    assert_eq!(state.get().unwrap().status(OPENS - Millis(1)), "scheduled");
    let (first, last) = (OPENS + Millis(300), OPENS + Millis(900));
    assert_eq!(ask(&mut state, report(0, 2, 2, Some(last)), last), Ok(1));
    assert_eq!(ask(&mut state, report(0, 1, 1, None), last), Ok(0), "an older report");
    assert_eq!(state.get().unwrap().status(last), "open");
    assert_eq!(ShowEntity::wants(KEY, &state).indexes.len(), 1);
    assert_eq!(ask(&mut state, report(1, 1, 1, Some(first)), last + Millis(700)), Ok(2));
    let show = state.get().unwrap();
    assert_eq!((show.status(last), show.sold_out_after()), ("sold_out", Some(Millis(900))));
    let rank = ShowEntity::wants(KEY, &state).indexes.pop().unwrap();
    assert_eq!((rank.index, &rank.key[..8]), (kinds::INDEX_SHOW_RANKING, 900u64.to_be_bytes().as_slice()));
    assert_eq!(ask(&mut state, report(1, 2, 0, Some(first)), last), Ok(1), "one was cancelled");
    assert_eq!(ask(&mut state, report(1, 3, 1, Some(first)), last), Ok(1), "and sold again");
    assert_eq!(state.get().unwrap().sold_out_after(), Some(Millis(900)));
    assert_eq!(ask(&mut state, report(2, 1, 1, None), last), Err(ShowRejection::NotWanted));
    assert_eq!(ask(&mut state, report(0, 9, 3, None), last), Err(ShowRejection::NotWanted));
    assert_eq!(ask(&mut state, ShowCommand::Unwanted, last), Err(ShowRejection::NotWanted));
}

#[test]
fn the_largest_show_is_within_its_bound() {
    let names: Vec<String> = (0..ROWS_MAX).map(|row| format!("{row:032}")).collect();
    let rows: Vec<(&str, u16)> = names.iter().map(|name| (name.as_str(), SECTION_SEATS_MAX)).collect();
    let mut state = ShowState::default();
    let terms = Terms { title: "가".repeat(TITLE_BYTES_MAX / 3), ..terms(&rows) };
    ask(&mut state, ShowCommand::Create(Box::new(terms)), OPENS).unwrap();
    assert!(codec::encode(&state).len() < STATE_BYTES_MAX / 2);
}

#[test]
fn golden_bytes() {
    let sold = Sold { revision: 1, seats: 2, full_at: Some(Timestamp(3)) };
    let events = [
        ShowEvent::Created { at: Timestamp(1), terms: Box::new(terms(&[("A", 2)])) },
        ShowEvent::SeatsSold { at: Timestamp(1), section: SectionNumber(4), sold, total: 5 },
        ShowEvent::SoldOut { at: Timestamp(1), last_sold_at: Timestamp(2) },
    ];
    let golden = ["0002017401014100 02fbd00700fd00a0b83046030000 0a0a", "010204010201 0605", "020204"];
    for (event, bytes) in events.iter().zip(golden) {
        assert_eq!(hex::encode(codec::encode(event)), bytes.replace(' ', ""), "{event:?}");
        assert_eq!(&codec::decode::<ShowEvent>(&codec::encode(event)).unwrap(), event);
    }
    assert_eq!(publications(&codec::encode(&events.to_vec())).unwrap().len(), 3);
}
