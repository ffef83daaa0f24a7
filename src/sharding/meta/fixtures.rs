//! A cluster for tests: commands go the way that the runtime takes, through the entity's `decide` and `evolve`.

use super::{
    ClusterId, FeatureLevel, Levels, META_KEY, MetaCommand, MetaEvent, MetaGroup, MetaRefusal, MetaState, NodeFacts,
    TokenHash,
};
use crate::types::codec;
use crate::types::entity::Entity;
use crate::types::ids::{CommandId, Incarnation, NodeId};
use crate::types::kind::At;
use crate::types::time::{Millis, Timestamp};

/// The cluster's state, the instant, and everything that happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) state: MetaState,
    pub(crate) now: Timestamp,
    pub(crate) journal: Vec<MetaEvent>,
}

pub(crate) fn levels(lowest: u16, highest: u16) -> Levels {
    Levels { lowest: FeatureLevel(lowest), highest: FeatureLevel(highest) }
}

pub(crate) fn facts(number: u64, zone: &str) -> NodeFacts {
    NodeFacts {
        name: format!("node-{number}"),
        zone: zone.to_owned(),
        weight: 100,
        cluster_address: format!("10.0.0.{number}:7401"),
        api_url: format!("http://10.0.0.{number}:7400"),
        levels: levels(1, 2),
        build: "0.1.0".to_owned(),
    }
}

pub(crate) fn token(number: u64) -> TokenHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    TokenHash(hash)
}

impl Cluster {
    pub(crate) fn founded(shards: u16, rf: u8) -> Self {
        Self::founded_in(shards, rf, "z0")
    }
    pub(crate) fn founded_in(shards: u16, rf: u8, zone: &str) -> Self {
        let mut cluster = Self { now: Timestamp(1_000_000), ..Self::default() };
        let (level, node) = (FeatureLevel(1), facts(1, zone));
        cluster.must(MetaCommand::Found { cluster: ClusterId([7; 16]), shards, rf, level, node });
        cluster
    }

    /// How many events it made.
    pub(crate) fn ask(&mut self, command: MetaCommand) -> Result<usize, MetaRefusal> {
        let at = At { now: self.now, command_id: CommandId::default() };
        let events = MetaGroup::decide(META_KEY, &self.state, command, &at)?.events;
        for event in &events {
            MetaGroup::evolve(&mut self.state, event);
        }
        self.journal.extend(events.iter().cloned());
        Ok(events.len())
    }
    pub(crate) fn must(&mut self, command: MetaCommand) {
        let shown = format!("{command:?}");
        assert_eq!(self.ask(command), Ok(1), "{shown}");
    }

    pub(crate) fn join(&mut self, zone: &str) -> NodeId {
        self.join_as(zone, 100)
    }
    pub(crate) fn join_as(&mut self, zone: &str, weight: u16) -> NodeId {
        let number = self.state.node_next.0;
        let expires_at = self.now + Millis::from_hours(1);
        self.must(MetaCommand::IssueToken { token: token(number), expires_at });
        let node = NodeFacts { weight, ..facts(number, zone) };
        self.must(MetaCommand::Join { token: token(number), node });
        self.state.joined_with(token(number)).unwrap()
    }
    pub(crate) fn lose(&mut self, node: NodeId) {
        let incarnation = self.state.member(node).map_or(Incarnation(0), |member| member.incarnation);
        self.must(MetaCommand::NodeLost { node, incarnation });
    }
    pub(crate) fn pass(&mut self, span: Millis) {
        self.now = self.now + span;
    }
    /// The state that the journal leads to, by way of its bytes.
    pub(crate) fn replay(&self) -> MetaState {
        let mut state = MetaState::default();
        for event in &self.journal {
            let event: MetaEvent = codec::decode(&codec::encode(event)).unwrap();
            MetaGroup::evolve(&mut state, &event);
        }
        codec::decode(&codec::encode(&state)).unwrap()
    }
}
