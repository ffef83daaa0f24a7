//! What the next hours hold: wants by minute, from the wake rows of this node, as an operator has to expect them.
//!
//! A look reads every row of its hours, on the one thread that makes the state durable, behind which the log is purged.
//! However many ask, and for whatever hours:
//! - One look runs at a time, shard by shard: a checkpoint waits for the rows of one shard at most.
//! - Who asks while one runs shares it if it reaches as far, or else the next one, with all others who wait.
//! - A look is good for a second from its beginning on, and for ten times what it took: it has a tenth of the thread.

use crate::actors::health::each_wake;
use crate::actors::shared::Shared;
use crate::types::ids::ShardId;
use crate::types::time::{Millis, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::sync::Mutex;

/// A look is good for this long at least.
const GOOD_MIN: Millis = Millis::from_secs(1);
const MINUTE_MS: i64 = 60_000;

/// The last look, and what is asked of the next.
#[derive(Default)]
pub struct Forecast {
    /// Held by the look that runs.
    last: Arc<Mutex<Option<Arc<Look>>>>,
    /// The furthest that anybody asked to see since the last look began.
    hours_asked: AtomicU16,
}

/// Wants by minute since 1970, of whole minutes.
struct Look {
    from: Timestamp,
    hours: u16,
    good_for: Millis,
    minutes: BTreeMap<i64, u64>,
}

impl Forecast {
    /// The wants that are due within so many hours, those that are overdue among them. May be as of a look that was made
    /// for somebody else: `from` says when. A look that was begun is finished, though nobody waits for it any more.
    pub async fn view(shared: &Arc<Shared>, hours: u16) -> Value {
        let forecast = &shared.forecast;
        forecast.hours_asked.fetch_max(hours, Ordering::Relaxed);
        let mut last = forecast.last.clone().lock_owned().await;
        let now = shared.clock.now();
        if let Some(look) = last.as_ref().filter(|look| look.serves(hours, now)) {
            return look.view(hours);
        }
        let looker = shared.clone();
        let made = tokio::spawn(async move {
            let hours = looker.forecast.hours_asked.swap(0, Ordering::Relaxed).max(hours);
            let look = Arc::new(Look::make(&looker, hours).await);
            *last = Some(look.clone());
            look
        });
        // It fails only when the runtime ends.
        made.await.map_or(Value::Null, |look| look.view(hours))
    }
}

impl Look {
    async fn make(shared: &Arc<Shared>, hours: u16) -> Self {
        let (from, began) = (shared.clock.now(), shared.clock.boot());
        let until = end_of(from, hours);
        let mut minutes = BTreeMap::<i64, u64>::new();
        for shard in (0..shared.shard_count).map(ShardId) {
            let reader = shared.clone();
            let counted = shared.background.ask(move || {
                let mut minutes = BTreeMap::<i64, u64>::new();
                each_wake(&reader, shard, until, |row| *minutes.entry(minute_of(row.due)).or_insert(0) += 1);
                minutes
            });
            for (minute, due) in counted.await.unwrap_or_default() {
                *minutes.entry(minute).or_insert(0) += due;
            }
        }
        let took_ms = i64::try_from(shared.clock.boot().0.saturating_sub(began.0)).unwrap_or(i64::MAX);
        let good_for = GOOD_MIN.max(Millis(took_ms.saturating_mul(10)));
        Self { from, hours, good_for, minutes }
    }

    /// Whether it reaches as far and is not too old. Its time is that of the wants: it is not good any more when a dev
    /// clock was moved.
    fn serves(&self, hours: u16, now: Timestamp) -> bool {
        hours <= self.hours && self.from <= now && now < self.from + self.good_for
    }

    fn view(&self, hours: u16) -> Value {
        let until = self.from + Millis::from_hours(i64::from(hours));
        let rows: Vec<Value> = self
            .minutes
            .range(..=minute_of(until))
            .map(|(minute, due)| json!({ "minute": Timestamp(minute * MINUTE_MS).to_rfc3339(), "due": due }))
            .collect();
        json!({ "from": self.from.to_rfc3339(), "until": until.to_rfc3339(), "minutes": rows })
    }
}

fn minute_of(instant: Timestamp) -> i64 {
    instant.0.div_euclid(MINUTE_MS)
}

/// The end of the last minute, so that a shorter forecast is the beginning of a longer one.
fn end_of(from: Timestamp, hours: u16) -> Timestamp {
    let until = from + Millis::from_hours(i64::from(hours));
    Timestamp((minute_of(until) + 1) * MINUTE_MS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_serves_shorter_forecasts_for_a_while_and_shows_their_part_of_it() {
        let from = Timestamp(1_800_000_030_000);
        let minutes = [(0, 3), (60, 1), (61, 2), (120, 5)];
        let minutes = minutes.map(|(minute, due)| (minute_of(from) + minute, due)).into();
        let look = Look { from, hours: 2, good_for: Millis(1_500), minutes };
        assert!(look.serves(2, from) && look.serves(1, from + Millis(1_499)));
        assert!(!look.serves(3, from), "it does not reach as far");
        assert!(!look.serves(1, from + Millis(1_500)) && !look.serves(1, from - Millis(1)));
        let due = |hours| -> Vec<Value> {
            look.view(hours)["minutes"].as_array().unwrap().iter().map(|row| row["due"].clone()).collect()
        };
        assert_eq!((due(1), due(2)), (vec![json!(3), json!(1)], vec![json!(3), json!(1), json!(2), json!(5)]));
        assert_eq!(look.view(1)["until"], (from + Millis::from_hours(1)).to_rfc3339());
        assert_eq!(end_of(from, 1), Timestamp(1_800_003_659_999));
    }
}
