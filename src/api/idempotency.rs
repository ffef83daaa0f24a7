//! The `Idempotency-Key` header and what is derived from it.
//!
//! A key is honoured within (caller, method, path). From it come the id of the entity that a creating call makes,
//! so that a retry reaches the same shard, and the id of the row that answers a repeat.

use crate::api::auth::Caller;
use crate::api::extract::IfMatch;
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::types::ids::{EntityKey, EntityKind, Fingerprint, IdempotencyId};
use crate::types::limits::IDEMPOTENCY_KEY_CHARS_MAX;
use axum::extract::{FromRequestParts, OriginalUri};
use hmac::{Hmac, Mac};
use http::HeaderMap;
use http::request::Parts;
use sha2::{Digest, Sha256};

/// Name of the header.
pub const HEADER: &str = "idempotency-key";
/// Set on a reply that was given before.
pub const REPLAYED: &str = "idempotent-replayed";

/// A checked key: 1 to 255 visible characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Reads the header, bare or as a quoted string (the structured-field form of the IETF draft).
    ///
    /// # Errors
    /// [`Code::IdempotencyKeyRequired`] without one, [`Code::IdempotencyKeyInvalid`] when it is given twice, has
    /// control or non-ASCII characters, or is not 1 to 255 characters long.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let value = values.next().ok_or_else(|| Problem::new(Code::IdempotencyKeyRequired))?;
        if values.next().is_some() {
            return Err(Problem::because(Code::IdempotencyKeyInvalid, "Idempotency-Key is given twice."));
        }
        let text = value.to_str().ok().and_then(unquote);
        match text {
            Some(text) if (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len()) => Ok(Self(text)),
            Some(_) | None => Err(Problem::because(
                Code::IdempotencyKeyInvalid,
                "Idempotency-Key must be 1 to 255 visible ASCII characters, bare or quoted.",
            )),
        }
    }

    /// The key itself.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// A key made by the call itself, such as a point-of-sale transaction.
    #[must_use]
    pub fn made_of(parts: &[&str]) -> Self {
        Self(parts.join("\0"))
    }
}

/// `abc` and `"abc"` are the same key; inside quotes only `\"` and `\\` are escapes.
fn unquote(text: &str) -> Option<String> {
    let text = text.trim();
    if text.bytes().any(|b| !(0x20..0x7f).contains(&b)) {
        return None;
    }
    let Some(rest) = text.strip_prefix('"') else {
        return Some(text.to_owned());
    };
    let inner = rest.strip_suffix('"')?;
    let mut key = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                escaped @ ('"' | '\\') => key.push(escaped),
                _ => return None,
            },
            '"' => return None,
            plain => key.push(plain),
        }
    }
    Some(key)
}

/// What one request under a key is known by.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    pub caller: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub key: &'a Key,
}

/// The idempotency of one request: its row's id and the digest of its body.
pub type Mark = (IdempotencyId, Fingerprint);

/// A POST under an idempotency key.
#[derive(Clone, Debug)]
pub struct Posted {
    path: String,
    key: Key,
    /// The versions of what it is asked of, if it was sent with any.
    pub if_match: Option<IfMatch>,
}

impl FromRequestParts<App> for Posted {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = Key::from_headers(&parts.headers)?;
        let if_match = IfMatch::if_sent(&parts.headers)?;
        let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(parts, app).await;
        Ok(Self { path: uri.path().to_owned(), key, if_match })
    }
}

impl Posted {
    /// What it is known by when `caller` sends it.
    #[must_use]
    pub fn scope<'a>(&'a self, caller: &'a str) -> Scope<'a> {
        Scope { caller, method: "POST", path: &self.path, key: &self.key }
    }

    /// The mark of a request with this body.
    #[must_use]
    pub fn mark(&self, caller: &Caller, secret: &[u8; 32], canonical: &[u8]) -> Mark {
        self.scope(&caller.scope()).mark(secret, canonical)
    }

    /// The entity that a creating call makes.
    #[must_use]
    pub fn entity(&self, caller: &Caller, secret: &[u8; 32], kind: EntityKind) -> EntityKey {
        self.scope(&caller.scope()).entity(secret, kind)
    }
}

impl Scope<'_> {
    /// The mark of a request with this body, in its canonical form.
    #[must_use]
    pub fn mark(&self, secret: &[u8; 32], canonical: &[u8]) -> Mark {
        (self.id(secret), fingerprint(canonical))
    }

    /// The id of the entity that a creating call makes.
    #[must_use]
    pub fn entity(&self, secret: &[u8; 32], kind: EntityKind) -> EntityKey {
        EntityKey { kind, id: self.digest(secret, b"id\0") }
    }

    /// The id of the row that answers a repeat.
    #[must_use]
    pub fn id(&self, secret: &[u8; 32]) -> IdempotencyId {
        IdempotencyId(self.digest(secret, b"idem\0"))
    }

    fn digest(&self, secret: &[u8; 32], purpose: &[u8]) -> [u8; 16] {
        let parts: [&[u8]; 7] = [
            self.caller.as_bytes(),
            b"\0",
            self.method.as_bytes(),
            b"\0",
            self.path.as_bytes(),
            b"\0",
            self.key.0.as_bytes(),
        ];
        keyed_digest(secret, purpose, &parts)
    }
}

/// HMAC-SHA256 of `purpose` and `parts` under the cluster secret, cut to 16 bytes.
#[must_use]
pub fn keyed_digest(secret: &[u8; 32], purpose: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(purpose);
    for part in parts {
        mac.update(part);
    }
    first_16(&mac.finalize().into_bytes())
}

/// Fingerprint of a request body in its canonical form.
#[must_use]
pub fn fingerprint(canonical: &[u8]) -> Fingerprint {
    Fingerprint(first_16(&Sha256::digest(canonical)))
}

fn first_16(bytes: &[u8]) -> [u8; 16] {
    bytes[..16].try_into().expect("a SHA-256 digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn key(value: &str) -> Result<Key, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        Key::from_headers(&headers)
    }

    #[test]
    fn bare_and_quoted_forms_are_the_same_key() {
        assert_eq!(key("abc").unwrap(), key("\"abc\"").unwrap());
        assert_eq!(key(r#""a\"b""#).unwrap(), Key("a\"b".to_owned()));
        assert_eq!(key(&"k".repeat(255)).unwrap().0.len(), 255);
    }

    #[test]
    fn unusable_keys_are_refused() {
        for bad in ["", "\"\"", "\"abc", &"k".repeat(256), "a\tb", "키", r#""a"b""#, r#""a\n""#] {
            assert_eq!(key(bad).unwrap_err().code, Code::IdempotencyKeyInvalid, "{bad:?}");
        }
        assert_eq!(Key::from_headers(&HeaderMap::new()).unwrap_err().code, Code::IdempotencyKeyRequired);
        let mut twice = HeaderMap::new();
        twice.append(HEADER, HeaderValue::from_static("a"));
        twice.append(HEADER, HeaderValue::from_static("b"));
        assert_eq!(Key::from_headers(&twice).unwrap_err().code, Code::IdempotencyKeyInvalid);
    }

    #[test]
    fn scopes_do_not_leak_into_each_other() {
        let (secret, key) = ([7u8; 32], Key("k".to_owned()));
        let base = Scope { caller: "u-1", method: "POST", path: "/v1/gifts", key: &key };
        assert_eq!(base.id(&secret), base.clone().id(&secret));
        assert_ne!(base.id(&secret), Scope { caller: "u-2", ..base.clone() }.id(&secret));
        assert_ne!(base.id(&secret), Scope { path: "/v1/gifts/x/cancel", ..base.clone() }.id(&secret));
        assert_ne!(base.id(&secret).0, base.entity(&secret, EntityKind(1)).id);
        assert_ne!(base.id(&secret), base.id(&[8u8; 32]));
    }
}
