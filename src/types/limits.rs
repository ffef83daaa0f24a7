//! Every bound of the product that is not a setting, by name. Units stand last in the name.

use crate::types::time::Millis;

/// Largest value that the codec decodes.
pub const DECODE_BYTES_MAX: usize = 4 << 20;
/// Encoded entity state; collections beyond it become child entities.
pub const STATE_BYTES_MAX: usize = 64 << 10;
/// Encoded Raft entry: sled stores larger pages as separate blob files.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;
/// Records in one entry.
pub const ENTRY_RECORDS_MAX: usize = 64;
/// Records of one entity that may be in flight.
pub const ENTITY_PIPELINE_MAX: usize = 16;
/// Messages waiting in one entity behind an unfinished one.
pub const ENTITY_WAITING_MAX: usize = 64;
/// How long after its `AttemptStarted` record was decided a call may write its first byte.
pub const ATTEMPT_NOT_AFTER: Millis = Millis::from_secs(2);
/// Whole time that one provider call may take.
pub const CALL_DEADLINE: Millis = Millis::from_secs(10);
/// Bound on the uncertainty between two members' clocks.
pub const CLOCK_UNCERTAINTY: Millis = Millis::from_secs(1);
/// Idempotency keys are honoured this long, then answered 409 `key_expired`.
pub const IDEMPOTENCY_LIFE: Millis = Millis::from_days(7);
/// Length of an `Idempotency-Key` in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// Gift message: grapheme clusters and bytes.
pub const MESSAGE_GRAPHEMES_MAX: usize = 500;
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Recipient name: grapheme clusters and bytes.
pub const NAME_GRAPHEMES_MAX: usize = 50;
pub const NAME_BYTES_MAX: usize = 256;
/// Request body of the front door.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// Number of shards.
pub const SHARDS_MAX: u16 = 999;
/// Items of one page of a list.
pub const PAGE_ITEMS_MAX: usize = 100;
pub const PAGE_ITEMS_DEFAULT: usize = 20;
/// A lane whose queue was full is asked again after this span.
pub const GATEWAY_BUSY_RETRY: Millis = Millis(200);
/// Entities are woken this long before their want is due, so that the send itself finds them loaded.
pub const WAKE_AHEAD: Millis = Millis::from_secs(3);
/// Live entities of a node beyond which the wake-ahead loader pauses.
pub const LIVE_ENTITIES_MAX: usize = 20_000;
/// A quiet entity with nothing due soon leaves memory after this span of boot time.
pub const PASSIVATE_AFTER_MS: u64 = 1_000;
/// Commands of the front door in flight on a node.
pub const ADMISSION_MAX: usize = 4_096;
/// Time that a caller waits for an answer before it is told that the outcome is unknown.
pub const ASK_DEADLINE: Millis = Millis::from_secs(8);
