//! `evolve`: what an event makes of an order. Total: a fact that does not fit changes nothing that matters.

use super::command::{NewLine, NewOrder, OrderEvent, OrderFact, Step};
use super::state::{Line, LineHold, OrderState, Phase, Placed, Reason, Running, Shipped};
use super::telling::Telling;
use crate::domain::calling::Call;
use crate::domain::steps::Paid;
use crate::domain::tender::{CouponHold, CouponTerms, HeldCoupon};
use crate::types::call::Template;
use crate::types::money::{Currency, Money};
use crate::types::time::Timestamp;

/// Applies one event.
pub(super) fn evolve(state: &mut OrderState, event: &OrderEvent) {
    if let OrderFact::Created(new) = &event.fact {
        state.order = Some(Box::new(placed(new, None, event.at)));
    } else if let OrderFact::CreatedWith(new, coupon) = &event.fact {
        state.order = Some(Box::new(placed(new, Some(*coupon), event.at)));
    } else if let Some(order) = state.order.as_deref_mut() {
        order.updated_at = event.at;
        order.apply(&event.fact, event.at);
    }
}

/// What the lines cost; `None` beyond the range of an amount.
pub(super) fn amount_of(new: &NewOrder) -> Option<Money> {
    price_of_lines(&new.lines)
}

/// The same, of lines alone.
#[must_use]
pub fn price_of_lines(lines: &[NewLine]) -> Option<Money> {
    let zero = Money { minor: 0, currency: Currency::KRW };
    lines.iter().try_fold(zero, |sum, line| {
        let minor = line.price.minor.checked_mul(i64::from(line.quantity))?;
        sum.checked_add(Money { minor, currency: line.price.currency }).ok()
    })
}

fn placed(new: &NewOrder, coupon: Option<CouponTerms>, at: Timestamp) -> Placed {
    let line = |line: &super::command::NewLine| Line {
        sku: line.sku.clone(),
        quantity: line.quantity,
        price: line.price,
        hold: LineHold::Free,
    };
    let step = if coupon.is_some() { Step::UseCoupon } else { Step::Pay };
    let first = Running::begin(step, Some(at + new.limits.payment), at);
    let price = amount_of(new).unwrap_or(Money { minor: 0, currency: Currency::KRW });
    Placed {
        owner: new.owner.clone(),
        lines: new.lines.iter().map(line).collect(),
        amount: coupon.map_or(price, |coupon| coupon.left_of(price).unwrap_or(price)),
        method: new.method,
        limits: new.limits,
        sealed: Some(new.sealed.clone()),
        paid: Paid::No,
        shipped: Shipped::No,
        phase: Phase::Running(first),
        number: 1,
        cancel_requested: false,
        reason: None,
        created_at: at,
        updated_at: at,
        coupon: coupon.map(HeldCoupon::new),
        telling: None,
    }
}

impl Placed {
    fn apply(&mut self, fact: &OrderFact, at: Timestamp) {
        match fact {
            // Handled before; a second one is never decided.
            OrderFact::Created(_) | OrderFact::CreatedWith(..) | OrderFact::PaymentRequested { .. } => {}
            OrderFact::Attempted { started, .. } => self.on_call(|call| call.start(started, at)),
            OrderFact::Undecided { doubt, retry_at, .. } => self.on_call(|call| call.doubt(doubt, *retry_at)),
            OrderFact::Hinted => self.on_call(|call| call.hasten(at)),
            OrderFact::Refused { retry_at, .. } => self.try_again(*retry_at),
            OrderFact::CancelRequested => self.cancel_requested = true,
            OrderFact::Compensating { code, cancelled, doubtful, .. } => {
                self.turn_back(Reason { code: code.clone(), cancelled: *cancelled }, *doubtful, at);
            }
            OrderFact::Completed => self.end(Phase::Completed, Template::OrderCompleted, at),
            OrderFact::Failed { .. } => self.end(Phase::Failed, Template::OrderFailed, at),
            OrderFact::Cancelled => self.end(Phase::Cancelled, Template::OrderCancelled, at),
            OrderFact::TellsBuyer { contacts } => {
                self.telling = Some(Telling::new(*contacts));
                self.tell(Template::OrderPlaced, at);
            }
            OrderFact::NoticesSettled(_) | OrderFact::NoticeReplayed { .. } | OrderFact::NoticeDiscarded { .. } => {
                self.apply_notice(fact, at);
            }
            OrderFact::Stuck { code, .. } => {
                if let Phase::Running(running) = &self.phase {
                    self.phase = Phase::Stuck { since: at, code: code.clone(), running: running.put_aside(at) };
                }
            }
            OrderFact::Replayed { .. } => self.replay(at),
            OrderFact::Discarded { step, .. } => self.discard(*step, at),
            OrderFact::Forgotten | OrderFact::Erased => {
                self.sealed = None;
                self.stop_telling(at);
            }
            OrderFact::Paid { .. }
            | OrderFact::Reserved { .. }
            | OrderFact::Shipped { .. }
            | OrderFact::Confirmed { .. }
            | OrderFact::Settled
            | OrderFact::Unshipped
            | OrderFact::Released { .. }
            | OrderFact::PaymentRuledOut { .. }
            | OrderFact::Refunded { .. }
            | OrderFact::CouponUsed
            | OrderFact::CouponReturned => {
                self.note(fact);
                self.go_on(at);
            }
        }
    }

    /// There is nothing left to do.
    fn end(&mut self, phase: Phase, template: Template, at: Timestamp) {
        self.phase = phase;
        self.tell(template, at);
    }

    /// A step was done.
    fn note(&mut self, fact: &OrderFact) {
        match fact {
            OrderFact::Paid { provider, amount } => {
                self.paid = Paid::Held { provider: provider.clone(), amount: *amount };
            }
            OrderFact::Reserved { line, .. } => self.hold(*line, LineHold::Held),
            OrderFact::Confirmed { line, .. } => self.hold(*line, LineHold::Confirmed),
            OrderFact::Released { line, .. } => self.hold(*line, LineHold::Released),
            OrderFact::Shipped { provider, tracking, prepared_at } => {
                let (provider, tracking) = (provider.clone(), tracking.clone());
                self.shipped = Shipped::Prepared { provider, tracking, at: *prepared_at };
            }
            OrderFact::Unshipped => self.shipped = Shipped::Cancelled,
            OrderFact::Settled => {
                let (amount, _) = self.money();
                self.paid = Paid::Spent { amount };
            }
            OrderFact::PaymentRuledOut { .. } => self.paid = Paid::No,
            OrderFact::Refunded { .. } => {
                let (paid, _) = self.money();
                self.paid = Paid::Back { paid };
            }
            OrderFact::CouponUsed => self.hold_coupon(CouponHold::Used),
            OrderFact::CouponReturned => self.hold_coupon(CouponHold::Returned),
            OrderFact::Created(_)
            | OrderFact::CreatedWith(..)
            | OrderFact::PaymentRequested { .. }
            | OrderFact::Attempted { .. }
            | OrderFact::Undecided { .. }
            | OrderFact::Refused { .. }
            | OrderFact::Completed
            | OrderFact::CancelRequested
            | OrderFact::Compensating { .. }
            | OrderFact::Failed { .. }
            | OrderFact::Cancelled
            | OrderFact::Stuck { .. }
            | OrderFact::Replayed { .. }
            | OrderFact::Discarded { .. }
            | OrderFact::Hinted
            | OrderFact::Forgotten
            | OrderFact::Erased
            | OrderFact::TellsBuyer { .. }
            | OrderFact::NoticesSettled(_)
            | OrderFact::NoticeReplayed { .. }
            | OrderFact::NoticeDiscarded { .. } => {}
        }
    }

    fn hold(&mut self, line: u8, hold: LineHold) {
        if let Some(line) = self.lines.get_mut(usize::from(line)) {
            line.hold = hold;
        }
    }

    fn hold_coupon(&mut self, hold: CouponHold) {
        if let Some(coupon) = &mut self.coupon {
            coupon.hold = hold;
        }
    }

    fn on_call(&mut self, change: impl FnOnce(&mut Call)) {
        if let Phase::Running(running) = &mut self.phase {
            change(&mut running.call);
        }
    }

    /// Definitely not performed: a new number, which is a new key to the provider.
    fn try_again(&mut self, due: Timestamp) {
        if let Phase::Running(running) = &mut self.phase {
            running.try_again(due);
            self.number = self.number.wrapping_add(1);
        }
    }

    /// Begins the next step. The fact that ends an order follows in the same record when there is none.
    fn go_on(&mut self, at: Timestamp) {
        if let Some(step) = self.next_step() {
            let deadline = self.limit(step).map(|limit| at + limit);
            let mut running = Running::begin(step, deadline, at);
            if let (Step::FindPayment, Paid::Doubtful { since }) = (step, &self.paid) {
                running.call.unknown_since = Some(*since);
            }
            self.phase = Phase::Running(running);
            self.number = self.number.wrapping_add(1);
        }
    }

    fn turn_back(&mut self, reason: Reason, doubtful: bool, at: Timestamp) {
        let running = self.running().filter(|_| doubtful).cloned();
        match running.as_ref().map(|running| (running.step, running.doubtful_since(at))) {
            Some((Step::Pay, since)) => self.paid = Paid::Doubtful { since },
            Some((Step::Reserve(line), _)) => self.hold(line, LineHold::Doubtful),
            Some((Step::Ship, _)) => self.shipped = Shipped::Doubtful,
            // A coupon is given back whatever became of its use.
            Some((
                Step::UseCoupon
                | Step::Confirm(_)
                | Step::Settle
                | Step::Unship
                | Step::Release(_)
                | Step::FindPayment
                | Step::Refund
                | Step::GiveCoupon,
                _,
            ))
            | None => {}
        }
        if let Some(coupon) = &mut self.coupon {
            coupon.owe(at);
        }
        self.reason = Some(reason);
        self.go_on(at);
    }

    fn replay(&mut self, at: Timestamp) {
        if let Phase::Stuck { running, .. } = &self.phase {
            let (running, renumbered) = running.replayed(at);
            self.phase = Phase::Running(running);
            self.number = self.number.wrapping_add(u16::from(renumbered));
        }
    }

    /// Done by hand.
    fn discard(&mut self, step: Step, at: Timestamp) {
        if !matches!(self.phase, Phase::Stuck { .. }) {
            return;
        }
        let (amount, _) = self.money();
        match step {
            Step::Confirm(line) => self.hold(line, LineHold::Confirmed),
            Step::Release(line) => self.hold(line, LineHold::Released),
            Step::Unship => self.shipped = Shipped::Cancelled,
            Step::Settle => self.paid = Paid::Spent { amount },
            Step::Refund => self.paid = Paid::Back { paid: amount },
            Step::FindPayment => self.paid = Paid::No,
            Step::GiveCoupon => self.hold_coupon(CouponHold::Returned),
            // Only what cannot be compensated any more, or compensates, is ever stuck.
            Step::UseCoupon | Step::Pay | Step::Reserve(_) | Step::Ship => {}
        }
        self.go_on(at);
    }
}
