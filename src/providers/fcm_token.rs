//! FCM's bearer token: a service account's signed assertion (RS256) is traded for an access token, which is kept
//! until shortly before it expires.
//!
//! Each node renews at an instant of its own (5 minutes and up to a minute of jitter before the end), so that a fleet
//! does not renew as one. One renewal runs at a time; the others wait for it within their own deadline.

use super::http::{HttpClient, HttpFailure};
use super::settings::{FcmAuth, FillRandom, SettingsError};
use crate::types::contact::Private;
use crate::types::time::{Clock, Millis, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::Mutex;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Longest life of an assertion that Google takes.
const ASSERTION_LIFE: Millis = Millis::from_mins(60);
/// A token is renewed this long before it expires, and earlier by the jitter.
const RENEW_BEFORE: Millis = Millis::from_mins(5);
const RENEW_JITTER_MAX_MS: u64 = 60_000;

/// A bearer token as it was used for a call.
#[derive(Clone)]
pub(crate) struct Bearer {
    text: Private<String>,
    renew_at: Timestamp,
}

impl Bearer {
    pub(crate) fn text(&self) -> &Private<String> {
        &self.text
    }
}

pub(crate) struct TokenSource {
    clock: Arc<dyn Clock>,
    kind: Kind,
}

enum Kind {
    Static(Bearer),
    Account(Box<Account>),
}

struct Account {
    http: HttpClient,
    random: FillRandom,
    client_email: String,
    token_url: String,
    key: EncodingKey,
    current: Mutex<Option<Bearer>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    /// Seconds.
    expires_in: i64,
}

impl TokenSource {
    /// # Errors
    /// [`SettingsError`]: an unresolved secret, a key that is not RSA in PEM, or a bad token URL.
    pub(crate) fn new(auth: &FcmAuth, clock: Arc<dyn Clock>, random: FillRandom) -> Result<Self, SettingsError> {
        let kind = match auth {
            FcmAuth::Static(token) => {
                Kind::Static(Bearer { text: token.get("fcm.auth.static")?, renew_at: Timestamp::MAX })
            }
            FcmAuth::ServiceAccount { client_email, private_key, token_url } => {
                let pem = private_key.get("fcm.auth.service_account.private_key")?;
                let key = EncodingKey::from_rsa_pem(pem.0.as_bytes()).map_err(|_| SettingsError::Invalid {
                    field: "fcm.auth.service_account.private_key",
                    cause: "not an RSA key in PEM".to_owned(),
                })?;
                Kind::Account(Box::new(Account {
                    http: HttpClient::new(token_url)?,
                    random,
                    client_email: client_email.clone(),
                    token_url: token_url.clone(),
                    key,
                    current: Mutex::new(None),
                }))
            }
        };
        Ok(Self { clock, kind })
    }

    /// A token that is good for some minutes.
    ///
    /// # Errors
    /// The code of a refusal: there is no token, so nothing was sent.
    pub(crate) async fn bearer(&self, deadline: Millis) -> Result<Bearer, String> {
        let account = match &self.kind {
            Kind::Static(bearer) => return Ok(bearer.clone()),
            Kind::Account(account) => account,
        };
        let mut current = account.current.lock().await;
        if let Some(bearer) = current.as_ref().filter(|bearer| self.clock.now() < bearer.renew_at) {
            return Ok(bearer.clone());
        }
        let renewed = account.renew(self.clock.now(), deadline).await?;
        *current = Some(renewed.clone());
        Ok(renewed)
    }

    /// FCM does not take this token any more. Another one that came meanwhile is kept.
    pub(crate) async fn forget(&self, used: &Bearer) {
        match &self.kind {
            Kind::Static(_) => {}
            Kind::Account(account) => {
                let mut current = account.current.lock().await;
                if current.as_ref().is_some_and(|current| current.text == used.text) {
                    *current = None;
                }
            }
        }
    }
}

impl Account {
    async fn renew(&self, now: Timestamp, deadline: Millis) -> Result<Bearer, String> {
        let claims = Claims {
            iss: &self.client_email,
            scope: SCOPE,
            aud: &self.token_url,
            iat: now.0.div_euclid(1_000),
            exp: (now + ASSERTION_LIFE).0.div_euclid(1_000),
        };
        let assertion = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key)
            .map_err(|_| "oauth:assertion".to_owned())?;
        let form = [("grant_type", GRANT), ("assertion", assertion.as_str())];
        let request = self.http.request(reqwest::Method::POST, self.http.url(&[])).form(&form);
        let reply = self.http.call(request, deadline, now).await.map_err(|failure| match failure {
            HttpFailure::NotConnected { .. } => "oauth:not_connected".to_owned(),
            HttpFailure::NoReply { .. } => "oauth:no_reply".to_owned(),
        })?;
        let token: TokenReply = reply
            .json()
            .filter(|_| reply.is_success())
            .ok_or_else(|| reply.code(&format!("oauth:http_{}", reply.status)))?;
        let mut jitter = [0u8; 8];
        (self.random)(&mut jitter);
        let jitter = u64::from_le_bytes(jitter) % RENEW_JITTER_MAX_MS;
        let jitter = Millis(i64::try_from(jitter).expect("below a minute"));
        let renew_at = now + Millis::from_secs(token.expires_in) - RENEW_BEFORE - jitter;
        Ok(Bearer { text: Private(token.access_token), renew_at })
    }
}
