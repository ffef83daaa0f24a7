//! The one place where bincode is called (ADR-2). Values that are persisted or sent between nodes go through here;
//! framing with version and checksum is `persistence::codec`.

use crate::types::limits::DECODE_BYTES_MAX;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not what they should be. The caller refuses them; nothing was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes do not decode as {what}")]
pub struct CodecError {
    pub what: &'static str,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_BYTES_MAX>()
}

/// Encodes a value; integers are variable-length, little-endian.
///
/// # Panics
/// When the value is larger than [`DECODE_BYTES_MAX`], which bounded inputs exclude.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, config()).expect("a bounded value always encodes")
}

/// Decodes a value and insists that all bytes were used. Lengths are checked against
/// [`DECODE_BYTES_MAX`] before anything is allocated.
///
/// # Errors
/// [`CodecError`] for anything but the exact encoding of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let what = std::any::type_name::<T>();
    match bincode::serde::decode_from_slice::<T, _>(bytes, config()) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok(_) | Err(_) => Err(CodecError { what }),
    }
}
