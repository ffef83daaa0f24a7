//! Toss Payments: confirm, cancel, lookup by payment key and by order id.
//!
//! Facts (docs.tosspayments.com, authorization and cancel-payment guides): `Idempotency-Key` of at most 300 characters
//! is honoured on every POST for 15 days, its scope is key + API key + method + URL, the first reply is replayed
//! whatever it was, a repeat while the first call runs is 409; a confirm must come within 10 minutes of the
//! customer's authentication; of several cancels within a second only the first is processed; test keys honour the
//! header `TossPayments-Test-Code`.

use crate::sandbox::context::{Decision, Running};
use crate::sandbox::event::{ConfirmEvent, ConfirmOutcome, Event, KeyDigest, PaymentNumber, RefundEvent, StoredReply};
use crate::sandbox::fate::{self, KeyRule, RefundWindow};
use crate::sandbox::http::{Answer, Call};
use crate::sandbox::journal::{FrameAt, JournalLost, Mark};
use crate::sandbox::payments::{Payment, PaymentState};
use crate::sandbox::settings::{Provider, TOSS_CANCEL_SPACING, TOSS_CONFIRM_WINDOW, TOSS_SECRET_KEY};
use crate::sandbox::{toss_view, wire_time};
use crate::types::time::Timestamp;
use base64::Engine as _;
use http::Method;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_128;

const IDEMPOTENCY_KEY_CHARACTERS_MAX: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Confirm {
    payment_key: String,
    order_id: String,
    amount: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    cancel_reason: String,
    cancel_amount: Option<i64>,
}

/// A POST that passed the door.
struct Post {
    key: Option<KeyDigest>,
    running: Option<Running>,
}

/// A reply that was decided, before it is stored and sent.
pub(crate) struct Reply {
    pub status: u16,
    pub body: String,
}

/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, JournalLost> {
    if !authorised(call.header("authorization")) {
        return Ok(failure("UNAUTHORIZED_KEY"));
    }
    let resource = call.path.trim_start_matches("/v1/payments/");
    let mut parts = resource.split('/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let first = crate::sandbox::http::decode(first);
    match (call.method, first.as_str(), second) {
        (&Method::POST, "confirm", None) => confirm(call).await,
        (&Method::POST, key, Some("cancel")) => cancel(call, key).await,
        (_, _, _) if call.turned_away().is_some() => Ok(door(call)),
        (&Method::GET, "orders", Some(order)) => {
            let order = crate::sandbox::http::decode(order);
            lookup(call, |book| book.payments.by_order(&order)).await
        }
        (&Method::GET, key, None) => lookup(call, |book| book.payments.by_key(key, "", &book.ledger)).await,
        (_, _, _) => Ok(failure("NOT_FOUND")),
    }
}

fn authorised(header: Option<&str>) -> bool {
    let encoded = header.and_then(|header| header.strip_prefix("Basic "));
    let decoded = encoded.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok());
    decoded.is_some_and(|pair| pair.strip_suffix(b":") == Some(TOSS_SECRET_KEY.as_bytes()))
}

pub(crate) fn failure(code: &str) -> Answer {
    let reply = error(code);
    Answer::json(reply.status, reply.body.into_bytes())
}

pub(crate) fn error(code: &str) -> Reply {
    let body = serde_json::json!({ "code": code, "message": toss_view::message_of(code) });
    Reply { status: toss_view::status_of(code), body: body.to_string() }
}

fn door(call: &Call<'_>) -> Answer {
    let status = call.turned_away().unwrap_or(500);
    let code = if status == 429 { "TOO_MANY_REQUESTS" } else { "FAILED_INTERNAL_SYSTEM_PROCESSING" };
    Answer::json(status, error(code).body.into_bytes())
}

/// Checks the idempotency key: an invalid one, a call that runs, or a stored reply ends here.
async fn enter(call: &Call<'_>) -> Result<Result<Post, Answer>, JournalLost> {
    let Some(text) = call.header("idempotency-key") else { return Ok(Ok(Post { key: None, running: None })) };
    if text.is_empty() || text.chars().count() > IDEMPOTENCY_KEY_CHARACTERS_MAX {
        return Ok(Err(failure("INVALID_IDEMPOTENCY_KEY")));
    }
    let key = KeyDigest(xxh3_128(format!("{}\0{TOSS_SECRET_KEY}\0{}\0{text}", call.method, call.path).as_bytes()));
    let Some(running) = call.context.run(key) else { return Ok(Err(failure("IDEMPOTENT_REQUEST_PROCESSING"))) };
    let replay = call.context.look(|book, now| book.payments.reply(key, now)).await?;
    let stored = replay.and_then(|replay| stored(call, replay.frame));
    Ok(match stored {
        Some(reply) => Err(Answer::json(reply.status, reply.body.into_bytes())),
        None => Ok(Post { key: Some(key), running: Some(running) }),
    })
}

fn stored(call: &Call<'_>, frame: FrameAt) -> Option<Reply> {
    let reply = match call.context.read(frame) {
        Ok(Event::Confirm(confirm)) => confirm.reply,
        Ok(Event::Refund(refund)) => refund.reply,
        Ok(_) | Err(_) => None,
    }?;
    Some(Reply { status: reply.status, body: reply.body.into_owned() })
}

/// Counts a call that changed nothing.
fn count(call: &Call<'_>, order: &str, refund: bool) -> Mark {
    let ((), mark) = call.context.decide(|decision| {
        let at = decision.now;
        decision.record(&Event::PaymentCall { order: order.into(), refund, amount: 0, at });
    });
    mark
}

/// The error that the caller or a fault asks for.
fn ordered_error(call: &Call<'_>, default: &str) -> Option<String> {
    if let Some(code) = call.header("tosspayments-test-code").filter(|code| !code.is_empty()) {
        return Some(code.to_owned());
    }
    if !call.context.faults.any() {
        return None;
    }
    let code = call.context.faults.recipient(Provider::Toss, call.path, call.context.clock.now()).refused?;
    Some(if code.is_empty() { default.to_owned() } else { code })
}

async fn confirm(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let Ok(wanted) = serde_json::from_slice::<Confirm>(call.body) else { return Ok(failure("INVALID_REQUEST")) };
    if wanted.amount <= 0 || wanted.order_id.is_empty() || wanted.payment_key.is_empty() {
        return Ok(failure("INVALID_REQUEST"));
    }
    if call.turned_away().is_some() {
        return Ok(door(call).after(count(call, &wanted.order_id, false)));
    }
    let post = match enter(call).await? {
        Ok(post) => post,
        Err(answer) => return Ok(answer.after(count(call, &wanted.order_id, false))),
    };
    let ordered = ordered_error(call, "REJECT_CARD_COMPANY");
    let (reply, mark) = call.context.decide(|decision| {
        let (outcome, reply) = decide_confirm(call, decision, &wanted, ordered.as_deref());
        let stored = reply.as_ref().zip(post.key).map(|(reply, key)| keep(reply, key));
        decision.record(&Event::Confirm(ConfirmEvent {
            order: wanted.order_id.as_str().into(),
            payment_key: wanted.payment_key.as_str().into(),
            amount: wanted.amount,
            at: decision.now,
            outcome,
            reply: stored,
        }));
        reply
    });
    tell_unheard(call, |book| book.payments.by_order(&wanted.order_id));
    Ok(finish(reply, mark, post.running))
}

fn keep(reply: &Reply, key: KeyDigest) -> StoredReply<'_> {
    StoredReply { key, status: reply.status, body: reply.body.as_str().into() }
}

fn finish(reply: Option<Reply>, mark: Mark, running: Option<Running>) -> Answer {
    let silent = reply.is_none();
    let reply = reply.unwrap_or(Reply { status: 500, body: String::new() });
    let mut answer = Answer::json(reply.status, reply.body.into_bytes()).after(mark);
    answer.silent = silent;
    answer.running = running;
    answer
}

/// What a confirm does; no reply means that it is never answered.
fn decide_confirm(
    call: &Call<'_>,
    decision: &Decision<'_>,
    wanted: &Confirm,
    ordered: Option<&str>,
) -> (ConfirmOutcome, Option<Reply>) {
    let now = decision.now;
    let known = decision.book.payments.by_order(&wanted.order_id).and_then(|number| decision.book.payments.get(number));
    if let Some(code) = known.and_then(|payment| already(payment, wanted, now)) {
        return (ConfirmOutcome::Unchanged, Some(error(code)));
    }
    if let Some(code) = ordered {
        return (ConfirmOutcome::Refused, Some(error(code)));
    }
    match fate::key_rule(&wanted.payment_key) {
        KeyRule::Refused { status, code } => (ConfirmOutcome::Refused, Some(Reply { status, body: error(code).body })),
        KeyRule::Silent { capture_after } => {
            let capture_at = capture_after.map(|after| now + after);
            (ConfirmOutcome::Open { capture_at }, None)
        }
        KeyRule::Captured => {
            let late = match call.context.faults.any() {
                true => call.context.faults.recipient(Provider::Toss, call.path, now).late,
                false => None,
            };
            if let Some(late) = late {
                let reply = error("UNKNOWN_PAYMENT_ERROR");
                return (ConfirmOutcome::Open { capture_at: Some(now + late) }, Some(reply));
            }
            let requested_at =
                known.filter(|payment| *payment.key == *wanted.payment_key).map_or(now, |known| known.first_seen_at);
            let view = toss_view::View {
                order: &wanted.order_id,
                key: &wanted.payment_key,
                status: "DONE",
                amount: wanted.amount,
                balance: wanted.amount,
                requested_at,
                approved_at: Some(now),
                refunds: Vec::new(),
            };
            (ConfirmOutcome::Captured, Some(Reply { status: 200, body: view.json().to_string() }))
        }
    }
}

/// Why a known payment cannot be confirmed any more.
fn already(payment: &Payment, wanted: &Confirm, now: Timestamp) -> Option<&'static str> {
    match payment.state {
        PaymentState::Done | PaymentState::Canceled if *payment.key == *wanted.payment_key => {
            Some("ALREADY_PROCESSED_PAYMENT")
        }
        PaymentState::Done | PaymentState::Canceled => Some("DUPLICATED_ORDER_ID"),
        PaymentState::Open if payment.waits_for_capture() => Some("ALREADY_PROCESSING_REQUEST"),
        PaymentState::Open | PaymentState::Aborted
            if *payment.key == *wanted.payment_key && now - payment.first_seen_at >= TOSS_CONFIRM_WINDOW =>
        {
            Some("NOT_FOUND_PAYMENT_SESSION")
        }
        PaymentState::Open | PaymentState::Aborted => None,
    }
}

async fn cancel(call: &Call<'_>, payment_key: &str) -> Result<Answer, JournalLost> {
    let hint = call.header("idempotency-key").unwrap_or_default();
    let named = call.context.glance(|book, _| {
        let number = book.payments.by_key(payment_key, hint, &book.ledger)?;
        let payment = book.payments.get(number)?;
        Some((number, book.ledger.get(payment.item).reference.clone()))
    });
    let Ok(wanted) = serde_json::from_slice::<Cancel>(call.body) else { return Ok(failure("INVALID_REQUEST")) };
    if wanted.cancel_reason.is_empty() || wanted.cancel_amount.is_some_and(|amount| amount <= 0) {
        return Ok(failure("INVALID_REQUEST"));
    }
    let Some((number, order)) = named else {
        return Ok(if call.turned_away().is_some() { door(call) } else { failure("NOT_FOUND_PAYMENT") });
    };
    if call.turned_away().is_some() {
        return Ok(door(call).after(count(call, &order, true)));
    }
    let post = match enter(call).await? {
        Ok(post) => post,
        Err(answer) => return Ok(answer.after(count(call, &order, true))),
    };
    let ordered = ordered_error(call, "NOT_CANCELABLE_PAYMENT");
    let reasons = toss_view::reasons(call.context, number).await?;
    let (reply, mark) = call.context.decide(|decision| {
        let (amount, reply) = match decide_cancel(decision, number, &wanted, ordered.as_deref()) {
            Ok(amount) => (amount, cancelled(decision, number, (amount, &wanted.cancel_reason), &reasons)),
            Err(code) => (0, error(&code)),
        };
        decision.record(&Event::Refund(RefundEvent {
            payment: number,
            amount,
            reason: wanted.cancel_reason.as_str().into(),
            at: decision.now,
            reply: post.key.map(|key| keep(&reply, key)),
        }));
        reply
    });
    tell_unheard(call, |_| Some(number));
    Ok(finish(Some(reply), mark, post.running))
}

/// The amount to give back, or the code of the refusal.
fn decide_cancel(
    decision: &Decision<'_>,
    number: PaymentNumber,
    wanted: &Cancel,
    ordered: Option<&str>,
) -> Result<i64, String> {
    let payment = decision.book.payments.get(number).ok_or("NOT_FOUND_PAYMENT")?;
    match payment.state {
        PaymentState::Done => {}
        PaymentState::Canceled => return Err("ALREADY_CANCELED_PAYMENT".to_owned()),
        PaymentState::Open | PaymentState::Aborted => return Err("NOT_CANCELABLE_PAYMENT".to_owned()),
    }
    if let Some(code) = ordered {
        return Err(code.to_owned());
    }
    if let Some((_, code)) = fate::refund_refusal(&payment.key) {
        return Err(code.to_owned());
    }
    if payment.refunds.last().is_some_and(|last| decision.now - last.at < TOSS_CANCEL_SPACING) {
        return Err("FORBIDDEN_CONSECUTIVE_REQUEST".to_owned());
    }
    let approved_at = payment.approved_at.unwrap_or(decision.now);
    let open = match fate::method(&payment.key).1 {
        RefundWindow::SameMonth => wire_time::month(approved_at) == wire_time::month(decision.now),
        RefundWindow::Span(span) => decision.now - approved_at <= span,
    };
    if !open {
        return Err("EXCEED_MAX_REFUND_DUE".to_owned());
    }
    let amount = wanted.cancel_amount.unwrap_or(payment.balance());
    if amount > payment.balance() {
        return Err("NOT_CANCELABLE_AMOUNT".to_owned());
    }
    Ok(amount)
}

/// The payment as it is after this cancel.
fn cancelled(
    decision: &Decision<'_>,
    number: PaymentNumber,
    (amount, reason): (i64, &str),
    reasons: &[String],
) -> Reply {
    let Some(payment) = decision.book.payments.get(number) else { return error("NOT_FOUND_PAYMENT") };
    let mut view = toss_view::of(decision.book, payment, decision.now, reasons);
    view.balance -= amount;
    view.status = if view.balance == 0 { "CANCELED" } else { "PARTIAL_CANCELED" };
    view.refunds.push(toss_view::RefundView { amount, at: decision.now, reason: reason.to_owned() });
    Reply { status: 200, body: view.json().to_string() }
}

async fn lookup(
    call: &Call<'_>,
    find: impl FnOnce(&crate::sandbox::book::Book) -> Option<PaymentNumber>,
) -> Result<Answer, JournalLost> {
    let Some(number) = call.context.glance(|book, _| find(book)) else { return Ok(failure("NOT_FOUND_PAYMENT")) };
    let body = toss_view::payment(call.context, number).await?;
    Ok(body.map_or_else(|| failure("NOT_FOUND_PAYMENT"), |body| Answer::of(200, &body)))
}

/// A caller that will not hear the reply is told by webhook, as the provider tells every change.
fn tell_unheard(call: &Call<'_>, find: impl FnOnce(&crate::sandbox::book::Book) -> Option<PaymentNumber>) {
    if call.verdict.drops_reply || call.verdict.hangs || call.verdict.fails_after.is_some() {
        let data = call.context.glance(|book, now| {
            let payment = book.payments.get(find(book)?)?;
            Some(toss_view::of(book, payment, now, &[]).json())
        });
        if let Some(data) = data {
            call.context.hooks.payment(&call.context.faults, call.context.clock.now(), &data);
        }
    }
}
