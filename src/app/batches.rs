//! The book of batches that a node's gateways write in: each batch is an entity of its members' shard (ADR-13). Here the
//! gateways, which know no entities, meet the kind, which knows no gateways.

use crate::actors::door::{Ask, AskError, Door};
use crate::actors::node::Node;
use crate::actors::open_calls;
use crate::actors::service::NodeDoor;
use crate::domain::batch::{BatchCommand, BatchRejection, BatchState, batch_key_of};
use crate::domain::kinds::INDEX_BATCH_MEMBER;
use crate::gateways::batch_book::{BatchBook, Later, NotAgain, NotStarted, OpenBatch};
use crate::types::batch::{Closing, Member, Sheet};
use crate::types::call::{CallRequest, MessageRequest};
use crate::types::codec;
use crate::types::ids::{EntityKey, ShardId};
use crate::types::level::FOURTH_LEVEL;
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::time::Timestamp;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};

/// From here on the node's gateways write their batches down, and find those of an earlier life.
pub(crate) fn keep(node: &Arc<Node>) {
    let book: Arc<dyn BatchBook> = Arc::new(NodeBook { node: Arc::downgrade(node) });
    if let Some(gateways) = node.shared.gateways.get() {
        gateways.keep_batches(&book);
    }
}

/// The gateways hold it, and the node holds the gateways: so it holds the node only while it asks.
struct NodeBook {
    node: Weak<Node>,
}

impl NodeBook {
    fn door(&self) -> Option<NodeDoor> {
        Some(NodeDoor::new(self.node.upgrade()?, None))
    }

    async fn command(&self, key: EntityKey, command: &BatchCommand) -> Result<(), AskError> {
        let door = self.door().ok_or(AskError::Unavailable)?;
        let ask = Ask { key, command: codec::encode(command), idempotency: None, if_version: None, new_key: None };
        door.ask(ask).await.map(|_committed| ())
    }

    async fn write(&self, sheet: Sheet) -> Result<EntityKey, NotStarted> {
        let door = self.door().ok_or(NotStarted::Refused)?;
        let now = door.clock().now();
        let key = batch_key_of(&sheet, now).ok_or(NotStarted::Refused)?;
        let shard = door.shard_of(&key);
        let here = self.node.upgrade().is_some_and(|node| open_calls::leads(&node, shard));
        // Of one shard, and of one that is led here: else this is no batch, whatever was gathered.
        if !here || sheet.members.iter().any(|member| door.shard_of(&member.entity) != shard) {
            return Err(NotStarted::Refused);
        }
        let command = BatchCommand::Start { sheet: Box::new(sheet), by: now + ATTEMPT_NOT_AFTER };
        match self.command(key, &command).await {
            Ok(()) => Ok(key),
            Err(AskError::Unknown) => Err(NotStarted::Unknown),
            Err(AskError::Rejected { rejection, .. }) if is_there_already(&rejection) => Err(NotStarted::Unknown),
            // All the others changed nothing.
            Err(error) => {
                tracing::debug!(%error, "a batch is not written: its members leave alone");
                Err(NotStarted::Refused)
            }
        }
    }

    async fn look_for(&self, shard: ShardId, member: Member) -> Result<Option<OpenBatch>, Later> {
        let door = self.door().ok_or(Later)?;
        let row = member.to_bytes().to_vec();
        let found = door.resolve(shard, INDEX_BATCH_MEMBER, row).await.map_err(|_away| Later)?;
        let Some(key) = found else { return Ok(None) };
        let answer = door.read(key).await.map_err(|_away| Later)?;
        let state: BatchState = answer
            .map(|answer| codec::decode(&answer.state))
            .transpose()
            .map_err(|_damaged| Later)?
            .unwrap_or_default();
        // Closed since the row was read: then it holds nobody any more.
        Ok(state.open().map(|open| OpenBatch { key, sheet: open.sheet.clone() }))
    }

    async fn read(&self, members: Vec<Member>) -> Result<Option<Vec<MessageRequest>>, Later> {
        let node = self.node.upgrade().ok_or(Later)?;
        let Some(first) = members.first() else { return Ok(None) };
        let shard = NodeDoor::new(node.clone(), None).shard_of(&first.entity);
        let calls = members.iter().map(|member| (member.entity, member.slot)).collect();
        let requests = open_calls::requests(&node, shard, calls).await.map_err(|_away| Later)?;
        let message = |request: Option<CallRequest>| match request {
            Some(CallRequest::Message(message)) => Some(message),
            Some(CallRequest::Payment(_) | CallRequest::Entity(_) | CallRequest::Shipment(_)) | None => None,
        };
        Ok(requests.into_iter().map(message).collect())
    }

    async fn try_again(&self, batch: EntityKey, absent_since: Option<Timestamp>) -> Result<(), NotAgain> {
        let command = absent_since.map_or(BatchCommand::Again, |since| BatchCommand::AgainAbsent { since });
        match self.command(batch, &command).await {
            Ok(()) => Ok(()),
            Err(AskError::Rejected { rejection, .. }) => match codec::decode::<BatchRejection>(&rejection) {
                Ok(BatchRejection::KeyTooOld) => Err(NotAgain::KeyTooOld),
                Ok(BatchRejection::NotOpen) => Err(NotAgain::NotOpen),
                Ok(
                    BatchRejection::TooEarly
                    | BatchRejection::AlreadyStarted
                    | BatchRejection::TooLate
                    | BatchRejection::BadMembers
                    | BatchRejection::NotWanted,
                )
                | Err(_) => Err(NotAgain::Later),
            },
            Err(_) => Err(NotAgain::Later),
        }
    }
}

/// Nobody else starts a batch of this key: then it is this one.
fn is_there_already(rejection: &[u8]) -> bool {
    matches!(codec::decode(rejection), Ok(BatchRejection::AlreadyStarted))
}

impl BatchBook for NodeBook {
    fn takes(&self) -> bool {
        self.node.upgrade().is_some_and(|node| node.shared.gate.level() >= FOURTH_LEVEL)
    }
    fn start(&self, sheet: Sheet) -> BoxFuture<'_, Result<EntityKey, NotStarted>> {
        Box::pin(self.write(sheet))
    }
    fn find(&self, shard: ShardId, member: Member) -> BoxFuture<'_, Result<Option<OpenBatch>, Later>> {
        Box::pin(self.look_for(shard, member))
    }
    fn render(&self, members: Vec<Member>) -> BoxFuture<'_, Result<Option<Vec<MessageRequest>>, Later>> {
        Box::pin(self.read(members))
    }
    fn again(&self, batch: EntityKey, absent_since: Option<Timestamp>) -> BoxFuture<'_, Result<(), NotAgain>> {
        Box::pin(self.try_again(batch, absent_since))
    }
    fn close(&self, batch: EntityKey, why: Closing) -> BoxFuture<'_, Result<(), Later>> {
        Box::pin(async move { self.command(batch, &BatchCommand::Close(why)).await.map_err(|_open| Later) })
    }
}
