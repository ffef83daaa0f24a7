//! INV-9: nothing is stuck. At the end of a run that was left in peace, every gift is done, is a dead letter, or holds a
//! timer or a wanted call, and none of these is overdue; and whoever asked for something once nothing was broken was answered.

use super::history::History;
use crate::types::time::Millis;

/// How long after its instant a want may be on its way when all is well.
pub const PATIENCE: Millis = Millis::from_mins(2);

/// The first gift that waits for nothing, or in vain, or the first request that does.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    for row in history.gifts.iter().filter(|row| !row.terminal) {
        match row.next_due {
            None => return Some(format!("waits for nothing: {row:?}")),
            Some(due) if due + PATIENCE < history.ended_at => {
                return Some(format!("waits in vain at {}: {row:?}", history.ended_at));
            }
            Some(_) => {}
        }
    }
    let unheard = history.unanswered.iter().find(|row| row.asked >= history.healed_at)?;
    Some(format!("nobody answered, and nothing was broken: {unheard:?}"))
}
