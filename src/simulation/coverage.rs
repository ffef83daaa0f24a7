//! Which classes of faults struck, and which two of them met: what runs went through, one by one and in sum.

use crate::simulation::event::{MINUTE, Time};
use crate::simulation::options::FaultClass;
use std::collections::BTreeMap;

/// Two faults meet when one begins while the other lasts, or so soon after its end.
const NEAR: Time = MINUTE;
/// Pairs that never met and are named.
const UNMET_NAMED_MAX: usize = 8;
/// Names of the rows and columns of the table; there are more than classes.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// How often each class struck, and how often each two met. A pair is counted when the later fault of it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    struck: BTreeMap<FaultClass, u64>,
    /// The lesser class first.
    met: BTreeMap<(FaultClass, FaultClass), u64>,
}

/// When the latest fault of each class of a run is over.
#[derive(Default)]
pub struct Recent(BTreeMap<FaultClass, Time>);

impl Coverage {
    /// A fault begins at `now` and lasts until then.
    pub fn strike(&mut self, class: FaultClass, (now, until): (Time, Time), recent: &mut Recent) {
        *self.struck.entry(class).or_default() += 1;
        for (other, over) in &recent.0 {
            if *other != class && over + NEAR >= now {
                *self.met.entry(pair(class, *other)).or_default() += 1;
            }
        }
        let over = recent.0.entry(class).or_default();
        *over = until.max(*over);
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        other.struck.iter().for_each(|(class, count)| *self.struck.entry(*class).or_default() += count);
        other.met.iter().for_each(|(pair, count)| *self.met.entry(*pair).or_default() += count);
    }

    /// How often a class struck.
    #[must_use]
    pub fn struck(&self, class: FaultClass) -> u64 {
        self.struck.get(&class).copied().unwrap_or(0)
    }

    /// How often two classes met, in whichever order.
    #[must_use]
    pub fn met(&self, one: FaultClass, other: FaultClass) -> u64 {
        self.met.get(&pair(one, other)).copied().unwrap_or(0)
    }

    /// Faults of all classes.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.struck.values().sum()
    }

    /// Classes that never struck.
    #[must_use]
    pub fn never(&self) -> Vec<FaultClass> {
        FaultClass::ALL.into_iter().filter(|class| self.struck(*class) == 0).collect()
    }

    /// The table, in a line for each class, and what is not covered.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut lines = vec![
            "coverage: how often each class of faults struck, and how often it met each of those above it within a minute \
             (the number of digits of that)"
                .to_owned(),
        ];
        let rows = FaultClass::ALL.iter().zip(LETTERS).enumerate();
        lines.extend(rows.map(|(place, (class, letter))| {
            let cells: String = FaultClass::ALL[..place].iter().map(|other| digits(self.met(*class, *other))).collect();
            let letter = char::from(*letter);
            let line = format!("coverage: {letter} {:<20}{:>7}  {cells}", class.name(), self.struck(*class));
            line.trim_end().to_owned()
        }));
        let columns: String =
            LETTERS.iter().take(FaultClass::ALL.len() - 1).map(|letter| char::from(*letter)).collect();
        lines.push(format!("coverage: {:31}{columns}", ""));
        lines.push(format!("coverage: {}", self.closing()));
        lines.join("\n")
    }

    fn closing(&self) -> String {
        let (classes, never) = (FaultClass::ALL.len(), self.never());
        let never_named: Vec<&str> = never.iter().map(|class| class.name()).collect();
        let pairs = pairs();
        let unmet: Vec<String> = pairs
            .iter()
            .filter(|(one, other)| self.met(*one, *other) == 0)
            .map(|(one, other)| format!("{}+{}", one.name(), other.name()))
            .collect();
        let named = unmet[..unmet.len().min(UNMET_NAMED_MAX)].join(", ");
        let more = unmet.len().saturating_sub(UNMET_NAMED_MAX);
        format!(
            "{} of {classes} classes struck, never: {}; {} of {} pairs met, never: {}{}",
            classes - never.len(),
            if never.is_empty() { "none".to_owned() } else { never_named.join(", ") },
            pairs.len() - unmet.len(),
            pairs.len(),
            if unmet.is_empty() { "none".to_owned() } else { named },
            if more > 0 { format!(" and {more} more") } else { String::new() }
        )
    }

    /// Everything as comma-separated values: a row for each class, with how often it struck and met each other one.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let names: Vec<&str> = FaultClass::ALL.iter().map(|class| class.name()).collect();
        let mut lines = vec![format!("class,struck,{}", names.join(","))];
        lines.extend(FaultClass::ALL.iter().map(|class| {
            let cells = FaultClass::ALL.iter().map(|other| self.met(*class, *other).to_string());
            format!("{},{},{}", class.name(), self.struck(*class), cells.collect::<Vec<String>>().join(","))
        }));
        lines.push(String::new());
        lines.join("\n")
    }
}

fn pair(one: FaultClass, other: FaultClass) -> (FaultClass, FaultClass) {
    (one.min(other), one.max(other))
}

fn pairs() -> Vec<(FaultClass, FaultClass)> {
    let all = FaultClass::ALL;
    all.iter().enumerate().flat_map(|(place, one)| all[place + 1..].iter().map(|other| (*one, *other))).collect()
}

fn digits(count: u64) -> char {
    let digits = count.checked_ilog10().map_or(0, |log| log + 1);
    if digits == 0 { '.' } else { char::from_digit(digits.min(9), 10).unwrap_or('9') }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::event::SECOND;

    #[test]
    fn faults_meet_while_one_lasts_and_for_a_minute_behind_it() {
        let (mut coverage, mut recent) = (Coverage::default(), Recent::default());
        let (pause, flap, kill) = (FaultClass::Pause, FaultClass::Flap, FaultClass::Kill);
        coverage.strike(pause, (0, 30 * SECOND), &mut recent);
        coverage.strike(flap, (90 * SECOND, 91 * SECOND), &mut recent);
        assert_eq!((coverage.met(pause, flap), coverage.met(flap, pause)), (1, 1));
        // A shorter one of the same class does not end the longer one, and meets nobody of its own class.
        coverage.strike(flap, (90 * SECOND, 90 * SECOND), &mut recent);
        coverage.strike(kill, (151 * SECOND, 160 * SECOND), &mut recent);
        assert_eq!((coverage.met(kill, flap), coverage.met(kill, pause), coverage.met(flap, flap)), (1, 0, 0));
        coverage.strike(kill, (152 * SECOND, 160 * SECOND), &mut recent);
        assert_eq!((coverage.met(kill, flap), coverage.struck(kill), coverage.faults()), (1, 2, 5));
    }

    #[test]
    fn the_table_names_what_is_not_covered() {
        let (mut coverage, mut recent) = (Coverage::default(), Recent::default());
        for class in FaultClass::ALL.into_iter().filter(|class| *class != FaultClass::Move) {
            coverage.strike(class, (0, 0), &mut recent);
        }
        let mut sum = coverage.clone();
        sum.add(&coverage);
        assert_eq!(sum.never(), [FaultClass::Move]);
        let lines = sum.lines();
        assert!(lines.contains("never: move;") && lines.contains("378 of 406 pairs"), "{lines}");
        assert!(lines.contains("kill+move") && lines.contains("and 20 more"), "{lines}");
        let csv = sum.to_csv();
        assert!(csv.starts_with("class,struck,kill,power_cut,") && csv.contains("\nkill,2,0,2,2,2,"), "{csv}");
        assert_eq!(csv.lines().count(), 1 + FaultClass::ALL.len());
        assert_eq!([0, 9, 10, 999].map(digits), ['.', '1', '2', '3']);
    }
}
