//! An entity and its shard: one that leaves or is ended takes no caller with it, what the shard dropped is proposed again,
//! and a shard that fails takes the process with it.

use super::{Bench, HandClock, ParcelCommand, key, plain, post, rt, start};
use crate::actors::door::{Answer, AskError};
use crate::actors::entity::{EntityActor, EntityArgs, EntityMsg};
use crate::actors::life::Life;
use crate::actors::shard::ShardMsg;
use crate::gateways::Permit;
use crate::types::effect::{Lane, Slot};
use crate::types::ids::Version;
use crate::types::record::{RecordFate, VoidReason};
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

/// An entity whose shard is an [`Ear`].
async fn entity_of(bench: &Bench) -> (ActorRef<EntityMsg>, mpsc::UnboundedReceiver<ShardMsg>) {
    let shared = bench.node.shared.clone();
    let (ear, heard) = mpsc::unbounded_channel();
    let (shard, _) = Actor::spawn(None, Ear, ear).await.unwrap();
    let args = EntityArgs {
        key: key(1),
        shard_id: shared.shard_of(&key(1)),
        kind: shared.kinds.get(key(1).kind).unwrap().clone(),
        life: Life::default(),
        shared,
        shard,
        loaded: None,
    };
    (Actor::spawn(None, EntityActor, args).await.unwrap().0, heard)
}

/// A command that leads to a record whatever came before it.
fn tell(bench: &Bench, entity: &ActorRef<EntityMsg>) -> oneshot::Receiver<Result<Answer, AskError>> {
    let (reply, answer) = oneshot::channel();
    let ask = plain(key(1), &ParcelCommand::Tell { at: bench.clock.now() + Millis::from_hours(1) });
    entity.cast(EntityMsg::Ask(Box::new(ask), reply)).unwrap();
    answer
}

fn dropped(version_before: u64) -> EntityMsg {
    EntityMsg::Fate(Version(version_before), RecordFate::Void(VoidReason::Dropped))
}

/// The version that the next proposed record builds on.
async fn next_proposed(heard: &mut mpsc::UnboundedReceiver<ShardMsg>) -> Version {
    loop {
        if let ShardMsg::Propose { record, .. } = heard.recv().await.unwrap() {
            return record.version_before;
        }
    }
}

#[test]
fn a_command_that_comes_after_a_drop_is_proposed_once_the_pause_is_over() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let (entity, mut heard) = entity_of(&bench).await;
        let answer = tell(&bench, &entity);
        assert_eq!(next_proposed(&mut heard).await, Version(0));
        for _ in 0..3 {
            entity.cast(dropped(0)).unwrap();
            let _answer = tell(&bench, &entity);
            assert_eq!(next_proposed(&mut heard).await, Version(0), "by the entity's own timer");
        }
        assert!(matches!(answer.await, Ok(Err(AskError::Unavailable))));
        entity.stop(None);
        bench.node.stop().await;
    });
}

/// A shard that is lost ends its entities wherever they stand.
#[test]
fn an_entity_that_is_ended_tells_those_whom_it_had_not_decided_that_nothing_was_done() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let (entity, mut heard) = entity_of(&bench).await;
        let (first, second) = (tell(&bench, &entity), tell(&bench, &entity));
        assert_eq!(next_proposed(&mut heard).await, Version(0));
        assert_eq!(next_proposed(&mut heard).await, Version(1));
        // It waits for the fate of the second, and decides nothing meanwhile.
        entity.cast(dropped(0)).unwrap();
        let third = tell(&bench, &entity);
        // A permit that nobody awaits goes back: what was sent before it has come in.
        let (back, came_back) = oneshot::channel();
        let permit = Permit::new(Box::new(|_, _, _| {}), Box::new(move || back.send(()).unwrap()));
        entity.cast(EntityMsg::Granted(Slot(9), Lane::Entity, permit)).unwrap();
        came_back.await.unwrap();
        entity.stop(None);
        assert!(matches!(first.await, Ok(Err(AskError::Unavailable))));
        assert!(second.await.is_err(), "nobody can tell");
        assert!(matches!(third.await, Ok(Err(AskError::Unavailable))));
        bench.node.stop().await;
    });
}

#[test]
fn a_command_that_meets_a_leaving_entity_is_answered_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let (entity, mut heard) = entity_of(&bench).await;
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
