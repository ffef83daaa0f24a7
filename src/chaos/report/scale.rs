//! Where a value stands in a figure: the time axis, and upright scales that are linear or logarithmic.

use crate::chaos::stats::real;

/// Of all figures, in units of the drawing.
pub const WIDTH: f64 = 980.0;
/// Where the time axis begins and ends.
pub const LEFT: f64 = 76.0;
pub const RIGHT: f64 = 956.0;
/// Ticks of the time axis, at most.
const TICKS_MAX: i64 = 14;
/// Between two ticks, in seconds.
const TICKS_S: [i64; 11] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800];

/// The time axis of a round.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub from_ms: i64,
    pub to_ms: i64,
    /// Where the labels count from.
    pub instant_ms: i64,
}

impl Time {
    /// Where an instant stands; beyond the ends, at them.
    #[must_use]
    pub fn x(&self, at_ms: i64) -> f64 {
        let whole = real(u64::try_from(self.to_ms - self.from_ms).unwrap_or(0).max(1));
        let since = real(u64::try_from(at_ms.clamp(self.from_ms, self.to_ms) - self.from_ms).unwrap_or(0));
        LEFT + (RIGHT - LEFT) * since / whole
    }

    /// Instants of the ticks, and their labels.
    #[must_use]
    pub fn ticks(&self) -> Vec<(i64, String)> {
        let span_s = (self.to_ms - self.from_ms) / 1_000;
        let every = TICKS_S.into_iter().find(|every| span_s / every <= TICKS_MAX).unwrap_or(3_600);
        let first = (self.from_ms - self.instant_ms).div_euclid(every * 1_000);
        let last = (self.to_ms - self.instant_ms).div_euclid(every * 1_000);
        let tick = |number: i64| (self.instant_ms + number * every * 1_000, number * every);
        let ticks = (first..=last).map(tick).filter(|(at_ms, _)| *at_ms >= self.from_ms);
        ticks.map(|(at_ms, seconds)| (at_ms, label(seconds))).collect()
    }
}

fn label(seconds: i64) -> String {
    match seconds {
        0 => "0".to_owned(),
        -119..=119 => format!("{seconds:+} s"),
        _ if seconds % 60 == 0 => format!("{:+} min", seconds / 60),
        _ => format!("{:+}:{:02} min", seconds / 60, seconds.abs() % 60),
    }
}

/// An upright scale between two heights of the drawing.
#[derive(Clone, Copy, Debug)]
pub struct Upright {
    top: f64,
    bottom: f64,
    most: f64,
    /// For a logarithmic scale, what stands at the bottom.
    least: Option<f64>,
}

impl Upright {
    /// From 0 to a round number not below `most`.
    #[must_use]
    pub fn linear((top, bottom): (f64, f64), most: f64) -> Self {
        Self { top, bottom, most: round_up(most), least: None }
    }

    /// From 0 to exactly `most`.
    #[must_use]
    pub fn exact((top, bottom): (f64, f64), most: f64) -> Self {
        Self { top, bottom, most: most.max(1.0), least: None }
    }

    /// From one power of ten to another.
    #[must_use]
    pub fn powers((top, bottom): (f64, f64), least: f64, most: f64) -> Self {
        Self { top, bottom, most: 10f64.powf(most.max(least * 10.0).log10().ceil()), least: Some(least) }
    }

    /// Where a value stands; beyond the ends, at them.
    #[must_use]
    pub fn y(&self, value: f64) -> f64 {
        let part = match self.least {
            None => value / self.most,
            Some(least) => (value.max(least) / least).ln() / (self.most / least).ln(),
        };
        self.bottom - (self.bottom - self.top) * part.clamp(0.0, 1.0)
    }

    /// Values with a line of their own.
    #[must_use]
    pub fn lines(&self) -> Vec<f64> {
        match self.least {
            None => vec![0.0, self.most / 2.0, self.most],
            Some(least) => std::iter::successors(Some(least), |value| Some(value * 10.0))
                .take_while(|v| *v <= self.most * 1.01)
                .collect(),
        }
    }
}

/// 1, 2, 4, 5 or 10 times a power of ten.
fn round_up(most: f64) -> f64 {
    let most = most.max(1.0);
    let power = 10f64.powf(most.log10().floor());
    let step = [1.0, 2.0, 4.0, 5.0, 10.0].into_iter().find(|step| step * power >= most);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() < 0.01
    }

    #[test]
    fn instants_stand_between_the_ends() {
        let time = Time { from_ms: -1_000, to_ms: 9_000, instant_ms: 0 };
        assert!(near(time.x(-1_000), LEFT) && near(time.x(9_000), RIGHT));
        assert!(near(time.x(4_000), f64::midpoint(LEFT, RIGHT)));
        assert!(near(time.x(-5_000), LEFT) && near(time.x(90_000), RIGHT));
    }

    #[test]
    fn ticks_count_from_the_instant() {
        let ticks = Time { from_ms: 7_000, to_ms: 45_000, instant_ms: 10_000 }.ticks();
        assert_eq!(ticks.first().unwrap(), &(10_000, "0".to_owned()));
        assert_eq!(ticks[1], (15_000, "+5 s".to_owned()));
        let long = Time { from_ms: 0, to_ms: 900_000, instant_ms: 60_000 }.ticks();
        assert_eq!((long[0].1.as_str(), long[1].1.as_str()), ("0", "+2 min"));
        assert_eq!(long.last().unwrap().1, "+14 min");
        assert!(long.len() <= 16);
    }

    #[test]
    fn upright_scales_end_on_round_numbers() {
        let linear = Upright::linear((10.0, 110.0), 1_730.0);
        assert!(near(linear.most, 2_000.0) && near(linear.y(500.0), 85.0) && near(linear.y(9_999.0), 10.0));
        let powers = Upright::powers((0.0, 90.0), 10.0, 61_000.0);
        assert!(near(powers.most, 100_000.0) && near(powers.y(10.0), 90.0) && near(powers.y(0.0), 90.0));
        assert_eq!(powers.lines().len(), 5);
        assert!(near(powers.y(1_000.0), 45.0), "{}", powers.y(1_000.0));
    }
}
