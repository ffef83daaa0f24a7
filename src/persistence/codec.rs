//! Framing of everything that is persisted: a version byte, a crc32 and the body.
//!
//! The checksum of a row covers the row's key too, so that a row cannot turn up in another's place; a log record's
//! key holds its shard and index, its body the term. Layout: `version (1) ‖ crc32 of context ‖ version ‖ body,
//! little-endian (4) ‖ body`.

use crate::persistence::store::StoreError;
use crate::types::codec::{self, CodecError};
use serde::{Serialize, de::DeserializeOwned};

/// Version of the layout above.
const FRAME_VERSION: u8 = 1;
/// Version byte and checksum.
pub const FRAME_BYTES: usize = 5;
/// Bytes that were not written by [`frame`] under the same context, or were damaged since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("{bytes} bytes are too short for a frame")]
    Short { bytes: usize },
    /// Written by a newer build.
    #[error("frame version {0} is unknown")]
    Version(u8),
    #[error("checksum does not match")]
    Checksum,
    #[error(transparent)]
    Body(#[from] CodecError),
}

fn checksum(context: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(context);
    crc.update(&[FRAME_VERSION]);
    crc.update(body);
    crc.finalize()
}

/// Frames a body under a context (a row's key).
#[must_use]
pub fn frame(context: &[u8], body: &[u8]) -> Vec<u8> {
    frame_parts(context, &[body])
}

/// Frames a body given in parts.
#[must_use]
pub fn frame_parts(context: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(FRAME_BYTES + length);
    bytes.extend_from_slice(&[FRAME_VERSION, 0, 0, 0, 0]);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    let crc = checksum(context, &bytes[FRAME_BYTES..]);
    bytes[1..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The body of a frame.
///
/// # Errors
/// [`FrameError`] when the bytes are not what [`frame`] made under this context.
pub fn unframe<'a>(context: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], FrameError> {
    let (head, body) = bytes.split_at_checked(FRAME_BYTES).ok_or(FrameError::Short { bytes: bytes.len() })?;
    if head[0] != FRAME_VERSION {
        return Err(FrameError::Version(head[0]));
    }
    if head[1..] != checksum(context, body).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    Ok(body)
}

/// A framed value.
pub fn frame_value<T: Serialize>(context: &[u8], value: &T) -> Vec<u8> {
    frame(context, &codec::encode(value))
}

/// Opens a framed value.
///
/// # Errors
/// [`FrameError`] when the frame or the value in it is damaged.
pub fn unframe_value<T: DeserializeOwned>(context: &[u8], bytes: &[u8]) -> Result<T, FrameError> {
    Ok(codec::decode(unframe(context, bytes)?)?)
}

/// A damaged row, as the store's error.
pub(crate) fn damaged(key: &[u8], cause: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("row {}: {cause}", hex::encode(key)) }
}

/// The body of a stored row.
pub(crate) fn open_row<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    unframe(key, value).map_err(|cause| damaged(key, cause))
}

/// The value of a stored row.
pub(crate) fn open_value<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    unframe_value(key, value).map_err(|cause| damaged(key, cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_have_their_golden_bytes() {
        assert_eq!(hex::encode(frame(b"key", b"body")), GOLDEN_FRAME);
        assert_eq!(hex::encode(frame_value(b"key", &(7u64, true))), GOLDEN_VALUE);
    }
    const GOLDEN_FRAME: &str = "01d1a18cda626f6479";
    const GOLDEN_VALUE: &str = "01778590ad0701";

    #[test]
    fn a_frame_of_another_place_or_version_is_refused() {
        let bytes = frame(b"key", b"body");
        assert_eq!(unframe(b"key", &bytes), Ok(&b"body"[..]));
        assert_eq!(unframe(b"kez", &bytes), Err(FrameError::Checksum));
        assert_eq!(unframe(b"key", &bytes[..4]), Err(FrameError::Short { bytes: 4 }));
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(unframe(b"key", &newer), Err(FrameError::Version(2)));
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_seen(body in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
            let mut bytes = frame(b"key", &body);
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(unframe(b"key", &bytes).is_err());
        }
    }
}
