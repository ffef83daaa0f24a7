//! Watches over a node's shards. A shard holds what cannot be made again by starting it anew (proposals in flight,
//! the core's place in the log), so one that fails ends the process, and the next life recovers from the disk.

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

/// Supervises the shards.
pub struct Keeper;

/// The keeper is told nothing.
pub enum KeeperMsg {}

// Local only: never advertised to peers.
impl ractor::Message for KeeperMsg {}

impl Actor for Keeper {
    type Msg = KeeperMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<KeeperMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<KeeperMsg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, cause) => {
                tracing::error!(%cause, "a shard failed: ending the process so that nothing more is acknowledged");
                std::process::abort()
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => Ok(()),
        }
    }
}
