//! Looks at the cluster while a round runs: each node's gateways twice a second, the whole cluster four times a second (twice
//! where gifts fall due for long), the ledger's count for the display. Whoever does not answer is asked again.

use crate::chaos::RunArgs;
use crate::chaos::happening::{Diary, Target};
use crate::chaos::looks::{Axis, Found, Looks, NodeLook, View};
use crate::chaos::progress::{Display, Snapshot, per_second};
use crate::chaos::spans::spans;
use crate::chaos::stand::{Stand, connection, targets};
use crate::load::http::{Call, Connection, HttpError};
use crate::load::ledger::Promise;
use crate::load::{LoadError, ledger};
use crate::types::time::Millis;
use http::HeaderValue;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

const NODE_EVERY: Duration = Duration::from_millis(500);
/// A node that says nothing for so long is silent.
const NODE_DEADLINE: Millis = Millis::from_secs(1);
/// A view takes up to two seconds while a member is silent: several ask in turn, so that there is one every 250 ms.
const VIEWERS: u32 = 4;
const VIEW_EVERY: Duration = Duration::from_secs(1);
/// Where gifts fall due for longer than [`LONG_S`], looks may not cost what is to be measured.
const VIEW_EVERY_LONG: Duration = Duration::from_secs(2);
const LONG_S: u64 = 60;
const VIEW_DEADLINE: Millis = Millis::from_secs(4);
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// The burst that is looked at.
pub struct Burst<'a> {
    pub number: u32,
    pub gifts: &'a [Promise],
    /// Gifts that the ledger had before it.
    pub before: u64,
    pub axis: Axis,
    pub due_at_ms: i64,
}

/// Looks go on until it is ended or dropped.
pub struct Sampler {
    looks: Arc<Mutex<Looks>>,
    stop: CancellationToken,
    tasks: JoinSet<Option<()>>,
}

impl Sampler {
    /// Begins to look.
    ///
    /// # Errors
    /// Never of a well-made command line.
    pub async fn start(
        args: &RunArgs,
        stand: &Stand,
        (diary, display): (Arc<Diary>, Arc<Display>),
        burst: &Burst<'_>,
    ) -> Result<Self, LoadError> {
        let (looks, stop) = (Arc::new(Mutex::new(Looks::default())), CancellationToken::new());
        let mut tasks = JoinSet::new();
        // One more than there are: a node may join.
        let nodes = stand.members.count().await + 1;
        for node in 1..=nodes {
            let door = Door { api: connection(args, node, NODE_DEADLINE)?, operator: stand.operator() };
            let watch = watch_node(node, door, (diary.clone(), looks.clone()));
            tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
        }
        let (before_s, after_s) = args.reach_s();
        let every = if before_s + after_s > LONG_S { VIEW_EVERY_LONG } else { VIEW_EVERY };
        for number in 0..VIEWERS {
            let first = usize::try_from(number).unwrap_or(0);
            let api = Connection::to_any(targets(args, nodes - 1)?, first, VIEW_DEADLINE);
            let door = Door { api, operator: stand.operator() };
            let ticks = interval_at(Instant::now() + every * number / VIEWERS, every);
            let watch = watch_cluster(ticks, door, (diary.clone(), looks.clone()));
            tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
        }
        let mut dues: Vec<i64> = burst.gifts.iter().map(|gift| burst.axis.place_ms(gift.due)).collect();
        dues.sort_unstable();
        let shown = Shown {
            still: Snapshot {
                number: burst.number,
                rounds: args.rounds,
                nemesis: args.nemesis_name(),
                gifts: dues.len() as u64,
                ..Snapshot::default()
            },
            before: burst.before,
            dues,
            due_at_ms: burst.due_at_ms,
        };
        let show = show(stand.sandbox()?, shown, (diary, looks.clone()), display);
        tasks.spawn(stop.clone().run_until_cancelled_owned(show));
        Ok(Self { looks, stop, tasks })
    }

    /// Ends the looking; what was seen, in order.
    pub async fn end(mut self) -> Looks {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let mut looks = std::mem::take(&mut *self.looks.lock());
        looks.nodes.sort_by_key(|look| look.at_ms);
        looks.views.sort_by_key(|view| view.heard_ms);
        looks
    }
}

/// A way in for an operator.
struct Door {
    api: Connection,
    operator: HeaderValue,
}

impl Door {
    async fn get(&mut self, path: &str) -> Result<Option<Value>, HttpError> {
        let reply = self.api.call(Call::get(path).bearer(&self.operator)).await?;
        Ok(serde_json::from_slice(&reply.body).ok().filter(|_| reply.status == 200))
    }
}

type Shared = (Arc<Diary>, Arc<Mutex<Looks>>);

async fn watch_node(node: u16, mut door: Door, (diary, looks): Shared) {
    let mut ticks = interval_at(Instant::now(), NODE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let at_ms = diary.elapsed_ms();
        let found = match door.get("/v1/ops/gateways?of=node").await {
            Ok(Some(gateways)) => Found::Up { open_attempts: open_attempts(&gateways) },
            // It lives and cannot say: a shard moves, or it is about to stop.
            Ok(None) => Found::Up { open_attempts: 0 },
            Err(HttpError::Connect { .. } | HttpError::Broken(_)) => Found::Gone,
            Err(HttpError::Deadline | HttpError::BadUrl { .. } | HttpError::BadHeader { .. }) => Found::Silent,
        };
        looks.lock().nodes.push(NodeLook { node, at_ms, found });
    }
}

fn open_attempts(gateways: &Value) -> u64 {
    let lanes = gateways["lanes"].as_array().into_iter().flatten();
    lanes.filter_map(|lane| lane["in_flight"].as_u64()).sum()
}

async fn watch_cluster(mut ticks: Interval, mut door: Door, (diary, looks): Shared) {
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked_ms = diary.elapsed_ms();
        if let Ok(Some(body)) = door.get("/v1/ops/cluster").await {
            looks.lock().views.push(View::read(asked_ms, diary.elapsed_ms(), &body));
        }
    }
}

/// What the display needs beside the looks.
struct Shown {
    still: Snapshot,
    before: u64,
    /// On the axis, in order.
    dues: Vec<i64>,
    due_at_ms: i64,
}

async fn show(mut sandbox: Connection, shown: Shown, (diary, looks): Shared, display: Arc<Display>) {
    let mut ticks = interval_at(Instant::now(), SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut at) = (0, Instant::now());
    loop {
        ticks.tick().await;
        let Ok(summary) = ledger::summary(&mut sandbox).await else { continue };
        let (sent_before, at_before) = (sent, at);
        (sent, at) = (summary.gifts_delivered.saturating_sub(shown.before), Instant::now());
        let now_ms = i64::try_from(diary.elapsed_ms()).unwrap_or(i64::MAX);
        let snapshot = Snapshot {
            since_instant_ms: now_ms - shown.due_at_ms,
            due: shown.dues.partition_point(|due| *due <= now_ms) as u64,
            sent,
            sent_per_s: per_second(sent.saturating_sub(sent_before), at - at_before),
            nodes: latest(&looks.lock()),
            harm: harm(&diary),
            ..shown.still.clone()
        };
        display.show(&snapshot);
    }
}

/// Each node that was ever up, as it was last seen.
fn latest(looks: &Looks) -> Vec<(u16, Found, u32)> {
    let mut last = std::collections::BTreeMap::new();
    for look in &looks.nodes {
        if matches!(look.found, Found::Up { .. }) || last.contains_key(&look.node) {
            last.insert(look.node, look.found);
        }
    }
    let leads = |node: u16| looks.views.last().map_or(0, |view| view.leads(node));
    last.into_iter().map(|(node, found)| (node, found, leads(node))).collect()
}

/// What goes on now, in words.
fn harm(diary: &Diary) -> Vec<String> {
    let going_on = spans(&diary.happenings()).into_iter().filter(|span| span.to_ms.is_none());
    let words = going_on.map(|span| match span.target {
        Target::Node(node) => format!("node {node} {}", span.name),
        Target::Link { from, to } => format!("link {from}\u{2192}{to} {}", span.name),
        Target::Disk(node) => format!("disk {node} {}", span.name),
        Target::Clock(node) => format!("clock {node} {}", span.name),
        Target::Provider => format!("provider {}", span.name),
        Target::Redis => format!("redis {}", span.name),
        Target::Cluster => format!("cluster {}", span.name),
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn open_attempts_are_summed_over_lanes() {
        let gateways = json!({ "lanes": [{ "in_flight": 3 }, { "in_flight": 4 }, { "name": "x" }] });
        assert_eq!((open_attempts(&gateways), open_attempts(&Value::Null)), (7, 0));
    }

    #[test]
    fn a_node_is_shown_from_its_first_answer_on() {
        let look = |node, found| NodeLook { node, at_ms: 0, found };
        let up = Found::Up { open_attempts: 1 };
        let nodes = vec![look(1, up), look(2, Found::Gone), look(1, Found::Silent)];
        let views = vec![View { leaders: [(0, Some(1))].into(), ..View::default() }];
        assert_eq!(latest(&Looks { nodes, views }), [(1, Found::Silent, 1)]);
    }

    #[test]
    fn what_has_ended_is_no_longer_shown() {
        let diary = Diary::begin();
        diary.began(Target::Node(2), "killed");
        diary.began(Target::Link { from: 1, to: 3 }, "cut");
        diary.ended(Target::Node(2), "killed");
        assert_eq!(harm(&diary), ["link 1\u{2192}3 cut"]);
    }
}
