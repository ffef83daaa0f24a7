//! Many seeds on all cores, the first of them twice. What a seed does depends on nothing but itself.

use crate::simulation::event::Time;
use crate::simulation::outcome::{FAULTS_GOAL, GIFTS_GOAL};
use crate::simulation::{Options, Outcome, Tracing, run};
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which seeds, and what of each.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub seeds: Range<u64>,
    /// So many of them run again, and have to do the same, byte for byte.
    pub twice: u64,
    /// Minutes with faults of each.
    pub minutes: u64,
    pub threads: usize,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Of all seeds, each counted once.
    pub sum: Outcome,
    /// Seeds, and how many of them ran a second time.
    pub seeds: u64,
    pub twice: u64,
    /// Simulated by second runs, in microseconds.
    pub again: Time,
    /// What first and second runs cost.
    pub core_seconds: f64,
}

/// One thread's part: outcomes by seed, and what they cost.
type Part = Result<(Vec<(u64, Outcome)>, f64), (u64, String)>;

/// How one seed is run again, and shows what led to a violation. What a seed does follows from these two numbers alone.
#[must_use]
pub fn rerun(seed: u64, minutes: u64) -> String {
    format!("rerun: bojagi simulate --seed {seed} --seeds 1 --minutes {minutes} --traced")
}

impl Campaign {
    /// Runs all seeds; `core_seconds` says what the calling thread spent so far.
    ///
    /// # Errors
    /// The violation of the lowest seed that has one, with what repeats it; seeds behind it may not have been run.
    pub fn run(&self, tracing: Tracing, core_seconds: impl Fn() -> f64 + Sync) -> Result<Summary, String> {
        let next = AtomicU64::new(self.seeds.start);
        let part = || self.part(&next, tracing, &core_seconds);
        let parts: Vec<Part> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(part)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let failed = parts.iter().filter_map(|part| part.as_ref().err()).min();
        if let Some((seed, violation)) = failed {
            return Err(format!("seed {seed} {violation}\n{}", rerun(*seed, self.minutes)));
        }
        let mut summary = Summary { twice: self.twice.min(self.seeds.end - self.seeds.start), ..Summary::default() };
        let mut done = Vec::new();
        for (outcomes, cost) in parts.into_iter().flatten() {
            summary.core_seconds += cost;
            done.extend(outcomes);
        }
        done.sort_unstable_by_key(|(seed, _)| *seed);
        for (seed, outcome) in &done {
            summary.seeds += 1;
            summary.sum.add(outcome);
            if self.is_twice(*seed) {
                summary.again += outcome.simulated;
            }
        }
        Ok(summary)
    }

    fn is_twice(&self, seed: u64) -> bool {
        seed < self.seeds.start + self.twice
    }

    fn part(&self, next: &AtomicU64, tracing: Tracing, core_seconds: &impl Fn() -> f64) -> Part {
        let (began, mut done) = (core_seconds(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !self.seeds.contains(&seed) {
                return Ok((done, core_seconds() - began));
            }
            let options = Options::of_seed(seed, self.minutes);
            let outcome = self.hold(&options, tracing).map_err(|violation| {
                // The others end with the seeds that they are at.
                next.store(self.seeds.end, Ordering::Relaxed);
                (seed, violation)
            })?;
            done.push((seed, outcome));
        }
    }

    /// Runs a seed, again with the end of its trace when it does not hold, and again when it has to do the same.
    fn hold(&self, options: &Options, tracing: Tracing) -> Result<Outcome, String> {
        let outcome = run(options, tracing).map_err(|violation| match tracing {
            Tracing::Off => run(options, Tracing::Last).err().unwrap_or(violation),
            Tracing::Last | Tracing::Whole => violation,
        })?;
        if self.is_twice(options.seed) && run(options, tracing)? != outcome {
            return Err(format!("is not deterministic\n  {options}"));
        }
        Ok(outcome)
    }
}

impl Summary {
    /// What the campaign falls short of: classes of faults that never struck, parts of the product that were left out, and
    /// rates. Its speed is the machine's matter.
    #[must_use]
    pub fn shortfalls(&self) -> Vec<String> {
        let never = self.sum.coverage.never();
        let classes = never.into_iter().map(|class| format!("no fault of the class {}", class.name()));
        let faults = (self.sum.fault_rate(), FAULTS_GOAL, "faults");
        let gifts = (self.sum.gift_rate(), GIFTS_GOAL, "acknowledged gifts");
        let missed = [faults, gifts].into_iter().filter(|(reached, goal, _)| reached < goal);
        let unmet = self.sum.unmet().map(|what| format!("no {what}"));
        classes
            .chain(unmet)
            .chain(missed.map(|(reached, goal, what)| format!("{reached:.0} {what} a cluster-hour, not {goal:.0}")))
            .collect()
    }

    /// What closes a campaign.
    #[must_use]
    pub fn closing_lines(&self, first: u64) -> String {
        let again = Outcome { simulated: self.again, ..Outcome::default() }.hours();
        let hours = self.sum.hours();
        let share = self.core_seconds * hours / (hours + again).max(f64::MIN_POSITIVE);
        format!(
            "seeds {first}..{} of whole clusters, {} of them run twice and equal: {:.1} cluster-hours in all, {:.0} s of a \
             core\n{}\n{}",
            first + self.seeds,
            self.twice,
            hours + again,
            self.core_seconds,
            self.sum.coverage.lines(),
            self.sum.closing_lines(share)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::FaultClass;
    use crate::simulation::coverage::Recent;
    use crate::simulation::event::MINUTE;

    #[test]
    fn what_a_campaign_falls_short_of_is_named() {
        let mut sum = Outcome {
            simulated: 60 * MINUTE,
            gifts: 1_000,
            refunded: 1,
            absorbed: 1,
            coupons: 1,
            parts: 1,
            orders: 1,
            booked: 1,
            unbooked: 1,
            snapshots: 1,
            changes: 1,
            dropped: 1,
            reads: 1,
            hand_overs: 1,
            ..Outcome::default()
        };
        let mut recent = Recent::default();
        let all_but_move = FaultClass::ALL.into_iter().filter(|class| *class != FaultClass::Move);
        all_but_move.for_each(|class| sum.coverage.strike(class, (0, 0), &mut recent));
        let said = |sum: &Outcome| Summary { sum: sum.clone(), ..Summary::default() }.shortfalls();
        assert_eq!(said(&sum), ["no fault of the class move", "28 faults a cluster-hour, not 50"]);
        (0..22).for_each(|_| sum.coverage.strike(FaultClass::Move, (0, 0), &mut recent));
        assert_eq!(said(&sum), [""; 0]);
        (sum.gifts, sum.snapshots) = (999, 0);
        assert_eq!(said(&sum), ["no snapshot", "999 acknowledged gifts a cluster-hour, not 1000"]);
    }
}
