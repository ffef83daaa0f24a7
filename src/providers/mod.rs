//! Wire clients of real provider APIs. Each speaks its provider's documented protocol to a configured base URL.
//!
//! | client | channel | key | lookup | batch |
//! |---|---|---|---|---|
//! | [`nhn_alimtalk`] | KakaoTalk | 10 min | by reference | 1,000 |
//! | [`solapi`] | SMS, LMS | none | by number and reference; removes an unsent group | 1,000 |
//! | [`smtp`] | e-mail | none | none | 1 |
//! | [`fcm`] | push | none | none | 1 |
//! | [`toss`] | payments | 15 days | by order id | - |
//! | [`shipping`] | shipments | 15 days | by reference | - |

pub mod fcm;
mod fcm_token;
mod http;
pub mod nhn_alimtalk;
mod nhn_codes;
mod nhn_names;
mod seen;
pub mod settings;
pub mod shipping;
mod sms_text;
pub mod smtp;
mod smtp_mail;
pub mod solapi;
mod solapi_codes;
pub mod templates;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod toss;
mod toss_codes;
mod wire;

pub use http::retry_after_of;
pub use settings::{
    FillRandom, ProvidersConfig, SettingsError, build_message_providers, build_payment_provider,
    build_shipping_provider,
};

use crate::types::call::{
    MessageOutcome, MessageRequest, PaymentOutcome, PaymentRequest, Report, ShipmentOutcome, ShipmentRequest,
};
use crate::types::effect::Channel;
use crate::types::time::{Millis, Timestamp};
use futures_util::future::BoxFuture;

/// What a provider can do about an unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Repeating the same key inside this window has no second effect. `None`: it has no key.
    pub key_window: Option<Millis>,
    /// It can be asked whether our reference was accepted.
    pub lookup: bool,
    /// Messages of one call, at most.
    pub batch_max: usize,
}

/// Answer of a lookup by our reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupAnswer {
    /// What became of it, where that is known, comes with the next poll.
    Found { receipt: String, at: Timestamp },
    /// Definitely never accepted.
    Absent,
    /// Cannot be told now.
    Unknown { cause: String },
}

/// From the first instant to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub since: Timestamp,
    pub until: Timestamp,
}

/// Why a poll gave no reports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PollFailure {
    #[error("more has changed in the span than is read at once")]
    TooMany,
    #[error("no end within the deadline")]
    Late,
    #[error("{0}")]
    Failed(String),
}

impl From<String> for PollFailure {
    fn from(cause: String) -> Self {
        Self::Failed(cause)
    }
}

/// A webhook that is not what it claims to be. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error("signature does not verify")]
    Unsigned,
    #[error("body is not this provider's webhook: {what}")]
    Malformed { what: String },
}

/// Headers of a webhook, lower-case names.
pub type WebhookHeaders = Vec<(String, String)>;

/// One messaging provider on one channel. `MessageRequest::prior` is the gateway's business: `send` always sends.
pub trait MessageProvider: Send + Sync {
    fn name(&self) -> &'static str;
    fn channel(&self) -> Channel;
    fn ability(&self) -> Ability;
    /// Sends a batch under one call; one outcome for each request, in order. Never takes longer than `deadline`:
    /// a reply that did not come in time is `Unknown`. A connection that was never made is `Refused(Retry)`.
    fn send<'a>(&'a self, batch: &'a [MessageRequest], deadline: Millis) -> BoxFuture<'a, Vec<MessageOutcome>>;
    /// Whether `send` refuses the message by itself, without asking the provider. Such a one shares no call: a refusal of
    /// one member tells that the provider has had the call for all (ADR-13).
    fn refuses(&self, _request: &MessageRequest) -> bool {
        false
    }
    fn lookup<'a>(&'a self, request: &'a MessageRequest, deadline: Millis) -> BoxFuture<'a, LookupAnswer>;
    /// Delivery reports of what changed in a span, for providers whose webhook may be lost. Reports that came to light
    /// otherwise may be among them.
    ///
    /// # Errors
    /// [`PollFailure`]; the span is to be asked for again, or a shorter one.
    fn poll(&self, span: Span, deadline: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>>;
    /// # Errors
    /// [`WebhookError`]; nothing was changed.
    fn webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<Vec<Report>, WebhookError>;
}

/// A payment provider.
pub trait PaymentProvider: Send + Sync {
    fn name(&self) -> &'static str;
    fn perform<'a>(&'a self, request: &'a PaymentRequest, deadline: Millis) -> BoxFuture<'a, PaymentOutcome>;
    /// Order ids that a payment webhook hints at; they are looked up, the body is not believed.
    ///
    /// # Errors
    /// [`WebhookError`]; nothing was changed.
    fn webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<Vec<String>, WebhookError>;
}

/// A shipping provider. `ShipmentRequest::prior` is the gateway's business: `perform` does what it is asked.
pub trait ShippingProvider: Send + Sync {
    fn name(&self) -> &'static str;
    fn perform<'a>(&'a self, request: &'a ShipmentRequest, deadline: Millis) -> BoxFuture<'a, ShipmentOutcome>;
}
