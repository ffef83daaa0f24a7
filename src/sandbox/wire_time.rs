//! Instants as the providers write them: Korean wall time for NHN and Toss, UTC for Solapi.

use crate::types::time::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

const KOREA: Offset = Offset::constant(9);

fn korean(at: Timestamp) -> DateTime {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX);
    KOREA.to_datetime(instant)
}

/// `2026-12-25 14:00:00`, as NHN writes it.
pub(crate) fn nhn(at: Timestamp) -> String {
    korean(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Parses `yyyy-MM-dd HH:mm`, with or without seconds, in Korean time. Also tells whether seconds were given.
pub(crate) fn parse_nhn(text: &str) -> Option<(Timestamp, bool)> {
    let with_seconds = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok().map(|at| (at, true));
    let parsed = with_seconds.or_else(|| DateTime::strptime("%Y-%m-%d %H:%M", text).ok().map(|at| (at, false)));
    let (at, seconds) = parsed?;
    let instant = KOREA.to_timestamp(at).ok()?;
    Some((Timestamp(instant.as_millisecond()), seconds))
}

/// `20261225140000`: the date part of the providers' ids.
pub(crate) fn digits(at: Timestamp) -> u64 {
    let at = korean(at);
    let part = |value: i16| u64::try_from(value).unwrap_or(0);
    let small = |value: i8| u64::try_from(value).unwrap_or(0);
    let date = (part(at.year()) * 100 + small(at.month())) * 100 + small(at.day());
    ((date * 100 + small(at.hour())) * 100 + small(at.minute())) * 100 + small(at.second())
}

/// `2026-12-25T14:00:00+09:00`, as Toss writes it.
pub(crate) fn toss(at: Timestamp) -> String {
    korean(at).strftime("%Y-%m-%dT%H:%M:%S+09:00").to_string()
}

/// Year and month in Korea.
pub(crate) fn month(at: Timestamp) -> (i16, i8) {
    let at = korean(at);
    (at.year(), at.month())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korean_time_is_nine_hours_ahead() {
        let at = Timestamp::parse_rfc3339("2026-12-31T15:00:01Z").unwrap();
        assert_eq!(nhn(at), "2027-01-01 00:00:01");
        assert_eq!(toss(at), "2027-01-01T00:00:01+09:00");
        assert_eq!(digits(at), 20_270_101_000_001);
        assert_eq!(month(at), (2027, 1));
        assert_eq!(parse_nhn("2027-01-01 00:00:01"), Some((at, true)));
        assert_eq!(parse_nhn("2027-01-01 00:00"), Some((Timestamp(at.0 - 1_000), false)));
        assert_eq!(parse_nhn("2027-13-01 00:00"), None);
    }
}
