//! `report.html`: one file without anything from outside, for a screen, light or dark, and for paper.

use crate::chaos::report::figure::{caption, figure};
use crate::chaos::report::markup::{Element, el};
use crate::chaos::report::words::{grouped, many, percent, small, span};
use crate::chaos::report::{
    AVAILABILITY_PERMILLE, ChaosReport, FAILOVER_P99_MS, Round, SUCCESS_PERMILLE, Totals, tables,
};
use crate::chaos::stats::{percentile, real};

const SHEET: &str = include_str!("style.css");
/// Rounds that are drawn; of more, those that failed and those with the latest gifts.
const FIGURES_MAX: usize = 12;
/// Failings that are told before the rest is only counted.
const FAILINGS_MAX: usize = 20;

impl ChaosReport {
    /// The whole page.
    #[must_use]
    pub fn page(&self) -> String {
        let all = Totals::of(self);
        let title = "Bojagi chaos report";
        let head = el("head")
            .with(el("meta").at("charset", "utf-8"))
            .with(el("meta").at("name", "viewport").at("content", "width=device-width, initial-scale=1"))
            .with(el("title").text(title))
            .with(el("style").sheet(SHEET));
        let verdict = el("p").class(if self.passed() { "verdict" } else { "verdict failed" }).text(self.verdict());
        let body = el("body")
            .with(el("h1").text(format!("{title} \u{2013} {}", self.build)))
            .with(verdict)
            .with(failings(&self.failings()))
            .with(cards(&all))
            .with(section("Over time", figures(self)))
            .with(section("Failover", tables::failovers(self)))
            .with(section("Rounds", tables::rounds(self)))
            .with(section("The ten worst gifts", tables::worst(self)))
            .with(section("Money", tables::books(self)))
            .with(section("Repeat it", tables::runs(self)))
            .with(section("How to read it", definitions()));
        format!("<!DOCTYPE html>\n{}\n", el("html").at("lang", "en").with(head).with(body))
    }
}

fn section(title: &str, content: Element) -> Element {
    el("section").with(el("h2").text(title)).with(content)
}

fn failings(failings: &[String]) -> Option<Element> {
    if failings.is_empty() {
        return None;
    }
    let more = failings.len().saturating_sub(FAILINGS_MAX);
    let rest = (more > 0).then(|| el("li").text(format!("and {more} more")));
    Some(
        el("ul")
            .class("failings")
            .with_all(failings.iter().take(FAILINGS_MAX).map(|what| el("li").text(what)))
            .with(rest),
    )
}

struct Card {
    name: &'static str,
    figure: String,
    more: String,
    good: bool,
}

fn cards(all: &Totals) -> Element {
    el("div").class("cards").with_all(gift_cards(all).into_iter().chain(client_cards(all)).map(card))
}

fn ms(value: Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), span)
}

fn at_most(found: Option<i64>, goal_ms: i64) -> bool {
    found.is_none_or(|ms| ms <= goal_ms)
}

/// What became of the gifts.
fn gift_cards(all: &Totals) -> [Card; 4] {
    let late = |permille| ms(all.lateness.quantile_ms(permille));
    let (p50, max) = (ms(all.failover(50)), ms(all.failover(100)));
    let idle =
        if all.idle_kills > 0 { format!(", {} more hit too little", grouped(all.idle_kills)) } else { String::new() };
    [
        Card {
            name: "Broken promises",
            figure: format!("{} of {}", grouped(all.broken()), grouped(all.acknowledged)),
            more: format!("at most {} in a million at 95 %", small(all.bound_per_million())),
            good: all.broken() == 0,
        },
        Card {
            name: "Kills in the middle of the work",
            figure: grouped(all.kills),
            more: format!("{}{idle}", many(all.other_faults, "other fault")),
            good: true,
        },
        Card {
            name: "Lateness p99",
            figure: late(990),
            more: format!(
                "goal {}; p50 {}, max {}; {} over 60 s",
                span(all.lateness_goal_ms()),
                late(500),
                ms(all.lateness.max_ms()),
                grouped(all.beyond_minute)
            ),
            good: at_most(all.lateness.quantile_ms(990), all.lateness_goal_ms()),
        },
        Card {
            name: "Fault to next send, p99",
            figure: ms(all.failover(99)),
            more: format!(
                "goal {}; p50 {p50}, max {max} over {}",
                span(FAILOVER_P99_MS),
                many(all.failover_ms.len() as u64, "shard")
            ),
            good: at_most(all.failover(99), FAILOVER_P99_MS),
        },
    ]
}

/// What clients saw.
fn client_cards(all: &Totals) -> [Card; 3] {
    let part = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
    let holds = |value: Option<f64>, permille: u64| value.is_none_or(|value| value * 1_000.0 >= real(permille));
    let recovery = |percent| ms(percentile(&all.recovery_ms, percent));
    let (within, asked, answered) = (grouped(all.answered_within_3_s), grouped(all.asked), grouped(all.answered));
    let faults = many(all.recovery_ms.len() as u64, "fault");
    [
        Card {
            name: "Success rate (goal 99 %)",
            figure: part(all.success()),
            more: format!("{within} of {asked} within 3 s; {answered} in the end"),
            good: holds(all.success(), SUCCESS_PERMILLE),
        },
        Card {
            name: "Availability (goal 99.9 %)",
            figure: part(all.availability()),
            more: format!("{} of {} served", grouped(all.good_seconds), many(all.asked_seconds, "second")),
            good: holds(all.availability(), AVAILABILITY_PERMILLE),
        },
        Card {
            name: "Recovery p50",
            figure: recovery(50),
            more: format!("p99 {}, max {} over {faults}", recovery(99), recovery(100)),
            good: true,
        },
    ]
}

fn card(card: Card) -> Element {
    let figure = el("div").class(if card.good { "figure" } else { "figure bad" }).text(card.figure);
    let (name, more) = (el("div").class("name").text(card.name), el("div").class("more").text(card.more));
    el("div").class("card").with(name).with(figure).with(more)
}

fn figures(report: &ChaosReport) -> Element {
    let mut chosen: Vec<(usize, &Round)> = report.rounds.iter().enumerate().collect();
    let left_out = chosen.len().saturating_sub(FIGURES_MAX);
    // Those that say the most first, then in the order of their rounds.
    chosen.sort_by_key(|(_, round)| (round.failings().is_empty(), std::cmp::Reverse(round.seen.lateness.max_ms())));
    chosen.truncate(FIGURES_MAX);
    chosen.sort_by_key(|(place, _)| *place);
    let note = (left_out > 0).then(|| {
        let words = format!(
            "Drawn are the {FIGURES_MAX} of {} rounds that failed or had the latest gifts.",
            report.rounds.len()
        );
        el("p").class("soft").text(words)
    });
    let several = report.runs.len() > 1;
    let draw = |(_, round): &(usize, &Round)| {
        let of_run = if several {
            format!("Run {}, round {}", round.run + 1, round.number)
        } else {
            format!("Round {}", round.number)
        };
        let drawn = figure(round).unwrap_or_else(|| el("p").text("Nothing was seen of this round."));
        el("figure").with(el("h3").text(of_run)).with(el("figcaption").text(caption(round))).with(drawn)
    };
    el("div").with(note).with_all(chosen.iter().map(draw))
}

fn definitions() -> Element {
    let lines = [
        "Time counts from the instant of the peak (the dotted line), by the clock of the cluster and the sandbox. Red dotted lines: a node was hit.",
        "Sent is the first effective acceptance in the providers' ledger, which lies outside of what is broken. Lateness is from a gift's own instant to it. The red line is the promise of 60 s.",
        "Later than 60 s beyond the faults: lateness less the time, between the gift's instant and its acceptance, in which something was being done to the stand.",
        "A node's band: how many shards it led (area), its calls without an answer (line), when it did not answer (thin bar at the foot), and what was done to it.",
        "Success rate: reservations that went on through the faults and were acknowledged within 3 s, of those asked for; a repeat under the same key belongs to the first try.",
        "Availability: of the seconds in which clients asked, those in which at least half of what came back was an acceptance; a second in which nothing came back is lost.",
        "Recovery: from each fault of a node until every shard that it led has sent again and the last second before the next fault in which clients were not served is over.",
        "The bound: the one-sided upper limit of Clopper and Pearson at 95 % for the chance that a gift breaks its promise; without any broken it is the rule of three, 3 / n.",
    ];
    el("ul").class("soft").with_all(lines.map(|line| el("li").text(line)))
}
