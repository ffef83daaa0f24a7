//! What an outcome says about its provider's health. The codes are the providers' own; only a few words in them matter.
//!
//! | outcome | health |
//! |---|---|
//! | accepted, or refused for good (`NextChannel`, `Permanent`; a payment declined) | good |
//! | refused for now, code names 429, a rate, a quota or throttling | throttled |
//! | refused for now, code names the connection; not sent by the provider | unreachable |
//! | refused for now otherwise; unknown | overloaded |

use crate::gateways::policy::Health;
use crate::gateways::policy::concurrency::Micros;
use crate::types::call::{MessageOutcome, PaymentOutcome, RefusalClass, ShipmentOutcome};
use crate::types::time::Millis;

/// Stands between a refusal's code and the seconds of its reply's `Retry-After`, as `providers::http` writes it.
const RETRY_AFTER_MARK: &str = ";retry-after=";

/// A refusal's code and the `Retry-After` that came with it. Entities get the bare code.
#[must_use]
pub fn split_code(code: &str) -> (&str, Option<Millis>) {
    match code.rsplit_once(RETRY_AFTER_MARK) {
        Some((bare, seconds)) => (bare, seconds.parse().ok().map(|seconds: u32| Millis::from_secs(seconds.into()))),
        None => (code, None),
    }
}

/// Health behind a message's outcome, as the provider gave it (before the gateway translates it).
#[must_use]
pub fn of_message(outcome: &MessageOutcome, latency: Micros) -> Health {
    match outcome {
        MessageOutcome::Accepted { .. } | MessageOutcome::Unconfirmed { .. } => good(latency),
        MessageOutcome::Refused { code, class } => of_refusal(code, *class, latency),
        MessageOutcome::Unknown { .. } => Health::Overloaded,
        MessageOutcome::NotSent { .. } => Health::Unreachable,
    }
}

/// Health behind a payment's outcome.
#[must_use]
pub fn of_payment(outcome: &PaymentOutcome, latency: Micros) -> Health {
    match outcome {
        PaymentOutcome::Captured { .. }
        | PaymentOutcome::NotCaptured { .. }
        | PaymentOutcome::Pending
        | PaymentOutcome::Refunded { .. } => good(latency),
        PaymentOutcome::RefundRefused { code, class } => of_refusal(code, *class, latency),
        PaymentOutcome::Unknown { .. } => Health::Overloaded,
        PaymentOutcome::NotSent { .. } => Health::Unreachable,
    }
}

/// Health behind a shipment's outcome.
#[must_use]
pub fn of_shipment(outcome: &ShipmentOutcome, latency: Micros) -> Health {
    match outcome {
        ShipmentOutcome::Prepared { .. } | ShipmentOutcome::Cancelled { .. } | ShipmentOutcome::Absent => good(latency),
        ShipmentOutcome::Refused { code, class } => of_refusal(code, *class, latency),
        ShipmentOutcome::Unknown { .. } => Health::Overloaded,
        ShipmentOutcome::NotSent { .. } => Health::Unreachable,
    }
}

fn good(latency: Micros) -> Health {
    Health::Good { latency: Some(latency) }
}

fn of_refusal(code: &str, class: RefusalClass, latency: Micros) -> Health {
    match class {
        RefusalClass::NextChannel | RefusalClass::Permanent => good(latency),
        RefusalClass::Retry => of_retry(code),
    }
}

fn of_retry(code: &str) -> Health {
    const THROTTLED: [&str; 5] = ["429", "rate", "quota", "exhausted", "throttl"];
    const UNREACHABLE: [&str; 5] = ["connect", "unreachable", "dns", "resolve", "tls"];
    let (code, retry_after) = split_code(code);
    let code = code.to_ascii_lowercase();
    let names = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if retry_after.is_some() || names(&THROTTLED) {
        Health::Throttled { retry_after }
    } else if names(&UNREACHABLE) {
        Health::Unreachable
    } else {
        Health::Overloaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::money::Money;
    use crate::types::time::Timestamp;

    fn refused(code: &str, class: RefusalClass) -> MessageOutcome {
        MessageOutcome::Refused { code: code.to_owned(), class }
    }

    #[test]
    fn an_answer_is_good_whatever_it_says() {
        let good = Health::Good { latency: Some(Micros(9)) };
        let accepted = MessageOutcome::Accepted { provider: "p".to_owned(), receipt: "r".to_owned(), at: Timestamp(0) };
        assert_eq!(of_message(&accepted, Micros(9)), good);
        assert_eq!(of_message(&refused("3019", RefusalClass::NextChannel), Micros(9)), good);
        assert_eq!(of_message(&refused("connect", RefusalClass::Permanent), Micros(9)), good);
        assert_eq!(of_payment(&PaymentOutcome::NotCaptured { code: "REJECT".to_owned() }, Micros(9)), good);
        assert_eq!(of_payment(&PaymentOutcome::Refunded { amount: Money::krw(1), at: Timestamp(0) }, Micros(9)), good);
    }

    #[test]
    fn a_refusal_for_now_is_told_apart_by_its_code() {
        let health = |code| of_message(&refused(code, RefusalClass::Retry), Micros(9));
        assert_eq!(health("http_429"), Health::Throttled { retry_after: None });
        assert_eq!(health("RESOURCE_EXHAUSTED"), Health::Throttled { retry_after: None });
        assert_eq!(health("not_connected"), Health::Unreachable);
        assert_eq!(health("http_503"), Health::Overloaded);
        assert_eq!(health("http_503;retry-after=3"), Health::Throttled { retry_after: Some(Millis(3_000)) });
    }

    #[test]
    fn the_retry_after_is_split_from_the_code() {
        assert_eq!(split_code("429;retry-after=30"), ("429", Some(Millis(30_000))));
        assert_eq!(split_code("429;retry-after=soon"), ("429", None));
        assert_eq!(split_code("-1005"), ("-1005", None));
    }

    #[test]
    fn silence_is_an_overload() {
        let unknown = MessageOutcome::Unknown { cause: "timeout".to_owned() };
        assert_eq!(of_message(&unknown, Micros(9)), Health::Overloaded);
        assert_eq!(of_payment(&PaymentOutcome::Unknown { cause: "x".to_owned() }, Micros(9)), Health::Overloaded);
        let not_sent = PaymentOutcome::NotSent { cause: "refused".to_owned() };
        assert_eq!(of_payment(&not_sent, Micros(9)), Health::Unreachable);
    }
}
