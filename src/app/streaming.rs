//! A node with Redis beside it: the event stream, and the quotas of the fleet.

use crate::actors::alerts;
use crate::actors::node::Node;
use crate::app::AppError;
use crate::config::redis::{RedisConfig, TopicConfig};
use crate::domain::kinds;
use crate::stream::{EventStream, RedisAddress, RedisHints, RedisQuota, StreamError, TopicPolicy};
use crate::types::hint::AvailabilityHints;
use crate::types::publication::Topic;
use crate::types::quota::FleetQuota;
use crate::types::time::Millis;
use std::sync::Arc;

/// Events that a dev node keeps of each topic. Not by age: its clock is moved by hand, that of Redis is not.
const DEV_ENTRIES_MAX: u64 = 100_000;
const PREFIX_BYTES_MAX: usize = 64;

/// What a node is given of Redis.
pub struct Streaming {
    address: RedisAddress,
    prefix: String,
    policies: Vec<TopicPolicy>,
    events: bool,
    quotas: bool,
}

impl Streaming {
    /// # Errors
    /// [`AppError::Usage`] names the setting; [`AppError::Config`] when the address cannot be read.
    pub fn configured(config: &RedisConfig) -> Result<Self, AppError> {
        let (url, in_file) = config.address()?;
        let address = parse("redis.url", &url)?;
        if in_file && address.has_password() {
            return Err(AppError::Usage(
                "redis.url: an address with a password does not stand in the file: name it by { env = \"NAME\" } or \
                 { file = \"PATH\" }"
                    .to_owned(),
            ));
        }
        let printable = config.prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if config.prefix.is_empty() || config.prefix.len() > PREFIX_BYTES_MAX || !printable {
            return Err(AppError::Usage(format!("redis.prefix: 1 to {PREFIX_BYTES_MAX} visible ASCII characters")));
        }
        let topics = topics();
        if let Some(stranger) = config.topics.keys().find(|name| !topics.iter().any(|topic| topic.0 == **name)) {
            return Err(AppError::Usage(format!("redis.topics.\"{stranger}\": no such topic, see docs/EVENTS.md")));
        }
        let policies = topics.into_iter().map(|topic| policy(config, topic)).collect();
        Ok(Self { address, prefix: config.prefix.clone(), policies, events: config.events, quotas: config.quotas })
    }

    /// For `bojagi dev`.
    ///
    /// # Errors
    /// [`AppError::Usage`]: not an address.
    pub fn dev(url: &str) -> Result<Self, AppError> {
        let policy = |topic| TopicPolicy { topic, retention: None, entries_max: Some(DEV_ENTRIES_MAX) };
        Ok(Self {
            address: parse("--redis", url)?,
            prefix: "bojagi".to_owned(),
            policies: topics().into_iter().map(policy).collect(),
            events: true,
            quotas: true,
        })
    }

    /// Gives it to a node that has started. Redis need not be there.
    ///
    /// # Errors
    /// [`AppError::Io`]: the operating system refused a thread.
    pub fn attach(self, node: &Arc<Node>) -> Result<(), AppError> {
        if self.events {
            let stream = EventStream::new(self.address.clone(), &self.prefix, self.policies);
            let attached = node.attach_stream(stream, kinds::publications);
            attached.map_err(AppError::io("thread of the event stream"))?;
        }
        let hints = Arc::new(RedisHints::start(self.address.clone(), &self.prefix));
        node.attach_hints(hints as Arc<dyn AvailabilityHints>);
        if self.quotas {
            let weak = Arc::downgrade(node);
            let members = Arc::new(move || weak.upgrade().map_or(1, |node| node.member_count()));
            let mut seed = [0; 8];
            crate::app::system_random(&mut seed);
            let quota = RedisQuota::start(self.address, &self.prefix, members, u64::from_le_bytes(seed));
            node.attach_quota(&(Arc::new(quota) as Arc<dyn FleetQuota>));
        }
        Ok(())
    }
}

/// What the business says, and what the cluster says of itself.
fn topics() -> Vec<Topic> {
    kinds::topics().into_iter().chain([alerts::TOPIC]).collect()
}

fn parse(field: &str, url: &str) -> Result<RedisAddress, AppError> {
    RedisAddress::parse(url).map_err(|error: StreamError| AppError::Usage(format!("{field}: {error}")))
}

fn policy(config: &RedisConfig, topic: Topic) -> TopicPolicy {
    let own = config.topics.get(topic.0).copied().unwrap_or_else(TopicConfig::default);
    let hours = own.retention_hours.unwrap_or(config.retention_hours);
    TopicPolicy {
        topic,
        retention: (hours > 0).then(|| Millis::from_hours(i64::from(hours))),
        entries_max: own.entries_max.or(config.entries_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<Streaming, String> {
        let config: RedisConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        Streaming::configured(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn topics_have_the_common_policy_or_their_own() {
        let text =
            "url = \"redis://127.0.0.1\"\nentries_max = 9\n[topics.\"refund.completed.v1\"]\nretention_hours = 720";
        let streaming = configured(text).unwrap();
        let of = |name| *streaming.policies.iter().find(|policy| policy.topic.0 == name).unwrap();
        assert_eq!(of("refund.completed.v1").retention, Some(Millis::from_days(30)));
        assert_eq!(of("gift.expired.v1").retention, Some(Millis::from_days(7)));
        assert_eq!(of("gift.expired.v1").entries_max, Some(9));
        let kept = configured("url = \"redis://127.0.0.1\"\nretention_hours = 0").unwrap();
        assert!(kept.policies.iter().all(|policy| policy.retention.is_none() && policy.entries_max.is_none()));
    }

    #[test]
    fn every_topic_has_a_version_and_is_kept_for_the_seven_days_of_the_documents() {
        let streaming = configured("url = \"redis://127.0.0.1\"").unwrap();
        assert!(streaming.policies.len() > 50 && streaming.policies.len() == topics().len());
        for policy in streaming.policies {
            assert!(policy.topic.0.ends_with(".v1"), "{}", policy.topic.0);
            assert_eq!((policy.retention, policy.entries_max), (Some(Millis::from_days(7)), None));
        }
    }

    #[test]
    fn a_password_in_the_file_an_unknown_topic_and_a_strange_prefix_are_refused_by_name() {
        let refused = [
            ("url = \"redis://:hunter2@127.0.0.1\"", "redis.url"),
            ("url = \"127.0.0.1\"", "redis.url"),
            ("url = { env = \"BOJAGI_NOT_SET_ANYWHERE\" }", "redis.url"),
            ("url = \"redis://127.0.0.1\"\nprefix = \"a b\"", "redis.prefix"),
            ("url = \"redis://127.0.0.1\"\n[topics.\"gift.gone.v1\"]", "gift.gone.v1"),
            ("url = \"redis://127.0.0.1\"\nretention = 3", "retention"),
        ];
        for (text, name) in refused {
            let error = configured(text).map(|_| ()).unwrap_err();
            assert!(error.contains(name) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_address_with_a_password_may_be_kept_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("redis.url");
        std::fs::write(&place, "redis://:hunter2@127.0.0.1\n").unwrap();
        assert!(configured(&format!("url = {{ file = \"{}\" }}", place.display())).is_ok());
    }
}
