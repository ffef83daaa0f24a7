//! Carries a schedule out on the stand, and takes down what was done.

use crate::chaos::ChaosError;
use crate::chaos::gauge::{Blow, Gauge};
use crate::chaos::happening::{Diary, Target};
use crate::chaos::links::{Direction, Ways, Weather};
use crate::chaos::nemesis::schedule::{Deed, Place, ProviderIll, Schedule, Side, Step};
use crate::chaos::redis::Redis;
use crate::chaos::stand::Stand;
use crate::types::faults::DiskFault;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The provider that the bursts go through first.
const PROVIDER: &str = "nhn";

/// What is done in one round.
pub struct Harm<'a> {
    pub(super) stand: &'a Stand,
    pub(super) gauge: &'a Gauge<'a>,
    diary: &'a Diary,
    /// All nodes, those that lead the most first.
    pub(super) order: Vec<u16>,
    blows: Mutex<Vec<Blow>>,
    /// Faults of the provider that are in force.
    provider: Mutex<Vec<u64>>,
    /// What the diary says to be so, as often as it was begun.
    open: Mutex<Vec<(Target, String)>>,
}

impl<'a> Harm<'a> {
    /// `order` is all nodes, those that lead the most first, and not empty.
    #[must_use]
    pub fn new(gauge: &'a Gauge<'a>, diary: &'a Diary, order: Vec<u16>) -> Self {
        let (blows, provider, open) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { stand: gauge.stand, gauge, diary, order, blows, provider, open }
    }

    /// Takes every step of every track at its time; the kills.
    ///
    /// # Errors
    /// [`ChaosError`]: the stand does not do what a step needs, or a node ended that nobody ended.
    pub async fn carry_out(self, schedule: &Schedule) -> Result<Vec<Blow>, ChaosError> {
        try_join_all(schedule.tracks.iter().map(|track| self.take(track))).await?;
        self.none_fell().await?;
        Ok(self.blows.into_inner())
    }

    /// # Errors
    /// [`ChaosError::Stand`]: a node ended that nobody ended.
    pub(super) async fn none_fell(&self) -> Result<(), ChaosError> {
        let fallen = self.stand.members.fallen().await;
        if fallen.is_empty() {
            return Ok(());
        }
        Err(ChaosError::Stand(format!("nodes {fallen:?} ended by themselves: see their logs")))
    }

    /// One track. Its clock stands still while a step takes its time.
    async fn take(&self, track: &[Step]) -> Result<(), ChaosError> {
        let mut begin = Instant::now();
        let mut rest = track;
        while let Some(first) = rest.first() {
            sleep_until(begin + Duration::from_millis(first.at_ms)).await;
            let began = Instant::now();
            let kills = kills_at_once(rest);
            if kills.is_empty() {
                self.act(&first.deed).await?;
            } else {
                self.kill(kills.iter().map(|place| self.node(*place))).await?;
            }
            begin += began.elapsed();
            rest = &rest[kills.len().max(1)..];
        }
        Ok(())
    }

    fn node(&self, place: Place) -> u16 {
        place.node(&self.order)
    }

    /// Kills several at one moment, once it was looked at what that hits.
    pub(super) async fn kill(&self, nodes: impl Iterator<Item = u16>) -> Result<(), ChaosError> {
        let at_ms = self.diary.elapsed_ms();
        let blows = try_join_all(nodes.map(|node| self.gauge.blow(node, at_ms))).await?;
        for blow in blows {
            if self.stand.members.kill(blow.node).await? {
                self.begin(Target::Node(blow.node), "killed");
                let at_ms_since_round_start = self.diary.elapsed_ms();
                self.blows.lock().push(Blow { at_ms_since_round_start, ..blow });
            }
        }
        Ok(())
    }

    async fn act(&self, deed: &Deed) -> Result<(), ChaosError> {
        match deed {
            Deed::Kill(place) => self.kill(std::iter::once(self.node(*place))).await,
            Deed::KillAgain { places, every_ms, down_ms } => self.kill_again(places, *every_ms, *down_ms).await,
            Deed::Start(place) => self.start(self.node(*place)).await,
            Deed::Pause(place) => self.freeze(self.node(*place), true).await,
            Deed::Resume(place) => self.freeze(self.node(*place), false).await,
            Deed::Stop(place) => {
                let node = self.node(*place);
                self.begin(Target::Node(node), "stopped");
                self.stand.members.stop(node).await.map(drop)
            }
            Deed::Order { name, side, weather } => self.order_links(name, side, *weather),
            Deed::Lift { name } => self.lift_links(name),
            Deed::Clock { place, off_ms } => self.set_clock(self.node(*place), *off_ms),
            Deed::Disk { place, ill } => self.set_disk(self.node(*place), *ill),
            Deed::Provider(ill) => self.sicken_provider(*ill).await,
            Deed::ProviderWell => self.heal_provider().await,
            Deed::RedisKill => {
                self.begin(Target::Redis, "killed");
                self.redis()?.kill().await
            }
            Deed::RedisStart => {
                self.redis()?.start_again().await?;
                self.end_all(Target::Redis);
                Ok(())
            }
            Deed::Join => {
                let node = self.stand.members.count().await + 1;
                self.begin(Target::Node(node), "joining");
                self.stand.join(node).await?;
                self.end_all(Target::Node(node));
                Ok(())
            }
            Deed::Drain(place) => self.drain(self.node(*place)).await,
            Deed::Undrain(place) => {
                let node = self.node(*place);
                self.stand.operate(&["drain", &node.to_string(), "--undo"]).await?;
                self.end(Target::Node(node), "drained");
                Ok(())
            }
            Deed::Backup => self.back_up().await,
            Deed::AwaitWhole => self.stand.until_whole().await,
            Deed::AwaitClocks => self.stand.until_clocks_agree().await,
        }
    }

    pub(super) async fn start(&self, node: u16) -> Result<(), ChaosError> {
        if self.stand.members.start(node).await? {
            self.end_all(Target::Node(node));
        }
        Ok(())
    }

    async fn freeze(&self, node: u16, frozen: bool) -> Result<(), ChaosError> {
        if self.stand.members.freeze(node, frozen).await? {
            let note = if frozen { Self::begin } else { Self::end };
            note(self, Target::Node(node), "paused");
        }
        Ok(())
    }

    fn ways(&self) -> Result<&Ways, ChaosError> {
        let none = || ChaosError::Stand("there are no proxies before the links".to_owned());
        self.stand.ways.as_ref().ok_or_else(none)
    }

    fn order_links(&self, name: &str, side: &Side, weather: Weather) -> Result<(), ChaosError> {
        let directions = side.directions(&self.order);
        self.ways()?.order(name, &directions, weather)?;
        for Direction { from, to } in directions {
            self.begin(Target::Link { from, to }, &weather.to_string());
        }
        Ok(())
    }

    fn lift_links(&self, name: &str) -> Result<(), ChaosError> {
        let Some((directions, weather)) = self.ways()?.lift(name)? else { return Ok(()) };
        for Direction { from, to } in directions {
            self.end(Target::Link { from, to }, &weather.to_string());
        }
        Ok(())
    }

    fn set_clock(&self, node: u16, off_ms: i64) -> Result<(), ChaosError> {
        self.end_all(Target::Clock(node));
        self.stand.members.order_clock(node, off_ms)?;
        if off_ms != 0 {
            let way = if off_ms > 0 { "ahead" } else { "behind" };
            self.begin(Target::Clock(node), &format!("{} ms {way}", off_ms.abs()));
        }
        Ok(())
    }

    fn set_disk(&self, node: u16, ill: Option<DiskFault>) -> Result<(), ChaosError> {
        self.stand.members.order_disk(node, ill)?;
        match ill {
            Some(ill) => self.begin(Target::Disk(node), &ill.name()),
            None => self.end_all(Target::Disk(node)),
        }
        Ok(())
    }

    async fn sicken_provider(&self, ill: ProviderIll) -> Result<(), ChaosError> {
        let (name, faults) = provider_faults(ill);
        self.begin(Target::Provider, name);
        for fault in faults {
            let ordered = self.stand.order_of_provider(&fault).await?;
            self.provider.lock().push(ordered);
        }
        Ok(())
    }

    async fn heal_provider(&self) -> Result<(), ChaosError> {
        let ordered = std::mem::take(&mut *self.provider.lock());
        for fault in ordered {
            self.stand.lift_of_provider(fault).await?;
        }
        self.end_all(Target::Provider);
        Ok(())
    }

    fn redis(&self) -> Result<&Redis, ChaosError> {
        let none = || ChaosError::Stand("there is no Redis beside the nodes".to_owned());
        self.stand.redis.as_ref().ok_or_else(none)
    }

    /// Until the node leads nothing; its replicas move as far as there is where to.
    async fn drain(&self, node: u16) -> Result<(), ChaosError> {
        self.begin(Target::Node(node), "drained");
        self.stand.operate(&["drain", &node.to_string(), "--yes"]).await?;
        let leads = |view: &Value, node: u16| {
            let rows = view["nodes"].as_array().into_iter().flatten();
            rows.filter(|row| row["id"] == node).filter_map(|row| row["leads"].as_u64()).sum::<u64>()
        };
        self.stand.until(&format!("without leaders on node {node}"), |view| leads(view, node) == 0).await
    }

    async fn back_up(&self) -> Result<(), ChaosError> {
        let name = format!("backup-at-{}", self.gauge.due.0);
        let (to, keys) = (self.stand.path(&name), self.stand.path(&format!("{name}.keys")));
        let (to, keys) = (to.display().to_string(), keys.display().to_string());
        self.begin(Target::Cluster, "backed up");
        self.stand.operate(&["backup", "--to", &to, "--keys-to", &keys]).await?;
        self.end_all(Target::Cluster);
        Ok(())
    }

    fn begin(&self, target: Target, name: &str) {
        let mut open = self.open.lock();
        let one = (target, name.to_owned());
        if !open.contains(&one) {
            self.diary.began(target, name);
        }
        open.push(one);
    }

    /// Ended once as often as begun.
    fn end(&self, target: Target, name: &str) {
        let mut open = self.open.lock();
        let is_it = |one: &(Target, String)| one.0 == target && one.1 == name;
        let Some(place) = open.iter().position(is_it) else { return };
        open.remove(place);
        if !open.iter().any(is_it) {
            self.diary.ended(target, name);
        }
    }

    fn end_all(&self, target: Target) {
        loop {
            let first = self.open.lock().iter().find(|(of, _)| *of == target).cloned();
            let Some((_, name)) = first else { return };
            self.end(target, &name);
        }
    }
}

/// The kills that stand at the begin of these steps with the same time.
fn kills_at_once(steps: &[Step]) -> Vec<Place> {
    let at_ms = steps.first().map(|step| step.at_ms);
    let at_once = steps.iter().take_while(|step| Some(step.at_ms) == at_ms);
    at_once.map_while(|step| if let Deed::Kill(place) = step.deed { Some(place) } else { None }).collect()
}

/// Orders for the sandbox.
fn provider_faults(ill: ProviderIll) -> (&'static str, Vec<Value>) {
    let fault =
        |kind: &str, probability: f64| json!({ "provider": PROVIDER, "kind": kind, "probability": probability });
    let with = |mut fault: Value, name: &str, value: Value| {
        fault[name] = value;
        fault
    };
    match ill {
        ProviderIll::Brownout => {
            let unavailable = with(fault("server_error", 0.3), "status", json!(503));
            let after = with(fault("server_error", 0.15), "when", json!("after_accept"));
            ("brown-out", vec![fault("rate_limit", 0.4), unavailable, after])
        }
        ProviderIll::Timeouts { percent } => {
            ("accepts and does not answer", vec![fault("accept_then_drop", f64::from(percent) / 100.0)])
        }
        ProviderIll::Down => ("down", vec![fault("down", 1.0)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_of_one_moment_are_one_blow() {
        let step = |at_ms, deed| Step { at_ms, deed };
        let (one, two) = (Place::Ranked(0), Place::Ranked(1));
        let steps =
            [step(0, Deed::Kill(one)), step(0, Deed::Kill(two)), step(5, Deed::Kill(one)), step(5, Deed::Start(two))];
        assert_eq!(kills_at_once(&steps), [one, two]);
        assert_eq!(kills_at_once(&steps[2..]), [one]);
        assert_eq!(kills_at_once(&steps[3..]), []);
    }

    #[test]
    fn a_brown_out_refuses_most_calls_and_some_after_it_accepted() {
        let (_, faults) = provider_faults(ProviderIll::Brownout);
        let kinds: Vec<&str> = faults.iter().filter_map(|fault| fault["kind"].as_str()).collect();
        assert_eq!(kinds, ["rate_limit", "server_error", "server_error"]);
        assert_eq!((faults[1]["status"].as_u64(), faults[2]["when"].as_str()), (Some(503), Some("after_accept")));
    }
}
