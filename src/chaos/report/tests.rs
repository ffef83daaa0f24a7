//! The report as a whole: its judgement, its file, its page.

use super::*;
use crate::chaos::gauge::Blow;
use crate::chaos::happening::{Happening, Target};

#[test]
fn a_run_passes_only_when_something_was_hit_and_nothing_is_wrong() {
    let with = |change: fn(&mut ChaosReport)| {
        let mut report = sample::report("a", 2);
        change(&mut report);
        report
    };
    assert!(with(|_| {}).passed());
    assert!(!with(|report| report.rounds.clear()).passed());
    assert!(!with(|report| report.rounds[0].reserve.acknowledged = 0).passed(), "nothing was acknowledged");
    assert!(!with(|report| report.rounds[1].measure.lost = 1).passed());
    assert!(!with(|report| report.rounds[1].seen.late_beyond_faults = 1).passed());
    assert!(!with(|report| report.runs[0].books[0].provider_paid_krw += 1).passed(), "a won is adrift");
    assert!(!with(|report| report.runs[0].books.clear()).passed());
    assert!(!with(|report| report.runs[0].books[0].delivered_twice = 1).passed(), "whenever it was");
    assert!(!with(|report| report.rounds[0].happenings.clear()).passed(), "nothing was done to it");
    let forgotten = with(|report| {
        report.rounds[1].kept.as_mut().unwrap().statuses.insert("scheduled".to_owned(), 2_399);
    });
    assert!(!forgotten.passed() && forgotten.verdict().contains("1 of 4,800 acknowledged meanwhile lost"));
    let broken_off = with(|report| {
        report.broken_off.push(BrokenOff { run: 0, number: 3, why: "node 2 fell by itself".to_owned() });
    });
    assert!(broken_off.render().contains("round 3 was broken off: node 2 fell by itself") && !broken_off.passed());
    let idle = with(|report| {
        let round = &mut report.rounds[0];
        round.blows[0] = Blow { open_attempts: 99, due_soon: 999, ..round.blows[0].clone() };
        report.runs[0].books[0].held_krw = 1;
    });
    let text = idle.render();
    assert!(text.starts_with("FAILED"), "{text}");
    assert!(text.contains("round 1: the fault did not hit") && text.contains("books do not balance"), "{text}");
}

#[test]
fn a_run_without_faults_says_that_it_proves_nothing_of_them() {
    let mut report = sample::report("a", 1);
    let round = &mut report.rounds[0];
    round.nemesis = "none".to_owned();
    (round.victims, round.blows, round.happenings) = (Vec::new(), Vec::new(), Vec::new());
    round.seen.failovers.clear();
    assert!(report.passed() && report.verdict().starts_with("Calm"), "{}", report.verdict());
}

#[test]
fn late_gifts_are_forgiven_for_as_long_as_the_fault_lasted() {
    let mut report = sample::report("a", 1);
    report.rounds[0].measure.beyond_minute = 5;
    assert!(report.passed(), "late, but not beyond the fault: {:?}", report.failings());
}

#[test]
fn clients_must_be_answered_through_the_fault() {
    let answered = |acknowledged, within, killed: &[u16]| {
        let mut report = sample::report("a", 1);
        // Two were chosen; what counts is who was down.
        report.rounds[0].victims = vec![1, 2];
        let kill = report.rounds[0].happenings.iter().find(|edge| edge.name == "killed").unwrap().clone();
        let kills = killed.iter().map(|node| Happening { target: Target::Node(*node), ..kill.clone() });
        report.rounds[0].happenings = kills.collect();
        let meanwhile = report.rounds[0].meanwhile.as_mut().unwrap();
        (meanwhile.asked, meanwhile.acknowledged, meanwhile.acknowledged_within_3_s) = (100, acknowledged, within);
        report.passed()
    };
    assert!(answered(100, 99, &[2]));
    assert!(!answered(100, 98, &[2]) && !answered(99, 99, &[2]));
    assert!(answered(100, 10, &[1, 2]), "with two nodes down clients wait");
}

#[test]
fn sums_keep_kills_that_count_apart() {
    let mut report = sample::report("a", 3);
    let idle = &mut report.rounds[1].seen.failovers[0];
    (idle.open_attempts, idle.due_soon) = (5, 20);
    report.rounds[2].seen.failovers[0].name = "paused".to_owned();
    let all = Totals::of(&report);
    assert_eq!((all.kills, all.idle_kills, all.acknowledged, all.rounds), (1, 1, 3 * sample::GIFTS, 3));
    assert_eq!((all.failover(50), all.failover(100), all.failover_ms.len()), (Some(1_200), Some(1_500), 9));
    assert_eq!((all.asked_seconds, all.good_seconds, all.recovery_ms.len()), (72, 72, 3));
    assert_eq!(all.other_faults, 3 * 3 + 1);
}

#[test]
fn the_verdict_is_one_sentence_with_counts_and_the_bound() {
    let verdict = sample::report("a", 500).verdict();
    assert!(verdict.starts_with("Held: 1,000,000 acknowledged gifts through 500 kills"), "{verdict}");
    assert!(verdict.contains("0 lost, 0 sent twice, 0 early"), "{verdict}");
    assert!(verdict.contains("at most 3.0 in a million gifts fail (Clopper-Pearson"), "{verdict}");
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let report = sample::report("a", 2);
    write(folder.path(), &report).unwrap();
    assert_eq!(read(folder.path()).unwrap(), report);
    assert!(folder.path().join("report.html").is_file());
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no draft is left: {names:?}");
}

#[test]
fn a_report_of_an_older_writer_lacks_members_and_is_read() {
    let text = serde_json::json!({
        "schema": SCHEMA, "build": {}, "runs": [{ "id": "x" }], "rounds": [{ "number": 3, "later": "member" }],
    });
    let report: ChaosReport = serde_json::from_value(text).unwrap();
    assert_eq!((report.rounds[0].number, report.rounds[0].due_at_ms), (3, 0));
    well_formed(&report.page());
}

/// Reads a page as a strict reader would: every element is closed in its turn, every attribute quoted, no stray markup.
fn well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("a tag that does not end: {piece}"));
        let in_sheet = open.last() == Some(&"style");
        assert!(in_sheet || !text.contains('>'), "a stray bracket: {text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed out of turn");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "a strange name: {name}");
        assert!(attributes.matches('"').count().is_multiple_of(2), "unquoted: {attributes}");
        if !["meta", "br", "hr", "col"].contains(&name) {
            open.push(name);
        }
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| entity.starts_with(known));
            assert!(known, "a bare ampersand: {entity}");
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_from_outside() {
    let mut report = sample::report("a", 14);
    report.runs[0].command = "bojagi chaos run --data '</pre><script>alert(1)</script>'".to_owned();
    report.rounds[0].seen.worst[0].steps[0].what = "<img src=x onerror=alert(1)>".to_owned();
    report.rounds[3].measure.lost = 2;
    let page = report.page();
    well_formed(&page);
    for outside in ["<script", "<img", "<link", "<a ", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("cut &lt;&amp;&gt; &quot;quoted&quot;"), "the name of a fault is shown");
    assert_eq!(page.matches("<svg").count(), 12, "of 14 rounds 12 are drawn");
    assert!(page.contains("Round 4") && page.contains("FAILED"));
}

#[test]
fn the_page_shows_what_the_file_holds() {
    let page = sample::report("a", 1).page();
    for wanted in [
        "60 s: the promise",
        "node 2",
        "killed",
        "links",
        "disks",
        "providers",
        "first accepted by a provider",
        "prefers-color-scheme: dark",
        "@media print",
        "Clopper",
        "Broken promises",
        "Availability",
        "Recovery",
        "bojagi chaos run --gifts 2000 --seed 7",
        "2,000 due within",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}
