//! The single map from everything that can go wrong to RFC 9457 problem documents.
//!
//! A handler returns a [`Problem`]; the outermost middleware (`trace.rs`) renders it, because only it knows the trace
//! id. [`Code`] is exhaustive: a new failure needs a status, a title and an outcome before it compiles. `outcome` says
//! whether the request may have taken effect; only `not_applied` may be retried blindly.

use crate::actors::door::AskError;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Prefix of every problem's `type`; the code follows it.
pub const TYPE_PREFIX: &str = "urn:bojagi:problem:";

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $text:literal $status:ident $title:literal;)+) => {
        /// Every stable problem code of the front door.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];
            /// The `code` member.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
            /// The `title` member: the same for every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST "The request is not valid HTTP for this server";
    MalformedJson "malformed_json" BAD_REQUEST "The body is not JSON in UTF-8";
    IdempotencyKeyRequired "idempotency_key_required" BAD_REQUEST "This call needs an Idempotency-Key";
    IdempotencyKeyInvalid "idempotency_key_invalid" BAD_REQUEST "The Idempotency-Key is not usable";
    PreconditionInvalid "precondition_invalid" BAD_REQUEST "If-Match is not a list of entity tags";
    Unauthenticated "unauthenticated" UNAUTHORIZED "A valid bearer token is needed";
    TokenExpired "token_expired" UNAUTHORIZED "The bearer token has expired";
    WebhookUnsigned "webhook_unsigned" UNAUTHORIZED "The webhook's signature does not verify";
    WrongRole "wrong_role" FORBIDDEN "This role may not make this call";
    NotFound "not_found" NOT_FOUND "There is nothing here";
    VoucherUnknown "voucher_unknown" NOT_FOUND "No voucher has this code";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "This resource has no such method";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The body did not arrive in time";
    TooLateToModify "too_late_to_modify" CONFLICT "Changes close one hour before the send instant";
    AlreadyDispatched "already_dispatched" CONFLICT "The send has begun";
    AlreadyUsed "already_used" CONFLICT "The voucher has been used";
    NotAccepted "not_accepted" CONFLICT "The gift has not been accepted";
    AlreadyTransferred "already_transferred" CONFLICT "The gift has no transfer left";
    WrongState "wrong_state" CONFLICT "The gift's state does not allow this";
    NotADeadLetter "not_a_dead_letter" CONFLICT "This is not a dead letter";
    TransactionCancelled "transaction_cancelled" CONFLICT "This transaction was cancelled";
    TransactionUnknown "transaction_unknown" CONFLICT "The voucher was not redeemed by this transaction";
    DeclineNotAllowed "decline_not_allowed" CONFLICT "This gift may not be declined";
    TooLateToCancel "too_late_to_cancel" CONFLICT "The time to take this redemption back is over";
    AttemptsExhausted "attempts_exhausted" CONFLICT "Tried as often as one delivery may be";
    AlreadyExists "already_exists" CONFLICT "This already exists";
    ChargesWait "charges_wait" CONFLICT "Too many charges wait for the payment provider";
    BelowHeld "below_held" CONFLICT "Orders hold more than that";
    ClusterRefused "cluster_refused" CONFLICT "The cluster does not allow this now";
    SoldOut "sold_out" CONFLICT "Every coupon of this campaign is taken";
    AlreadyClaimed "already_claimed" CONFLICT "This member has a coupon of this campaign";
    NotStarted "not_started" CONFLICT "This campaign has not begun";
    Ended "ended" CONFLICT "This campaign is over";
    SeatTaken "seat_taken" CONFLICT "A seat is held or sold";
    NotAdmitted "not_admitted" CONFLICT "The ticket still waits";
    TicketExpired "ticket_expired" CONFLICT "The ticket's time is over";
    ReservationExpired "reservation_expired" CONFLICT "The time to pay is over";
    KeyInFlight "request_in_progress" CONFLICT "The first call under this Idempotency-Key is still running";
    KeyExpired "key_expired" CONFLICT "The Idempotency-Key is older than its life";
    LinkDead "link_dead" GONE "This link is no longer valid";
    VoucherExpired "voucher_expired" GONE "The voucher has expired";
    CouponExpired "coupon_expired" GONE "The coupon has expired";
    PersonalDataErased "personal_data_erased" GONE "The personal data of this gift was erased";
    VersionMismatch "version_mismatch" PRECONDITION_FAILED "The resource has changed since";
    PayloadTooLarge "payload_too_large" PAYLOAD_TOO_LARGE "The body is too large";
    ChangeTooLarge "change_too_large" PAYLOAD_TOO_LARGE "This would change more at once than can be recorded";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body must be application/json";
    ValidationFailed "validation_failed" UNPROCESSABLE_ENTITY "The request has faults";
    KeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "The Idempotency-Key was used with another request";
    PreconditionRequired "precondition_required" PRECONDITION_REQUIRED "This call needs If-Match";
    RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests";
    TooManyWrongCodes "too_many_wrong_codes" TOO_MANY_REQUESTS "Too many wrong codes from this terminal";
    Internal "internal" INTERNAL_SERVER_ERROR "Something went wrong here";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "This node is at its limit";
    OutcomeUnknown "outcome_unknown" SERVICE_UNAVAILABLE "It is not known whether the request took effect";
    Unavailable "unavailable" SERVICE_UNAVAILABLE "The service cannot answer now";
}

/// Whether the failed request may have changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    NotApplied,
    Unknown,
}

impl Code {
    /// Whether the request may have taken effect.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            // The first call under a key may yet take effect, and a repeat asks for the same effect.
            Self::OutcomeUnknown | Self::Internal | Self::KeyInFlight => Outcome::Unknown,
            Self::BadRequest | Self::MalformedJson | Self::IdempotencyKeyRequired => Outcome::NotApplied,
            Self::IdempotencyKeyInvalid | Self::PreconditionInvalid | Self::Unauthenticated => Outcome::NotApplied,
            Self::TokenExpired | Self::WebhookUnsigned | Self::WrongRole | Self::NotFound => Outcome::NotApplied,
            Self::VoucherUnknown | Self::MethodNotAllowed | Self::RequestTimeout => Outcome::NotApplied,
            Self::TooLateToModify | Self::AlreadyDispatched | Self::AlreadyUsed => Outcome::NotApplied,
            Self::NotAccepted | Self::AlreadyTransferred | Self::WrongState => Outcome::NotApplied,
            Self::NotADeadLetter | Self::TransactionCancelled | Self::TransactionUnknown => Outcome::NotApplied,
            Self::DeclineNotAllowed | Self::TooLateToCancel | Self::AttemptsExhausted => Outcome::NotApplied,
            Self::ChargesWait | Self::BelowHeld => Outcome::NotApplied,
            Self::AlreadyExists | Self::ClusterRefused => Outcome::NotApplied,
            Self::KeyExpired | Self::LinkDead => Outcome::NotApplied,
            Self::VoucherExpired | Self::PersonalDataErased | Self::VersionMismatch => Outcome::NotApplied,
            Self::PayloadTooLarge | Self::UnsupportedMediaType | Self::ValidationFailed => Outcome::NotApplied,
            Self::ChangeTooLarge => Outcome::NotApplied,
            Self::SoldOut | Self::AlreadyClaimed | Self::NotStarted | Self::Ended => Outcome::NotApplied,
            Self::CouponExpired => Outcome::NotApplied,
            Self::SeatTaken | Self::NotAdmitted | Self::TicketExpired => Outcome::NotApplied,
            Self::ReservationExpired => Outcome::NotApplied,
            Self::KeyReused | Self::PreconditionRequired | Self::RateLimited => Outcome::NotApplied,
            Self::TooManyWrongCodes | Self::Overloaded | Self::Unavailable => Outcome::NotApplied,
        }
    }

    /// Whether the same request may succeed later without a change of its own.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RequestTimeout
                | Self::KeyInFlight
                | Self::RateLimited
                | Self::TooManyWrongCodes
                | Self::Overloaded
                | Self::OutcomeUnknown
                | Self::Unavailable
        )
    }

    /// The `type` member.
    #[must_use]
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.text())
    }
}

/// One fault of a request: where, which, and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the body, or `/name` of a query parameter.
    pub pointer: String,
    pub code: &'static str,
    pub detail: Cow<'static, str>,
}

/// A failure on its way to the caller. `detail` is public: it never carries personal data or a cause from below.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: Code,
    pub detail: Option<Cow<'static, str>>,
    pub faults: Vec<Fault>,
    pub retry_after_secs: Option<u32>,
    pub allow: Option<String>,
}

impl Problem {
    /// A problem whose title says all.
    #[must_use]
    pub fn new(code: Code) -> Self {
        let retry_after_secs = code.is_retryable().then_some(1);
        Self { code, detail: None, faults: Vec::new(), retry_after_secs, allow: None }
    }

    /// A problem with a sentence of its own.
    #[must_use]
    pub fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(code) }
    }

    /// All validation faults of a request at once.
    #[must_use]
    pub fn invalid(faults: Vec<Fault>) -> Self {
        debug_assert!(!faults.is_empty(), "a validation problem names its faults");
        let detail = match faults.len() {
            1 => Cow::Borrowed("One member of the request is not acceptable; see errors."),
            count => Cow::Owned(format!("{count} members of the request are not acceptable; see errors.")),
        };
        Self { faults, ..Self::because(Code::ValidationFailed, detail) }
    }

    /// Seconds after which a repeat makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_secs = Some(seconds.max(1));
        self
    }

    /// The same of a request that is committed, or may be: that this node cannot go on now does not undo it.
    #[must_use]
    pub fn past_commit(self) -> Self {
        if !matches!(self.code, Code::Overloaded | Code::Unavailable) {
            return self;
        }
        let why = "It may have taken effect, and its reply cannot be given now. Repeat the request.";
        Self::because(Code::OutcomeUnknown, why).retry_after(self.retry_after_secs.unwrap_or(1))
    }

    /// The document, with the trace id that the log lines carry.
    #[must_use]
    pub fn document(&self, trace_id: &str) -> Value {
        let mut document = json!({
            "type": self.code.type_uri(),
            "title": self.code.title(),
            "status": self.code.status().as_u16(),
            "detail": self.detail.as_deref().unwrap_or(self.code.title()),
            "code": self.code.text(),
            "outcome": match self.code.outcome() {
                Outcome::NotApplied => "not_applied",
                Outcome::Unknown => "unknown",
            },
            "trace_id": trace_id,
        });
        if !self.faults.is_empty() {
            let errors: Vec<Value> = self.faults.iter().map(fault_json).collect();
            document["errors"] = Value::Array(errors);
        }
        document
    }
}

fn fault_json(fault: &Fault) -> Value {
    json!({"pointer": fault.pointer, "code": fault.code, "detail": fault.detail})
}

impl IntoResponse for Problem {
    /// An empty response of the right status; `trace.rs` writes the document into it.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Vec<Fault>> for Problem {
    fn from(faults: Vec<Fault>) -> Self {
        Self::invalid(faults)
    }
}

/// What the runtime could not do, without the business refusals: those are decoded by the resource that asked
/// (`refusal.rs`), because their encoding belongs to a kind.
#[must_use]
pub fn runtime_problem(error: &AskError) -> Problem {
    match error {
        AskError::Rejected { .. } => Problem::new(Code::WrongState),
        AskError::VersionMoved { version } => {
            Problem::because(Code::VersionMismatch, format!("The current version is {version}."))
        }
        AskError::KeyReused => Problem::new(Code::KeyReused),
        AskError::KeyInFlight => Problem::new(Code::KeyInFlight),
        AskError::KeyExpired => Problem::new(Code::KeyExpired),
        AskError::Overloaded { retry_after_secs } => Problem::new(Code::Overloaded).retry_after(*retry_after_secs),
        AskError::Unknown => Problem::because(
            Code::OutcomeUnknown,
            "The leader was lost while the request was being committed. Repeat it with the same Idempotency-Key.",
        ),
        AskError::Unavailable => Problem::because(Code::Unavailable, "The shard has no leader at the moment."),
        AskError::Malformed => Problem::new(Code::Internal),
        AskError::NotFinalized { needs } => Problem::because(
            Code::Unavailable,
            format!("The cluster is being upgraded: this needs its feature level {needs} (finalize-upgrade)."),
        ),
        AskError::TooLarge => Problem::because(
            Code::ChangeTooLarge,
            "Nothing was changed. Ask for less at once: a repeat of the same is refused again.",
        ),
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        runtime_problem(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_every_failure_is_a_failure() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().as_u16() >= 400, "{code:?}");
            assert!(code.text().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code:?}");
        }
    }

    #[test]
    fn a_document_carries_every_member_of_the_contract() {
        let fault = Fault { pointer: "/send_at/zone".into(), code: "unknown_zone", detail: "No such zone.".into() };
        let document = Problem::invalid(vec![fault]).document("abc");
        assert_eq!(document["type"], "urn:bojagi:problem:validation_failed");
        assert_eq!(document["status"], 422);
        assert_eq!(document["code"], "validation_failed");
        assert_eq!(document["trace_id"], "abc");
        assert_eq!(document["outcome"], "not_applied");
        assert_eq!(document["errors"][0]["pointer"], "/send_at/zone");
    }

    #[test]
    fn a_change_that_no_record_holds_is_refused_for_good() {
        let problem = runtime_problem(&AskError::TooLarge);
        let document = problem.document("abc");
        assert_eq!((document["status"].clone(), document["code"].clone()), (json!(413), json!("change_too_large")));
        assert_eq!((document["outcome"].clone(), problem.retry_after_secs), (json!("not_applied"), None));
    }

    #[test]
    fn past_the_commit_no_503_says_that_nothing_was_done() {
        for code in Code::ALL {
            let problem = Problem::new(*code).retry_after(7).past_commit();
            let lost = code.status() == StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(problem.code, if lost { Code::OutcomeUnknown } else { *code });
            assert_eq!(problem.retry_after_secs, Some(7));
        }
    }

    #[test]
    fn only_unknown_outcomes_say_unknown() {
        for code in Code::ALL.iter().filter(|code| code.status() != StatusCode::INTERNAL_SERVER_ERROR) {
            let unknown = code.outcome() == Outcome::Unknown;
            assert_eq!(unknown, matches!(code, Code::OutcomeUnknown | Code::KeyInFlight), "{code:?}");
        }
    }
}
