//! Carries events to Redis: one task a node over all shards that it leads, some batches at a time.
//!
//! A shard is published by its leader alone: it knows the shard's cursor from Redis, reads what follows, and has the
//! batch published only behind that very cursor and under its own term. Whatever goes wrong, the cursor is read again;
//! it moves with the events or not at all. So a batch may come twice only when Redis itself lost the cursor's last move.
//!
//! | | |
//! |---|---|
//! | a record was applied | a moment later (more come along) everything behind the cursors is published |
//! | nothing happens | every five seconds the cursors are looked at: a Redis that lost them is found out |
//! | Redis does not answer | jittered pauses up to five seconds; then the cursors are read anew |
//! | a later leader has published | the shard is let alone until the next look; if the group then confirms this node, the cursor is of a past before a restore, and dropped |

use super::source::{Chunk, Source, SourceError};
use crate::actors::alerts;
use crate::actors::pool::Pool;
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::gateways::policy::backoff::Backoff;
use crate::persistence::folder::Folder;
use crate::persistence::state_store::AppliedRow;
use crate::stream::{BatchFate, Cursor, EventLink, EventStream, Known, OutgoingEvent, ShardBatch, StreamError};
use crate::types::ids::{LogIndex, ShardId, Term};
use crate::types::time::{BootMillis, Millis};
use metrics::{counter, gauge};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Batches of one round trip: with 64 KiB of records in each, what the publisher holds in memory.
const BATCHES_MAX: usize = 16;
/// Records gather this long before they are published together.
const LINGER: Duration = Duration::from_millis(20);
/// How often the cursors in Redis are looked at when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the topics are trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for a group to confirm its leader.
const CONFIRM_MAX: Duration = Duration::from_secs(2);
const PAUSE: Backoff = Backoff { first: Millis(200), max: Millis::from_secs(5) };

/// A shard that this node leads.
struct Track {
    /// Under which it is led.
    term: Term,
    /// `None` until read from Redis.
    known: Option<Known>,
    /// To be read from Redis before the next batch.
    stale: bool,
    /// How far it was applied when the term was read.
    applied: LogIndex,
    /// Let alone until the next look: its events cannot be read, or `fenced`.
    rests: bool,
    /// A later term stands in Redis.
    fenced: Option<Term>,
    behind_since: Option<BootMillis>,
}

impl Track {
    fn cursor(&self) -> Option<&Cursor> {
        self.known.as_ref().and_then(|known| known.cursor.as_ref())
    }

    /// Entries that are applied and not published.
    fn lag(&self, applied: LogIndex) -> u64 {
        let published = self.cursor().map_or(0, |cursor| cursor.index().0);
        applied.0.max(self.applied.0).saturating_sub(published)
    }

    fn has_more(&self, applied: LogIndex) -> bool {
        !self.rests && (self.lag(applied) > 0 || !self.cursor().is_some_and(Cursor::is_tail))
    }
}

/// A shard to read, and from where.
struct Wanted {
    shard: ShardId,
    term: Term,
    known: Known,
}

/// What was read of it.
enum Read {
    Chunk(Chunk),
    Nothing(AppliedRow),
    /// No longer led, or under another term.
    Moved,
    Failed(SourceError),
}

/// The publisher of a node.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    stream: EventStream,
    source: Arc<Source>,
    pool: Pool,
    tracks: BTreeMap<ShardId, Track>,
    /// Where the next round begins, so that every shard has its turn.
    next: ShardId,
    trimmed: Option<Instant>,
    rng: ChaCha8Rng,
}

impl Publisher {
    pub(super) fn new(
        shared: Arc<Shared>,
        folder: Arc<Folder>,
        stream: EventStream,
        source: Source,
        pool: Pool,
    ) -> Self {
        let seed = folder.node.0 ^ (folder.incarnation.0 << 32);
        Self {
            shared,
            folder,
            stream,
            source: Arc::new(source),
            pool,
            tracks: BTreeMap::new(),
            next: ShardId(0),
            trimmed: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Publishes until it is aborted.
    pub(super) async fn run(mut self) {
        let mut tries = 0;
        loop {
            let error = match self.stream.connect(self.folder.cluster).await {
                Ok(mut link) => self.serve(&mut link, &mut tries).await,
                Err(error) => error,
            };
            let following = &self.shared.following;
            if following.connected.swap(false, Ordering::Relaxed) || tries == 0 {
                tracing::warn!(%error, "the event stream waits for Redis");
            }
            self.count_error();
            self.take_up().await;
            self.tracks.values_mut().for_each(|track| track.stale = true);
            self.publish_lag();
            let pause = PAUSE.wait(tries, &mut self.rng);
            tries = tries.saturating_add(1);
            tokio::time::sleep(pause.to_std()).await;
        }
    }

    /// Publishes over one connection until it fails.
    async fn serve(&mut self, link: &mut EventLink, tries: &mut u32) -> StreamError {
        loop {
            match self.catch_up(link).await {
                Ok(()) => *tries = 0,
                Err(error) => return error,
            }
            if !self.shared.following.connected.swap(true, Ordering::Relaxed) {
                tracing::info!("the event stream is published to Redis");
            }
            self.publish_lag();
            if let Err(error) = self.tell_alerts(link).await {
                return error;
            }
            let shared = self.shared.clone();
            tokio::select! {
                () = shared.following.changed.notified() => tokio::time::sleep(LINGER).await,
                () = tokio::time::sleep(LOOK_EVERY) => if let Err(error) = self.look(link).await {
                    return error;
                },
            }
        }
    }

    /// Says which alerts were raised and have passed, each at least once for as long as there is room to keep it.
    async fn tell_alerts(&mut self, link: &mut EventLink) -> Result<(), StreamError> {
        let entity = format!("node-{}", self.folder.node.0);
        for change in self.shared.alerts.untold() {
            link.say(&OutgoingEvent {
                topic: alerts::TOPIC,
                event_id: format!("{entity}.{}.{}", self.folder.incarnation.0, change.number),
                entity: entity.clone(),
                event_type: if change.raised { "raised" } else { "passed" }.to_owned(),
                at: change.at.to_rfc3339(),
                details: change.alert.view().to_string(),
            })
            .await?;
            self.shared.alerts.told(change.number);
        }
        Ok(())
    }

    /// Rounds until nothing is left behind the cursors.
    async fn catch_up(&mut self, link: &mut EventLink) -> Result<(), StreamError> {
        loop {
            self.take_up().await;
            self.read_cursors(link).await?;
            self.trim(link).await?;
            if !self.round(link).await? {
                return Ok(());
            }
            self.publish_lag();
        }
    }

    /// Compares the cursors with what Redis holds: it may have lost them, or another may have moved them.
    async fn look(&mut self, link: &mut EventLink) -> Result<(), StreamError> {
        let fenced: Vec<(ShardId, Term)> =
            self.tracks.iter().filter_map(|(shard, track)| Some((*shard, track.fenced?))).collect();
        for (shard, term) in fenced {
            // One that was deposed is not confirmed. One that leads with a lower term than it has led with before was
            // restored from a backup.
            if self.is_confirmed(shard).await {
                tracing::warn!(%shard, %term, "the event stream is of another past of this shard: it begins anew");
                link.drop_cursor(shard, term).await?;
            }
        }
        self.tracks.retain(|_, track| !track.rests);
        self.tracks.values_mut().for_each(|track| track.stale = true);
        self.read_cursors(link).await
    }

    /// Whether the shard's group confirms now that this node leads it.
    async fn is_confirmed(&self, shard: ShardId) -> bool {
        let (reply, confirmed) = oneshot::channel();
        let asked = self.shared.shard(shard).is_some_and(|actor| actor.cast(ShardMsg::Barrier(reply)).is_ok());
        asked && matches!(tokio::time::timeout(CONFIRM_MAX, confirmed).await, Ok(Ok(true)))
    }

    /// Takes up shards that this node leads now, and lets go of the others.
    async fn take_up(&mut self) {
        let led: Vec<ShardId> =
            (0..self.shared.shard_count).map(ShardId).filter(|shard| self.shared.leads(*shard)).collect();
        self.tracks.retain(|shard, _| led.binary_search(shard).is_ok());
        let fresh: Vec<ShardId> = led.into_iter().filter(|shard| !self.tracks.contains_key(shard)).collect();
        if fresh.is_empty() {
            return;
        }
        let source = self.source.clone();
        let read = move || fresh.into_iter().map(|shard| (shard, source.state.applied(shard))).collect::<Vec<_>>();
        for (shard, row) in self.pool.ask(read).await.unwrap_or_default() {
            // Otherwise it is led no longer, or the disk fails, which others find out.
            if let Ok(row) = row
                && self.is_mine(&row)
            {
                let (term, applied) = (row.claim.term, row.index);
                let track =
                    Track { term, known: None, stale: true, applied, rests: false, fenced: None, behind_since: None };
                self.tracks.insert(shard, track);
            }
        }
    }

    async fn read_cursors(&mut self, link: &mut EventLink) -> Result<(), StreamError> {
        let stale = self.tracks.iter().filter(|(_, track)| track.stale);
        let shards: Vec<ShardId> = stale.map(|(shard, _)| *shard).collect();
        let known = link.known(&shards).await?;
        for (shard, known) in shards.into_iter().zip(known) {
            if let Some(track) = self.tracks.get_mut(&shard) {
                (track.known, track.stale) = (Some(known), false);
            }
        }
        Ok(())
    }

    fn is_mine(&self, applied: &AppliedRow) -> bool {
        applied.claim.node == self.folder.node && applied.claim.incarnation == self.folder.incarnation
    }

    /// Publishes one batch of some shards that are behind; whether there may be more.
    async fn round(&mut self, link: &mut EventLink) -> Result<bool, StreamError> {
        let wanted = self.choose();
        if wanted.is_empty() {
            return Ok(false);
        }
        let (source, now) = (self.source.clone(), self.shared.clock.now());
        let (me, life) = (self.folder.node, self.folder.incarnation);
        let read = move || {
            let read = |wanted: Wanted| {
                let read = match source.state.applied(wanted.shard) {
                    Err(error) => Read::Failed(error.into()),
                    Ok(row) if (row.claim.term, row.claim.node, row.claim.incarnation) != (wanted.term, me, life) => {
                        Read::Moved
                    }
                    Ok(row) => {
                        let next = || source.next(wanted.shard, wanted.known.cursor.as_ref(), &row, now);
                        // A bug in what a kind says to the outside stops its shard's events, not the node.
                        match catch_unwind(AssertUnwindSafe(next)).unwrap_or(Err(SourceError::Panicked)) {
                            Ok(Some(chunk)) => Read::Chunk(chunk),
                            Ok(None) => Read::Nothing(row),
                            Err(error) => Read::Failed(error),
                        }
                    }
                };
                (wanted, read)
            };
            wanted.into_iter().map(read).collect::<Vec<_>>()
        };
        let read = self.pool.ask(read).await.unwrap_or_default();
        let batches: Vec<ShardBatch> = read.into_iter().filter_map(|(wanted, read)| self.batch(wanted, read)).collect();
        let fates = link.publish(&batches).await?;
        for (batch, fate) in batches.into_iter().zip(fates) {
            self.settle(&batch, fate);
        }
        Ok(true)
    }

    /// Shards that are behind, in turn.
    fn choose(&mut self) -> Vec<Wanted> {
        let following = &self.shared.following;
        let (before, after): (Vec<_>, Vec<_>) = self.tracks.iter().partition(|(shard, _)| **shard < self.next);
        let behind =
            after.into_iter().chain(before).filter(|(shard, track)| track.has_more(following.applied(**shard)));
        let wanted: Vec<Wanted> = behind
            .filter_map(|(shard, track)| Some(Wanted { shard: *shard, term: track.term, known: track.known.clone()? }))
            .take(BATCHES_MAX)
            .collect();
        if let Some(last) = wanted.last() {
            self.next = ShardId(last.shard.0 + 1);
        }
        wanted
    }

    fn batch(&mut self, wanted: Wanted, read: Read) -> Option<ShardBatch> {
        let Wanted { shard, term, known } = wanted;
        match read {
            Read::Chunk(Chunk { events, cursor }) => Some(ShardBatch { shard, term, known, cursor, events }),
            Read::Nothing(row) => {
                // Noted higher than it is applied it cannot be; what was read is the truth.
                if let Some(track) = self.tracks.get_mut(&shard) {
                    track.applied = row.index;
                }
                None
            }
            Read::Moved => {
                self.tracks.remove(&shard);
                None
            }
            Read::Failed(error) => {
                tracing::error!(%shard, %error, "events of this shard wait: they cannot be read");
                self.count_error();
                if let Some(track) = self.tracks.get_mut(&shard) {
                    track.rests = true;
                }
                None
            }
        }
    }

    fn settle(&mut self, batch: &ShardBatch, fate: BatchFate) {
        let Some(track) = self.tracks.get_mut(&batch.shard) else { return };
        match fate {
            BatchFate::Published(known) => {
                track.known = Some(known);
                let count = batch.events.len() as u64;
                self.shared.following.published.fetch_add(count, Ordering::Relaxed);
                counter!("bojagi_stream_published_total").increment(count);
            }
            BatchFate::Moved(known) => {
                tracing::info!(shard = %batch.shard, "the event stream stands elsewhere in Redis");
                track.known = Some(known);
            }
            BatchFate::Fenced(term) => (track.rests, track.fenced) = (true, Some(term)),
        }
    }

    async fn trim(&mut self, link: &mut EventLink) -> Result<(), StreamError> {
        if self.trimmed.is_some_and(|trimmed| trimmed.elapsed() < TRIM_EVERY) {
            return Ok(());
        }
        let removed = link.trim().await?;
        counter!("bojagi_stream_trimmed_total").increment(removed);
        self.trimmed = Some(Instant::now());
        Ok(())
    }

    fn count_error(&self) {
        self.shared.following.errors.fetch_add(1, Ordering::Relaxed);
        counter!("bojagi_stream_errors_total").increment(1);
    }

    fn publish_lag(&mut self) {
        let (now, following) = (self.shared.clock.boot(), &self.shared.following);
        let (mut entries, mut oldest) = (0u64, now);
        for (shard, track) in &mut self.tracks {
            let lag = track.lag(following.applied(*shard));
            entries += lag;
            track.behind_since = if lag == 0 { None } else { Some(track.behind_since.unwrap_or(now)) };
            oldest = oldest.min(track.behind_since.unwrap_or(now));
        }
        let millis = now.0.saturating_sub(oldest.0);
        following.lag_entries.store(entries, Ordering::Relaxed);
        following.lag_ms.store(millis, Ordering::Relaxed);
        let connected = following.connected.load(Ordering::Relaxed);
        gauge!("bojagi_stream_connected").set(if connected { 1.0 } else { 0.0 });
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; entries stay far below 2^52")]
        gauge!("bojagi_stream_lag_entries").set(entries as f64);
        gauge!("bojagi_stream_lag_seconds").set(Duration::from_millis(millis).as_secs_f64());
    }
}
