//! `bojagi chaos run` with real processes: links cut by proxies in the middle of a small burst, and what it refuses.

use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Output};

/// Ports that a run uses, from its first on.
const SPAN: u16 = 300;

/// A run of ports that nobody listens on, below those that the system hands out by itself.
fn free_ports() -> u16 {
    let process = u16::try_from(std::process::id() % 30).unwrap();
    let firsts = (0..30).map(|turn| 20_000 + (process + turn) % 30 * SPAN);
    let is_free = |first: &u16| [0, 1, 2, 50, 51, 100, 101, 102, 200].iter().all(|at| bound(first + at));
    firsts.into_iter().find(is_free).expect("free ports")
}

fn bound(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn chaos(folder: &std::path::Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bojagi"));
    command.args(["chaos", "run", "--shards", "12", "--gifts", "600", "--reserve-rate", "0", "--concurrency", "8"]);
    command.arg("--data").arg(folder.join("run")).arg("--out").arg(folder.join("report.json"));
    command.args(["--port", &free_ports().to_string()]).args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_leader_that_is_not_heard_in_the_middle_of_a_burst_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = chaos(folder.path(), &["--nemesis", "cut-out", "--heal-after", "5", "--provider-latency-ms", "500"]);
    let text = std::fs::read_to_string(folder.path().join("report.json"));
    let report: Value =
        serde_json::from_str(&text.unwrap_or_else(|error| panic!("{error}\n{}", said(&output)))).unwrap();
    let round = &report["rounds"][0];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(number(&round["reserve"]["acknowledged"]), 600, "{}", said(&output));
    for wrong in ["lost", "doubled", "early"] {
        assert_eq!(number(&round["measure"][wrong]), 0, "{wrong}: {}", said(&output));
    }
    assert_eq!(report["balanced"], true, "{}", said(&output));
    // The busiest node's words to both others, and nothing else, from the cut to the mending.
    let victim = number(&round["victims"][0]);
    let happenings = round["happenings"].as_array().unwrap();
    let of = |what: &str| happenings.iter().filter(|happening| happening["what"] == what).collect::<Vec<_>>();
    for edge in [of("began"), of("ended")] {
        assert_eq!(edge.len(), 2, "{happenings:#?}");
        for happening in edge {
            assert_eq!(
                (number(&happening["target"]["link"]["from"]), &happening["name"]),
                (victim, &Value::from("cut"))
            );
        }
    }
}

#[cfg(not(feature = "faults"))]
#[test]
fn disks_and_clocks_are_left_alone_by_a_build_without_hooks() {
    let folder = tempfile::tempdir().unwrap();
    for nemesis in ["disk-full", "kill-busiest+clock-ahead"] {
        let output = chaos(folder.path(), &["--nemesis", nemesis]);
        assert!(!output.status.success());
        assert!(said(&output).contains("cargo build --release --features faults"), "{}", said(&output));
        assert!(!folder.path().join("run").exists(), "nothing was started");
    }
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (["--nemesis", "cut-busiest", "--nodes", "1"], "more than one node"),
        (["--nemesis", "kill-busiest+delay+backup", "--nodes", "3"], "one nemesis, or two"),
        (["--nemesis", "join", "--rounds", "9"], "each round joins a node"),
    ];
    for (words, reason) in cases {
        let output = chaos(folder.path(), &words);
        assert!(!output.status.success() && said(&output).contains(reason), "{}", said(&output));
    }
    assert!(!folder.path().join("run").exists());
}
