//! The tables of the page: failovers, rounds, the worst gifts, the books, the runs.

use crate::chaos::failover::Failover;
use crate::chaos::gauge::{DUE_SOON_MIN, OPEN_ATTEMPTS_MIN};
use crate::chaos::report::markup::{Element, el};
use crate::chaos::report::words::{grouped, many, span};
use crate::chaos::report::{Books, ChaosReport, Round, Run};
use crate::chaos::stats::percentile;
use crate::chaos::worst::{WORST_MAX, WorstGift};

/// Rows of a table, at most; the file next to the page has them all.
const ROWS_MAX: usize = 600;

fn table(head: &[&str], left: usize, rows: Vec<Element>) -> Element {
    let name = |(place, name): (usize, &&str)| {
        let cell = el("th").at("scope", "col").text(name);
        if place < left { cell.class("left") } else { cell }
    };
    let head = el("thead").with(el("tr").with_all(head.iter().enumerate().map(name)));
    let more = rows.len().saturating_sub(ROWS_MAX);
    let body = el("tbody").with_all(rows.into_iter().take(ROWS_MAX));
    let rest = (more > 0).then(|| el("p").class("soft").text(format!("{more} more rows are in report.json.")));
    el("div").class("scroll").with(el("table").with(head).with(body)).with(rest)
}

fn left(words: impl std::fmt::Display) -> Element {
    el("td").class("left").text(words)
}

fn right(words: impl std::fmt::Display) -> Element {
    el("td").text(words)
}

/// A count that must be 0.
fn none_of(count: u64) -> Element {
    let cell = right(grouped(count));
    if count > 0 { cell.class("bad") } else { cell }
}

fn time(ms: Option<i64>) -> Element {
    right(ms.map_or_else(|| "-".to_owned(), span))
}

fn round_name(report: &ChaosReport, round: &Round) -> String {
    match report.runs.len() {
        0 | 1 => round.number.to_string(),
        _ => format!("{}.{}", round.run + 1, round.number),
    }
}

/// Each fault of a node: who missed it when, who led then, who sent then.
pub fn failovers(report: &ChaosReport) -> Element {
    let of_round = |round: &Round| -> Vec<Element> {
        let name = round_name(report, round);
        round.seen.failovers.iter().map(|failover| failover_row(&name, failover)).collect()
    };
    let rows: Vec<Element> = report.rounds.iter().flat_map(of_round).collect();
    if rows.is_empty() {
        return el("p").text("No node was hit.");
    }
    let head = [
        "Round",
        "Node",
        "What",
        "Shards led",
        "Open attempts",
        "Due in 5 s",
        "Detection",
        "Election p50",
        "max",
        "First send p50",
        "p90",
        "max",
    ];
    let note = format!(
        "Each row is one fault of one node. Detection: until another node missed it, or took one of its shards. Election: until \
         another node led the shard; looked at every 250 ms (500 ms where gifts fall due for longer than a minute), so good to about that much. First send: until the first gift of \
         the shard that was due left again, by the provider's ledger. A kill counts with at least {OPEN_ATTEMPTS_MIN} open \
         attempts, or {} gifts due within 5 s; the pale ones do not.",
        grouped(DUE_SOON_MIN),
    );
    el("div").with(table(&head, 3, rows)).with(el("p").class("soft").text(note))
}

fn failover_row(round: &str, failover: &Failover) -> Element {
    let elections: Vec<i64> = failover.election_ms.iter().filter_map(|ms| i64::try_from(*ms).ok()).collect();
    let row = el("tr").with(left(round)).with(left(failover.node)).with(left(&failover.name));
    let row = row.with(right(failover.led)).with(right(grouped(failover.open_attempts)));
    let row = row.with(right(grouped(failover.due_soon)));
    let row = row.with(time(failover.detection_ms.and_then(|ms| i64::try_from(ms).ok())));
    let row = row.with_all([50, 100].map(|percent| time(percentile(&elections, percent))));
    let row = row.with_all([50, 90, 100].map(|percent| time(percentile(&failover.send_ms, percent))));
    if failover.counts() { row } else { row.class("idle") }
}

/// Each round in a row.
pub fn rounds(report: &ChaosReport) -> Element {
    let row = |round: &Round| {
        let measure = &round.measure;
        let meanwhile = round.meanwhile.as_ref().filter(|meanwhile| meanwhile.asked > 0);
        let slowest = meanwhile.and_then(|meanwhile| i64::try_from(meanwhile.latency_micros.max / 1_000).ok());
        let within = meanwhile.map_or_else(
            || "-".to_owned(),
            |meanwhile| format!("{} / {}", grouped(meanwhile.acknowledged_within_3_s), grouped(meanwhile.asked)),
        );
        let hit: Vec<String> = round.victims.iter().map(u16::to_string).collect();
        let cells = [
            left(round_name(report, round)),
            left(&round.nemesis),
            left(hit.join(", ")),
            right(grouped(measure.gifts)),
            right(grouped(round.delivered_before)),
            none_of(measure.lost),
            none_of(measure.doubled),
            none_of(measure.early),
            none_of(round.seen.late_beyond_faults),
            time(round.seen.lateness.quantile_ms(990)),
            time(round.seen.lateness.max_ms()),
            right(within),
            time(slowest),
            time(round.recovery_ms().into_iter().max()),
        ];
        el("tr").with_all(cells)
    };
    let head = [
        "Round",
        "Nemesis",
        "Nodes",
        "Gifts",
        "sent before",
        "Lost",
        "Twice",
        "Early",
        "> 60 s",
        "Late p99",
        "max",
        "Requests in 3 s",
        "slowest",
        "Recovery",
    ];
    table(&head, 3, report.rounds.iter().map(row).collect())
}

/// The ten worst gifts of all rounds, each with its timeline.
pub fn worst(report: &ChaosReport) -> Element {
    let of_round = |round: &Round| {
        let name = round_name(report, round);
        round.seen.worst.iter().map(move |gift| (name.clone(), gift.clone())).collect::<Vec<_>>()
    };
    let mut all: Vec<(String, WorstGift)> = report.rounds.iter().flat_map(of_round).collect();
    let grave = |gift: &WorstGift| match gift.fate.as_str() {
        "lost" => 0,
        "doubled" => 1,
        "early" => 2,
        _ => 3,
    };
    all.sort_by_key(|(_, gift)| (grave(gift), std::cmp::Reverse(gift.lateness_ms)));
    if all.is_empty() {
        return el("p").text("No gift was looked at.");
    }
    el("div").with_all(all.iter().take(WORST_MAX).enumerate().map(|(place, gift)| worst_gift(place, gift)))
}

fn worst_gift(place: usize, (round, gift): &(String, WorstGift)) -> Element {
    let fate = match (gift.fate.as_str(), gift.lateness_ms) {
        ("late", Some(ms)) => format!("{} after its instant", span(ms)),
        (fate, Some(ms)) => format!("{fate}, {} after its instant", span(ms)),
        (fate, None) => fate.to_owned(),
    };
    let calls =
        format!("round {round}, {}, {} delivered, due {}", many(gift.requests, "call"), gift.effective, gift.due);
    let summary = el("summary")
        .with(el("code").text(&gift.id))
        .text(format!(" \u{2013} {fate} "))
        .with(el("span").class("soft").text(calls));
    let step = |(ms, words): (i64, &str)| {
        let when = if ms < 0 { format!("{} before", span(-ms)) } else { format!("+{}", span(ms)) };
        el("li").with(el("span").class("when").text(when)).with(el("span").text(words))
    };
    let mut told: Vec<(i64, &str)> = gift.steps.iter().map(|step| (step.after_due_ms, step.what.as_str())).collect();
    told.extend(gift.lateness_ms.map(|ms| (ms, "first accepted by a provider (ledger)")));
    told.push((0, "due"));
    told.sort_by_key(|(ms, _)| *ms);
    let unread = gift.steps.is_empty().then(|| el("p").class("soft").text("Its journal could not be read."));
    let details =
        el("details").with(summary).with(unread).with(el("ol").class("steps").with_all(told.into_iter().map(step)));
    if place < 3 { details.at("open", "open") } else { details }
}

/// The cluster's books beside the provider's, as they were looked at last in each run.
pub fn books(report: &ChaosReport) -> Element {
    let row = |(run, books): (usize, &Books)| {
        let won = |krw: i64| right(format!("{}{}", if krw < 0 { "-" } else { "" }, grouped(krw.unsigned_abs())));
        let adrift = won(books.adrift_krw());
        let cells = [
            left(run + 1),
            left(books.after_round),
            right(grouped(books.gifts)),
            won(books.paid_krw),
            won(books.held_krw),
            won(books.used_krw),
            won(books.refunded_krw),
            won(books.provider_paid_krw - books.provider_refunded_krw),
            if books.adrift_krw() == 0 { adrift } else { adrift.class("bad") },
            none_of(books.broken_count),
        ];
        el("tr").with_all(cells)
    };
    let last = |(place, run): (usize, &Run)| run.books.last().cloned().map(|books| (place, books));
    let found: Vec<(usize, Books)> = report.runs.iter().enumerate().filter_map(last).collect();
    if found.is_empty() {
        return el("p").text("The books were not looked at.");
    }
    let head = [
        "Run",
        "after round",
        "Gifts",
        "Paid",
        "Held",
        "Used",
        "Refunded",
        "Provider holds",
        "Adrift",
        "Gifts that do not sum",
    ];
    let note = "In won. paid = held + used + refunded, for each gift and over all; adrift is paid less refunded beside what the \
                payment provider's ledger captured and did not give back.";
    let rows = found.iter().map(|(run, books)| row((*run, books))).collect();
    el("div").with(table(&head, 2, rows)).with(el("p").class("soft").text(note))
}

/// What was run, and the commands that repeat it.
pub fn runs(report: &ChaosReport) -> Element {
    let one = |run: &Run| {
        let what = format!(
            "{} on {} nodes, {} gifts as {}, {} shards, seed {}, {} % of accepted calls cut off and {} % never answered; began {} (run {})",
            run.nemesis,
            run.nodes,
            grouped(run.gifts),
            run.profile.name(),
            run.shards,
            run.seed,
            run.lost_replies,
            run.hung_replies,
            run.began_at,
            run.id,
        );
        let audit = run.audit.iter().map(|audit| el("p").text(audit.to_string()));
        el("div").with(el("p").class("soft").text(what)).with_all(audit).with(el("pre").text(&run.command))
    };
    el("div").with_all(report.runs.iter().map(one))
}
