//! One burst with one fault in the middle of it.

use crate::chaos::audited;
use crate::chaos::findings::{Clients, Findings};
use crate::chaos::gauge::{Blow, Gauge};
use crate::chaos::happening::Diary;
use crate::chaos::kept;
use crate::chaos::looks::{Axis, by_leads};
use crate::chaos::nemesis::{Harm, Schedule, Stage, Trigger, draw};
use crate::chaos::progress::Display;
use crate::chaos::report::Round;
use crate::chaos::samples::{Burst, Sampler};
use crate::chaos::series::exchanges;
use crate::chaos::stand::{Stand, connection};
use crate::chaos::stats::real;
use crate::chaos::worst::{with_steps, worst};
use crate::chaos::{ChaosError, RunArgs};
use crate::load::api::ClusterClock;
use crate::load::http::Connection;
use crate::load::reserve::Reserved;
use crate::load::{ClaimsArgs, ClaimsReport, LoadError, ReserveArgs, api, claims, ledger, reserve};
use crate::types::time::{Millis, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

/// The instant of a round by the clock of the cluster, ahead of its begin: as near as the front door takes, and time to
/// reserve.
const AHEAD_SECONDS: i64 = 3_000;
/// The clock is moved to so long before the instant, so that gifts are woken as they would be.
const LEAD_SECONDS: i64 = 10;
/// A moment with enough open attempts is waited for until so much of the burst is delivered.
const LATEST_PERCENT: u64 = 80;
/// How long clients go on to reserve: from before the instant to well after the fault.
const THROUGH_SECONDS: u64 = 30;
/// A request that is answered later than this has long been too late.
const MEANWHILE_SECONDS_MAX: u32 = 6;
/// A client that wants its answer within three seconds asks another node when it has waited for half of them.
const ATTEMPT_MS: u64 = 1_500;
/// A crowd claims for so long, from shortly before the instant on.
const CROWD_SECONDS: f64 = 25.0;
/// Senders of the gifts.
const USERS: u32 = 40;
/// How long the last arrival is waited for.
const ARRIVALS_MAX: Duration = Duration::from_secs(180);
const ARRIVALS_LOOK_EVERY: Duration = Duration::from_millis(500);
/// An attempt that was open at a kill is waited out for 13 s, one without an answer for 10 s and looked up 5 s later: by then both
/// were sent once more, if they were to be.
const REPEATED_WITHIN: Duration = Duration::from_secs(20);
/// Moving the clock by so much takes until everything due before has settled.
const ADVANCE_DEADLINE: Millis = Millis::from_mins(10);

/// # Errors
/// [`ChaosError`]: the stand is not up to a round.
pub async fn run(args: &RunArgs, stand: &Stand, number: u32, display: &Arc<Display>) -> Result<Round, ChaosError> {
    let diary = Arc::new(Diary::begin());
    stand.until_whole().await?;
    let schedule = draw(&args.nemesis, &stage(args, stand).await, args.seed, number);
    let reserved = reserve::reserve(&reservations(args, stand, number)).await?;
    let mut sandbox = stand.sandbox()?;
    let before = ledger::summary(&mut sandbox).await?.gifts_delivered;
    let clock = come_near(args, reserved.due).await?;
    let habits = provider_habits(args, stand).await?;
    let background = tokio::spawn(go_on(through_the_fault(args, stand, number)));
    let crowd = tokio::spawn(claim(args.profile.claims(args.gifts), stand.urls()));
    let axis = Axis::new(clock.now(), diary.elapsed_ms());
    let due_at_ms = axis.place_ms(reserved.due);
    let burst = Burst { number, gifts: &reserved.gifts, before, axis, due_at_ms };
    let sampler = Sampler::start(args, stand, (diary.clone(), display.clone()), &burst).await?;
    let dues = dues(&reserved);
    let (total, last_due) = (dues.len() as u64, dues.last().copied().unwrap_or(reserved.due));
    let gauge = Gauge { stand, sandbox: Mutex::new(stand.sandbox()?), clock, due: reserved.due, dues, before };
    let struck = strike(&gauge, &diary, &schedule).await?;
    let arrived = all_arrived(&mut sandbox, before + total, last_due - clock.now()).await?;
    let mut meanwhile = background.await.map_err(|_| LoadError::Worker)??;
    let claims = crowd.await.map_err(|_| LoadError::Worker)??;
    let (looks, happenings) = (sampler.end().await, diary.happenings());
    // What is sent once more, because nobody knows whether it was, is sent by then; and no client waits beside the reading.
    sleep_until(arrived + REPEATED_WITHIN).await;
    for habit in habits {
        stand.lift_of_provider(habit).await?;
    }
    let items = ledger::rows(&mut sandbox, "message", "g_").await?;
    let promised = meanwhile.iter().flat_map(|load| &load.gifts).chain(&reserved.gifts);
    audited::note(stand, promised, clock.now())?;
    let kept = match &mut meanwhile {
        Some(load) => Some(kept::read_back(stand, USERS, std::mem::take(&mut load.gifts)).await?),
        None => None,
    };
    let arrivals = ledger::arrivals(&reserved.gifts, &items);
    let clients = clients(args, meanwhile.as_ref(), diary.round_start());
    let shards = args.shards;
    let found =
        Findings { axis, shards, arrivals: &arrivals, looks: &looks, happenings: &happenings, clients: &clients };
    let blows = found.blows(struck.blows);
    let worst = with_steps(&stand.urls(), USERS, worst(&arrivals, axis)).await;
    let seen = found.seen(&blows, worst);
    Ok(Round {
        run: 0,
        number,
        nemesis: args.nemesis_name(),
        victims: struck.victims,
        open_attempts: struck.open_attempts,
        delivered_before: struck.delivered_before,
        fault_after_ms: (struck.at - reserved.due).0,
        reserve: reserved.report,
        meanwhile: meanwhile.map(|load| load.report),
        kept,
        claims,
        measure: ledger::judge(&arrivals),
        blows,
        due_at_ms,
        happenings,
        seen,
    })
}

/// Moves the cluster's clock to shortly before the first gift; the clock as it stands then.
async fn come_near(args: &RunArgs, instant: Timestamp) -> Result<ClusterClock, LoadError> {
    let mut api = connection(args, 1, ADVANCE_DEADLINE)?;
    let first = instant - seconds(args.reach_s().0);
    let left = (first - api::clock(&mut api).await?.now()).0 - LEAD_SECONDS * 1_000;
    if left >= 1_000 {
        api::advance(&mut api, Millis(left)).await?;
    }
    api::clock(&mut api).await
}

/// What was done to the stand, and when.
struct Struck {
    victims: Vec<u16>,
    open_attempts: u64,
    delivered_before: u64,
    at: Timestamp,
    blows: Vec<Blow>,
}

/// Waits for the schedule's moment and carries it out.
async fn strike(gauge: &Gauge<'_>, diary: &Diary, schedule: &Schedule) -> Result<Struck, ChaosError> {
    match schedule.trigger {
        Trigger::Delivered { percent } => gauge.until_delivered(percent).await?,
        Trigger::Peak { offset_ms } => gauge.until(gauge.due + Millis(offset_ms)).await,
    }
    let order = by_leads(&gauge.stand.view().await.unwrap_or_default());
    if order.is_empty() {
        return Err(ChaosError::Stand("no node says who leads".to_owned()));
    }
    let first = schedule.victims(&order, true);
    let open_attempts = match schedule.trigger {
        Trigger::Delivered { .. } => gauge.until_busy(&first, LATEST_PERCENT).await?,
        Trigger::Peak { .. } => gauge.open_attempts(&first).await,
    };
    let at = gauge.clock.now();
    let delivered_before = gauge.delivered().await?;
    let mut victims = schedule.victims(&order, false);
    let blows = Harm::new(gauge, diary, order).carry_out(schedule).await?;
    // Some are only known when they are hit.
    let hit: BTreeSet<u16> = blows.iter().map(|blow| blow.node).filter(|node| !victims.contains(node)).collect();
    victims.extend(hit);
    Ok(Struck { victims, open_attempts, delivered_before, at, blows })
}

/// When each gift is due, in order.
fn dues(reserved: &Reserved) -> Vec<Timestamp> {
    let mut dues: Vec<Timestamp> = reserved.gifts.iter().map(|gift| gift.due).collect();
    dues.sort_unstable();
    dues
}

fn seconds(count: u64) -> Millis {
    Millis::from_secs(i64::try_from(count).unwrap_or(i64::MAX / 1_000))
}

/// How the clients were answered, on the round's axis.
fn clients(args: &RunArgs, load: Option<&Reserved>, round_start: Instant) -> Clients {
    let Some(load) = load else { return Clients::default() };
    let began = load.began.saturating_duration_since(round_start).as_millis();
    Clients {
        began_ms: i64::try_from(began).unwrap_or(i64::MAX),
        seconds: through_seconds(args),
        exchanges: exchanges(load, round_start),
    }
}

/// A crowd that claims one campaign's coupons while the burst runs.
async fn claim(members: Option<u64>, urls: Vec<String>) -> Result<Option<ClaimsReport>, LoadError> {
    let Some(members) = members else { return Ok(None) };
    let quantity = u32::try_from(members / 10).unwrap_or(u32::MAX);
    let rate = Some(real(members) / CROWD_SECONDS);
    let args = ClaimsArgs {
        members,
        repeats: members / 10,
        quantity,
        parts: 1,
        rate,
        concurrency: 32,
        urls,
        pids: Vec::new(),
    };
    Ok(Some(claims::run(args).await?))
}

async fn stage(args: &RunArgs, stand: &Stand) -> Stage {
    let (before_s, after_s) = args.reach_s();
    Stage {
        nodes: stand.members.count().await,
        heal_after_ms: args.heal_after * 1_000,
        after_percent: (args.after_percent[0], args.after_percent[1]),
        first_due_ms: -seconds(before_s).0,
        due_for_ms: (before_s + after_s) * 1_000,
        every_ms: args.every * 1_000,
    }
}

fn reservations(args: &RunArgs, stand: &Stand, number: u32) -> ReserveArgs {
    ReserveArgs {
        count: Some(args.gifts),
        concurrency: args.concurrency,
        within: Some(AHEAD_SECONDS),
        urls: stand.urls(),
        users: Some(USERS),
        spread_ms: args.offsets_ms(),
        run: Some(format!("chaos-{}-{number}", args.seed)),
        sandbox: stand.sandbox_url(),
        measure: true,
        ..ReserveArgs::default()
    }
}

/// Clients that reserve on, from before the instant to after the fault, for gifts that are due much later.
fn through_the_fault(args: &RunArgs, stand: &Stand, number: u32) -> ReserveArgs {
    ReserveArgs {
        count: Some(u64::from(args.reserve_rate) * through_seconds(args)),
        spread_ms: Vec::new(),
        rate: Some(f64::from(args.reserve_rate.max(1))),
        within: Some(30 * 86_400),
        run: Some(format!("chaos-{}-{number}-meanwhile", args.seed)),
        // One for each request that may be on its way: a client that waits for another's place would be late by itself.
        concurrency: args.concurrency.max(args.reserve_rate * MEANWHILE_SECONDS_MAX),
        attempt_ms: ATTEMPT_MS,
        // Their ids are kept, to be read back.
        measure: true,
        // Its bar would stand where the display does.
        json: true,
        ..reservations(args, stand, number)
    }
}

/// As long as the profile, and a while beyond.
fn through_seconds(args: &RunArgs) -> u64 {
    let (before_s, after_s) = args.reach_s();
    THROUGH_SECONDS + before_s + after_s
}

async fn go_on(load: ReserveArgs) -> Result<Option<Reserved>, LoadError> {
    if load.count == Some(0) {
        return Ok(None);
    }
    reserve::reserve(&load).await.map(Some)
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
    if args.hung_replies > 0 {
        let probability = f64::from(args.hung_replies) / 100.0;
        let hung = json!({ "provider": "nhn", "kind": "accept_then_hang", "probability": probability });
        habits.push(stand.order_of_provider(&hung).await?);
    }
    Ok(habits)
}

/// When all had arrived by the ledger; three minutes after the last was due it is as it is.
async fn all_arrived(sandbox: &mut Connection, wanted: u64, ahead: Millis) -> Result<Instant, LoadError> {
    let give_up = Instant::now() + ahead.to_std() + ARRIVALS_MAX;
    while ledger::summary(sandbox).await?.gifts_delivered < wanted && Instant::now() < give_up {
        sleep(ARRIVALS_LOOK_EVERY).await;
    }
    Ok(Instant::now())
}
