//! The cluster from one node's point of view: it follows the meta group's state, tends the groups that it leads, and,
//! while it leads the meta group, plans.
//!
//! | file | what |
//! |---|---|
//! | `meta` | asking the meta group's entity, and reading the local copy of its state |
//! | `follow` | every node: routes, links and replicas as the state says |
//! | `tend` | leaders of shards: the group's members towards what is wanted, and reports of what they are |
//! | `lead` | the leader of the meta group: who is there, where replicas and leaders ought to be |
//! | `change` | what an operator orders |
//! | `leave` | a planned stop: leaders go first, and may come back |
//! | `join` | a node that wants to become a member |
//! | `others` | one question to all other members at once |
//! | `view` | what an operator sees |

pub mod change;
pub mod follow;
pub mod join;
pub mod lead;
pub mod leave;
pub mod meta;
pub mod others;
pub mod tend;
pub mod view;

use crate::sharding::meta::NodeFacts;
use crate::types::level::{LEVELS, Levels};

/// How a node introduces itself to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub name: String,
    pub zone: String,
    /// 1 to 1,000; 100 is usual.
    pub weight: u16,
    /// `host:port` where other nodes reach its links.
    pub cluster_address: String,
    /// Base URL of its front door.
    pub api_url: String,
    /// Replicas of each shard, where there are as many nodes. Only the founder's counts.
    pub replication: u8,
    /// Those of its build, but in dev, where it may play the build before.
    pub levels: Levels,
}

impl Introduction {
    /// A node that is its whole cluster.
    #[must_use]
    pub fn alone(api_url: impl Into<String>) -> Self {
        Self {
            name: "n1".to_owned(),
            zone: "z1".to_owned(),
            weight: 100,
            cluster_address: "127.0.0.1:0".to_owned(),
            api_url: api_url.into(),
            replication: 3,
            levels: LEVELS,
        }
    }

    /// What is sent to the meta group.
    #[must_use]
    pub fn facts(&self) -> NodeFacts {
        NodeFacts {
            name: self.name.clone(),
            zone: self.zone.clone(),
            weight: self.weight,
            cluster_address: self.cluster_address.clone(),
            api_url: self.api_url.clone(),
            levels: self.levels,
            build: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
