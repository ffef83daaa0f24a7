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

/// For `#[serde(with = "codec::bytes")]`: a byte string in one piece, where serde would take each byte by itself. The encoding
/// is the same.
pub(crate) mod bytes {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;
    use std::fmt;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Whole)
    }

    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string")
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

/// As [`bytes`], for rows: pairs of byte strings.
pub(crate) mod rows {
    use serde::de::Deserializer;
    use serde::ser::Serializer;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize)]
    struct Piece<'a>(#[serde(with = "super::bytes")] &'a [u8]);

    #[derive(Deserialize)]
    struct Taken(#[serde(with = "super::bytes")] Vec<u8>);

    type Row = (Vec<u8>, Vec<u8>);

    pub fn serialize<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows.iter().map(|(key, value)| (Piece(key), Piece(value))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Row>, D::Error> {
        let rows = Vec::<(Taken, Taken)>::deserialize(deserializer)?;
        Ok(rows.into_iter().map(|(Taken(key), Taken(value))| (key, value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct ByteByByte(Vec<u8>, Rows, u32);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct InOnePiece(#[serde(with = "bytes")] Vec<u8>, #[serde(with = "rows")] Rows, u32);

    fn rows_strategy() -> impl Strategy<Value = Rows> {
        let string = || proptest::collection::vec(any::<u8>(), 0..300);
        proptest::collection::vec((string(), string()), 0..5)
    }

    proptest! {
        #[test]
        fn a_byte_string_in_one_piece_has_the_encoding_of_its_bytes(
            string in proptest::collection::vec(any::<u8>(), 0..70_000),
            table in rows_strategy(),
        ) {
            let slow = encode(&ByteByByte(string.clone(), table.clone(), 7));
            prop_assert_eq!(&encode(&InOnePiece(string.clone(), table.clone(), 7)), &slow);
            prop_assert_eq!(decode(&slow), Ok(InOnePiece(string, table, 7)));
            prop_assert!(decode::<InOnePiece>(&slow[..slow.len() - 1]).is_err());
        }
    }

    #[test]
    fn a_byte_string_longer_than_what_is_there_or_may_be_is_refused() {
        for length in [3u64, DECODE_BYTES_MAX as u64 + 1, u64::MAX] {
            let bytes = [encode(&length), vec![1, 2]].concat();
            assert!(decode::<InOnePiece>(&bytes).is_err(), "{length}");
        }
    }
}
