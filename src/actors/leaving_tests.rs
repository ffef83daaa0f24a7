//! Ways out of memory: an entity that leaves takes no caller with it, and a shard that fails takes the process with it.

use super::{HandClock, key, post, rt, start};
use crate::actors::entity::{EntityActor, EntityArgs, EntityMsg};
use crate::actors::shard::ShardMsg;
use crate::types::ids::{Claim, Version};
use crate::types::time::{Clock, Millis};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Shows what an entity says to its shard.
struct Ear;

impl Actor for Ear {
    type Msg = ShardMsg;
    type State = mpsc::UnboundedSender<ShardMsg>;
    type Arguments = mpsc::UnboundedSender<ShardMsg>;

    async fn pre_start(
        &self,
        _: ActorRef<ShardMsg>,
        heard: mpsc::UnboundedSender<ShardMsg>,
    ) -> Result<mpsc::UnboundedSender<ShardMsg>, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle(
        &self,
        _: ActorRef<ShardMsg>,
        message: ShardMsg,
        heard: &mut mpsc::UnboundedSender<ShardMsg>,
    ) -> Result<(), ActorProcessingErr> {
        heard.send(message).unwrap();
        Ok(())
    }
}

#[test]
fn a_command_that_meets_a_leaving_entity_is_answered_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let shared = bench.node.shared.clone();
        let (ear, mut heard) = mpsc::unbounded_channel();
        let (shard, _) = Actor::spawn(None, Ear, ear).await.unwrap();
        let args = EntityArgs {
            key: key(1),
            shard_id: shared.shard_of(&key(1)),
            kind: shared.kinds.get(key(1).kind).unwrap().clone(),
            claim: Claim::default(),
            shared: shared.clone(),
            shard,
            loaded: None,
        };
        let (entity, _) = Actor::spawn(None, EntityActor, args).await.unwrap();
        assert!(matches!(heard.recv().await, Some(ShardMsg::PassivateMe(..))), "it has nothing to stay for");
        let (reply, answer) = oneshot::channel();
        let ask = post(1, bench.clock.now() + Millis::from_hours(1));
        entity.cast(EntityMsg::Ask(Box::new(ask), reply)).unwrap();
        entity.cast(EntityMsg::Passivate).unwrap();
        assert_eq!(answer.await.expect("somebody answers").unwrap().version, Version(1));
        bench.node.stop().await;
    });
}

/// Run as a process of its own by the test below.
#[test]
#[ignore = "ends its process"]
fn child_whose_shard_panics() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        bench.node.shared.replica_actors()[0].cast(ShardMsg::PanicForTest).unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    });
}

#[test]
fn a_shard_that_panics_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let name = "actors::node_tests::leaving::child_whose_shard_panics";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let ended = child.args(["--exact", name, "--ignored"]).output().unwrap();
    assert_eq!(ended.status.signal(), Some(6), "aborted: {}", String::from_utf8_lossy(&ended.stdout));
}
