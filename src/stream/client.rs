//! How Redis is reached. Every wait on it is bounded.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use std::fmt;
use std::time::Duration;

/// Why Redis did not do what it was asked. Whether it did it all the same is unknown, but for `Address`.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Not an address that this build can use; nothing was tried.
    #[error("not a Redis address (redis://[user:password@]host[:port][/database]): {cause}")]
    Address { cause: &'static str },
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The answer is not what the scripts give: another program's keys under our prefix, or a damaged cursor.
    #[error("redis holds what this program did not write: {what}")]
    Foreign { what: &'static str },
}

/// Where Redis is, and how it is entered. `Debug` does not print it: it may hold a password.
#[derive(Clone)]
pub struct RedisAddress {
    client: Client,
    has_password: bool,
}

impl RedisAddress {
    /// # Errors
    /// [`StreamError::Address`]; the text itself is not repeated, it may hold a password.
    pub fn parse(url: &str) -> Result<Self, StreamError> {
        if url.starts_with("rediss:") {
            return Err(StreamError::Address { cause: "this build has no TLS to Redis; use a tunnel" });
        }
        let malformed = StreamError::Address { cause: "the text is not a URL of that form" };
        let Ok(info) = url.into_connection_info() else { return Err(malformed) };
        let has_password = info.redis_settings().password().is_some();
        match Client::open(info) {
            Ok(client) => Ok(Self { client, has_password }),
            Err(_) => Err(malformed),
        }
    }

    /// Whether the address holds a password, and so has no place in a configuration file.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// A connection on which no answer is waited for longer than `patience`, nor is the connection itself.
    pub(super) async fn connect(&self, patience: Duration) -> Result<MultiplexedConnection, StreamError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisAddress(<private>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_and_never_repeated() {
        let address = RedisAddress::parse("redis://:hunter2@10.0.0.1:6380/3").unwrap();
        assert!(address.has_password());
        assert!(!format!("{address:?}").contains("hunter2"));
        assert!(!RedisAddress::parse("redis://127.0.0.1").unwrap().has_password());
        for bad in ["", "127.0.0.1:6379", "http://:hunter2@x", "rediss://:hunter2@x"] {
            let error = RedisAddress::parse(bad).unwrap_err();
            assert!(matches!(error, StreamError::Address { .. }), "{bad}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
