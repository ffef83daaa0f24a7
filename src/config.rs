//! The configuration of `bojagi serve`: one TOML file, overridden by `BOJAGI_<SECTION>__<KEY>` in the environment.
//! Keys and secrets are never in its text: they are named files or environment variables.

pub mod cluster;
pub mod redis;

use self::redis::RedisConfig;
use crate::config::cluster::ClusterConfig;
use crate::gateways::GatewayOptions;
use crate::providers::settings::{ProvidersConfig, SecretRef};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a configuration is not usable; names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration: {0}")]
    Figment(Box<figment::Error>),
    #[error("configuration file {0} does not exist")]
    Missing(PathBuf),
    #[error("{field}: {cause}")]
    Secret { field: String, cause: String },
    #[error("configuration: {0}")]
    Value(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: NodeConfig,
    pub auth: AuthConfig,
    pub vault: VaultConfig,
    #[serde(default)]
    pub providers: ProvidersConfig,
    #[serde(default)]
    pub gateways: GatewayOptions,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub payments: PaymentsConfig,
    #[serde(default)]
    pub log: LogConfig,
    /// Absent: the node is its whole cluster.
    pub cluster: Option<ClusterConfig>,
    /// Absent: no event stream, and each node has its own quotas.
    pub redis: Option<RedisConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Data folder.
    pub data: PathBuf,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Number of shards of a new folder, 1..=999; fixed for good once the folder is made.
    #[serde(default = "default_shards")]
    pub shards: u16,
    /// Makes the folder when it is missing. Off: a missing folder is refused, so that an unmounted disk does not found
    /// an empty node.
    #[serde(default)]
    pub create: bool,
    /// Base of the recipients' links, `https://gift.example`.
    pub public_url: String,
    /// Size of the file that is given back when the disk is full.
    #[serde(default = "default_ballast")]
    pub ballast_bytes: u64,
    #[serde(default)]
    pub cache: CacheConfig,
}

fn default_shards() -> u16 {
    64
}
fn default_ballast() -> u64 {
    64 << 20
}

/// sled's page caches in bytes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    pub log_bytes: u64,
    pub state_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { log_bytes: 64 << 20, state_bytes: 256 << 20 }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// HS256 key of the tokens, 64 hexadecimal digits.
    pub jwt_key: SecretRef,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// Key over the period keys, 64 hexadecimal digits. Lost with it: all personal data.
    pub master_key: SecretRef,
}

/// Limits of the front door. Spans in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Open connections.
    pub connections_max: usize,
    /// Requests being answered.
    pub requests_max: usize,
    /// Live streams open.
    pub streams_max: usize,
    /// For a request's head, for its body, without a request, for an answer.
    pub header_s: u64,
    pub body_s: u64,
    pub idle_s: u64,
    pub request_s: u64,
    /// Calls of one caller in a second, and its burst.
    pub caller_per_s: f64,
    pub caller_burst: f64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_max: 60_000,
            requests_max: 256,
            streams_max: 55_000,
            header_s: 5,
            body_s: 5,
            idle_s: 30,
            request_s: 10,
            caller_per_s: 2_000.0,
            caller_burst: 4_000.0,
        }
    }
}

impl LimitsConfig {
    /// # Errors
    /// The name of the first limit that would shut the front door, or keep nobody out.
    fn check(&self) -> Result<(), String> {
        let counts = [
            ("connections_max", self.connections_max as u64),
            ("requests_max", self.requests_max as u64),
            ("streams_max", self.streams_max as u64),
            ("header_s", self.header_s),
            ("body_s", self.body_s),
            ("idle_s", self.idle_s),
            ("request_s", self.request_s),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(format!("limits.{name}: above zero"));
        }
        if !(self.caller_per_s.is_finite() && self.caller_per_s > 0.0) {
            return Err("limits.caller_per_s: a number above zero".to_owned());
        }
        if !(self.caller_burst.is_finite() && self.caller_burst >= 1.0) {
            return Err("limits.caller_burst: a number from 1".to_owned());
        }
        Ok(())
    }
}

/// Whether links can be made of it: http or https, a host, perhaps a path; nothing that a token appended to it would
/// become part of.
fn is_public_url(url: &str) -> bool {
    let Ok(parsed) = url.parse::<http::Uri>() else { return false };
    let authority = parsed.authority().map_or("", http::uri::Authority::as_str);
    matches!(parsed.scheme_str(), Some("http" | "https"))
        && !authority.is_empty()
        && !authority.contains('@')
        && parsed.query().is_none()
        && !url.contains('#')
}

/// What the contract with the payment provider says.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentsConfig {
    /// Days in which a card payment may be cancelled; a gift that could end later is refused.
    pub card_refund_days: u16,
}

impl Default for PaymentsConfig {
    fn default() -> Self {
        Self { card_refund_days: 400 }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// JSON lines instead of text.
    pub json: bool,
}

impl Config {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the first key that is missing, unknown or malformed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        if !path.exists() {
            return Err(ConfigError::Missing(path.to_owned()));
        }
        let config: Self = Figment::new()
            // A section of one lane leaves the keys that it does not name as that lane has them.
            .merge(Serialized::default("gateways", GatewayOptions::default()))
            .merge(Toml::file_exact(path))
            // Names without a section (BOJAGI_NHN_SECRET_KEY) are secrets that the file refers to.
            .merge(Env::prefixed("BOJAGI_").filter(|name| name.as_str().contains("__")).split("__"))
            .extract()
            .map_err(|error| ConfigError::Figment(Box::new(error)))?;
        config.limits.check().map_err(ConfigError::Value)?;
        if !is_public_url(&config.node.public_url) {
            let what = "node.public_url: an http(s) address without user, query and fragment, https://gift.example";
            return Err(ConfigError::Value(what.to_owned()));
        }
        if let Some(cluster) = &config.cluster {
            cluster.check().map_err(ConfigError::Value)?;
            if config.node.create {
                let what =
                    "node.create: a cluster is founded by `bojagi cluster init` and joined by `bojagi cluster join`";
                return Err(ConfigError::Value(what.to_owned()));
            }
        }
        Ok(config)
    }
}

/// Reads a secret's text from where it is kept, without surrounding white space.
///
/// # Errors
/// What could not be read, in words; never the secret.
#[allow(clippy::disallowed_methods, reason = "this is where the environment comes in")]
pub fn read_secret(place: &SecretRef) -> Result<String, String> {
    match place {
        SecretRef::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .map_err(|cause| format!("{}: {cause}", path.display())),
        SecretRef::Env(name) => {
            std::env::var(name).map(|text| text.trim().to_owned()).map_err(|_| format!("{name} is not set"))
        }
    }
}

/// Reads a 32-byte key in hexadecimal.
///
/// # Errors
/// [`ConfigError::Secret`] names the field.
pub fn read_key(field: &str, place: &SecretRef) -> Result<[u8; 32], ConfigError> {
    let failed = |cause: String| ConfigError::Secret { field: field.to_owned(), cause };
    let text = read_secret(place).map_err(failed)?;
    let failed = |cause: String| ConfigError::Secret { field: field.to_owned(), cause };
    hex::decode(&text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| failed("not 64 hexadecimal digits".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateways::LaneOptions;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster-config").join(name)
    }

    #[test]
    fn the_examples_of_clusters_load_as_they_are() {
        for (folder, nodes) in [("three-node", 3), ("five-node", 5)] {
            let mut names = Vec::new();
            for file in std::fs::read_dir(example(folder)).unwrap() {
                let config = Config::load(&file.unwrap().path()).unwrap();
                assert!(config.providers.toss.is_some());
                names.push(config.cluster.unwrap().node);
            }
            names.sort();
            names.dedup();
            assert_eq!(names.len(), nodes);
        }
    }

    #[test]
    fn a_cluster_is_not_founded_by_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let text = std::fs::read_to_string(example("three-node/seoul-1.toml")).unwrap();
        for (from, to, named) in [
            ("[node]", "[node]\ncreate = true", "bojagi cluster init"),
            ("weight = 100", "weight = 0", "cluster.weight"),
            ("address = \"10.0.0.11:7400\"", "address = \"10.0.0.11\"", "cluster.address"),
        ] {
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(Config::load(&path).unwrap_err().to_string().contains(named));
        }
    }

    #[test]
    fn the_example_in_the_repository_loads_as_it_is() {
        let config = Config::load(&example("single.toml")).unwrap();
        assert_eq!(config.node.shards, 64);
        assert_eq!(config.payments.card_refund_days, 400);
        assert!(config.providers.toss.is_some());
        assert_eq!(config.gateways.kakao.concurrency_max, 512);
    }

    #[test]
    fn a_section_of_a_lane_leaves_every_other_key_as_that_lane_has_it() {
        type Lane = fn(&mut GatewayOptions) -> &mut LaneOptions;
        let lanes: [(&str, Lane); 6] = [
            ("kakao", |options| &mut options.kakao),
            ("sms", |options| &mut options.sms),
            ("email", |options| &mut options.email),
            ("push", |options| &mut options.push),
            ("payment", |options| &mut options.payment),
            ("shipment", |options| &mut options.shipment),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let text = std::fs::read_to_string(example("single.toml")).unwrap();
        let mut kept = true;
        let lines = text.lines().filter(|line| {
            kept = if line.starts_with('[') { !line.starts_with("[gateways") } else { kept };
            kept
        });
        let bare = lines.collect::<Vec<_>>().join("\n");
        for (name, lane) in lanes {
            std::fs::write(&path, format!("{bare}\n[gateways.{name}]\nnotice_queue_max = 7\n")).unwrap();
            let mut expected = GatewayOptions::default();
            lane(&mut expected).notice_queue_max = 7;
            assert_eq!(Config::load(&path).unwrap().gateways, expected, "{name}");
        }
        std::fs::write(&path, format!("{bare}\n[gateways.email]\nrat_per_s = 7\n")).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("rat_per_s"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "[node]\ndatta = \"x\"\n").unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("datta"));
    }
}
