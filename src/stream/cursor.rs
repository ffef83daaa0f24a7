//! How far a shard is published. Kept in Redis beside the events, so that both are lost together or not at all.

use crate::types::ids::{EntityKey, LogIndex, Term, Version};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Records that were written by leaders with differing clocks may lie this far apart the wrong way round.
pub const CLOCK_MARGIN: Millis = Millis::from_secs(60);

/// A place in a shard's past. No cursor at all: nothing was published yet. On the wire between builds, as JSON: fields
/// are added, never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// The log is followed.
    Tail(Tail),
    /// The log did not reach back to the cursor: the journal is read, in the order of its keys.
    Scan(Scan),
}

/// Everything up to an entry of the shard's log is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    pub index: LogIndex,
    pub term: Term,
    /// No record behind the entry is older than this less [`CLOCK_MARGIN`].
    pub at: Timestamp,
}

/// A part of the shard's journal is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Older records were published before.
    pub from: Timestamp,
    /// When the scan began.
    pub began: Timestamp,
    /// The last entry that was applied by then: the log is followed from there.
    pub index: LogIndex,
    pub term: Term,
    /// The last row that is published.
    pub after: Option<(EntityKey, Version)>,
}

impl Cursor {
    /// The entry from which on the log is followed, now or after the scan.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        match self {
            Self::Tail(tail) => tail.index,
            Self::Scan(scan) => scan.index,
        }
    }

    /// Whether only entries behind [`Cursor::index`] are missing.
    #[must_use]
    pub fn is_tail(&self) -> bool {
        matches!(self, Self::Tail(_))
    }

    pub(super) fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers and names are JSON")
    }

    /// `None` for a text that is no cursor.
    pub(super) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::EntityKind;

    #[test]
    fn cursors_round_trip_and_keep_their_text() {
        let tail = Cursor::Tail(Tail { index: LogIndex(7), term: Term(2), at: Timestamp(9) });
        assert_eq!(tail.encode(), r#"{"tail":{"index":7,"term":2,"at":9}}"#);
        let key = EntityKey { kind: EntityKind(1), id: [3; 16] };
        let (from, began, index, term) = (Timestamp(1), Timestamp(2), LogIndex(5), Term(1));
        let scan = Cursor::Scan(Scan { from, began, index, term, after: Some((key, Version(4))) });
        for cursor in [tail, scan] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
        assert_eq!(Cursor::decode("{}"), None);
        assert_eq!(Cursor::decode(""), None);
    }
}
