//! Fuzz targets: whatever the bytes are, a decoder answers, in bounded memory, and what it accepts survives a round trip.
//!
//! `engine.rs` says how to run them for long. Targets over crate-private codecs (peer frames, list cursors, the front
//! door's JSON) lie beside those and use the same engine: `cargo test --lib fuzz`.

mod contacts;
mod engine;
mod entities;
mod entries;
mod heap;
mod log;
mod rows;
mod snapshots;
mod times;
mod tokens;

use bojagi::types::codec;
use serde::{Serialize, de::DeserializeOwned};

const PLACE: &str = "--test fuzz";

/// Decodes in bounded memory; what decodes encodes to something that decodes equal.
fn round_trips<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = heap::modest(bytes, || codec::decode(bytes)).ok()?;
    let again = codec::encode(&value);
    let back: T = codec::decode(&again).expect("what was encoded decodes");
    assert_eq!(codec::encode(&back), again, "the second round differs from the first");
    Some(value)
}
