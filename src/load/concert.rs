//! `bojagi load concert`: a crowd enters the queue of one show; once all are let in, buyers race for its seats and pay by
//! card; then what came of it is judged: no seat two buyers', every seat sold or free, nobody left pending. Dev mode only:
//! it mints a token for each of the crowd.

use crate::load::args::ConcertArgs;
use crate::load::http::{Call, Connection, Target, bearer};
use crate::load::report::{Latencies, LatencyMicros};
use crate::load::usage;
use crate::load::{CALL_DEADLINE, HttpError, LoadError, api};
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

/// Seats of one section.
const SECTION: u64 = 100;
/// Seats that one buyer tries, at most.
const TRIES_MAX: u64 = 20;
/// A call is repeated under its key for this long, then given up as unknown.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// How long the payments may take to settle, and the crowd to be let in.
const SETTLE: Duration = Duration::from_secs(300);

/// What came of a concert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConcertReport {
    pub show: String,
    pub seats: u64,
    pub queue: PhaseReport,
    pub selection: PhaseReport,
    pub payment: PhaseReport,
    /// Buyers who were told that a seat is theirs; seats that two of them were told of.
    pub takers: u64,
    pub doubled: u64,
    /// Reservations by status, in the end.
    pub statuses: BTreeMap<String, u64>,
    /// Seats that are sold, in the end, and that are neither sold nor free.
    pub sold: u64,
    pub held: u64,
    /// From the last payment's reply until none was pending.
    pub settled_after_ms: u64,
}

/// One sort of call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PhaseReport {
    /// Definite answers, by code.
    pub answers: BTreeMap<String, u64>,
    pub unknown: u64,
    pub elapsed_ms: u64,
    pub per_second: u64,
    pub latency_micros: LatencyMicros,
    pub cpu_ms: Option<u64>,
}

impl ConcertReport {
    /// INV-8 as it is seen from outside, and nobody left without an answer.
    #[must_use]
    pub fn passed(&self) -> bool {
        let unknown = self.queue.unknown + self.selection.unknown + self.payment.unknown;
        let confirmed = self.statuses.get("confirmed").copied().unwrap_or(0);
        let all: u64 = self.statuses.values().sum();
        unknown == 0 && self.doubled == 0 && self.held == 0 && confirmed == self.sold && all == confirmed
    }

    pub(crate) fn lines(&self, text: &mut String) {
        let Self { show, seats, takers, doubled, sold, held, .. } = self;
        let _ = writeln!(
            text,
            "show         {show}: {sold} of {seats} seats sold, to {takers}; {doubled} doubled, {held} held"
        );
        for (name, phase) in [("queue", &self.queue), ("selection", &self.selection), ("payment", &self.payment)] {
            let (per_second, latency) = (phase.per_second, phase.latency_micros.line());
            let _ = writeln!(text, "{name:<12} {per_second} answers a second; {latency}; {} unknown", phase.unknown);
            let told: Vec<String> = phase.answers.iter().map(|(code, count)| format!("{count} x {code}")).collect();
            let cpu = phase.cpu_ms.map(|cpu| format!("; {cpu} ms CPU of the named processes")).unwrap_or_default();
            let _ = writeln!(text, "             {}{cpu}", told.join(", "));
        }
        let _ = writeln!(text, "settled      {} ms after the last payment: {:?}", self.settled_after_ms, self.statuses);
    }
}

/// What each buyer knows.
#[derive(Clone)]
struct Buyer {
    authorization: HeaderValue,
    ticket: String,
    /// The seat and the reservation.
    got: Option<(u64, String)>,
}

/// # Errors
/// [`LoadError`]; what was reserved stays reserved.
pub(crate) async fn run(args: ConcertArgs) -> Result<ConcertReport, LoadError> {
    let http = |source: HttpError| LoadError::Http { what: "the base URL", source };
    let targets = args.urls.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>().map_err(http)?;
    let mut api = Connection::to_any(targets.clone(), 0, CALL_DEADLINE);
    let crowd = api::tokens(&targets, args.concurrency, "fan", args.crowd).await?;
    let show = make_show(&args, &mut api).await?;
    let buyers: Vec<Buyer> =
        crowd.into_iter().map(|authorization| Buyer { authorization, ticket: String::new(), got: None }).collect();
    let work = Work { show: show.clone(), seats: args.seats, targets, concurrency: args.concurrency, pids: args.pids };
    let work = Arc::new(work);
    let (mut buyers, queue) = work.all(Phase::Enter, buyers).await?;
    work.await_admission(&mut api, buyers.last()).await?;
    buyers.truncate(usize::try_from(args.buyers).unwrap_or(usize::MAX));
    let (buyers, selection) = work.all(Phase::Select, buyers).await?;
    let mut owners: BTreeMap<u64, u64> = BTreeMap::new();
    buyers.iter().filter_map(|buyer| buyer.got.as_ref()).for_each(|(seat, _)| *owners.entry(*seat).or_default() += 1);
    let takers: Vec<Buyer> = buyers.into_iter().filter(|buyer| buyer.got.is_some()).collect();
    let (takers, payment) = work.all(Phase::Pay, takers).await?;
    let paid = Instant::now();
    let statuses = work.settled(&mut api, &takers).await?;
    Ok(ConcertReport {
        seats: args.seats,
        queue,
        selection,
        payment,
        takers: takers.len() as u64,
        doubled: owners.values().filter(|count| **count > 1).count() as u64,
        statuses,
        settled_after_ms: millis(paid.elapsed()),
        sold: work.count(&mut api, &takers, "sold").await?,
        held: work.count(&mut api, &takers, "temporary_assigned").await?,
        show,
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

async fn make_show(args: &ConcertArgs, api: &mut Connection) -> Result<String, LoadError> {
    const WHAT: &str = "making the show";
    let http = |source: HttpError| LoadError::Http { what: WHAT, source };
    let now = api::clock(api).await?.now();
    let operator = bearer(&api::token(api, "operator", "load").await?).map_err(http)?;
    let rows = (0..args.seats.div_ceil(SECTION)).map(|section| {
        let count = SECTION.min(args.seats - section * SECTION);
        json!({ "section": format!("S{section}"), "count": count, "price": { "value": 50_000, "currency": "KRW" } })
    });
    let body = json!({
        "title": "load", "opens_at": now.to_rfc3339(), "seats": rows.collect::<Vec<_>>(),
        "admission_per_second": 10_000, "active_max": args.crowd,
    });
    let call = Call::json(Method::POST, "/v1/shows", Bytes::from(body.to_string()));
    let call = call.header("idempotency-key", &format!("load-{}", now.0)).map_err(http)?.bearer(&operator);
    let reply = api.call(call).await.map_err(http)?;
    let made: Option<Value> = serde_json::from_slice(&reply.body).ok();
    match made.as_ref().and_then(|made| made["id"].as_str()) {
        Some(id) if reply.status == 201 => Ok(id.to_owned()),
        Some(_) | None => Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Enter,
    Select,
    Pay,
}

struct Work {
    show: String,
    seats: u64,
    targets: Vec<Target>,
    concurrency: u32,
    pids: Vec<u32>,
}

struct Tally {
    answers: BTreeMap<String, u64>,
    unknown: u64,
    latencies: Latencies,
}

impl Work {
    /// One phase for all buyers, over all connections.
    async fn all(self: &Arc<Self>, phase: Phase, buyers: Vec<Buyer>) -> Result<(Vec<Buyer>, PhaseReport), LoadError> {
        let (began, before) = (Instant::now(), usage::of(&self.pids));
        let (next, buyers) = (Arc::new(AtomicU64::new(0)), Arc::new(buyers));
        let mut workers = JoinSet::new();
        for number in 0..self.concurrency as usize {
            let mut connection = Connection::to_any(self.targets.clone(), number, CALL_DEADLINE);
            let (work, next, buyers) = (Arc::clone(self), Arc::clone(&next), Arc::clone(&buyers));
            workers.spawn(async move {
                let mut done = Vec::new();
                let mut tally = Tally { answers: BTreeMap::new(), unknown: 0, latencies: Latencies::new() };
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let buyer = usize::try_from(number).ok().and_then(|place| buyers.get(place));
                    let Some(mut buyer) = buyer.cloned() else { return Ok::<_, LoadError>((done, tally)) };
                    work.one(phase, &mut connection, number, &mut buyer, &mut tally).await?;
                    done.push((number, buyer));
                }
            });
        }
        let (mut all, mut report, mut latencies) = (BTreeMap::new(), PhaseReport::default(), Latencies::new());
        while let Some(done) = workers.join_next().await {
            let (done, tally) = done.map_err(|_| LoadError::Worker)??;
            all.extend(done);
            report.unknown += tally.unknown;
            latencies.add(&tally.latencies);
            for (code, count) in tally.answers {
                *report.answers.entry(code).or_default() += count;
            }
        }
        let after = usage::of(&self.pids);
        report.cpu_ms = after.zip(before).map(|(after, before)| after.cpu_ms.saturating_sub(before.cpu_ms));
        report.elapsed_ms = millis(began.elapsed()).max(1);
        report.per_second = report.answers.values().sum::<u64>().saturating_mul(1_000) / report.elapsed_ms;
        report.latency_micros = latencies.summed_up();
        Ok((all.into_values().collect(), report))
    }

    async fn one(
        &self,
        phase: Phase,
        connection: &mut Connection,
        number: u64,
        buyer: &mut Buyer,
        tally: &mut Tally,
    ) -> Result<(), LoadError> {
        match phase {
            Phase::Enter => {
                let path = format!("/v1/shows/{}/queue", self.show);
                let told = tally.post(connection, (&path, "q"), buyer, json!({})).await?;
                buyer.ticket = told["ticket"].as_str().unwrap_or_default().to_owned();
            }
            Phase::Select => {
                let path = format!("/v1/shows/{}/reservations", self.show);
                for turn in 0..TRIES_MAX {
                    // Two buyers or more begin at each seat; who loses goes on elsewhere.
                    let seat = (number * 7 + turn * 31) % self.seats;
                    let name = format!("S{}-{}", seat / SECTION, seat % SECTION + 1);
                    let body = json!({ "ticket": buyer.ticket, "seats": [name] });
                    let told = tally.post(connection, (&path, &format!("r-{seat}")), buyer, body).await?;
                    if let Some(id) = told["id"].as_str() {
                        buyer.got = Some((seat, id.to_owned()));
                        return Ok(());
                    }
                }
            }
            Phase::Pay => {
                let Some((_, id)) = &buyer.got else { return Ok(()) };
                let path = format!("/v1/reservations/{id}/payment");
                let body = json!({ "payment": { "method": "card", "payment_key": format!("tok_{number}") } });
                tally.post(connection, (&path, "p"), buyer, body).await?;
            }
        }
        Ok(())
    }

    /// Waits until the last of the crowd is let in.
    async fn await_admission(&self, api: &mut Connection, last: Option<&Buyer>) -> Result<(), LoadError> {
        let Some(last) = last else { return Ok(()) };
        let (give_up, path) = (Instant::now() + SETTLE, format!("/v1/shows/{}/queue/{}", self.show, last.ticket));
        while Instant::now() < give_up {
            if read(api, &path, &last.authorization).await?["status"] != "waiting" {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err(LoadError::Usage { what: "the crowd was not let in".to_owned() })
    }

    /// How the reservations stand once none is pending.
    async fn settled(&self, api: &mut Connection, takers: &[Buyer]) -> Result<BTreeMap<String, u64>, LoadError> {
        let give_up = Instant::now() + SETTLE;
        let mut statuses = BTreeMap::new();
        for (taker, (_, id)) in takers.iter().filter_map(|taker| Some((taker, taker.got.as_ref()?))) {
            let path = format!("/v1/reservations/{id}");
            let status = loop {
                let told = read(api, &path, &taker.authorization).await?;
                let status = told["status"].as_str().unwrap_or_default().to_owned();
                if status != "payment_pending" || Instant::now() >= give_up {
                    break status;
                }
                sleep(PAUSE).await;
            };
            *statuses.entry(status).or_default() += 1;
        }
        Ok(statuses)
    }

    async fn count(&self, api: &mut Connection, takers: &[Buyer], status: &str) -> Result<u64, LoadError> {
        let Some(caller) = takers.first() else { return Ok(0) };
        let (mut count, mut cursor) = (0, String::new());
        loop {
            let path = format!("/v1/shows/{}/seats?limit=100&status={status}{cursor}", self.show);
            let page = read(api, &path, &caller.authorization).await?;
            count += page["items"].as_array().map_or(0, |items| items.len() as u64);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(count),
            }
        }
    }
}

async fn read(api: &mut Connection, path: &str, authorization: &HeaderValue) -> Result<Value, LoadError> {
    const WHAT: &str = "reading the concert";
    let reply = api.call(Call::get(path).bearer(authorization)).await;
    let reply = reply.map_err(|source| LoadError::Http { what: WHAT, source })?;
    match serde_json::from_slice(&reply.body) {
        Ok(body) if reply.status == 200 => Ok(body),
        Ok(_) | Err(_) => Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() }),
    }
}

impl Tally {
    /// A definite answer's body; `null` when there was none.
    async fn post(
        &mut self,
        connection: &mut Connection,
        (path, key): (&str, &str),
        buyer: &Buyer,
        body: Value,
    ) -> Result<Value, LoadError> {
        let (started, body) = (Instant::now(), Bytes::from(body.to_string()));
        loop {
            let call = Call::json(Method::POST, path, body.clone()).header("idempotency-key", key);
            let call = call.map_err(|source| LoadError::Http { what: "a call", source })?.bearer(&buyer.authorization);
            let reply = connection.call(call).await.ok().filter(|reply| reply.status < 500 && reply.status != 429);
            let told = reply.and_then(|reply| Some((reply.status, serde_json::from_slice::<Value>(&reply.body).ok()?)));
            if let Some((status, told)) = told {
                self.latencies.record(started.elapsed());
                let code = told["code"].as_str().map_or_else(|| status.to_string(), str::to_owned);
                *self.answers.entry(code).or_default() += 1;
                return Ok(told);
            }
            if started.elapsed() >= PATIENCE {
                self.unknown += 1;
                return Ok(Value::Null);
            }
            sleep(PAUSE).await;
        }
    }
}
