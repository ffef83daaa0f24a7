//! Tests of the gift: given a gift brought to some point, when a command, then events and status, through [`check`].

mod beside;
mod delivery;
mod golden;
mod model;
mod model_beside;
mod money;
mod notices;
mod properties;
mod publish;
mod recipient;
mod sender;
mod transitions;

use super::*;
use crate::domain::calendar::SendAt;
use crate::domain::policy::{PaymentMethod, Policy, RefundWindows};
use crate::types::call::*;
use crate::types::codec;
use crate::types::effect::{CallWant, Channel, Guard, Lane};
use crate::types::ids::{Claim, CommandId, Incarnation, NodeId, Term};
use crate::types::limits::{ATTEMPT_NOT_AFTER, STATE_BYTES_MAX};
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeSet;

const KEY: EntityKey = EntityKey { kind: kinds::GIFT, id: [0x5f; 16] };
const PRICE: Money = Money::krw(4_500);
const LINK: [u8; 16] = [1; 16];
const CODE: [u8; 16] = [2; 16];
const NEW_LINK: [u8; 16] = [3; 16];
const NEW_CODE: [u8; 16] = [4; 16];

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}
/// When every gift of these tests is reserved, and when it is due: Christmas midnight in Seoul.
fn reserved_at() -> Timestamp {
    at("2026-12-20T00:00:00Z")
}
fn due() -> Timestamp {
    at("2026-12-24T15:00:00Z")
}
fn claim(term: u64) -> Claim {
    Claim { term: Term(term), node: NodeId(1), incarnation: Incarnation(1) }
}
/// As it was written down when the merchant was not part of it.
fn old_till(transaction: &str) -> RedemptionKey {
    RedemptionKey { store: Store::without_merchant("s-1"), ..till(transaction) }
}

fn till(transaction: &str) -> RedemptionKey {
    RedemptionKey { store: Store::of("m-1", "s-1"), terminal_id: "t-1".into(), transaction_id: transaction.into() }
}
fn sealed() -> Sealed {
    Sealed { nonce: [7; 12], ciphertext: vec![9; 180] }
}
fn personal() -> Personal {
    Personal {
        recipient: RecipientContact {
            name: "지민".into(),
            phone: Some("+821012345678".into()),
            email: Some("jimin@example.com".into()),
            ..RecipientContact::default()
        },
        sender: SenderContact { name: Some("서준".into()), ..SenderContact::default() },
        message: "생일 축하해!".into(),
        link_base: "http://127.0.0.1:8080".into(),
        link_token: "007aa".into(),
        voucher_code: "0071234567890123".into(),
        payment_key: "tok_1".into(),
    }
}
fn facts(zone: &str) -> RecipientFacts {
    RecipientFacts { contacts: personal().recipient.contacts(), zone: zone.into() }
}
fn reservation() -> Reservation {
    let send_at = SendAt::local("2026-12-25T00:00", "Asia/Seoul").unwrap();
    let mut resolved = send_at.resolve().unwrap();
    // Fixed, so that new time-zone data leaves the golden bytes alone.
    resolved.tzdb = "2026e".into();
    Reservation {
        owner: "u-1".into(),
        product: ProductSnapshot {
            id: "americano".into(),
            name: "아메리카노".into(),
            price: PRICE,
            policy: Policy::default(),
        },
        recipient: facts("Asia/Seoul"),
        sender: ContactSet::default(),
        sealed: sealed(),
        link_hash: LINK,
        code_hash: CODE,
        send_at,
        resolved,
        channels: vec![Channel::Kakao, Channel::Sms],
        payment: PaymentTerms {
            method: PaymentMethod::Card,
            amount: PRICE,
            refund_by: PaymentMethod::Card.refund_by(reserved_at(), &RefundWindows::default()),
        },
    }
}
fn hand_on() -> Transfer {
    Transfer {
        link_hash: LINK,
        recipient: facts("America/New_York"),
        sealed: sealed(),
        new_link_hash: NEW_LINK,
        new_code_hash: NEW_CODE,
    }
}

/// A gift, the clock, and every event so far, record by record.
#[derive(Clone)]
struct Play {
    state: GiftState,
    now: Timestamp,
    records: Vec<Vec<GiftEvent>>,
    /// Status before and after each record; `None` is the gift that does not exist.
    transitions: BTreeSet<(Option<Status>, Status)>,
}

impl Play {
    fn new() -> Self {
        Self { state: GiftState::default(), now: reserved_at(), records: Vec::new(), transitions: BTreeSet::new() }
    }
    fn reserved() -> Self {
        Self::new().then(GiftCommand::Reserve(Box::new(reservation())))
    }
    fn with_policy(policy: Policy) -> Self {
        let mut reservation = reservation();
        reservation.product.policy = policy;
        Self::new().then(GiftCommand::Reserve(Box::new(reservation)))
    }

    /// Decides and applies as the runtime does; every invariant holds after every record.
    fn ask(&mut self, command: GiftCommand) -> Result<Vec<GiftEvent>, GiftRejection> {
        let before = self.state.exists().then(|| self.state.state());
        let at = At { now: self.now, command_id: CommandId::default() };
        let decision = Gift::decide(KEY, &self.state, command, &at)?;
        for event in &decision.events {
            Gift::evolve(&mut self.state, event);
        }
        if !decision.events.is_empty() {
            self.transitions.insert((before, self.state.state()));
            self.records.push(decision.events.clone());
        }
        self.assert_invariants();
        Ok(decision.events)
    }

    fn assert_invariants(&self) {
        let ledger = self.state.ledger();
        let parts = ledger.held().minor + ledger.used().minor + ledger.refunded().minor;
        assert!(ledger.is_sound() && parts == ledger.paid().minor, "INV-4: {ledger:?}");
        let wants = Gift::wants(KEY, &self.state);
        // What is done waits for nothing but to be forgotten.
        let holds = wants.timers.iter().any(|timer| timer.slot != names::RETENTION) || !wants.calls.is_empty();
        assert!(wants.terminal != holds, "INV-9: {} {wants:?}", self.state.status());
        assert!(!wants.terminal || ledger.held().is_zero(), "INV-9: nothing left to hold");
        assert!(wants.timers.is_sorted_by_key(|timer| timer.slot) && wants.calls.is_sorted_by_key(|call| call.slot));
        let bytes = codec::encode(&self.state);
        assert!(bytes.len() <= STATE_BYTES_MAX);
        assert_eq!(codec::decode::<GiftState>(&bytes).unwrap(), self.state);
    }

    fn then(mut self, command: GiftCommand) -> Self {
        self.ask(command.clone()).unwrap_or_else(|rejection| panic!("{command:?}: {rejection}"));
        self
    }
    fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }
    fn after(self, span: Millis) -> Self {
        let now = self.now + span;
        self.at(now)
    }
    fn wants(&self) -> Effects {
        Gift::wants(KEY, &self.state)
    }
    fn timer(&self, slot: Slot) -> Option<Timestamp> {
        self.wants().timers.iter().find(|timer| timer.slot == slot).map(|timer| timer.due)
    }
    /// The one fenced call that is wanted.
    fn call(&self) -> CallWant {
        let fenced = |call: &&CallWant| call.guard == Guard::Fenced;
        self.wants().calls.iter().find(fenced).cloned().expect("a fenced call is wanted")
    }
    fn start(self) -> Self {
        self.start_under(1)
    }
    fn start_under(self, term: u64) -> Self {
        let slot = self.call().slot;
        self.then(GiftCommand::Attempt(AttemptStart { slot, claim: claim(term), not_after: ATTEMPT_NOT_AFTER }))
    }
    fn outcome(self, outcome: impl Into<CallOutcome>) -> Self {
        let slot = self.call().slot;
        self.then(GiftCommand::Outcomes(vec![(slot, outcome.into())]))
    }
    /// At its due instant, started and answered.
    fn call_answers(self, outcome: impl Into<CallOutcome>) -> Self {
        let due = self.call().due.max(self.now);
        self.at(due).start().outcome(outcome)
    }
    fn report(self, generation: u16, attempt: u16, status: ReportStatus) -> Self {
        let report = report(generation, attempt, status, self.now);
        self.then(GiftCommand::Report(report))
    }
    fn request(&self) -> CallRequest {
        let bytes = codec::encode(&personal());
        Gift::request(KEY, &self.state, self.call().slot, Some(&bytes)).expect("renders")
    }

    // Stages of the straight life.
    fn scheduled() -> Self {
        Self::reserved().call_answers(captured())
    }
    fn sending() -> Self {
        Self::scheduled().at(due()).start()
    }
    fn accepted_by_provider() -> Self {
        Self::sending().outcome(taken(due() + Millis(300)))
    }
    fn sent() -> Self {
        Self::accepted_by_provider().after(Millis::from_secs(5)).report(0, 1, ReportStatus::Delivered)
    }
    fn accepted() -> Self {
        Self::sent().after(Millis::from_hours(9)).then(GiftCommand::Accept { link_hash: LINK })
    }
    fn used() -> Self {
        Self::accepted()
            .after(Millis::from_hours(1))
            .then(GiftCommand::Redeem { code_hash: CODE, redemption: till("x-1") })
    }
    fn send_failed() -> Self {
        Self::sending()
            .outcome(refused("3019", RefusalClass::NextChannel))
            .start()
            .outcome(refused("1062", RefusalClass::Permanent))
    }
    fn refunding() -> Self {
        Self::scheduled().then(GiftCommand::Cancel)
    }
    fn refund_failed() -> Self {
        Self::refunding().call_answers(refund_refused("EXCEED_MAX_REFUND_DUE", RefusalClass::Permanent))
    }
}

fn report(generation: u16, attempt: u16, status: ReportStatus, at: Timestamp) -> Report {
    let reference = format!("g_{}.{generation}.{attempt}", KEY.hex());
    Report { reference, provider: "nhn_alimtalk".into(), status, at }
}
fn captured() -> CallOutcome {
    CallOutcome::Payment(PaymentOutcome::Captured { provider: "toss".into(), amount: PRICE, at: reserved_at() })
}
fn not_captured() -> CallOutcome {
    CallOutcome::Payment(PaymentOutcome::NotCaptured { code: "REJECT_CARD_PAYMENT".into() })
}
fn payment_unknown() -> CallOutcome {
    CallOutcome::Payment(PaymentOutcome::Unknown { cause: "timeout".into() })
}
fn refunded(won: i64) -> CallOutcome {
    CallOutcome::Payment(PaymentOutcome::Refunded { amount: Money::krw(won), at: due() })
}
fn refund_refused(code: &str, class: RefusalClass) -> CallOutcome {
    CallOutcome::Payment(PaymentOutcome::RefundRefused { code: code.into(), class })
}
fn taken(at: Timestamp) -> CallOutcome {
    CallOutcome::Message(MessageOutcome::Accepted { provider: "nhn_alimtalk".into(), receipt: "r-1".into(), at })
}
fn refused(code: &str, class: RefusalClass) -> CallOutcome {
    CallOutcome::Message(MessageOutcome::Refused { code: code.into(), class })
}
fn unknown() -> CallOutcome {
    CallOutcome::Message(MessageOutcome::Unknown { cause: "timeout".into() })
}
fn failed(code: &str, class: RefusalClass) -> ReportStatus {
    ReportStatus::Failed { code: code.into(), class }
}

/// What a command is expected to lead to: the types of its events, and the status after them; or a rejection.
enum Then {
    Events(&'static [&'static str], Status),
    Unchanged,
    Rejected(GiftRejection),
}

/// Given a gift, when a command, then. Returns the gift as it is afterwards.
#[track_caller]
fn check(given: &Play, when: GiftCommand, then: Then) -> Play {
    let mut play = given.clone();
    let answer = play.ask(when);
    match then {
        Then::Rejected(rejection) => assert_eq!(answer, Err(rejection)),
        Then::Unchanged => {
            assert_eq!(answer, Ok(Vec::new()));
            assert_eq!(play.state, given.state);
        }
        Then::Events(types, status) => {
            let events = answer.unwrap_or_else(|rejection| panic!("rejected: {rejection}"));
            let described: Vec<String> =
                events.iter().map(|event| Gift::describe(event)["type"].as_str().unwrap().to_owned()).collect();
            assert_eq!(described, types);
            assert_eq!(play.state.state(), status);
        }
    }
    play
}
