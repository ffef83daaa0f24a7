//! An order as its buyer sees it: a pure function of (id, version, state). Nothing personal is in it.

use crate::api::dto::{Instant, MoneyView, TenderView};
use crate::domain::order::{Line, LineHold, Method, OrderState, Paid, Shipped};
use crate::types::ids::Version;
use crate::types::money::Money;
use serde::Serialize;
use utoipa::ToSchema;

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderView {
    #[schema(example = "o_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    /// `payment`, `inventory`, `shipping`, `completed`, `compensating`, `failed`, `cancelled` or `stuck`.
    #[schema(example = "payment")]
    pub status: &'static str,
    /// Records of its journal; also its entity tag.
    pub version: u64,
    /// The step under way, or the one that is stuck.
    pub step: Option<&'static str>,
    pub items: Vec<OrderItem>,
    /// To be paid in money: the prices, less what the coupon takes off.
    pub amount: MoneyView,
    pub refunded: MoneyView,
    pub payment: OrderPayment,
    /// `null` when it is paid in money alone.
    pub coupon: Option<TenderView>,
    /// `null` before it is prepared.
    pub shipment: Option<Shipment>,
    /// A cancel that waits for the outcome of a call.
    pub cancel_requested: bool,
    /// Why it failed, is compensated, or is stuck: `insufficient_balance`, `out_of_stock`, a provider's code, …
    pub failure_code: Option<String>,
    pub created_at: Instant,
    pub updated_at: Instant,
}

/// Units of one stock-keeping unit.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderItem {
    #[schema(example = "mug-blue")]
    pub sku: String,
    pub quantity: u32,
    /// Of one unit, as it was promised.
    pub price: MoneyView,
    /// `none`, `reserved`, `confirmed` or `released`.
    pub stock: &'static str,
}

/// How it is paid; never the payment key.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderPayment {
    #[schema(example = "card")]
    pub method: &'static str,
    /// `pending`, `unknown`, `paid`, `refunded`; `failed` or `cancelled` when nothing was captured and nothing will be;
    /// `not_due` when a coupon pays it whole.
    pub status: &'static str,
    pub paid: MoneyView,
}

/// The goods on their way.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shipment {
    /// `prepared`, `unknown` or `cancelled`.
    pub status: &'static str,
    pub provider: Option<String>,
    pub tracking: Option<String>,
    pub prepared_at: Option<Instant>,
}

/// What is said of a payment by which nothing was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpaid {
    Pending,
    /// It was refused, or what it was for did not come to it.
    Failed,
    /// Its user asked for that before.
    Cancelled,
}

impl Unpaid {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl OrderPayment {
    /// Where the money is of what is `due` by `method`; `unpaid`: as long as none was captured.
    #[must_use]
    pub fn of(method: Method, state: &Paid, paid: Money, due: Money, unpaid: Unpaid) -> Self {
        let status = match state {
            Paid::No if due.is_zero() => "not_due",
            Paid::No => unpaid.name(),
            Paid::Doubtful { .. } => "unknown",
            Paid::Held { .. } | Paid::Spent { .. } => "paid",
            Paid::Back { .. } => "refunded",
        };
        Self { method: method.name(), status, paid: paid.into() }
    }
}

/// The buyer's view of an order.
#[must_use]
pub fn order_view(id: &str, version: Version, state: &OrderState) -> OrderView {
    let money = |amount: Money| -> MoneyView { amount.into() };
    let unpaid = match (state.is_undone(), state.is_cancelled()) {
        (_, true) => Unpaid::Cancelled,
        (true, false) => Unpaid::Failed,
        (false, false) => Unpaid::Pending,
    };
    OrderView {
        id: id.to_owned(),
        status: state.status().name(),
        version: version.0,
        step: state.step(),
        items: state.lines().iter().map(item).collect(),
        amount: money(state.amount()),
        refunded: money(state.refunded()),
        payment: OrderPayment::of(state.method(), state.paid_state(), state.paid(), state.amount(), unpaid),
        coupon: state.coupon().map(TenderView::from),
        shipment: shipment(state.shipped()),
        cancel_requested: state.cancel_requested(),
        failure_code: state.failure_code().map(str::to_owned),
        created_at: state.created_at().into(),
        updated_at: state.updated_at().into(),
    }
}

fn item(line: &Line) -> OrderItem {
    OrderItem {
        sku: line.sku.clone(),
        quantity: line.quantity,
        price: line.price.into(),
        stock: match line.hold {
            LineHold::Free | LineHold::Doubtful => "none",
            LineHold::Held => "reserved",
            LineHold::Confirmed => "confirmed",
            LineHold::Released => "released",
        },
    }
}

fn shipment(shipped: &Shipped) -> Option<Shipment> {
    let bare = |status| Shipment { status, provider: None, tracking: None, prepared_at: None };
    match shipped {
        Shipped::No => None,
        Shipped::Doubtful => Some(bare("unknown")),
        Shipped::Cancelled => Some(bare("cancelled")),
        Shipped::Prepared { provider, tracking, at } => Some(Shipment {
            status: "prepared",
            provider: Some(provider.clone()),
            tracking: Some(tracking.clone()),
            prepared_at: Some(Instant(*at)),
        }),
    }
}
