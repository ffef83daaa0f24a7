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
/// Encoded record: a lone one may exceed an entry's usual size, but not this.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Encoded events of one step: whatever else is in its record, that is not larger than [`RECORD_BYTES_MAX`] then.
pub const RECORD_EVENTS_BYTES_MAX: usize = RECORD_BYTES_MAX - (1 << 10);
/// Proposals queued in one shard core, and entries not applied yet, beyond which proposals are refused.
pub const PROPOSALS_QUEUED_MAX: usize = 4096;
pub const UNAPPLIED_ENTRIES_MAX: u64 = 4096;
/// Payload of a leader's entries that no majority has yet.
pub const UNCOMMITTED_BYTES_MAX: u64 = 8 << 20;
/// Payload of one append message beyond its first entry, and of one batch of committed entries.
pub const APPEND_BYTES_MAX: u64 = 256 << 10;
pub const COMMITTED_BYTES_MAX: u64 = 1 << 20;
/// Append messages in flight to one follower.
pub const APPENDS_IN_FLIGHT_MAX: usize = 256;
/// Any frame between two shard cores.
pub const FRAME_BYTES_MAX: usize = 2 << 20;
/// Read barriers waiting in one shard core.
pub const READS_WAITING_MAX: usize = 4096;
/// Recent entries that a shard core keeps in memory.
pub const LOG_CACHE_BYTES_MAX: usize = 1 << 20;
pub const LOG_CACHE_ENTRIES_MAX: usize = 1024;
/// Applied entries that stay in the log for followers that lag, and how far a follower may hold the log back.
pub const LOG_KEEP_ENTRIES: u64 = 2048;
pub const LOG_HELD_ENTRIES_MAX: u64 = 65_536;
/// One chunk of a shard snapshot, and chunks sent but not staged yet.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 << 10;
pub const SNAPSHOT_CHUNKS_IN_FLIGHT_MAX: usize = 4;
/// Ticks after which unacknowledged chunks are sent again, and after which a silent receiver is given up.
pub const SNAPSHOT_RESEND_TICKS: u32 = 5;
/// Ticks from one report of a replica that learns, or is behind, to the next.
pub const REPORT_TICKS: u32 = 5;
pub const SNAPSHOT_PATIENCE_TICKS: u32 = 100;
/// Encoded membership change inside an entry; members of one group.
pub const MEMBER_CHANGE_BYTES_MAX: usize = 1 << 10;
pub const MEMBERS_MAX: usize = 64;
/// Nodes of a cluster: each is a member of the meta group, whose whole state is one entity.
pub const NODES_MAX: usize = 50;
/// Replicas of one shard.
pub const REPLICATION_FACTOR_MAX: u8 = 7;
/// A node's name and zone, its addresses, and the text that names its build.
pub const NODE_NAME_BYTES_MAX: usize = 64;
pub const NODE_ADDRESS_BYTES_MAX: usize = 128;
/// Join tokens that are not used or expired.
pub const JOIN_TOKENS_MAX: usize = 32;
/// Groups that may be changing at once, and leaders moved by one look: upper bounds of the settings.
pub const MOVES_MAX: u16 = 128;
/// A node's weight; 100 is usual.
pub const NODE_WEIGHT_MAX: u16 = 1_000;
/// How many entries a learner may lag when it is made a voter.
pub const PROMOTE_LAG_MAX: u64 = 1024;
/// How many entries a voter may lag, in its log and in what it has applied, when leadership is handed to it: while it catches up
/// the shard takes no records.
pub const HEIR_LAG_MAX: u64 = 32;
/// How many entries a node may lag, all its replicas together, when leaders are spread: more than that it has to apply first.
pub const NODE_LAG_MAX: u64 = 512;
/// Records of one entity that may be in flight.
pub const ENTITY_PIPELINE_MAX: usize = 16;
/// Commands that wait in one entity for a place in its pipeline, and those of them that one record may hold.
pub const ENTITY_COMMANDS_WAITING_MAX: usize = 2_048;
pub const RECORD_COMMANDS_MAX: usize = 64;
/// Messages waiting in one entity behind an unfinished one.
pub const ENTITY_WAITING_MAX: usize = 64;
/// Pauses of an entity before it decides again what was dropped: by how often in a row that was, the last one from then
/// on. A shard that takes nothing for a while is not asked all the time by all its entities, and a send that is due
/// waits no longer than this.
pub const DROP_PAUSES_MS: [u64; 4] = [20, 40, 80, 160];
/// How long after its `AttemptStarted` record was decided a call may write its first byte.
pub const ATTEMPT_NOT_AFTER: Millis = Millis::from_secs(2);
/// Twice as long after each try that was not begun in time, up to this: lookups that are slow must not end all repeats.
pub const ATTEMPT_NOT_AFTER_MAX: Millis = Millis::from_secs(8);
/// Whole time that one provider call may take.
pub const CALL_DEADLINE: Millis = Millis::from_secs(10);
/// Attempts that leave in one call to a provider.
pub const BATCH_MEMBERS_MAX: usize = 1_000;
/// Bound on the uncertainty between two members' clocks.
pub const CLOCK_UNCERTAINTY: Millis = Millis::from_secs(1);
/// How far the clocks of two members may be apart while neither of them is off, which the cluster sees to: twice
/// `sharding::clock::CLOCK_OFF_MAX`.
pub const CLOCKS_APART_MAX: Millis = Millis::from_secs(10);
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
pub const WAKE_AHEAD: Millis = Millis::from_secs(10);
/// Live entities that a node is made for; what may wait among them is a setting below it.
pub const LIVE_ENTITIES_MAX: usize = 36_000;
/// A quiet entity with nothing due soon leaves memory after this span of boot time.
pub const PASSIVATE_AFTER_MS: u64 = 1_000;
/// Commands of the front door in flight on a node.
pub const ADMISSION_MAX: usize = 4_096;
/// Time that a caller waits for an answer before it is told that the outcome is unknown.
pub const ASK_DEADLINE: Millis = Millis::from_secs(8);
/// Links between nodes: how often a heartbeat goes out, and after what silence a peer is given up.
pub const HEARTBEAT_EVERY_MS: u64 = 200;
pub const PEER_SILENT_MAX_MS: u64 = 1_500;
/// A new connection must have introduced itself, and a new link have come up, within this span.
pub const HANDSHAKE_MAX_MS: u64 = 3_000;
/// Connections that are being introduced at one time; more are closed at once.
pub const HANDSHAKES_MAX: usize = 64;
/// Frames are gathered up to this size before they are handed to the link.
pub const BATCH_BYTES_MAX: usize = 64 << 10;
/// What one peer may hold in its sender's memory, queued or unacknowledged: Raft frames, requests and answers, snapshot
/// chunks. Together under 64 MiB with what the stream buffers.
pub const LINK_RAFT_BYTES_MAX: u64 = 24 << 20;
pub const LINK_CALL_BYTES_MAX: u64 = 12 << 20;
pub const LINK_SNAPSHOT_BYTES_MAX: u64 = 2 << 20;
pub const LINK_FRAMES_MAX: u64 = 32_768;
/// Heartbeats and votes of all groups that wait for one peer.
pub const LINK_URGENT_FRAMES_MAX: usize = 8_192;
/// Of that, what may be on its way without an acknowledgement. Small for snapshots, so that a Raft frame never waits
/// behind more than this.
pub const LINK_RAFT_FLIGHT_BYTES_MAX: u64 = 4 << 20;
pub const LINK_CALL_FLIGHT_BYTES_MAX: u64 = 4 << 20;
pub const LINK_SNAPSHOT_FLIGHT_BYTES_MAX: u64 = 1 << 20;
pub const LINK_FLIGHT_FRAMES_MAX: u64 = 16_384;
/// Requests to one peer without an answer yet, and requests of one peer being served.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;
/// A failed dial is repeated after a jittered span that doubles from the first to the second.
pub const REDIAL_MIN_MS: u64 = 50;
pub const REDIAL_MAX_MS: u64 = 1_000;
/// Joins being decided at one time, and how long one may take.
pub const JOINS_MAX: usize = 8;
pub const JOIN_MAX_MS: u64 = 30_000;
/// Nodes that a node keeps links to.
pub const PEERS_MAX: usize = 64;
