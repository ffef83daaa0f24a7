//! What the next hours hold, as an operator has to expect it: wants by minute, from the wake rows of the shards' leaders.
//! Every node is asked for what it leads; `forecast_view` makes one picture of it.
//!
//! A look reads every row of its hours, on the one thread that makes the state durable, behind which the log is purged.
//! However many ask, and for whatever hours:
//! - One look runs at a time on a node, shard by shard: a checkpoint waits for the rows of one shard at most.
//! - Who asks while one runs shares it if it reaches as far, or else the next one, with all others who wait.
//! - A look is good for a second from its beginning on, and for ten times what it took: it has a tenth of the thread.

use crate::actors::cluster::meta;
use crate::actors::cluster::others::ask_others;
use crate::actors::forecast_view::{self, Counts, Part, Quota, place_of};
use crate::actors::health::each_wake;
use crate::actors::node::Node;
use crate::actors::router::{NodeReply, NodeRequest};
use crate::actors::shared::Shared;
use crate::gateways::{Gateways, QuotaState};
use crate::persistence::state_store::WakeRow;
use crate::types::effect::{Channel, Lane};
use crate::types::ids::{NodeId, ShardId};
use crate::types::time::{Millis, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A look is good for this long at least.
const GOOD_MIN: Millis = Millis::from_secs(1);
/// How long another node may take for its look. It goes on with it beyond that, and has it for who asks again.
const PATIENCE: Duration = Duration::from_secs(6);

/// The last look, and what is asked of the next.
#[derive(Default)]
pub struct Forecast {
    /// Held by the look that runs.
    last: Arc<Mutex<Option<Arc<Look>>>>,
    /// The furthest that anybody asked to see since the last look began.
    hours_asked: AtomicU16,
}

/// What is due on the shards led here.
struct Look {
    hours: u16,
    good_for: Millis,
    part: Part,
}

impl Forecast {
    /// What all members hold that answer. May be as of looks that were made for somebody else: `from` is the oldest.
    pub async fn view(node: &Arc<Node>, hours: u16) -> Value {
        let (shared, me) = (&node.shared, node.folder.node);
        let state = meta::read(shared).map(|(_, state)| state);
        let read = |reply| if let NodeReply::Forecast(part) = reply { Some(part) } else { None };
        let others = async {
            let Some(state) = &state else { return Vec::new() };
            ask_others(node, state, (NodeRequest::Forecast { hours }, PATIENCE), read).await
        };
        let (own, others) = tokio::join!(Self::part(shared, hours), others);
        let own = own.map(|part| (me, part));
        let said = others.into_iter().filter_map(|(other, part)| Some((other, part?)));
        let parts: BTreeMap<NodeId, Part> = said.chain(own).collect();
        forecast_view::view(&parts, shared.shard_count, hours)
    }

    /// The wants of the shards led here that are due within so many hours, those that are overdue among them. A look that
    /// was begun is finished, though nobody waits for it any more. `None` only when the runtime ends.
    pub async fn part(shared: &Arc<Shared>, hours: u16) -> Option<Part> {
        let forecast = &shared.forecast;
        forecast.hours_asked.fetch_max(hours, Ordering::Relaxed);
        let mut last = forecast.last.clone().lock_owned().await;
        let now = shared.clock.now();
        if let Some(look) = last.as_ref().filter(|look| look.serves(hours, now, &led(shared))) {
            return Some(look.part.within(hours));
        }
        let looker = shared.clone();
        let made = tokio::spawn(async move {
            let hours = looker.forecast.hours_asked.swap(0, Ordering::Relaxed).max(hours);
            let look = Arc::new(Look::make(&looker, hours).await);
            *last = Some(look.clone());
            look
        });
        made.await.ok().map(|look| look.part.within(hours))
    }
}

fn led(shared: &Shared) -> Vec<ShardId> {
    (0..shared.shard_count).map(ShardId).filter(|shard| shared.leads(*shard)).collect()
}

impl Look {
    async fn make(shared: &Arc<Shared>, hours: u16) -> Self {
        let (from, began) = (shared.clock.now(), shared.clock.boot());
        let until = end_of(from, hours);
        let mut part = Part { from, shards: Vec::new(), quotas: quotas(shared), minutes: BTreeMap::new() };
        for shard in led(shared) {
            let reader = shared.clone();
            let counted = shared.background.ask(move || {
                let mut minutes: BTreeMap<u16, Counts> = BTreeMap::new();
                each_wake(&reader, shard, until, |row| count(row, minutes.entry(place_of(row.due, from)).or_default()));
                minutes
            });
            let minutes = counted.await.unwrap_or_default();
            // Its new leader counts it.
            if shared.leads(shard) {
                part.shards.push(shard);
                minutes.iter().for_each(|(place, counts)| part.minutes.entry(*place).or_default().add(counts));
            }
        }
        let took_ms = i64::try_from(shared.clock.boot().0.saturating_sub(began.0)).unwrap_or(i64::MAX);
        let good_for = GOOD_MIN.max(Millis(took_ms.saturating_mul(10)));
        Self { hours, good_for, part }
    }

    /// Whether it reaches as far, is not too old, and of the shards that are led here now. Its time is that of the wants: it
    /// is not good any more when a dev clock was moved.
    fn serves(&self, hours: u16, now: Timestamp, led: &[ShardId]) -> bool {
        let from = self.part.from;
        hours <= self.hours && from <= now && now < from + self.good_for && self.part.shards == led
    }
}

fn count(row: &WakeRow, counts: &mut Counts) {
    counts.wants += 1;
    let (of_lane, channel) = match row.lane {
        Some(Lane::Send(channel)) => (&mut counts.sends, channel),
        Some(Lane::Notice(channel)) => (&mut counts.notices, channel),
        Some(Lane::Payment | Lane::Entity | Lane::Shipment) | None => return,
    };
    *of_lane.entry(channel).or_insert(0) += 1;
}

/// What each channel may be given here, if it has a provider.
fn quotas(shared: &Shared) -> BTreeMap<Channel, Quota> {
    let gateways = shared.gateways.get().map(Gateways::states).unwrap_or_default();
    let quota = |lane, quota: Quota| match lane {
        Lane::Send(channel) => Some((channel, quota)),
        Lane::Notice(_) | Lane::Payment | Lane::Entity | Lane::Shipment => None,
    };
    let served = gateways.into_iter().filter(|gateway| gateway.served);
    let of = served.filter_map(|gateway| {
        let shared = gateway.quota != QuotaState::Node;
        quota(gateway.lane, Quota { per_s: gateway.quota_per_s, shared })
    });
    of.collect()
}

/// The end of the last minute, so that a shorter forecast is the beginning of a longer one.
fn end_of(from: Timestamp, hours: u16) -> Timestamp {
    let until = from + Millis::from_hours(i64::from(hours));
    Timestamp((forecast_view::minute_of(until) + 1) * 60_000 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_serves_shorter_forecasts_for_a_while_of_the_shards_that_are_led() {
        let from = Timestamp(1_800_000_030_000);
        let led = [ShardId(0), ShardId(3)];
        let part = Part { from, shards: led.to_vec(), quotas: BTreeMap::new(), minutes: BTreeMap::new() };
        let look = Look { hours: 2, good_for: Millis(1_500), part };
        assert!(look.serves(2, from, &led) && look.serves(1, from + Millis(1_499), &led));
        assert!(!look.serves(3, from, &led), "it does not reach as far");
        assert!(!look.serves(1, from + Millis(1_500), &led) && !look.serves(1, from - Millis(1), &led));
        assert!(!look.serves(1, from, &led[..1]), "another leads the second now");
        assert_eq!(end_of(from, 1), Timestamp(1_800_003_659_999));
    }
}
