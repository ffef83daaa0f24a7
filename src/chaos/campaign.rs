//! All rounds of a run, each recorded as it ends, so that a run that is broken off can be gone on with.

use crate::chaos::audited::audit;
use crate::chaos::build::Build;
use crate::chaos::merge::resume;
use crate::chaos::progress::Display;
use crate::chaos::report::{Books, BrokenOff, ChaosReport, Round, Run, write};
use crate::chaos::stand::{Stand, connection};
use crate::chaos::{ChaosError, RunArgs, round};
use crate::load::{CALL_DEADLINE, LoadError, api, ledger};
use crate::types::time::Millis;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The books are looked at after so many rounds, or gifts, and after the last: a look reads every gift of the run, and a run
/// that is broken off goes on after it.
const BOOKS_EVERY: u64 = 5;
const BOOKS_EVERY_GIFTS: u64 = 50_000;
/// How long they may take to agree: payments may be under way, and shards may move.
const BOOKS_WITHIN: Duration = Duration::from_secs(120);
const BOOKS_DEADLINE: Millis = Millis::from_mins(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs all rounds and records them; the report, and where its page is. The caller ends with a failure unless
/// [`ChaosReport::passed`].
///
/// # Errors
/// [`ChaosError`]; a round that went wrong for the product is no error but a part of the report. What was recorded before
/// stays.
pub async fn run(mut args: RunArgs) -> Result<(ChaosReport, PathBuf), ChaosError> {
    let program = std::env::current_exe().map_err(|cause| ChaosError::Io { what: "own program".to_owned(), cause })?;
    let build = Build::of(&program)?;
    let words = repeatable(std::env::args().skip(1));
    let new = Run::new(&args, run_id()?, String::new(), words);
    let (mut report, first) = match &args.resume {
        Some(recorded) => resume(recorded, &build, new)?,
        None => (ChaosReport::new(build, vec![new]), args.only_round.unwrap_or(1)),
    };
    let last = args.only_round.unwrap_or(args.rounds);
    if first > last {
        let recorded = format!("{} rounds are recorded already: ask for more with --rounds", first - 1);
        return Err(ChaosError::Recorded(recorded));
    }
    let out = folder(&mut args, first);
    let stand = Stand::start(&args).await?;
    let place = report.runs.len() - 1;
    let mut front = connection(&args, 1, CALL_DEADLINE)?;
    report.runs[place].began_at = api::clock(&mut front).await?.now().to_rfc3339();
    let display = Arc::new(Display::new());
    for number in first..=last {
        match round::run(&args, &stand, number, &display).await {
            Ok(round) => {
                display.say(&round.line());
                report.rounds.push(Round { run: place, ..round });
            }
            Err(error) => {
                // It may be the cluster's doing, and counts against it; what the rounds before showed is not lost with it.
                report.broken_off.push(BrokenOff { run: place, number, why: error.to_string() });
                if let (true, Ok(books)) = (number > first, books(&stand, number - 1).await) {
                    report.runs[place].books.push(books);
                }
                write(&out, &report)?;
                return Err(error);
            }
        }
        let rounds = u64::from(number - report.runs[place].booked().max(first - 1));
        if number == last || rounds >= BOOKS_EVERY || rounds.saturating_mul(args.gifts) >= BOOKS_EVERY_GIFTS {
            report.runs[place].books.push(books(&stand, number).await?);
        }
        write(&out, &report)?;
    }
    display.say("the nodes stop, and their disks are read");
    report.runs[place].audit = Some(audit(&stand).await?);
    let page = write(&out, &report)?;
    Ok((report, page))
}

/// Where the report goes. A campaign that goes on has its cluster in a folder of its own beside the first one.
fn folder(args: &mut RunArgs, first: u32) -> PathBuf {
    if let Some(recorded) = args.resume.clone() {
        let begun = args.data.clone();
        // What was broken off twice in one round has two folders already.
        let mut turn = 0;
        while args.data.exists() {
            turn += 1;
            let again = if turn > 1 { format!("-{turn}") } else { String::new() };
            args.data.clone_from(&begun);
            args.data.as_mut_os_string().push(format!("-from-{first}{again}"));
        }
        let beside = if recorded.is_dir() { Some(recorded) } else { recorded.parent().map(PathBuf::from) };
        return args.out.clone().or(beside).unwrap_or_default();
    }
    args.out.clone().unwrap_or_else(|| args.data.join("report"))
}

fn run_id() -> Result<String, LoadError> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|_| LoadError::Random)?;
    Ok(hex::encode(bytes))
}

/// The command line that makes the same run again, for a shell: in a new folder, and not as the rest of a recorded one.
fn repeatable(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["bojagi".to_owned()];
    let mut skipped = false;
    for argument in arguments {
        let own_value = std::mem::take(&mut skipped);
        let name = argument.split('=').next().unwrap_or_default();
        if ["--data", "--out", "--resume"].contains(&name) {
            skipped = name == argument;
        } else if !own_value {
            words.push(quoted(&argument));
        }
    }
    words.extend(["--data".to_owned(), "\"$(mktemp -ud)\"".to_owned()]);
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+:./,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The cluster's books beside the provider's; asked again until they agree, for two minutes.
async fn books(stand: &Stand, after_round: u32) -> Result<Books, LoadError> {
    let give_up = Instant::now() + BOOKS_WITHIN;
    loop {
        let found = look_at_books(stand, after_round).await;
        if found.as_ref().is_ok_and(Books::agree) || Instant::now() >= give_up {
            return found;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn look_at_books(stand: &Stand, after_round: u32) -> Result<Books, LoadError> {
    let body = stand.get(1, "/v1/ops/reconciliation", BOOKS_DEADLINE).await?;
    let ledger = ledger::summary(&mut stand.sandbox()?).await?;
    let (paid, refunded) = (ledger.payments.paid.value, ledger.payments.refunded.value);
    let books = read_books(&body, after_round, (paid, refunded));
    Ok(Books { delivered_twice: ledger.gifts_delivered_twice, ..books })
}

fn read_books(body: &Value, after_round: u32, (provider_paid_krw, provider_refunded_krw): (i64, i64)) -> Books {
    let won = |name: &str| body[name]["value"].as_i64().unwrap_or_default();
    let count = |name: &str| body[name].as_u64().unwrap_or_default();
    Books {
        after_round,
        gifts: count("gifts"),
        paid_krw: won("paid"),
        held_krw: won("held"),
        used_krw: won("used"),
        refunded_krw: won("refunded"),
        broken_count: count("broken_count"),
        balanced: body["balanced"] == true,
        provider_paid_krw,
        provider_refunded_krw,
        delivered_twice: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_command_repeats_the_run_in_a_new_folder() {
        let of = |line: &str| repeatable(line.split(' ').map(str::to_owned));
        let wanted = "bojagi chaos run --gifts 500 --seed 3 --data \"$(mktemp -ud)\"";
        assert_eq!(of("chaos run --gifts 500 --data data/x --out=r --seed 3"), wanted);
        assert_eq!(of("chaos run --resume r --gifts 500 --seed 3"), wanted);
        assert_eq!(quoted("a b'c"), "'a b'\\''c'");
        assert_eq!([quoted("kill-two+delay"), quoted("")], ["kill-two+delay", "''"]);
    }

    #[test]
    fn books_are_read_beside_the_providers() {
        let won = |value: i64| json!({ "value": value, "currency": "KRW" });
        let body = json!({
            "gifts": 2, "paid": won(9_000), "held": won(4_500), "used": won(0), "refunded": won(4_500),
            "balanced": true, "broken_count": 0,
        });
        assert!(read_books(&body, 3, (9_000, 4_500)).agree());
        let adrift = read_books(&body, 3, (9_000, 0));
        assert_eq!((adrift.adrift_krw(), adrift.agree(), adrift.gifts), (-4_500, false, 2));
        assert!(!read_books(&Value::Null, 3, (0, 0)).agree(), "no books are no balance");
    }
}
