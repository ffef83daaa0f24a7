//! Settings of the gateways, with defaults that suit the documented quotas of the providers: FCM 600,000 a minute; NHN,
//! Solapi and Toss document none.
//!
//! A field left out takes its default. Within one lane that is [`LaneOptions::default`] here; the configuration is merged
//! over a serialised [`GatewayOptions::default`], so that it is the lane's own there.

use crate::gateways::policy::Rules;
use crate::gateways::policy::backoff::Backoff;
use crate::gateways::policy::breaker::BreakerRules;
use crate::gateways::policy::concurrency::Bounds;
use crate::gateways::policy::rate::Rate;
use crate::types::effect::{Channel, Lane};
use crate::types::limits::{BATCH_MEMBERS_MAX, LIVE_ENTITIES_MAX};
use crate::types::time::Millis;
use serde::{Deserialize, Serialize};

/// All settings of a node's gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayOptions {
    /// Seed of the jitter; nodes should differ in it.
    pub seed: u64,
    pub kakao: LaneOptions,
    pub sms: LaneOptions,
    pub email: LaneOptions,
    pub push: LaneOptions,
    pub payment: LaneOptions,
    pub shipment: LaneOptions,
    pub breaker: BreakerOptions,
    pub poll: PollOptions,
    /// Pause after a 429 that names none: the first, doubling up to the longest.
    pub throttle_ms: i64,
    pub throttle_ms_max: i64,
    /// A longer `Retry-After` is cut to this.
    pub retry_after_ms_max: i64,
    /// Time from the end of an outage or pause to the full rate, and the percentage of it to begin with.
    pub slow_start_ms: i64,
    pub slow_start_percent: u32,
    pub when_open: WhenOpen,
    /// How long a message waits for a provider that is away before `when_open` decides.
    pub open_patience_ms: i64,
    /// Entities that may be in memory because something of theirs is due, over all lanes. Each lane has a share of it
    /// for itself (a 28th), the rest goes to whoever comes first; what gets no place waits on disk in due order.
    pub waiting_max: u32,
}

/// Sends that leave in one call, as it comes. 1: batches are off (ADR-13).
const BATCH_MAX: u32 = 1;
/// How long a send waits for others, as it comes.
const BATCH_WAIT: Millis = Millis(25);

/// Part of the budget of live entities that may wait: the rest is for those that are being worked on.
const WAITING_PERCENT_MAX: usize = 90;

/// Budget of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaneOptions {
    /// The node's part of the provider's quota, in calls per second; the whole cluster's where quotas are shared.
    pub rate_per_s: u32,
    /// Calls at one instant after a rest.
    pub burst: u32,
    /// Bounds of the adaptive concurrency, in open attempts (granted and not finished).
    pub concurrency_min: u32,
    pub concurrency_start: u32,
    pub concurrency_max: u32,
    /// Tickets that may wait, for sends and for notices each; a further one is `Busy`.
    pub queue_max: u32,
    pub notice_queue_max: u32,
    /// What notices may take of rate, burst and concurrency.
    pub notice_percent: u32,
    /// Sends of one shard that leave in one call at most, where the provider takes several under a key and can be asked
    /// (ADR-13); 1: each alone. Rate and concurrency count each of them.
    pub batch_max: u32,
    /// How long a send waits for others of its shard that are under way.
    pub batch_wait_ms: i64,
}

/// See `policy::breaker`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerOptions {
    pub unreachable_run: u32,
    pub failure_percent: u32,
    pub volume_min: u32,
    pub window_ms: i64,
    pub reopen_ms: i64,
    pub reopen_ms_max: i64,
    pub probes: u32,
}

/// Polling for delivery reports, on the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PollOptions {
    pub every_ms: i64,
    /// A poll asks again for this much of the time before the last good one.
    pub overlap_ms: i64,
    /// How far back the first poll of a process asks.
    pub lookback_ms: i64,
}

/// What becomes of messages whose provider is away: its breaker is open, or it asked for a long pause. A message whose earlier try has an unknown outcome is never
/// refused (its answer is `NotSent`), and payments and shipments always wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenOpen {
    /// They wait until the provider is back.
    Hold,
    /// Refused with `provider_away`, class `Retry`: the entity's retry schedule goes on, and then the next channel. A pause of
    /// up to a minute that the provider asks for is waited out.
    Retry,
    /// Refused with `provider_away`, class `NextChannel`: the next channel at once.
    NextChannel,
}

/// Settings that cannot be served. Nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("{name} must be at least 1")]
    Zero { name: &'static str },
    #[error("waiting_max must be at most {most}")]
    WaitingMax { most: u32 },
    #[error("batch_max must be at most {most}")]
    BatchMax { most: u32 },
}

impl Default for GatewayOptions {
    fn default() -> Self {
        let lane = LaneOptions::default;
        Self {
            seed: 0,
            kakao: LaneOptions { concurrency_max: 512, ..lane() },
            sms: lane(),
            email: LaneOptions { rate_per_s: 2_000, burst: 500, concurrency_start: 16, concurrency_max: 64, ..lane() },
            push: LaneOptions { rate_per_s: 10_000, ..lane() },
            // Nobody waits for these two as for a message: a node that is behind its log begins few of them.
            payment: LaneOptions { rate_per_s: 5_000, concurrency_start: 16, ..lane() },
            shipment: LaneOptions { rate_per_s: 5_000, concurrency_start: 16, ..lane() },
            breaker: BreakerOptions::default(),
            poll: PollOptions::default(),
            throttle_ms: 200,
            throttle_ms_max: 10_000,
            retry_after_ms_max: 15 * 60_000,
            slow_start_ms: 10_000,
            slow_start_percent: 10,
            when_open: WhenOpen::Retry,
            open_patience_ms: 2_000,
            waiting_max: 32_000,
        }
    }
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            rate_per_s: 20_000,
            burst: 2_000,
            concurrency_min: 8,
            concurrency_start: 64,
            concurrency_max: 256,
            queue_max: 16_384,
            notice_queue_max: 16_384,
            notice_percent: 25,
            batch_max: BATCH_MAX,
            batch_wait_ms: BATCH_WAIT.0,
        }
    }
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            unreachable_run: 3,
            failure_percent: 50,
            volume_min: 20,
            window_ms: 10_000,
            reopen_ms: 1_000,
            reopen_ms_max: 30_000,
            probes: 3,
        }
    }
}

impl Default for PollOptions {
    fn default() -> Self {
        Self { every_ms: 15_000, overlap_ms: 10_000, lookback_ms: 3_600_000 }
    }
}

impl GatewayOptions {
    /// # Errors
    /// [`OptionsError::WaitingMax`]; [`OptionsError::BatchMax`]; [`OptionsError::Zero`] for a budget, queue, batch or
    /// interval of nothing.
    pub fn check(&self) -> Result<(), OptionsError> {
        let most = u32::try_from(LIVE_ENTITIES_MAX * WAITING_PERCENT_MAX / 100).unwrap_or(u32::MAX);
        if self.waiting_max > most {
            return Err(OptionsError::WaitingMax { most });
        }
        if self.waiting_max == 0 {
            return Err(OptionsError::Zero { name: "waiting_max" });
        }
        for lane in self.lanes() {
            let at_least_one = [
                ("rate_per_s", lane.rate_per_s),
                ("burst", lane.burst),
                ("concurrency_min", lane.concurrency_min),
                ("concurrency_max", lane.concurrency_max),
                ("queue_max", lane.queue_max),
                ("batch_max", lane.batch_max),
            ];
            if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
                return Err(OptionsError::Zero { name });
            }
            let most = u32::try_from(BATCH_MEMBERS_MAX).unwrap_or(u32::MAX);
            if lane.batch_max > most {
                return Err(OptionsError::BatchMax { most });
            }
        }
        if self.poll.every_ms < 1 {
            return Err(OptionsError::Zero { name: "poll.every_ms" });
        }
        Ok(())
    }

    /// W: attempts that this node may have open at once, at most; the stated duplicate window of a freeze.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.lanes().iter().map(|lane| lane.concurrency_max).fold(0, u32::saturating_add)
    }

    /// Tickets that a lane queues at most; none for calls to other entities, which have no gateway.
    #[must_use]
    pub fn queue_bound(&self, lane: Lane) -> usize {
        let bound = match lane {
            Lane::Send(channel) => self.channel(channel).queue_max,
            Lane::Notice(channel) => self.channel(channel).notice_queue_max,
            Lane::Payment => self.payment.queue_max,
            Lane::Shipment => self.shipment.queue_max,
            Lane::Entity => 0,
        };
        usize::try_from(bound).unwrap_or(usize::MAX)
    }

    pub(crate) fn channel(&self, channel: Channel) -> &LaneOptions {
        match channel {
            Channel::Kakao => &self.kakao,
            Channel::Sms => &self.sms,
            Channel::Email => &self.email,
            Channel::Push => &self.push,
        }
    }

    fn lanes(&self) -> [&LaneOptions; 6] {
        [&self.kakao, &self.sms, &self.email, &self.push, &self.payment, &self.shipment]
    }

    pub(crate) fn rules(&self, lane: &LaneOptions) -> Rules {
        let breaker = &self.breaker;
        Rules {
            rate: Rate { per_s: lane.rate_per_s, burst: lane.burst },
            concurrency: Bounds { min: lane.concurrency_min, start: lane.concurrency_start, max: lane.concurrency_max },
            notice_permille: lane.notice_percent.min(100) * 10,
            breaker: BreakerRules {
                unreachable_run: breaker.unreachable_run,
                failure_permille: breaker.failure_percent.min(100) * 10,
                volume_min: breaker.volume_min,
                window: Millis(breaker.window_ms),
                reopen: Backoff { first: Millis(breaker.reopen_ms), max: Millis(breaker.reopen_ms_max) },
                probes: breaker.probes,
            },
            throttle: Backoff { first: Millis(self.throttle_ms), max: Millis(self.throttle_ms_max) },
            pause_max: Millis(self.retry_after_ms_max),
            slow_start: Millis(self.slow_start_ms),
            slow_start_permille: self.slow_start_percent.min(100) * 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_defaults_and_a_misspelt_field_is_refused() {
        assert_eq!(toml::from_str::<GatewayOptions>("").unwrap(), GatewayOptions::default());
        let set: GatewayOptions = toml::from_str("when_open = \"hold\"\n[sms]\nrate_per_s = 7").unwrap();
        assert_eq!((set.when_open, set.sms.rate_per_s, set.sms.burst), (WhenOpen::Hold, 7, 2_000));
        assert!(toml::from_str::<GatewayOptions>("[sms]\nrate = 7").is_err());
        let text = toml::to_string(&GatewayOptions::default()).unwrap();
        assert_eq!(toml::from_str::<GatewayOptions>(&text).unwrap(), GatewayOptions::default());
    }

    #[test]
    fn batches_too_large_and_empty_budgets_are_refused() {
        assert_eq!(GatewayOptions::default().check(), Ok(()));
        let mut batch = GatewayOptions::default();
        batch.kakao.batch_max = 1_001;
        assert_eq!(batch.check(), Err(OptionsError::BatchMax { most: 1_000 }));
        batch.kakao.batch_max = 0;
        assert_eq!(batch.check(), Err(OptionsError::Zero { name: "batch_max" }));
        let mut zero = GatewayOptions::default();
        zero.push.burst = 0;
        assert_eq!(zero.check(), Err(OptionsError::Zero { name: "burst" }));
        let crowd = GatewayOptions { waiting_max: 36_000, ..GatewayOptions::default() };
        assert_eq!(crowd.check(), Err(OptionsError::WaitingMax { most: 32_400 }), "some are being worked on");
    }

    #[test]
    fn the_window_is_the_sum_of_the_concurrency_bounds() {
        assert_eq!(GatewayOptions::default().window(), 512 + 256 + 64 + 256 + 256 + 256);
    }
}
