//! One connection's share of the reservations, and what to do after each answer.

use crate::load::http::{Call, Connection, Reply};
use crate::load::ledger::{Promise, gift_id};
use crate::load::report::Latencies;
use crate::load::{HttpError, LoadError};
use crate::types::time::{Millis, Timestamp};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Pause before a repeat when the server names none: doubled from the first to the last.
const RETRY_DELAY_MS_FIRST: u64 = 20;
const RETRY_DELAY_MS_MAX: u64 = 2_000;

/// What all workers share.
pub(crate) struct Plan {
    pub(crate) run: String,
    pub(crate) count: u64,
    pub(crate) rate: Option<f64>,
    pub(crate) patience: Duration,
    pub(crate) product: String,
    pub(crate) channels: Vec<String>,
    /// The instant of the gifts.
    pub(crate) due: Timestamp,
    /// Milliseconds from it, for each gift in turn; empty: all leave at it.
    pub(crate) spread_ms: Vec<i64>,
    pub(crate) keep_ids: bool,
    /// `Authorization` of the callers, used in turn.
    pub(crate) callers: Vec<HeaderValue>,
    pub(crate) began: Instant,
    pub(crate) next: AtomicU64,
    /// Settled reservations, for the progress display.
    pub(crate) settled: AtomicU64,
}

impl Plan {
    /// When reservation `n` is to start.
    fn start_of(&self, n: u64) -> Option<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        self.rate.map(|rate| self.began + Duration::from_secs_f64(n as f64 / rate))
    }

    fn caller_of(&self, n: u64) -> &HeaderValue {
        let callers = self.callers.len() as u64;
        &self.callers[usize::try_from(n % callers).expect("below the number of callers")]
    }

    fn due_of(&self, n: u64) -> Timestamp {
        let place = usize::try_from(n).unwrap_or(usize::MAX);
        self.due + Millis(self.spread_ms.get(place).copied().unwrap_or(0))
    }

    fn body(&self, n: u64) -> Bytes {
        let body = serde_json::json!({
            "product_id": self.product,
            "recipient": { "name": "지민", "phone": phone(n) },
            "message": "생일 축하해!",
            "send_at": { "instant": self.due_of(n).to_rfc3339() },
            "channels": self.channels,
            "payment": { "method": "card", "payment_key": format!("tok_load_{}_{n}", self.run) },
        });
        Bytes::from(body.to_string())
    }
}

/// Korean mobile numbers that differ for 72 million gifts. The sandbox lets numbers that end in 0000, or lie in
/// 9999-000x, misbehave; none of these do.
fn phone(n: u64) -> String {
    format!("010-{:04}-{:04}", 2_000 + n / 9_000 % 7_999, 1_000 + n % 9_000)
}

/// How exchanges ended, by tenths of a second since the begin of the load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(pub(crate) BTreeMap<u64, Answered>);

/// Exchanges that ended within one tenth of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// 2xx.
    pub(crate) accepted: u32,
    /// With another status, those that ask for a repeat among them.
    pub(crate) refused: u32,
    /// Without a whole reply.
    pub(crate) silent: u32,
}

impl Answers {
    fn note(&mut self, since_begin: Duration, answer: &Result<Reply, HttpError>) {
        let tenth = u64::try_from(since_begin.as_millis() / 100).unwrap_or(u64::MAX);
        let here = self.0.entry(tenth).or_default();
        let count = match answer {
            Ok(reply) if reply.status < 300 => &mut here.accepted,
            Ok(_) => &mut here.refused,
            Err(_) => &mut here.silent,
        };
        *count += 1;
    }
    fn add(&mut self, other: Self) {
        for (tenth, more) in other.0 {
            let here = self.0.entry(tenth).or_default();
            here.accepted += more.accepted;
            here.refused += more.refused;
            here.silent += more.silent;
        }
    }
}

/// What one worker, or all of them, found.
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) replayed: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) unknown: u64,
    pub(crate) retries: u64,
    pub(crate) gifts: Vec<Promise>,
    pub(crate) answers: Answers,
    pub(crate) whole: Latencies,
    pub(crate) exchange: Latencies,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            acknowledged: 0,
            replayed: 0,
            refused: BTreeMap::new(),
            unknown: 0,
            retries: 0,
            gifts: Vec::new(),
            answers: Answers::default(),
            whole: Latencies::new(),
            exchange: Latencies::new(),
        }
    }
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.replayed += other.replayed;
        self.unknown += other.unknown;
        self.retries += other.retries;
        self.gifts.extend(other.gifts);
        self.answers.add(other.answers);
        self.whole.add(&other.whole);
        self.exchange.add(&other.exchange);
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
    }
}

/// What an answer means for the reservation.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Acknowledged {
        replayed: bool,
    },
    Refused {
        code: String,
    },
    /// Nothing is known, or nothing happened: repeat under the same key, not before the pause that the server names.
    Again {
        pause: Option<Duration>,
    },
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
}

fn next_step(answer: &Result<Reply, HttpError>) -> Next {
    let Ok(reply) = answer else { return Next::Again { pause: None } };
    let code = || serde_json::from_slice::<Problem>(&reply.body).unwrap_or_default().code;
    match reply.status {
        200..=299 => Next::Acknowledged { replayed: reply.headers.contains_key("idempotent-replayed") },
        429 | 500..=599 => Next::Again { pause: reply.retry_after() },
        // On a creating POST a 409 is the first call still running, or a key whose life is over.
        409 if code() != "key_expired" => Next::Again { pause: reply.retry_after() },
        status => Next::Refused { code: format!("{status} {}", code()) },
    }
}

fn pause_before(repeat: u32, named: Option<Duration>) -> Duration {
    let doubled = RETRY_DELAY_MS_FIRST.saturating_mul(1 << repeat.min(16));
    named.unwrap_or_default().max(Duration::from_millis(doubled.min(RETRY_DELAY_MS_MAX)))
}

/// Takes reservations off the plan until none is left.
///
/// # Errors
/// [`LoadError::Http`] for a request that cannot be built.
pub(crate) async fn work(plan: Arc<Plan>, mut connection: Connection) -> Result<Tally, LoadError> {
    let mut tally = Tally::new();
    loop {
        let n = plan.next.fetch_add(1, Ordering::Relaxed);
        if n >= plan.count {
            return Ok(tally);
        }
        if let Some(start) = plan.start_of(n) {
            sleep_until(start).await;
        }
        reserve(&plan, &mut connection, n, &mut tally).await?;
        plan.settled.fetch_add(1, Ordering::Relaxed);
    }
}

async fn reserve(plan: &Plan, connection: &mut Connection, n: u64, tally: &mut Tally) -> Result<(), LoadError> {
    let (key, body) = (format!("{}-{n}", plan.run), plan.body(n));
    let started = plan.start_of(n).unwrap_or_else(Instant::now);
    let give_up = Instant::now() + plan.patience;
    for repeat in 0u32.. {
        let call = Call::json(Method::POST, "/v1/gifts", body.clone()).header("idempotency-key", &key);
        let call = call.map_err(|source| LoadError::Http { what: "a reservation", source })?.bearer(plan.caller_of(n));
        let sent = Instant::now();
        let answer = connection.call(call).await;
        tally.exchange.record(sent.elapsed());
        tally.answers.note(plan.began.elapsed(), &answer);
        match next_step(&answer) {
            Next::Acknowledged { replayed } => {
                tally.acknowledged += 1;
                tally.replayed += u64::from(replayed);
                tally.whole.record(started.elapsed());
                return keep(plan, n, &answer, tally);
            }
            Next::Refused { code } => {
                *tally.refused.entry(code).or_default() += 1;
                return Ok(());
            }
            Next::Again { pause } => {
                let pause = pause_before(repeat, pause);
                if Instant::now() + pause >= give_up {
                    tally.unknown += 1;
                    return Ok(());
                }
                tally.retries += 1;
                sleep(pause).await;
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

fn keep(plan: &Plan, n: u64, answer: &Result<Reply, HttpError>, tally: &mut Tally) -> Result<(), LoadError> {
    let (true, Ok(reply)) = (plan.keep_ids, answer) else { return Ok(()) };
    let created: Option<Created> = serde_json::from_slice(&reply.body).ok();
    match created.and_then(|created| gift_id(&created.id)) {
        Some(id) => {
            tally.gifts.push(Promise { id, due: plan.due_of(n), number: n });
            Ok(())
        }
        None => Err(LoadError::Reply { what: "a reservation", status: reply.status, body: reply.text() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;
    use hyper::header::RETRY_AFTER;

    fn answer(status: u16, body: &'static str) -> Result<Reply, HttpError> {
        Ok(Reply { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) })
    }

    #[test]
    fn only_a_definite_answer_ends_a_reservation() {
        let again = Next::Again { pause: None };
        assert_eq!(next_step(&answer(201, "{}")), Next::Acknowledged { replayed: false });
        assert_eq!(next_step(&answer(503, r#"{"code":"outcome_unknown"}"#)), again);
        assert_eq!(next_step(&answer(500, "")), again);
        assert_eq!(next_step(&answer(409, r#"{"code":"in_flight"}"#)), again);
        assert_eq!(next_step(&Err(HttpError::Deadline)), again);
        let refused = |code: &str| Next::Refused { code: code.to_owned() };
        assert_eq!(next_step(&answer(409, r#"{"code":"key_expired"}"#)), refused("409 key_expired"));
        assert_eq!(next_step(&answer(422, r#"{"code":"key_reused"}"#)), refused("422 key_reused"));
    }

    #[test]
    fn the_servers_pause_is_kept_and_ours_grows_to_a_bound() {
        let mut reply = answer(429, "").unwrap();
        reply.headers.insert(RETRY_AFTER, HeaderValue::from_static("3"));
        assert_eq!(next_step(&Ok(reply)), Next::Again { pause: Some(Duration::from_secs(3)) });
        assert_eq!(pause_before(0, Some(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(pause_before(0, None), Duration::from_millis(20));
        assert_eq!(pause_before(3, None), Duration::from_millis(160));
        assert_eq!(pause_before(u32::MAX, None), Duration::from_secs(2));
    }

    #[test]
    fn exchanges_are_counted_by_the_moment_and_the_way_they_ended() {
        let (mut one, mut other) = (Answers::default(), Answers::default());
        one.note(Duration::from_millis(99), &answer(201, ""));
        one.note(Duration::from_millis(100), &answer(503, ""));
        other.note(Duration::from_millis(140), &Err(HttpError::Deadline));
        one.add(other);
        let found: Vec<_> = one.0.into_iter().map(|(tenth, at)| (tenth, at.accepted, at.refused, at.silent)).collect();
        assert_eq!(found, [(0, 1, 0, 0), (1, 0, 1, 1)]);
    }

    #[test]
    fn gifts_leave_at_the_instant_or_as_far_from_it_as_asked() {
        let plan = |spread_ms| Plan {
            run: String::new(),
            count: 3,
            rate: None,
            patience: Duration::ZERO,
            product: String::new(),
            channels: Vec::new(),
            due: Timestamp(60_000),
            spread_ms,
            keep_ids: true,
            callers: Vec::new(),
            began: Instant::now(),
            next: AtomicU64::new(0),
            settled: AtomicU64::new(0),
        };
        let due = |spread_ms: Vec<i64>, n| plan(spread_ms).due_of(n).0;
        assert_eq!([due(vec![], 0), due(vec![], 2)], [60_000, 60_000]);
        assert_eq!([0, 1, 2].map(|n| due(vec![-20_000, 0, 40_500], n)), [40_000, 60_000, 100_500]);
        assert!(String::from_utf8_lossy(&plan(vec![-20_000]).body(0)).contains("1970-01-01T00:00:40.000Z"));
    }

    #[test]
    fn phones_are_korean_mobile_numbers() {
        assert_eq!(phone(0), "010-2000-1000");
        assert_eq!(phone(9_000), "010-2001-1000");
        assert_eq!(phone(71_990_999), "010-9998-9999");
    }
}
