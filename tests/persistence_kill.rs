//! The log writer in a real process that is killed with SIGKILL, again and again: every append that it acknowledged is
//! in the folder that the next start opens, and nothing is there twice or damaged.
//!
//! The test binary starts itself as the child; `BOJAGI_KILL_ROUNDS` sets the number of kills (default 6).

use bojagi::persistence::folder::{Folder, OpenOptions};
use bojagi::persistence::log::{LogAppend, LogEntry};
use bojagi::persistence::log_writer::LogWriter;
use bojagi::types::ids::{LogIndex, ShardId, Term};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD_DIR: &str = "BOJAGI_KILL_DIR";
const ROUNDS: &str = "BOJAGI_KILL_ROUNDS";
const SHARDS: u16 = 4;

fn options() -> OpenOptions {
    OpenOptions {
        shards: SHARDS,
        cache_log_bytes: 8 << 20,
        cache_state_bytes: 8 << 20,
        create: true,
        ballast_bytes: 0,
        ..OpenOptions::default()
    }
}

fn payload(shard: u16, index: u64) -> Vec<u8> {
    let seed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(shard);
    seed.to_be_bytes().repeat(usize::try_from(8 + seed % 40).expect("small"))
}

/// Appends to all shards for as long as it lives, and prints what was acknowledged.
fn child(dir: &Path) {
    let folder = Folder::open(dir, options()).expect("the folder opens after a kill");
    let persisted = Box::new(|numbers: Vec<(ShardId, u64)>| {
        let mut out = std::io::stdout().lock();
        for (shard, number) in numbers {
            writeln!(out, "ack {shard} {number}").expect("the parent reads");
        }
        out.flush().expect("the parent reads");
    });
    let writer = LogWriter::start(folder.log.clone(), folder.watermark(), persisted);
    let mut next: Vec<u64> = (0..SHARDS).map(|shard| folder.log.span(ShardId(shard)).last.0.0 + 1).collect();
    loop {
        for (shard, next) in (0..SHARDS).zip(&mut next) {
            let index = *next;
            let entry =
                LogEntry { index: LogIndex(index), term: Term(1), entry_type: 0, payload: payload(shard, index) };
            let shard = ShardId(shard);
            let entries = vec![entry];
            writer.submit(LogAppend { shard, number: index, entries, hard_state: None, membership: None, start: None });
            *next += 1;
        }
        // Bounds the log of one run, so that the whole test stays within seconds.
        if next[0].is_multiple_of(64) {
            assert!(writer.barrier(), "the writer lives as long as the process");
        }
    }
}

/// Runs the child for a while, kills it, and returns the highest acknowledged index of each shard.
fn run_and_kill(dir: &Path, after: Duration) -> [u64; SHARDS as usize] {
    let exe = std::env::current_exe().expect("a test has a path");
    let mut child = Command::new(exe)
        .args(["--exact", "acknowledged_appends_survive_kill_9", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the test binary starts itself");
    let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let (first, started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = [0u64; SHARDS as usize];
        for line in out.lines().map_while(Result::ok) {
            // The test harness prints the name of the test on the same line as the first one.
            let Some((_, ack)) = line.split_once("ack ") else { continue };
            let mut numbers = ack.split(' ').map_while(|number| number.parse::<u64>().ok());
            if let (Some(shard), Some(number)) = (numbers.next(), numbers.next()) {
                acknowledged[usize::try_from(shard).expect("a shard")] = number;
                first.send(()).unwrap_or_default();
            }
        }
        acknowledged
    });
    started.recv_timeout(Duration::from_secs(30)).expect("the child acknowledges something");
    std::thread::sleep(after);
    child.kill().expect("the child runs until it is killed");
    child.wait().expect("it ends");
    reader.join().expect("the reader ends with the child")
}

#[test]
fn acknowledged_appends_survive_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        child(Path::new(&dir));
    }
    let rounds = std::env::var_os(ROUNDS).and_then(|rounds| rounds.to_str()?.parse().ok()).unwrap_or(6u64);
    let dir = tempfile::tempdir().expect("a folder");
    let mut total = 0;
    for round in 0..rounds {
        let acknowledged = run_and_kill(dir.path(), Duration::from_millis(20 + 37 * (round % 8)));
        let folder = Folder::open(dir.path(), options()).expect("the folder opens after a kill");
        assert_eq!(folder.incarnation.0, 2 * (round + 1), "each start is a life");
        for (shard, acknowledged) in (0..SHARDS).zip(acknowledged) {
            let last = folder.log.span(ShardId(shard)).last.0;
            assert!(last.0 >= acknowledged, "shard {shard}: acknowledged {acknowledged}, found {last}");
            let entries = folder.log.entries(ShardId(shard), LogIndex(1), last.next(), usize::MAX).expect("reads");
            assert_eq!(entries.len() as u64, last.0);
            for entry in entries {
                assert!(entry.payload == payload(shard, entry.index.0), "entry {} of shard {shard}", entry.index);
            }
        }
        total = acknowledged.iter().sum();
    }
    assert!(total > 0);
    println!("{rounds} kills, {total} appends acknowledged, none lost");
}
