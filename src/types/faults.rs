//! Faults that a chaos run orders of a node's disk and clock, and the file through which it does: `faults-<node>` beside
//! the data folders of `bojagi dev`, read by nodes that were built with the feature `faults` and by no others.

/// Size of the file. Each word is little-endian and takes effect by itself.
pub const FILE_BYTES: u64 = 16;
/// Where the clock's word is: signed milliseconds that the clock is off.
pub const CLOCK_AT: u64 = 0;
/// Where the disk's word is: see [`DiskFault::encode`].
pub const DISK_AT: u64 = 8;

/// Name of a member's file in the folder of `bojagi dev`.
#[must_use]
pub fn file_name(member: u16) -> String {
    format!("faults-{member}")
}

/// What a node's storage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// ENOSPC of every write, and of opening.
    Full,
    /// EIO of every write and sync.
    Failing,
    /// Each sync takes so much longer.
    Slow { ms: u32 },
}

impl DiskFault {
    /// Kind in the lowest byte, milliseconds above it; 0 is a disk that is well.
    #[must_use]
    pub fn encode(fault: Option<Self>) -> u64 {
        match fault {
            None => 0,
            Some(Self::Full) => 1,
            Some(Self::Failing) => 2,
            Some(Self::Slow { ms }) => 3 | u64::from(ms) << 8,
        }
    }

    /// What was encoded; a kind that is not known is no fault.
    #[must_use]
    pub fn decode(word: u64) -> Option<Self> {
        match word & 0xff {
            1 => Some(Self::Full),
            2 => Some(Self::Failing),
            3 => Some(Self::Slow { ms: u32::try_from(word >> 8).unwrap_or(u32::MAX) }),
            _ => None,
        }
    }

    /// In a reader's words.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Full => "full".to_owned(),
            Self::Failing => "failing".to_owned(),
            Self::Slow { ms } => format!("slow by {ms} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_was_ordered() {
        for fault in [None, Some(DiskFault::Full), Some(DiskFault::Failing), Some(DiskFault::Slow { ms: 250 })] {
            assert_eq!(DiskFault::decode(DiskFault::encode(fault)), fault);
        }
        assert_eq!(DiskFault::encode(Some(DiskFault::Slow { ms: 1 })), 0x103, "as it lies in the file");
        assert_eq!(DiskFault::decode(0xff), None);
    }
}
