//! A node's links to its peers, and how a node without a number becomes a member.

use crate::actors::cluster::Introduction;
use crate::actors::cluster::join::{JoinAnswer, JoinRequest};
use crate::actors::link::{Joiner, Label, LinkOptions, LinkTransport, Security, join_request};
use crate::actors::node::LinkUp;
use crate::app::detour::{Detour, Detoured};
use crate::app::{AppError, system_random};
use crate::config::cluster::ClusterConfig;
use crate::persistence::folder::{Folder, OpenOptions};
use crate::persistence::joining;
use crate::replication::transport::{Peer, PeerAddress, SharedTransport};
use crate::sharding::meta::NodeFacts;
use crate::types::codec;
use crate::types::ids::NodeId;
use crate::types::level::LEVELS;
use crate::types::time::Clock;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a member may take to decide on a join.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);
/// Threads of the links' own runtime.
const LINK_THREADS: usize = 1;

/// How a node is linked to others.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    pub name: Label,
    pub cluster: Label,
    pub listen: SocketAddr,
    pub security: Security,
    /// Peers are dialled through proxies.
    pub detour: Option<Detour>,
}

impl LinkPlan {
    /// Starts the links once the node is there to take what they bring.
    #[must_use]
    pub fn link_up(self, folder: &Folder, clock: Arc<dyn Clock>) -> LinkUp {
        let options = LinkOptions {
            me: Peer { node: folder.node, incarnation: folder.incarnation },
            name: self.name,
            cluster: self.cluster,
            cluster_id: folder.cluster,
            listen: self.listen,
            security: self.security,
            clock,
            fill_random: Arc::new(system_random),
            threads: LINK_THREADS,
        };
        let detour = self.detour;
        Box::new(move |inbound| {
            Box::pin(async move {
                let links = LinkTransport::start(options, inbound).await.map_err(|error| error.to_string())?;
                let links: SharedTransport = links;
                Ok(match detour {
                    Some(detour) => Arc::new(Detoured { links, detour }),
                    None => links,
                })
            })
        })
    }
}

/// A node of a configured cluster: who it is, and how it is linked.
pub struct Member {
    pub introduction: Introduction,
    pub plan: LinkPlan,
}

impl Member {
    /// From the `[cluster]` section; `api` is the front door's address.
    ///
    /// # Errors
    /// [`AppError::Usage`]: a name is none.
    pub fn new(config: &ClusterConfig, api: SocketAddr) -> Result<Self, AppError> {
        let label = |key: &str, text: &str| {
            Label::new(text).map_err(|error| AppError::Usage(format!("configuration: cluster.{key}: {error}")))
        };
        let introduction = Introduction {
            name: config.node.clone(),
            zone: config.zone.clone(),
            weight: config.weight,
            cluster_address: config.address.clone(),
            api_url: config.api_url.clone().unwrap_or_else(|| format!("http://{api}")),
            replication: config.replication,
            levels: LEVELS,
        };
        let tls = &config.tls;
        let plan = LinkPlan {
            name: label("node", &config.node)?,
            cluster: label("name", &config.name)?,
            listen: config.listen,
            security: Security::Mtls { cert: tls.cert.clone(), key: tls.key.clone(), ca: tls.ca.clone() },
            detour: None,
        };
        Ok(Self { introduction, plan })
    }
}

fn bootstrap_file(data: &Path) -> PathBuf {
    data.with_extension("peers")
}

/// The members that a joined node was told of, for its first links. None of a folder that did not join.
#[must_use]
pub fn bootstrap_peers(data: &Path) -> Vec<PeerAddress> {
    let Ok(text) = fs::read_to_string(bootstrap_file(data)) else { return Vec::new() };
    let members: Vec<(u64, String)> = serde_json::from_str(&text).unwrap_or_default();
    members.into_iter().map(|(node, address)| PeerAddress { node: NodeId(node), address }).collect()
}

/// Asks a member to let this node join, and makes its data folder.
///
/// # Errors
/// [`AppError::Cluster`] with the member's words; [`AppError::Folder`] when the folder cannot be made: the node's number
/// is then lost, and another token is needed.
pub async fn join(
    plan: &LinkPlan,
    via: &str,
    token: &str,
    facts: NodeFacts,
    data: &Path,
    options: OpenOptions,
) -> Result<NodeId, AppError> {
    let joiner = Joiner { name: &plan.name, cluster: &plan.cluster, security: &plan.security };
    let request = codec::encode(&JoinRequest { token: token.to_owned(), facts });
    let answer = join_request(joiner, via, request, JOIN_PATIENCE).await;
    let answer = answer.map_err(|error| AppError::Cluster(error.to_string()))?;
    let welcome = codec::decode::<JoinAnswer>(&answer)
        .map_err(|_| AppError::Cluster(format!("{via} answers what this build does not understand")))?
        .map_err(|why| AppError::Cluster(format!("{via} does not let this node join: {why}")))?;
    let node = welcome.identity.node;
    let members = serde_json::to_string(&welcome.members).expect("numbers and texts are JSON");
    fs::write(bootstrap_file(data), members).map_err(AppError::io("file of the members"))?;
    joining::join(data, &options, welcome.identity)?;
    Ok(node)
}
