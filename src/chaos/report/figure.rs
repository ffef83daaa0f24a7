//! The figure of a round: panels, bands and lanes over one time axis, as SVG.

use crate::chaos::happening::Target;
use crate::chaos::report::Round;
use crate::chaos::report::lanes::{Lane, lanes};
use crate::chaos::report::markup::{Element, el};
use crate::chaos::report::scale::{LEFT, RIGHT, Time, Upright, WIDTH};
use crate::chaos::report::words::{grouped, many, rounded, span};
use crate::chaos::series::{NodeSeries, Series};
use crate::chaos::spans::{Span, spans};
use crate::chaos::stats::real;
use std::fmt::Write as _;

/// What the lateness of a gift may not exceed.
const PROMISE_MS: f64 = 60_000.0;
/// Heights, in units of the drawing.
const HEAD: f64 = 20.0;
const GAP: f64 = 12.0;
const RATES: f64 = 110.0;
const LATENESS: f64 = 130.0;
const REQUESTS: f64 = 80.0;
const BAND: f64 = 30.0;
const LANE: f64 = 18.0;
/// Widths that a letter of a label needs, and a block must have, to be labelled inside.
const LETTER: f64 = 6.0;
const BOLD_LETTER: f64 = 7.8;
/// Due rates beyond so many times the greatest send rate are cut off, and said in words.
const CUT_OFF: f64 = 2.0;

/// Draws from the top down.
struct Drawing {
    svg: Element,
    y: f64,
    time: Time,
    step_ms: u64,
}

/// The whole figure; `None` of a round of which nothing was seen.
#[must_use]
pub fn figure(round: &Round) -> Option<Element> {
    let series = &round.seen.series;
    if series.step_ms == 0 || series.due.is_empty() {
        return None;
    }
    let (from_ms, steps) = (series.from_ms, series.step_ms * series.due.len() as u64);
    let to_ms = from_ms + i64::try_from(steps).unwrap_or(0);
    let time = Time { from_ms, to_ms, instant_ms: round.due_at_ms };
    let spans = spans(&round.happenings);
    let mut drawing = Drawing { svg: el("g"), y: 4.0, time, step_ms: series.step_ms };
    drawing.rates(series);
    drawing.lateness(series);
    if series.accepted.iter().chain(&series.refused).chain(&series.silent).any(|count| *count > 0) {
        drawing.requests(series);
    }
    drawing.bands(series, &spans);
    drawing.lanes(&lanes(&spans));
    drawing.axis(&spans);
    let height = drawing.y;
    let label = format!("Round {}: rates, lateness, requests, nodes and faults over time", round.number);
    let svg = el("svg").at("viewBox", format!("0 0 {WIDTH} {height:.0}")).at("role", "img").at("aria-label", label);
    Some(svg.with(drawing.svg))
}

impl Drawing {
    fn put(&mut self, element: Element) {
        let svg = std::mem::replace(&mut self.svg, el("g"));
        self.svg = svg.with(element);
    }

    /// A panel's name and its colours.
    fn head(&mut self, title: &str, keys: &[(&str, &str)]) {
        let y = self.y + 12.0;
        self.put(text(LEFT, y, title).class("title"));
        let mut x = LEFT + 12.0 + real(title.chars().count() as u64) * BOLD_LETTER;
        for (class, words) in keys {
            self.put(el("rect").class(class).at("x", place(x)).at("y", place(y - 8.0)).at("width", 10).at("height", 8));
            self.put(text(x + 14.0, y, words).class("key"));
            x += 28.0 + real(words.chars().count() as u64) * LETTER;
        }
        self.y += HEAD;
    }

    fn frame(&mut self, scale: &Upright, height: f64, name: impl Fn(f64) -> String) {
        for value in scale.lines() {
            let y = scale.y(value);
            self.put(line((LEFT, y), (RIGHT, y)).class("grid"));
            self.put(text(LEFT - 6.0, y + 4.0, name(value)).class("tick end"));
        }
        self.y += height + GAP;
    }

    /// Counts as a rate, in steps; closed to the ground for an area.
    fn counts(&self, counts: &[u32], scale: &Upright) -> String {
        let values = counts.iter().map(|count| Some(self.rate(*count)));
        self.steps(&values.collect::<Vec<_>>(), scale)
    }

    fn rate(&self, count: u32) -> f64 {
        real(count.into()) * 1_000.0 / real(self.step_ms)
    }

    fn steps(&self, values: &[Option<f64>], scale: &Upright) -> String {
        let mut path = String::new();
        let mut open = false;
        for (from_ms, value) in self.places().zip(values) {
            let Some(value) = value else {
                open = false;
                continue;
            };
            let (x, y) = (self.time.x(from_ms), scale.y(*value));
            let until = self.time.x(from_ms.saturating_add_unsigned(self.step_ms));
            let first = if open { format!("V{y:.1}") } else { format!("M{x:.1} {y:.1}") };
            write!(path, "{first}H{until:.1}").expect("writing to a string cannot fail");
            open = true;
        }
        path
    }

    fn places(&self) -> impl Iterator<Item = i64> + use<> {
        let (from_ms, step_ms) = (self.time.from_ms, i64::try_from(self.step_ms).unwrap_or(1));
        (0..).map(move |step| from_ms + step * step_ms)
    }

    fn area(&mut self, path: &str, scale: &Upright, class: &str) {
        if !path.is_empty() {
            let ground = scale.y(0.0);
            self.put(el("path").class(class).at("d", format!("{path}V{ground:.1}H{LEFT}Z")));
        }
    }

    fn rates(&mut self, series: &Series) {
        self.head("Gifts a second", &[("fill-due", "due"), ("fill-sent", "sent")]);
        let most = |counts: &[u32]| self.rate(counts.iter().copied().max().unwrap_or(0));
        let (due, sent) = (most(&series.due), most(&series.sent));
        let cut_off = due > sent * CUT_OFF && sent > 0.0;
        let scale = Upright::linear((self.y, self.y + RATES), if cut_off { sent * 1.2 } else { due.max(sent) });
        let (path_due, path_sent) = (self.counts(&series.due, &scale), self.counts(&series.sent, &scale));
        self.area(&path_due, &scale, "due");
        self.area(&path_sent, &scale, "sent");
        if cut_off {
            let most = series.due.iter().copied().max().unwrap_or(0);
            let peak = self.places().zip(&series.due).find(|(_, count)| **count == most).map_or(0, |(at_ms, _)| at_ms);
            let within = span(i64::try_from(self.step_ms).unwrap_or(0));
            let words = format!("\u{2191} {} due within {within}", grouped(most.into()));
            let x = self.time.x(peak.saturating_add_unsigned(self.step_ms)) + 4.0;
            self.put(text(x, self.y + 10.0, words).class("note"));
        }
        self.frame(&scale, RATES, rounded);
    }

    fn lateness(&mut self, series: &Series) {
        self.head("Lateness", &[("fill-p50", "p50"), ("fill-p99", "p99"), ("fill-max", "max")]);
        let ms = |values: &[Option<i64>]| -> Vec<Option<f64>> {
            let real_ms = |ms: i64| real(u64::try_from(ms).unwrap_or(0));
            values.iter().map(|value| value.map(real_ms)).collect()
        };
        let most = ms(&series.lateness_max_ms).into_iter().flatten().fold(PROMISE_MS, f64::max);
        let scale = Upright::powers((self.y, self.y + LATENESS), 10.0, most);
        let y = scale.y(PROMISE_MS);
        self.put(line((LEFT, y), (RIGHT, y)).class("promise"));
        self.put(text(RIGHT - 4.0, y - 4.0, "60 s: the promise").class("promise-name end"));
        for (class, values) in [
            ("line max", &series.lateness_max_ms),
            ("line p99", &series.lateness_p99_ms),
            ("line p50", &series.lateness_p50_ms),
        ] {
            let path = self.steps(&ms(values), &scale);
            if !path.is_empty() {
                self.put(el("path").class(class).at("d", path));
            }
        }
        self.frame(&scale, LATENESS, lateness_name);
    }

    fn requests(&mut self, series: &Series) {
        let keys = [("fill-accepted", "accepted"), ("fill-refused", "refused"), ("fill-silent", "not answered")];
        self.head("Requests a second", &keys);
        // One above the other: what was not accepted stands on top.
        let sums = |parts: &[&[u32]]| -> Vec<u32> {
            let at = |step: usize| parts.iter().map(|part| part.get(step).copied().unwrap_or(0)).sum();
            (0..series.due.len()).map(at).collect()
        };
        let (accepted, refused, silent) = (&series.accepted[..], &series.refused[..], &series.silent[..]);
        let all = sums(&[accepted, refused, silent]);
        let scale = Upright::linear((self.y, self.y + REQUESTS), self.rate(all.iter().copied().max().unwrap_or(0)));
        for (class, counts) in
            [("silent", all), ("refused", sums(&[accepted, refused])), ("accepted", accepted.to_vec())]
        {
            let path = self.counts(&counts, &scale);
            self.area(&path, &scale, class);
        }
        self.frame(&scale, REQUESTS, rounded);
    }

    fn bands(&mut self, series: &Series, spans: &[Span]) {
        if series.nodes.is_empty() {
            return;
        }
        let leads = series.nodes.iter().flat_map(|node| node.leads.iter().flatten().copied()).max().unwrap_or(0);
        let open = series.nodes.iter().flat_map(|node| node.open_attempts.iter().flatten().copied()).max().unwrap_or(0);
        let (most_led, most_open) = (format!("shards led, up to {leads}"), format!("open attempts, up to {open}"));
        let keys = [("fill-leads", most_led.as_str()), ("fill-open", most_open.as_str()), ("fill-gone", "no answer")];
        self.head("Nodes", &keys);
        for node in &series.nodes {
            self.band(node, (leads, open), spans);
        }
        self.y += GAP;
    }

    fn band(&mut self, node: &NodeSeries, (leads, open): (u32, u64), spans: &[Span]) {
        let (top, bottom) = (self.y, self.y + BAND - 4.0);
        let scale = |most: f64| Upright::exact((top + 2.0, bottom), most);
        self.put(block(LEFT, RIGHT, (top, bottom - top)).class("ground"));
        self.put(text(LEFT - 6.0, bottom - 8.0, format!("node {}", node.node)).class("tick end"));
        let led: Vec<Option<f64>> = held(&node.leads).into_iter().map(|led| led.map(|led| real(led.into()))).collect();
        let led = self.steps(&led, &scale(real(leads.into())));
        self.area_each(&led, bottom, "leads");
        let asked = carried(&node.state);
        let calls = held(&node.open_attempts).into_iter().zip(asked.chars());
        let calls: Vec<Option<f64>> = calls.map(|(calls, state)| calls.filter(|_| state == 'u').map(real)).collect();
        let calls = self.steps(&calls, &scale(real(open)));
        if open > 0 && !calls.is_empty() {
            self.put(el("path").class("line open").at("d", calls));
        }
        for (step_ms, letter) in self.places().zip(asked.chars()).collect::<Vec<_>>() {
            if matches!(letter, 'g' | 's') {
                let (x, until) = (self.time.x(step_ms), self.time.x(step_ms.saturating_add_unsigned(self.step_ms)));
                let class = if letter == 'g' { "away" } else { "away silent" };
                self.put(block(x, until, (bottom - 3.0, 3.0)).class(class));
            }
        }
        for done in spans.iter().filter(|done| done.target == Target::Node(node.node)) {
            let class = if done.name.starts_with("kill") { "fault kill" } else { "fault" };
            self.fault(&done.name, (done.from_ms, done.to_ms), (top, bottom - top), class);
        }
        self.y += BAND;
    }

    /// An area below each piece of a path.
    fn area_each(&mut self, path: &str, bottom: f64, class: &str) {
        for piece in path.split('M').filter(|piece| !piece.is_empty()) {
            let x = piece.split(' ').next().unwrap_or_default();
            self.put(el("path").class(class).at("d", format!("M{piece}V{bottom:.1}H{x}Z")));
        }
    }

    /// A block with its words inside, or behind it when they do not fit.
    fn fault(&mut self, words: &str, (from_ms, to_ms): (i64, Option<i64>), (top, height): (f64, f64), class: &str) {
        let (x, until) = (self.time.x(from_ms), self.time.x(to_ms.unwrap_or(self.time.to_ms)));
        let lasted = to_ms.map_or_else(|| "to the end".to_owned(), |to_ms| span(to_ms - from_ms));
        let hint =
            el("title").text(format!("{words}, {} after the instant, {lasted}", span(from_ms - self.time.instant_ms)));
        self.put(block(x, until.max(x + 2.0), (top, height)).class(class).with(hint));
        let needed = real(words.chars().count() as u64) * LETTER + 8.0;
        let within = until - x >= needed;
        let (at, class) = match (within, until + needed <= RIGHT) {
            (true, _) => (x + 4.0, "fault-name"),
            (false, true) => (until + 4.0, "fault-name"),
            (false, false) => (x - 4.0, "fault-name end"),
        };
        self.put(text(at, top + height / 2.0 + 4.0, words).class(class));
    }

    fn lanes(&mut self, lanes: &[Lane]) {
        if lanes.is_empty() {
            return;
        }
        self.head("Faults of other parts, and planned events", &[]);
        let mut before = "";
        for lane in lanes {
            let (top, height) = (self.y, LANE - 4.0);
            self.put(block(LEFT, RIGHT, (top, height)).class("ground"));
            if lane.label != before {
                self.put(text(LEFT - 6.0, top + height - 3.0, lane.label).class("tick end"));
            }
            before = lane.label;
            for done in &lane.blocks {
                self.fault(&done.words, (done.from_ms, done.to_ms), (top, height), "fault");
            }
            self.y += LANE;
        }
        self.y += GAP;
    }

    /// The axis itself, the instant, and what began when, over the whole height.
    fn axis(&mut self, spans: &[Span]) {
        let bottom = self.y;
        for done in spans.iter().filter(|done| matches!(done.target, Target::Node(_))) {
            let x = self.time.x(done.from_ms);
            self.put(line((x, HEAD), (x, bottom)).class("mark fault-mark"));
        }
        let x = self.time.x(self.time.instant_ms);
        self.put(line((x, HEAD), (x, bottom)).class("mark instant"));
        self.put(line((LEFT, bottom), (RIGHT, bottom)).class("axis"));
        for (at_ms, words) in self.time.ticks() {
            let x = self.time.x(at_ms);
            self.put(line((x, bottom), (x, bottom + 5.0)).class("axis"));
            self.put(text(x, bottom + 18.0, words).class("tick middle"));
        }
        self.y += 26.0;
    }
}

/// What was not looked at is as it was before.
fn held<T: Copy>(values: &[Option<T>]) -> Vec<Option<T>> {
    let mut last = None;
    let held = values.iter().map(|value| {
        last = value.or(last);
        last
    });
    held.collect()
}

/// The letters of a node's state, where it was not asked as it was before.
fn carried(state: &str) -> String {
    let mut last = '-';
    let carried = state.chars().map(|letter| {
        last = if letter == '-' { last } else { letter };
        last
    });
    carried.collect()
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

fn line((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> Element {
    el("line").at("x1", place(x1)).at("y1", place(y1)).at("x2", place(x2)).at("y2", place(y2))
}

fn block(x: f64, until: f64, (top, height): (f64, f64)) -> Element {
    let rect = el("rect").at("x", place(x)).at("y", place(top));
    rect.at("width", place((until - x).max(0.0))).at("height", place(height))
}

fn text(x: f64, y: f64, words: impl std::fmt::Display) -> Element {
    el("text").at("x", place(x)).at("y", place(y)).text(words)
}

fn lateness_name(ms: f64) -> String {
    match ms {
        ..1_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.0} s", ms / 1_000.0),
    }
}

/// In words, for those who do not see the figure.
#[must_use]
pub fn caption(round: &Round) -> String {
    let late = round.seen.lateness.quantile_ms(990).map_or_else(|| "-".to_owned(), span);
    let faults = spans(&round.happenings).len() as u64;
    let hit = round.victims.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let hit = match round.victims.len() {
        0 => String::new(),
        1 => format!(" on node {hit}"),
        _ => format!(" on nodes {hit}"),
    };
    format!(
        "{}{hit}, {} after the instant; {} of {} were sent before; {}; lateness p99 {late}.",
        round.nemesis,
        span(round.fault_after_ms),
        grouped(round.delivered_before),
        many(round.measure.gifts, "gift"),
        many(faults, "fault"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::report::sample;

    #[test]
    fn what_was_not_asked_is_as_it_was_before() {
        assert_eq!(carried("-u-g-s-u"), "-uuggssu");
        assert_eq!(held(&[None, Some(2), None, Some(3)]), [None, Some(2), Some(2), Some(3)]);
    }

    #[test]
    fn a_round_of_which_nothing_was_seen_has_no_figure() {
        assert!(figure(&Round::default()).is_none());
        let drawn = figure(&sample::round(1)).unwrap().to_string();
        assert!(drawn.starts_with("<svg") && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn a_burst_at_once_is_cut_off_and_said_in_words() {
        let mut round = sample::round(1);
        assert!(figure(&round).unwrap().to_string().contains("2,000 due within 1.00 s"));
        let even = round.seen.series.sent.clone();
        round.seen.series.due = even;
        assert!(!figure(&round).unwrap().to_string().contains("due within"));
    }
}
