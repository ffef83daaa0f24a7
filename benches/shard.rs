//! One shard step by a lone voter, without a disk: propose → entry → persisted → committed → applied.
//! `cargo bench --bench shard`.

use bojagi::persistence::log::{LoadedLog, LogEntry, LogReader};
use bojagi::persistence::store::StoreError;
use bojagi::replication::core::{CoreOptions, Input, Output, ShardCore};
use bojagi::types::ids::{CommandId, EntityKey, EntityKind, Incarnation, LogIndex, NodeId, ShardId, Term, Version};
use bojagi::types::record::{Record, VaultChange};
use bojagi::types::time::Timestamp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

struct Nothing;

impl LogReader for Nothing {
    fn entries(&self, _: LogIndex, _: LogIndex, _: u64) -> Result<Vec<LogEntry>, StoreError> {
        Ok(Vec::new())
    }
    fn term(&self, _: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(None)
    }
}

fn record(version: u64) -> Record {
    Record {
        key: EntityKey { kind: EntityKind(1), id: [7; 16] },
        version_before: Version(version),
        at: Timestamp(1_790_000_000_000),
        command_id: CommandId([9; 16]),
        idempotency: None,
        events: vec![3; 250],
        vault: VaultChange::None,
    }
}

/// Answers a core's outputs as disk and applier would, until it is quiet.
fn settle(core: &mut ShardCore, first: impl IntoIterator<Item = Input>) -> usize {
    let (mut out, mut applied) = (Vec::new(), 0);
    core.step_many(first, &mut out);
    while !out.is_empty() {
        let mut inputs = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Append(append) => inputs.push(Input::Persisted { number: append.number }),
                Output::Apply(batch) => {
                    applied += batch.iter().map(|entry| entry.tags.len()).sum::<usize>();
                    let index = batch.last().expect("a batch is not empty").index;
                    inputs.push(Input::Applied { index });
                }
                other => drop(black_box(other)),
            }
        }
        for input in inputs {
            core.step(input, &mut out);
        }
    }
    applied
}

fn leader() -> ShardCore {
    let mut options = CoreOptions::new(ShardId(0), 1, NodeId(1), Incarnation(1));
    options.found = vec![1];
    options.log_keep_entries = 64;
    let mut core = ShardCore::new(options, LoadedLog::default(), LogIndex(0), Box::new(Nothing)).expect("an empty log");
    settle(&mut core, [Input::Campaign]);
    assert!(core.is_leader());
    core
}

fn shard_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard step, 250 B of events");
    for records in [1u64, 16, 64] {
        group.throughput(Throughput::Elements(records));
        group.bench_function(format!("{records} records an entry"), |bencher| {
            let (mut core, mut tag) = (leader(), 0);
            bencher.iter(|| {
                let batch = (0..records).map(|n| Input::Propose { tag: tag + n, record: record(tag + n) });
                assert_eq!(settle(&mut core, batch), records as usize);
                tag += records;
                if tag.is_multiple_of(1 << 12) {
                    let durable = core.status().applied;
                    settle(&mut core, [Input::Purge { durable, cursor: durable }]);
                }
            });
        });
    }
    group.finish();
}

fn idle_tick(criterion: &mut Criterion) {
    let (mut core, mut out) = (leader(), Vec::new());
    criterion.bench_function("idle tick of a lone leader", |bencher| {
        bencher.iter(|| {
            core.step(Input::Tick, &mut out);
            out.clear();
        });
    });
}

criterion_group!(benches, shard_step, idle_tick);
criterion_main!(benches);
