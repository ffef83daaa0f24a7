//! Small pieces that several wire clients share: constant-time comparison, lenient scalars, Korean local time, numbers.

use super::WebhookHeaders;
use crate::types::call::{Address, MessageOutcome, MessageRequest, RefusalClass};
use crate::types::contact::Private;
use crate::types::time::{Millis, Timestamp};
use jiff::civil;
use jiff::tz::{self, TimeZone};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use subtle::ConstantTimeEq;

/// Korea has had one offset and no summer time since 1988; providers write local times without an offset.
const KOREA: tz::Offset = tz::offset(9);
/// Characters of a reference, as any provider's field carries it (Solapi's `customFields` take 100).
pub(crate) const REFERENCE_CHARS_MAX: usize = 100;

/// Compares a presented secret with the expected one without telling by the time taken how far they agree.
pub(crate) fn same_secret(presented: &str, expected: &str) -> bool {
    presented.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// The first header of that lower-case name.
pub(crate) fn header<'a>(headers: &'a WebhookHeaders, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Providers write the same code as a number in one reply and as a string in another.
pub(crate) fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// A reference that could be one of ours; anything else in a provider's field is somebody else's message.
pub(crate) fn is_reference(text: &str) -> bool {
    !text.is_empty() && text.len() <= REFERENCE_CHARS_MAX && text.contains('.') && text.is_ascii()
}

/// `yyyy-MM-dd HH:mm` in Korea; seconds are cut off.
pub(crate) fn korean_minute(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    instant.to_zoned(TimeZone::fixed(KOREA)).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Parses RFC 3339, or a Korean local time `yyyy-MM-dd HH:mm[:ss[.f]]`.
pub(crate) fn parse_instant(text: &str) -> Option<Timestamp> {
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Some(at);
    }
    let local = match text.parse::<civil::DateTime>() {
        Ok(local) => local,
        Err(_) => civil::DateTime::strptime("%Y-%m-%d %H:%M", text).ok()?,
    };
    let zoned = local.to_zoned(TimeZone::fixed(KOREA)).ok()?;
    Some(Timestamp(zoned.timestamp().as_millisecond()))
}

/// A phone number as Korean providers take it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Dialled {
    /// Country code, `82`.
    pub country: String,
    /// National digits, with the leading 0 in Korea.
    pub national: String,
}

impl Dialled {
    /// `None` unless `address` is an E.164 phone number with a known country code.
    pub(crate) fn parse(address: &Private<Address>) -> Option<Self> {
        let Address::Phone(number) = &address.0 else { return None };
        let digits = number.strip_prefix('+')?;
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if let Some(rest) = digits.strip_prefix("82") {
            return Some(Self { country: "82".to_owned(), national: format!("0{rest}") });
        }
        let parsed = phonenumber::parse(None, number).ok()?;
        let country = parsed.code().value().to_string();
        let national = digits.strip_prefix(country.as_str())?.to_owned();
        Some(Self { country, national })
    }

    /// National form in Korea, country code and digits elsewhere.
    pub(crate) fn digits(&self) -> String {
        if self.country == "82" { self.national.clone() } else { format!("{}{}", self.country, self.national) }
    }
}

/// When a request was first tried, as far as it knows.
pub(crate) fn first_tried(request: &MessageRequest, now: Timestamp) -> Timestamp {
    request.prior.first_tried_at().unwrap_or(now)
}

/// The address is not one of this channel: this person cannot be reached here.
pub(crate) fn wrong_address() -> MessageOutcome {
    MessageOutcome::Refused { code: "address".to_owned(), class: RefusalClass::NextChannel }
}

/// Runs `work` within `deadline`; `None` when it was not done by then (it is dropped).
pub(crate) async fn within<T>(deadline: Millis, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(deadline.to_std(), work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialled(number: &str) -> Option<(String, String)> {
        Dialled::parse(&Private(Address::Phone(number.to_owned()))).map(|d| (d.country.clone(), d.digits()))
    }

    #[test]
    fn numbers_are_dialled_as_providers_want_them() {
        assert_eq!(dialled("+821012345678"), Some(("82".to_owned(), "01012345678".to_owned())));
        assert_eq!(dialled("+12025550123"), Some(("1".to_owned(), "12025550123".to_owned())));
        assert_eq!(dialled("01012345678"), None);
        assert!(Dialled::parse(&Private(Address::Email("a@b.c".to_owned()))).is_none());
    }

    #[test]
    fn korean_times_are_read_and_written() {
        let at = Timestamp::parse_rfc3339("2026-12-24T15:00:59Z").unwrap();
        assert_eq!(korean_minute(at), "2026-12-25 00:00");
        for text in ["2026-12-25 00:00", "2026-12-25 00:00:00", "2026-12-25 00:00:00.0", "2026-12-25T00:00:00+09:00"] {
            assert_eq!(parse_instant(text), Timestamp::parse_rfc3339("2026-12-24T15:00:00Z"), "{text}");
        }
        assert_eq!(parse_instant("soon"), None);
    }

    #[test]
    fn only_our_references_are_taken() {
        assert!(is_reference("g_00.1.1"));
        assert!(
            !is_reference("") && !is_reference("주문.1") && !is_reference("abc") && !is_reference(&"a.".repeat(60))
        );
    }
}
