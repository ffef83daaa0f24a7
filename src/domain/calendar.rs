//! The civil calendar: the only place where local dates, times and zones are turned into instants.

use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A send instant as the sender asked for it.
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
