//! One burst with one fault in the middle of it.

use crate::chaos::failover::next_sends;
use crate::chaos::report::{OPEN_ATTEMPTS_MIN, Round};
use crate::chaos::stand::{Stand, connection, failed};
use crate::chaos::{ChaosError, RunArgs};
use crate::load::http::{Call, Connection, Target};
use crate::load::{CALL_DEADLINE, LoadError, ReserveArgs, ReserveReport, api, ledger, reserve};
use crate::types::time::Millis;
use bytes::Bytes;
use http::Method;
use rand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The instant of a round by the clock of the cluster, ahead of its begin: as near as the front door takes, and time to
/// reserve.
const AHEAD_SECONDS: i64 = 3_000;
/// The clock is moved to so long before the instant, so that gifts are woken as they would be.
const LEAD_SECONDS: i64 = 10;
/// A moment with enough open attempts is waited for until so much of the burst is delivered.
const LATEST_PERCENT: u64 = 80;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long clients go on to reserve: from before the instant to well after the fault.
const THROUGH_SECONDS: u64 = 30;
/// A look at a node's gateways.
const LOOK_DEADLINE: Millis = Millis::from_secs(2);
/// How long the last arrival is waited for.
const ARRIVALS_MAX: Duration = Duration::from_secs(180);
/// Moving the clock by so much takes until everything due before has settled.
const ADVANCE_DEADLINE: Millis = Millis::from_mins(10);

/// # Errors
/// [`ChaosError`]: the stand is not up to a round.
pub async fn run(args: &RunArgs, stand: &Stand, number: u32, dice: &mut impl Rng) -> Result<Round, ChaosError> {
    stand.until_whole().await?;
    let reserved = reserve::reserve(&reservations(args, stand, number)).await?;
    let mut sandbox = sandbox(stand)?;
    let before = ledger::summary(&mut sandbox).await?.gifts_delivered;
    let mut api = connection(args, 1, ADVANCE_DEADLINE)?;
    let left = (reserved.due - api::clock(&mut api).await?.now()).0 - LEAD_SECONDS * 1_000;
    if left >= 1_000 {
        api::advance(&mut api, Millis(left)).await?;
    }
    slow_down(args, &mut sandbox).await?;
    let background = tokio::spawn(go_on(through_the_fault(args, stand, number)));
    let total = reserved.ids.len() as u64;
    let percent = dice.random_range(args.after_percent[0]..=args.after_percent[1].max(args.after_percent[0]));
    let wanted = before + (total * percent / 100).max(1);
    let clock = api::clock(&mut api).await?;
    while ledger::summary(&mut sandbox).await?.gifts_delivered < wanted {
        if clock.now() > reserved.due + Millis::from_secs(120) {
            return Err(ChaosError::Stand(format!("round {number}: the burst does not begin")));
        }
        sleep(LOOK_EVERY).await;
    }
    let view = stand.view().await.unwrap_or_default();
    let (order, led) = leaders(&view);
    let victims = args.nemesis.victims(&order);
    let latest = before + total * LATEST_PERCENT / 100;
    let mut open = open_attempts(stand, &victims).await;
    while !victims.is_empty() && open < OPEN_ATTEMPTS_MIN {
        if ledger::summary(&mut sandbox).await?.gifts_delivered >= latest {
            break;
        }
        open = open_attempts(stand, &victims).await;
    }
    let at = clock.now();
    let delivered_before = ledger::summary(&mut sandbox).await?.gifts_delivered - before;
    args.nemesis.strike(stand, &victims).await?;
    args.nemesis.heal(stand, &victims, Duration::from_secs(args.heal_after)).await?;
    let items = arrivals(&mut sandbox, before + total).await?;
    let ours: BTreeSet<u16> = victims.iter().flat_map(|node| led.get(node).cloned().unwrap_or_default()).collect();
    Ok(Round {
        number,
        victims,
        open_attempts: open,
        delivered_before,
        fault_after_ms: (at - reserved.due).0,
        failover_ms: next_sends(&ours, args.shards, at, &items).into_values().collect(),
        reserve: reserved.report,
        meanwhile: background.await.map_err(|_| LoadError::Worker)??,
        measure: ledger::judge(&reserved.ids, reserved.due, &items),
    })
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

fn sandbox(stand: &Stand) -> Result<Connection, LoadError> {
    let target = Target::parse(&stand.sandbox_url()).map_err(failed("the sandbox"))?;
    Ok(Connection::new(target, CALL_DEADLINE))
}

/// Has the provider of the messages take its time, as real ones do, from now to long after the burst.
async fn slow_down(args: &RunArgs, sandbox: &mut Connection) -> Result<(), LoadError> {
    const WHAT: &str = "ordering the provider's latency";
    if args.provider_latency_ms == 0 {
        return Ok(());
    }
    let fault = json!({
        "provider": "nhn", "kind": "latency", "probability": 1.0, "latency_ms": args.provider_latency_ms, "seconds": 600,
    });
    let call = Call::json(Method::POST, "/faults", Bytes::from(fault.to_string()));
    let reply = sandbox.call(call).await.map_err(failed(WHAT))?;
    if reply.status < 300 {
        return Ok(());
    }
    Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() })
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

/// Calls that have left the victims and have no answer yet.
async fn open_attempts(stand: &Stand, victims: &[u16]) -> u64 {
    let mut open = 0;
    for node in victims {
        let view = stand.get(*node, "/v1/ops/gateways", LOOK_DEADLINE).await.unwrap_or_default();
        let lanes = view["lanes"].as_array().cloned().unwrap_or_default();
        open += lanes.iter().filter_map(|lane| lane["in_flight"].as_u64()).sum::<u64>();
    }
    open
}

async fn arrivals(sandbox: &mut Connection, wanted: u64) -> Result<Vec<ledger::LedgerItem>, LoadError> {
    let give_up = Instant::now() + ARRIVALS_MAX;
    while ledger::summary(sandbox).await?.gifts_delivered < wanted && Instant::now() < give_up {
        sleep(Duration::from_millis(250)).await;
    }
    ledger::rows(sandbox, "message", "g_").await
}
