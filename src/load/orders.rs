//! `bojagi load orders`: orders placed at a rate, and what came of each: how long the reply took, how long it was to the end,
//! and that stock and orders agree. Dev mode only: it mints tokens and puts stocks of its own.

use crate::load::args::OrdersArgs;
use crate::load::http::{Call, Connection, Target, bearer};
use crate::load::pace::{self, PAUSE_FIRST, PAUSE_MAX, Pace};
use crate::load::report::{Latencies, LatencyMicros};
use crate::load::usage;
use crate::load::{CALL_DEADLINE, HttpError, LoadError, api};
use crate::types::time::Timestamp;
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Won of one unit.
const PRICE: i64 = 1_000;

/// What came of the orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrdersReport {
    pub asked: u64,
    /// Answered 202: on disk on a majority.
    pub accepted: u64,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
    pub unknown: u64,
    pub retries: u64,
    pub elapsed_ms: u64,
    pub accepted_per_second: u64,
    /// From an order's scheduled instant to its reply.
    pub latency_micros: LatencyMicros,
    /// Accepted orders by their status at the end of the waiting.
    pub ended: BTreeMap<String, u64>,
    /// From the first order to the last one's end, and ends a second over that time.
    pub settled_ms: u64,
    pub completed_per_second: u64,
    /// From an order's creation to its end, by the cluster's clock.
    pub completion_micros: LatencyMicros,
    /// Units that completed orders took, and that the stocks lack.
    pub units_sold: u64,
    pub units_gone: u64,
    /// Units that the stocks still hold for somebody.
    pub units_held: u64,
    pub cpu_ms: Option<u64>,
    pub cpu_micros_per_order: Option<u64>,
}

impl OrdersReport {
    /// Nothing lost, everything done, and the stocks agree.
    #[must_use]
    pub fn passed(&self) -> bool {
        let all = self.accepted == self.asked && self.unknown == 0 && self.refused.is_empty();
        let done = self.ended.get("completed") == Some(&self.accepted) && self.ended.len() == 1;
        all && done && self.units_sold == self.units_gone && self.units_held == 0
    }

    pub(crate) fn lines(&self, text: &mut String) {
        let Self { asked, accepted, unknown, retries, elapsed_ms, settled_ms, .. } = self;
        let _ = writeln!(text, "orders       {accepted} of {asked} accepted, {unknown} unknown ({retries} retries)");
        for (code, count) in &self.refused {
            let _ = writeln!(text, "refused      {count} x {code}");
        }
        let _ = writeln!(text, "took         {elapsed_ms} ms, {} accepted a second", self.accepted_per_second);
        let _ = writeln!(text, "reply        {}", self.latency_micros.line());
        for (status, count) in &self.ended {
            let _ = writeln!(text, "ended        {count} x {status}");
        }
        let _ = writeln!(text, "all settled  {settled_ms} ms, {} completed a second", self.completed_per_second);
        let _ = writeln!(text, "completion   {}", self.completion_micros.line());
        let Self { units_sold, units_gone, units_held, .. } = self;
        let _ = writeln!(text, "stock        {units_sold} units sold, {units_gone} gone, {units_held} held");
        if let Some((cpu, each)) = self.cpu_ms.zip(self.cpu_micros_per_order) {
            let _ = writeln!(text, "cpu          {cpu} ms of the named processes, {each} us an order");
        }
    }
}

struct Plan {
    callers: Vec<HeaderValue>,
    run: String,
    skus: u64,
    quantity: u64,
    pace: Pace,
    /// The next accepted order whose end is waited for.
    next: AtomicU64,
    /// Until when ends are waited for, once all are placed.
    wait: Duration,
}

impl Plan {
    fn caller(&self, n: u64) -> &HeaderValue {
        let users = self.callers.len() as u64;
        &self.callers[usize::try_from(n % users).expect("below the number of callers")]
    }

    fn sku(&self, n: u64) -> String {
        sku(&self.run, n % self.skus)
    }
}

fn sku(run: &str, number: u64) -> String {
    format!("{run}-{number}")
}

#[derive(Default)]
struct Tally {
    accepted: Vec<(u64, String)>,
    refused: BTreeMap<String, u64>,
    unknown: u64,
    retries: u64,
    replies: Vec<Duration>,
    ended: BTreeMap<String, u64>,
    completions: Vec<Duration>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.replies.extend(other.replies);
        self.completions.extend(other.completions);
        self.unknown += other.unknown;
        self.retries += other.retries;
        for (mine, others) in [(&mut self.refused, other.refused), (&mut self.ended, other.ended)] {
            for (name, count) in others {
                *mine.entry(name).or_default() += count;
            }
        }
    }
}

/// # Errors
/// [`LoadError`]; orders that were placed stay placed.
pub(crate) async fn run(args: OrdersArgs) -> Result<OrdersReport, LoadError> {
    let targets = pace::targets(&args.urls)?;
    let mut api = Connection::to_any(targets.clone(), 0, CALL_DEADLINE);
    let run = format!("load-{}", api::clock(&mut api).await?.now().0);
    let operator = caller(&mut api, "operator", "load").await?;
    let mut callers = Vec::new();
    for user in 0..args.users {
        callers.push(caller(&mut api, "user", &format!("buyer-{user}")).await?);
    }
    let stocked = args.orders.saturating_mul(u64::from(args.quantity));
    for number in 0..u64::from(args.skus) {
        put_stock(&mut api, &operator, &sku(&run, number), stocked).await?;
    }
    let before = usage::of(&args.pids);
    let plan = Arc::new(Plan {
        callers,
        run,
        skus: u64::from(args.skus),
        quantity: u64::from(args.quantity),
        pace: Pace::begin(args.orders, args.rate),
        next: AtomicU64::new(0),
        wait: Duration::from_secs(args.wait),
    });
    let placed = together(&args, &targets, &plan, Tally::default(), Work::Place).await?;
    let elapsed = plan.pace.elapsed();
    let tally = together(&args, &targets, &plan, placed, Work::Follow).await?;
    let settled = plan.pace.elapsed();
    let cpu_ms = pace::cpu_ms_since(&args.pids, before);
    let (units_gone, units_held) = stocks(&mut api, &plan, stocked).await?;
    let report = summed_up(&args, tally, elapsed, settled);
    let cpu_micros_per_order = cpu_ms.map(|cpu| cpu.saturating_mul(1_000) / report.accepted.max(1));
    Ok(OrdersReport { units_gone, units_held, cpu_ms, cpu_micros_per_order, ..report })
}

#[derive(Clone, Copy)]
enum Work {
    Place,
    Follow,
}

/// All connections at work, on top of what is known.
async fn together(
    args: &OrdersArgs,
    targets: &[Target],
    plan: &Arc<Plan>,
    mut known: Tally,
    work: Work,
) -> Result<Tally, LoadError> {
    let accepted = Arc::new(known.accepted.clone());
    let mut workers = JoinSet::new();
    for number in 0..args.concurrency as usize {
        let connection = Connection::to_any(targets.to_vec(), number, CALL_DEADLINE);
        let (plan, accepted) = (Arc::clone(plan), Arc::clone(&accepted));
        workers.spawn(async move {
            match work {
                Work::Place => place_all(&plan, connection).await,
                Work::Follow => follow_all(&plan, &accepted, connection).await,
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        known.add(done.map_err(|_| LoadError::Worker)??);
    }
    Ok(known)
}

fn summed_up(args: &OrdersArgs, tally: Tally, elapsed: Duration, settled: Duration) -> OrdersReport {
    let (mut replies, mut completions) = (Latencies::new(), Latencies::new());
    tally.replies.iter().for_each(|spent| replies.record(*spent));
    tally.completions.iter().for_each(|spent| completions.record(*spent));
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    let (elapsed_ms, settled_ms) = (millis(elapsed), millis(settled));
    let accepted = tally.accepted.len() as u64;
    let completed = tally.ended.get("completed").copied().unwrap_or(0);
    OrdersReport {
        asked: args.orders,
        accepted,
        refused: tally.refused,
        unknown: tally.unknown,
        retries: tally.retries,
        elapsed_ms,
        accepted_per_second: accepted.saturating_mul(1_000) / elapsed_ms,
        latency_micros: replies.summed_up(),
        ended: tally.ended,
        settled_ms,
        completed_per_second: completed.saturating_mul(1_000) / settled_ms,
        completion_micros: completions.summed_up(),
        units_sold: completed.saturating_mul(u64::from(args.quantity)),
        ..OrdersReport::default()
    }
}

fn http(what: &'static str) -> impl Fn(HttpError) -> LoadError {
    move |source| LoadError::Http { what, source }
}

async fn caller(api: &mut Connection, role: &str, sub: &str) -> Result<HeaderValue, LoadError> {
    bearer(&api::token(api, role, sub).await?).map_err(http("a token"))
}

async fn put_stock(api: &mut Connection, operator: &HeaderValue, sku: &str, quantity: u64) -> Result<(), LoadError> {
    const WHAT: &str = "putting a stock";
    let body = json!({ "quantity": quantity, "price": { "value": PRICE, "currency": "KRW" } });
    let path = format!("/v1/inventory/{sku}");
    let call = Call::json(Method::PUT, &path, Bytes::from(body.to_string())).bearer(operator);
    let reply = api.call(call).await.map_err(http(WHAT))?;
    match reply.status {
        200 | 201 => Ok(()),
        status => Err(LoadError::Reply { what: WHAT, status, body: reply.text() }),
    }
}

/// Units that all stocks lack, and that they hold.
async fn stocks(api: &mut Connection, plan: &Plan, stocked: u64) -> Result<(u64, u64), LoadError> {
    const WHAT: &str = "a stock";
    let (mut gone, mut held) = (0, 0);
    for number in 0..plan.skus {
        let path = format!("/v1/inventory/{}", sku(&plan.run, number));
        let reply = api.call(Call::get(&path).bearer(&plan.callers[0])).await.map_err(http(WHAT))?;
        let view: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let (Some(quantity), Some(reserved)) = (view["quantity"].as_u64(), view["reserved"].as_u64()) else {
            return Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() });
        };
        gone += stocked.saturating_sub(quantity);
        held += reserved;
    }
    Ok((gone, held))
}

async fn place_all(plan: &Plan, mut connection: Connection) -> Result<Tally, LoadError> {
    let mut tally = Tally::default();
    while let Some(turn) = plan.pace.turn().await {
        place(plan, &mut connection, turn, &mut tally).await?;
    }
    Ok(tally)
}

async fn place(
    plan: &Plan,
    connection: &mut Connection,
    (n, started): (u64, Instant),
    tally: &mut Tally,
) -> Result<(), LoadError> {
    let body = json!({
        "items": [{ "sku": plan.sku(n), "quantity": plan.quantity }],
        "payment": { "method": "card", "payment_key": format!("tok_{n}") },
        "shipping": { "name": "Load", "phone": "010-1234-5678", "address": "Seoul" },
    });
    let body = Bytes::from(body.to_string());
    let call = || {
        let call = Call::json(Method::POST, "/v1/orders", body.clone());
        let call = call.header("idempotency-key", &format!("{}-{n}", plan.run)).map_err(http("an order"))?;
        Ok(call.bearer(plan.caller(n)))
    };
    let (reply, retries) = pace::insist(connection, call).await?;
    tally.retries += retries;
    let Some(reply) = reply else {
        tally.unknown += 1;
        return Ok(());
    };
    let told: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match told["id"].as_str() {
        Some(id) if reply.status == 202 => {
            tally.replies.push(started.elapsed());
            tally.accepted.push((n, id.to_owned()));
        }
        Some(_) | None => {
            let code = told["code"].as_str().map_or_else(|| reply.status.to_string(), str::to_owned);
            *tally.refused.entry(code).or_default() += 1;
        }
    }
    Ok(())
}

async fn follow_all(plan: &Plan, accepted: &[(u64, String)], mut connection: Connection) -> Result<Tally, LoadError> {
    let mut tally = Tally::default();
    let give_up = Instant::now() + plan.wait;
    loop {
        let place = usize::try_from(plan.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
        let Some((n, id)) = accepted.get(place) else { return Ok(tally) };
        let path = format!("/v1/orders/{id}");
        let mut pause = PAUSE_FIRST;
        let status = loop {
            let reply = connection.call(Call::get(&path).bearer(plan.caller(*n))).await.ok();
            let order = reply.and_then(|reply| serde_json::from_slice::<Value>(&reply.body).ok()).unwrap_or_default();
            let status = order["status"].as_str().unwrap_or("unknown").to_owned();
            if has_ended(&status) {
                tally.completions.extend(lasted(&order));
                break status;
            }
            if Instant::now() + pause >= give_up {
                break status;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        *tally.ended.entry(status).or_default() += 1;
    }
}

fn has_ended(status: &str) -> bool {
    ["completed", "failed", "cancelled", "stuck"].contains(&status)
}

/// From creation to the last change, which is the end of an order that has ended.
fn lasted(order: &Value) -> Option<Duration> {
    let at = |name: &str| order[name].as_str().and_then(Timestamp::parse_rfc3339);
    let span = at("updated_at")?.0.checked_sub(at("created_at")?.0)?;
    Some(Duration::from_millis(u64::try_from(span).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> OrdersReport {
        OrdersReport {
            asked: 2,
            accepted: 2,
            ended: BTreeMap::from([("completed".to_owned(), 2)]),
            units_sold: 2,
            units_gone: 2,
            ..OrdersReport::default()
        }
    }

    #[test]
    fn only_what_was_accepted_completed_and_taken_from_stock_passes() {
        assert!(report().passed());
        let ended = |status: &str| BTreeMap::from([("completed".to_owned(), 1), (status.to_owned(), 1)]);
        for bad in [
            OrdersReport { accepted: 1, ..report() },
            OrdersReport { unknown: 1, ..report() },
            OrdersReport { ended: ended("stuck"), ..report() },
            OrdersReport { units_gone: 3, ..report() },
            OrdersReport { units_held: 1, ..report() },
        ] {
            assert!(!bad.passed(), "{bad:?}");
        }
    }

    #[test]
    fn completion_is_from_creation_to_the_last_change() {
        let order = json!({"created_at": "2026-12-01T00:00:00.100Z", "updated_at": "2026-12-01T00:00:01.350Z"});
        assert_eq!(lasted(&order), Some(Duration::from_millis(1_250)));
        assert_eq!(lasted(&json!({})), None);
        assert!(has_ended("stuck") && !has_ended("shipping"));
    }
}
