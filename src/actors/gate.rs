//! The feature level as this node keeps to it: what it writes, and who is too old for it (ADR-10).

use crate::replication::entry::EntryFormat;
use crate::sharding::meta::MetaRefusal;
use crate::types::ids::{META_SHARD, ShardId};
use crate::types::level::{FeatureLevel, Levels};
use std::sync::atomic::{AtomicU16, Ordering};

/// One per node. The cluster's level only grows, so what is known here may be late and never too high.
#[derive(Debug)]
pub struct FeatureGate {
    knows: Levels,
    /// Of the cluster, as of the state that was applied here; 0 before the first.
    cluster: AtomicU16,
}

impl FeatureGate {
    #[must_use]
    pub fn new(knows: Levels) -> Self {
        Self { knows, cluster: AtomicU16::new(0) }
    }

    /// The levels of this node's build.
    #[must_use]
    pub fn knows(&self) -> Levels {
        self.knows
    }

    /// Keeps to the cluster's level from now on.
    ///
    /// # Errors
    /// [`MetaRefusal::LevelUnsupported`]: this build does not know it, and must not go on.
    pub fn follow(&self, level: FeatureLevel) -> Result<(), MetaRefusal> {
        if !self.knows.supports(level) {
            return Err(MetaRefusal::LevelUnsupported(level));
        }
        self.cluster.fetch_max(level.0, Ordering::AcqRel);
        Ok(())
    }

    /// The cluster's level as this node knows it; 0 before it knows any.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        FeatureLevel(self.cluster.load(Ordering::Acquire))
    }

    /// The cluster's level, where a build with these does not know it.
    #[must_use]
    pub fn excludes(&self, levels: Levels) -> Option<FeatureLevel> {
        let level = self.level();
        (level > FeatureLevel(0) && !levels.supports(level)).then_some(level)
    }

    /// How records of a shard are written now. The meta group's stay plain, so that a build that is too old can read there
    /// that it is.
    #[must_use]
    pub fn format_of(&self, shard: ShardId) -> EntryFormat {
        if shard == META_SHARD {
            return EntryFormat::Plain;
        }
        EntryFormat::at_level(self.level())
    }

    /// The newest that this build reads.
    #[must_use]
    pub fn newest_format(&self) -> EntryFormat {
        EntryFormat::at_level(self.knows.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(lowest: u16, highest: u16) -> Levels {
        Levels { lowest: FeatureLevel(lowest), highest: FeatureLevel(highest) }
    }

    #[test]
    fn the_new_format_is_written_from_its_level_on_and_never_in_the_meta_group() {
        let gate = FeatureGate::new(levels(1, 2));
        assert_eq!(gate.format_of(ShardId(0)), EntryFormat::Plain, "before the cluster's state is known");
        gate.follow(FeatureLevel(1)).unwrap();
        assert_eq!(gate.format_of(ShardId(0)), EntryFormat::Plain);
        gate.follow(FeatureLevel(2)).unwrap();
        assert_eq!(gate.format_of(ShardId(0)), EntryFormat::Dense);
        assert_eq!(gate.format_of(META_SHARD), EntryFormat::Plain);
    }

    #[test]
    fn a_build_that_does_not_know_the_level_is_kept_out_and_ends_itself() {
        let gate = FeatureGate::new(levels(1, 2));
        assert_eq!(gate.excludes(levels(1, 1)), None, "nothing is known yet");
        gate.follow(FeatureLevel(2)).unwrap();
        assert_eq!(gate.excludes(levels(1, 1)), Some(FeatureLevel(2)));
        assert_eq!(gate.excludes(levels(3, 4)), Some(FeatureLevel(2)));
        assert_eq!(gate.excludes(levels(2, 3)), None);
        let old = FeatureGate::new(levels(1, 1));
        assert_eq!(old.newest_format(), EntryFormat::Plain);
        assert_eq!(old.follow(FeatureLevel(2)), Err(MetaRefusal::LevelUnsupported(FeatureLevel(2))));
    }
}
