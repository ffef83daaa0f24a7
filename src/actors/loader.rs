//! Wakes entities shortly before their earliest want is due: a window ahead, as far as there are seats, so that a
//! midnight burst streams through instead of piling up, and so that what one provider cannot take leaves room for the
//! others. What gets no seat stays on disk and comes in due order.

use crate::actors::loading::{self, Loaded};
use crate::actors::seats::{Seat, SeatClass, before_all_at};
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::persistence::key::WakeKey;
use crate::persistence::last_words::EndsProcess;
use crate::persistence::state_store::WakeRow;
use crate::types::ids::{EntityKey, ShardId};
use crate::types::limits::WAKE_AHEAD;
use crate::types::time::BootMillis;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Rows read from one shard before the next gets its turn. Few: a node that takes over many shards in the middle of a burst has
/// the first of each on their way before it loads the rest of any.
const ROWS_PER_TURN: usize = 32;
/// Rows that are looked at for those that were left on disk.
const ROWS_PER_CATCH_UP: usize = 256;
/// Pause between two rounds when nothing is due.
const ROUND: Duration = Duration::from_millis(100);

/// A shard that was loaded to the end is gone through anew after this span.
const LOOK_BACK_MS: u64 = 5_000;
/// What a refused activation left behind waits no longer.
const LOOK_BACK_MS_MAX: u64 = 20_000;
/// What was left on disk is looked at this often, and so many pages of it at once.
const CATCH_UP_MS: u64 = 20;
const CATCH_UP_TURNS: usize = 16;

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

/// How far each shard was gone through. Rows up to the cursor belong to live entities, were left on disk for want of a
/// seat, or are gone; should one be none of these (its actor did not start, or leadership came and went between two
/// looks), the next look back finds it.
struct Cursor {
    after: Option<WakeKey>,
    /// Since when this node leads the shard; a leadership that came and went between two looks is another one.
    leading: Option<BootMillis>,
    began: BootMillis,
    /// Set once the end was reached.
    look_back_at: Option<BootMillis>,
}

impl Cursor {
    fn new(leading: Option<BootMillis>, began: BootMillis) -> Self {
        Self { after: None, leading, began, look_back_at: None }
    }

    /// A long way is gone again more seldom: at most a tenth of the time, but for the bound.
    fn at_end(&mut self, boot: BootMillis) {
        let took_ms = boot.0.saturating_sub(self.began.0);
        let due =
            *self.look_back_at.get_or_insert(BootMillis(boot.0 + (9 * took_ms).clamp(LOOK_BACK_MS, LOOK_BACK_MS_MAX)));
        if boot >= due {
            *self = Self::new(self.leading, boot);
        }
    }
}

fn run(shared: &Arc<Shared>, inbox: &Receiver<()>) {
    let mut cursors: Vec<Cursor> = (0..shared.shard_count).map(|_| Cursor::new(None, BootMillis(0))).collect();
    let mut caught_up_at = BootMillis(0);
    loop {
        let mut more = false;
        for (number, cursor) in (0u16..).zip(cursors.iter_mut()) {
            more |= turn(shared, ShardId(number), cursor);
        }
        let boot = shared.clock.boot();
        if boot.0 >= caught_up_at.0 + CATCH_UP_MS {
            caught_up_at = boot;
            SeatClass::ALL.into_iter().for_each(|class| catch_up(shared, class));
        }
        let pause = match (more, shared.left_on_disk.is_empty()) {
            (true, _) => Duration::from_millis(1),
            (false, false) => Duration::from_millis(CATCH_UP_MS),
            (false, true) => ROUND,
        };
        match inbox.recv_timeout(pause) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Goes through the next rows of one shard and loads those that get a seat; returns whether more may follow at once.
fn turn(shared: &Arc<Shared>, shard: ShardId, cursor: &mut Cursor) -> bool {
    let leading = shared.leads(shard).then(|| shared.led_since(shard));
    let boot = shared.clock.boot();
    if leading != cursor.leading {
        *cursor = Cursor::new(leading, boot);
        shared.left_on_disk.forget(shard);
    }
    if leading.is_none() {
        return false;
    }
    let rows = scan(shared, shard, cursor.after, ROWS_PER_TURN);
    let mut entities = Vec::new();
    for row in &rows {
        let class = SeatClass::of(row.lane);
        if !shared.live.contains_key(&row.key) {
            // Those of its class that were left before go first.
            let seat = if shared.left_on_disk.holds(class, shard) { None } else { shared.seats.take(class) };
            match seat {
                Some(seat) => entities.push((row.key, load(shared, shard, row.key, seat))),
                None => {
                    let before = cursor.after.unwrap_or_else(|| before_all_at(row.due));
                    shared.left_on_disk.note(class, shard, before);
                }
            }
        }
        cursor.after = Some(row.cursor());
    }
    let more = rows.len() == ROWS_PER_TURN || !entities.is_empty();
    if rows.len() < ROWS_PER_TURN {
        cursor.at_end(boot);
    }
    wake(shared, shard, entities);
    more
}

/// Brings back what was left on disk, in due order over all shards, as far as there are seats now.
fn catch_up(shared: &Arc<Shared>, class: SeatClass) {
    for _ in 0..CATCH_UP_TURNS {
        if shared.seats.room(class) == 0 {
            return;
        }
        let Some((shard, mut position)) = shared.left_on_disk.take_earliest(class) else { return };
        if !shared.leads(shard) {
            continue;
        }
        let rows = scan(shared, shard, Some(position), ROWS_PER_CATCH_UP);
        let mut rest = rows.len() == ROWS_PER_CATCH_UP;
        let mut entities = Vec::new();
        for row in &rows {
            if SeatClass::of(row.lane) == class && !shared.live.contains_key(&row.key) {
                let Some(seat) = shared.seats.take(class) else {
                    rest = true;
                    break;
                };
                entities.push((row.key, load(shared, shard, row.key, seat)));
            }
            position = row.cursor();
        }
        if rest {
            shared.left_on_disk.note(class, shard, position);
        }
        wake(shared, shard, entities);
    }
}

fn scan(shared: &Arc<Shared>, shard: ShardId, after: Option<WakeKey>, rows_max: usize) -> Vec<WakeRow> {
    let now = shared.time(shard).unwrap_or_else(|| shared.clock.now());
    match shared.state.wake_scan(shard, after, now + WAKE_AHEAD, rows_max) {
        Ok(rows) => rows,
        Err(error) => shared.fatal(&error.to_string()),
    }
}

fn load(shared: &Arc<Shared>, shard: ShardId, key: EntityKey, seat: Seat) -> Loaded {
    Loaded { seat: Some(seat), ..loading::load_with_personal(shared, shard, key) }
}

fn wake(shared: &Arc<Shared>, shard: ShardId, entities: Vec<(EntityKey, Loaded)>) {
    if !entities.is_empty()
        && let Some(actor) = shared.shard(shard)
        && actor.cast(ShardMsg::Activate(entities)).is_err()
    {
        tracing::debug!(%shard, "woke entities of a stopped shard");
    }
}
