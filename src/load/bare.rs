//! `bojagi load bare`: keep-alive connections that do nothing but POST, as the measure of what this machine can do.

use crate::load::args::BareArgs;
use crate::load::http::{Call, Connection, Target, header_value};
use crate::load::report::{BareReport, Latencies};
use crate::load::{CALL_DEADLINE, HttpError, LoadError};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

struct Plan {
    target: Target,
    body: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    requests: u64,
    next: AtomicU64,
}

struct Tally {
    statuses: BTreeMap<u16, u64>,
    broken: u64,
    latencies: Latencies,
}

/// # Errors
/// [`LoadError`] for a command line that no request can be made of.
pub(crate) async fn run(args: BareArgs) -> Result<BareReport, LoadError> {
    let http = |source: HttpError| LoadError::Http { what: "the request", source };
    let target = Target::parse(&args.url).map_err(http)?;
    let headers = args.headers.iter().map(|line| header(line)).collect::<Result<Vec<_>, _>>().map_err(http)?;
    let plan = Arc::new(Plan { target, body: args.body, headers, requests: args.requests, next: AtomicU64::new(0) });
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..args.concurrency {
        let connection = Connection::new(plan.target.clone(), CALL_DEADLINE);
        workers.spawn(work(Arc::clone(&plan), connection));
    }
    let mut report = BareReport { requests: plan.requests, ..BareReport::default() };
    let mut latencies = Latencies::new();
    while let Some(done) = workers.join_next().await {
        let tally = done.map_err(|_| LoadError::Worker)?;
        report.broken += tally.broken;
        latencies.add(&tally.latencies);
        for (status, count) in tally.statuses {
            *report.statuses.entry(status).or_default() += count;
        }
    }
    report.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    report.per_second = (plan.requests - report.broken).saturating_mul(1_000) / report.elapsed_ms;
    report.latency_micros = latencies.summed_up();
    Ok(report)
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), HttpError> {
    let bad = || HttpError::BadHeader { name: line.to_owned() };
    let (name, value) = line.split_once(':').ok_or_else(bad)?;
    Ok((name.trim().parse().map_err(|_| bad())?, header_value(name, value.trim())?))
}

async fn work(plan: Arc<Plan>, mut connection: Connection) -> Tally {
    let mut tally = Tally { statuses: BTreeMap::new(), broken: 0, latencies: Latencies::new() };
    loop {
        let n = plan.next.fetch_add(1, Ordering::Relaxed);
        if n >= plan.requests {
            return tally;
        }
        let body = Bytes::from(plan.body.replace("{n}", &n.to_string()));
        // The target's prefix is the whole path.
        let call = Call { method: Method::POST, path: "", headers: plan.headers.clone(), body };
        let sent = Instant::now();
        match connection.call(call).await {
            Ok(reply) => {
                *tally.statuses.entry(reply.status).or_default() += 1;
                tally.latencies.record(sent.elapsed());
            }
            Err(_) => tally.broken += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_name_and_value() {
        let (name, value) = header("X-Secret-Key: a:b").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-secret-key", "a:b"));
        assert!(header("no colon").is_err());
    }
}
