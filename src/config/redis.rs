//! `[redis]`: the event stream and the quotas of the fleet. Without the section there is neither.

use super::{ConfigError, read_secret};
use crate::providers::settings::SecretRef;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    pub url: RedisUrl,
    /// Begins every key.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Publishes the events of the shards that the node leads.
    #[serde(default = "yes")]
    pub events: bool,
    /// Makes the gateways' rates quotas of the whole cluster.
    #[serde(default = "yes")]
    pub quotas: bool,
    /// Of a topic that `topics` does not name; 0 keeps events whatever their age.
    #[serde(default = "default_retention")]
    pub retention_hours: u32,
    /// Of a topic that `topics` does not name; without it there may be any number.
    #[serde(default)]
    pub entries_max: Option<u64>,
    /// By name, as `refund.completed.v1`.
    #[serde(default)]
    pub topics: BTreeMap<String, TopicConfig>,
}

/// What differs for one topic.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicConfig {
    pub retention_hours: Option<u32>,
    pub entries_max: Option<u64>,
}

/// An address as text, or where it is kept: one with a password has no place in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum RedisUrl {
    Plain(String),
    Kept(SecretRef),
}

fn default_prefix() -> String {
    "bojagi".to_owned()
}
fn yes() -> bool {
    true
}
/// The seven days that the documents give their topics.
fn default_retention() -> u32 {
    7 * 24
}

impl RedisConfig {
    /// The address, read from where it is kept, and whether it stands in the file itself.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] names the field; never the address.
    pub fn address(&self) -> Result<(String, bool), ConfigError> {
        match &self.url {
            RedisUrl::Plain(text) => Ok((text.clone(), true)),
            RedisUrl::Kept(place) => {
                let read = read_secret(place);
                Ok((read.map_err(|cause| ConfigError::Secret { field: "redis.url".to_owned(), cause })?, false))
            }
        }
    }
}
