//! How late a send may be, and what excuses it.

use super::*;

pub(super) const FAILED: Fact = Fact::SendFailed { delivery: 0, attempt: 1, away: false };

/// An answer so many milliseconds after the gift was due.
pub(super) fn bad(at: i64, refused: bool) -> BadAnswer {
    let at = DUE + Millis(at);
    BadAnswer { of: Some((GIFT, 0, 1)), refused, at, until: at + Millis(if refused { 0 } else { 10_000 }) }
}

#[test]
fn a_fault_excuses_its_own_length_and_no_more() {
    let span = |from: i64, to: i64| FaultSpan { class: "kill", from: DUE + Millis(from), to: DUE + Millis(to) };
    let sent = |faults: Vec<FaultSpan>, at: i64| {
        broken_by(move |history| {
            history.faults = faults;
            history.sends[0].at = DUE + Millis(at);
        })
    };
    // 20 s and a second of it lie within its wait.
    let two = || vec![span(50_000, 70_000), span(-5_000, 1_000)];
    assert_eq!(sent(two(), 81_000), [""; 0]);
    assert_eq!(sent(two(), 81_001), ["INV-3"]);
    let thrice = || vec![span(10_000, 30_000), span(12_000, 30_000), span(15_000, 16_000)];
    assert_eq!(sent(thrice(), 80_000), [""; 0]);
    assert_eq!(sent(thrice(), 80_001), ["INV-3"], "what faults share is counted once");
    let later = || vec![span(62_000, 200_000), span(-5_000, 1_000)];
    assert_eq!(sent(later(), 61_500), ["INV-3"], "it was late before the fault");
    let chain = (0..10).map(|number| span(60_000 * number, 60_000 * number + 1_000)).collect();
    assert_eq!(sent(chain, 590_000), ["INV-3"], "faults with much of peace between them");
}

#[test]
fn a_bad_answer_excuses_itself_and_the_pause_behind_it() {
    let held_up = |until: i64, sent: i64| {
        broken_by(move |history| {
            let paused = Fact::SendPaused { delivery: 0, until: DUE + Millis(until) };
            let refused_at = DUE.0 + 10_000;
            history.records[3].facts.push(paused);
            history.records[3].at = Timestamp(refused_at);
            history.bad_answers = vec![bad(0, false)];
            history.sends[0].at = DUE + Millis(sent);
        })
    };
    assert_eq!(held_up(40_000, 100_000), [""; 0]);
    assert_eq!(held_up(40_000, 100_001), ["INV-3"]);
    assert_eq!(held_up(10_000_000, 190_000), [""; 0]);
    assert_eq!(held_up(10_000_000, 190_001), ["INV-3"], "no pause of the schedule is that long");
}

#[test]
fn a_dead_letter_waits_for_its_operator_without_blame() {
    let replayed = |at: i64, sent: i64| {
        broken_by(move |history| {
            let again = Fact::SendStarted { delivery: 0, attempt: 2, term: 3 };
            history.records[3].facts.push(FAILED);
            history.records[3].at = DUE + Millis(1_000);
            history.records[4].at = DUE + Millis(at);
            history.records[4].facts = vec![Fact::Replayed, again];
            history.replies.truncate(2);
            history.bad_answers = vec![bad(0, true)];
            history.sends = vec![send(DUE + Millis(sent), 2, 3)];
        })
    };
    assert_eq!(replayed(41_000, 100_000), [""; 0]);
    assert_eq!(replayed(41_000, 100_001), ["INV-3"]);
}
