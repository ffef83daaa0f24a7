//! Solapi's request signatures: `Authorization: HMAC-SHA256 apiKey=…, date=…, salt=…, signature=…`.
//!
//! Facts (github solapi/documents, authentication/api-key.md): the signature is the hexadecimal HMAC of `date ‖ salt`
//! under the API secret; a date more than 15 minutes off is refused; a signature works once within 15 minutes; every
//! refusal is HTTP 403.

use crate::sandbox::context::Context;
use crate::sandbox::settings::{SOLAPI_API_KEY, SOLAPI_API_SECRET, SOLAPI_SIGNATURE_WINDOW};
use crate::types::time::Timestamp;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use xxhash_rust::xxh3::xxh3_128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("유효한 API Key가 아닙니다.")]
    InvalidApiKey,
    #[error("생성한 Signature가 일치하지 않습니다.")]
    SignatureDoesNotMatch,
    #[error("시간 값이 서버 시간을 15분 이상 벗어났습니다.")]
    RequestTimeTooSkewed,
    #[error("15분 안에 동일한 signature 값이 사용되었습니다.")]
    DuplicatedSignature,
}

impl AuthError {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::InvalidApiKey => "InvalidAPIKey",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Self::RequestTimeTooSkewed => "RequestTimeTooSkewed",
            Self::DuplicatedSignature => "DuplicatedSignature",
        }
    }
}

struct Parts<'a> {
    api_key: &'a str,
    date: &'a str,
    salt: &'a str,
    signature: &'a str,
}

fn parse(header: &str) -> Option<Parts<'_>> {
    let fields = header.strip_prefix("HMAC-SHA256 ")?;
    let field = |name: &str| {
        let mut pairs = fields.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    Some(Parts {
        api_key: field("apiKey")?,
        date: field("date")?,
        salt: field("salt")?,
        signature: field("signature")?,
    })
}

/// Checks a request's signature and uses it up.
///
/// # Errors
/// [`AuthError`], each a 403.
pub(crate) fn verify(context: &Context, header: Option<&str>) -> Result<(), AuthError> {
    let now = context.clock.now();
    let digest = check(header, now)?;
    if context.signature_is_new(digest, now) { Ok(()) } else { Err(AuthError::DuplicatedSignature) }
}

/// Everything but the single use; returns the digest of the signature.
fn check(header: Option<&str>, now: Timestamp) -> Result<u128, AuthError> {
    let parts = header.and_then(parse).ok_or(AuthError::InvalidApiKey)?;
    if parts.api_key != SOLAPI_API_KEY {
        return Err(AuthError::InvalidApiKey);
    }
    let date = Timestamp::parse_rfc3339(parts.date).ok_or(AuthError::RequestTimeTooSkewed)?;
    if (now - date).0.unsigned_abs() > SOLAPI_SIGNATURE_WINDOW.0.unsigned_abs() {
        return Err(AuthError::RequestTimeTooSkewed);
    }
    let given = hex::decode(parts.signature).map_err(|_odd| AuthError::SignatureDoesNotMatch)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(SOLAPI_API_SECRET.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(parts.date.as_bytes());
    mac.update(parts.salt.as_bytes());
    mac.verify_slice(&given).map_err(|_wrong| AuthError::SignatureDoesNotMatch)?;
    if !(12..=64).contains(&parts.salt.len()) {
        return Err(AuthError::SignatureDoesNotMatch);
    }
    Ok(xxh3_128(&given))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-12-25T05:00:00Z";

    fn header(key: &str, secret: &str, date: &str, salt: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(date.as_bytes());
        mac.update(salt.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("HMAC-SHA256 apiKey={key}, date={date}, salt={salt}, signature={signature}")
    }

    fn checked(header: &str) -> Result<u128, AuthError> {
        check(Some(header), Timestamp::parse_rfc3339(NOW).unwrap())
    }

    #[test]
    fn signature_is_checked_as_documented() {
        let salt = "0123456789ab";
        assert!(checked(&header(SOLAPI_API_KEY, SOLAPI_API_SECRET, NOW, salt)).is_ok());
        assert!(checked(&header(SOLAPI_API_KEY, SOLAPI_API_SECRET, "2026-12-25T14:14:59+09:00", salt)).is_ok());
        let cases = [
            (header("other", SOLAPI_API_SECRET, NOW, salt), AuthError::InvalidApiKey),
            (header(SOLAPI_API_KEY, "other", NOW, salt), AuthError::SignatureDoesNotMatch),
            (header(SOLAPI_API_KEY, SOLAPI_API_SECRET, NOW, "short"), AuthError::SignatureDoesNotMatch),
            (header(SOLAPI_API_KEY, SOLAPI_API_SECRET, "2026-12-25T05:15:01Z", salt), AuthError::RequestTimeTooSkewed),
            (header(SOLAPI_API_KEY, SOLAPI_API_SECRET, "2026-12-25T04:44:59Z", salt), AuthError::RequestTimeTooSkewed),
            ("Bearer x".to_owned(), AuthError::InvalidApiKey),
        ];
        for (header, error) in cases {
            assert_eq!(checked(&header).unwrap_err(), error, "{header}");
        }
    }
}
