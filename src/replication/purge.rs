//! How much of a log may be forgotten.

use crate::types::ids::LogIndex;

/// Everything that holds a log back.
#[derive(Clone, Copy, Debug)]
pub struct PurgeBounds {
    /// The state machine is durable up to here.
    pub durable: LogIndex,
    /// Readers of the log (the event stream) are done up to here.
    pub cursor: LogIndex,
    /// The follower with the shortest log; `None` when this replica does not lead or has no follower.
    pub slowest: Option<LogIndex>,
    /// A snapshot in flight was begun here.
    pub snapshot: Option<LogIndex>,
    pub last: LogIndex,
    /// Entries to keep in any case, for followers that lag a little after a change of leaders.
    pub keep: u64,
    /// A follower that lags by more gets a snapshot instead.
    pub held_max: u64,
}

/// The last index that may be forgotten; 0 when none.
#[must_use]
pub fn purge_point(bounds: &PurgeBounds) -> LogIndex {
    let LogIndex(last) = bounds.last;
    let held = |index: LogIndex| LogIndex(index.0.max(last.saturating_sub(bounds.held_max)));
    let slowest = bounds.slowest.map_or(bounds.durable, held);
    let snapshot = bounds.snapshot.unwrap_or(bounds.durable);
    let keep = LogIndex(bounds.durable.0.saturating_sub(bounds.keep));
    bounds.durable.min(bounds.cursor).min(slowest).min(snapshot).min(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> PurgeBounds {
        let far = LogIndex(100_000);
        PurgeBounds {
            durable: far,
            cursor: far,
            slowest: Some(far),
            snapshot: None,
            last: far,
            keep: 0,
            held_max: 60_000,
        }
    }

    #[test]
    fn the_smallest_bound_decides() {
        assert_eq!(purge_point(&bounds()), LogIndex(100_000));
        assert_eq!(purge_point(&PurgeBounds { durable: LogIndex(90_000), ..bounds() }), LogIndex(90_000));
        assert_eq!(purge_point(&PurgeBounds { cursor: LogIndex(80_000), ..bounds() }), LogIndex(80_000));
        assert_eq!(purge_point(&PurgeBounds { slowest: Some(LogIndex(70_000)), ..bounds() }), LogIndex(70_000));
        assert_eq!(purge_point(&PurgeBounds { snapshot: Some(LogIndex(60_000)), ..bounds() }), LogIndex(60_000));
        assert_eq!(purge_point(&PurgeBounds { keep: 50_000, ..bounds() }), LogIndex(50_000));
        assert_eq!(purge_point(&PurgeBounds { keep: 200_000, ..bounds() }), LogIndex(0));
    }

    #[test]
    fn a_dead_follower_holds_back_a_bounded_log() {
        let dead = PurgeBounds { slowest: Some(LogIndex(1)), ..bounds() };
        assert_eq!(purge_point(&dead), LogIndex(40_000));
    }
}
