//! A round as it runs, on standard error: one block that is drawn anew on a terminal, a plain line now and then otherwise.

use crate::chaos::looks::Found;
use crate::chaos::stats::real;
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;
use tokio::time::Instant;

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Letters of the bar, and of a line, so that no line is broken in two.
const BAR: usize = 40;
const LINE_MAX: usize = 110;

/// A round at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub number: u32,
    pub rounds: u32,
    pub nemesis: String,
    /// Since the peak's instant; negative before it.
    pub since_instant_ms: i64,
    /// Gifts of the burst, those due by now, those sent, and how many of them in the last second.
    pub gifts: u64,
    pub due: u64,
    pub sent: u64,
    pub sent_per_s: u64,
    /// Each node, as it was last seen, and how many shards it leads.
    pub nodes: Vec<(u16, Found, u32)>,
    /// What is being done to the stand now.
    pub harm: Vec<String>,
}

impl Snapshot {
    fn seconds(&self) -> String {
        let tenths = self.since_instant_ms.div_euclid(100);
        let sign = if tenths < 0 { '-' } else { '+' };
        format!("{sign}{}.{} s", tenths.abs() / 10, tenths.abs() % 10)
    }

    /// As a block of lines.
    #[must_use]
    pub fn block(&self) -> Vec<String> {
        let filled = (self.sent * BAR as u64).checked_div(self.gifts).unwrap_or(0).min(BAR as u64);
        let filled = usize::try_from(filled).unwrap_or(BAR);
        let bar = format!("{}{}", "\u{2588}".repeat(filled), "\u{2591}".repeat(BAR - filled));
        let waiting = self.due.saturating_sub(self.sent);
        let node = |(node, found, leads): &(u16, Found, u32)| match found {
            Found::Up { open_attempts } => format!("{node} up, leads {leads}, {open_attempts} open"),
            Found::Gone => format!("{node} GONE"),
            Found::Silent => format!("{node} SILENT"),
        };
        let harm = if self.harm.is_empty() { "none".to_owned() } else { self.harm.join(", ") };
        let lines = [
            format!("round {} of {}  {}  {}", self.number, self.rounds, self.nemesis, self.seconds()),
            format!("  {bar}  {} of {} sent, {}/s, {waiting} waiting", self.sent, self.gifts, self.sent_per_s),
            format!("  nodes   {}", self.nodes.iter().map(node).collect::<Vec<_>>().join("  |  ")),
            format!("  faults  {harm}"),
        ];
        lines.into_iter().map(|line| line.chars().take(LINE_MAX).collect()).collect()
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let away = self.nodes.iter().filter(|(_, found, _)| !matches!(found, Found::Up { .. }));
        let away: Vec<String> = away.map(|(node, _, _)| node.to_string()).collect();
        let mut line = format!(
            "round {}/{} {}: {} of {} sent, {}/s, {} waiting",
            self.number,
            self.rounds,
            self.seconds(),
            self.sent,
            self.gifts,
            self.sent_per_s,
            self.due.saturating_sub(self.sent),
        );
        for (name, parts) in [("away: node", &away), ("now", &self.harm)] {
            if !parts.is_empty() {
                write!(line, "; {name} {}", parts.join(", ")).expect("writing to a string cannot fail");
            }
        }
        line
    }
}

/// Sends a second, from two looks.
#[must_use]
pub fn per_second(more: u64, spent: Duration) -> u64 {
    let rate = real(more) / spent.as_secs_f64().max(0.001);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people, rounded")]
    let rounded = rate.round() as u64;
    rounded
}

#[derive(Default)]
struct Drawn {
    /// Lines of the block that stands there.
    lines: usize,
    plain_at: Option<Instant>,
}

/// Where it is shown.
pub struct Display {
    terminal: bool,
    drawn: Mutex<Drawn>,
}

impl Display {
    /// On standard error.
    #[must_use]
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: Mutex::default() }
    }

    /// Draws the block anew, or says a line when it is time for one.
    pub fn show(&self, snapshot: &Snapshot) {
        let mut drawn = self.drawn.lock();
        if self.terminal {
            let block = snapshot.block();
            write_out(&format!("{}{}\n", erased(drawn.lines), block.join("\n")));
            drawn.lines = block.len();
        } else if drawn.plain_at.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
            drawn.plain_at = Some(Instant::now());
            write_out(&format!("{}\n", snapshot.line()));
        }
    }

    /// A line that stays, above the block.
    pub fn say(&self, line: &str) {
        let mut drawn = self.drawn.lock();
        write_out(&format!("{}{line}\n", erased(drawn.lines)));
        *drawn = Drawn::default();
    }
}

/// Goes back over so many lines and clears them.
fn erased(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\u{1b}[{lines}A\u{1b}[J") }
}

/// Nobody may be there to read it any more, and the run goes on.
fn write_out(text: &str) {
    let _gone = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            number: 2,
            rounds: 10,
            nemesis: "kill-busiest".to_owned(),
            since_instant_ms: 4_260,
            gifts: 1_000,
            due: 900,
            sent: 500,
            sent_per_s: 240,
            nodes: vec![(1, Found::Up { open_attempts: 64 }, 32), (2, Found::Gone, 0)],
            harm: vec!["node 2 killed".to_owned()],
        }
    }

    #[test]
    fn a_block_says_how_far_the_burst_is_and_who_is_down() {
        let block = snapshot().block();
        assert_eq!(block[0], "round 2 of 10  kill-busiest  +4.2 s");
        assert_eq!(block[1].matches('\u{2588}').count(), BAR / 2);
        assert!(block[1].ends_with("500 of 1000 sent, 240/s, 400 waiting"), "{}", block[1]);
        assert_eq!(block[2], "  nodes   1 up, leads 32, 64 open  |  2 GONE");
        assert_eq!(block[3], "  faults  node 2 killed");
        let crowded = Snapshot { harm: vec!["x".repeat(500)], ..snapshot() };
        assert!(crowded.block().iter().all(|line| line.chars().count() <= LINE_MAX));
    }

    #[test]
    fn a_plain_line_says_the_same() {
        let wanted = "round 2/10 +4.2 s: 500 of 1000 sent, 240/s, 400 waiting; away: node 2; now node 2 killed";
        assert_eq!(snapshot().line(), wanted);
        let before = Snapshot { since_instant_ms: -50, nodes: vec![], harm: vec![], ..snapshot() };
        assert_eq!(before.line(), "round 2/10 -0.1 s: 500 of 1000 sent, 240/s, 400 waiting");
    }

    #[test]
    fn nothing_is_erased_before_something_stands_there() {
        assert_eq!([erased(0), erased(4)], [String::new(), "\u{1b}[4A\u{1b}[J".to_owned()]);
        assert_eq!(per_second(120, Duration::from_millis(500)), 240);
    }
}
