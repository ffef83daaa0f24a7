//! Where batches are written down before their call, and found again after a crash (ADR-13). The gateways say what has
//! to be written; how it becomes a record of the members' shard is the composition root's business.

use crate::types::batch::{Closing, Member, Sheet};
use crate::types::call::MessageRequest;
use crate::types::ids::{EntityKey, ShardId};
use crate::types::time::Timestamp;
use futures_util::future::BoxFuture;

/// A batch was not written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// Nothing was written and nothing will be: its members may leave alone.
    Refused,
    /// It may be written, now or later: its members are looked up before anything else.
    Unknown,
}

/// A batch may not be made again now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAgain {
    /// An earlier call of it may still be on its way, or nobody could be asked: later.
    Later,
    /// The provider may have forgotten the key: only if each member is looked up, and not found.
    KeyTooOld,
    /// It is closed.
    NotOpen,
}

/// Nobody could be asked, or too early: later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later;

/// A batch that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBatch {
    pub key: EntityKey,
    pub sheet: Sheet,
}

/// The records of batches. Each is one of the shard of its members, so that whoever leads these finds it.
pub trait BatchBook: Send + Sync {
    /// Whether batches are written down at all: not in a cluster that has members which do not know them.
    fn takes(&self) -> bool;
    /// Writes a batch down. It is committed when this returns `Ok`. Not cancellation safe: when dropped, it may be
    /// written or not.
    ///
    /// # Errors
    /// [`NotStarted`]
    fn start(&self, sheet: Sheet) -> BoxFuture<'_, Result<EntityKey, NotStarted>>;
    /// The open batch that the attempt is a member of.
    ///
    /// # Errors
    /// [`Later`]: that cannot be told now.
    fn find(&self, shard: ShardId, member: Member) -> BoxFuture<'_, Result<Option<OpenBatch>, Later>>;
    /// What is sent for the members, in order; `None` when one of them is decided.
    ///
    /// # Errors
    /// [`Later`]: that cannot be told now.
    fn render(&self, members: Vec<Member>) -> BoxFuture<'_, Result<Option<Vec<MessageRequest>>, Later>>;
    /// Writes down that the very same call is made again, from here on. `absent_since`: each member was looked up from
    /// then on, and is not there.
    ///
    /// # Errors
    /// [`NotAgain`]
    fn again(&self, batch: EntityKey, absent_since: Option<Timestamp>) -> BoxFuture<'_, Result<(), NotAgain>>;
    /// Writes down that the batch is over, or finds it so.
    ///
    /// # Errors
    /// [`Later`]: it may be open.
    fn close(&self, batch: EntityKey, why: Closing) -> BoxFuture<'_, Result<(), Later>>;
}
