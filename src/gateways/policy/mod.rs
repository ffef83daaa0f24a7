//! Policy of one provider: what may be granted when. Pure: the clock is an argument, the RNG is seeded, nothing waits.
//!
//! Order of the questions, and what each answers when it says no:
//! 1. pause (`Retry-After`, or a jittered backoff after a 429 without it): not before an instant;
//! 2. breaker: not before an instant, or after a probe came back; until it is closed the provider counts as away;
//! 3. concurrency: after a call came back;
//! 4. rate: not before an instant;
//! 5. the fleet's quota, where there is one: after a grant.
//!
//! Sends and notices share all of it. Notices get at most a share: of the concurrency limit, of the rate (a bucket of
//! their own), and they leave the rest of the burst alone, so that a burst of sends never finds it spent by reminders.
//!
//! All instants are of the clock that the caller passes (wall time, which the dev clock moves), so a moved clock moves
//! refills, pauses and breakers alike. Calls in flight have real deadlines elsewhere.

pub mod backoff;
pub mod breaker;
pub mod concurrency;
pub mod fleet;
pub mod rate;

use crate::types::quota::QuotaAnswer;
use crate::types::time::{Millis, Timestamp};
use backoff::{Backoff, Ramp};
use breaker::{Breaker, BreakerRules, BreakerState, End, Epoch, Gate, Turn};
use concurrency::{Bounds, Concurrency, Micros};
use fleet::{FleetGate, FleetWait};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rate::{FULL_PERMILLE, Rate, TokenBucket};

/// Sends come first; notices take what a share allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Send,
    Notice,
}

/// The rules of one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub rate: Rate,
    pub concurrency: Bounds,
    /// What notices may take of rate, burst and concurrency, in thousandths.
    pub notice_permille: u32,
    pub breaker: BreakerRules,
    /// Pause after a 429 that names none.
    pub throttle: Backoff,
    /// A longer `Retry-After` is cut to this.
    pub pause_max: Millis,
    /// Time from the end of an outage or a pause to full rate.
    pub slow_start: Millis,
    /// Rate at the beginning of it, in thousandths.
    pub slow_start_permille: u32,
}

/// Attempts that are granted and not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub sends: u32,
    pub notices: u32,
}

impl Open {
    #[must_use]
    pub fn total(self) -> u32 {
        self.sends.saturating_add(self.notices)
    }
}

/// Goes with a granted call and comes back with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    epoch: Epoch,
    granted: Timestamp,
}

impl Pass {
    /// From the grant to `now`.
    fn held(self, now: Timestamp) -> Micros {
        let millis = u64::try_from((now - self.granted).0).unwrap_or(0);
        Micros(millis.saturating_mul(1_000))
    }
}

/// Answer to one ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Granted(Pass),
    /// Ask again at this instant.
    At(Timestamp),
    /// Ask again when an open attempt came back.
    AfterReturn,
    /// Ask again when permits of the fleet's quota came: [`Policy::ask_fleet`].
    AfterGrant,
    /// The provider is away since `since`.
    Away {
        since: Timestamp,
        how: Absence,
    },
}

/// How a provider is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It asked for a pause.
    Pause { until: Timestamp },
    /// The breaker is open.
    Shut { until: Timestamp },
    /// All probes are out: one of them has to come back.
    Probed,
}

/// What a call showed of its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered; the latency is that of the call, `None` when nothing of that kind was called.
    Good { latency: Option<Micros> },
    /// Answered in the same call as another, which speaks for it to the breaker.
    Mate { latency: Micros },
    /// 429: come back later, after the given span where it named one.
    Throttled { retry_after: Option<Millis> },
    /// 5xx, a timeout, a broken connection.
    Overloaded,
    /// A connection was never made.
    Unreachable,
    /// The call was not made.
    Void,
}

/// A provider's budget at a glance; the instant is an argument, so that it stays true while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Open attempts allowed, over both classes.
    pub limit: u32,
    pub breaker: BreakerState,
    /// The first opening of the breaker since it was last closed.
    pub away_since: Option<Timestamp>,
    per_s: u32,
    paused_until: Option<Timestamp>,
    ramp: Option<Ramp>,
    ramp_after_pause: Option<Ramp>,
}

impl View {
    /// End of the provider's pause, when `now` is within one.
    #[must_use]
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Permits per second at `now`: the quota, less what a slow start holds back; 0 within a pause.
    #[must_use]
    pub fn rate_per_s(&self, now: Timestamp) -> u32 {
        if self.paused_until(now).is_some() {
            return 0;
        }
        let permille = self.current_ramp().map_or(FULL_PERMILLE, |ramp| ramp.permille(now));
        u32::try_from(u64::from(self.per_s) * u64::from(permille) / 1_000).unwrap_or(u32::MAX)
    }

    /// Whether a slow start holds the rate back at `now`.
    #[must_use]
    pub fn is_slow(&self, now: Timestamp) -> bool {
        self.current_ramp().is_some_and(|ramp| !ramp.is_over(now))
    }

    fn current_ramp(&self) -> Option<Ramp> {
        self.ramp_after_pause.or(self.ramp)
    }
}

/// The policy of one provider.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    bucket: TokenBucket,
    notice_bucket: TokenBucket,
    fleet: FleetGate,
    concurrency: Concurrency,
    breaker: Breaker,
    paused_until: Option<Timestamp>,
    paused_since: Timestamp,
    /// 429s without `Retry-After` since the last good call.
    throttles: u32,
    ramp: Option<Ramp>,
    rng: ChaCha8Rng,
}

impl Policy {
    /// `seed` draws the jitter; nodes and lanes should differ in it.
    #[must_use]
    pub fn new(rules: Rules, seed: u64, now: Timestamp) -> Self {
        Self {
            bucket: TokenBucket::new(rules.rate, now),
            notice_bucket: TokenBucket::new(rules.rate.share(rules.notice_permille), now),
            fleet: FleetGate::new(rules.rate, now),
            concurrency: Concurrency::new(rules.concurrency),
            breaker: Breaker::new(rules.breaker, now),
            paused_until: None,
            paused_since: now,
            throttles: 0,
            ramp: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
            rules,
        }
    }

    /// Decides on one ticket and takes its capacity when granted.
    pub fn admit(&mut self, class: Class, open: Open, now: Timestamp) -> Admission {
        let permille = self.advance(now);
        if let Some(until) = self.paused_until {
            return Admission::Away { since: self.paused_since, how: Absence::Pause { until } };
        }
        let epoch = match self.breaker.look(now) {
            Gate::Pass(epoch) => epoch,
            Gate::AwaitProbe { since } => return Admission::Away { since, how: Absence::Probed },
            Gate::Shut { until, since } => return Admission::Away { since, how: Absence::Shut { until } },
        };
        if !self.has_room(class, open) {
            return Admission::AfterReturn;
        }
        if let Some(at) = self.rate_wait(class, permille) {
            return Admission::At(at);
        }
        match self.fleet.wait(now) {
            None => self.fleet.take(),
            Some(FleetWait::Grant) => return Admission::AfterGrant,
            Some(FleetWait::At(at)) => return Admission::At(at),
        }
        self.bucket.take();
        if class == Class::Notice {
            self.notice_bucket.take();
        }
        self.breaker.pass();
        self.concurrency.opened(open.total() + 1);
        Admission::Granted(Pass { epoch, granted: now })
    }

    /// A granted call was not made and its permit came back unused.
    pub fn returned(&mut self, class: Class, pass: Pass, now: Timestamp) {
        self.bucket.give_back();
        self.fleet.give_back();
        if class == Class::Notice {
            self.notice_bucket.give_back();
        }
        self.finished(pass, Health::Void, Open::default(), now);
    }

    /// A granted call ended; `open` counts those still out.
    pub fn finished(&mut self, pass: Pass, health: Health, open: Open, now: Timestamp) {
        match health {
            Health::Good { latency } => {
                if self.paused_until.is_none() {
                    self.throttles = 0;
                }
                match latency {
                    Some(latency) => self.concurrency.good(latency, pass.held(now)),
                    None => self.concurrency.void(),
                }
            }
            Health::Mate { latency } => self.concurrency.good(latency, pass.held(now)),
            Health::Throttled { retry_after } => {
                self.pause(retry_after, now);
                self.concurrency.throttled(open.total());
            }
            Health::Overloaded | Health::Unreachable => self.concurrency.failed(open.total()),
            Health::Void => self.concurrency.void(),
        }
        let end = match health {
            Health::Good { .. } | Health::Throttled { .. } => End::Answered,
            Health::Overloaded => End::Failed,
            Health::Unreachable => End::Unreachable,
            Health::Void | Health::Mate { .. } => End::Void,
        };
        match self.breaker.ended(pass.epoch, end, now, &mut self.rng) {
            Turn::Closed => {
                self.concurrency.restart();
                self.begin_slow_start(now);
            }
            Turn::Opened { .. } | Turn::None => {}
        }
    }

    /// The quota is the fleet's from here on.
    pub fn join_fleet(&mut self, now: Timestamp) {
        self.fleet.join(now);
    }

    /// Permits of the fleet's quota to ask for now, for so many waiting tickets.
    pub fn ask_fleet(&mut self, waiting: usize, now: Timestamp) -> Option<u32> {
        self.fleet.ask(waiting, now)
    }

    /// What the fleet's quota answered.
    pub fn fleet_answered(&mut self, answer: QuotaAnswer, now: Timestamp) {
        self.fleet.answered(answer, now);
    }

    /// Open attempts allowed now, over both classes.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.concurrency.limit()
    }

    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What can be told of it until its next event.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            limit: self.concurrency.limit(),
            breaker: self.breaker.state(),
            away_since: self.breaker.away_since(),
            per_s: self.fleet.per_s(),
            paused_until: self.paused_until,
            ramp: self.ramp,
            ramp_after_pause: self.paused_until.map(|until| self.ramp_from(until)),
        }
    }

    /// Brings pause, ramp and buckets to `now`; gives the speed in thousandths.
    fn advance(&mut self, now: Timestamp) -> u32 {
        if let Some(until) = self.paused_until {
            if now < until {
                return 0;
            }
            self.paused_until = None;
            self.begin_slow_start(until);
        }
        let permille = self.ramp.map_or(FULL_PERMILLE, |ramp| ramp.permille(now));
        if self.ramp.is_some_and(|ramp| ramp.is_over(now)) {
            self.ramp = None;
        }
        self.bucket.refill(now, permille);
        self.notice_bucket.refill(now, permille);
        permille
    }

    /// What was saved up during an outage is not spent in one blow.
    fn begin_slow_start(&mut self, from: Timestamp) {
        self.bucket.refill(from, FULL_PERMILLE);
        self.notice_bucket.refill(from, FULL_PERMILLE);
        self.bucket.drain();
        self.notice_bucket.drain();
        self.ramp = Some(self.ramp_from(from));
    }

    fn ramp_from(&self, from: Timestamp) -> Ramp {
        Ramp { from, span: self.rules.slow_start, floor_permille: self.rules.slow_start_permille.max(1) }
    }

    /// Sends do not count the notices that are out, so they never wait for one; notices count everything.
    fn has_room(&self, class: Class, open: Open) -> bool {
        let limit = self.concurrency.limit();
        match class {
            Class::Send => open.sends < limit,
            Class::Notice => {
                let share = u64::from(limit) * u64::from(self.rules.notice_permille) / 1_000;
                open.total() < limit && u64::from(open.notices) < share.max(1)
            }
        }
    }

    /// The burst that notices must leave for sends.
    fn notice_reserve(&self) -> u32 {
        let rate = self.rules.rate;
        rate.burst.max(1) - rate.share(self.rules.notice_permille).burst.min(rate.burst.max(1))
    }

    fn rate_wait(&self, class: Class, permille: u32) -> Option<Timestamp> {
        match class {
            Class::Send if self.bucket.has(0) => None,
            Class::Send => Some(self.bucket.ready_at(0, permille)),
            Class::Notice => {
                let reserve = self.notice_reserve();
                if self.bucket.has(reserve) && self.notice_bucket.has(0) {
                    return None;
                }
                Some(self.bucket.ready_at(reserve, permille).max(self.notice_bucket.ready_at(0, permille)))
            }
        }
    }

    /// A pause is only ever prolonged by a named span; the other 429s of the same wave change nothing.
    fn pause(&mut self, retry_after: Option<Millis>, now: Timestamp) {
        let current = self.paused_until.filter(|until| now < *until);
        let until = match (retry_after, current) {
            (Some(span), _) => now + Millis(span.0.clamp(0, self.rules.pause_max.0)),
            (None, Some(_)) => return,
            (None, None) => {
                let wait = self.rules.throttle.wait(self.throttles, &mut self.rng);
                self.throttles = self.throttles.saturating_add(1);
                now + wait
            }
        };
        if current.is_none() {
            self.paused_since = now;
        }
        self.paused_until = Some(current.map_or(until, |current| current.max(until)));
    }
}

#[cfg(test)]
mod tests;
