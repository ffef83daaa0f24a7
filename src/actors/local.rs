//! Requests answered by this node, as the leader of their shard. Reads wait for the read barrier of their shard.

use crate::actors::door::{Answer, Ask, AskError, JournalRow};
use crate::actors::entity::{AskReply, EntityMsg};
use crate::actors::loading;
use crate::actors::router::{Reply, Request, WATCH};
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::persistence::store::StoreError;
use crate::persistence::vault::VaultError;
use crate::types::effect::IndexTag;
use crate::types::ids::{EntityKey, ShardId, Version};
use crate::types::record::Sealed;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long a repeat waits for the first call under its key.
const FIRST_CALL_PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks.
const FIRST_CALL_LOOK: Duration = Duration::from_millis(20);
/// How long a change is waited for before it is looked whether this node still leads.
const UNCONFIRMED: Duration = Duration::from_millis(200);
/// How often after that, from what it knows itself.
const STILL_LEADS: Duration = Duration::from_millis(500);

/// Does what is asked.
///
/// # Errors
/// [`AskError::Unavailable`] when this node does not lead the shard (any more) and nothing was done; others as they say.
pub async fn execute(shared: &Arc<Shared>, request: Request, deadline: Instant) -> Result<Reply, AskError> {
    let shard = request.shard(shared);
    match request {
        Request::Ask(ask) => ask_after_the_first(shared, ask, deadline).await.map(Reply::Answer),
        Request::Call(call) => {
            let (key, call) = (call.target, Box::new(call));
            ask_entity(shared, key, |reply| EntityMsg::Call(call, reply), deadline).await.map(Reply::Answer)
        }
        Request::Read(key) => read_entity(shared, key, deadline).await.map(Reply::Read),
        Request::Glance(key) => glance(shared, key).await.map(Reply::Read),
        Request::Beyond { key, after } => beyond(shared, key, after, deadline).await.map(Reply::Read),
        Request::Journal { key, after, limit } => {
            read_journal(shared, key, after, limit, deadline).await.map(Reply::Journal)
        }
        Request::Changed { key, after } => changed(shared, key, after, deadline).await.map(Reply::Changed),
        Request::Resolve { index, key, .. } => resolve(shared, shard, index, key, deadline).await.map(Reply::Resolved),
        Request::List { shards, index, prefix, after, limit } => {
            let page = Page { index, prefix, after, limit: usize::try_from(limit).unwrap_or(usize::MAX) };
            list(shared, shards, page, deadline).await.map(Reply::Rows)
        }
        Request::Seal { key, personal } => on_pool(shared, move |shared| shared.vault.seal(key, &personal))
            .await?
            .map(Reply::Sealed)
            .map_err(|error: VaultError| shared.fatal(&error.to_string())),
        Request::Unseal { key, sealed } => unseal(shared, key, sealed, deadline).await.map(Reply::Opened),
        Request::Report { key, report } => {
            shared.deliver(key, EntityMsg::Report(report));
            Ok(Reply::Taken)
        }
        Request::Outcome { key, slot, due, outcome } => {
            shared.deliver(key, EntityMsg::CallDone(slot, Some(due), outcome));
            Ok(Reply::Taken)
        }
    }
}

/// Waits until everything committed before now is applied here and leadership is confirmed.
///
/// # Errors
/// [`AskError::Unavailable`] when it is not.
pub async fn barrier(shared: &Shared, shard: ShardId, deadline: Instant) -> Result<(), AskError> {
    let actor = shared.shard(shard).ok_or(AskError::Unavailable)?;
    let (reply, ready) = oneshot::channel();
    actor.cast(ShardMsg::Barrier(reply)).map_err(|_| AskError::Unavailable)?;
    match timeout_at(deadline, ready).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false) | Err(_)) | Err(_) => Err(AskError::Unavailable),
    }
}

/// Runs a read on the pool, where it may block.
async fn on_pool<T: Send + 'static>(
    shared: &Arc<Shared>,
    job: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<T, AskError> {
    let reader = shared.clone();
    shared.pool.ask(move || job(&reader)).await.ok_or(AskError::Unavailable)
}

fn or_fatal<T>(shared: &Shared, read: Result<T, StoreError>) -> T {
    match read {
        Ok(read) => read,
        Err(error) => shared.fatal(&error.to_string()),
    }
}

/// A repeat whose first call is still running waits for what comes of it: a caller that gave a node up and asks another one
/// would else be told only to ask once more.
async fn ask_after_the_first(shared: &Arc<Shared>, ask: Ask, deadline: Instant) -> Result<Answer, AskError> {
    let patience = deadline.min(Instant::now() + FIRST_CALL_PATIENCE);
    loop {
        let again = Box::new(ask.clone());
        let answer = ask_entity(shared, ask.key, |reply| EntityMsg::Ask(again, reply), deadline).await;
        let waits = matches!(answer, Err(AskError::KeyInFlight)) && Instant::now() + FIRST_CALL_LOOK < patience;
        if !waits {
            return answer;
        }
        tokio::time::sleep(FIRST_CALL_LOOK).await;
    }
}

async fn ask_entity(
    shared: &Arc<Shared>,
    key: EntityKey,
    message: impl FnOnce(AskReply) -> EntityMsg,
    deadline: Instant,
) -> Result<Answer, AskError> {
    let shard = shared.shard_of(&key);
    let (reply, answer) = oneshot::channel();
    shared.deliver(key, message(reply));
    let answer = match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        // The entity's actor ended, or is too slow: its record may still be committed.
        Ok(Err(_)) | Err(_) => return Err(AskError::Unknown),
    };
    match answer {
        // Decided on a state that a newer leader may have moved on from: said only by a leader that still is one.
        Err(
            refusal @ (AskError::Rejected { .. }
            | AskError::VersionMoved { .. }
            | AskError::KeyReused
            | AskError::KeyExpired
            | AskError::TooLarge),
        ) => barrier(shared, shard, deadline).await.and(Err(refusal)),
        Ok(unchanged) if unchanged.unwritten => barrier(shared, shard, deadline).await.and(Ok(unchanged)),
        other => other,
    }
}

async fn read_entity(shared: &Arc<Shared>, key: EntityKey, deadline: Instant) -> Result<Option<Answer>, AskError> {
    barrier(shared, shared.shard_of(&key), deadline).await?;
    glance(shared, key).await
}

/// What is applied here is committed, whoever leads by now.
async fn glance(shared: &Arc<Shared>, key: EntityKey) -> Result<Option<Answer>, AskError> {
    let shard = shared.shard_of(&key);
    let row = on_pool(shared, move |shared| or_fatal(shared, shared.state.get(shard, &key))).await?;
    Ok(row.map(|row| Answer { key, version: row.version, state: row.state, replayed: false, unwritten: false }))
}

async fn read_journal(
    shared: &Arc<Shared>,
    key: EntityKey,
    after: Version,
    limit: u32,
    deadline: Instant,
) -> Result<Vec<JournalRow>, AskError> {
    let shard = shared.shard_of(&key);
    barrier(shared, shard, deadline).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let read = on_pool(shared, move |shared| shared.state.journal(shard, &key, after, limit)).await?;
    let rows = or_fatal(shared, read).into_iter();
    Ok(rows.map(|record| JournalRow { version: record.version, at: record.at, events: record.events }).collect())
}

/// The version above `after`, or the present one when nothing changed for a while.
async fn changed(shared: &Arc<Shared>, key: EntityKey, after: Version, deadline: Instant) -> Result<Version, AskError> {
    let present = match beyond(shared, key, after, deadline).await? {
        Some(answer) => Some(answer),
        None => read_entity(shared, key, deadline).await?,
    };
    Ok(present.map_or(Version(0), |answer| answer.version))
}

/// A committed state above `after`, or nothing when it did not change for a while. Mostly the change is under way, and comes
/// before it is worth a round trip to make sure that it would be heard of here.
async fn beyond(
    shared: &Arc<Shared>,
    key: EntityKey,
    after: Version,
    deadline: Instant,
) -> Result<Option<Answer>, AskError> {
    let shard = shared.shard_of(&key);
    let mut watch = shared.watchers.subscribe(key);
    let patience = Instant::now() + WATCH;
    let mut look_at = Instant::now() + UNCONFIRMED;
    let mut looked = false;
    loop {
        let above = glance(shared, key).await?.filter(|answer| answer.version > after);
        if above.is_some() || Instant::now() >= patience {
            return Ok(above);
        }
        let news = loop {
            if let Ok(news) = timeout_at(look_at, watch.changed()).await {
                break news;
            }
            if !looked {
                barrier(shared, shard, deadline).await?;
                looked = true;
            } else if !shared.leads(shard) {
                // Who leads no more hears of no change any more.
                return Err(AskError::Unavailable);
            }
            if Instant::now() >= patience {
                break Ok(());
            }
            look_at = patience.min(Instant::now() + STILL_LEADS);
        };
        news.map_err(|_closed| AskError::Unavailable)?;
    }
}

/// What opens is right whoever leads; that there is no key (any more) is said behind the barrier only.
async fn unseal(
    shared: &Arc<Shared>,
    key: EntityKey,
    sealed: Sealed,
    deadline: Instant,
) -> Result<Option<Vec<u8>>, AskError> {
    let again = sealed.clone();
    if let Some(opened) = on_pool(shared, move |shared| loading::open(shared, key, &sealed)).await? {
        return Ok(Some(opened));
    }
    barrier(shared, shared.shard_of(&key), deadline).await?;
    on_pool(shared, move |shared| loading::open(shared, key, &again)).await
}

async fn resolve(
    shared: &Arc<Shared>,
    shard: ShardId,
    index: IndexTag,
    key: Vec<u8>,
    deadline: Instant,
) -> Result<Option<EntityKey>, AskError> {
    barrier(shared, shard, deadline).await?;
    let read = on_pool(shared, move |shared| shared.state.index_get(shard, index, &key)).await?;
    Ok(or_fatal(shared, read))
}

struct Page {
    index: IndexTag,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    limit: usize,
}

async fn list(
    shared: &Arc<Shared>,
    shards: Vec<ShardId>,
    page: Page,
    deadline: Instant,
) -> Result<Vec<(Vec<u8>, EntityKey)>, AskError> {
    let barriers = shards.iter().map(|shard| barrier(shared, *shard, deadline));
    futures_util::future::try_join_all(barriers).await?;
    on_pool(shared, move |shared| {
        let mut rows = Vec::new();
        for shard in shards {
            let found = shared.state.index_scan(shard, page.index, &page.prefix, page.after.as_deref(), page.limit);
            rows.extend(or_fatal(shared, found));
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.truncate(page.limit);
        rows
    })
    .await
}
