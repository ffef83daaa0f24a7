//! `bojagi load claims`: a crowd claims one coupon campaign, some of it twice, and what came of it is judged: exactly the
//! quantity issued, none twice, everybody told. Dev mode only: it mints a token for each member.

use crate::load::args::ClaimsArgs;
use crate::load::http::{Call, Connection, Reply, bearer};
use crate::load::pace::{self, PATIENCE, PAUSE_MAX, Pace};
use crate::load::report::{Latencies, LatencyMicros};
use crate::load::usage;
use crate::load::{CALL_DEADLINE, HttpError, LoadError, api};
use crate::types::time::Millis;
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long the campaign is open.
const WINDOW: Millis = Millis::from_hours(24);

/// What came of a crowd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimsReport {
    pub campaign: String,
    pub members: u64,
    pub repeats: u64,
    pub quantity: u64,
    /// Members who were given a coupon, and coupons as the campaign counts them.
    pub winners: u64,
    pub issued: u64,
    /// Members who were told of two coupons, coupons that two members were told of.
    pub doubled: u64,
    /// Answers by code: `issued`, `replayed`, or the refusal's.
    pub answers: BTreeMap<String, u64>,
    pub unknown: u64,
    pub retries: u64,
    pub elapsed_ms: u64,
    pub answered_per_second: u64,
    /// From a claim's scheduled instant to its definite answer.
    pub latency_micros: LatencyMicros,
    /// Of those that were given a coupon, and of those refused.
    pub issued_micros: LatencyMicros,
    pub refused_micros: LatencyMicros,
    pub cpu_ms: Option<u64>,
}

impl ClaimsReport {
    /// INV-7 as it is seen from outside, and nobody left without an answer.
    #[must_use]
    pub fn passed(&self) -> bool {
        let wanted = self.quantity.min(self.members);
        let told = ["issued", "replayed", "sold_out", "already_claimed"];
        let strange = self.answers.keys().any(|code| !told.contains(&code.as_str()));
        self.winners == wanted && self.issued == wanted && self.doubled == 0 && self.unknown == 0 && !strange
    }

    pub(crate) fn lines(&self, text: &mut String) {
        let Self { winners, issued, quantity, doubled, unknown, retries, elapsed_ms, .. } = self;
        let _ = writeln!(text, "campaign     {}: {issued} of {quantity} issued, to {winners} members", self.campaign);
        let _ = writeln!(text, "faults       {doubled} doubled, {unknown} unknown ({retries} retries)");
        for (code, count) in &self.answers {
            let _ = writeln!(text, "told         {count} x {code}");
        }
        let _ = writeln!(text, "took         {elapsed_ms} ms, {} answers a second", self.answered_per_second);
        let _ = writeln!(text, "latency      {}", self.latency_micros.line());
        let _ = writeln!(text, "of winners   {}", self.issued_micros.line());
        let _ = writeln!(text, "of refusals  {}", self.refused_micros.line());
        if let Some(cpu) = self.cpu_ms {
            let _ = writeln!(text, "cpu          {cpu} ms of the named processes");
        }
    }
}

struct Plan {
    path: String,
    callers: Vec<HeaderValue>,
    claims: u64,
    pace: Pace,
}

impl Plan {
    /// Who makes the n-th claim, and whether it is a repeat: those are spread evenly over the crowd, and each is of a
    /// member who claimed shortly before.
    fn claim(&self, n: u64) -> (u64, bool) {
        let members = self.callers.len() as u64;
        let repeats = self.claims - members;
        let (before, upto) = (n * repeats / self.claims, (n + 1) * repeats / self.claims);
        match (before < upto, n - before) {
            (true, first) => (first.saturating_sub(1 + n % 100), true),
            (false, first) => (first.min(members - 1), false),
        }
    }
}

#[derive(Default)]
struct Tally {
    answers: BTreeMap<String, u64>,
    coupons: Vec<(u64, String)>,
    unknown: u64,
    retries: u64,
    issued: Vec<Duration>,
    refused: Vec<Duration>,
}

/// # Errors
/// [`LoadError`]; claims that were made stay made.
pub(crate) async fn run(args: ClaimsArgs) -> Result<ClaimsReport, LoadError> {
    let targets = pace::targets(&args.urls)?;
    let mut api = Connection::to_any(targets.clone(), 0, CALL_DEADLINE);
    let callers = api::tokens(&targets, args.concurrency, "member", args.members).await?;
    let campaign = create(&args, &mut api).await?;
    let before = usage::of(&args.pids);
    let plan = Arc::new(Plan {
        path: format!("/v1/coupon-campaigns/{campaign}/claims"),
        callers,
        claims: args.members + args.repeats,
        pace: Pace::begin(args.members + args.repeats, args.rate),
    });
    let mut workers = JoinSet::new();
    for number in 0..args.concurrency as usize {
        let connection = Connection::to_any(targets.clone(), number, CALL_DEADLINE);
        workers.spawn(work(Arc::clone(&plan), connection));
    }
    let mut tally = Tally::default();
    while let Some(done) = workers.join_next().await {
        tally.add(done.map_err(|_| LoadError::Worker)??);
    }
    let elapsed = plan.pace.elapsed();
    let cpu_ms = pace::cpu_ms_since(&args.pids, before);
    let issued = issued(&mut api, &campaign, &plan.callers[0]).await?;
    Ok(ClaimsReport { campaign, issued, cpu_ms, ..summed_up(&args, tally, elapsed) })
}

fn summed_up(args: &ClaimsArgs, tally: Tally, elapsed: Duration) -> ClaimsReport {
    let mut by_member: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    let mut by_coupon: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (member, coupon) in &tally.coupons {
        by_member.entry(*member).or_default().insert(coupon);
        by_coupon.entry(coupon).or_default().insert(*member);
    }
    let twice = by_member.values().filter(|coupons| coupons.len() > 1).count();
    let shared = by_coupon.values().filter(|members| members.len() > 1).count();
    let (mut all, mut issued, mut refused) = (Latencies::new(), Latencies::new(), Latencies::new());
    tally.issued.iter().for_each(|spent| issued.record(*spent));
    tally.refused.iter().for_each(|spent| refused.record(*spent));
    all.add(&issued);
    all.add(&refused);
    let answered = (tally.issued.len() + tally.refused.len()) as u64;
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    ClaimsReport {
        members: args.members,
        repeats: args.repeats,
        quantity: u64::from(args.quantity),
        winners: by_member.len() as u64,
        doubled: (twice + shared) as u64,
        answers: tally.answers,
        unknown: tally.unknown,
        retries: tally.retries,
        elapsed_ms,
        answered_per_second: answered.saturating_mul(1_000) / elapsed_ms,
        latency_micros: all.summed_up(),
        issued_micros: issued.summed_up(),
        refused_micros: refused.summed_up(),
        ..ClaimsReport::default()
    }
}

/// A campaign that is open now, named after the instant.
async fn create(args: &ClaimsArgs, api: &mut Connection) -> Result<String, LoadError> {
    const WHAT: &str = "making the campaign";
    let http = |source: HttpError| LoadError::Http { what: WHAT, source };
    let now = api::clock(api).await?.now();
    let operator = bearer(&api::token(api, "operator", "load").await?).map_err(http)?;
    let body = json!({
        "name": "load", "quantity": args.quantity, "parts": args.parts, "starts_at": now.to_rfc3339(),
        "ends_at": (now + WINDOW).to_rfc3339(), "valid_days": 30,
        "discount": { "percent": 10, "cap": { "value": 3_000, "currency": "KRW" } },
    });
    let call = Call::json(Method::POST, "/v1/coupon-campaigns", Bytes::from(body.to_string()));
    let call = call.header("idempotency-key", &format!("load-{}", now.0)).map_err(http)?.bearer(&operator);
    let reply = api.call(call).await.map_err(http)?;
    match serde_json::from_slice::<Made>(&reply.body) {
        Ok(made) if reply.status == 201 => Ok(made.id),
        Ok(_) | Err(_) => Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() }),
    }
}

async fn issued(api: &mut Connection, campaign: &str, caller: &HeaderValue) -> Result<u64, LoadError> {
    const WHAT: &str = "the campaign's count";
    let path = format!("/v1/coupon-campaigns/{campaign}");
    let give_up = Instant::now() + PATIENCE;
    // Nodes may be down meanwhile, and the campaign's shard without a leader.
    let reply = loop {
        match api.call(Call::get(&path).bearer(caller)).await {
            Ok(reply) if reply.status < 500 || Instant::now() >= give_up => break reply,
            Err(source) if Instant::now() >= give_up => return Err(LoadError::Http { what: WHAT, source }),
            Ok(_) | Err(_) => sleep(PAUSE_MAX).await,
        }
    };
    match serde_json::from_slice::<Standing>(&reply.body) {
        Ok(standing) => Ok(standing.issued),
        Err(_) => Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() }),
    }
}

#[derive(Deserialize)]
struct Made {
    id: String,
}

#[derive(Deserialize)]
struct Standing {
    issued: u64,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
}

async fn work(plan: Arc<Plan>, mut connection: Connection) -> Result<Tally, LoadError> {
    let mut tally = Tally::default();
    while let Some(turn) = plan.pace.turn().await {
        claim(&plan, &mut connection, turn, &mut tally).await?;
    }
    Ok(tally)
}

async fn claim(
    plan: &Plan,
    connection: &mut Connection,
    (n, started): (u64, Instant),
    tally: &mut Tally,
) -> Result<(), LoadError> {
    let (member, repeat) = plan.claim(n);
    // Half of the repeats are a client that lost the reply, half a member who tries again.
    let key = if repeat && n.is_multiple_of(2) { "again" } else { "first" };
    let caller = &plan.callers[usize::try_from(member).expect("below the number of callers")];
    let call = || {
        let call = Call { method: Method::POST, path: &plan.path, headers: Vec::new(), body: Bytes::new() };
        let call = call.header("idempotency-key", key);
        Ok(call.map_err(|source| LoadError::Http { what: "a claim", source })?.bearer(caller))
    };
    let (reply, retries) = pace::insist(connection, call).await?;
    tally.retries += retries;
    match reply.and_then(|reply| tally.take(member, &reply)) {
        Some(true) => tally.issued.push(started.elapsed()),
        Some(false) => tally.refused.push(started.elapsed()),
        None => tally.unknown += 1,
    }
    Ok(())
}

impl Tally {
    /// Whether the member has a coupon; `None`: it is not to be known.
    fn take(&mut self, member: u64, reply: &Reply) -> Option<bool> {
        if reply.status != 201 {
            let problem: Problem = serde_json::from_slice(&reply.body).unwrap_or_default();
            *self.answers.entry(problem.code).or_default() += 1;
            return Some(false);
        }
        let made: Made = serde_json::from_slice(&reply.body).ok()?;
        let code = if reply.headers.contains_key("idempotent-replayed") { "replayed" } else { "issued" };
        *self.answers.entry(code.to_owned()).or_default() += 1;
        self.coupons.push((member, made.id));
        Some(true)
    }

    fn add(&mut self, other: Self) {
        self.coupons.extend(other.coupons);
        self.issued.extend(other.issued);
        self.refused.extend(other.refused);
        self.unknown += other.unknown;
        self.retries += other.retries;
        for (code, count) in other.answers {
            *self.answers.entry(code).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(members: usize, claims: u64) -> Plan {
        Plan {
            path: String::new(),
            callers: vec![HeaderValue::from_static("x"); members],
            claims,
            pace: Pace::begin(claims, None),
        }
    }

    #[tokio::test]
    async fn every_member_claims_once_and_repeats_are_spread_over_the_crowd() {
        for (members, repeats) in [(100, 20), (10, 0), (7, 30), (1, 1)] {
            let plan = plan(members, members as u64 + repeats);
            let claims: Vec<_> = (0..plan.claims).map(|n| plan.claim(n)).collect();
            let first: Vec<u64> = claims.iter().filter(|(_, repeat)| !repeat).map(|(member, _)| *member).collect();
            assert_eq!(first, (0..members as u64).collect::<Vec<_>>());
            assert_eq!(claims.iter().filter(|(_, repeat)| *repeat).count() as u64, repeats);
            assert!(claims.iter().all(|(member, _)| *member < members as u64));
        }
    }

    #[test]
    fn two_coupons_of_a_member_and_one_of_two_are_faults() {
        let args = ClaimsArgs { members: 3, quantity: 2, ..ClaimsArgs::default() };
        let report = |coupons: &[(u64, &str)]| {
            let coupons: Vec<(u64, String)> = coupons.iter().map(|(member, id)| (*member, (*id).to_owned())).collect();
            let report = summed_up(&args, Tally { coupons, ..Tally::default() }, Duration::from_secs(1));
            ClaimsReport { issued: 2, ..report }
        };
        assert!(report(&[(0, "a"), (1, "b"), (0, "a")]).passed());
        assert!(!report(&[(0, "a"), (1, "b"), (1, "c")]).passed());
        assert!(!report(&[(0, "a"), (1, "a")]).passed());
        assert!(!report(&[(0, "a")]).passed());
        assert!(!ClaimsReport { unknown: 1, ..report(&[(0, "a"), (1, "b")]) }.passed());
    }
}
