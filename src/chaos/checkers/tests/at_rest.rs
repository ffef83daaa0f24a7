//! What has to be over at the end of a run that was left in peace.

use super::*;

#[test]
fn a_payment_that_is_wanted_or_in_doubt_at_the_end_is_seen() {
    assert_eq!(broken_by(|history| history.gifts[0].money_in_doubt = true), ["INV-4"]);
}

#[test]
fn voters_that_are_not_where_their_leader_is_are_seen() {
    let voters = |applied: [u64; 3]| {
        move |history: &mut History| {
            let row = |(replica, applied)| VoterRow { replica, applied: LogIndex(applied) };
            history.voters = (1..).zip(applied).map(row).collect();
        }
    };
    assert_eq!(broken_by(voters([9, 9, 9])), [""; 0]);
    assert_eq!(broken_by(voters([9, 9, 8])), ["INV-5"]);
    assert_eq!(broken_by(voters([8, 9, 8])), ["INV-5"], "the leader itself has not applied what others have");
}

#[test]
fn a_request_that_nobody_answered_once_all_was_well_is_seen() {
    let asked = |at: i64| {
        move |history: &mut History| {
            history.healed_at = DUE;
            history.unanswered.push(UnansweredRow { key: GIFT, asked: DUE + Millis(at) });
        }
    };
    assert_eq!(broken_by(asked(-1)), [""; 0], "a fault may have swallowed its answers");
    assert_eq!(broken_by(asked(0)), ["INV-9"]);
}
