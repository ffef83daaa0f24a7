//! What is done to the stand in one round, and when: drawn from the seed before the round begins, so that the same seed
//! does the same again. Who leads is only known when it begins, so a step names nodes by number or by rank.

use crate::chaos::links::{Direction, Weather};
use crate::chaos::nemesis::Nemesis;
use crate::chaos::nemesis::draft::Draft;
use crate::types::faults::DiskFault;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A node of the stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In order of how much it leads when the first step is taken; 0 leads the most. Goes round.
    Ranked(usize),
    /// By its number, from 1.
    Node(u16),
}

impl Place {
    /// The node's number; `order` is all nodes, those that lead the most first, and not empty.
    #[must_use]
    pub fn node(self, order: &[u16]) -> u16 {
        match self {
            Self::Ranked(rank) => order[rank % order.len()],
            Self::Node(node) => node,
        }
    }
}

/// Which links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// Of a node with all others, both ways.
    Around(Place),
    /// From a node to all others.
    Out(Place),
    /// From all others to a node.
    In(Place),
    /// Between two, both ways.
    Between(Place, Place),
    /// Between these and all others, both ways.
    Against(Vec<Place>),
}

impl Side {
    /// The directions, among the nodes of `order`.
    #[must_use]
    pub fn directions(&self, order: &[u16]) -> Vec<Direction> {
        let within = |from: u16, to: u16| match self {
            Self::Around(place) => [from, to].contains(&place.node(order)),
            Self::Out(place) => from == place.node(order),
            Self::In(place) => to == place.node(order),
            Self::Between(one, other) => {
                let pair = [one.node(order), other.node(order)];
                pair.contains(&from) && pair.contains(&to)
            }
            Self::Against(places) => {
                let these: Vec<u16> = places.iter().map(|place| place.node(order)).collect();
                these.contains(&from) != these.contains(&to)
            }
        };
        let all = order.iter().flat_map(|from| order.iter().map(|to| (*from, *to)));
        let there = all.filter(|(from, to)| from != to && within(*from, *to));
        there.map(|(from, to)| Direction { from, to }).collect()
    }

    /// The nodes that it names.
    fn places(&self) -> Vec<Place> {
        match self {
            Self::Around(place) | Self::Out(place) | Self::In(place) => vec![*place],
            Self::Between(one, other) => vec![*one, *other],
            Self::Against(places) => places.clone(),
        }
    }
}

/// What the provider of the messages does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderIll {
    Brownout,
    /// Of 100 calls so many are accepted and never answered.
    Timeouts {
        percent: u8,
    },
    Down,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Kill(Place),
    /// One after the other, ranks as they are at each: killed, started `down_ms` later, and the next not before `every_ms`
    /// are over since, while gifts fall due.
    KillAgain {
        places: Vec<Place>,
        every_ms: u64,
        down_ms: u64,
    },
    /// Starts a node that does not run, however it ended.
    Start(Place),
    Pause(Place),
    Resume(Place),
    /// SIGTERM, and its end is waited for.
    Stop(Place),
    /// Puts links under some weather, under a name by which it is lifted.
    Order {
        name: String,
        side: Side,
        weather: Weather,
    },
    Lift {
        name: String,
    },
    /// Sets a node's clock off by so many milliseconds; 0 is right.
    Clock {
        place: Place,
        off_ms: i64,
    },
    Disk {
        place: Place,
        ill: Option<DiskFault>,
    },
    Provider(ProviderIll),
    ProviderWell,
    RedisKill,
    RedisStart,
    Join,
    Drain(Place),
    Undrain(Place),
    Backup,
    /// Waits until every shard has its replicas and a leader, and leaders are spread.
    AwaitWhole,
    /// Waits until all clocks show about the same.
    AwaitClocks,
}

impl Deed {
    /// The nodes that are harmed by it.
    fn victims(&self) -> Vec<Place> {
        match self {
            Self::Kill(place) | Self::Pause(place) | Self::Disk { place, ill: Some(_) } => vec![*place],
            Self::Clock { place, off_ms } if *off_ms != 0 => vec![*place],
            Self::Order { side, .. } => side.places(),
            // Who that is, each kill decides.
            Self::KillAgain { .. }
            | Self::Start(_)
            | Self::Resume(_)
            | Self::Stop(_)
            | Self::Lift { .. }
            | Self::Clock { .. }
            | Self::Disk { .. }
            | Self::Provider(_)
            | Self::ProviderWell
            | Self::RedisKill
            | Self::RedisStart
            | Self::Join
            | Self::Drain(_)
            | Self::Undrain(_)
            | Self::Backup
            | Self::AwaitWhole
            | Self::AwaitClocks => Vec::new(),
        }
    }
}

/// A deed and when: milliseconds from the first step of all, not counting the time that earlier steps of the same track
/// took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at_ms: u64,
    pub deed: Deed,
}

/// When the first step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Once so much of the burst is delivered.
    Delivered { percent: u64 },
    /// So many milliseconds after the burst's instant; negative before it.
    Peak { offset_ms: i64 },
}

/// What a round is drawn from, beside the seed.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// At the begin of the round.
    pub nodes: u16,
    /// How long a fault lasts.
    pub heal_after_ms: u64,
    /// A burst is hit once a part of it from this range is delivered.
    pub after_percent: (u64, u64),
    /// When the first gift is due, from the burst's instant, and for how long gifts fall due from then on.
    pub first_due_ms: i64,
    pub due_for_ms: u64,
    /// From a kill to the next where there are many.
    pub every_ms: u64,
}

/// What is done in a round. The tracks, one for each nemesis, run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub trigger: Trigger,
    pub tracks: Vec<Vec<Step>>,
}

/// The schedule of a round; of several nemeses each takes other nodes, as far as there are enough.
#[must_use]
pub fn draw(nemeses: &[Nemesis], stage: &Stage, seed: u64, round: u32) -> Schedule {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    dice.set_stream(u64::from(round));
    let (from, to) = stage.after_percent;
    let percent = dice.random_range(from..=to.max(from));
    let mut trigger = Trigger::Delivered { percent };
    let mut tracks = Vec::new();
    for (track, nemesis) in nemeses.iter().enumerate() {
        let mut draft = Draft::new(stage, track, &mut dice);
        draft.write(*nemesis);
        if let (Trigger::Delivered { .. }, Some(offset_ms)) = (trigger, draft.at_peak_ms) {
            trigger = Trigger::Peak { offset_ms };
        }
        tracks.push(draft.steps);
    }
    Schedule { trigger, tracks }
}

impl Schedule {
    /// The nodes that are harmed, each once; with `at_once` those of the first moment only.
    #[must_use]
    pub fn victims(&self, order: &[u16], at_once: bool) -> Vec<u16> {
        let mut victims = Vec::new();
        let steps = self.tracks.iter().flatten().filter(|step| !at_once || step.at_ms == 0);
        for node in steps.flat_map(|step| step.deed.victims()).map(|place| place.node(order)) {
            if !victims.contains(&node) {
                victims.push(node);
            }
        }
        victims
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
