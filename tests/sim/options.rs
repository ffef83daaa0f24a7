//! Swarm options: which faults a seed brings. Printed with the seed, so that a run can be read and repeated.

use bojagi::simulation::dice::Dice;

/// A defect built in on purpose, to prove that the checkers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    None,
    /// The host answers its client when the record is proposed.
    AckBeforeCommit,
    /// The host says "durable" before it is.
    SkipFsync,
    /// The core offers raft what was queued behind a refused proposal.
    GoOnAfterDrop,
    /// The core leads again under the claim of an earlier term.
    KeepOldClaim,
    /// The core answers its leader before its own disk has answered.
    SendBeforePersisted,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub defect: Defect,
    /// Voters that found the group.
    pub voters: u64,
    /// Seconds with faults, before everything heals.
    pub seconds: u64,
    pub drops: bool,
    pub duplicates: bool,
    pub delays: bool,
    pub partitions: bool,
    pub kills: bool,
    pub power_cuts: bool,
    pub pauses: bool,
    pub slow_disks: bool,
    pub slow_appliers: bool,
    pub transfers: bool,
    pub members: bool,
    /// Logs are kept so short that a follower that lags gets a snapshot.
    pub short_logs: bool,
    /// So little may be uncommitted that raft refuses entries.
    pub tight: bool,
}

impl Options {
    pub fn of_seed(seed: u64, seconds: u64, defect: Defect) -> Self {
        let mut rng = Dice::new(seed ^ 0x0415_0115);
        let mut on = || rng.per_mille(600);
        Self {
            seed,
            defect,
            voters: [3, 1, 3, 5, 3, 3, 5, 3][(seed % 8) as usize],
            seconds,
            drops: on(),
            duplicates: on(),
            delays: on(),
            partitions: on(),
            // A run in which nobody ever fails shows little.
            kills: on() || seed.is_multiple_of(2),
            power_cuts: on(),
            pauses: on(),
            slow_disks: on(),
            slow_appliers: on(),
            transfers: on(),
            members: on(),
            short_logs: on(),
            tight: on(),
        }
    }

    /// Everything at once, for the seeded defects.
    pub fn harsh(seed: u64, seconds: u64, defect: Defect) -> Self {
        Self {
            seed,
            defect,
            voters: 3,
            seconds,
            drops: true,
            duplicates: true,
            delays: true,
            partitions: true,
            kills: true,
            power_cuts: true,
            pauses: true,
            slow_disks: true,
            slow_appliers: true,
            transfers: true,
            members: true,
            short_logs: true,
            tight: true,
        }
    }
}
