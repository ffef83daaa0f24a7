//! Each wire client against the documented bytes: success, a refusal, an unknown outcome, lookups, polls, webhooks.

mod fcm;
mod nhn;
mod shipping;
mod smtp;
mod solapi;
mod toss;

use super::settings::{FillRandom, ProvidersConfig, build_message_providers, build_payment_provider};
use super::testing::{StillClock, counting_random, still_clock};
use super::{MessageProvider, PaymentProvider};
use crate::types::call::MessageOutcome;
use crate::types::effect::Channel;
use crate::types::time::Clock;
use std::sync::Arc;

/// The sandbox settings' provider of one channel, built as the product builds it.
fn provider_of(config: &ProvidersConfig, channel: Channel) -> (Arc<dyn MessageProvider>, Arc<StillClock>) {
    let clock = still_clock();
    let shared: Arc<dyn Clock> = clock.clone();
    let random: FillRandom = counting_random();
    let providers = build_message_providers(config, &shared, &random).unwrap();
    let provider = providers.into_iter().find(|provider| provider.channel() == channel).unwrap();
    (provider, clock)
}

fn payments(base: &str) -> (Arc<dyn PaymentProvider>, Arc<StillClock>) {
    let clock = still_clock();
    let shared: Arc<dyn Clock> = clock.clone();
    (build_payment_provider(&ProvidersConfig::sandbox(base, "127.0.0.1:1"), &shared).unwrap(), clock)
}

fn receipt(outcome: &MessageOutcome) -> &str {
    match outcome {
        MessageOutcome::Accepted { receipt, .. } => receipt,
        other => panic!("not accepted: {other:?}"),
    }
}

fn is_unknown(outcome: &MessageOutcome) -> bool {
    matches!(outcome, MessageOutcome::Unknown { .. })
}

#[test]
fn the_sandbox_settings_build_every_channel_once() {
    let clock: Arc<dyn Clock> = still_clock();
    let config = ProvidersConfig::sandbox("http://127.0.0.1:8090", "127.0.0.1:8025");
    let providers = build_message_providers(&config, &clock, &counting_random()).unwrap();
    let mut channels: Vec<Channel> = providers.iter().map(|provider| provider.channel()).collect();
    channels.sort();
    assert_eq!(channels, Channel::ALL);
    assert!(build_payment_provider(&ProvidersConfig::default(), &clock).is_err());
}
