//! Faults that are ordered over HTTP, and the dice that decide whether a call meets one.
//!
//! The dice are seeded: the same orders and the same calls in the same order meet the same faults. A fault's life
//! follows the given clock. While none is ordered a call costs one atomic load here.

use crate::sandbox::settings::{FAULTS_MAX, Provider};
use crate::types::time::{Millis, Timestamp};
use parking_lot::Mutex;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// The work is done at once, the reply leaves `latency_ms` later.
    Latency,
    /// A definite business refusal; `code` overrides the default. Decided for each recipient of a batch.
    Refuse,
    /// 429 with `Retry-After` (`latency_ms` rounded up to seconds, else 1); nothing is done.
    RateLimit,
    /// `status` (500), before anything is done or, with `"when": "after_accept"`, after all of it is.
    ServerError,
    /// The work is done, the connection is closed without a reply.
    AcceptThenDrop,
    /// The work is done, and nothing is said until the caller hangs up.
    AcceptThenHang,
    /// The true result comes out `latency_ms` later than usual; until then "sent, unconfirmed", or a payment in progress.
    LateResult,
    WebhookDuplicate,
    /// A hook is held back by `latency_ms`, so that later ones overtake it.
    WebhookReorder,
    /// Nobody home: an empty 503 with `Retry-After: 1` (SMTP: 421 at the door); nothing is done, lookups neither.
    Down,
}

impl FaultKind {
    pub(crate) const ALL: [FaultKind; 10] = [
        Self::Latency,
        Self::Refuse,
        Self::RateLimit,
        Self::ServerError,
        Self::AcceptThenDrop,
        Self::AcceptThenHang,
        Self::LateResult,
        Self::WebhookDuplicate,
        Self::WebhookReorder,
        Self::Down,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Refuse => "refuse",
            Self::RateLimit => "rate_limit",
            Self::ServerError => "server_error",
            Self::AcceptThenDrop => "accept_then_drop",
            Self::AcceptThenHang => "accept_then_hang",
            Self::LateResult => "late_result",
            Self::WebhookDuplicate => "webhook_duplicate",
            Self::WebhookReorder => "webhook_reorder",
            Self::Down => "down",
        }
    }

    fn latency_default(self) -> Millis {
        match self {
            Self::LateResult => Millis::from_secs(5),
            Self::WebhookDuplicate | Self::WebhookReorder => Millis::from_secs(2),
            Self::Latency
            | Self::Refuse
            | Self::RateLimit
            | Self::ServerError
            | Self::AcceptThenDrop
            | Self::AcceptThenHang
            | Self::Down => Millis::from_secs(1),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    #[default]
    BeforeAccept,
    AfterAccept,
}

/// An order as it comes in.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FaultOrder {
    provider: String,
    kind: String,
    probability: Option<f64>,
    latency_ms: Option<i64>,
    /// Life of the fault; absent or 0: until it is cleared.
    seconds: Option<i64>,
    #[serde(default)]
    when: When,
    status: Option<u16>,
    code: Option<String>,
    /// Only calls whose path contains this, for example `/cancel`.
    path: Option<String>,
}

/// A fault that is in force.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub id: u64,
    pub provider: String,
    pub kind: FaultKind,
    pub probability: f64,
    pub latency_ms: i64,
    pub until: Option<String>,
    pub when: When,
    pub status: u16,
    pub code: Option<String>,
    pub path: Option<String>,
    #[serde(skip)]
    target: Option<Provider>,
    #[serde(skip)]
    ends_at: Timestamp,
}

/// An order that makes no sense; the text says which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FaultError {
    #[error("provider must be one of nhn, solapi, smtp, fcm, toss, shipping, *")]
    Provider,
    #[error(
        "kind must be one of latency, refuse, rate_limit, server_error, accept_then_drop, accept_then_hang, late_result, webhook_duplicate, webhook_reorder, down"
    )]
    Kind,
    #[error("probability must be from 0 to 1")]
    Probability,
    #[error("latency_ms and seconds must not be negative, and at most ten years")]
    Span,
    #[error("status must be from 400 to 599")]
    Status,
    #[error("too many faults at one time")]
    TooMany,
}

/// What a call meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub down: bool,
    /// Status and `Retry-After` seconds: answered so, and nothing is done.
    pub turned_away: Option<(u16, Option<i64>)>,
    /// Everything is done and then answered with this status.
    pub fails_after: Option<u16>,
    pub drops_reply: bool,
    pub hangs: bool,
    pub delay: Millis,
}

/// What one recipient of a call meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecipientVerdict {
    /// Refused with the code, or with the provider's default when it is empty.
    pub refused: Option<String>,
    pub late: Option<Millis>,
}

struct Table {
    faults: Vec<Fault>,
    next_id: u64,
    dice: ChaCha8Rng,
}

pub(crate) struct Faults {
    table: Mutex<Table>,
    count: AtomicUsize,
}

const SPAN_MS_MAX: i64 = Millis::from_days(3_653).0;

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let table = Table { faults: Vec::new(), next_id: 1, dice: ChaCha8Rng::seed_from_u64(seed) };
        Self { table: Mutex::new(table), count: AtomicUsize::new(0) }
    }

    /// # Errors
    /// [`FaultError`]; nothing was ordered.
    pub(crate) fn order(&self, order: FaultOrder, now: Timestamp) -> Result<Fault, FaultError> {
        let target = match order.provider.as_str() {
            "*" => None,
            name => Some(Provider::parse(name).ok_or(FaultError::Provider)?),
        };
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == order.kind).ok_or(FaultError::Kind)?;
        let probability = order.probability.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&probability) {
            return Err(FaultError::Probability);
        }
        let latency_ms = order.latency_ms.unwrap_or(kind.latency_default().0);
        let seconds = order.seconds.unwrap_or(0);
        if !(0..=SPAN_MS_MAX).contains(&latency_ms) || !(0..=SPAN_MS_MAX / 1_000).contains(&seconds) {
            return Err(FaultError::Span);
        }
        let status = order.status.unwrap_or(500);
        if !(400..=599).contains(&status) {
            return Err(FaultError::Status);
        }
        let ends_at = if seconds == 0 { Timestamp::MAX } else { now + Millis::from_secs(seconds) };
        let mut table = self.table.lock();
        self.prune(&mut table, now);
        if table.faults.len() >= FAULTS_MAX {
            return Err(FaultError::TooMany);
        }
        let fault = Fault {
            id: table.next_id,
            provider: order.provider,
            kind,
            probability,
            latency_ms,
            until: (seconds > 0).then(|| ends_at.to_rfc3339()),
            when: order.when,
            status,
            code: order.code,
            path: order.path,
            target,
            ends_at,
        };
        table.next_id += 1;
        table.faults.push(fault.clone());
        self.count.store(table.faults.len(), Ordering::Release);
        Ok(fault)
    }

    pub(crate) fn list(&self, now: Timestamp) -> Vec<Fault> {
        let mut table = self.table.lock();
        self.prune(&mut table, now);
        table.faults.clone()
    }

    /// Clears one fault, or all; returns how many there were.
    pub(crate) fn clear(&self, id: Option<u64>) -> usize {
        let mut table = self.table.lock();
        let before = table.faults.len();
        table.faults.retain(|fault| id.is_some_and(|id| id != fault.id));
        self.count.store(table.faults.len(), Ordering::Release);
        before - table.faults.len()
    }

    fn prune(&self, table: &mut Table, now: Timestamp) {
        table.faults.retain(|fault| now < fault.ends_at);
        self.count.store(table.faults.len(), Ordering::Release);
    }

    /// Whether anything is ordered at all.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Throws the dice for each fault of the kinds that fit, in the order in which they were ordered.
    fn meet(&self, provider: Provider, path: &str, now: Timestamp, mut met: impl FnMut(&Fault)) {
        if !self.any() {
            return;
        }
        let mut table = self.table.lock();
        self.prune(&mut table, now);
        let Table { faults, dice, .. } = &mut *table;
        for fault in faults.iter() {
            let here = fault.target.is_none_or(|target| target == provider)
                && fault.path.as_deref().is_none_or(|part| path.contains(part));
            if here && (fault.probability >= 1.0 || dice.random_bool(fault.probability)) {
                met(fault);
            }
        }
    }

    /// What a call meets. `accepts` is false for lookups and preparations: nothing is lost with their reply, so it is
    /// neither dropped nor replaced.
    pub(crate) fn verdict(&self, provider: Provider, path: &str, accepts: bool, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        self.meet(provider, path, now, |fault| match (fault.kind, fault.when) {
            (FaultKind::Down, _) => verdict.down = true,
            (FaultKind::RateLimit, _) => {
                verdict.turned_away = Some((429, Some((fault.latency_ms.max(1) + 999) / 1_000)));
            }
            (FaultKind::ServerError, When::BeforeAccept) => verdict.turned_away = Some((fault.status, None)),
            (FaultKind::ServerError, When::AfterAccept) => verdict.fails_after = accepts.then_some(fault.status),
            (FaultKind::AcceptThenDrop, _) => verdict.drops_reply |= accepts,
            (FaultKind::AcceptThenHang, _) => verdict.hangs |= accepts,
            (FaultKind::Latency, _) => verdict.delay = verdict.delay.max_of(fault.latency_ms),
            (
                FaultKind::Refuse | FaultKind::LateResult | FaultKind::WebhookDuplicate | FaultKind::WebhookReorder,
                _,
            ) => {}
        });
        verdict
    }

    pub(crate) fn recipient(&self, provider: Provider, path: &str, now: Timestamp) -> RecipientVerdict {
        let mut verdict = RecipientVerdict::default();
        self.meet(provider, path, now, |fault| {
            if fault.kind == FaultKind::Refuse {
                verdict.refused = Some(fault.code.clone().unwrap_or_default());
            } else if fault.kind == FaultKind::LateResult {
                verdict.late = Some(Millis(fault.latency_ms));
            }
        });
        verdict
    }

    /// How long a hook is held back, and after how long it comes again.
    pub(crate) fn hook(&self, provider: Provider, now: Timestamp) -> (Option<Millis>, Option<Millis>) {
        let (mut held, mut again) = (None, None);
        self.meet(provider, "", now, |fault| {
            if fault.kind == FaultKind::WebhookReorder {
                held = Some(Millis(fault.latency_ms));
            } else if fault.kind == FaultKind::WebhookDuplicate {
                again = Some(Millis(fault.latency_ms));
            }
        });
        (held, again)
    }
}

trait MaxOf {
    fn max_of(self, milliseconds: i64) -> Self;
}

impl MaxOf for Millis {
    fn max_of(self, milliseconds: i64) -> Self {
        Self(self.0.max(milliseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(json: &str) -> FaultOrder {
        serde_json::from_str(json).unwrap()
    }

    fn calls_turned_away(seed: u64) -> Vec<bool> {
        let faults = Faults::new(seed);
        let half = order(r#"{"provider":"nhn","kind":"rate_limit","probability":0.5}"#);
        faults.order(half, Timestamp(0)).unwrap();
        (0..64).map(|_| faults.verdict(Provider::Nhn, "/", true, Timestamp(0)).turned_away.is_some()).collect()
    }

    #[test]
    fn dice_are_seeded() {
        assert_eq!(calls_turned_away(1), calls_turned_away(1));
        assert_ne!(calls_turned_away(1), calls_turned_away(2));
    }

    #[test]
    fn fault_ends_with_the_clock_and_keeps_to_its_provider_and_path() {
        let faults = Faults::new(1);
        let json = r#"{"provider":"toss","kind":"down","seconds":60,"path":"/cancel"}"#;
        faults.order(order(json), Timestamp(0)).unwrap();
        let down = |provider, path, at| faults.verdict(provider, path, true, Timestamp(at)).down;
        assert!(down(Provider::Toss, "/v1/payments/k/cancel", 59_999));
        assert!(!down(Provider::Toss, "/v1/payments/confirm", 59_999));
        assert!(!down(Provider::Nhn, "/v1/payments/k/cancel", 59_999));
        assert!(!down(Provider::Toss, "/v1/payments/k/cancel", 60_000));
        assert!(!faults.any());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let faults = Faults::new(1);
        let cases = [
            (r#"{"provider":"kt","kind":"down"}"#, FaultError::Provider),
            (r#"{"provider":"*","kind":"fire"}"#, FaultError::Kind),
            (r#"{"provider":"*","kind":"down","probability":1.5}"#, FaultError::Probability),
            (r#"{"provider":"*","kind":"down","seconds":-1}"#, FaultError::Span),
            (r#"{"provider":"*","kind":"server_error","status":200}"#, FaultError::Status),
        ];
        for (json, error) in cases {
            assert_eq!(faults.order(order(json), Timestamp(0)).unwrap_err(), error, "{json}");
        }
        assert!(!faults.any());
    }
}
