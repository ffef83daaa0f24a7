//! The meta group's machine: members, placement, settings and feature level of the cluster, as one entity.
//!
//! It is hosted under `META_SHARD` by the same Raft core and apply path as any shard (ADR-8). The groups decide their own
//! membership; this state says what it ought to be, and hears from the shards' leaders what it is.
//!
//! | command | refused | leads to |
//! |---|---|---|
//! | `Found` | founded already, facts unusable | `Founded` |
//! | `IssueToken` | expired, too many | `TokenIssued` |
//! | `Join` | token unknown, used or expired; name taken; too many nodes; level unsupported | `Joined` |
//! | `Begin` | node unknown, folder behind, level unsupported | `Begun` |
//! | `Drain`, `Undrain` | node unknown | `Drained`, `Undrained` |
//! | `Remove` | replicas there, last copy, majority lost, still votes, last node | `Removed` |
//! | `SetWeight`, `SetZone`, `SetSettings` | out of range | `Reweighed`, `Rezoned`, `SettingsChanged` |
//! | `Plan` | shard or node unknown, a set that makes no sense | `Planned` |
//! | `GroupChanged` | shard unknown | `GroupChanged` |
//! | `NodeLost`, `NodeSeen` | node unknown, incarnation stale | `NodeLost`, `NodeSeen` |
//! | `FinalizeUpgrade` | held back by an older build | `LevelRaised` |
//!
//! A command that asks for what is so already changes nothing and is not refused.

mod command;
mod decide;
mod describe;
mod event;
mod evolve;
#[cfg(test)]
pub(crate) mod fixtures;
mod state;
#[cfg(test)]
mod tests;
mod views;

pub use command::{Field, MetaCommand, MetaRefusal, NodeFacts, ShardWish};
pub use event::{MetaEvent, MetaFact, PlannedShard};
pub use state::{
    ClusterId, DrainDepth, FeatureLevel, Levels, Member, MetaState, NodeState, PeerId, Placement, Replica, Role,
    Settings, TokenHash, TokenUse, Weight,
};
pub use views::{Hosted, Seat, Start, Target};

use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, Slot};
use crate::types::entity::{Decision, Entity};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::record::Sealed;

/// The tag of the meta group's entity kind.
pub const META_KIND: EntityKind = EntityKind(0);
/// The meta group's only entity.
pub const META_KEY: EntityKey = EntityKey { kind: META_KIND, id: [0; 16] };

/// The meta group as an entity kind.
pub struct MetaGroup;

impl Entity for MetaGroup {
    type State = MetaState;
    type Command = MetaCommand;
    type Event = MetaEvent;
    type Rejection = MetaRefusal;
    const KIND: EntityKind = META_KIND;
    const PREFIX: &'static str = "meta";

    fn decide(
        key: EntityKey,
        state: &MetaState,
        command: MetaCommand,
        at: &At,
    ) -> Result<Decision<MetaEvent>, MetaRefusal> {
        if key != META_KEY {
            return Err(MetaRefusal::NotTheMetaEntity);
        }
        let fact = decide::decide(state, command, at.now)?;
        Ok(Decision::events(fact.into_iter().map(|fact| MetaEvent { at: at.now, fact }).collect()))
    }

    fn evolve(state: &mut MetaState, event: &MetaEvent) {
        evolve::evolve(state, event);
    }

    /// Nothing of its own accord: the node that leads the group looks at the state and acts.
    fn wants(_key: EntityKey, _state: &MetaState) -> Effects {
        Effects { terminal: true, ..Effects::default() }
    }
    fn sealed(_state: &MetaState) -> Option<&Sealed> {
        None
    }
    fn request(_key: EntityKey, _state: &MetaState, _slot: Slot, _personal: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> MetaCommand {
        MetaCommand::Unwanted
    }
    fn attempt_command(_start: AttemptStart) -> MetaCommand {
        MetaCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> MetaCommand {
        MetaCommand::Unwanted
    }
    fn report_command(_report: Report) -> MetaCommand {
        MetaCommand::Unwanted
    }
    fn describe(event: &MetaEvent) -> serde_json::Value {
        describe::describe(event)
    }
}
