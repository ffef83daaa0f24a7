//! The header file of a data folder: which cluster, which folder, which node, which life of it.
//!
//! Layout of `folder.bin`: `magic "BOJAGI-D" (8) ‖ format, big-endian (2) ‖ frame of the fields`. Magic and format come
//! first and unframed, so that any build can tell a foreign or newer folder from a damaged one.

use crate::persistence::codec::{frame_value, unframe_value};
use crate::persistence::ring::replace_file;
use crate::persistence::store::StoreError;
use crate::types::ids::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::path::Path;

const MAGIC: &[u8; 8] = b"BOJAGI-D";
/// The only format so far.
pub const FORMAT: u16 = 1;
const CONTEXT: &[u8] = b"folder header";

/// Who a data folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub cluster: [u8; 16],
    /// Both databases carry it too, so that they cannot be mixed with another folder's.
    pub folder: [u8; 16],
    pub node: NodeId,
    /// Incremented at each boot.
    pub incarnation: Incarnation,
    pub shards: u16,
}

/// Why a header is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    Foreign,
    Newer { format: u16 },
    Damaged,
}

impl Header {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &FORMAT.to_be_bytes(), &frame_value(CONTEXT, self)].concat()
    }

    /// # Errors
    /// [`HeaderError`] tells a foreign file from a newer and from a damaged one.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(HeaderError::Foreign)?;
        let (format, rest) = rest.split_first_chunk::<2>().ok_or(HeaderError::Damaged)?;
        let format = u16::from_be_bytes(*format);
        if format > FORMAT {
            return Err(HeaderError::Newer { format });
        }
        unframe_value(CONTEXT, rest).map_err(|_| HeaderError::Damaged)
    }

    /// Replaces the header file, durably.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        replace_file(path, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { cluster: [1; 16], folder: [2; 16], node: NodeId(1), incarnation: Incarnation(300), shards: 64 }
    }

    #[test]
    fn the_header_has_its_golden_bytes() {
        assert_eq!(hex::encode(header().encode()), GOLDEN);
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
    }
    const GOLDEN: &str = concat!(
        "424f4a4147492d440001",
        "0149ab3a55",
        "01010101010101010101010101010101",
        "02020202020202020202020202020202",
        "01fb2c0140"
    );

    #[test]
    fn foreign_newer_and_damaged_headers_are_told_apart() {
        let mut newer = header().encode();
        newer[9] = 2;
        assert_eq!(Header::decode(&newer), Err(HeaderError::Newer { format: 2 }));
        assert_eq!(Header::decode(b"SQLite format 3"), Err(HeaderError::Foreign));
        let mut damaged = header().encode();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(Header::decode(&damaged), Err(HeaderError::Damaged));
        assert_eq!(Header::decode(&damaged[..9]), Err(HeaderError::Damaged));
    }
}
