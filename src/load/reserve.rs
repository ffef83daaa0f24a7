//! `bojagi load --reserve`: N reservations over a pool of connections, then, with `--measure`, the burst.

use crate::load::args::ReserveArgs;
use crate::load::http::{Connection, Target, bearer};
use crate::load::ledger::Promise;
use crate::load::report::{MeasureReport, ReserveReport, UsageReport};
use crate::load::usage::{self, Usage};
use crate::load::worker::{Answers, Plan, Tally, work};
use crate::load::{CALL_DEADLINE, HttpError, LoadError, api, ledger};
use crate::types::time::{Millis, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Send instant when none is given: the earliest that the front door takes, and some.
const SEND_IN_DEFAULT: Millis = Millis::from_mins(15);
/// Between two looks at the sandbox's summary.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between two readings of the ledger that still missed arrivals.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// Moving the dev clock waits until everything due is settled.
const ADVANCE_DEADLINE: Millis = Millis::from_mins(10);

/// # Errors
/// [`LoadError`]; reservations that were acknowledged stay.
pub(crate) async fn run(args: ReserveArgs) -> Result<ReserveReport, LoadError> {
    let mut sandbox = Connection::new(parsed(&args.sandbox)?, CALL_DEADLINE);
    let delivered_before = match args.measure {
        true => ledger::summary(&mut sandbox).await?.gifts_delivered,
        false => 0,
    };
    let Reserved { mut report, due, gifts, .. } = reserve(&args).await?;
    if args.measure {
        let mut api = Connection::new(targets(&args)?[0].clone(), ADVANCE_DEADLINE);
        let burst = Burst { due, gifts, delivered_before, before: usage::of(&args.pids) };
        (report.measure, report.burst_usage) = burst.watch(&args, &mut api, &mut sandbox).await?;
    }
    Ok(report)
}

/// What was reserved around one instant.
pub(crate) struct Reserved {
    pub(crate) report: ReserveReport,
    pub(crate) due: Timestamp,
    /// Kept only for gifts that are to be measured.
    pub(crate) gifts: Vec<Promise>,
    /// When the first reservation began.
    pub(crate) began: Instant,
    pub(crate) answers: Answers,
}

/// Reserves, and no more.
///
/// # Errors
/// As [`run`].
pub(crate) async fn reserve(args: &ReserveArgs) -> Result<Reserved, LoadError> {
    let targets = targets(args)?;
    let mut api = Connection::to_any(targets.clone(), 0, CALL_DEADLINE);
    let tokens = tokens(args, &mut api).await?;
    let due = send_instant(args, api::clock(&mut api).await?.now())?;
    let before = usage::of(&args.pids);
    let plan = Arc::new(plan(args, due, &tokens)?);
    let tally = reserve_all(&plan, args, &targets).await?;
    let elapsed = plan.began.elapsed();
    let after = usage::of(&args.pids);
    let mut report = summed_up(&plan, &tally, elapsed);
    report.usage = UsageReport::between(before, after, tally.acknowledged);
    Ok(Reserved { report, due, gifts: tally.gifts, began: plan.began, answers: tally.answers })
}

fn parsed(url: &str) -> Result<Target, LoadError> {
    Target::parse(url).map_err(|source| LoadError::Http { what: "the base URL", source })
}

fn targets(args: &ReserveArgs) -> Result<Vec<Target>, LoadError> {
    args.urls.iter().map(|url| parsed(url)).collect()
}

async fn tokens(args: &ReserveArgs, api: &mut Connection) -> Result<Vec<String>, LoadError> {
    let mut tokens = args.tokens.clone();
    for user in 0..args.users.unwrap_or(0) {
        tokens.push(api::token(api, "user", &format!("load-{user}")).await?);
    }
    if tokens.is_empty() {
        return Err(LoadError::Usage { what: "give --token, BOJAGI_TOKEN, or --users in dev mode".to_owned() });
    }
    Ok(tokens)
}

/// The instant that was asked for, on a whole second.
fn send_instant(args: &ReserveArgs, now: Timestamp) -> Result<Timestamp, LoadError> {
    let asked = match (&args.at, args.within) {
        (Some(text), _) => Timestamp::parse_rfc3339(text)
            .ok_or_else(|| LoadError::Usage { what: format!("--at {text} is not an RFC 3339 instant") })?,
        (None, Some(seconds)) => now + Millis::from_secs(seconds),
        (None, None) => now + SEND_IN_DEFAULT,
    };
    Ok(Timestamp(asked.0.div_euclid(1_000) * 1_000))
}

fn plan(args: &ReserveArgs, due: Timestamp, tokens: &[String]) -> Result<Plan, LoadError> {
    let http = |source: HttpError| LoadError::Http { what: "a token", source };
    let callers = tokens.iter().map(|token| bearer(token)).collect::<Result<Vec<_>, _>>().map_err(http)?;
    let run = match &args.run {
        Some(run) => run.clone(),
        None => {
            let mut bytes = [0u8; 6];
            getrandom::fill(&mut bytes).map_err(|_| LoadError::Random)?;
            hex::encode(bytes)
        }
    };
    Ok(Plan {
        run,
        count: args.count.unwrap_or(0),
        rate: args.rate,
        patience: Duration::from_secs(args.patience),
        product: args.product.clone(),
        channels: args.channels.clone(),
        due,
        spread_ms: args.spread_ms.clone(),
        keep_ids: args.measure,
        callers,
        began: Instant::now(),
        next: AtomicU64::new(0),
        settled: AtomicU64::new(0),
    })
}

async fn reserve_all(plan: &Arc<Plan>, args: &ReserveArgs, targets: &[Target]) -> Result<Tally, LoadError> {
    let attempt = Millis(i64::try_from(args.attempt_ms).unwrap_or(i64::MAX));
    let mut workers = tokio::task::JoinSet::new();
    for index in 0..args.concurrency as usize {
        let connection = Connection::to_any(targets.to_vec(), index, attempt);
        workers.spawn(work(Arc::clone(plan), connection));
    }
    let bar = progress(plan.count, args.json);
    let mut all = Tally::new();
    while !workers.is_empty() {
        tokio::select! {
            Some(done) = workers.join_next() => all.add(done.map_err(|_| LoadError::Worker)??),
            () = sleep(LOOK_INTERVAL) => bar.set_position(plan.settled.load(Ordering::Relaxed)),
        }
    }
    bar.finish_and_clear();
    Ok(all)
}

/// Hidden by itself when standard error is no terminal.
fn progress(count: u64, as_json: bool) -> ProgressBar {
    let bar = if as_json { ProgressBar::hidden() } else { ProgressBar::new(count) };
    let template = "{bar:30} {pos}/{len} reserved, {per_sec}, {eta} left";
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}

fn summed_up(plan: &Plan, tally: &Tally, elapsed: Duration) -> ReserveReport {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    ReserveReport {
        run: plan.run.clone(),
        asked: plan.count,
        acknowledged: tally.acknowledged,
        replayed: tally.replayed,
        refused: tally.refused.clone(),
        unknown: tally.unknown,
        retries: tally.retries,
        elapsed_ms,
        acknowledged_per_second: tally.acknowledged.saturating_mul(1_000) / elapsed_ms,
        acknowledged_within_3_s: tally.whole.at_most(Duration::from_secs(3)),
        latency_micros: tally.whole.summed_up(),
        exchange_micros: tally.exchange.summed_up(),
        send_at: plan.due.to_rfc3339(),
        ..ReserveReport::default()
    }
}

/// The gifts of a run on their way to one instant.
struct Burst {
    due: Timestamp,
    gifts: Vec<Promise>,
    delivered_before: u64,
    before: Option<Usage>,
}

impl Burst {
    async fn watch(
        mut self,
        args: &ReserveArgs,
        api: &mut Connection,
        sandbox: &mut Connection,
    ) -> Result<(Option<MeasureReport>, Option<UsageReport>), LoadError> {
        if let Some(lead) = args.advance {
            let now = api::clock(api).await?.now();
            let by = Millis((self.due - now).0 - lead * 1_000);
            if by.0 >= 1_000 {
                api::advance(api, by).await?;
            }
            self.before = usage::of(&args.pids);
        }
        self.wait_for_the_instant(api).await?;
        let give_up = Instant::now() + Duration::from_secs(args.wait);
        self.wait_for_arrivals(sandbox, give_up).await?;
        let after = usage::of(&args.pids);
        let used = UsageReport::between(self.before, after, self.gifts.len() as u64);
        let measured = self.read_until_whole(sandbox, give_up).await?;
        Ok((Some(measured), used))
    }

    /// The clock is read again each second: in dev mode someone may move it.
    async fn wait_for_the_instant(&self, api: &mut Connection) -> Result<(), LoadError> {
        loop {
            let left = self.due - api::clock(api).await?.now();
            if left.0 <= 0 {
                return Ok(());
            }
            sleep(left.to_std().min(Duration::from_secs(1))).await;
        }
    }

    async fn wait_for_arrivals(&self, sandbox: &mut Connection, give_up: Instant) -> Result<(), LoadError> {
        let wanted = self.delivered_before + self.gifts.len() as u64;
        while ledger::summary(sandbox).await?.gifts_delivered < wanted && Instant::now() < give_up {
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn read_until_whole(&self, sandbox: &mut Connection, give_up: Instant) -> Result<MeasureReport, LoadError> {
        loop {
            let rows = ledger::rows(sandbox, "message", "g_").await?;
            let report = ledger::judge(&ledger::arrivals(&self.gifts, &rows));
            if report.lost == 0 || Instant::now() >= give_up {
                return Ok(report);
            }
            sleep(READ_INTERVAL).await;
        }
    }
}
