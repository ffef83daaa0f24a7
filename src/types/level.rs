//! Feature levels: which formats a build knows, and which of them a cluster writes (ADR-10).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which records a build may write. Raised by `FinalizeUpgrade` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FeatureLevel(pub u16);

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The feature levels that a build can read and write, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    pub lowest: FeatureLevel,
    pub highest: FeatureLevel,
}

/// The level that any cluster has.
pub const FIRST_LEVEL: FeatureLevel = FeatureLevel(1);
/// From here on there are entities beside gifts and products, and gifts are paid with coupons and balances.
pub const NEIGHBOURS_LEVEL: FeatureLevel = FeatureLevel(3);
/// From here on attempts leave in batches (ADR-13), coupon campaigns have parts, orders tell their buyers how they stand, wallets are
/// listed and erased, nodes hand requests on round a link that is down, and a gift remembers the links that it no longer goes by.
pub const FOURTH_LEVEL: FeatureLevel = FeatureLevel(4);

/// The feature levels of this build.
pub const LEVELS: Levels = Levels { lowest: FIRST_LEVEL, highest: FOURTH_LEVEL };

impl Levels {
    #[must_use]
    pub fn supports(self, level: FeatureLevel) -> bool {
        self.lowest <= level && level <= self.highest
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lowest, self.highest)
    }
}

/// Levels that are none of this build's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not feature levels of this build, which knows {LEVELS}")]
pub struct LevelsError;

impl FromStr for Levels {
    type Err = LevelsError;

    /// `1-1`: what a build of before knew.
    fn from_str(text: &str) -> Result<Self, LevelsError> {
        let (lowest, highest) = text.split_once('-').ok_or(LevelsError)?;
        let level = |text: &str| text.parse().map(FeatureLevel).map_err(|_| LevelsError);
        let levels = Self { lowest: level(lowest)?, highest: level(highest)? };
        let known =
            levels.lowest <= levels.highest && LEVELS.supports(levels.lowest) && LEVELS.supports(levels.highest);
        if known { Ok(levels) } else { Err(LevelsError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_shown_and_only_those_of_this_build() {
        for text in ["1-1", "1-2", "2-2", "1-3", "2-3", "1-4", "3-4"] {
            assert_eq!(text.parse::<Levels>().unwrap().to_string(), text);
        }
        for text in ["", "1", "2-1", "0-1", "1-5", "1-2-3"] {
            assert_eq!(text.parse::<Levels>(), Err(LevelsError), "{text}");
        }
    }
}
