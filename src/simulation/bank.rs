//! The payment provider in memory: sessions that end ten minutes after they were opened, captures that come late, refunds
//! in parts, replies that are kept under their idempotency keys for fifteen days, and lookups by order id.

use crate::chaos::checkers::history::{MoneyMove, PaymentRow};
use crate::simulation::dice::Dice;
use crate::simulation::providers::{Fate, parse_order};
use crate::types::call::{PaymentOperation, PaymentOutcome, PaymentRequest, Prior, RefusalClass};
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// An order that is not confirmed by then is dead. As the wire client's own rule for what it does not find.
const SESSION: Millis = Millis::from_mins(10);
const KEY_LIFE: Millis = Millis::from_days(15);

#[derive(Debug, Default)]
struct Order {
    opened: Timestamp,
    captured: i64,
    refunded: i64,
    /// A capture that is under way, and when it ends.
    pending: Option<(Timestamp, i64, u64)>,
    dead: Option<&'static str>,
    /// Refunds by idempotency key: when, and the total that was told.
    refunds: BTreeMap<String, (Timestamp, i64)>,
}

/// Orders and what moved.
#[derive(Default)]
pub struct Bank {
    orders: BTreeMap<String, Order>,
    pub moves: Vec<MoneyMove>,
}

impl Bank {
    /// The sender authorised a payment; confirming it is the cluster's business.
    pub fn open(&mut self, order_id: String, at: Timestamp) {
        self.orders.entry(order_id).or_insert(Order { opened: at, ..Order::default() });
    }

    /// What was captured and given back, by gift.
    #[must_use]
    pub fn rows(&self) -> Vec<PaymentRow> {
        let row = |(order_id, order): (&String, &Order)| {
            let gift = parse_order(order_id)?;
            Some(PaymentRow { gift, captured: order.captured, refunded: order.refunded })
        };
        self.orders.iter().filter_map(row).collect()
    }

    /// What was captured and given back under an order id.
    #[must_use]
    pub fn of(&self, order_id: &str) -> (i64, i64) {
        self.orders.get(order_id).map_or((0, 0), |order| (order.captured, order.refunded))
    }

    /// Ends captures that are due.
    pub fn settle(&mut self, wall: Timestamp) {
        for (order_id, order) in &mut self.orders {
            if let Some((at, minor, term)) = order.pending.filter(|(at, ..)| *at <= wall) {
                order.pending = None;
                order.captured = minor;
                let gift = parse_order(order_id);
                self.moves.extend(gift.map(|gift| MoneyMove { gift, refund: None, term, at: wall.min(at), minor }));
            }
        }
    }

    /// Performs an operation; `None` is silence. The flag says that a capture will come late.
    pub fn perform(
        &mut self,
        request: &PaymentRequest,
        (fate, late): (Fate, bool),
        term: u64,
        wall: Timestamp,
        dice: &mut Dice,
    ) -> (Option<PaymentOutcome>, bool) {
        let id = request.order_id.as_str();
        self.settle_one(id, wall);
        let unknown = || Some(PaymentOutcome::Unknown { cause: "500".to_owned() });
        match fate {
            Fate::Lost => return (None, false),
            Fate::Unreachable => return (Some(PaymentOutcome::NotSent { cause: "connect".to_owned() }), false),
            Fate::Good
            | Fate::AcceptThenTimeout
            | Fate::AcceptThenError
            | Fate::Throttle
            | Fate::Slow
            | Fate::Refuse(_) => {}
        }
        let is_lookup = matches!(request.operation, PaymentOperation::Lookup { .. });
        if is_lookup && matches!(fate, Fate::Throttle | Fate::Refuse(_)) {
            return (unknown(), false);
        }
        let (outcome, came_late) = match &request.operation {
            PaymentOperation::Lookup { .. } => (self.look_up(id, request.prior, wall), false),
            PaymentOperation::Confirm { amount, .. } => self.confirm(id, *amount, (fate, late), (term, wall), dice),
            PaymentOperation::Cancel { amount, .. } => {
                (self.cancel(id, *amount, &request.idempotency_key, fate, (term, wall)), false)
            }
        };
        match fate {
            Fate::AcceptThenTimeout => (None, came_late),
            Fate::AcceptThenError => (unknown(), came_late),
            Fate::Good | Fate::Throttle | Fate::Slow | Fate::Refuse(_) | Fate::Unreachable | Fate::Lost => {
                (Some(outcome), came_late)
            }
        }
    }

    fn settle_one(&mut self, id: &str, wall: Timestamp) {
        if self.orders.get(id).is_some_and(|order| order.pending.is_some_and(|(at, ..)| at <= wall)) {
            self.settle(wall);
        }
    }

    /// As `providers::toss` reads a payment: what is neither captured nor dead is so once its session is surely over.
    fn look_up(&self, id: &str, prior: Prior, wall: Timestamp) -> PaymentOutcome {
        let open = |code: &str| match prior.first_tried_at() {
            Some(first_tried_at) if wall - first_tried_at >= SESSION => {
                PaymentOutcome::NotCaptured { code: code.to_owned() }
            }
            Some(_) | None => PaymentOutcome::Pending,
        };
        match self.orders.get(id) {
            Some(order) if order.refunded > 0 => {
                PaymentOutcome::Refunded { amount: Money::krw(order.refunded), at: wall }
            }
            Some(order) if order.captured > 0 => captured(order.captured, wall),
            Some(Order { dead: Some(code), .. }) => PaymentOutcome::NotCaptured { code: (*code).to_owned() },
            Some(Order { pending: Some(_), .. }) => PaymentOutcome::Pending,
            Some(_) => open("EXPIRED"),
            None => open("NOT_FOUND_PAYMENT"),
        }
    }

    fn confirm(
        &mut self,
        id: &str,
        amount: Money,
        (fate, late): (Fate, bool),
        (term, wall): (u64, Timestamp),
        dice: &mut Dice,
    ) -> (PaymentOutcome, bool) {
        let order = self.orders.entry(id.to_owned()).or_insert(Order { opened: wall, ..Order::default() });
        if order.captured > 0 {
            return (captured(order.captured, wall), false);
        }
        if order.dead.is_none() && order.pending.is_none() && wall > order.opened + SESSION {
            order.dead = Some("EXPIRED");
        }
        if let Some(code) = order.dead {
            return (PaymentOutcome::NotCaptured { code: code.to_owned() }, false);
        }
        if order.pending.is_some() {
            return (PaymentOutcome::Unknown { cause: "IN_PROGRESS".to_owned() }, false);
        }
        match fate {
            Fate::Throttle => return (PaymentOutcome::NotSent { cause: "TOO_MANY_REQUESTS".to_owned() }, false),
            Fate::Refuse(_) => {
                order.dead = Some("REJECT_CARD_PAYMENT");
                return (PaymentOutcome::NotCaptured { code: "REJECT_CARD_PAYMENT".to_owned() }, false);
            }
            Fate::Good
            | Fate::AcceptThenTimeout
            | Fate::AcceptThenError
            | Fate::Slow
            | Fate::Unreachable
            | Fate::Lost => {}
        }
        if late {
            let last = (order.opened + SESSION - Millis::from_secs(20)).max(wall);
            let span = u64::try_from((last - wall).0).unwrap_or(0);
            let at = wall + Millis(i64::try_from(dice.below(span + 1)).unwrap_or(0));
            order.pending = Some((at, amount.minor, term));
            return (PaymentOutcome::Unknown { cause: "IN_PROGRESS".to_owned() }, true);
        }
        order.captured = amount.minor;
        let minor = amount.minor;
        self.moves.extend(parse_order(id).map(|gift| MoneyMove { gift, refund: None, term, at: wall, minor }));
        (captured(amount.minor, wall), false)
    }

    fn cancel(
        &mut self,
        id: &str,
        amount: Money,
        key: &str,
        fate: Fate,
        (term, wall): (u64, Timestamp),
    ) -> PaymentOutcome {
        let refused = |code: &str, class| PaymentOutcome::RefundRefused { code: code.to_owned(), class };
        let Some(order) = self.orders.get_mut(id) else {
            return refused("NOT_FOUND_PAYMENT", RefusalClass::Permanent);
        };
        if let Some((since, total)) = order.refunds.get(key)
            && wall < *since + KEY_LIFE
        {
            return PaymentOutcome::Refunded { amount: Money::krw(*total), at: wall };
        }
        if matches!(fate, Fate::Throttle | Fate::Refuse(_)) {
            return refused("PROVIDER_ERROR", RefusalClass::Retry);
        }
        if order.captured - order.refunded < amount.minor {
            return refused("NOT_CANCELABLE_AMOUNT", RefusalClass::Permanent);
        }
        order.refunded += amount.minor;
        order.refunds.insert(key.to_owned(), (wall, order.refunded));
        let number = key.trim_end_matches('~').rsplit('.').next().and_then(|number| number.parse().ok());
        let minor = amount.minor;
        self.moves.extend(parse_order(id).map(|gift| MoneyMove { gift, refund: number, term, at: wall, minor }));
        PaymentOutcome::Refunded { amount: Money::krw(order.refunded), at: wall }
    }
}

fn captured(minor: i64, at: Timestamp) -> PaymentOutcome {
    PaymentOutcome::Captured { provider: "sim_bank".to_owned(), amount: Money::krw(minor), at }
}
