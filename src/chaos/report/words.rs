//! The verdict in one sentence, and the text for a terminal.

use crate::chaos::report::{ChaosReport, FAILOVER_P99_MS, Totals};
use crate::chaos::stats::percentile;
use std::fmt::Write as _;

/// `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 kill`, `12,345 kills`.
pub fn many(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", grouped(number))
}

/// `+250 ms`, `1.5 s`, `2 min 05 s`.
pub(super) fn span(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms {
        0..1_000 => format!("{sign}{ms} ms"),
        1_000..10_000 => format!("{sign}{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        10_000..60_000 => format!("{sign}{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000.. => format!("{sign}{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A part as percent, cut and not rounded: what is not all is never 100 %.
pub(super) fn percent(part: f64) -> String {
    format!("{:.2} %", (part * 10_000.0).floor() / 100.0)
}

/// A small number with three digits that count.
pub(super) fn small(number: f64) -> String {
    match number {
        ..1.0 => format!("{number:.3}"),
        1.0..100.0 => format!("{number:.1}"),
        _ => rounded(number),
    }
}

/// Grouped, without a fraction.
pub(super) fn rounded(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number for people")]
    grouped(number.round() as u64)
}

impl ChaosReport {
    /// The verdict in one sentence.
    #[must_use]
    pub fn verdict(&self) -> String {
        let all = Totals::of(self);
        let calm = !self.rounds.is_empty() && self.rounds.iter().all(super::Round::is_calm);
        let held = match (self.passed(), calm) {
            (true, false) => "Held",
            (true, true) => "Calm, which proves nothing of faults",
            (false, _) => "FAILED",
        };
        let looked = self.runs.iter().any(|run| !run.books.is_empty());
        let agree = self.runs.iter().flat_map(|run| &run.books).all(super::Books::agree);
        let adrift = self.runs.iter().filter_map(|run| run.books.last()).map(|books| books.adrift_krw().unsigned_abs());
        let books = match (looked, agree) {
            (false, _) => "the books were not looked at".to_owned(),
            (true, true) => "0 won adrift and the books balance".to_owned(),
            (true, false) => format!("{} won adrift, the books DO NOT BALANCE", grouped(adrift.sum())),
        };
        format!(
            "{held}: {} through {} and {} in {}: {} lost, {} sent twice, {} early, {} later than 60 s beyond the faults; {} of {} acknowledged meanwhile lost; {books}; \
             with 95 % confidence at most {} in a million gifts fail (Clopper-Pearson, one-sided).",
            many(all.acknowledged, "acknowledged gift"),
            many(all.kills, "kill"),
            many(all.other_faults, "other fault"),
            many(all.rounds, "round"),
            grouped(all.lost),
            grouped(all.doubled),
            grouped(all.early),
            grouped(all.late_beyond_faults),
            grouped(all.forgotten),
            grouped(all.read_back),
            small(all.bound_per_million()),
        )
    }

    /// For people.
    #[must_use]
    pub fn render(&self) -> String {
        let all = Totals::of(self);
        let ms = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), span);
        let part = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
        let mut text = String::new();
        let _infallible = writeln!(text, "{}", self.verdict());
        let _infallible = writeln!(
            text,
            "from a fault to the next send of a shard: p50 {}, p90 {}, p99 {} (goal {}), max {} over {}",
            ms(all.failover(50)),
            ms(all.failover(90)),
            ms(all.failover(99)),
            span(FAILOVER_P99_MS),
            ms(all.failover(100)),
            many(all.failover_ms.len() as u64, "shard"),
        );
        let _infallible = writeln!(
            text,
            "lateness p50 {}, p99 {} (goal {}), max {}; recovery p50 {}, p99 {}, max {} over {}",
            ms(all.lateness.quantile_ms(500)),
            ms(all.lateness.quantile_ms(990)),
            span(all.lateness_goal_ms()),
            ms(all.lateness.max_ms()),
            ms(percentile(&all.recovery_ms, 50)),
            ms(percentile(&all.recovery_ms, 99)),
            ms(percentile(&all.recovery_ms, 100)),
            many(all.recovery_ms.len() as u64, "fault"),
        );
        let _infallible = writeln!(
            text,
            "of {} made meanwhile {} acknowledged, {} within 3 s (goal 99 %); availability {} of {} (goal 99.9 %)",
            many(all.asked, "reservation"),
            grouped(all.answered),
            part(all.success()),
            part(all.availability()),
            many(all.asked_seconds, "second"),
        );
        if all.idle_kills > 0 {
            let idle = many(all.idle_kills, "more kill");
            let _infallible = writeln!(text, "{idle} hit too little work to count");
        }
        for audit in self.runs.iter().filter_map(|run| run.audit.as_ref()) {
            let _infallible = writeln!(text, "{audit}");
        }
        for failing in self.failings() {
            let _infallible = writeln!(text, "{failing}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([many(1, "kill"), many(0, "kill")], ["1 kill", "0 kills"]);
        let spans = [-3, 999, 1_250, 12_345, 125_000].map(span);
        assert_eq!(spans, ["-3 ms", "999 ms", "1.25 s", "12.3 s", "2 min 05 s"]);
        assert_eq!([percent(1.0), percent(0.99999)], ["100.00 %", "99.99 %"]);
        assert_eq!([small(0.5), small(14.98), small(5_000.0)], ["0.500", "15.0", "5,000"]);
    }
}
