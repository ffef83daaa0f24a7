//! The send-time parser: local times, dates, instants, zones.

use crate::engine::{Target, lines, text_of};
use crate::{PLACE, heap, round_trips};
use bojagi::domain::calendar::{self, CalendarFault, SendAt};
use bojagi::types::codec;
use bojagi::types::time::Timestamp;

const DICTIONARY: [&str; 24] = [
    "T",
    ":60",
    ":59.9999999999",
    "+09:00",
    "-00:00",
    "Z",
    "z",
    "[Asia/Seoul]",
    "24:00",
    "-9999-01-01",
    "9999-12-31",
    "+262142",
    "02-30",
    "02-29",
    "２０２６",
    "-",
    " ",
    "\u{2212}",
    "Asia/Seoul",
    "America/New_York",
    "Etc/Unknown",
    "KST",
    "+14",
    "\0",
];

/// 2026-12-01T00:00:00Z.
const NOW: Timestamp = Timestamp(1_796_083_200_000);

/// What a sound send instant promises.
fn check(send_at: &SendAt) {
    let resolved = send_at.resolve().expect("what the constructors make resolves");
    assert_eq!(resolved.zone, send_at.zone());
    assert_eq!(send_at.resolve().as_ref(), Ok(&resolved), "resolved twice, the same");
    let bytes = codec::encode(send_at);
    assert_eq!(round_trips::<SendAt>(&bytes).as_ref(), Some(send_at));
    // The local time of the resolved instant leads to that instant again, unless the clock shows it twice.
    if send_at.is_civil() && resolved.instant != Timestamp::MAX {
        let again = SendAt::local(&resolved.local, &resolved.zone).and_then(|again| again.resolve());
        let instant = again.map(|again| again.instant);
        assert!(instant.is_ok_and(|instant| instant <= resolved.instant), "{send_at:?}: {resolved:?}");
    }
    let ahead = calendar::check_ahead(resolved.instant, NOW);
    let seconds = (resolved.instant.0 - NOW.0) / 1_000;
    match ahead {
        Ok(()) => assert!((600..=366 * 86_400).contains(&seconds), "{seconds} s ahead"),
        Err(CalendarFault::TooSoon) => assert!(seconds < 600),
        Err(CalendarFault::TooFar) => assert!(seconds > 365 * 86_400 - 1),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn send_times() {
    let corpus = lines(include_str!("corpus/times.txt"));
    Target { name: "send_times", place: PLACE, corpus, dictionary: &DICTIONARY, cases: 20_000 }.run(|input, _| {
        let text = text_of(input);
        let (time, zone) = text.split_once(' ').unwrap_or((&text, "Asia/Seoul"));
        for parse in [SendAt::local, SendAt::date] {
            if let Ok(send_at) = heap::modest(input, || parse(time, zone)) {
                check(&send_at);
            }
        }
        let instant = heap::modest(input, || Timestamp::parse_rfc3339(time));
        if let Some(instant) = instant {
            assert_eq!(Timestamp::parse_rfc3339(&instant.to_rfc3339()), Some(instant), "its text is read back");
            if let Ok(send_at) = SendAt::instant(instant, Some(zone)) {
                check(&send_at);
            }
        }
        if let Ok(name) = calendar::parse_zone(zone) {
            assert_eq!(calendar::parse_zone(&name).as_ref(), Ok(&name), "a zone's name names itself");
        }
    });
}
