//! Wakes entities shortly before their earliest want is due: a window ahead, within a budget of live actors, so that a
//! midnight burst streams through instead of piling up. What is not loaded yet stays on disk in due order.

use crate::actors::loading;
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::persistence::key::WakeKey;
use crate::persistence::last_words::EndsProcess;
use crate::types::ids::ShardId;
use crate::types::limits::{LIVE_ENTITIES_MAX, WAKE_AHEAD};
use crate::types::time::{BootMillis, Timestamp};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Rows read from one shard before the next gets its turn.
const ROWS_PER_TURN: usize = 256;
/// Pause between two rounds when nothing is due.
const ROUND: Duration = Duration::from_millis(100);

/// A shard that was loaded to the end is gone through anew after this span.
const LOOK_BACK_MS: u64 = 5_000;

/// Stops the loader when dropped; `kick` makes it look at once.
pub struct Loader {
    kicks: Sender<()>,
}

impl Loader {
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (kicks, inbox) = bounded(1);
        thread::Builder::new().name("wake-ahead".to_owned()).spawn(move || {
            let _guard = EndsProcess("wake-ahead");
            run(&shared, &inbox);
        })?;
        Ok(Self { kicks })
    }

    /// Looks for due entities now (the dev clock was moved).
    pub fn kick(&self) {
        // A kick that is already waiting does the same.
        let _full = self.kicks.try_send(());
    }
}

/// How far each shard was loaded. Rows up to the cursor belong to live entities, or are gone; should one be neither
/// (its actor did not start, or leadership came and went between two looks), the next look back finds it.
struct Cursor {
    after: Option<WakeKey>,
    leading: bool,
    began: BootMillis,
}

impl Cursor {
    fn new(leading: bool, began: BootMillis) -> Self {
        Self { after: None, leading, began }
    }
}

fn run(shared: &Arc<Shared>, inbox: &Receiver<()>) {
    let mut cursors: Vec<Cursor> = (0..shared.shard_count).map(|_| Cursor::new(false, BootMillis(0))).collect();
    loop {
        let mut found = 0;
        for (number, cursor) in (0u16..).zip(cursors.iter_mut()) {
            found += turn(shared, ShardId(number), cursor);
        }
        let pause = if found > 0 { Duration::from_millis(1) } else { ROUND };
        match inbox.recv_timeout(pause) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Loads the next rows of one shard; returns how many it woke.
fn turn(shared: &Arc<Shared>, shard: ShardId, cursor: &mut Cursor) -> usize {
    let leading = shared.leads(shard);
    let boot = shared.clock.boot();
    if leading != cursor.leading {
        *cursor = Cursor::new(leading, boot);
    }
    if !leading || shared.counters.live.load(Ordering::Relaxed) >= LIVE_ENTITIES_MAX {
        return 0;
    }
    let until: Timestamp = shared.clock.now() + WAKE_AHEAD;
    let rows = match shared.state.wake_scan(shard, cursor.after, until, ROWS_PER_TURN) {
        Ok(rows) => rows,
        Err(error) => shared.fatal(&error.to_string()),
    };
    let mut entities = Vec::new();
    let mut previous = None;
    for row in &rows {
        if previous == Some(row.key) || shared.live.contains_key(&row.key) {
            continue;
        }
        previous = Some(row.key);
        entities.push((row.key, loading::load_with_personal(shared, shard, row.key)));
    }
    if let Some(last) = rows.last() {
        cursor.after = Some(WakeKey { due: last.due, key: last.key, slot: last.slot });
    }
    if rows.len() < ROWS_PER_TURN && boot.0 >= cursor.began.0 + LOOK_BACK_MS {
        *cursor = Cursor::new(leading, boot);
    }
    let woken = entities.len();
    if woken > 0
        && let Some(actor) = shared.shard(shard)
        && actor.cast(ShardMsg::Activate(entities)).is_err()
    {
        tracing::debug!(%shard, "woke entities of a stopped shard");
    }
    woken
}
