//! Instants and spans. Wall-clock instants are UTC milliseconds; the civil calendar lives in `domain/calendar.rs` alone.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// UTC milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// A span in milliseconds; may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub i64);

impl Millis {
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds * 1_000)
    }
    #[must_use]
    pub const fn from_mins(minutes: i64) -> Self {
        Self::from_secs(minutes * 60)
    }
    #[must_use]
    pub const fn from_hours(hours: i64) -> Self {
        Self::from_mins(hours * 60)
    }
    #[must_use]
    pub const fn from_days(days: i64) -> Self {
        Self::from_hours(days * 24)
    }
    /// As a `std` duration; negative spans are zero.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Timestamp {
    /// Later than every instant that the product handles.
    pub const MAX: Self = Self(i64::MAX);

    /// RFC 3339 in UTC with milliseconds, as the front door writes instants.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => format!("{instant:.3}"),
            Err(_) => format!("{}ms", self.0),
        }
    }

    /// Parses RFC 3339 with an offset; sub-millisecond digits are cut off.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|instant| Self(instant.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Add<Millis> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}
impl Sub<Millis> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}
impl Sub<Timestamp> for Timestamp {
    type Output = Millis;
    fn sub(self, other: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(other.0))
    }
}

/// Milliseconds of CLOCK_BOOTTIME: goes on while the machine sleeps, never jumps. Only compared on one machine, between two
/// of its starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootMillis(pub u64);

/// Which start of a machine its boot clock counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Two of it need not be the same.
    pub const UNKNOWN: Self = Self([0; 16]);
}

/// The world's clocks, as an argument. The only implementations that read the real ones live in `app`.
pub trait Clock: Send + Sync {
    /// Cluster wall time. In dev mode this includes the dev clock's offset; it never goes back within a process.
    fn now(&self) -> Timestamp;
    /// CLOCK_BOOTTIME; the dev clock does not move it.
    fn boot(&self) -> BootMillis;
    /// What `boot` counts from; as long as it is unknown, no other process' reading is compared with it.
    fn boot_id(&self) -> BootId {
        BootId::UNKNOWN
    }
    /// A clock that runs on evenly: CLOCK_BOOTTIME, plus by how much the wall clocks of all nodes were moved by hand, at
    /// once (dev mode). Setting this machine's wall clock does not move it. Its zero says nothing, spans do.
    fn steady(&self) -> Timestamp {
        Timestamp(i64::try_from(self.boot().0).unwrap_or(i64::MAX))
    }
    /// Completes when the wall clock was moved by hand (dev mode), so that sleepers re-read it.
    /// In production it never changes.
    fn moved(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Boot time as a test sets it, in milliseconds; the wall clock stands still.
#[cfg(test)]
#[derive(Default)]
pub struct HandBoot(pub std::sync::atomic::AtomicU64);

#[cfg(test)]
impl Clock for HandBoot {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn boot(&self) -> BootMillis {
        BootMillis(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
    fn moved(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips_with_milliseconds() {
        let at = Timestamp::parse_rfc3339("2026-12-25T05:00:00Z").unwrap();
        assert_eq!(at.to_rfc3339(), "2026-12-25T05:00:00.000Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2026-12-25T14:00:00.123+09:00").unwrap().to_rfc3339(),
            "2026-12-25T05:00:00.123Z"
        );
        assert_eq!(Timestamp::parse_rfc3339("2026-12-25 05:00"), None);
    }
}
