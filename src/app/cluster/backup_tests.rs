//! Tests of a backup's way through a cluster whose leaders move, whose logs are purged and whose answers are cut off.

use super::*;
use crate::persistence::cluster_backup::{BackupReader, ClusterBackupError};
use crate::persistence::state_store::AppliedRow;
use crate::types::ids::{NodeId, Term};
use crate::types::time::Timestamp;
use serde_json::json;
use std::collections::VecDeque;

/// One answer that is expected, and what it is.
enum Answer {
    Gives(Copied),
    Silent,
    CutOff(Copied),
}

/// Nodes that answer as they are told: by node and path, in order. What they are not told is [`Copied::Elsewhere`].
struct Told {
    answers: BTreeMap<(&'static str, String), VecDeque<Answer>>,
    asked: Vec<String>,
}

impl Nodes for &mut Told {
    fn named(&self) -> Vec<String> {
        vec!["http://a".to_owned()]
    }
    async fn view(&mut self) -> Result<Value, AppError> {
        let nodes = json!([{ "id": 1, "api": "http://a" }, { "id": 2, "api": "http://b/" }]);
        Ok(json!({ "nodes": nodes, "shards": [{ "id": 0, "leader": 1 }, { "id": 1, "leader": 2 }] }))
    }
    async fn bytes(&mut self, node: &str, path: &str) -> Result<Option<Vec<u8>>, AppError> {
        let node = if node == "http://a" { "a" } else { "b" };
        let short = path.trim_start_matches("/v1/ops/backup").trim_start_matches("/shards/").to_owned();
        self.asked.push(format!("{node} {short}"));
        let told = self.answers.get_mut(&(node, short)).and_then(VecDeque::pop_front);
        Ok(match told {
            Some(Answer::Gives(copied)) => Some(copied.encode()),
            Some(Answer::CutOff(copied)) => {
                let mut bytes = copied.encode();
                bytes.pop();
                Some(bytes)
            }
            Some(Answer::Silent) => None,
            None => Some(Copied::Elsewhere.encode()),
        })
    }
}

fn told(answers: Vec<(&'static str, &str, Answer)>) -> Told {
    let identity = Identity { cluster: [1; 16], node: NodeId(1), shards: 2, secret: vec![1; 40], periods: vec![2; 40] };
    let mut told = Told { answers: BTreeMap::new(), asked: Vec::new() };
    let all = [("a", "", Answer::Gives(Copied::Identity(identity)))].into_iter().chain(answers);
    for (node, path, answer) in all {
        told.answers.entry((node, path.to_owned())).or_default().push_back(answer);
    }
    told
}

fn rows(index: u64, number: u32, next: Option<u8>) -> Copied {
    let applied = AppliedRow { index: LogIndex(index), term: Term(1), ..AppliedRow::default() };
    let rows = vec![(vec![number.to_be_bytes()[3]], vec![7; 1_000])];
    Copied::Rows(RowsPage { applied, number, rows, keys: Vec::new(), next: next.map(|byte| vec![byte]) })
}

fn log(from: u64, to: u64, committed: u64) -> Copied {
    let entries = (from..=to).map(|index| (LogIndex(index), Term(1), 0, Vec::new())).collect();
    let at = Timestamp(i64::try_from(committed).unwrap());
    Copied::Log(LogPage { entries, keys: Vec::new(), committed: LogIndex(committed), at })
}

async fn backed_up(told: &mut Told, at: &Path) -> Result<Manifest, AppError> {
    copy(told, &at.join("backup"), &at.join("keys"), 1).await
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_leader_moves_or_whose_log_is_purged_is_begun_again() {
    use Answer::{CutOff, Gives, Silent};
    let mut told = told(vec![
        // Shard 0: its leader loses the export; the next one's second page is cut off on its way once.
        ("a", "0/rows", Gives(rows(10, 0, Some(0xaa)))),
        ("a", "0/rows?cursor=aa", Gives(Copied::Lost)),
        ("b", "0/rows", Gives(rows(20, 0, Some(0xbb)))),
        ("b", "0/rows?cursor=bb", CutOff(rows(20, 1, None))),
        ("b", "0/rows?cursor=bb", Gives(rows(20, 1, None))),
        // Shard 1: nobody answers at first; its log is purged before it is copied.
        ("b", "1/rows", Silent),
        ("b", "1/rows", Gives(rows(5, 0, None))),
        ("b", "1/log?after=5", Gives(Copied::Lost)),
        ("b", "1/rows", Gives(rows(30, 0, None))),
        // Logs: in pages, one of them empty, up to what was committed at first and no further.
        ("b", "0/log?after=20", Gives(log(21, 22, 24))),
        ("b", "0/log?after=22", Gives(log(1, 0, 25))),
        ("b", "0/log?after=22", Gives(log(23, 24, 26))),
        ("b", "0/log?after=24", Gives(log(25, 26, 26))),
        ("b", "1/log?after=30", Gives(log(1, 0, 30))),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let manifest = backed_up(&mut told, dir.path()).await.unwrap();
    let facts: Vec<_> = manifest
        .shards
        .iter()
        .map(|facts| (facts.attempt, facts.applied.index.0, facts.reached.0, facts.rows, facts.entries))
        .collect();
    assert_eq!(facts, [(2, 20, 26, 2, 6), (2, 30, 30, 1, 0)], "{:#?}", told.asked);
    let reader = BackupReader::open(&dir.path().join("backup"), &dir.path().join("keys")).unwrap();
    for facts in &reader.manifest.shards {
        let mut count = 0;
        let counted = reader.rows(facts, |rows| {
            count += rows.len() as u64;
            Ok::<(), ClusterBackupError>(())
        });
        counted.unwrap();
        assert_eq!(count, facts.rows);
    }
    assert_eq!(told.asked.iter().filter(|asked| asked.starts_with("b 1/rows")).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_cannot_be_had_ends_the_backup_and_leaves_nothing() {
    let mut told = told(vec![("a", "0/rows", Answer::Gives(rows(10, 0, None)))]);
    let dir = tempfile::tempdir().unwrap();
    let failed = backed_up(&mut told, dir.path()).await.unwrap_err();
    assert!(failed.to_string().contains("shard 1 has no leader"), "{failed}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_reads_no_faster_than_it_may_and_follows_what_it_has_meanwhile() {
    use Answer::Gives;
    // 6 MB of one shard at 1 MiB/s.
    let page = |number: u32, next| {
        let Copied::Rows(page) = rows(9, number, next) else { unreachable!("rows are rows") };
        Copied::Rows(RowsPage { rows: vec![(vec![1], vec![7; 1_200_000])], ..page })
    };
    let mut answers = vec![("a", "0/rows", Gives(rows(3, 0, None))), ("b", "1/rows", Gives(page(0, Some(1))))];
    for number in 1..5u8 {
        let next = (number < 4).then_some(number + 1);
        let path = ["1/rows?cursor=01", "1/rows?cursor=02", "1/rows?cursor=03", "1/rows?cursor=04"];
        answers.push(("b", path[usize::from(number) - 1], Gives(page(u32::from(number), next))));
    }
    for _ in 0..4 {
        answers.push(("a", "0/log?after=3", Gives(log(1, 0, 3))));
        answers.push(("b", "1/log?after=9", Gives(log(1, 0, 9))));
    }
    let mut told = told(answers);
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    backed_up(&mut told, dir.path()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(5_500), "{:?}", begun.elapsed());
    let of = |what: &str| told.asked.iter().position(|asked| asked == what).unwrap();
    let last_page = of("b 1/rows?cursor=04");
    assert!(of("a 0/log?after=3") < last_page && of("b 1/log?after=9") < last_page, "{:#?}", told.asked);
}
