//! What one record costs on its way to disk: the entry's codec, the log append with and without its sync.
//! `cargo bench --bench journal`.

use bojagi::persistence::log::{HardState, LogAppend, LogEntry};
use bojagi::persistence::log_store::LogStore;
use bojagi::persistence::sled_store::SledStore;
use bojagi::replication::entry::{decode_entry, encode_entry};
use bojagi::types::ids::{Claim, CommandId, EntityKey, EntityKind, LogIndex, ShardId, Term, Version};
use bojagi::types::record::{EntryBody, Record, VaultChange};
use bojagi::types::time::Timestamp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;

fn body(records: u64) -> EntryBody {
    let record = |number: u64| Record {
        key: EntityKey { kind: EntityKind(1), id: u128::from(number).to_be_bytes() },
        version_before: Version(number),
        at: Timestamp(1_790_000_000_000),
        command_id: CommandId([9; 16]),
        idempotency: None,
        events: vec![3; 250],
        vault: VaultChange::None,
    };
    EntryBody::Records { claim: Claim::default(), records: (0..records).map(record).collect() }
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("entry codec");
    for records in [1, 16, 64] {
        let body = body(records);
        let bytes = encode_entry(&body);
        group.throughput(Throughput::Elements(records));
        group.bench_function(format!("encode {records}"), |b| b.iter(|| encode_entry(black_box(&body))));
        group.bench_function(format!("decode {records}"), |b| b.iter(|| decode_entry(black_box(&bytes))));
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("log append of 16 shards");
    group.sample_size(20);
    for (name, sync) in [("buffered", false), ("synced", true)] {
        let folder = tempfile::tempdir().expect("a folder for the bench");
        let store = SledStore::open(folder.path(), 64 << 20).expect("an empty folder opens");
        let log = LogStore::open(Arc::new(store)).expect("an empty log opens");
        let payload = encode_entry(&body(4));
        let mut index = 0;
        group.throughput(Throughput::Elements(64));
        group.bench_function(name, |b| {
            b.iter(|| {
                index += 1;
                let batch: Vec<LogAppend> = (0..16).map(|shard| one(shard, index, &payload)).collect();
                log.append(&batch).expect("the disk takes it");
                if sync {
                    log.sync().expect("the disk takes it");
                }
            });
        });
    }
    group.finish();
}

fn one(shard: u16, index: u64, payload: &[u8]) -> LogAppend {
    let entry = LogEntry { index: LogIndex(index), term: Term(1), entry_type: 0, payload: payload.to_vec() };
    let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(index - 1) };
    LogAppend {
        shard: ShardId(shard),
        number: index,
        entries: vec![entry],
        hard_state: Some(hard_state),
        membership: None,
        start: None,
    }
}

criterion_group!(benches, codec, append);
criterion_main!(benches);
