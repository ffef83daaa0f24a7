//! What a direction of a link is like, and what several orders over it make together.

use rand::Rng;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The least time after which TCP sends a lost segment again; doubled with each further loss of it.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// A segment is not lost more often than so, in a row.
const LOSSES_MAX: u32 = 4;

/// The bytes of one node to another. Nodes count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Direction {
    pub from: u16,
    pub to: u16,
}

impl Direction {
    /// The other way round.
    #[must_use]
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// Bytes are taken in and held back.
    Cut,
    /// Each piece comes so much later, and up to `jitter_ms` more; in order, as TCP keeps it.
    Delay { ms: u32, jitter_ms: u32 },
    /// Of 1,000 pieces so many are lost, and sent again: a stall of all behind them.
    Loss { per_mille: u16 },
}

impl fmt::Display for Weather {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => write!(out, "cut"),
            Self::Delay { ms, jitter_ms } => write!(out, "delay {ms}-{} ms", ms + jitter_ms),
            Self::Loss { per_mille } => write!(out, "loss {}.{} %", per_mille / 10, per_mille % 10),
        }
    }
}

/// What holds for a direction now; clear by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) cut: bool,
    delay_ms: u32,
    jitter_ms: u32,
    loss_per_mille: u16,
}

impl Conditions {
    /// The worst of each kind.
    pub(super) fn under(orders: impl Iterator<Item = Weather>) -> Self {
        let mut now = Self::default();
        for weather in orders {
            match weather {
                Weather::Cut => now.cut = true,
                Weather::Delay { ms, jitter_ms } => {
                    now.delay_ms = now.delay_ms.max(ms);
                    now.jitter_ms = now.jitter_ms.max(jitter_ms);
                }
                Weather::Loss { per_mille } => now.loss_per_mille = now.loss_per_mille.max(per_mille),
            }
        }
        now
    }

    /// As netem is told: a delay and how far it varies both ways, and the share that is lost.
    pub(super) fn netem(self) -> Vec<String> {
        let half = self.jitter_ms / 2;
        let mut words = Vec::new();
        if self.delay_ms + self.jitter_ms > 0 {
            words.extend(["delay".to_owned(), format!("{}ms", self.delay_ms + half), format!("{half}ms")]);
        }
        if self.loss_per_mille > 0 {
            words.extend(["loss".to_owned(), format!("{}.{}%", self.loss_per_mille / 10, self.loss_per_mille % 10)]);
        }
        words
    }

    /// How much later a piece comes that is sent now.
    pub(super) fn lag(self, dice: &mut impl Rng) -> Duration {
        let jitter_ms = if self.jitter_ms == 0 { 0 } else { dice.random_range(0..=self.jitter_ms) };
        let mut lag = Duration::from_millis(u64::from(self.delay_ms) + u64::from(jitter_ms));
        let mut losses = 0;
        while losses < LOSSES_MAX && self.loss_per_mille > 0 && dice.random_range(0..1_000) < self.loss_per_mille {
            lag += RETRANSMIT * (1 << losses);
            losses += 1;
        }
        lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn several_orders_make_the_worst_of_each_kind() {
        let orders = [Weather::Delay { ms: 50, jitter_ms: 5 }, Weather::Cut, Weather::Delay { ms: 20, jitter_ms: 9 }];
        let now = Conditions::under(orders.into_iter());
        assert_eq!(now, Conditions { cut: true, delay_ms: 50, jitter_ms: 9, loss_per_mille: 0 });
        assert_eq!(Conditions::under(std::iter::empty()), Conditions::default());
    }

    #[test]
    fn a_clear_direction_does_not_lag_and_a_bad_one_stays_in_its_bounds() {
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(Conditions::default().lag(&mut dice), Duration::ZERO);
        let slow = Conditions::under([Weather::Delay { ms: 50, jitter_ms: 10 }].into_iter());
        let lags: Vec<u128> = (0..200).map(|_| slow.lag(&mut dice).as_millis()).collect();
        assert!(lags.iter().all(|lag| (50..=60).contains(lag)) && lags.iter().any(|lag| *lag > 50), "{lags:?}");
        let lossy = Conditions::under([Weather::Loss { per_mille: 100 }].into_iter());
        let stalls = (0..1_000).filter(|_| lossy.lag(&mut dice) >= RETRANSMIT).count();
        assert!((50..=200).contains(&stalls), "{stalls} of 1,000 at 10 %");
        let hopeless = Conditions::under([Weather::Loss { per_mille: 1_000 }].into_iter());
        assert_eq!(hopeless.lag(&mut dice), RETRANSMIT * 15);
    }
}
