//! What the sandbox's providers are set to: names, credentials, windows and bounds. One page, so that a client can be
//! configured from it.
//!
//! Windows are the documented ones of the real providers and follow the given clock; latencies of results are short,
//! because nobody wants to wait for a pretended carrier.

use crate::types::time::Millis;
use serde::{Deserialize, Serialize};

/// A provider that the sandbox stands for. Tags are the variant order and are persisted: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Provider {
    /// NHN Cloud KakaoTalk Bizmessage v2.3.
    Nhn,
    /// Solapi (CoolSMS) v4.
    Solapi,
    /// Any mail server.
    Smtp,
    /// Firebase Cloud Messaging HTTP v1.
    Fcm,
    /// Toss Payments.
    Toss,
    /// The shipping provider.
    Shipping,
}

impl Provider {
    pub const ALL: [Provider; 6] = [Self::Nhn, Self::Solapi, Self::Smtp, Self::Fcm, Self::Toss, Self::Shipping];

    /// As the ledger, the faults and the webhook path write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nhn => "nhn",
            Self::Solapi => "solapi",
            Self::Smtp => "smtp",
            Self::Fcm => "fcm",
            Self::Toss => "toss",
            Self::Shipping => "shipping",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

/// NHN app key, in the path.
pub const NHN_APP_KEY: &str = "dev-app";
/// NHN `X-Secret-Key`.
pub const NHN_SECRET_KEY: &str = "dev-secret";
/// NHN's webhook signature is a fixed string that the customer configured, not an HMAC.
pub const NHN_WEBHOOK_SIGNATURE: &str = "dev-secret";
/// Solapi API key.
pub const SOLAPI_API_KEY: &str = "dev-key";
/// Solapi API secret: signs requests; its SHA-1 in hexadecimal is the `X-Solapi-Secret` of webhooks.
pub const SOLAPI_API_SECRET: &str = "dev-secret";
/// Toss secret key: `Authorization: Basic base64(key ":")`.
pub const TOSS_SECRET_KEY: &str = "test_sk_dev";
/// The shipping provider's API key: `Authorization: Bearer <key>`.
pub const SHIPPING_API_KEY: &str = "dev-key";

/// NHN refuses a repeated `X-NC-API-IDEMPOTENCY-KEY` this long.
pub(crate) const NHN_KEY_WINDOW: Millis = Millis::from_mins(10);
/// Solapi's allowed skew of `date`, and how long a used signature stays used.
pub(crate) const SOLAPI_SIGNATURE_WINDOW: Millis = Millis::from_mins(15);
/// Toss replays the first reply of an `Idempotency-Key` this long.
pub(crate) const TOSS_KEY_WINDOW: Millis = Millis::from_days(15);
/// Toss: from the customer's authentication (here: first sight of the payment) to the confirm.
pub(crate) const TOSS_CONFIRM_WINDOW: Millis = Millis::from_mins(10);
/// Toss: of several cancels of one payment inside this span only the first is processed.
pub(crate) const TOSS_CANCEL_SPACING: Millis = Millis::from_secs(1);
/// Farthest `requestDate` of NHN.
pub(crate) const NHN_SCHEDULE_AHEAD: Millis = Millis::from_days(60);

/// From acceptance to the carrier's result.
pub(crate) const RESULT_LATENCY: Millis = Millis(300);
/// From "sent, unconfirmed" to "delivered" for the phone number that asks for it.
pub(crate) const UNCONFIRMED_LATENCY: Millis = Millis::from_secs(60);
/// From the confirm to the capture of a payment key that asks for a late capture: beyond a 5-minute payment timeout.
pub(crate) const LATE_CAPTURE_LATENCY: Millis = Millis::from_mins(6);
/// Results that come due within this span are handled, and hooked, together.
pub(crate) const RESULT_TICK: Millis = Millis(20);

/// A request body; Solapi allows 15 MB.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;
/// A mail with its headers (the `SIZE` of the EHLO reply).
pub(crate) const MAIL_BYTES_MAX: usize = 1 << 20;
/// One SMTP command line.
pub(crate) const MAIL_LINE_BYTES_MAX: usize = 4 << 10;
/// Recipients of one mail.
pub(crate) const MAIL_RECIPIENTS_MAX: usize = 100;
/// Open connections of each port.
pub(crate) const CONNECTIONS_MAX: usize = 20_000;
/// Recipients of one NHN call.
pub(crate) const NHN_RECIPIENTS_MAX: usize = 1_000;
/// Messages of one Solapi call.
pub(crate) const SOLAPI_MESSAGES_MAX: usize = 10_000;
/// Items of one page of the ledger.
pub(crate) const LEDGER_PAGE_MAX: usize = 1_000;
/// Bubbles on the console.
pub(crate) const CONSOLE_MESSAGES_MAX: usize = 60;
/// Faults that may be ordered at one time.
pub(crate) const FAULTS_MAX: usize = 64;
/// Results handled in one go, so that a burst of them does not hold the book.
pub(crate) const RESULTS_MAX: usize = 512;
/// Body of one webhook call: front doors commonly take 16 KiB.
pub(crate) const WEBHOOK_BYTES_MAX: usize = 14 << 10;
/// Webhook calls in flight.
pub(crate) const WEBHOOKS_IN_FLIGHT_MAX: usize = 4;
/// Hooks that wait; beyond it the oldest results are left to the polls.
pub(crate) const WEBHOOKS_WAITING_MAX: usize = 200_000;
/// Real time that one webhook call may take.
pub(crate) const WEBHOOK_DEADLINE: Millis = Millis::from_secs(10);
/// Spans between the tries of a webhook, in seconds; then it is left to the polls.
pub(crate) const WEBHOOK_BACKOFF_SECONDS: [i64; 5] = [1, 4, 16, 64, 256];
