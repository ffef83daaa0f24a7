//! The configuration of `bojagi serve`: one TOML file, overridden by `BOJAGI_<SECTION>__<KEY>` in the environment.
//! Keys and secrets are never in its text: they are named files or environment variables.

use crate::gateways::GatewayOptions;
use crate::providers::settings::{ProvidersConfig, SecretRef};
use figment::Figment;
use figment::providers::{Env, Format, Toml};
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
    pub log: LogConfig,
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
    /// sled caches in MiB.
    #[serde(default = "default_log_cache")]
    pub cache_log_mib: u64,
    #[serde(default = "default_state_cache")]
    pub cache_state_mib: u64,
}

fn default_shards() -> u16 {
    64
}
fn default_log_cache() -> u64 {
    64
}
fn default_state_cache() -> u64 {
    256
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

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Open connections.
    pub connections_max: usize,
    /// Requests of one caller per second, and how many at once.
    pub caller_rate: f64,
    pub caller_burst: f64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { connections_max: 60_000, caller_rate: 1_000.0, caller_burst: 2_000.0 }
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
        Figment::new()
            .merge(Toml::file_exact(path))
            .merge(Env::prefixed("BOJAGI_").split("__"))
            .extract()
            .map_err(|error| ConfigError::Figment(Box::new(error)))
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
