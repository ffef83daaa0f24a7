//! The faults and planned events that a round may bring.
//!
//! | file | what |
//! |---|---|
//! | `schedule` | what is done when, drawn from the seed before the round begins: plain data |
//! | `draft` | the schedule of each nemesis |
//! | `harm` | carries a schedule out on the stand |
//! | `again` | kills that go on through a round, each once the cluster has recovered from the one before |

mod again;
mod draft;
mod harm;
mod schedule;

pub use harm::Harm;
pub use schedule::{Schedule, Stage, Trigger, draw};

use clap::ValueEnum;

/// In the order of the command line's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nemesis {
    /// None, for comparison
    None,
    /// kill -9 of the node that leads the most shards
    KillBusiest,
    /// kill -9 of any node
    KillRandom,
    /// kill -9 of the node that leads the most, within a second of the instant
    KillAtPeak,
    /// kill -9 of the two nodes that lead the most
    KillTwo,
    /// kill -9 of more than half of the nodes
    KillMajority,
    /// kill -9 of every node
    KillAll,
    /// kill -9 of each node in turn
    RollingKills,
    /// kill -9 of the busiest node, and of the next while the first one catches up
    KillDuringRecovery,
    /// kill -9 again and again while gifts fall due: mostly of the node that leads the most, of any node in between
    KillAgain,
    /// SIGSTOP of the node that leads the most shards
    PauseBusiest,
    /// SIGSTOP of any node
    PauseRandom,
    /// All links of the busiest node cut
    CutBusiest,
    /// The busiest node hears the others and is not heard
    CutOut,
    /// The busiest node is heard and does not hear the others
    CutIn,
    /// The link between the two busiest nodes cut
    CutPair,
    /// A minority of the nodes cut off from the others
    Split,
    /// Nodes cut off one by one, and let back in another order
    Swizzle,
    /// All links of any node cut and mended again and again
    Flap,
    /// Everything from and to the busiest node comes late
    Delay,
    /// Bytes from and to the busiest node are lost and sent again
    Loss,
    /// Clocks of a minority set ahead shortly before the instant (feature `faults`)
    ClockAhead,
    /// Clocks of a minority set back shortly before the instant (feature `faults`)
    ClockBehind,
    /// The busiest node's clock jumps, again and again (feature `faults`)
    ClockJumps,
    /// The busiest node's disk is full (feature `faults`)
    DiskFull,
    /// Each sync of the busiest node's disk takes long (feature `faults`)
    DiskSlow,
    /// The busiest node's disk fails (feature `faults`)
    DiskFailing,
    /// The messages' provider answers 429 and 5xx to most calls, some of them after it accepted
    ProviderBrownout,
    /// The messages' provider accepts and does not answer, every fifth call
    ProviderTimeouts,
    /// The messages' provider is away
    ProviderDown,
    /// Redis is killed, and comes back empty (with a redis-server beside the nodes)
    RedisGone,
    /// Planned: a node joins, and stays
    Join,
    /// Planned: the busiest node is drained
    Drain,
    /// Planned: each node is stopped and started in turn
    RollingRestart,
    /// Planned: the cluster is backed up
    Backup,
}

impl Nemesis {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> String {
        let shown = self.to_possible_value().expect("none of them is hidden from the command line");
        shown.get_name().to_owned()
    }

    /// Whether it needs proxies before the links.
    #[must_use]
    pub fn needs_links(self) -> bool {
        use Nemesis::{CutBusiest, CutIn, CutOut, CutPair, Delay, Flap, Loss, Split, Swizzle};
        [CutBusiest, CutIn, CutOut, CutPair, Delay, Flap, Loss, Split, Swizzle].contains(&self)
    }

    /// Whether it needs the hooks of the feature `faults` in the nodes.
    #[must_use]
    pub fn needs_hooks(self) -> bool {
        use Nemesis::{ClockAhead, ClockBehind, ClockJumps, DiskFailing, DiskFull, DiskSlow};
        [ClockAhead, ClockBehind, ClockJumps, DiskFailing, DiskFull, DiskSlow].contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nemesis_is_named_as_on_the_command_line() {
        assert_eq!(Nemesis::KillBusiest.name(), "kill-busiest");
        for nemesis in Nemesis::value_variants() {
            assert_eq!(Nemesis::from_str(&nemesis.name(), false), Ok(*nemesis));
        }
    }
}
