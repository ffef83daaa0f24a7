//! Faults: which nodes, and how they end.

use crate::chaos::ChaosError;
use crate::chaos::stand::{Signal, Stand};
use clap::ValueEnum;
use std::time::Duration;
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nemesis {
    /// None, for comparison
    None,
    /// kill -9 of the node that leads the most shards
    KillBusiest,
    /// SIGSTOP of the node that leads the most shards
    PauseBusiest,
    /// kill -9 of the two nodes that lead the most
    KillTwo,
    /// kill -9 of every node
    KillAll,
}

impl Nemesis {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::KillBusiest => "kill-busiest",
            Self::PauseBusiest => "pause-busiest",
            Self::KillTwo => "kill-two",
            Self::KillAll => "kill-all",
        }
    }

    /// The nodes that it hits, of those in order of how much they lead.
    #[must_use]
    pub fn victims(self, by_leaders: &[u16]) -> Vec<u16> {
        let count = match self {
            Self::None => 0,
            Self::KillBusiest | Self::PauseBusiest => 1,
            Self::KillTwo => 2,
            Self::KillAll => by_leaders.len(),
        };
        by_leaders.iter().copied().take(count).collect()
    }

    /// Ends or freezes them.
    ///
    /// # Errors
    /// [`ChaosError`]: one of them does not run.
    pub async fn strike(self, stand: &Stand, victims: &[u16]) -> Result<(), ChaosError> {
        let signal = if self == Self::PauseBusiest { Signal::Stop } else { Signal::Kill };
        for node in victims {
            stand.signal(*node, signal).await?;
        }
        Ok(())
    }

    /// Brings them back after a while.
    ///
    /// # Errors
    /// [`ChaosError`]: a node cannot be started again.
    pub async fn heal(self, stand: &Stand, victims: &[u16], after: Duration) -> Result<(), ChaosError> {
        if victims.is_empty() {
            return Ok(());
        }
        sleep(after).await;
        for node in victims {
            if self == Self::PauseBusiest {
                stand.signal(*node, Signal::Continue).await?;
            } else {
                stand.start_node(*node).await?;
            }
        }
        Ok(())
    }
}
