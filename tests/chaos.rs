//! `bojagi chaos run` with real processes: links cut by proxies in the middle of a small burst, its report, and what it
//! refuses; the audit of its disks; `bojagi chaos merge`.

use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
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

fn chaos(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bojagi"));
    command.args(["chaos", "run", "--shards", "12", "--gifts", "600", "--concurrency", "8"]);
    command.arg("--data").arg(folder.join("run")).arg("--out").arg(folder.join("report"));
    command.args(["--port", &free_ports().to_string()]).args(words).output().unwrap()
}

/// What a run recorded in its folder.
fn report(folder: &Path, output: &Output) -> Value {
    let text = std::fs::read_to_string(folder.join("report/report.json"));
    serde_json::from_str(&text.unwrap_or_else(|error| panic!("{error}\n{}", said(output)))).unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_leader_that_is_not_heard_in_the_middle_of_a_burst_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--nemesis", "cut-out", "--heal-after", "5", "--provider-latency-ms", "500", "--reserve-rate", "0"];
    let output = chaos(folder.path(), &words);
    let report = report(folder.path(), &output);
    let round = &report["rounds"][0];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(number(&round["reserve"]["acknowledged"]), 600, "{}", said(&output));
    for wrong in ["lost", "doubled", "early"] {
        assert_eq!(number(&round["measure"][wrong]), 0, "{wrong}: {}", said(&output));
    }
    let books = &report["runs"][0]["books"][0];
    assert_eq!((&books["balanced"], &books["broken_count"]), (&Value::Bool(true), &Value::from(0)), "{books:#}");
    assert_eq!(number(&books["paid_krw"]), number(&books["provider_paid_krw"]), "{books:#}");
    shows_what_happened(&folder.path().join("report"), &report);
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
    disks_agree(&report, 600, &output);
    disks_are_judged(&folder.path().join("run"));
}

/// The nodes' disks were read at the end, and hold what was acknowledged on every replica.
fn disks_agree(report: &Value, acknowledged: u64, output: &Output) {
    let audit = &report["runs"][0]["audit"];
    let number = |name: &str| audit[name].as_u64().unwrap_or_else(|| panic!("{}", said(output)));
    assert_eq!((number("violation_count"), number("nodes"), number("shards"), number("replicas")), (0, 3, 12, 36));
    assert_eq!((number("acknowledged"), number("messages")), (acknowledged, 600), "{audit:#}");
    assert!(number("gifts") >= acknowledged && number("records") >= 4 * acknowledged, "{audit:#}");
    assert!(said(output).contains("no invariant broken"), "{}", said(output));
}

/// The audit finds a gift that is on no disk, and messages and money that no provider has.
fn disks_are_judged(run: &Path) {
    let audit = |ledger: &Path| {
        let port = free_ports();
        let mut sandbox = Command::new(env!("CARGO_BIN_EXE_bojagi"));
        sandbox.args(["sandbox", "--http", &format!("127.0.0.1:{port}")]);
        sandbox.args(["--smtp", &format!("127.0.0.1:{}", port + 1)]).arg("--data").arg(ledger);
        let mut sandbox = sandbox.stdout(std::process::Stdio::null()).spawn().unwrap();
        while !bound_by_another(port) {
            assert!(sandbox.try_wait().unwrap().is_none(), "the sandbox did not start");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bojagi"));
        command.args(["chaos", "audit", "--sandbox", &format!("http://127.0.0.1:{port}"), "--data"]).arg(run);
        let output = command.output().unwrap();
        sandbox.kill().unwrap();
        sandbox.wait().unwrap();
        output
    };
    let output = audit(&run.join("sandbox"));
    assert!(output.status.success() && said(&output).contains("no invariant broken"), "{}", said(&output));

    let notes = run.join("acknowledged");
    let known = std::fs::read_to_string(&notes).unwrap();
    let stranger = format!("g_{}", "5f".repeat(16));
    std::fs::write(&notes, format!("{known}{stranger} 2026-11-11T00:00:00.000Z\n")).unwrap();
    let output = audit(&run.join("sandbox"));
    assert!(!output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("INV-1: {stranger} was acknowledged, and is on no disk")),
        "{}",
        said(&output)
    );

    let output = audit(&run.join("another-sandbox"));
    assert!(!output.status.success(), "{}", said(&output));
    for broken in ["INV-2: accepted, but no provider has it", "INV-4: ", "the provider captured 0"] {
        assert!(said(&output).contains(broken), "{}", said(&output));
    }
}

fn bound_by_another(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn nodes_that_are_killed_again_and_again_while_gifts_fall_due_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut words = vec!["--nemesis", "kill-again", "--heal-after", "1", "--every", "6", "--lost-replies", "5"];
    words.extend(["--profile", "steady", "--due-rate", "15", "--reserve-rate", "5"]);
    let output = chaos(folder.path(), &words);
    let report = report(folder.path(), &output);
    let round = &report["rounds"][0];
    assert_eq!(round["reserve"]["acknowledged"], 600, "{}", said(&output));
    for wrong in ["lost", "doubled", "early"] {
        assert_eq!(round["measure"][wrong], 0, "{wrong}: {}", said(&output));
    }
    let meanwhile = &round["meanwhile"];
    assert_eq!(meanwhile["acknowledged"], meanwhile["asked"], "{}", said(&output));
    let kills: Vec<&Value> = round["seen"]["failovers"].as_array().unwrap().iter().collect();
    assert!(kills.len() >= 2 && kills.iter().all(|kill| kill["name"] == "killed"), "{kills:#?}");
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{report:#}"));
    let apart = |pair: &[&Value]| number(&pair[1]["at_ms"]) - number(&pair[0]["at_ms"]);
    assert!(kills.windows(2).all(|pair| apart(pair) >= 5_500), "{kills:#?}");
    assert!(kills.iter().any(|kill| number(&kill["led"]) > 0 && number(&kill["due_soon"]) > 0), "{kills:#?}");
    let taken_over = |kill: &&&Value| kill["send_ms"].as_array().is_some_and(|sends| !sends.is_empty());
    assert!(kills.iter().filter(taken_over).count() >= 1, "{kills:#?}");
    let killed: Vec<&Value> = round["blows"].as_array().unwrap().iter().map(|blow| &blow["node"]).collect();
    assert_eq!(killed, kills.iter().map(|kill| &kill["node"]).collect::<Vec<_>>());
    let books = &report["runs"][0]["books"][0];
    assert_eq!(
        (&books["balanced"], &books["paid_krw"]),
        (&Value::Bool(true), &books["provider_paid_krw"]),
        "{books:#}"
    );
    disks_agree(&report, 600 + number(&meanwhile["acknowledged"]), &output);
}

/// What was looked at while the round ran is in the report, and in its page.
fn shows_what_happened(folder: &Path, report: &Value) {
    let series = &report["rounds"][0]["seen"]["series"];
    let sum = |name: &str| series[name].as_array().into_iter().flatten().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((sum("due"), sum("sent")), (600, 600), "{series:#}");
    let nodes = series["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{nodes:#?}");
    assert!(nodes.iter().all(|node| node["state"].as_str().is_some_and(|state| state.contains('u'))), "{nodes:#?}");
    let worst = report["rounds"][0]["seen"]["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 10);
    let told = |gift: &Value| gift["steps"].as_array().is_some_and(|steps| steps.len() > 2);
    assert!(worst.iter().all(told), "each of the worst gifts has its journal: {worst:#?}");
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("600 acknowledged gifts") && page.contains("links"));
    let again = Command::new(env!("CARGO_BIN_EXE_bojagi"))
        .args(["chaos", "run", "--nemesis", "kill-all", "--rounds", "2"])
        .arg("--resume")
        .arg(folder)
        .output()
        .unwrap();
    assert!(said(&again).contains("another nemesis"), "{}", said(&again));
}

/// A recorded run of one round, as its file says.
fn recorded(id: &str, commit: &str, lost: u64, failover_ms: &[u64]) -> String {
    let books = json!({ "after_round": 1, "gifts": 400_000, "paid_krw": 9_000, "held_krw": 9_000, "balanced": true, "provider_paid_krw": 9_000 });
    let kill = |open: u64| json!({ "at_ms": 900, "node": 2, "name": "killed", "led": 20, "open_attempts": open, "send_ms": failover_ms });
    let round = json!({
        "run": 0, "number": 1, "nemesis": "kill-busiest", "victims": [2],
        "happenings": [{ "at_ms_since_round_start": 900, "target": { "node": 2 }, "what": "began", "name": "killed" }],
        "reserve": { "acknowledged": 400_000 }, "measure": { "gifts": 400_000, "arrived": 400_000, "lost": lost },
        "seen": { "failovers": [kill(150), kill(99)], "lateness": { "count": 1, "min_ms": 7, "max_ms": 7, "cells": { "7": 1 } } },
    });
    let build = json!({ "version": "0.1.0", "commit": commit, "digest": "" });
    json!({ "schema": 1, "build": build, "runs": [{ "id": id, "books": [books] }], "rounds": [round] }).to_string()
}

fn merge(folder: &Path, names: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bojagi"));
    command.args(["chaos", "merge"]).args(names.iter().map(|name| folder.join(name)));
    command.arg("--out").arg(folder.join("sum")).output().unwrap()
}

#[test]
fn recorded_runs_of_one_commit_are_summed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.json"), recorded("a", "c0ffee", 0, &[900, 1_100])).unwrap();
    std::fs::create_dir(folder.join("b")).unwrap();
    std::fs::write(folder.join("b/report.json"), recorded("b", "c0ffee", 0, &[1_000, 4_000])).unwrap();
    let output = merge(folder, &["a.json", "b"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("800,000 acknowledged gifts through 2 kills"), "{}", said(&output));
    assert!(said(&output).contains("2 more kills hit too little work to count"), "{}", said(&output));
    assert!(
        said(&output).contains("p50 1.00 s, p90 4.00 s, p99 4.00 s (goal 5.00 s), max 4.00 s over 8 shards"),
        "{}",
        said(&output)
    );
    let sum: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("sum/report.json")).unwrap()).unwrap();
    assert_eq!((sum["rounds"].as_array().unwrap().len(), &sum["rounds"][1]["run"]), (2, &Value::from(1)));
    let page = std::fs::read_to_string(folder.join("sum/report.html")).unwrap();
    assert!(page.contains("800,000 acknowledged gifts"));

    std::fs::write(folder.join("bad.json"), recorded("bad", "c0ffee", 3, &[])).unwrap();
    let output = merge(folder, &["sum", "bad.json"]);
    assert!(!output.status.success() && said(&output).contains("FAILED"), "{}", said(&output));
    assert!(
        said(&output).contains("1,200,000 acknowledged gifts") && said(&output).contains("3 lost"),
        "{}",
        said(&output)
    );
}

#[test]
fn runs_of_different_builds_are_not_summed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.json"), recorded("a", "c0ffee", 0, &[])).unwrap();
    std::fs::write(folder.join("b.json"), recorded("b", "decade", 0, &[])).unwrap();
    std::fs::write(folder.join("c.json"), "{\"schema\": 2}").unwrap();
    for (names, why) in [
        (["a.json", "b.json"], "builds are not summed"),
        (["a.json", "a.json"], "in the sum already"),
        (["a.json", "c.json"], "it has schema 2"),
        (["a.json", "none.json"], "none.json"),
    ] {
        let output = merge(folder, &names);
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
    }
    assert!(!folder.join("sum").exists());
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
        (["--nemesis", "kill-again", "--nodes", "3"], "gifts that fall due for 10 s at least"),
    ];
    for (words, reason) in cases {
        let output = chaos(folder.path(), &words);
        assert!(!output.status.success() && said(&output).contains(reason), "{}", said(&output));
    }
    assert!(!folder.path().join("run").exists());
}

/// Namespaces and links of runs that there are now.
fn left_behind() -> String {
    let said = |words: &[&str]| String::from_utf8(Command::new("ip").args(words).output().unwrap().stdout).unwrap();
    let all = said(&["netns", "list"]) + &said(&["-br", "link"]);
    all.lines().filter(|line| line.starts_with("bojagi")).collect::<Vec<_>>().join("\n")
}

#[test]
fn at_level_b_a_leader_that_is_cut_off_in_its_namespace_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut words = vec!["--level", "b", "--nemesis", "cut-busiest", "--heal-after", "5", "--reserve-rate", "0"];
    words.extend(["--provider-latency-ms", "500"]);
    let output = chaos(folder.path(), &words);
    if said(&output).contains("level b is not allowed") || said(&output).contains("Debian has it in iproute2") {
        eprintln!("LEFT OUT BY THIS MACHINE, not passed: level b of `bojagi chaos run`\n{}", said(&output));
        return;
    }
    let report = report(folder.path(), &output);
    let round = &report["rounds"][0];
    assert_eq!(round["reserve"]["acknowledged"], 600, "{}", said(&output));
    for wrong in ["lost", "doubled", "early"] {
        assert_eq!(round["measure"][wrong], 0, "{wrong}: {}", said(&output));
    }
    let failovers = round["seen"]["failovers"].as_array().unwrap();
    assert!(failovers.iter().any(|one| one["name"] == "cut off" && one["node"] == round["victims"][0]), "{round:#}");
    assert_eq!(left_behind(), "", "it cleans up after itself");

    // As one that was killed leaves it.
    assert!(Command::new("ip").args(["netns", "add", "bojagi1n1"]).status().unwrap().success());
    let link = ["link", "add", "bojagi1n1", "type", "veth", "peer", "name", "eth0", "netns", "bojagi1n1"];
    assert!(Command::new("ip").args(link).status().unwrap().success());
    let cleaned = Command::new(env!("CARGO_BIN_EXE_bojagi")).args(["chaos", "clean"]).output().unwrap();
    assert!(cleaned.status.success() && said(&cleaned).contains("removed namespace bojagi1n1"), "{}", said(&cleaned));
    assert_eq!(left_behind(), "");
}

#[test]
fn what_level_b_cannot_do_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let output = chaos(folder.path(), &["--level", "b", "--nemesis", "redis-gone"]);
    assert!(!output.status.success() && said(&output).contains("redis-gone needs level a"), "{}", said(&output));
}
