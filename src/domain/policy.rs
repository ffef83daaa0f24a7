//! Policy: every rule that an operator or a product may vary, as one value. It is copied into a gift when it is
//! reserved, so that a later change of a product never changes a promise already made.

use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Entries of a retry schedule, at most.
pub const RETRIES_MAX: usize = 8;
/// Reminders of one gift, at most.
pub const REMINDERS_MAX: usize = 4;
/// Validity in days, at most (five years).
pub const VALIDITY_DAYS_MAX: u16 = 1826;

/// How long a gift that is done keeps its personal data and its journal, from its last change on; then both go by
/// themselves. What stays is what the books need: state, amounts, instants. One value for the whole catalogue: a law's,
/// not a product's.
pub const RETENTION: Millis = Millis::from_days(90);

/// The rules of one gift. [`Policy::default`] is what the documents promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Days that a gift stays usable after it left, to the end of the day in the recipient's zone. 1..=1826.
    pub validity_days: u16,
    /// Days before expiry at which the recipient is reminded, in falling order. One not shorter than the validity
    /// is skipped.
    pub reminder_days: Vec<u8>,
    /// Local hour of a reminder, 0..=23.
    pub reminder_hour: u8,
    /// How often a gift may be handed on.
    pub transfers_max: u8,
    pub decline: DeclineRule,
    pub refund: RefundRule,
    /// Hours of the recipient's day in which no reminder leaves. An arrival is never held back.
    pub quiet_hours: Option<QuietHours>,
    /// Pauses after a definite refusal that may pass; then the next channel, then the dead letters.
    pub send_retry: Vec<Millis>,
    /// The same for a notice.
    pub notice_retry: Vec<Millis>,
    /// Time after acceptance by the provider in which a delivery report is awaited; then `sent`, unconfirmed.
    pub report_timeout: Millis,
    /// Time in which a payment has to be answered.
    pub payment_timeout: Millis,
    /// A gift may be changed until this long before its send instant.
    pub change_margin: Millis,
    /// Time in which a till may take back a redemption.
    pub net_cancel_window: Millis,
    pub overdue: Overdue,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            validity_days: 30,
            reminder_days: vec![3, 1],
            reminder_hour: 10,
            transfers_max: 1,
            decline: DeclineRule::UntilUsed,
            refund: RefundRule::default(),
            quiet_hours: Some(QuietHours { from_hour: 21, to_hour: 8 }),
            send_retry: vec![Millis::from_secs(10), Millis::from_secs(30), Millis::from_mins(2)],
            notice_retry: vec![Millis::from_secs(10), Millis::from_mins(1), Millis::from_mins(10)],
            report_timeout: Millis::from_mins(10),
            payment_timeout: Millis::from_mins(5),
            change_margin: Millis::from_hours(1),
            net_cancel_window: Millis::from_hours(24),
            overdue: Overdue::SendAtOnce,
        }
    }
}

/// How long the recipient may decline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeclineRule {
    Never,
    UntilAccepted,
    UntilUsed,
}

/// Who gets money back and how much of it. A cancelled or undeliverable gift is always refunded in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRule {
    pub receiver: RefundReceiver,
    /// Share of the price given back when the gift expires unused, 0..=100. The rest counts as used.
    pub expired_percent: u8,
    /// Share given back when the recipient declines, 0..=100.
    pub declined_percent: u8,
}

impl Default for RefundRule {
    fn default() -> Self {
        Self { receiver: RefundReceiver::Sender, expired_percent: 100, declined_percent: 100 }
    }
}

/// Who is refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundReceiver {
    /// Whoever paid, by the way they paid.
    Sender,
}

/// Hours of a local day, `from_hour` inclusive to `to_hour` exclusive, across midnight when `from_hour` is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    pub from_hour: u8,
    pub to_hour: u8,
}

impl QuietHours {
    /// Whether a local hour (0..=23) is quiet.
    #[must_use]
    pub fn covers(self, hour: u8) -> bool {
        if self.from_hour <= self.to_hour {
            (self.from_hour..self.to_hour).contains(&hour)
        } else {
            hour >= self.from_hour || hour < self.to_hour
        }
    }
}

/// What happens to a gift whose instant passed while nothing could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overdue {
    /// It leaves as soon as it can, however late.
    SendAtOnce,
    /// Later than this after its instant it becomes a dead letter instead.
    DeadLetterAfter(Millis),
}

/// A policy that is not one: the named field is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("policy field {field} is out of range")]
pub struct PolicyFault {
    pub field: PolicyField,
}

/// Names a policy field in a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyField {
    ValidityDays,
    ReminderDays,
    ReminderHour,
    RefundPercent,
    QuietHours,
    SendRetry,
    NoticeRetry,
    ReportTimeout,
    Overdue,
}

impl PolicyField {
    /// As the front door names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ValidityDays => "validity_days",
            Self::ReminderDays => "reminder_days",
            Self::ReminderHour => "reminder_hour",
            Self::RefundPercent => "refund_percent",
            Self::QuietHours => "quiet_hours",
            Self::SendRetry => "send_retry",
            Self::NoticeRetry => "notice_retry",
            Self::ReportTimeout => "report_timeout",
            Self::Overdue => "overdue",
        }
    }
}

impl std::fmt::Display for PolicyField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Policy {
    /// Every field that is out of its range.
    #[must_use]
    pub fn faults(&self) -> Vec<PolicyFault> {
        let span_ok = |span: &Millis| span.0 > 0 && *span <= Millis::from_days(1);
        let retry_ok = |retry: &[Millis]| retry.len() <= RETRIES_MAX && retry.iter().all(span_ok);
        let reminders = &self.reminder_days;
        let falling = reminders.windows(2).all(|pair| pair[0] > pair[1]);
        let checks = [
            (PolicyField::ValidityDays, (1..=VALIDITY_DAYS_MAX).contains(&self.validity_days)),
            (PolicyField::ReminderDays, reminders.len() <= REMINDERS_MAX && falling && !reminders.contains(&0)),
            (PolicyField::ReminderHour, self.reminder_hour < 24),
            (PolicyField::RefundPercent, self.refund.expired_percent <= 100 && self.refund.declined_percent <= 100),
            (PolicyField::QuietHours, self.quiet_hours.is_none_or(|quiet| quiet.from_hour < 24 && quiet.to_hour < 24)),
            (PolicyField::SendRetry, retry_ok(&self.send_retry)),
            (PolicyField::NoticeRetry, retry_ok(&self.notice_retry)),
            (
                PolicyField::ReportTimeout,
                [self.report_timeout, self.payment_timeout, self.net_cancel_window].iter().all(span_ok)
                    && self.change_margin.0 >= 0,
            ),
            (
                PolicyField::Overdue,
                match self.overdue {
                    Overdue::SendAtOnce => true,
                    Overdue::DeadLetterAfter(span) => span >= Millis::from_mins(1),
                },
            ),
        ];
        checks.into_iter().filter(|(_, ok)| !ok).map(|(field, _)| PolicyFault { field }).collect()
    }
}

/// What a product changes of the default policy; an absent field keeps the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyOverrides {
    pub validity_days: Option<u16>,
    pub reminder_days: Option<Vec<u8>>,
    pub reminder_hour: Option<u8>,
    pub transfers_max: Option<u8>,
    pub decline: Option<DeclineRule>,
    pub refund: Option<RefundRule>,
    /// `Some(None)` turns quiet hours off.
    pub quiet_hours: Option<Option<QuietHours>>,
    pub send_retry: Option<Vec<Millis>>,
    pub notice_retry: Option<Vec<Millis>>,
    pub report_timeout: Option<Millis>,
    pub overdue: Option<Overdue>,
}

impl PolicyOverrides {
    /// The default policy with these changes.
    #[must_use]
    pub fn apply(&self, base: &Policy) -> Policy {
        let from = self.clone();
        let base = base.clone();
        Policy {
            validity_days: from.validity_days.unwrap_or(base.validity_days),
            reminder_days: from.reminder_days.unwrap_or(base.reminder_days),
            reminder_hour: from.reminder_hour.unwrap_or(base.reminder_hour),
            transfers_max: from.transfers_max.unwrap_or(base.transfers_max),
            decline: from.decline.unwrap_or(base.decline),
            refund: from.refund.unwrap_or(base.refund),
            quiet_hours: from.quiet_hours.unwrap_or(base.quiet_hours),
            send_retry: from.send_retry.unwrap_or(base.send_retry),
            notice_retry: from.notice_retry.unwrap_or(base.notice_retry),
            report_timeout: from.report_timeout.unwrap_or(base.report_timeout),
            payment_timeout: base.payment_timeout,
            change_margin: base.change_margin,
            net_cancel_window: base.net_cancel_window,
            overdue: from.overdue.unwrap_or(base.overdue),
        }
    }
}

/// How a gift is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PaymentMethod {
    Card,
    KakaoPay,
    NaverPay,
    BankTransfer,
    /// Carrier billing: refundable within the calendar month only, so never for a gift.
    Carrier,
    /// The sender's wallet.
    Balance,
}

impl PaymentMethod {
    pub const ALL: [Self; 6] =
        [Self::Card, Self::KakaoPay, Self::NaverPay, Self::BankTransfer, Self::Carrier, Self::Balance];

    /// As the front door writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::KakaoPay => "kakao_pay",
            Self::NaverPay => "naver_pay",
            Self::BankTransfer => "bank_transfer",
            Self::Carrier => "carrier",
            Self::Balance => "balance",
        }
    }
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Last instant at which a payment captured at `captured_at` is sure to be refundable.
    /// Carrier billing ends with the calendar month, which may be tomorrow.
    #[must_use]
    pub fn refund_by(self, captured_at: Timestamp, windows: &RefundWindows) -> Timestamp {
        let days = match self {
            Self::Card => i64::from(windows.card_days),
            // Its money is refundable for 5 years, a card behind it as a card.
            Self::KakaoPay => i64::from(windows.card_days),
            Self::NaverPay => 1_095,
            Self::BankTransfer => 90,
            Self::Carrier => 0,
            // Held in our own books until the gift is done.
            Self::Balance => 3_650,
        };
        captured_at + Millis::from_days(days)
    }
}

/// How long payments can be given back, as far as it is a matter of the operator's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundWindows {
    /// Days after the capture in which a card payment may be cancelled. Issuers usually grant one year, some less; what
    /// counts is the acquirer's contract. A gift that could end later is refused at reservation; one whose refund is
    /// refused all the same (`EXCEED_MAX_REFUND_DUE`) is a dead letter with its money held.
    pub card_days: u16,
}

impl Default for RefundWindows {
    /// What it takes to keep the promise of a gift one year ahead with 30 days of validity by card.
    fn default() -> Self {
        Self { card_days: 400 }
    }
}
