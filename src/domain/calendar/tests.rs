//! The calendar's rules at their edges, and chrono-tz (data 2025b) as a second opinion.

use super::*;
use chrono::{Offset as _, TimeZone as _};
use proptest::prelude::*;

/// Zones whose rules differ between tzdb 2025b (chrono-tz 0.10.4) and 2026e (our bundle) in the years tested here.
/// Whole seasons in western Canada and Morocco; in Moldova only the hour of the change.
const KNOWN_TO_DIFFER: [&str; 13] = [
    "America/Vancouver",
    "Canada/Pacific",
    "America/Edmonton",
    "America/Yellowknife",
    "America/Inuvik",
    "Canada/Mountain",
    "America/Winnipeg",
    "America/Rainy_River",
    "Canada/Central",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Europe/Chisinau",
    "Europe/Tiraspol",
];

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}
fn local(text: &str, zone: &str) -> String {
    SendAt::local(text, zone).unwrap().resolve().unwrap().instant.to_string()
}
fn date(text: &str, zone: &str) -> ResolvedInstant {
    SendAt::date(text, zone).unwrap().resolve().unwrap()
}

#[test]
fn bundle_is_the_version_that_the_documents_name() {
    assert_eq!(tzdb_version(), "2026e");
    // One hour later under 2025b: the reason for the bundle.
    assert_eq!(local("2026-12-01T12:00", "America/Vancouver"), "2026-12-01T19:00:00.000Z");
}

#[test]
fn local_times_resolve_in_their_zone() {
    let resolved = SendAt::local("2026-12-25T00:00", "America/New_York").unwrap().resolve().unwrap();
    assert_eq!(resolved.instant, at("2026-12-25T05:00:00Z"));
    assert_eq!(resolved.local, "2026-12-25T00:00:00");
    assert_eq!((resolved.zone.as_str(), resolved.tzdb.as_str()), ("America/New_York", "2026e"));
    let instant = SendAt::instant(at("2026-12-25T05:00:00Z"), None).unwrap().resolve().unwrap();
    assert_eq!((instant.local.as_str(), instant.zone.as_str()), ("2026-12-25T14:00:00", "Asia/Seoul"));
}

#[test]
fn time_in_a_gap_is_the_first_instant_after_it() {
    // New York springs forward at 02:00 on 2027-03-14 (07:00Z).
    for text in ["2027-03-14T02:00", "2027-03-14T02:30", "2027-03-14T02:59:59", "2027-03-14T03:00"] {
        assert_eq!(local(text, "America/New_York"), "2027-03-14T07:00:00.000Z", "{text}");
    }
    let resolved = SendAt::local("2027-03-14T02:30", "America/New_York").unwrap().resolve().unwrap();
    assert_eq!(resolved.local, "2027-03-14T03:00:00");
    // Half an hour only, and a whole day that never was.
    assert_eq!(local("2027-10-03T02:15", "Australia/Lord_Howe"), "2027-10-02T15:30:00.000Z");
    assert_eq!(local("2011-12-30T12:00", "Pacific/Apia"), "2011-12-30T10:00:00.000Z");
}

#[test]
fn time_in_a_fold_is_the_earlier_one() {
    assert_eq!(local("2027-11-07T01:30", "America/New_York"), "2027-11-07T05:30:00.000Z");
    assert_eq!(local("2027-11-07T02:00", "America/New_York"), "2027-11-07T07:00:00.000Z");
}

#[test]
fn day_without_midnight_starts_at_one() {
    for (zone, day) in [
        ("Africa/Cairo", "2027-04-30"),
        ("Asia/Beirut", "2027-03-28"),
        ("America/Havana", "2027-03-14"),
        ("America/Santiago", "2027-09-05"),
        ("Atlantic/Azores", "2027-03-28"),
    ] {
        assert_eq!(date(day, zone).local, format!("{day}T01:00:00"), "{zone}");
    }
    // Two midnights: the earlier one, so that the day is whole.
    assert_eq!(date("2027-11-07", "America/Havana").instant, at("2027-11-07T04:00:00Z"));
}

#[test]
fn zones_are_the_databases_own() {
    assert_eq!(parse_zone("asia/seoul").unwrap(), "Asia/Seoul");
    for zone in ["", "Mars/Olympus", "Etc/Unknown", "Factory", "+09:00", "../etc/passwd", "KST"] {
        assert_eq!(parse_zone(zone), Err(CalendarFault::UnknownZone), "{zone}");
    }
}

#[test]
fn texts_have_exactly_the_documented_form() {
    for text in ["2026-12-25", "2026-12-25T00", "2026-12-25 00:00", "2026-12-25T00:00Z", "2026-12-25T24:00", "x", ""] {
        assert_eq!(SendAt::local(text, "Asia/Seoul"), Err(CalendarFault::NotALocalTime), "{text}");
    }
    for text in ["2026-02-29", "2026-13-01", "20261225", "2026-12-25T00:00", "２０２６-12-25"] {
        assert_eq!(SendAt::date(text, "Asia/Seoul"), Err(CalendarFault::NotADate), "{text}");
    }
    assert!(SendAt::date("2028-02-29", "Asia/Seoul").is_ok());
}

#[test]
fn send_instant_is_ten_minutes_to_one_year_ahead() {
    let now = at("2027-03-01T00:00:00Z");
    assert_eq!(check_ahead(now + AHEAD_MIN, now), Ok(()));
    assert_eq!(check_ahead(now + AHEAD_MIN - Millis(1), now), Err(CalendarFault::TooSoon));
    assert_eq!(check_ahead(at("2028-03-01T00:00:00Z"), now), Ok(()));
    assert_eq!(check_ahead(at("2028-03-01T00:00:00.001Z"), now), Err(CalendarFault::TooFar));
    // Feb 29 plus a year is Feb 28.
    assert_eq!(check_ahead(at("2029-02-28T12:00:00Z"), at("2028-02-29T12:00:00Z")), Ok(()));
    assert_eq!(check_ahead(at("2029-02-28T12:00:01Z"), at("2028-02-29T12:00:00Z")), Err(CalendarFault::TooFar));
}

#[test]
fn validity_ends_with_the_recipients_day() {
    let left = at("2026-12-24T15:00:00Z"); // 2026-12-25 00:00 in Seoul, still the 24th in New York
    assert_eq!(validity_end(left, 30, "Asia/Seoul").to_string(), "2027-01-24T14:59:59.999Z");
    assert_eq!(validity_end(left, 30, "America/New_York").to_string(), "2027-01-24T04:59:59.999Z");
    // The next day starts at 01:00 because 00:00 is in a gap: the day ends with the gap.
    let eve = at("2027-04-28T20:00:00Z");
    assert_eq!(validity_end(eve, 1, "Africa/Cairo").to_string(), "2027-04-29T21:59:59.999Z");
}

#[test]
fn handing_on_keeps_the_last_day_and_never_shortens_it() {
    let end = validity_end(at("2026-12-24T15:00:00Z"), 30, "Asia/Seoul");
    assert_eq!(same_day_end(end, "Asia/Seoul", "America/New_York").to_string(), "2027-01-25T04:59:59.999Z");
    assert_eq!(same_day_end(end, "Asia/Seoul", "Pacific/Kiritimati"), end);
}

#[test]
fn reminders_come_at_their_local_hour() {
    let end = at("2027-01-24T14:59:59.999Z");
    assert_eq!(reminder_at(end, 3, 10, "Asia/Seoul").to_string(), "2027-01-21T01:00:00.000Z");
    assert_eq!(reminder_at(end, 1, 10, "Asia/Seoul").to_string(), "2027-01-23T01:00:00.000Z");
    assert_eq!(local_hour(at("2027-01-21T01:00:00Z"), "Asia/Seoul"), 10);
    assert_eq!(next_hour(at("2027-01-21T13:30:00Z"), 8, "Asia/Seoul").to_string(), "2027-01-21T23:00:00.000Z");
    assert_eq!(next_hour(at("2027-01-21T16:00:00Z"), 8, "Asia/Seoul").to_string(), "2027-01-21T23:00:00.000Z");
    assert_eq!(local_date(end, "Asia/Seoul"), "2027-01-24");
    assert_eq!(local_minute(end, "Asia/Seoul"), "2027-01-24 23:59");
}

/// The second opinion: a local time by chrono-tz, under the same rules. `None` when it lies in a gap.
fn chrono_instant(zone: chrono_tz::Tz, local: chrono::NaiveDateTime) -> Option<i64> {
    zone.from_local_datetime(&local).earliest().map(|at| at.timestamp_millis())
}

/// Local times worth comparing in a zone: noon and midnight of every day, and every half-hour around each change.
fn local_times(zone: &TimeZone) -> Vec<DateTime> {
    let from: DateTime = "2026-11-01T00:15:00".parse().unwrap();
    let until: DateTime = "2029-01-01T00:00:00".parse().unwrap();
    let mut times: Vec<DateTime> = from.series(Span::new().hours(12)).take_while(|local| *local < until).collect();
    for change in zone.following(from.to_zoned(TimeZone::UTC).unwrap().timestamp()) {
        let start = change.timestamp().to_zoned(zone.clone()).datetime().checked_sub(Span::new().hours(6)).unwrap();
        if start >= until {
            break;
        }
        times.extend(start.series(Span::new().minutes(30)).take(24));
    }
    times
}

/// Zones that differ from chrono-tz at some of those local times from November 2026 to the end of 2028.
fn differing_zones() -> Vec<String> {
    let mut differing = Vec::new();
    for zone in chrono_tz::TZ_VARIANTS {
        let Ok(name) = parse_zone(zone.name()) else {
            continue;
        };
        let ours = zone_of(&name);
        let differs = |local: &DateTime| {
            chrono_instant(zone, chrono_of(*local)).is_some_and(|theirs| theirs != instant_of(*local, &ours).0)
        };
        if local_times(&ours).iter().any(differs) {
            differing.push(zone.name().to_owned());
        }
    }
    differing
}

#[test]
fn chrono_tz_agrees_but_for_the_known_zones() {
    let mut differing = differing_zones();
    let mut known: Vec<String> = KNOWN_TO_DIFFER.iter().map(|name| (*name).to_owned()).collect();
    differing.sort();
    known.sort();
    assert_eq!(differing, known);
}

proptest! {
    #[test]
    fn resolving_is_monotone_and_round_trips_outside_gaps(
        zone in proptest::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
        minute in 0i64..(3 * 366 * 24 * 60), step in 0i64..(48 * 60),
    ) {
        prop_assume!(parse_zone(zone.name()).is_ok());
        let ours = zone_of(zone.name());
        let base: DateTime = "2026-11-01T00:00:00".parse().unwrap();
        let first = base.checked_add(Span::new().minutes(minute)).unwrap();
        let second = first.checked_add(Span::new().minutes(step)).unwrap();
        let (a, b) = (instant_of(first, &ours), instant_of(second, &ours));
        // A later local time never resolves to an earlier instant, except across a fold, whose length is at most 2 h.
        prop_assert!(a <= b + Millis::from_hours(2));
        let back = zoned(a, &ours).datetime();
        prop_assert!(back >= first, "never before what was asked for");
        let in_gap = zone.from_local_datetime(&chrono_of(first)).earliest().is_none();
        let known = KNOWN_TO_DIFFER.contains(&zone.name());
        prop_assert!(known || (back == first) != in_gap, "{} {first} {back}", zone.name());
    }
}

fn chrono_of(local: DateTime) -> chrono::NaiveDateTime {
    local.to_string().parse().unwrap()
}

#[test]
fn offsets_are_read_from_the_same_data_by_both() {
    // Guards the comparison itself: chrono-tz really computes with offsets of its own.
    let seoul = chrono_tz::Asia::Seoul.offset_from_utc_datetime(&chrono::NaiveDateTime::default());
    assert_eq!(seoul.fix().local_minus_utc(), 9 * 3600);
}
