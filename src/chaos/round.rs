//! One burst with one fault in the middle of it.

use crate::chaos::failover::next_sends;
use crate::chaos::gauge::Gauge;
use crate::chaos::happening::Diary;
use crate::chaos::nemesis::{Harm, Stage, Trigger, draw};
use crate::chaos::report::Round;
use crate::chaos::stand::{Stand, connection};
use crate::chaos::{ChaosError, RunArgs};
use crate::load::http::Connection;
use crate::load::{LoadError, ReserveArgs, ReserveReport, api, ledger, reserve};
use crate::types::time::Millis;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// The instant of a round by the clock of the cluster, ahead of its begin: as near as the front door takes, and time to
/// reserve.
const AHEAD_SECONDS: i64 = 3_000;
/// The clock is moved to so long before the instant, so that gifts are woken as they would be.
const LEAD_SECONDS: i64 = 10;
/// A moment with enough open attempts is waited for until so much of the burst is delivered.
const LATEST_PERCENT: u64 = 80;
/// How long clients go on to reserve: from before the instant to well after the fault.
const THROUGH_SECONDS: u64 = 30;
/// How long the last arrival is waited for.
const ARRIVALS_MAX: Duration = Duration::from_secs(180);
/// Moving the clock by so much takes until everything due before has settled.
const ADVANCE_DEADLINE: Millis = Millis::from_mins(10);

/// # Errors
/// [`ChaosError`]: the stand is not up to a round.
pub async fn run(args: &RunArgs, stand: &Stand, number: u32) -> Result<Round, ChaosError> {
    let diary = Diary::begin();
    stand.until_whole().await?;
    let schedule = draw(&args.nemesis, &stage(args, stand).await, args.seed, number);
    let reserved = reserve::reserve(&reservations(args, stand, number)).await?;
    let mut sandbox = stand.sandbox()?;
    let before = ledger::summary(&mut sandbox).await?.gifts_delivered;
    let mut api = connection(args, 1, ADVANCE_DEADLINE)?;
    let left = (reserved.due - api::clock(&mut api).await?.now()).0 - LEAD_SECONDS * 1_000;
    if left >= 1_000 {
        api::advance(&mut api, Millis(left)).await?;
    }
    let habits = provider_habits(args, stand).await?;
    let background = tokio::spawn(go_on(through_the_fault(args, stand, number)));
    let clock = api::clock(&mut api).await?;
    let due_at_ms = (reserved.due - clock.now()).0 + i64::try_from(diary.elapsed_ms()).unwrap_or(i64::MAX);
    let total = reserved.ids.len() as u64;
    let gauge = Gauge { stand, sandbox: Mutex::new(stand.sandbox()?), clock, due: reserved.due, before, total };
    match schedule.trigger {
        Trigger::Delivered { percent } => gauge.until_delivered(percent).await?,
        Trigger::Peak { offset_ms } => gauge.until(reserved.due + Millis(offset_ms)).await,
    }
    let (order, led) = leaders(&stand.view().await.unwrap_or_default());
    if order.is_empty() {
        return Err(ChaosError::Stand(format!("round {number}: no node says who leads")));
    }
    let first = schedule.victims(&order, true);
    let open_attempts = match schedule.trigger {
        Trigger::Delivered { .. } => gauge.until_busy(&first, LATEST_PERCENT).await?,
        Trigger::Peak { .. } => gauge.open_attempts(&first).await,
    };
    let at = clock.now();
    let delivered_before = gauge.delivered().await?;
    let victims = schedule.victims(&order, false);
    let blows = Harm::new(&gauge, &diary, order).carry_out(&schedule).await?;
    let items = arrivals(&mut sandbox, before + total).await?;
    for habit in habits {
        stand.lift_of_provider(habit).await?;
    }
    let ours: BTreeSet<u16> = first.iter().flat_map(|node| led.get(node).cloned().unwrap_or_default()).collect();
    Ok(Round {
        number,
        victims,
        open_attempts,
        delivered_before,
        fault_after_ms: (at - reserved.due).0,
        // Before the instant there is nothing to send.
        failover_ms: next_sends(&ours, args.shards, at.max(reserved.due), &items).into_values().collect(),
        reserve: reserved.report,
        meanwhile: background.await.map_err(|_| LoadError::Worker)??,
        measure: ledger::judge(&reserved.ids, reserved.due, &items),
        blows,
        due_at_ms,
        happenings: diary.happenings(),
    })
}

async fn stage(args: &RunArgs, stand: &Stand) -> Stage {
    Stage {
        nodes: stand.members.count().await,
        heal_after_ms: args.heal_after * 1_000,
        after_percent: (args.after_percent[0], args.after_percent[1]),
    }
}

fn reservations(args: &RunArgs, stand: &Stand, number: u32) -> ReserveArgs {
    ReserveArgs {
        count: Some(args.gifts),
        concurrency: args.concurrency,
        within: Some(AHEAD_SECONDS),
        urls: stand.urls(),
        users: Some(40),
        run: Some(format!("chaos-{}-{number}", args.seed)),
        sandbox: stand.sandbox_url(),
        measure: true,
        ..ReserveArgs::default()
    }
}

/// Clients that reserve on, from before the instant to after the fault, for gifts that are due much later.
fn through_the_fault(args: &RunArgs, stand: &Stand, number: u32) -> ReserveArgs {
    ReserveArgs {
        count: Some(u64::from(args.reserve_rate) * THROUGH_SECONDS),
        rate: Some(f64::from(args.reserve_rate.max(1))),
        within: Some(30 * 86_400),
        run: Some(format!("chaos-{}-{number}-meanwhile", args.seed)),
        measure: false,
        ..reservations(args, stand, number)
    }
}

async fn go_on(load: ReserveArgs) -> Result<Option<ReserveReport>, LoadError> {
    if load.count == Some(0) {
        return Ok(None);
    }
    Ok(Some(reserve::reserve(&load).await?.report))
}

/// Has the provider of the messages take its time, as real ones do, and lose replies if asked, until it is lifted.
async fn provider_habits(args: &RunArgs, stand: &Stand) -> Result<Vec<u64>, LoadError> {
    let mut habits = Vec::new();
    if args.provider_latency_ms > 0 {
        let latency = json!({ "provider": "nhn", "kind": "latency", "latency_ms": args.provider_latency_ms });
        habits.push(stand.order_of_provider(&latency).await?);
    }
    if args.lost_replies > 0 {
        let probability = f64::from(args.lost_replies) / 100.0;
        let lost = json!({ "provider": "nhn", "kind": "accept_then_drop", "probability": probability });
        habits.push(stand.order_of_provider(&lost).await?);
    }
    Ok(habits)
}

/// Nodes, those that lead the most first, and what each leads.
fn leaders(view: &Value) -> (Vec<u16>, BTreeMap<u16, BTreeSet<u16>>) {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let mut led: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for node in view["nodes"].as_array().into_iter().flatten() {
        led.extend(number(&node["id"]).map(|id| (id, BTreeSet::new())));
    }
    for shard in view["shards"].as_array().into_iter().flatten() {
        if let (Some(id), Some(leader)) = (number(&shard["id"]), number(&shard["leader"])) {
            led.entry(leader).or_default().insert(id);
        }
    }
    let mut order: Vec<u16> = led.keys().copied().collect();
    order.sort_by_key(|node| std::cmp::Reverse(led[node].len()));
    (order, led)
}

async fn arrivals(sandbox: &mut Connection, wanted: u64) -> Result<Vec<ledger::LedgerItem>, LoadError> {
    let give_up = Instant::now() + ARRIVALS_MAX;
    while ledger::summary(sandbox).await?.gifts_delivered < wanted && Instant::now() < give_up {
        sleep(Duration::from_millis(250)).await;
    }
    ledger::rows(sandbox, "message", "g_").await
}
