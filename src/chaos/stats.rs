//! Numbers of a report: what was seen in how many tries, percentiles, and a spread that can be added to another.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of the bound on a rate.
pub const CONFIDENCE: f64 = 0.95;
/// Spans below this stand in a cell each.
const EXACT_BELOW_MS: u64 = 64;
/// Cells of each doubling beyond: a span is known to 1 part in 32.
const CELLS_A_DOUBLING: u32 = 32;
const HALVINGS: u32 = 60;

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
#[must_use]
pub fn real(count: u64) -> f64 {
    count as f64
}

/// The greatest rate of failure under which a run with so few of them is still as likely as 1 in 20: the one-sided upper
/// bound of Clopper and Pearson (Biometrika 26, 1934) at [`CONFIDENCE`]. Without failures it is close to 3 / `tries`, the rule
/// of three; without tries it is 1.
#[must_use]
pub fn rate_upper_bound(failures: u64, tries: u64) -> f64 {
    let unlikely = (1.0 - CONFIDENCE).ln();
    if failures >= tries {
        return 1.0;
    }
    if failures == 0 {
        return -(unlikely / real(tries)).exp_m1();
    }
    let (mut low, mut high) = (real(failures) / real(tries), 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if ln_at_most(failures, tries, middle) > unlikely { low = middle } else { high = middle }
    }
    high
}

/// Logarithm of the chance of at most `failures` in `tries`, each with chance `rate`, between 0 and 1.
fn ln_at_most(failures: u64, tries: u64, rate: f64) -> f64 {
    let odds = rate.ln() - (-rate).ln_1p();
    let mut term = real(tries) * (-rate).ln_1p();
    let mut sum = term;
    for count in 0..failures {
        term += (real(tries - count) / real(count + 1)).ln() + odds;
        let (least, most) = if term < sum { (term, sum) } else { (sum, term) };
        sum = most + (least - most).exp().ln_1p();
    }
    sum
}

/// The nearest rank; `None` of nothing.
#[must_use]
pub fn percentile<T: Copy + Ord>(values: &[T], percent: usize) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// How often which span was seen: exact below 64 ms, to 1 part in 32 above, least and greatest exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    count: u64,
    min_ms: Option<i64>,
    max_ms: Option<i64>,
    /// Occupied cells only.
    cells: BTreeMap<u32, u64>,
}

impl Spread {
    /// Negative spans are told apart by the least alone.
    pub fn record(&mut self, ms: i64) {
        self.count += 1;
        self.min_ms = Some(self.min_ms.map_or(ms, |least| least.min(ms)));
        self.max_ms = Some(self.max_ms.map_or(ms, |most| most.max(ms)));
        *self.cells.entry(cell_of(u64::try_from(ms).unwrap_or(0))).or_default() += 1;
    }

    /// As if all spans of the other had been recorded here.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.min_ms = [self.min_ms, other.min_ms].into_iter().flatten().min();
        self.max_ms = [self.max_ms, other.max_ms].into_iter().flatten().max();
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn max_ms(&self) -> Option<i64> {
        self.max_ms
    }

    /// The span that `permille` of 1,000 do not exceed, rounded up within its cell; `None` of nothing.
    #[must_use]
    pub fn quantile_ms(&self, permille: u64) -> Option<i64> {
        let rank = (self.count * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (cell, count) in &self.cells {
            seen += count;
            if seen >= rank {
                return Some(greatest_of(*cell)).into_iter().chain(self.max_ms).min();
            }
        }
        None
    }
}

fn cell_of(ms: u64) -> u32 {
    if ms < EXACT_BELOW_MS {
        return u32::try_from(ms).unwrap_or(0);
    }
    let doubling = ms.ilog2() - EXACT_BELOW_MS.ilog2();
    let within = (ms >> (doubling + 1)) - u64::from(CELLS_A_DOUBLING);
    64 + doubling * CELLS_A_DOUBLING + u32::try_from(within).unwrap_or(0)
}

fn greatest_of(cell: u32) -> i64 {
    let Some(beyond) = cell.checked_sub(64) else { return i64::from(cell) };
    let (doubling, within) = (beyond / CELLS_A_DOUBLING, beyond % CELLS_A_DOUBLING);
    let next = u64::from(CELLS_A_DOUBLING + within + 1).checked_shl(doubling + 1).unwrap_or(u64::MAX);
    i64::try_from(next - 1).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() < wanted * 1e-3
    }

    #[test]
    fn the_bound_without_failures_is_the_rule_of_three() {
        for tries in [1_000, 200_000, 1_000_000] {
            let bound = rate_upper_bound(0, tries);
            let three = 3.0 / real(tries);
            assert!(bound < three && bound > 0.995 * three, "{bound}");
        }
        assert!(near(rate_upper_bound(0, 1), 0.95));
    }

    #[test]
    fn the_bound_agrees_with_published_tables() {
        // One-sided 95 % limits of Clopper and Pearson: 1 of 10, 5 of 100, 2 of 20.
        assert!(near(rate_upper_bound(1, 10), 0.394_163), "{}", rate_upper_bound(1, 10));
        assert!(near(rate_upper_bound(5, 100), 0.102_253), "{}", rate_upper_bound(5, 100));
        assert!(near(rate_upper_bound(2, 20), 0.282_619), "{}", rate_upper_bound(2, 20));
        // Of many the Poisson limit: 10.513 for 5.
        assert!(near(rate_upper_bound(5, 1_000_000) * 1e6, 10.513), "{}", rate_upper_bound(5, 1_000_000));
    }

    #[test]
    fn nothing_and_everything_bound_nothing() {
        assert_eq!([rate_upper_bound(0, 0), rate_upper_bound(7, 7)].map(f64::to_bits), [1.0f64.to_bits(); 2]);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(percentile(&[30, 10, 20], 50), Some(20));
        assert_eq!(percentile(&[30, 10, 20], 100), Some(30));
        assert_eq!(percentile::<i64>(&[], 50), None);
    }

    #[test]
    fn a_spread_knows_its_ends_exactly() {
        let mut spread = Spread::default();
        [-5, 3, 70_001].into_iter().for_each(|ms| spread.record(ms));
        assert_eq!((spread.count(), spread.min_ms, spread.max_ms()), (3, Some(-5), Some(70_001)));
        assert_eq!((spread.quantile_ms(500), spread.quantile_ms(1_000)), (Some(3), Some(70_001)));
        assert_eq!(Spread::default().quantile_ms(500), None);
    }

    #[test]
    fn a_recorded_spread_is_read_again() {
        let mut spread = Spread::default();
        (0..5_000).step_by(7).for_each(|ms| spread.record(ms));
        let text = serde_json::to_string(&spread).unwrap();
        assert_eq!(serde_json::from_str::<Spread>(&text).unwrap(), spread);
    }

    proptest! {
        #[test]
        fn a_cell_holds_its_spans_within_one_part_in_thirty_two(ms in 0u64..10_000_000) {
            let greatest = u64::try_from(greatest_of(cell_of(ms))).unwrap();
            prop_assert!(greatest >= ms && greatest - ms <= ms / 32, "{ms} in a cell up to {greatest}");
            prop_assert!(cell_of(ms) <= cell_of(ms + 1));
        }

        #[test]
        fn spreads_of_parts_add_up_to_the_spread_of_the_whole(
            left in prop::collection::vec(-100i64..200_000, 0..50), right in prop::collection::vec(-100i64..200_000, 0..50)
        ) {
            let of = |values: &[i64]| values.iter().fold(Spread::default(), |mut spread, ms| {
                spread.record(*ms);
                spread
            });
            let mut sum = of(&left);
            sum.add(&of(&right));
            prop_assert_eq!(sum, of(&[left, right].concat()));
        }
    }
}
