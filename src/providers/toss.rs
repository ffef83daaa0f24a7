//! Toss Payments: confirm, cancel, lookup by order id (docs.tosspayments.com).
//!
//! Every POST carries the request's `Idempotency-Key`, which Toss honours for 15 days: a repeat gets the *first reply*
//! again, errors included, and a changed body under an old key gets it too. So an ambiguous reply is settled by
//! looking the payment up, not by repeating until the reply changes:
//!
//! - An attempt that was tried before ([`Prior::Unknown`]) is looked up first and repeated only if it did not happen.
//! - A confirm can take effect for 10 minutes after the customer's authentication, so at most 10 minutes after its
//!   first try; an order that is unknown or open after that is definitely not captured.
//! - A cancel that the provider calls failed, or that failed ambiguously twice, is refused with `Retry` when a lookup
//!   shows nothing given back: only a new attempt, under a new key, can get a new answer. A full refund cannot happen twice: the second
//!   is ALREADY_CANCELED_PAYMENT.

use super::http::{HttpClient, HttpFailure, HttpReply};
use super::settings::{SettingsError, TossConfig};
use super::toss_codes::{self, Fault, Payment, Standing};
use super::wire;
use super::{PaymentProvider, WebhookError, WebhookHeaders};
use crate::types::call::{PaymentOperation, PaymentOutcome, PaymentRequest, Prior, RefusalClass};
use crate::types::contact::Private;
use crate::types::money::{Currency, Money};
use crate::types::time::{Clock, Millis};
use futures_util::future::BoxFuture;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::sync::Arc;

/// After the customer's authentication a payment can be confirmed for 10 minutes; one more for clocks and a call that
/// is still running.
const CONFIRM_WINDOW: Millis = Millis::from_mins(11);
/// Toss takes order ids of 6 to 64 characters.
const ORDER_ID_CHARS_MAX: usize = 64;
/// Toss takes at most 200 characters of `cancelReason`.
const REASON_CHARS_MAX: usize = 200;

/// The client. Cheap to call concurrently.
pub struct Toss {
    http: HttpClient,
    clock: Arc<dyn Clock>,
    secret_key: Private<String>,
}

/// What a lookup by order id found.
enum Found {
    Payment(Standing),
    Nothing,
}

impl Toss {
    /// # Errors
    /// [`SettingsError`]
    pub(crate) fn new(config: &TossConfig, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        Ok(Self {
            http: HttpClient::new(&config.base_url)?,
            clock,
            secret_key: config.secret_key.get("toss.secret_key")?,
        })
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut segments = vec!["v1", "payments"];
        segments.extend_from_slice(path);
        // The secret key is the user name; there is no password, but its colon stays.
        self.http.request(method, self.http.url(&segments)).basic_auth(&self.secret_key.0, Some(""))
    }

    async fn call(&self, request: RequestBuilder, deadline: Millis) -> Result<HttpReply, HttpFailure> {
        self.http.call(request, deadline, self.clock.now()).await
    }

    async fn post(
        &self,
        path: &[&str],
        key: &str,
        body: &Value,
        deadline: Millis,
    ) -> Result<HttpReply, PaymentOutcome> {
        let request = self.request(Method::POST, path).header("Idempotency-Key", key).json(body);
        self.call(request, deadline).await.map_err(|failure| match failure {
            HttpFailure::NotConnected { cause } => PaymentOutcome::NotSent { cause },
            HttpFailure::NoReply { cause } => PaymentOutcome::Unknown { cause },
        })
    }

    async fn find(&self, order_id: &str, deadline: Millis) -> Result<Found, String> {
        let request = self.request(Method::GET, &["orders", order_id]);
        let reply = self.call(request, deadline).await.map_err(|failure| failure.to_string())?;
        if reply.status == 404 && toss_codes::error_code(&reply) == "NOT_FOUND_PAYMENT" {
            return Ok(Found::Nothing);
        }
        let payment: Option<Payment> = reply.json().filter(|_| reply.is_success());
        match payment.filter(|payment| payment.order_id == order_id) {
            Some(payment) => Ok(Found::Payment(payment.standing(self.clock.now()))),
            None => Err(format!("lookup: {}", toss_codes::error_code(&reply))),
        }
    }

    /// Nothing is captured now. Whether it can still be depends on how long ago the confirm was first tried; when that
    /// is not known, nothing is concluded.
    fn not_captured(&self, code: &str, prior: Prior) -> PaymentOutcome {
        match prior.first_tried_at() {
            Some(first_tried_at) if self.clock.now() - first_tried_at >= CONFIRM_WINDOW => {
                PaymentOutcome::NotCaptured { code: code.to_owned() }
            }
            Some(_) | None => PaymentOutcome::Pending,
        }
    }

    async fn look_up(&self, request: &PaymentRequest, deadline: Millis) -> PaymentOutcome {
        match self.find(&request.order_id, deadline).await {
            Ok(Found::Payment(standing)) => self.captured(standing, request.prior),
            Ok(Found::Nothing) => self.not_captured("NOT_FOUND_PAYMENT", request.prior),
            Err(cause) => PaymentOutcome::Unknown { cause },
        }
    }

    fn captured(&self, standing: Standing, prior: Prior) -> PaymentOutcome {
        match standing {
            Standing::Captured { amount, at } => {
                PaymentOutcome::Captured { provider: self.name().to_owned(), amount, at }
            }
            Standing::Refunded { amount, at } => PaymentOutcome::Refunded { amount, at },
            Standing::Open => self.not_captured("EXPIRED", prior),
            Standing::Dead { code } => PaymentOutcome::NotCaptured { code },
            Standing::Strange { status } => PaymentOutcome::Unknown { cause: format!("status {status}") },
        }
    }

    async fn confirm(
        &self,
        request: &PaymentRequest,
        payment_key: &Private<String>,
        amount: Money,
        deadline: Millis,
    ) -> PaymentOutcome {
        if request.prior != Prior::None {
            match self.look_up(request, deadline).await {
                // Not captured yet and still within the window: the same confirm again, under the same key.
                PaymentOutcome::Pending => {}
                settled => return settled,
            }
        }
        let body = json!({ "paymentKey": payment_key.0, "orderId": request.order_id, "amount": amount.minor });
        let reply = match self.post(&["confirm"], &request.idempotency_key, &body, deadline).await {
            Ok(reply) => reply,
            Err(outcome) => return outcome,
        };
        if reply.is_success() {
            let payment: Option<Payment> = reply.json();
            return match payment.filter(|payment| payment.order_id == request.order_id) {
                Some(payment) => self.captured(payment.standing(self.clock.now()), request.prior),
                None => PaymentOutcome::Unknown { cause: "reply is not this order's payment".to_owned() },
            };
        }
        match toss_codes::confirm_fault(&reply) {
            Fault::Refused { code } => PaymentOutcome::NotCaptured { code },
            Fault::Again { code } => PaymentOutcome::NotSent { cause: code },
            Fault::Running { code } => PaymentOutcome::Unknown { cause: code },
            Fault::LookUp { code, says_failed: _ } => match self.look_up(request, deadline).await {
                PaymentOutcome::Pending | PaymentOutcome::Unknown { .. } => PaymentOutcome::Unknown { cause: code },
                settled => settled,
            },
        }
    }

    /// `None`: nothing like this refund has been done, as far as the payment shows.
    async fn given_back(&self, order_id: &str, amount: Money, deadline: Millis) -> Option<PaymentOutcome> {
        match self.find(order_id, deadline).await {
            Ok(Found::Payment(Standing::Refunded { amount: total, at })) if total.minor >= amount.minor => {
                Some(PaymentOutcome::Refunded { amount: total, at })
            }
            Ok(Found::Payment(Standing::Captured { .. } | Standing::Refunded { .. } | Standing::Open)) => None,
            Ok(Found::Payment(Standing::Dead { code })) => {
                Some(toss_codes::refund_refused(code, RefusalClass::Permanent))
            }
            Ok(Found::Payment(Standing::Strange { status })) => {
                Some(PaymentOutcome::Unknown { cause: format!("status {status}") })
            }
            Ok(Found::Nothing) => {
                Some(toss_codes::refund_refused("NOT_FOUND_PAYMENT".to_owned(), RefusalClass::Permanent))
            }
            Err(cause) => Some(PaymentOutcome::Unknown { cause }),
        }
    }

    async fn cancel(
        &self,
        request: &PaymentRequest,
        payment_key: &Private<String>,
        amount: Money,
        reason: &str,
        deadline: Millis,
    ) -> PaymentOutcome {
        let tried_before = request.prior != Prior::None;
        if tried_before && let Some(settled) = self.given_back(&request.order_id, amount, deadline).await {
            return settled;
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let body = json!({ "cancelReason": reason, "cancelAmount": amount.minor });
        let path = [payment_key.0.as_str(), "cancel"];
        let reply = match self.post(&path, &request.idempotency_key, &body, deadline).await {
            Ok(reply) => reply,
            Err(outcome) => return outcome,
        };
        if reply.is_success() {
            return self.cancelled(request, &reply);
        }
        match toss_codes::cancel_fault(&reply) {
            Fault::Refused { code } => toss_codes::refund_refused(code, RefusalClass::Permanent),
            Fault::Again { code } => toss_codes::refund_refused(code, RefusalClass::Retry),
            Fault::Running { code } => PaymentOutcome::Unknown { cause: code },
            Fault::LookUp { code, says_failed } => match self.given_back(&request.order_id, amount, deadline).await {
                Some(settled) => settled,
                None if says_failed || tried_before => toss_codes::refund_refused(code, RefusalClass::Retry),
                None => PaymentOutcome::Unknown { cause: code },
            },
        }
    }

    fn cancelled(&self, request: &PaymentRequest, reply: &HttpReply) -> PaymentOutcome {
        let payment: Option<Payment> = reply.json();
        let payment = payment.filter(|payment| payment.order_id == request.order_id);
        match payment.map(|payment| payment.standing(self.clock.now())) {
            Some(Standing::Refunded { amount, at }) => PaymentOutcome::Refunded { amount, at },
            Some(standing) => PaymentOutcome::Unknown { cause: format!("cancel left it {standing:?}") },
            None => PaymentOutcome::Unknown { cause: "reply is not this order's payment".to_owned() },
        }
    }

    async fn run(&self, request: &PaymentRequest, deadline: Millis) -> PaymentOutcome {
        match &request.operation {
            PaymentOperation::Confirm { payment_key, amount } => match amount.currency {
                Currency::KRW => self.confirm(request, payment_key, *amount, deadline).await,
            },
            PaymentOperation::Cancel { payment_key, amount, reason } => match amount.currency {
                Currency::KRW => self.cancel(request, payment_key, *amount, reason, deadline).await,
            },
            PaymentOperation::Lookup { payment_key: _ } => self.look_up(request, deadline).await,
        }
    }
}

impl PaymentProvider for Toss {
    fn name(&self) -> &'static str {
        "toss"
    }
    /// A `Lookup` (and a repeated `Confirm`) concludes "not captured" only from `prior`: `Prior::Unknown` with the
    /// instant at which the *confirm* was first tried. With `Prior::None` an order that is not found stays `Pending`.
    fn perform<'a>(&'a self, request: &'a PaymentRequest, deadline: Millis) -> BoxFuture<'a, PaymentOutcome> {
        Box::pin(async move {
            let outcome = wire::within(deadline, self.run(request, deadline)).await;
            outcome.unwrap_or_else(|| PaymentOutcome::Unknown { cause: "deadline".to_owned() })
        })
    }
    /// The webhook has no signature: the order ids are hints, and whatever else it says is not read.
    fn webhook(&self, _headers: &WebhookHeaders, body: &[u8]) -> Result<Vec<String>, WebhookError> {
        let malformed = |what: &str| WebhookError::Malformed { what: what.to_owned() };
        let event: Value = serde_json::from_slice(body).map_err(|_| malformed("JSON"))?;
        if event.get("eventType").and_then(Value::as_str) != Some("PAYMENT_STATUS_CHANGED") {
            return event.get("eventType").map(|_| Vec::new()).ok_or_else(|| malformed("eventType"));
        }
        let order_id = event.get("data").and_then(|data| data.get("orderId")).and_then(Value::as_str);
        let order_id = order_id.filter(|id| (1..=ORDER_ID_CHARS_MAX).contains(&id.len()) && id.is_ascii());
        Ok(vec![order_id.ok_or_else(|| malformed("data.orderId"))?.to_owned()])
    }
}
