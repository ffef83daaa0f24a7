//! Where the links touch ractor_cluster: the one actor that peers see, and the sessions as its node server reports them.
//!
//! The gateway only passes batches on. Its remote shims are never exposed: stopping one would end a whole session. Each
//! session is known by the label of its stream; one that did not come through our own listener or dialler is stopped
//! before it can authenticate (the node server's own listener cannot be switched off; it listens on loopback).

use super::hub::Hub;
use crate::types::limits::FRAME_BYTES_MAX;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, pg};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage, RactorClusterMessage};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The one kind of message that crosses: a batch of frames.
#[derive(RactorClusterMessage)]
pub(crate) enum GatewayMsg {
    Batch(Vec<u8>),
}

const GROUP: &str = "bojagi/gateway";
/// One batch is a full batch or one frame; ractor_cluster adds a few dozen bytes.
const WIRE_FRAME_BYTES_MAX: u64 = FRAME_BYTES_MAX as u64 + (64 << 10);

struct Gateway;

impl Actor for Gateway {
    type Msg = GatewayMsg;
    type State = Arc<Hub>;
    type Arguments = Arc<Hub>;

    async fn pre_start(&self, me: ActorRef<GatewayMsg>, hub: Arc<Hub>) -> Result<Arc<Hub>, ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![me.get_cell()]);
        Ok(hub)
    }

    async fn handle(
        &self,
        _: ActorRef<GatewayMsg>,
        msg: GatewayMsg,
        hub: &mut Arc<Hub>,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            GatewayMsg::Batch(batch) => hub.receive(&batch),
        }
        Ok(())
    }
}

/// The peer's gateway, as the session with this number sees it.
pub(crate) fn shim(session: u64) -> Option<ActorRef<GatewayMsg>> {
    let is_its = |id: ActorId| matches!(id, ActorId::Remote { node_id, .. } if node_id == session);
    pg::get_members(&GROUP.to_owned()).into_iter().find(|cell| is_its(cell.get_id())).map(Into::into)
}

struct Sessions(Arc<Hub>);

impl NodeEventSubscription for Sessions {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        if !self.0.session_opened(&session.peer_addr, session.actor.get_cell()) {
            tracing::warn!(from = %session.peer_addr, "a connection that is no link was closed");
            session.actor.kill();
        }
    }
    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.0.session_gone(&session.peer_addr);
    }
    fn node_session_authenticated(&self, _session: NodeServerSessionInformation) {}
    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.0.session_ready(&session.peer_addr, session.node_id);
    }
}

/// The two actors that ractor_cluster needs, running.
pub(crate) struct Actors {
    pub(crate) server: ActorRef<NodeServerMessage>,
    server_ended: JoinHandle<()>,
    gateway: ActorRef<GatewayMsg>,
    gateway_ended: JoinHandle<()>,
}

impl Actors {
    /// Starts both on the current runtime.
    ///
    /// # Errors
    /// The node server's listener finds no port on loopback.
    pub(crate) async fn start(hub: &Arc<Hub>) -> Result<Self, SpawnErr> {
        let (gateway, gateway_ended) = Actor::spawn(None, Gateway, Arc::clone(hub)).await?;
        // Name and host must be unique to this life of this node: equal ones count as "self".
        let name = format!("n{}-i{}", hub.me.node, hub.me.incarnation);
        let mode = Some(NodeConnectionMode::Isolated);
        let server = NodeServer::new(0, hub.cookie(), name.clone(), name, None, mode)
            .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .with_max_inbound_frame_size(WIRE_FRAME_BYTES_MAX);
        let (server, server_ended) = match Actor::spawn(None, server, ()).await {
            Ok(started) => started,
            Err(error) => {
                gateway.kill();
                return Err(error);
            }
        };
        let subscription = Box::new(Sessions(Arc::clone(hub)));
        server
            .cast(NodeServerMessage::SubscribeToEvents { id: "links".to_owned(), subscription })
            .map_err(|error| SpawnErr::StartupFailed(error.into()))?;
        Ok(Self { server, server_ended, gateway, gateway_ended })
    }

    /// Done when one of them has ended, which neither should.
    pub(crate) async fn failed(&mut self) {
        tokio::select! {
            _ = &mut self.server_ended => tracing::error!("ractor_cluster's node server ended"),
            _ = &mut self.gateway_ended => tracing::error!("the gateway actor ended"),
        }
    }

    /// Ends both and waits for it.
    pub(crate) async fn stop(self) {
        self.server.kill();
        self.gateway.kill();
        for ended in [self.server_ended, self.gateway_ended] {
            if !ended.is_finished() {
                // A panic in an actor was logged by ractor.
                let _panic = ended.await;
            }
        }
    }
}
