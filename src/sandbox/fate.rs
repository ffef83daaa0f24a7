//! What becomes of a message, decided at acceptance: by the number it goes to, or by an ordered fault.
//!
//! The magic values below are the whole list; the console shows them. A number that is on no list is delivered.

use crate::sandbox::event::{Fate, Step};
use crate::sandbox::settings::{LATE_CAPTURE_LATENCY, Provider, RESULT_LATENCY, UNCONFIRMED_LATENCY};
use crate::types::effect::Channel;
use crate::types::time::{Millis, Timestamp};

/// NHN: received.
pub(crate) const NHN_RECEIVED: u16 = 1000;
/// NHN: sent, receipt unconfirmed, may still arrive.
pub(crate) const NHN_UNCONFIRMED: u16 = 3005;
/// Solapi: done.
pub(crate) const SOLAPI_DONE: u16 = 4000;
/// Solapi: handed to the carrier, its report is awaited.
pub(crate) const SOLAPI_AT_CARRIER: u16 = 3000;
/// Carriers report some failures only after 25 hours.
const CARRIER_FAILURE_LATENCY: Millis = Millis::from_hours(25);

/// Phone endings (digits only), what they do, and what the console says about it.
pub(crate) const PHONE_RULES: [(&str, PhoneRule, &str); 8] = [
    ("0000", PhoneRule::NoKakaoUser, "NHN 3019, Solapi 3104: no KakaoTalk user; SMS is delivered"),
    ("99990001", PhoneRule::Inactive, "NHN 3018, Solapi 3107: not deliverable on Kakao; SMS is delivered"),
    ("99990002", PhoneRule::Blocked, "NHN 3020, Solapi 3107: Alimtalk blocked; SMS is delivered"),
    ("99990003", PhoneRule::NoSubscriber, "NHN 3008, SMS 3032: nobody has this number"),
    ("99990004", PhoneRule::Unconfirmed, "NHN 3005 (Solapi 3000) first, delivered 60 s later"),
    ("99990005", PhoneRule::Silent, "delivered, but no result ever comes"),
    ("99990006", PhoneRule::RefusedOnEntry, "refused on entry for this recipient alone (NHN -5000, Solapi 1060)"),
    ("99990007", PhoneRule::PowerOff, "NHN 3019; SMS 3043 (power off) after 25 h"),
];

/// Mail addresses, push tokens and payment keys, for the console.
pub(crate) const OTHER_RULES: [(&str, &str); 20] = [
    ("bounce@…", "SMTP 550 5.1.1 at RCPT"),
    ("greylist@…", "SMTP 451 4.7.1 at RCPT"),
    ("full@…", "SMTP 552 5.2.2 after DATA"),
    ("unregistered…", "FCM 404 UNREGISTERED"),
    ("invalid…", "FCM 400 INVALID_ARGUMENT"),
    ("mismatch…", "FCM 403 SENDER_ID_MISMATCH"),
    ("tok_reject…", "Toss 403 REJECT_CARD_COMPANY"),
    ("tok_reject_limit…", "Toss 403 REJECT_CARD_PAYMENT"),
    ("tok_expired…", "Toss 404 NOT_FOUND_PAYMENT_SESSION"),
    ("tok_silent…", "Toss never answers the confirm, nothing is captured"),
    ("tok_late…", "Toss never answers the confirm, captured 6 minutes later"),
    ("tok_norefund…", "captured; a cancel is refused: 403 NOT_CANCELABLE_PAYMENT"),
    ("tok_refundfail…", "captured; a cancel fails: 500 FAILED_REFUND_PROCESS"),
    ("tok_carrier…", "carrier billing: refund in the same calendar month only"),
    ("tok_transfer…", "bank transfer: refund within 90 days"),
    ("tok_kakaopay…", "KakaoPay money: refund within 5 years"),
    ("tok_naverpay…", "Naver Pay: refund within 1,095 days"),
    ("sku unshippable…", "shipping refuses it: 422 GOODS_REFUSED"),
    ("sku uncancellable…", "shipped at once; a cancel is refused: 409 ALREADY_SHIPPED"),
    ("anything else", "card: refund within 1 year"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhoneRule {
    NoKakaoUser,
    Inactive,
    Blocked,
    NoSubscriber,
    Unconfirmed,
    Silent,
    RefusedOnEntry,
    PowerOff,
}

/// The rule of a number in any notation.
pub(crate) fn phone_rule(to: &str) -> Option<PhoneRule> {
    let mut digits = [0u8; 8];
    let mut count = 0;
    for digit in to.bytes().rev().filter(u8::is_ascii_digit).take(digits.len()) {
        count += 1;
        digits[8 - count] = digit;
    }
    let ending = &digits[8 - count..];
    PHONE_RULES.iter().find(|(rule, _, _)| ending.ends_with(rule.as_bytes())).map(|(_, rule, _)| *rule)
}

/// The results of a message that is sent at `at`.
pub(crate) fn of_message(provider: Provider, channel: Channel, to: &str, at: Timestamp, late: Option<Millis>) -> Fate {
    of_rule(provider, channel, phone_rule(to), (at, late))
}

/// The results of a message whose recipient's rule is known.
pub(crate) fn of_rule(
    provider: Provider,
    channel: Channel,
    rule: Option<PhoneRule>,
    (at, late): (Timestamp, Option<Millis>),
) -> Fate {
    let soon = at + RESULT_LATENCY;
    let (interim, done) = match provider {
        Provider::Nhn => (NHN_UNCONFIRMED, NHN_RECEIVED),
        Provider::Solapi => (SOLAPI_AT_CARRIER, SOLAPI_DONE),
        // Mail and push accept, and say no more.
        Provider::Smtp | Provider::Fcm | Provider::Toss | Provider::Shipping => {
            return Fate { reached: true, ..Fate::default() };
        }
    };
    let failure = rule.and_then(|rule| failure_code(provider, channel, rule));
    let code = failure.unwrap_or(done);
    let slow_failure = failure.is_some() && channel == Channel::Sms && rule == Some(PhoneRule::PowerOff);
    let truth_after = match (rule, late) {
        (Some(PhoneRule::Silent), _) => None,
        (_, Some(late)) => Some(late),
        (Some(PhoneRule::Unconfirmed), None) => Some(UNCONFIRMED_LATENCY),
        (_, None) if slow_failure => Some(CARRIER_FAILURE_LATENCY),
        (_, None) => Some(Millis(0)),
    };
    let steps = match truth_after {
        None => Vec::new(),
        Some(Millis(0)) => vec![Step { code, due: soon }],
        Some(after) => vec![Step { code: interim, due: soon }, Step { code, due: soon + after }],
    };
    Fate { steps, reached: failure.is_none(), send_at: None, fallback: false }
}

/// The code of a definite failure, or nothing when the message arrives on this channel.
fn failure_code(provider: Provider, channel: Channel, rule: PhoneRule) -> Option<u16> {
    let kakao_nhn = provider == Provider::Nhn;
    let (nhn, solapi, sms) = match rule {
        PhoneRule::NoKakaoUser => (3019, 3104, None),
        PhoneRule::Inactive => (3018, 3107, None),
        PhoneRule::Blocked => (3020, 3107, None),
        PhoneRule::NoSubscriber => (3008, 3104, Some(3032)),
        PhoneRule::PowerOff => (3019, 3104, Some(3043)),
        PhoneRule::Unconfirmed | PhoneRule::Silent | PhoneRule::RefusedOnEntry => return None,
    };
    match channel {
        Channel::Sms => sms,
        Channel::Kakao | Channel::Email | Channel::Push => Some(if kakao_nhn { nhn } else { solapi }),
    }
}

/// How a payment key behaves on confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyRule {
    Captured,
    Refused { status: u16, code: &'static str },
    Silent { capture_after: Option<Millis> },
}

pub(crate) fn key_rule(payment_key: &str) -> KeyRule {
    let rules = [
        ("tok_reject_limit", KeyRule::Refused { status: 403, code: "REJECT_CARD_PAYMENT" }),
        ("tok_reject", KeyRule::Refused { status: 403, code: "REJECT_CARD_COMPANY" }),
        ("tok_expired", KeyRule::Refused { status: 404, code: "NOT_FOUND_PAYMENT_SESSION" }),
        ("tok_silent", KeyRule::Silent { capture_after: None }),
        ("tok_late", KeyRule::Silent { capture_after: Some(LATE_CAPTURE_LATENCY) }),
    ];
    let found = rules.into_iter().find(|(prefix, _)| payment_key.starts_with(prefix));
    found.map_or(KeyRule::Captured, |(_, rule)| rule)
}

/// How a payment key behaves on cancel, whatever its method.
pub(crate) fn refund_refusal(payment_key: &str) -> Option<(u16, &'static str)> {
    if payment_key.starts_with("tok_norefund") {
        return Some((403, "NOT_CANCELABLE_PAYMENT"));
    }
    payment_key.starts_with("tok_refundfail").then_some((500, "FAILED_REFUND_PROCESS"))
}

/// How long a capture can be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefundWindow {
    /// Within the calendar month of the capture, in Korea.
    SameMonth,
    Span(Millis),
}

/// The provider's name of the method of a payment key, and its refund window.
pub(crate) fn method(payment_key: &str) -> (&'static str, RefundWindow) {
    let rules = [
        ("tok_carrier", "휴대폰", RefundWindow::SameMonth),
        ("tok_transfer", "계좌이체", RefundWindow::Span(Millis::from_days(90))),
        ("tok_kakaopay", "간편결제", RefundWindow::Span(Millis::from_days(5 * 365))),
        ("tok_naverpay", "간편결제", RefundWindow::Span(Millis::from_days(1_095))),
    ];
    let found = rules.into_iter().find(|(prefix, _, _)| payment_key.starts_with(prefix));
    found.map_or(("카드", RefundWindow::Span(Millis::from_days(365))), |(_, name, window)| (name, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(provider: Provider, channel: Channel, to: &str, late: Option<Millis>) -> (Vec<u16>, bool) {
        let fate = of_message(provider, channel, to, Timestamp(0), late);
        (fate.steps.iter().map(|step| step.code).collect(), fate.reached)
    }

    #[test]
    fn numbers_decide_in_any_notation() {
        assert_eq!(phone_rule("010-1234-0000"), Some(PhoneRule::NoKakaoUser));
        assert_eq!(phone_rule("+82 10-9999-0004"), Some(PhoneRule::Unconfirmed));
        assert_eq!(phone_rule("01099990005"), Some(PhoneRule::Silent));
        assert_eq!(phone_rule("01012340001"), None);
        assert_eq!(phone_rule("42"), None);
    }

    #[test]
    fn failures_keep_to_their_channel() {
        let nhn = |to| codes(Provider::Nhn, Channel::Kakao, to, None);
        assert_eq!(nhn("01012345678"), (vec![1000], true));
        assert_eq!(nhn("01012340000"), (vec![3019], false));
        assert_eq!(nhn("01099990004"), (vec![3005, 1000], true));
        assert_eq!(nhn("01099990005"), (vec![], true));
        let sms = |to| codes(Provider::Solapi, Channel::Sms, to, None);
        assert_eq!(sms("01012340000"), (vec![4000], true));
        assert_eq!(sms("01099990003"), (vec![3032], false));
        assert_eq!(sms("01099990007"), (vec![3000, 3043], false));
    }

    #[test]
    fn an_ordered_late_result_says_unconfirmed_first() {
        let late = Some(Millis(5_000));
        assert_eq!(codes(Provider::Nhn, Channel::Kakao, "01012345678", late), (vec![3005, 1000], true));
        assert_eq!(codes(Provider::Solapi, Channel::Kakao, "01012340000", late), (vec![3000, 3104], false));
    }

    #[test]
    fn payment_keys_decide() {
        assert_eq!(key_rule("tok_1"), KeyRule::Captured);
        assert!(matches!(key_rule("tok_reject_limit_1"), KeyRule::Refused { code: "REJECT_CARD_PAYMENT", .. }));
        assert!(matches!(key_rule("tok_reject"), KeyRule::Refused { code: "REJECT_CARD_COMPANY", .. }));
        assert_eq!(key_rule("tok_silent_2"), KeyRule::Silent { capture_after: None });
        assert_eq!(method("tok_carrier").1, RefundWindow::SameMonth);
        assert_eq!(refund_refusal("tok_1"), None);
    }
}
