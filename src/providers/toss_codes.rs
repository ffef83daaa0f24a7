//! Toss Payments: the payment object, and what each error code means to us (docs.tosspayments.com).
//!
//! Money is never assumed. A code is a refusal only when it is listed as one; every other error is ambiguous and the
//! payment is looked up.

use super::http::HttpReply;
use super::wire;
use crate::types::call::{PaymentOutcome, RefusalClass};
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::Deserialize;

/// Codes of a confirm that definitely captured nothing, besides the prefixes below.
const CONFIRM_REFUSED: [&str; 15] = [
    "NOT_FOUND_PAYMENT",
    "NOT_FOUND_PAYMENT_SESSION",
    "DUPLICATED_ORDER_ID",
    "UNAUTHORIZED_KEY",
    "INCORRECT_BASIC_AUTH_FORMAT",
    "FORBIDDEN_REQUEST",
    "FDS_ERROR",
    "UNAPPROVED_ORDER_ID",
    "MAINTAINED_METHOD",
    "PAY_PROCESS_ABORTED",
    "PAY_PROCESS_CANCELED",
    "NOT_AVAILABLE_BANK",
    "NOT_AVAILABLE_PAYMENT",
    "RESTRICTED_TRANSFER_ACCOUNT",
    "API_KEY_ACCESS_DENIED",
];
const CONFIRM_REFUSED_PREFIXES: [&str; 7] =
    ["REJECT_", "INVALID_", "EXCEED_", "EXCEEDS_", "BELOW_", "NOT_SUPPORTED_", "NOT_ALLOWED_"];

/// Codes of a cancel that no try can succeed after.
const CANCEL_REFUSED: [&str; 15] = [
    "EXCEED_MAX_REFUND_DUE",
    "EXCEED_MAX_REFUND_AMOUNT",
    "EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT",
    "EXCEED_CANCEL_LIMIT",
    "NOT_CANCELABLE_PAYMENT",
    "NOT_CANCELABLE_AMOUNT",
    "NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER",
    "NOT_ALLOWED_PARTIAL_REFUND",
    "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT",
    "NOT_SUPPORTED_REFUND",
    "NOT_FOUND_PAYMENT",
    "REFUND_REJECTED",
    "UNAUTHORIZED_KEY",
    "INCORRECT_BASIC_AUTH_FORMAT",
    "FORBIDDEN_REQUEST",
];
const CANCEL_REFUSED_PREFIXES: [&str; 1] = ["INVALID_"];
/// Codes of a cancel that was definitely not done, and may be done later.
const CANCEL_AGAIN: [&str; 3] =
    ["FORBIDDEN_CONSECUTIVE_REQUEST", "NOT_AVAILABLE_BANK", "FORBIDDEN_BANK_REFUND_REQUEST"];
/// The provider says that the refund failed. The payment is asked all the same: banks answer late.
const CANCEL_FAILED: [&str; 3] = ["FAILED_REFUND_PROCESS", "FAILED_METHOD_HANDLING_CANCEL", "FAILED_PARTIAL_REFUND"];
/// The first call under this key is still running: its own reply comes later under the same key.
const STILL_RUNNING: [&str; 2] = ["IDEMPOTENT_REQUEST_PROCESSING", "ALREADY_PROCESSING_REQUEST"];

/// What an error reply to a POST means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Definitely not done, and no repeat will.
    Refused { code: String },
    /// Definitely not done; worth another try.
    Again { code: String },
    /// A call under the same key is running. Asking for the payment now proves nothing.
    Running { code: String },
    /// Only the payment itself can tell. `says_failed`: the provider claims that it was not done.
    LookUp { code: String, says_failed: bool },
}

#[derive(Deserialize)]
struct ErrorReply {
    code: String,
}

/// The error's code, `http_<status>` when the body has none.
pub(crate) fn error_code(reply: &HttpReply) -> String {
    reply.json::<ErrorReply>().map_or_else(|| format!("http_{}", reply.status), |error| error.code)
}

pub(crate) fn confirm_fault(reply: &HttpReply) -> Fault {
    fault(reply, |code| {
        let is_listed = CONFIRM_REFUSED.contains(&code);
        let is_refused = is_listed || CONFIRM_REFUSED_PREFIXES.iter().any(|prefix| code.starts_with(prefix));
        is_refused.then(|| Fault::Refused { code: code.to_owned() })
    })
}

pub(crate) fn cancel_fault(reply: &HttpReply) -> Fault {
    fault(reply, |code| {
        if CANCEL_AGAIN.contains(&code) {
            return Some(Fault::Again { code: reply.code(code) });
        }
        let is_refused =
            CANCEL_REFUSED.contains(&code) || CANCEL_REFUSED_PREFIXES.iter().any(|prefix| code.starts_with(prefix));
        is_refused.then(|| Fault::Refused { code: code.to_owned() })
    })
}

fn fault(reply: &HttpReply, listed: impl Fn(&str) -> Option<Fault>) -> Fault {
    let code = error_code(reply);
    if reply.is_turned_away() {
        return Fault::Again { code: reply.code(&code) };
    }
    if reply.status == 409 || STILL_RUNNING.contains(&code.as_str()) {
        return Fault::Running { code };
    }
    let listed = if reply.status >= 500 { None } else { listed(&code) };
    let says_failed = CANCEL_FAILED.contains(&code.as_str());
    listed.unwrap_or(Fault::LookUp { code, says_failed })
}

/// A payment as Toss knows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payment {
    pub order_id: String,
    pub status: String,
    #[serde(default)]
    total_amount: i64,
    approved_at: Option<String>,
    cancels: Option<Vec<Cancel>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    cancel_amount: i64,
    cancel_status: Option<String>,
    canceled_at: Option<String>,
}

/// What a payment's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Captured, nothing given back.
    Captured { amount: Money, at: Timestamp },
    /// Captured, and this much given back in total.
    Refunded { amount: Money, at: Timestamp },
    /// Not captured; a confirm may still capture it.
    Open,
    /// Not captured, and never will be.
    Dead { code: String },
    /// A status that is not known here.
    Strange { status: String },
}

impl Payment {
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        let instant = |text: Option<&String>| text.and_then(|text| wire::parse_instant(text)).unwrap_or(now);
        match self.status.as_str() {
            "DONE" => {
                Standing::Captured { amount: Money::krw(self.total_amount), at: instant(self.approved_at.as_ref()) }
            }
            "CANCELED" | "PARTIAL_CANCELED" => {
                let done: Vec<&Cancel> = self.cancels.iter().flatten().filter(|cancel| cancel.is_done()).collect();
                let sum = done.iter().try_fold(0i64, |sum, cancel| sum.checked_add(cancel.cancel_amount));
                match sum.filter(|sum| *sum > 0) {
                    Some(sum) => Standing::Refunded {
                        amount: Money::krw(sum),
                        at: instant(done.last().and_then(|cancel| cancel.canceled_at.as_ref())),
                    },
                    None => Standing::Strange { status: format!("{} without amounts", self.status) },
                }
            }
            "READY" | "IN_PROGRESS" | "WAITING_FOR_DEPOSIT" => Standing::Open,
            "ABORTED" | "EXPIRED" => Standing::Dead { code: self.status.clone() },
            status => Standing::Strange { status: status.chars().take(40).collect() },
        }
    }
}

impl Cancel {
    fn is_done(&self) -> bool {
        self.cancel_status.as_deref().is_none_or(|status| status == "DONE")
    }
}

/// A refusal of a refund.
pub(crate) fn refund_refused(code: String, class: RefusalClass) -> PaymentOutcome {
    PaymentOutcome::RefundRefused { code, class }
}
