//! Money is neither made nor lost: charged = balance + held + spent, whatever is repeated, and the provider agrees.

use super::*;
use crate::domain::holds::HoldFault;
use crate::types::call::{PaymentOutcome, Prior};
use crate::types::ids::{Claim, CommandId, Incarnation, NodeId, Term};
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::time::Millis;
use proptest::prelude::*;

const START: i64 = 1_800_000_000_000;

struct Play {
    state: WalletState,
    now: Timestamp,
    records: Vec<Vec<WalletEvent>>,
}

fn sealed(number: u8) -> Sealed {
    Sealed { nonce: [number; 12], ciphertext: vec![number] }
}
fn personal() -> Vec<u8> {
    codec::encode(&PaymentKey(Private("tok_1".into())))
}
fn key() -> EntityKey {
    wallet_key("u-1")
}
fn holder(number: u8) -> EntityKey {
    EntityKey { kind: kinds::ORDER, id: [number; 16] }
}
fn charge(won: i64) -> WalletCommand {
    WalletCommand::Charge { owner: "u-1".into(), amount: Money::krw(won), sealed: sealed(1) }
}
fn captured(won: i64) -> PaymentOutcome {
    PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(won), at: Timestamp(0) }
}

impl Play {
    fn new() -> Self {
        Self { state: WalletState::default(), now: Timestamp(START), records: Vec::new() }
    }
    fn with(won: i64) -> Self {
        let mut play = Self::new();
        play.ask(charge(won)).unwrap();
        play.pay(captured(won));
        play
    }
    fn ask(&mut self, command: WalletCommand) -> Result<usize, WalletRejection> {
        let at = At { now: self.now, command_id: CommandId::default() };
        let events = Wallet::decide(key(), &self.state, command, &at)?.events;
        events.iter().for_each(|event| Wallet::evolve(&mut self.state, event));
        assert!(self.state.is_sound(), "{:?}", self.state);
        let count = events.len();
        if count > 0 {
            self.records.push(events);
        }
        Ok(count)
    }
    fn hold(&mut self, number: u8, won: i64) -> Result<usize, WalletRejection> {
        let stamp = self.now;
        self.ask(WalletCommand::Hold { holder: holder(number), amount: Money::krw(won), stamp })
    }
    fn close(&mut self, number: u8, spend: bool) -> usize {
        let (holder, stamp) = (holder(number), self.now);
        let command =
            if spend { WalletCommand::Confirm { holder, stamp } } else { WalletCommand::Release { holder, stamp } };
        self.ask(command).unwrap()
    }
    fn request(&self) -> PaymentRequest {
        let slot = Wallet::wants(key(), &self.state).calls[0].slot;
        match Wallet::request(key(), &self.state, slot, Some(&personal())) {
            Some(CallRequest::Payment(request)) => request,
            other => panic!("{other:?}"),
        }
    }
    /// The call that is wanted is made, and answered so.
    fn pay(&mut self, outcome: PaymentOutcome) {
        let want = Wallet::wants(key(), &self.state).calls[0].clone();
        self.now = self.now.max(want.due);
        let claim = Claim { term: Term(1), node: NodeId(1), incarnation: Incarnation(1) };
        let start = AttemptStart { slot: want.slot, claim, not_after: ATTEMPT_NOT_AFTER };
        self.ask(WalletCommand::Attempt(start)).unwrap();
        self.ask(WalletCommand::Outcomes(vec![(want.slot, CallOutcome::Payment(outcome))])).unwrap();
    }
    /// A part is spent and the rest goes back.
    fn settle(&mut self, number: u8, spend: i64) -> usize {
        let (holder, stamp) = (holder(number), self.now);
        self.ask(WalletCommand::Settle { holder, spend: Money::krw(spend), stamp }).unwrap()
    }
    fn figures(&self) -> (i64, i64, i64) {
        (self.state.balance().minor, self.state.held().minor, self.state.spent().minor)
    }
}

#[test]
fn a_charge_is_on_the_balance_once_it_is_captured_and_not_before() {
    let mut play = Play::new();
    assert_eq!(play.ask(charge(10_000)), Ok(1));
    assert_eq!(play.figures(), (0, 0, 0));
    let request = play.request();
    assert_eq!(request.order_id, format!("w_{}-1", key().hex()));
    assert_eq!(request.idempotency_key, format!("w_{}-1.pay", key().hex()));
    assert!(request.order_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)), "as Toss takes them");
    play.pay(PaymentOutcome::Unknown { cause: "timeout".into() });
    assert!(matches!(play.request().prior, Prior::Unknown { .. }), "looked up before it is repeated");
    play.pay(captured(10_000));
    assert_eq!(play.figures(), (10_000, 0, 0));
    assert!(Wallet::wants(key(), &play.state).calls.is_empty());
    assert_eq!(play.state.charges()[0].result, Some(ChargeResult::Charged));
}

#[test]
fn refused_and_vanished_charges_change_nothing() {
    for (outcome, code) in [
        (PaymentOutcome::NotCaptured { code: "REJECTED".into() }, "REJECTED"),
        (PaymentOutcome::Refunded { amount: Money::krw(10_000), at: Timestamp(0) }, "cancelled_by_provider"),
    ] {
        let mut play = Play::new();
        play.ask(charge(10_000)).unwrap();
        play.pay(outcome);
        assert_eq!(play.figures(), (0, 0, 0));
        assert_eq!(play.state.charges()[0].result, Some(ChargeResult::Failed { code: code.into() }));
    }
}

#[test]
fn what_is_left_of_a_charge_that_was_cancelled_in_part_is_on_the_balance() {
    let mut play = Play::new();
    play.ask(charge(10_000)).unwrap();
    play.pay(PaymentOutcome::Refunded { amount: Money::krw(4_000), at: Timestamp(0) });
    assert_eq!(play.figures(), (6_000, 0, 0));
}

/// Two charges wait, and what became of the first stays unknown until it is a dead letter.
fn in_doubt_for_a_day() -> Play {
    let mut play = Play::new();
    play.ask(charge(10_000)).unwrap();
    play.ask(charge(500)).unwrap();
    let since = play.now;
    while play.state.letter().is_none() {
        assert!(play.now < since + letter::LETTER_AFTER, "looked up all the while");
        play.pay(PaymentOutcome::Pending);
    }
    assert_eq!(play.state.letter().unwrap().since, since + letter::LETTER_AFTER);
    play
}

fn is_among_the_letters(play: &Play) -> bool {
    Wallet::wants(key(), &play.state).indexes.iter().any(|row| row.index == kinds::INDEX_DEAD_LETTER)
}

#[test]
fn a_charge_that_stays_in_doubt_is_a_dead_letter_and_is_looked_up_on() {
    let actor = || "op-1".to_owned();
    let mut early = Play::new();
    early.ask(charge(10_000)).unwrap();
    early.pay(PaymentOutcome::Pending);
    assert_eq!(early.ask(WalletCommand::Replay { actor: actor() }), Err(WalletRejection::NotADeadLetter));
    let mut play = in_doubt_for_a_day();
    let due = |play: &Play| Wallet::wants(key(), &play.state).calls[0].due;
    let since = play.state.letter().unwrap().since;
    assert!(is_among_the_letters(&play) && due(&play) >= since);
    assert_eq!((play.ask(WalletCommand::Replay { actor: actor() }), due(&play)), (Ok(1), since), "not within its day");
    play.now = since;
    play.pay(PaymentOutcome::Pending);
    play.now = play.now + Millis(1);
    assert_eq!((play.ask(WalletCommand::Replay { actor: actor() }), due(&play)), (Ok(1), play.now), "at once");
    assert!(is_among_the_letters(&play), "as long as nobody knows");
    play.pay(captured(10_000));
    assert_eq!((play.figures(), is_among_the_letters(&play)), ((10_000, 0, 0), false));
}

#[test]
fn a_charge_that_an_operator_gives_up_lets_the_next_one_go_on() {
    let give_up = || WalletCommand::Discard { actor: "op-1".into(), reason: "by hand".into() };
    let mut play = in_doubt_for_a_day();
    let want = Wallet::wants(key(), &play.state).calls[0].clone();
    play.now = want.due;
    let start = AttemptStart { slot: want.slot, claim: Claim::default(), not_after: ATTEMPT_NOT_AFTER };
    play.ask(WalletCommand::Attempt(start)).unwrap();
    assert_eq!(play.ask(give_up()), Err(WalletRejection::ChargeUnderWay));
    play.ask(WalletCommand::Outcomes(vec![(want.slot, CallOutcome::Payment(PaymentOutcome::Pending))])).unwrap();
    assert_eq!((play.ask(give_up()), play.ask(give_up())), (Ok(1), Err(WalletRejection::NotADeadLetter)));
    assert_eq!(play.state.charges()[1].result, Some(ChargeResult::Failed { code: "discarded".into() }));
    let late = vec![(want.slot, CallOutcome::Payment(captured(10_000)))];
    assert_eq!(play.ask(WalletCommand::Outcomes(late)), Ok(0), "what is said of it then is not the next one's");
    play.pay(captured(500));
    assert_eq!((play.figures(), is_among_the_letters(&play)), ((500, 0, 0), false));
}

#[test]
fn charges_are_paid_one_after_the_other_each_under_its_own_seal() {
    let mut play = Play::new();
    for number in 1..=8u8 {
        let amount = Money::krw(i64::from(number));
        play.ask(WalletCommand::Charge { owner: "u-1".into(), amount, sealed: sealed(number) }).unwrap();
    }
    assert_eq!(play.ask(charge(1)), Err(WalletRejection::ChargesWait));
    for number in 1..=8u8 {
        assert_eq!(Wallet::sealed(&play.state), Some(&sealed(number)));
        play.pay(captured(i64::from(number)));
    }
    assert_eq!(play.figures(), (36, 0, 0));
    assert_eq!(play.state.charges().iter().map(|charge| charge.number).collect::<Vec<_>>(), [8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn money_is_held_spent_or_given_back_and_repeats_change_nothing() {
    let mut play = Play::with(10_000);
    assert_eq!((play.hold(1, 4_000), play.hold(1, 4_000)), (Ok(1), Ok(0)));
    let balance = Money::krw(6_000);
    assert_eq!(play.hold(2, 6_001), Err(WalletRejection::InsufficientBalance { balance }));
    assert_eq!(play.hold(2, 6_000), Ok(1));
    assert_eq!(play.figures(), (0, 10_000, 0));
    assert_eq!((play.close(1, true), play.close(1, true)), (1, 0));
    assert_eq!((play.close(2, false), play.close(2, false)), (1, 0));
    assert_eq!(play.figures(), (6_000, 0, 4_000));
    assert_eq!(play.hold(1, 4_000), Err(WalletRejection::Hold(HoldFault::Closed)), "a repeat that was delayed");
}

#[test]
fn a_hold_is_settled_in_parts_once_and_never_for_more_than_it_is() {
    let mut play = Play::with(10_000);
    play.hold(1, 4_000).unwrap();
    assert_eq!((play.settle(1, 1_500), play.settle(1, 1_500)), (1, 0));
    assert_eq!(play.figures(), (8_500, 0, 1_500));
    play.hold(2, 1_000).unwrap();
    play.settle(2, 9_999);
    assert_eq!(play.figures(), (7_500, 0, 2_500));
    assert_eq!(play.settle(3, 1), 1, "who holds nothing is kept out, as by a release");
    assert_eq!(play.hold(3, 1), Err(WalletRejection::Hold(HoldFault::Closed)));
}

#[test]
fn an_empty_wallet_holds_nothing_and_keeps_out_who_released() {
    let mut play = Play::new();
    let balance = Money::krw(0);
    assert_eq!(play.hold(1, 1), Err(WalletRejection::InsufficientBalance { balance }));
    assert_eq!(play.close(1, false), 1);
    assert_eq!(play.hold(1, 1), Err(WalletRejection::Hold(HoldFault::Closed)));
    assert_eq!(play.ask(WalletCommand::Unwanted), Err(WalletRejection::NotWanted));
    let other = WalletCommand::Charge { owner: "u-2".into(), amount: Money::krw(1), sealed: sealed(1) };
    assert_eq!(play.ask(other), Err(WalletRejection::WrongOwner));
    for bad in [0, -1, CHARGE_MINOR_MAX + 1] {
        assert_eq!(play.ask(charge(bad)), Err(WalletRejection::BadAmount));
    }
}

#[test]
fn an_outcome_of_another_charge_is_not_taken_for_this_one() {
    let mut play = Play::new();
    play.ask(charge(1_000)).unwrap();
    let stale = Slot(0x1002);
    assert_eq!(play.ask(WalletCommand::Outcomes(vec![(stale, CallOutcome::Payment(captured(9)))])), Ok(0));
    let early = AttemptStart { slot: stale, claim: Claim::default(), not_after: Millis(1) };
    assert_eq!(play.ask(WalletCommand::Attempt(early)), Err(WalletRejection::NotWanted));
}

#[test]
fn golden_bytes_and_topics() {
    let (holder, stamp, amount) = (holder(1), Timestamp(2), Money::krw(7));
    let started = CallStarted { claim: Claim::default(), not_after: Millis(1) };
    let facts = [
        WalletFact::ChargeRequested { owner: "u".into(), number: 1, amount, sealed: sealed(1) },
        WalletFact::ChargeAttempted(started),
        WalletFact::ChargeUndecided { doubt: Doubt::Pending, retry_at: stamp },
        WalletFact::Charged { provider: "p".into(), amount },
        WalletFact::ChargeFailed { code: "c".into() },
        WalletFact::ChargeHinted,
        WalletFact::Held { holder, amount },
        WalletFact::Spent { holder, stamp },
        WalletFact::Released { holder, stamp },
        WalletFact::Settled { holder, stamp, spent: amount },
        WalletFact::Listed,
        WalletFact::Erased,
        WalletFact::ChargeReplayed { actor: "o".into() },
        WalletFact::ChargeDiscarded { actor: "o".into(), reason: "r".into() },
    ];
    let id = format!("07{}", "01".repeat(16));
    let golden = [
        format!("02000175010e00{}0101", "01".repeat(12)),
        "020100000002".to_owned(),
        "02020204".to_owned(),
        "020301700e00".to_owned(),
        "02040163".to_owned(),
        "0205".to_owned(),
        format!("0206{id}0e00"),
        format!("0207{id}04"),
        format!("0208{id}04"),
        format!("0209{id}040e00"),
        "020a".to_owned(),
        "020b".to_owned(),
        "020c016f".to_owned(),
        "020d016f0172".to_owned(),
    ];
    let events = facts.map(|fact| WalletEvent { at: Timestamp(1), fact });
    for (event, bytes) in events.iter().zip(golden) {
        assert_eq!(hex::encode(codec::encode(event)), bytes, "{event:?}");
        assert_eq!(&codec::decode::<WalletEvent>(&codec::encode(event)).unwrap(), event);
    }
    let said = publications(&codec::encode(&events.to_vec())).unwrap();
    let mut used: Vec<Topic> = said.iter().map(|said| said.topic).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!((said.len(), used.len()), (14, TOPICS.len()));
    assert!(said.iter().all(|said| !said.details.contains_key("actor") && !said.details.contains_key("reason")));
}

fn charge_listed(won: i64) -> WalletCommand {
    WalletCommand::ChargeListed { owner: "u-1".into(), amount: Money::krw(won), sealed: sealed(1) }
}

fn is_listed(play: &Play) -> bool {
    let rows = Wallet::wants(key(), &play.state).indexes;
    rows.iter().any(|row| row.index == kinds::INDEX_WALLET && row.key == key().id)
}

#[test]
fn a_wallet_of_before_has_the_bytes_of_before_until_it_is_charged_into_the_list() {
    let mut play = Play::with(10_000);
    let before = codec::encode(&play.state);
    assert!(!is_listed(&play) && !play.state.is_erased());
    assert_eq!(hex::encode(&before[..4]), "03752d31", "it begins with its owner");
    assert_eq!(codec::decode::<WalletState>(&before).unwrap(), play.state);
    assert_eq!(play.ask(charge_listed(1_000)), Ok(2));
    assert_eq!(play.ask(charge_listed(1_000)), Ok(1), "it is in the list once");
    assert!(is_listed(&play));
    let after = codec::encode(&play.state);
    assert!(after.ends_with(&[1, 1]), "the mark, and that it can be read");
    assert_eq!(codec::decode::<WalletState>(&after).unwrap(), play.state);
}

#[test]
fn payment_keys_are_erased_by_order_or_when_they_have_long_been_of_no_use() {
    let mut play = Play::new();
    assert_eq!(play.ask(WalletCommand::Erase), Err(WalletRejection::NotFound));
    play.ask(charge_listed(1_000)).unwrap();
    assert_eq!(play.ask(WalletCommand::Erase), Err(WalletRejection::ChargeUnderWay));
    assert!(Wallet::wants(key(), &play.state).timers.is_empty(), "not while a charge needs its key");
    play.pay(captured(1_000));
    let due = Wallet::wants(key(), &play.state).timers[0].due;
    assert_eq!(due, play.now + RETENTION);
    assert_eq!(play.ask(WalletCommand::Timer(RETENTION_TIMER)), Err(WalletRejection::NotWanted));
    play.now = due;
    let at = At { now: due, command_id: CommandId::default() };
    let decided = Wallet::decide(key(), &play.state, WalletCommand::Timer(RETENTION_TIMER), &at).unwrap();
    assert_eq!(decided.erase, Erasure::PersonalData);
    assert_eq!(play.ask(WalletCommand::Timer(RETENTION_TIMER)), Ok(1));
    assert!(play.state.is_erased() && Wallet::wants(key(), &play.state).timers.is_empty());
    assert_eq!(play.figures(), (1_000, 0, 0), "the money stays");
    assert_eq!(play.ask(WalletCommand::Erase), Ok(0));
    // Charged again, there is something to erase again.
    play.ask(charge_listed(500)).unwrap();
    play.pay(captured(500));
    assert!(!play.state.is_erased());
    assert_eq!((play.ask(WalletCommand::Erase), play.figures()), (Ok(1), (1_500, 0, 0)));
    // One of before comes into the list by it.
    let mut old = Play::with(10_000);
    assert_eq!(old.ask(WalletCommand::Erase), Ok(1));
    assert!(is_listed(&old) && old.state.is_erased());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Random charges and purchases with repeats: what the provider captured is what there is.
    #[test]
    fn money_is_conserved(steps in proptest::collection::vec((0u8..7, 0u8..6, 1i64..9_000), 0..150)) {
        let (mut play, mut captured_in_all) = (Play::new(), 0);
        for (kind, number, won) in steps {
            play.now = play.now + Millis(won);
            match kind {
                0 if won % 3 == 0 => { let _too_many = play.ask(charge_listed(won)); }
                0 if number == 5 => { let _under_way = play.ask(WalletCommand::Erase); }
                0 => { let _too_many = play.ask(charge(won)); }
                1 | 2 if play.state.charge().is_some() => {
                    let asked = play.state.charge().map_or(0, |charge| charge.amount.minor);
                    let outcome = match number {
                        0 => PaymentOutcome::Unknown { cause: "c".into() },
                        1 => PaymentOutcome::NotCaptured { code: "c".into() },
                        2 => PaymentOutcome::NotSent { cause: "c".into() },
                        3 => PaymentOutcome::Pending,
                        _ => captured(asked),
                    };
                    captured_in_all += if number > 3 { asked } else { 0 };
                    play.pay(outcome);
                }
                3 | 4 => { let _refused = play.hold(number, won); }
                5 if won % 2 == 0 => { play.settle(number, won / 2); }
                5 => { play.close(number, true); }
                _ => { play.close(number, false); }
            }
            let (balance, held, spent) = play.figures();
            prop_assert_eq!(balance + held + spent, captured_in_all);
            prop_assert!(balance >= 0 && held >= 0 && spent >= 0);
        }
        let mut replayed = WalletState::default();
        play.records.iter().flatten().for_each(|event| Wallet::evolve(&mut replayed, event));
        prop_assert_eq!(&replayed, &play.state);
        let decoded: WalletState = codec::decode(&codec::encode(&replayed)).unwrap();
        prop_assert_eq!(decoded, replayed);
    }
}
