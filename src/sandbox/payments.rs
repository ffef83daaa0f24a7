//! What the payment provider remembers: payments, their refunds, and the first reply to every idempotency key.
//!
//! A payment is named by its order id; a payment key may be shared by orders here (test tokens like `tok_1` are), so a
//! call that names only the key is resolved by [`Payments::by_key`]. States:
//!
//! | from | confirm captured | confirm refused | confirm left open | late capture | refund |
//! |---|---|---|---|---|---|
//! | (new), Open, Aborted | Done | Aborted | Open | Done | - |
//! | Done | - | - | - | - | Done, Canceled when nothing is left |

use crate::sandbox::digest::DigestMap;
use crate::sandbox::event::{ConfirmEvent, ConfirmOutcome, KeyDigest, PaymentNumber, RefundEvent, StoredReply};
use crate::sandbox::journal::FrameAt;
use crate::sandbox::ledger::{Entry, ItemNumber, Kind, Ledger};
use crate::sandbox::settings::{Provider, TOSS_CONFIRM_WINDOW, TOSS_KEY_WINDOW};
use crate::types::time::Timestamp;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaymentState {
    /// Authenticated by the customer, not confirmed.
    Open,
    Done,
    /// The confirm was refused.
    Aborted,
    /// Everything was given back.
    Canceled,
}

/// One refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refund {
    pub amount: i64,
    pub at: Timestamp,
    /// Where its reason stands.
    pub frame: FrameAt,
}

#[derive(Debug)]
pub(crate) struct Payment {
    pub item: ItemNumber,
    pub key: Box<str>,
    /// Won.
    pub amount: i64,
    pub state: PaymentState,
    /// Authentication: the confirm window begins here.
    pub first_seen_at: Timestamp,
    pub approved_at: Option<Timestamp>,
    pub refunds: Vec<Refund>,
    /// Money will be captured although nobody was told yet.
    capture_at: Option<Timestamp>,
    previous_of_key: Option<PaymentNumber>,
}

impl Payment {
    /// What is left of the captured money.
    pub(crate) fn balance(&self) -> i64 {
        self.amount - self.refunds.iter().map(|refund| refund.amount).sum::<i64>()
    }

    pub(crate) fn waits_for_capture(&self) -> bool {
        self.state == PaymentState::Open && self.capture_at.is_some()
    }

    /// The name of the state as the provider says it at `now`.
    pub(crate) fn status(&self, now: Timestamp) -> &'static str {
        match self.state {
            PaymentState::Open if self.waits_for_capture() => "IN_PROGRESS",
            PaymentState::Open if now - self.first_seen_at >= TOSS_CONFIRM_WINDOW => "EXPIRED",
            PaymentState::Open => "IN_PROGRESS",
            PaymentState::Done if self.refunds.is_empty() => "DONE",
            PaymentState::Done => "PARTIAL_CANCELED",
            PaymentState::Aborted => "ABORTED",
            PaymentState::Canceled => "CANCELED",
        }
    }
}

/// The first reply to a key, as it stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub frame: FrameAt,
    pub at: Timestamp,
}

#[derive(Default)]
pub(crate) struct Payments {
    payments: Vec<Payment>,
    by_order: DigestMap<u128, PaymentNumber>,
    newest_of_key: DigestMap<u128, PaymentNumber>,
    replies: DigestMap<KeyDigest, Replay>,
    replies_by_age: VecDeque<(Timestamp, KeyDigest)>,
}

impl Payments {
    /// Returns the payment and the instant when it is to be captured, if that comes later.
    pub(crate) fn confirm(
        &mut self,
        event: &ConfirmEvent<'_>,
        frame: FrameAt,
        ledger: &mut Ledger,
    ) -> Option<(PaymentNumber, Timestamp)> {
        let item = ledger.call(&entry(Kind::Payment, &event.order, event.at, frame));
        self.keep_reply(event.reply.as_ref(), event.at, frame);
        let number = self.payment_of(event, item);
        let payment = &mut self.payments[number.0 as usize];
        match event.outcome {
            ConfirmOutcome::Captured => {
                payment.amount = event.amount;
                payment.state = PaymentState::Done;
                payment.approved_at = Some(event.at);
                ledger.money(item, event.amount);
                None
            }
            ConfirmOutcome::Refused => {
                payment.state = PaymentState::Aborted;
                None
            }
            ConfirmOutcome::Open { capture_at } => {
                payment.amount = event.amount;
                payment.state = PaymentState::Open;
                payment.capture_at = capture_at;
                capture_at.map(|at| (number, at))
            }
            ConfirmOutcome::Unchanged => None,
        }
    }

    fn payment_of(&mut self, event: &ConfirmEvent<'_>, item: ItemNumber) -> PaymentNumber {
        let next = PaymentNumber(u32::try_from(self.payments.len()).expect("fewer than 2^32 payments fit in memory"));
        let order = digest(&event.order);
        let known = self.by_order.get(&order).copied().filter(|known| {
            // Another key after one that came to nothing is another authentication, with a window of its own.
            let known = &self.payments[known.0 as usize];
            *known.key == *event.payment_key || event.outcome == ConfirmOutcome::Unchanged
        });
        let number = known.unwrap_or(next);
        if number == next {
            self.by_order.insert(order, next);
            let previous_of_key = self.newest_of_key.insert(digest(&event.payment_key), number);
            self.payments.push(Payment {
                item,
                key: event.payment_key.as_ref().into(),
                amount: event.amount,
                state: PaymentState::Open,
                first_seen_at: event.at,
                approved_at: None,
                refunds: Vec::new(),
                capture_at: None,
                previous_of_key,
            });
        }
        number
    }

    pub(crate) fn refund(&mut self, event: &RefundEvent<'_>, frame: FrameAt, ledger: &mut Ledger) {
        self.keep_reply(event.reply.as_ref(), event.at, frame);
        let payment = &mut self.payments[event.payment.0 as usize];
        let order = ledger.get(payment.item).reference.clone();
        let item = ledger.call(&entry(Kind::Refund, &order, event.at, frame));
        if event.amount > 0 {
            payment.refunds.push(Refund { amount: event.amount, at: event.at, frame });
            ledger.money(item, event.amount);
            if payment.balance() == 0 {
                payment.state = PaymentState::Canceled;
            }
        }
    }

    pub(crate) fn captured_late(&mut self, number: PaymentNumber, at: Timestamp, ledger: &mut Ledger) {
        let payment = &mut self.payments[number.0 as usize];
        if payment.waits_for_capture() {
            payment.state = PaymentState::Done;
            payment.approved_at = Some(at);
            ledger.money(payment.item, payment.amount);
        }
    }

    pub(crate) fn call_without_effect(
        &mut self,
        order: &str,
        refund: bool,
        (amount, at, frame): (i64, Timestamp, FrameAt),
        ledger: &mut Ledger,
    ) {
        debug_assert!(amount >= 0, "amounts are checked before they are written");
        let kind = if refund { Kind::Refund } else { Kind::Payment };
        ledger.call(&entry(kind, order, at, frame));
    }

    fn keep_reply(&mut self, reply: Option<&StoredReply<'_>>, at: Timestamp, frame: FrameAt) {
        let Some(reply) = reply else { return };
        self.replies.insert(reply.key, Replay { frame, at });
        self.replies_by_age.push_back((at, reply.key));
        while let Some((oldest, key)) = self.replies_by_age.front().copied() {
            if at - oldest < TOSS_KEY_WINDOW {
                return;
            }
            self.replies_by_age.pop_front();
            // The key may have been used again since; then the younger reply stays.
            if self.replies.get(&key).is_some_and(|replay| replay.at == oldest) {
                self.replies.remove(&key);
            }
        }
    }

    /// The first reply to `key`, while its window is open.
    pub(crate) fn reply(&self, key: KeyDigest, now: Timestamp) -> Option<Replay> {
        self.replies.get(&key).copied().filter(|replay| now - replay.at < TOSS_KEY_WINDOW)
    }

    pub(crate) fn get(&self, number: PaymentNumber) -> Option<&Payment> {
        self.payments.get(number.0 as usize)
    }

    pub(crate) fn by_order(&self, order: &str) -> Option<PaymentNumber> {
        self.by_order.get(&digest(order)).copied()
    }

    /// The payment that a call means which names only the payment key. When orders share the key, the one whose order
    /// id stands in `hint` (the idempotency key) is meant, else the newest that still holds money, else the newest.
    pub(crate) fn by_key(&self, key: &str, hint: &str, ledger: &Ledger) -> Option<PaymentNumber> {
        let newest = self.newest_of_key.get(&digest(key)).copied()?;
        if self.payments[newest.0 as usize].previous_of_key.is_none() {
            return Some(newest);
        }
        if let Some(named) = self.named_in(hint, key) {
            return Some(named);
        }
        let holds = |number: &PaymentNumber| {
            let payment = &self.payments[number.0 as usize];
            let named = hint.contains(&*ledger.get(payment.item).reference);
            (named, payment.state == PaymentState::Done)
        };
        let mut of_key = Vec::new();
        let mut next = Some(newest);
        while let Some(number) = next {
            of_key.push(number);
            next = self.payments[number.0 as usize].previous_of_key;
        }
        let named = of_key.iter().find(|number| holds(number).0);
        named.or_else(|| of_key.iter().find(|number| holds(number).1)).copied().or(Some(newest))
    }

    /// The usual case without a walk: the hint begins with the order id.
    fn named_in(&self, hint: &str, key: &str) -> Option<PaymentNumber> {
        let order = hint.split(['.', ':', '/', ' ']).next()?;
        let number = self.by_order(order)?;
        (&*self.payments[number.0 as usize].key == key).then_some(number)
    }
}

fn digest(text: &str) -> u128 {
    xxh3_128(text.as_bytes())
}

fn entry(kind: Kind, order: &str, at: Timestamp, frame: FrameAt) -> Entry<'_> {
    Entry { kind, provider: Provider::Toss, channel: None, reference: order, at, frame }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirm(order: &'static str, outcome: ConfirmOutcome) -> ConfirmEvent<'static> {
        let reply = Some(StoredReply { key: KeyDigest(1), status: 200, body: "".into() });
        ConfirmEvent { order: order.into(), payment_key: "tok_1".into(), amount: 100, at: Timestamp(0), outcome, reply }
    }

    fn refund(amount: i64) -> RefundEvent<'static> {
        RefundEvent { payment: PaymentNumber(0), amount, reason: "".into(), at: Timestamp(5), reply: None }
    }

    #[test]
    fn refunds_add_up_to_the_capture_and_close_the_payment() {
        let (mut payments, mut ledger) = (Payments::default(), Ledger::default());
        payments.confirm(&confirm("g_1", ConfirmOutcome::Captured), FrameAt(0), &mut ledger);
        payments.refund(&refund(40), FrameAt(0), &mut ledger);
        let status = |payments: &Payments| payments.get(PaymentNumber(0)).unwrap().status(Timestamp(9));
        assert_eq!(status(&payments), "PARTIAL_CANCELED");
        payments.refund(&refund(60), FrameAt(0), &mut ledger);
        assert_eq!(status(&payments), "CANCELED");
        assert_eq!((ledger.summary().paid, ledger.summary().refunded), (100, 100));
    }

    #[test]
    fn open_payment_expires_unless_it_is_captured_late() {
        let (mut payments, mut ledger) = (Payments::default(), Ledger::default());
        let late = ConfirmOutcome::Open { capture_at: Some(Timestamp(7)) };
        payments.confirm(&confirm("g_1", ConfirmOutcome::Open { capture_at: None }), FrameAt(0), &mut ledger);
        let due = payments.confirm(&confirm("g_2", late), FrameAt(0), &mut ledger);
        assert_eq!(due, Some((PaymentNumber(1), Timestamp(7))));
        let later = Timestamp(0) + TOSS_CONFIRM_WINDOW;
        assert_eq!(payments.get(PaymentNumber(0)).unwrap().status(later), "EXPIRED");
        payments.captured_late(PaymentNumber(1), later, &mut ledger);
        payments.captured_late(PaymentNumber(1), later, &mut ledger);
        assert_eq!(payments.get(PaymentNumber(1)).unwrap().status(later), "DONE");
        assert_eq!(ledger.summary().paid, 100);
    }

    #[test]
    fn a_shared_key_is_resolved_by_the_order_in_the_idempotency_key() {
        let (mut payments, mut ledger) = (Payments::default(), Ledger::default());
        for order in ["g_1", "g_2", "g_3"] {
            payments.confirm(&confirm(order, ConfirmOutcome::Captured), FrameAt(0), &mut ledger);
        }
        assert_eq!(payments.by_key("tok_1", "g_2.refund.1", &ledger), Some(PaymentNumber(1)));
        assert_eq!(payments.by_key("tok_1", "refund-g_2", &ledger), Some(PaymentNumber(1)));
        assert_eq!(payments.by_key("tok_1", "", &ledger), Some(PaymentNumber(2)));
        assert_eq!(payments.by_key("tok_2", "g_2", &ledger), None);
    }

    #[test]
    fn another_key_after_a_refusal_is_another_payment_of_the_order() {
        let (mut payments, mut ledger) = (Payments::default(), Ledger::default());
        let refused = ConfirmEvent { payment_key: "tok_reject".into(), ..confirm("g_1", ConfirmOutcome::Refused) };
        payments.confirm(&refused, FrameAt(0), &mut ledger);
        payments.confirm(&confirm("g_1", ConfirmOutcome::Captured), FrameAt(0), &mut ledger);
        assert_eq!(payments.by_order("g_1"), Some(PaymentNumber(1)));
        assert_eq!(payments.by_key("tok_1", "", &ledger), Some(PaymentNumber(1)));
        assert_eq!(payments.by_key("tok_reject", "", &ledger), Some(PaymentNumber(0)));
        payments.confirm(
            &ConfirmEvent { payment_key: "tok_2".into(), ..confirm("g_1", ConfirmOutcome::Unchanged) },
            FrameAt(0),
            &mut ledger,
        );
        assert_eq!(payments.by_order("g_1"), Some(PaymentNumber(1)));
    }

    #[test]
    fn replies_are_kept_for_their_window() {
        let (mut payments, mut ledger) = (Payments::default(), Ledger::default());
        payments.confirm(&confirm("g_1", ConfirmOutcome::Captured), FrameAt(9), &mut ledger);
        let end = Timestamp(0) + TOSS_KEY_WINDOW;
        let replay = payments.reply(KeyDigest(1), Timestamp(end.0 - 1)).unwrap();
        assert_eq!(replay.frame, FrameAt(9));
        assert_eq!(payments.reply(KeyDigest(1), end), None);
    }
}
