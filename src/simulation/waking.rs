//! When a hosted entity acts by itself: its own timer, the loader that wakes it from disk, and when it leaves memory.

use crate::actors::driver::Now;
use crate::simulation::event::{MS, NodeEvent};
use crate::simulation::hosting::Mail;
use crate::simulation::log_disk::SHARD;
use crate::simulation::node::{Node, Turn};
use crate::simulation::options::Defect;
use crate::types::ids::EntityKey;
use crate::types::limits::{PASSIVATE_AFTER_MS, WAKE_AHEAD};
use crate::types::time::{BootMillis, Millis, Timestamp};

/// Rows of one page of the wake index.
const ROWS_PER_PAGE: usize = 256;

impl Node {
    /// After every message: the timer, and whether to leave memory. As `EntityShell::after`.
    pub(super) fn after_mail(&mut self, key: EntityKey, turn: &mut Turn<'_>) {
        let wall = self.time(turn).unwrap_or(Timestamp(0));
        let (boot, life, known) = (self.boot_clock(turn.now), self.life(), self.clocks.is_known(SHARD));
        let steady = self.steady(turn);
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        let driver = &entity.driver;
        let wall = wall.max(driver.last_record());
        let idle = driver.is_quiet() && entity.waiters.is_empty() && entity.permits.is_empty();
        let soon = driver.is_needed(wall + WAKE_AHEAD + WAKE_AHEAD);
        let idle_until = BootMillis(entity.last_active.0 + PASSIVATE_AFTER_MS);
        if idle && !soon && boot >= idle_until {
            self.hosting.live.remove(&key);
            if turn.defect == Defect::DropTimer {
                self.hosting.forgotten.insert(key);
            }
            return;
        }
        let mut wait = driver.next_wake(Now { wall, boot, steady }).map_or(Millis(i64::MAX), |due| due - wall);
        if !known {
            wait = wait.max(Millis(200));
        }
        if let Some(due) = driver.own_wake() {
            wait = wait.min(span(boot, due));
        }
        if idle && !soon {
            wait = wait.min(span(boot, idle_until));
        }
        if wait.0 == i64::MAX {
            return;
        }
        let wait_ms = u64::try_from(wait.0).unwrap_or(0).clamp(1, 3_600_000);
        let fires_at = boot.0 + wait_ms;
        if entity.armed_for != Some(fires_at) {
            entity.armed_for = Some(fires_at);
            let wake = NodeEvent::Wake { key, entity: entity.id, armed: fires_at };
            turn.after(wait_ms * MS, crate::simulation::event::Event::Node(life, wake));
        }
    }

    /// An entity's own timer fired, unless it was armed anew since.
    pub fn on_timer(&mut self, key: EntityKey, entity: u64, armed: u64) {
        if let Some(live) = self.hosting.live.get_mut(&key)
            && live.id == entity
            && live.armed_for == Some(armed)
        {
            live.armed_for = None;
            self.hosting.mail.push_back((key, Mail::Wake { entity }));
        }
    }

    /// All live entities look at the clock, which was moved by hand.
    pub fn clock_moved(&mut self) {
        let live: Vec<(EntityKey, u64)> = self.hosting.live.iter().map(|(key, entity)| (*key, entity.id)).collect();
        for (key, entity) in live {
            self.hosting.mail.push_back((key, Mail::Wake { entity }));
        }
    }

    /// Wakes entities shortly before their earliest want is due, from the rows on disk. As the wake-ahead loader, without
    /// its budget of seats.
    pub fn load_due(&mut self, turn: &mut Turn<'_>) {
        if self.hosting.claim.is_none() {
            return;
        }
        let Some(now) = self.time(turn) else { return };
        let mut after = None;
        loop {
            let page = self.state.state.wake_scan(SHARD, after, now + WAKE_AHEAD, ROWS_PER_PAGE);
            let Some(page) = self.read(page, turn) else { return };
            for row in &page {
                let hosting = &self.hosting;
                if !hosting.live.contains_key(&row.key) && !hosting.forgotten.contains(&row.key) {
                    self.activate(row.key, None, turn);
                }
            }
            match page.last() {
                Some(last) if page.len() == ROWS_PER_PAGE => after = Some(last.cursor()),
                Some(_) | None => return,
            }
        }
    }
}

fn span(from: BootMillis, to: BootMillis) -> Millis {
    Millis(i64::try_from(to.0.saturating_sub(from.0)).unwrap_or(i64::MAX))
}
