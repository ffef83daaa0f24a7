//! What handlers take from a request: the caller by role, a strict JSON body, an entity tag.

use crate::api::auth::{Caller, Role};
use crate::api::json::{self, Faults};
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::types::ids::Version;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Authenticates, and takes one token of the caller's rate.
fn authenticate(parts: &Parts, app: &App) -> Result<Caller, Problem> {
    let caller = app.token_key.caller(&parts.headers)?;
    match app.callers.take(&caller.scope(), app.clock.boot()) {
        Ok(()) => Ok(caller),
        Err(seconds) => Err(Problem::new(Code::RateLimited).retry_after(seconds)),
    }
}

macro_rules! by_role {
    ($($(#[$doc:meta])* $name:ident $role:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Caller);

        impl FromRequestParts<App> for $name {
            type Rejection = Problem;
            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
                let caller = authenticate(parts, app)?;
                caller.must_be(Role::$role)?;
                Ok(Self(caller))
            }
        }

        impl From<$name> for Caller {
            fn from(role: $name) -> Self {
                role.0
            }
        }
    )+};
}

by_role! {
    /// A caller with the role `user`.
    User User;
    /// A caller with the role `merchant`.
    Merchant Merchant;
    /// A caller with the role `operator`.
    Operator Operator;
}

/// A caller of any role.
#[derive(Clone, Debug)]
pub struct Anyone(pub Caller);

impl FromRequestParts<App> for Anyone {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        authenticate(parts, app).map(Self)
    }
}

/// What the path's parameters are, decoded: one text, or a tuple of them. What is not UTF-8 names nothing.
#[derive(Clone, Debug)]
pub struct Segment<T = String>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Segment<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(named)| Self(named)).map_err(|_| Problem::new(Code::NotFound))
    }
}

/// A body that says it is JSON, as bytes. `limits.rs` has read and bounded it already.
#[derive(Clone, Debug)]
pub struct JsonBody(pub Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;
    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let sound = request.headers().get(header::CONTENT_TYPE).map(is_json);
        // Nothing is decompressed, so that no body is larger than it looks.
        let plain = request.headers().get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        let RawBody(bytes) = RawBody::from_request(request, app).await?;
        match sound {
            _ if !plain => Err(Problem::because(Code::UnsupportedMediaType, "Bodies are taken without an encoding.")),
            Some(true) => Ok(Self(bytes)),
            None if bytes.is_empty() => Ok(Self(bytes)),
            Some(false) | None => Err(Problem::new(Code::UnsupportedMediaType)),
        }
    }
}

/// A body of any type, as bytes. `limits.rs` has read and bounded it already.
#[derive(Clone, Debug)]
pub struct RawBody(pub Bytes);

impl FromRequest<App> for RawBody {
    type Rejection = Problem;
    async fn from_request(request: Request, _app: &App) -> Result<Self, Problem> {
        let bytes = to_bytes(request.into_body(), usize::MAX).await;
        bytes.map(Self).map_err(|_| Problem::because(Code::BadRequest, "The body broke off."))
    }
}

impl JsonBody {
    /// The body as a value; duplicate members are noted.
    ///
    /// # Errors
    /// [`Code::MalformedJson`].
    pub fn value(&self, faults: &Faults) -> Result<Value, Problem> {
        json::parse(&self.0, faults)
    }
}

/// `application/json`, or a type that is built on it, in UTF-8.
pub fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or("").to_ascii_lowercase();
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    });
    let json = essence == "application/json" || essence == "application/merge-patch+json";
    json && utf8
}

/// What `If-Match` allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever is there.
    Any,
    /// One of these. Tags that are not ours (weak, or of another form) are left out and so never match.
    Versions(Vec<Version>),
}

impl IfMatch {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Code::PreconditionRequired`] without it, [`Code::PreconditionInvalid`] when it is no list of entity tags.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut versions = Vec::new();
        let mut given = false;
        for value in headers.get_all(header::IF_MATCH) {
            given = true;
            let text = value.to_str().map_err(|_| Problem::new(Code::PreconditionInvalid))?;
            if text.trim() == "*" {
                return Ok(Self::Any);
            }
            for tag in text.split(',').map(str::trim) {
                versions.extend(read_tag(tag)?);
            }
        }
        if given { Ok(Self::Versions(versions)) } else { Err(Problem::new(Code::PreconditionRequired)) }
    }

    /// Reads the header of a call that does without it; `None` when it was not sent.
    ///
    /// # Errors
    /// [`Code::PreconditionInvalid`].
    pub fn if_sent(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        if headers.contains_key(header::IF_MATCH) { Self::from_headers(headers).map(Some) } else { Ok(None) }
    }

    /// Whether the resource at `version` is meant.
    #[must_use]
    pub fn allows(&self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }
}

/// Holds a PUT to the preconditions that it was sent with (RFC 9110, 13.2.2); `now` is what is there. The version that the
/// command must still meet, if any: `If-Match: *` lets it move.
///
/// # Errors
/// [`Code::VersionMismatch`]: one does not hold. [`Code::PreconditionInvalid`].
pub fn hold_preconditions(headers: &HeaderMap, now: Option<Version>) -> Result<Option<Version>, Problem> {
    let if_match = IfMatch::if_sent(headers)?;
    // Only `*` is of use to a PUT: make it, never change it.
    let only_new = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| value == "*");
    match now {
        Some(version) if only_new || if_match.as_ref().is_some_and(|if_match| !if_match.allows(version)) => {
            Err(Problem::because(Code::VersionMismatch, format!("The current version is {version}.")))
        }
        None if if_match.is_some() => Err(Problem::because(Code::VersionMismatch, "There is nothing here yet.")),
        Some(version) => Ok(matches!(if_match, Some(IfMatch::Versions(_))).then_some(version)),
        None => Ok(only_new.then_some(Version(0))),
    }
}

fn read_tag(tag: &str) -> Result<Option<Version>, Problem> {
    let (weak, opaque) = match tag.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, tag),
    };
    let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.ok_or_else(|| Problem::new(Code::PreconditionInvalid))?;
    if weak || inner.is_empty() || !inner.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    Ok(inner.parse().ok().map(Version))
}

/// The entity tag of a version.
#[must_use]
pub fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(value: &str) -> Result<IfMatch, Code> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
        IfMatch::from_headers(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn if_match_reads_lists_and_never_matches_strange_tags() {
        assert_eq!(if_match("*"), Ok(IfMatch::Any));
        assert_eq!(if_match("\"4\""), Ok(IfMatch::Versions(vec![Version(4)])));
        assert_eq!(if_match("\"4\", \"5\""), Ok(IfMatch::Versions(vec![Version(4), Version(5)])));
        assert_eq!(if_match("W/\"4\", \"abc\", \"\""), Ok(IfMatch::Versions(vec![])));
        assert_eq!(if_match("4"), Err(Code::PreconditionInvalid));
        assert_eq!(IfMatch::from_headers(&HeaderMap::new()).unwrap_err().code, Code::PreconditionRequired);
        assert_eq!(etag(Version(4)), "\"4\"");
    }

    #[test]
    fn a_put_is_held_to_what_it_was_sent_with() {
        let held = |name, value: &'static str, now: Option<u64>| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            hold_preconditions(&headers, now.map(Version)).map_err(|problem| problem.code)
        };
        assert_eq!(hold_preconditions(&HeaderMap::new(), Some(Version(3))).unwrap(), None);
        assert_eq!(held(header::IF_MATCH, "\"3\"", Some(3)), Ok(Some(Version(3))));
        assert_eq!(held(header::IF_MATCH, "*", Some(3)), Ok(None), "any version, the next one too");
        for (value, now) in [("\"2\"", Some(3)), ("\"2\"", None), ("*", None)] {
            assert_eq!(held(header::IF_MATCH, value, now), Err(Code::VersionMismatch), "{value}");
        }
        assert_eq!(held(header::IF_NONE_MATCH, "*", None), Ok(Some(Version(0))));
        assert_eq!(held(header::IF_NONE_MATCH, "*", Some(3)), Err(Code::VersionMismatch));
    }

    #[test]
    fn json_is_known_by_its_type_and_charset() {
        let json = |text: &'static str| is_json(&HeaderValue::from_static(text));
        assert!(json("application/json") && json("Application/JSON; charset=UTF-8"));
        assert!(json("application/merge-patch+json"));
        assert!(!json("text/plain") && !json("application/json; charset=euc-kr"));
        assert!(!json("application/x-www-form-urlencoded"));
    }
}
