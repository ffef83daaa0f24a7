//! The schedule of each nemesis.

use crate::chaos::links::Weather;
use crate::chaos::nemesis::Nemesis;
use crate::chaos::nemesis::schedule::{Deed, Place, ProviderIll, Side, Stage, Step};
use crate::types::faults::DiskFault;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::ops::RangeInclusive;

/// A kill at the peak comes within so much of the instant, before or after it.
const NEAR_PEAK_MS: i64 = 1_000;
/// Clocks are set off so long before the instant: what leaves early must have time to.
const BEFORE_PEAK_MS: RangeInclusive<i64> = -8_000..=-4_000;
/// How far clocks are set off: from less than a node that is off may be, to far more.
const CLOCK_OFF_MS: RangeInclusive<i64> = 2_000..=30_000;
/// From the start of a killed node to the kill of the next, while the first one catches up.
const RECOVERING_MS: RangeInclusive<u64> = 300..=1_500;
/// Between the nodes of a rolling kill or restart, each whole again.
const BETWEEN_MS: RangeInclusive<u64> = 500..=2_000;
const CUT_MS: RangeInclusive<u64> = 200..=1_500;
const MENDED_MS: RangeInclusive<u64> = 300..=2_000;
const DELAY_MS: RangeInclusive<u32> = 50..=300;
const LOSS_PER_MILLE: RangeInclusive<u16> = 10..=50;
const SLOW_SYNC_MS: RangeInclusive<u32> = 50..=500;
const TIMEOUT_PERCENT: u8 = 20;
/// The first of many kills comes so long after the first gift is due.
const UNDER_WAY_MS: RangeInclusive<i64> = 1_000..=3_000;
/// Of many kills, so many hit the node that leads the most.
const BUSIEST_PERMILLE: u32 = 700;

/// One track of a schedule while it is drawn.
pub(super) struct Draft<'a> {
    stage: &'a Stage,
    track: usize,
    dice: &'a mut ChaCha8Rng,
    pub(super) steps: Vec<Step>,
    /// Where the round must begin by the instant rather than by what is delivered.
    pub(super) at_peak_ms: Option<i64>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(stage: &'a Stage, track: usize, dice: &'a mut ChaCha8Rng) -> Self {
        Self { stage, track, dice, steps: Vec::new(), at_peak_ms: None }
    }

    pub(super) fn write(&mut self, nemesis: Nemesis) {
        let busiest = self.ranked(0);
        match nemesis {
            // Nothing is waited for, so that nothing is looked at for it.
            Nemesis::None => self.at_peak_ms = Some(0),
            Nemesis::KillBusiest => self.kill(0, busiest),
            Nemesis::KillRandom => {
                let any = self.any();
                self.kill(0, any);
            }
            Nemesis::KillAtPeak => {
                self.at_peak_ms = Some(self.dice.random_range(-NEAR_PEAK_MS..=NEAR_PEAK_MS));
                self.kill(0, busiest);
            }
            Nemesis::KillTwo => self.kill_first(2),
            Nemesis::KillMajority => self.kill_first(self.stage.nodes / 2 + 1),
            Nemesis::KillAll => self.kill_first(self.stage.nodes),
            Nemesis::RollingKills => self.rolling(Deed::Kill, self.stage.heal_after_ms),
            Nemesis::KillDuringRecovery => self.kill_during_recovery(busiest),
            Nemesis::KillAgain => self.kill_again(busiest),
            Nemesis::PauseBusiest => self.pause(busiest),
            Nemesis::PauseRandom => {
                let any = self.any();
                self.pause(any);
            }
            Nemesis::CutBusiest => self.weather(Side::Around(busiest), Weather::Cut),
            Nemesis::CutOut => self.weather(Side::Out(busiest), Weather::Cut),
            Nemesis::CutIn => self.weather(Side::In(busiest), Weather::Cut),
            Nemesis::CutPair => self.weather(Side::Between(busiest, self.ranked(1)), Weather::Cut),
            Nemesis::Split => {
                let few = self.minority();
                self.weather(Side::Against(few), Weather::Cut);
            }
            Nemesis::Swizzle => self.swizzle(),
            Nemesis::Flap => self.flap(),
            Nemesis::Delay => {
                let ms = self.dice.random_range(DELAY_MS);
                self.weather(Side::Around(busiest), Weather::Delay { ms, jitter_ms: ms / 2 });
            }
            Nemesis::Loss => {
                let per_mille = self.dice.random_range(LOSS_PER_MILLE);
                self.weather(Side::Around(busiest), Weather::Loss { per_mille });
            }
            Nemesis::ClockAhead => self.clocks_off(1),
            Nemesis::ClockBehind => self.clocks_off(-1),
            Nemesis::ClockJumps => self.clock_jumps(busiest),
            Nemesis::DiskFull => self.disk(busiest, DiskFault::Full),
            Nemesis::DiskFailing => self.disk(busiest, DiskFault::Failing),
            Nemesis::DiskSlow => {
                let ms = self.dice.random_range(SLOW_SYNC_MS);
                self.disk(busiest, DiskFault::Slow { ms });
            }
            Nemesis::ProviderBrownout => self.provider(ProviderIll::Brownout),
            Nemesis::ProviderTimeouts => self.provider(ProviderIll::Timeouts { percent: TIMEOUT_PERCENT }),
            Nemesis::ProviderDown => self.provider(ProviderIll::Down),
            Nemesis::RedisGone => self.between(Deed::RedisKill, Deed::RedisStart),
            Nemesis::Join => {
                self.at(0, Deed::Join);
                self.at(0, Deed::AwaitWhole);
            }
            Nemesis::Drain => {
                self.between(Deed::Drain(busiest), Deed::Undrain(busiest));
                self.at(self.stage.heal_after_ms, Deed::AwaitWhole);
            }
            Nemesis::RollingRestart => self.rolling(Deed::Stop, 0),
            Nemesis::Backup => self.at(0, Deed::Backup),
        }
    }

    /// The next one dies while the first catches up.
    fn kill_during_recovery(&mut self, busiest: Place) {
        let second_ms = self.stage.heal_after_ms + self.dice.random_range(RECOVERING_MS);
        self.kill(0, busiest);
        self.kill(second_ms, self.ranked(1));
    }

    fn at(&mut self, at_ms: u64, deed: Deed) {
        self.steps.push(Step { at_ms, deed });
    }

    /// The fault from the begin until it heals.
    fn between(&mut self, begin: Deed, end: Deed) {
        self.at(0, begin);
        self.at(self.stage.heal_after_ms, end);
    }

    /// Another track's ranks come after this one's.
    fn ranked(&self, rank: usize) -> Place {
        Place::Ranked(rank + self.track)
    }

    fn any(&mut self) -> Place {
        Place::Node(self.dice.random_range(1..=self.stage.nodes))
    }

    fn shuffled(&mut self) -> Vec<Place> {
        let mut nodes: Vec<Place> = (1..=self.stage.nodes).map(Place::Node).collect();
        nodes.shuffle(self.dice);
        nodes
    }

    /// As many as can be off while the others are a majority, and at least one.
    fn minority(&mut self) -> Vec<Place> {
        let count = usize::from(self.stage.nodes.saturating_sub(1) / 2).max(1);
        self.shuffled().into_iter().take(count).collect()
    }

    fn kill(&mut self, at_ms: u64, place: Place) {
        self.at(at_ms, Deed::Kill(place));
        self.at(at_ms + self.stage.heal_after_ms, Deed::Start(place));
    }

    fn kill_first(&mut self, count: u16) {
        let places: Vec<Place> = (0..usize::from(count.min(self.stage.nodes))).map(|rank| self.ranked(rank)).collect();
        places.iter().for_each(|place| self.at(0, Deed::Kill(*place)));
        places.iter().for_each(|place| self.at(self.stage.heal_after_ms, Deed::Start(*place)));
    }

    /// As many as the round has time for, if no recovery takes long.
    fn kill_again(&mut self, busiest: Place) {
        let Stage { first_due_ms, due_for_ms, every_ms, heal_after_ms, .. } = *self.stage;
        self.at_peak_ms = Some(first_due_ms + self.dice.random_range(UNDER_WAY_MS));
        let most = |dice: &mut ChaCha8Rng| dice.random_ratio(BUSIEST_PERMILLE, 1_000);
        let kills = 1 + due_for_ms / every_ms.max(1);
        let places = (0..kills).map(|_| if most(self.dice) { busiest } else { self.any() }).collect();
        self.at(0, Deed::KillAgain { places, every_ms, down_ms: heal_after_ms });
    }

    fn rolling(&mut self, end: fn(Place) -> Deed, down_ms: u64) {
        let mut at_ms = 0;
        for place in self.shuffled() {
            self.at(at_ms, end(place));
            at_ms += down_ms;
            self.at(at_ms, Deed::Start(place));
            self.at(at_ms, Deed::AwaitWhole);
            at_ms += self.dice.random_range(BETWEEN_MS);
        }
    }

    fn pause(&mut self, place: Place) {
        self.between(Deed::Pause(place), Deed::Resume(place));
    }

    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.track)
    }

    fn weather(&mut self, side: Side, weather: Weather) {
        let name = self.name("links");
        self.between(Deed::Order { name: name.clone(), side, weather }, Deed::Lift { name });
    }

    fn swizzle(&mut self) {
        let nodes = self.shuffled();
        let count = self.dice.random_range(2.min(nodes.len())..=nodes.len());
        let mut back: Vec<Place> = nodes.into_iter().take(count).collect();
        let span_ms = self.stage.heal_after_ms;
        let mut at_ms = 0;
        for place in &back {
            let name = self.name(&format!("{place:?}"));
            self.at(at_ms, Deed::Order { name, side: Side::Around(*place), weather: Weather::Cut });
            at_ms += self.dice.random_range(0..=span_ms / (2 * count as u64));
        }
        back.shuffle(self.dice);
        at_ms = at_ms.max(span_ms / 2);
        for place in back {
            at_ms += self.dice.random_range(0..=span_ms / (2 * count as u64));
            let name = self.name(&format!("{place:?}"));
            self.at(at_ms, Deed::Lift { name });
        }
    }

    fn flap(&mut self) {
        let side = Side::Around(self.any());
        let name = self.name("links");
        let mut at_ms = 0;
        while at_ms < self.stage.heal_after_ms.max(1) {
            self.at(at_ms, Deed::Order { name: name.clone(), side: side.clone(), weather: Weather::Cut });
            at_ms += self.dice.random_range(CUT_MS);
            self.at(at_ms, Deed::Lift { name: name.clone() });
            at_ms += self.dice.random_range(MENDED_MS);
        }
    }

    /// A minority's clocks, ahead or back; right again after a while.
    fn clocks_off(&mut self, sign: i64) {
        self.at_peak_ms = Some(self.dice.random_range(BEFORE_PEAK_MS));
        let few = self.minority();
        for place in &few {
            let off_ms = sign * self.dice.random_range(CLOCK_OFF_MS);
            self.at(0, Deed::Clock { place: *place, off_ms });
        }
        self.clocks_right(&few);
    }

    fn clock_jumps(&mut self, place: Place) {
        self.at_peak_ms = Some(self.dice.random_range(BEFORE_PEAK_MS));
        let mut at_ms = 0;
        while at_ms < self.stage.heal_after_ms.max(1) {
            let far_ms = self.dice.random_range(CLOCK_OFF_MS);
            let off_ms = if self.dice.random_bool(0.5) { far_ms } else { -far_ms };
            self.at(at_ms, Deed::Clock { place, off_ms });
            at_ms += self.dice.random_range(MENDED_MS);
        }
        self.clocks_right(&[place]);
    }

    fn clocks_right(&mut self, places: &[Place]) {
        let end_ms = self.steps.last().map_or(0, |step| step.at_ms).max(self.stage.heal_after_ms);
        places.iter().for_each(|place| self.at(end_ms, Deed::Clock { place: *place, off_ms: 0 }));
        self.at(end_ms, Deed::AwaitClocks);
    }

    /// A node ends by itself when its disk is full or fails, and is started again when the disk is well.
    fn disk(&mut self, place: Place, ill: DiskFault) {
        self.between(Deed::Disk { place, ill: Some(ill) }, Deed::Disk { place, ill: None });
        self.at(self.stage.heal_after_ms, Deed::Start(place));
    }

    fn provider(&mut self, ill: ProviderIll) {
        self.between(Deed::Provider(ill), Deed::ProviderWell);
    }
}
