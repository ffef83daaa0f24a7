//! Who is calling: bearer tokens (JWT, HS256) with a subject and one role.
//!
//! Only HS256 under the configured key is taken, so `alg: none`, another algorithm and a forged signature all end in
//! 401. Expiry is judged by real time, never by the dev clock: `jsonwebtoken` reads it itself.

use crate::api::problem::{Code, Problem};
use http::HeaderMap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest subject that a token may carry, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 128;
/// Longest bearer token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4 << 10;
/// Fewest bytes of a signing key: the output size of its hash (RFC 7518, 3.2).
pub const KEY_BYTES_MIN: usize = 32;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reserves gifts.
    User,
    /// Redeems vouchers.
    Merchant,
    /// Runs the service.
    Operator,
}

impl Role {
    /// As the `role` claim writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Merchant => "merchant",
            Self::Operator => "operator",
        }
    }

    /// The inverse of [`Role::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::User, Self::Merchant, Self::Operator].into_iter().find(|role| role.name() == name)
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub subject: String,
    pub role: Role,
}

impl Caller {
    /// The caller as idempotency scopes and limits know it: the same subject in two roles is two callers.
    #[must_use]
    pub fn scope(&self) -> String {
        format!("{}:{}", self.role.name(), self.subject)
    }

    /// # Errors
    /// [`Code::WrongRole`] unless the caller has `role`.
    pub fn must_be(&self, role: Role) -> Result<(), Problem> {
        if self.role == role {
            return Ok(());
        }
        Err(Problem::because(Code::WrongRole, format!("This call needs the role {}.", role.name())))
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    /// Seconds since 1970.
    exp: u64,
}

/// The key that signs and checks tokens. Never printed.
#[derive(Clone)]
pub struct TokenKey {
    signing: EncodingKey,
    checking: DecodingKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<token key>")
    }
}

/// A key or a token that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("the token key must have at least {KEY_BYTES_MIN} bytes")]
    KeyTooShort,
    #[error("the subject must be 1 to {SUBJECT_BYTES_MAX} visible characters")]
    Subject,
}

impl TokenKey {
    /// # Errors
    /// [`MintError::KeyTooShort`] under [`KEY_BYTES_MIN`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self, MintError> {
        if secret.len() < KEY_BYTES_MIN {
            return Err(MintError::KeyTooShort);
        }
        Ok(Self { signing: EncodingKey::from_secret(secret), checking: DecodingKey::from_secret(secret) })
    }

    /// Makes a token that is good for `life_secs` from now (real time).
    ///
    /// # Errors
    /// [`MintError::Subject`] for a subject that [`TokenKey::check`] would refuse.
    pub fn mint(&self, subject: &str, role: Role, life_secs: u64) -> Result<String, MintError> {
        if !subject_is_sound(subject) {
            return Err(MintError::Subject);
        }
        let exp = jsonwebtoken::get_current_timestamp().saturating_add(life_secs);
        let claims = Claims { sub: subject.to_owned(), role, exp };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing);
        Ok(token.expect("plain claims sign under a symmetric key"))
    }

    /// The caller behind a token.
    ///
    /// # Errors
    /// [`Code::TokenExpired`], or [`Code::Unauthenticated`] for any other fault, without saying which.
    pub fn check(&self, token: &str) -> Result<Caller, Problem> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_required_spec_claims(&["exp", "sub"]);
        rules.validate_nbf = true;
        rules.validate_aud = false;
        rules.leeway = 0;
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.checking, &rules);
        let claims = decoded.map_err(|error| token_problem(error.kind()))?.claims;
        if !subject_is_sound(&claims.sub) {
            return Err(Problem::new(Code::Unauthenticated));
        }
        Ok(Caller { subject: claims.sub, role: claims.role })
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// As [`TokenKey::check`]; [`Code::Unauthenticated`] without exactly one bearer token.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Problem::new(Code::Unauthenticated));
        };
        let token = value.to_str().ok().and_then(bearer).ok_or_else(|| Problem::new(Code::Unauthenticated))?;
        self.check(token)
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    let sound = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    sound.then_some(token)
}

fn subject_is_sound(subject: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && !subject.chars().any(char::is_control)
}

fn token_problem(kind: &ErrorKind) -> Problem {
    if matches!(kind, ErrorKind::ExpiredSignature) {
        return Problem::new(Code::TokenExpired);
    }
    Problem::new(Code::Unauthenticated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    use http::HeaderValue;

    fn key() -> TokenKey {
        TokenKey::new(&[1; 32]).unwrap()
    }

    fn signed(header: &Header, claims: serde_json::Value, secret: &[u8]) -> String {
        jsonwebtoken::encode(header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn a_minted_token_names_its_caller() {
        let token = key().mint("u-1", Role::Merchant, 60).unwrap();
        assert_eq!(key().check(&token).unwrap(), Caller { subject: "u-1".into(), role: Role::Merchant });
        assert_eq!(key().mint("", Role::User, 60), Err(MintError::Subject));
        assert_eq!(TokenKey::new(&[1; 31]).unwrap_err(), MintError::KeyTooShort);
    }

    #[test]
    fn forged_expired_unsigned_and_incomplete_tokens_are_refused() {
        let far = 4_000_000_000u64;
        let good = serde_json::json!({"sub": "u-1", "role": "operator", "exp": far});
        let hs256 = Header::new(Algorithm::HS256);
        let none = format!("{}.{}.", B64.encode(r#"{"alg":"none","typ":"JWT"}"#), B64.encode(good.to_string()));
        let none_signed = format!("{none}{}", B64.encode([0u8; 32]));
        let mut swapped = signed(&hs256, good.clone(), &[1; 32]);
        let payload = serde_json::json!({"sub": "u-2", "role": "operator", "exp": far});
        let parts: Vec<&str> = swapped.split('.').collect();
        swapped = format!("{}.{}.{}", parts[0], B64.encode(payload.to_string()), parts[2]);
        let refused = [
            (signed(&hs256, good.clone(), &[2; 32]), Code::Unauthenticated),
            (signed(&Header::new(Algorithm::HS512), good.clone(), &[1; 32]), Code::Unauthenticated),
            (none, Code::Unauthenticated),
            (none_signed, Code::Unauthenticated),
            (swapped, Code::Unauthenticated),
            (signed(&hs256, serde_json::json!({"sub": "u", "role": "user", "exp": 1}), &[1; 32]), Code::TokenExpired),
            (signed(&hs256, serde_json::json!({"sub": "u", "role": "user"}), &[1; 32]), Code::Unauthenticated),
            (
                signed(&hs256, serde_json::json!({"sub": "u", "role": "root", "exp": far}), &[1; 32]),
                Code::Unauthenticated,
            ),
            (signed(&hs256, serde_json::json!({"role": "user", "exp": far}), &[1; 32]), Code::Unauthenticated),
            ("x.y.z".to_owned(), Code::Unauthenticated),
        ];
        for (token, code) in refused {
            assert_eq!(key().check(&token).unwrap_err().code, code, "{token}");
        }
        assert!(key().check(&signed(&hs256, good, &[1; 32])).is_ok());
    }

    #[test]
    fn the_header_must_be_one_bearer_token() {
        let token = key().mint("u-1", Role::User, 60).unwrap();
        let mut headers = HeaderMap::new();
        assert!(key().caller(&headers).is_err());
        headers.insert("authorization", HeaderValue::from_str(&format!("bearer {token}")).unwrap());
        assert_eq!(key().caller(&headers).unwrap().subject, "u-1");
        headers.append("authorization", HeaderValue::from_static("Basic x"));
        assert!(key().caller(&headers).is_err());
    }
}
