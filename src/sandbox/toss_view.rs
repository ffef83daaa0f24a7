//! How Toss Payments writes a payment and an error.

use crate::sandbox::book::Book;
use crate::sandbox::context::Context;
use crate::sandbox::event::{Event, PaymentNumber};
use crate::sandbox::fate;
use crate::sandbox::journal::JournalLost;
use crate::sandbox::payments::{Payment, PaymentState};
use crate::sandbox::wire_time;
use crate::types::time::Timestamp;
use serde_json::{Value, json};

/// A refund, as one of `cancels`.
pub(crate) struct RefundView {
    pub amount: i64,
    pub at: Timestamp,
    pub reason: String,
}

/// A payment, as every reply shows it.
pub(crate) struct View<'a> {
    pub order: &'a str,
    pub key: &'a str,
    pub status: &'static str,
    pub amount: i64,
    pub balance: i64,
    pub requested_at: Timestamp,
    pub approved_at: Option<Timestamp>,
    pub refunds: Vec<RefundView>,
}

impl View<'_> {
    pub(crate) fn json(&self) -> Value {
        let mut left = self.amount;
        let cancels: Vec<Value> = self
            .refunds
            .iter()
            .enumerate()
            .map(|(index, refund)| {
                left -= refund.amount;
                json!({
                    "transactionKey": format!("{}-c{}", self.order, index + 1),
                    "cancelReason": refund.reason,
                    "canceledAt": wire_time::toss(refund.at),
                    "cancelAmount": refund.amount,
                    "taxFreeAmount": 0,
                    "refundableAmount": left,
                    "cancelStatus": "DONE",
                    "receiptKey": null,
                })
            })
            .collect();
        let (method, _) = fate::method(self.key);
        let vat = self.amount / 11;
        json!({
            "mId": "sandbox",
            "version": "2022-11-16",
            "paymentKey": self.key,
            "orderId": self.order,
            "orderName": self.order,
            "status": self.status,
            "type": "NORMAL",
            "country": "KR",
            "currency": "KRW",
            "method": method,
            "requestedAt": wire_time::toss(self.requested_at),
            "approvedAt": self.approved_at.map(wire_time::toss),
            "lastTransactionKey": format!("{}-c{}", self.order, self.refunds.len()),
            "totalAmount": self.amount,
            "balanceAmount": self.balance,
            "suppliedAmount": self.amount - vat,
            "vat": vat,
            "taxFreeAmount": 0,
            "useEscrow": false,
            "cultureExpense": false,
            "isPartialCancelable": true,
            "cancels": if cancels.is_empty() { Value::Null } else { Value::from(cancels) },
            "failure": null,
        })
    }
}

/// A payment as it is; `reasons` are those of its refunds, in order, as far as they were read.
pub(crate) fn of<'a>(book: &'a Book, payment: &'a Payment, now: Timestamp, reasons: &[String]) -> View<'a> {
    let held = matches!(payment.state, PaymentState::Done | PaymentState::Canceled);
    let reason = |index: usize| reasons.get(index).cloned().unwrap_or_default();
    let refunds = payment.refunds.iter().enumerate();
    View {
        order: &book.ledger.get(payment.item).reference,
        key: &payment.key,
        status: payment.status(now),
        amount: payment.amount,
        balance: if held { payment.balance() } else { payment.amount },
        requested_at: payment.first_seen_at,
        approved_at: payment.approved_at,
        refunds: refunds
            .map(|(index, refund)| RefundView { amount: refund.amount, at: refund.at, reason: reason(index) })
            .collect(),
    }
}

/// The reasons of a payment's refunds, read back from the journal.
///
/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn reasons(context: &Context, number: PaymentNumber) -> Result<Vec<String>, JournalLost> {
    let frames = context
        .look(|book, _| {
            let refunds = book.payments.get(number).map(|payment| payment.refunds.as_slice()).unwrap_or_default();
            refunds.iter().map(|refund| refund.frame).collect::<Vec<_>>()
        })
        .await?;
    let reason = |frame| match context.read(frame) {
        Ok(Event::Refund(refund)) => refund.reason.into_owned(),
        Ok(_) | Err(_) => String::new(),
    };
    Ok(frames.into_iter().map(reason).collect())
}

/// The body of a lookup.
///
/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn payment(context: &Context, number: PaymentNumber) -> Result<Option<Value>, JournalLost> {
    let reasons = reasons(context, number).await?;
    Ok(context.glance(|book, now| {
        let payment = book.payments.get(number)?;
        Some(of(book, payment, now, &reasons).json())
    }))
}

/// HTTP status of an error code.
pub(crate) fn status_of(code: &str) -> u16 {
    match code {
        "UNAUTHORIZED_KEY" | "INVALID_API_KEY" => 401,
        "IDEMPOTENT_REQUEST_PROCESSING" => 409,
        "TOO_MANY_REQUESTS" => 429,
        "EXCEED_MAX_REFUND_DUE" | "INVALID_PASSWORD" => 403,
        _ if ["REJECT_", "NOT_CANCELABLE_", "FORBIDDEN_", "NOT_ALLOWED_", "EXCEED_"]
            .iter()
            .any(|p| code.starts_with(p)) =>
        {
            403
        }
        _ if code.starts_with("NOT_FOUND") => 404,
        _ if code.starts_with("FAILED_") || code == "UNKNOWN_PAYMENT_ERROR" => 500,
        _ => 400,
    }
}

/// What the error says to a person.
pub(crate) fn message_of(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED_KEY" => "인증되지 않은 시크릿 키 혹은 클라이언트 키 입니다.",
        "INVALID_IDEMPOTENCY_KEY" => "멱등키는 300자 이하여야 합니다.",
        "IDEMPOTENT_REQUEST_PROCESSING" => "이전 멱등 요청이 처리중입니다.",
        "INVALID_REQUEST" => "잘못된 요청입니다.",
        "NOT_FOUND_PAYMENT" => "존재하지 않는 결제 입니다.",
        "NOT_FOUND_PAYMENT_SESSION" => "결제 시간이 만료되어 결제 진행 데이터가 존재하지 않습니다.",
        "ALREADY_PROCESSED_PAYMENT" => "이미 처리된 결제 입니다.",
        "ALREADY_PROCESSING_REQUEST" => "이미 처리중인 요청입니다.",
        "ALREADY_CANCELED_PAYMENT" => "이미 취소된 결제 입니다.",
        "DUPLICATED_ORDER_ID" => "이미 승인 및 취소가 진행된 중복된 주문번호 입니다.",
        "REJECT_CARD_COMPANY" => "결제 승인이 거절되었습니다.",
        "REJECT_CARD_PAYMENT" => "한도초과 혹은 잔액부족으로 결제에 실패했습니다.",
        "NOT_CANCELABLE_PAYMENT" => "취소 할 수 없는 결제 입니다.",
        "NOT_CANCELABLE_AMOUNT" => "취소 할 수 없는 금액 입니다.",
        "FORBIDDEN_CONSECUTIVE_REQUEST" => "반복적인 요청은 허용되지 않습니다.",
        "EXCEED_MAX_REFUND_DUE" => "환불 가능한 기간이 지났습니다.",
        _ => "요청을 처리하지 못했습니다.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refundable_amount_falls_with_each_cancel() {
        let refund = |amount| RefundView { amount, at: Timestamp(0), reason: "r".to_owned() };
        let view = View {
            order: "g_1",
            key: "tok_1",
            status: "PARTIAL_CANCELED",
            amount: 100,
            balance: 30,
            requested_at: Timestamp(0),
            approved_at: Some(Timestamp(0)),
            refunds: vec![refund(50), refund(20)],
        };
        let json = view.json();
        assert_eq!(json["cancels"][1]["refundableAmount"], 30);
        assert_eq!((json["totalAmount"].as_i64(), json["balanceAmount"].as_i64()), (Some(100), Some(30)));
    }

    #[test]
    fn codes_have_their_status() {
        assert_eq!(status_of("REJECT_CARD_COMPANY"), 403);
        assert_eq!(status_of("NOT_FOUND_PAYMENT_SESSION"), 404);
        assert_eq!(status_of("FAILED_REFUND_PROCESS"), 500);
        assert_eq!(status_of("ALREADY_CANCELED_PAYMENT"), 400);
    }
}
