//! `[cluster]`: who a node is among others, and how they reach and know each other.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A node's place in its cluster. Links are mutual TLS; there is no way to turn that off here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The cluster's name, as its certificates bear it.
    pub name: String,
    /// This node's name, as its certificate bears it.
    pub node: String,
    /// What fails together, such as a rack or a data centre; replicas are spread over zones.
    pub zone: String,
    /// Share of the replicas against other nodes, 1 to 1,000.
    #[serde(default = "default_weight")]
    pub weight: u16,
    /// Address that the links listen on.
    pub listen: SocketAddr,
    /// `host:port` where the other nodes reach it.
    pub address: String,
    /// Base URL where operators and `bojagi cluster` reach this node's front door; by default its `node.listen`.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Replicas of each shard where there are as many nodes, 1 to 7. Counts when the cluster is founded.
    #[serde(default = "default_replication")]
    pub replication: u8,
    pub tls: ClusterTls,
}

/// PEM files, as `bojagi cluster certs` makes them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The cluster's CA.
    pub ca: PathBuf,
}

fn default_weight() -> u16 {
    100
}
fn default_replication() -> u8 {
    3
}

impl ClusterConfig {
    /// What is out of range, with its key.
    ///
    /// # Errors
    /// The key and its range.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1_000).contains(&self.weight) {
            return Err("cluster.weight: 1 to 1,000".to_owned());
        }
        if !(1..=7).contains(&self.replication) {
            return Err("cluster.replication: 1 to 7".to_owned());
        }
        if self.zone.is_empty() || self.zone.len() > 40 {
            return Err("cluster.zone: 1 to 40 characters".to_owned());
        }
        if self.address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            return Err("cluster.address: host:port where other nodes reach this one".to_owned());
        }
        Ok(())
    }
}
