//! The shape of a peak: when, seconds from its instant, each of its gifts falls due. Pure and without dice, so that a
//! round's repeat has the same peak.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Seconds that stand for an hour of Pepero day.
const SECONDS_AN_HOUR: i32 = 6;
/// What is due in each hour of Pepero day, in parts; half of the first hour's at midnight itself.
const PEPERO_HOURS: [u64; 24] =
    [240, 60, 24, 12, 8, 10, 26, 60, 110, 160, 110, 90, 130, 100, 80, 76, 80, 96, 130, 150, 170, 140, 100, 60];

/// What the gifts of a round fall due like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// All at one instant
    #[default]
    Midnight,
    /// A steep ramp: a third on the hour, the others within 20 s before and 40 s after
    #[value(name = "09:00")]
    #[serde(rename = "09:00")]
    Nine,
    /// A broader one: a fifth on the hour, the others within a minute on both sides
    #[value(name = "20:00")]
    #[serde(rename = "20:00")]
    Twenty,
    /// The curve of 11 November, an hour in six seconds
    PeperoDay,
    /// All at one instant, while a crowd claims one coupon campaign
    FlashCoupon,
    /// Evenly from the instant on, so many a second as --due-rate says
    Steady,
}

/// A second of a profile, and its part of the whole.
struct Part {
    at_s: i32,
    weight: u64,
}

impl Profile {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Midnight => "midnight",
            Self::Nine => "09:00",
            Self::Twenty => "20:00",
            Self::PeperoDay => "pepero-day",
            Self::FlashCoupon => "flash-coupon",
            Self::Steady => "steady",
        }
    }

    /// For each of so many gifts, in order, the milliseconds from the peak's instant to its own; negative before it. A
    /// steady one has `due_rate` gifts in each second.
    #[must_use]
    pub fn offsets_ms(self, gifts: u64, due_rate: u32) -> Vec<i64> {
        let Some(parts) = self.parts() else {
            let at_ms = |gift: u64| i64::try_from(gift.saturating_mul(1_000) / u64::from(due_rate.max(1)));
            return (0..gifts).map(|gift| at_ms(gift).unwrap_or(i64::MAX)).collect();
        };
        let whole: u64 = parts.iter().map(|part| part.weight).sum();
        let upto = |weight: u64| u128::from(weight) * u128::from(gifts) / u128::from(whole.max(1));
        let (mut offsets, mut weight) = (Vec::new(), 0);
        for part in parts {
            let before = upto(weight);
            weight += part.weight;
            let here = usize::try_from(upto(weight) - before).unwrap_or(usize::MAX);
            offsets.extend(std::iter::repeat_n(i64::from(part.at_s) * 1_000, here));
        }
        offsets
    }

    /// From the first gift to the peak's instant, in seconds, and from the instant to the last.
    #[must_use]
    pub fn reach_s(self, gifts: u64, due_rate: u32) -> (u64, u64) {
        let Some(parts) = self.parts() else { return (0, gifts.div_ceil(u64::from(due_rate.max(1)))) };
        let at = |part: Option<&Part>| part.map_or(0, |part| u64::from(part.at_s.unsigned_abs()));
        (at(parts.first()), at(parts.last()))
    }

    /// Members who claim a coupon beside so many gifts.
    #[must_use]
    pub fn claims(self, gifts: u64) -> Option<u64> {
        match self {
            Self::FlashCoupon => Some((gifts / 4).clamp(100, 20_000)),
            Self::Midnight | Self::Nine | Self::Twenty | Self::PeperoDay | Self::Steady => None,
        }
    }

    /// Its curve; a steady one has none.
    fn parts(self) -> Option<Vec<Part>> {
        match self {
            Self::Midnight | Self::FlashCoupon => Some(vec![Part { at_s: 0, weight: 1 }]),
            Self::Nine => Some(around_the_hour(20, 40, 3)),
            Self::Twenty => Some(around_the_hour(60, 60, 5)),
            Self::PeperoDay => Some(pepero_day()),
            Self::Steady => None,
        }
    }
}

/// Rises with the square of the time before the hour, falls after it by the same law; 1 in `at_once` is due on the hour.
fn around_the_hour(before_s: i32, after_s: i32, at_once: u64) -> Vec<Part> {
    let square = |part: i32, of: i32| u64::from((part * 1_000 / of).unsigned_abs()).pow(2);
    let rise = (-before_s..0).map(|at_s| Part { at_s, weight: square(before_s + at_s + 1, before_s + 1) });
    let fall = (1..=after_s).map(|at_s| Part { at_s, weight: square(after_s - at_s + 1, after_s + 1) });
    let (rise, fall): (Vec<Part>, Vec<Part>) = (rise.collect(), fall.collect());
    let others: u64 = rise.iter().chain(&fall).map(|part| part.weight).sum();
    let hour = Part { at_s: 0, weight: others / (at_once - 1) };
    rise.into_iter().chain([hour]).chain(fall).collect()
}

/// Midnight's own second, then each hour spread over its seconds.
fn pepero_day() -> Vec<Part> {
    let seconds = u64::try_from(SECONDS_AN_HOUR).unwrap_or(1);
    let hours = (0..).step_by(usize::try_from(SECONDS_AN_HOUR).unwrap_or(1)).zip(PEPERO_HOURS);
    let mut parts: Vec<Part> = hours
        .flat_map(|(first, weight)| (first..first + SECONDS_AN_HOUR).map(move |at_s| Part { at_s, weight }))
        .collect();
    // Half of the first hour's gifts leave the moment the day begins.
    let first_hour = PEPERO_HOURS[0] * seconds;
    parts[0].weight = first_hour / 2;
    parts[1..].iter_mut().take(usize::try_from(SECONDS_AN_HOUR - 1).unwrap_or(0)).for_each(|part| {
        part.weight = first_hour / 2 / (seconds - 1);
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn by_second(profile: Profile, gifts: u64) -> BTreeMap<i64, usize> {
        let mut found = BTreeMap::new();
        let offsets = profile.offsets_ms(gifts, 300).into_iter();
        offsets.for_each(|at_ms| *found.entry(at_ms.div_euclid(1_000)).or_default() += 1);
        found
    }

    #[test]
    fn every_gift_falls_due_within_the_reach_and_in_order() {
        for profile in Profile::value_variants() {
            for gifts in [0, 1, 7, 500, 20_000] {
                let (before, after) = profile.reach_s(gifts, 300);
                let (before, after) = (before.cast_signed() * 1_000, after.cast_signed() * 1_000);
                let offsets = profile.offsets_ms(gifts, 300);
                assert_eq!(offsets.len() as u64, gifts, "{profile:?}");
                assert!(
                    offsets.is_sorted() && offsets.iter().all(|at_ms| (-before..=after).contains(at_ms)),
                    "{profile:?}"
                );
            }
        }
    }

    #[test]
    fn midnight_is_one_instant() {
        assert_eq!(by_second(Profile::Midnight, 5_000), [(0, 5_000)].into());
        assert_eq!(Profile::Midnight.reach_s(5_000, 300), (0, 0));
        assert_eq!(Profile::Midnight.claims(5_000), None);
    }

    #[test]
    fn a_ramp_is_steepest_before_the_hour_and_has_its_share_on_it() {
        for (profile, share) in [(Profile::Nine, 3), (Profile::Twenty, 5)] {
            let seconds = by_second(profile, 60_000);
            assert!(seconds[&0].abs_diff(60_000 / share) <= 10, "{profile:?}: {}", seconds[&0]);
            assert!(seconds[&-1] > seconds[&-5] && seconds[&-5] > seconds[&-15], "{profile:?}");
            assert!(seconds[&1] > seconds[&10] && seconds[&10] > seconds[&30], "{profile:?}");
        }
    }

    #[test]
    fn pepero_day_begins_with_its_peak_and_rises_again_in_the_evening() {
        let seconds = by_second(Profile::PeperoDay, 100_000);
        let most = seconds.values().max().unwrap();
        assert_eq!((seconds[&0], seconds.len()), (*most, 144));
        let hour = |hour: i64| (hour * 6..hour * 6 + 6).map(|at_s| seconds[&at_s]).sum::<usize>();
        assert!(hour(20) > hour(16) && hour(9) > hour(7) && hour(4) < hour(12));
        assert!(hour(0).abs_diff(2 * seconds[&0]) <= 10, "half of the first hour at once");
    }

    #[test]
    fn a_steady_one_has_its_rate_in_every_second_and_evenly_within_it() {
        assert_eq!(by_second(Profile::Steady, 900), [(0, 300), (1, 300), (2, 300)].into());
        assert_eq!(Profile::Steady.offsets_ms(4, 300), [0, 3, 6, 10]);
        assert_eq!((Profile::Steady.reach_s(901, 300), Profile::Steady.reach_s(60_000, 300)), ((0, 4), (0, 200)));
    }

    #[test]
    fn a_flash_coupon_has_a_crowd() {
        assert_eq!(Profile::FlashCoupon.claims(20_000), Some(5_000));
        assert_eq!(Profile::FlashCoupon.claims(8), Some(100));
    }

    #[test]
    fn names_are_those_of_the_command_line_and_of_the_report() {
        for profile in Profile::value_variants() {
            assert_eq!(profile.to_possible_value().unwrap().get_name(), profile.name());
            assert_eq!(serde_json::to_value(profile).unwrap(), profile.name());
        }
    }
}
