//! Firebase Cloud Messaging, HTTP v1 (firebase.google.com/docs/cloud-messaging).
//!
//! FCM has neither an idempotency key nor a lookup. The notification's Android tag and collapse key and its
//! `apns-collapse-id` are our reference, so a push that an operator sends again replaces the first on the screen.
//! An unknown outcome is final; only replies that say "not done" are refusals.

use super::fcm_token::{Bearer, TokenSource};
use super::http::{HttpClient, HttpReply};
use super::settings::{FcmConfig, FillRandom, SettingsError};
use super::templates::Texts;
use super::wire;
use super::{Ability, LookupAnswer, MessageProvider, PollFailure, Span, WebhookError, WebhookHeaders};
use crate::types::call::{Address, MessageOutcome, MessageRequest, RefusalClass, Report};
use crate::types::effect::Channel;
use crate::types::time::{Clock, Millis};
use futures_util::future::{BoxFuture, join_all};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// `apns-collapse-id` takes 64 bytes.
const COLLAPSE_ID_BYTES_MAX: usize = 64;

/// The client. Cheap to call concurrently.
pub struct Fcm {
    http: HttpClient,
    clock: Arc<dyn Clock>,
    texts: Texts,
    project: String,
    tokens: TokenSource,
}

#[derive(Deserialize)]
struct SendReply {
    name: String,
}

#[derive(Deserialize)]
struct ErrorReply {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<ErrorDetail>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    #[serde(rename = "errorCode")]
    error_code: Option<String>,
}

impl Fcm {
    /// # Errors
    /// [`SettingsError`]
    pub(crate) fn new(
        config: &FcmConfig,
        texts: Texts,
        clock: Arc<dyn Clock>,
        random: FillRandom,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            http: HttpClient::new(&config.base_url)?,
            tokens: TokenSource::new(&config.auth, Arc::clone(&clock), random)?,
            clock,
            texts,
            project: config.project.clone(),
        })
    }

    fn body(&self, request: &MessageRequest) -> Result<Value, MessageOutcome> {
        let Address::Push(target) = &request.to.0 else { return Err(wire::wrong_address()) };
        let rendered = self
            .texts
            .render(request)
            .map_err(|missing| MessageOutcome::Refused { code: missing.code(), class: RefusalClass::Permanent })?;
        let collapse = collapse_id(&request.reference);
        let mut data = json!({
            "reference": request.reference,
            "purpose": request.purpose.name(),
            "template": request.template.name(),
        });
        if let Some(link) = &request.link {
            data["link"] = json!(link.0);
        }
        let mut message = json!({
            "notification": { "title": rendered.subject, "body": rendered.text },
            "data": data,
            "android": { "collapse_key": collapse, "notification": { "tag": collapse } },
            "apns": { "headers": { "apns-collapse-id": collapse } },
        });
        match target.strip_prefix("/topics/") {
            Some(topic) => message["topic"] = json!(topic),
            None => message["token"] = json!(target),
        }
        Ok(json!({ "message": message }))
    }

    /// `posting` is set once the call that can be unknown has begun.
    async fn post(&self, body: &Value, deadline: Millis, posting: &mut bool) -> MessageOutcome {
        let bearer = match self.tokens.bearer(deadline).await {
            Ok(bearer) => bearer,
            // Nothing was sent to FCM yet.
            Err(code) => return MessageOutcome::Refused { code, class: RefusalClass::Retry },
        };
        let url = self.http.url(&["v1", "projects", &self.project, "messages:send"]);
        let request = self.http.request(reqwest::Method::POST, url).bearer_auth(&bearer.text().0).json(body);
        *posting = true;
        match self.http.call(request, deadline, self.clock.now()).await {
            Ok(reply) => self.outcome(&reply, &bearer).await,
            Err(failure) => failure.message_outcome(),
        }
    }

    async fn outcome(&self, reply: &HttpReply, bearer: &Bearer) -> MessageOutcome {
        if reply.is_success() {
            return match reply.json::<SendReply>() {
                Some(sent) => MessageOutcome::Accepted {
                    provider: self.name().to_owned(),
                    receipt: sent.name,
                    at: self.clock.now(),
                },
                None => MessageOutcome::Unknown { cause: "reply without a name".to_owned() },
            };
        }
        if reply.status == 401 {
            self.tokens.forget(bearer).await;
        }
        refusal(reply)
    }

    async fn send_one(&self, request: &MessageRequest, deadline: Millis) -> MessageOutcome {
        let body = match self.body(request) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        // Token and push each have the deadline; together they may not take longer.
        let mut posting = false;
        match wire::within(deadline, self.post(&body, deadline, &mut posting)).await {
            Some(outcome) => outcome,
            None if posting => MessageOutcome::Unknown { cause: "deadline".to_owned() },
            None => MessageOutcome::Refused { code: "oauth:deadline".to_owned(), class: RefusalClass::Retry },
        }
    }
}

/// | code | status | meaning |
/// |---|---|---|
/// | UNREGISTERED, SENDER_ID_MISMATCH | 404, 403 | this person's token is dead or not ours: next channel |
/// | QUOTA_EXCEEDED, RESOURCE_EXHAUSTED | 429 | over the quota: again after `Retry-After` |
/// | UNAVAILABLE with `Retry-After` | 503 | overloaded, asks for a repeat: again after that span |
/// | an empty 503 with `Retry-After` | 503 | nobody looked at it: again after that span |
/// | UNAUTHENTICATED | 401 | our token expired: again with a new one |
/// | INVALID_ARGUMENT, THIRD_PARTY_AUTH_ERROR, PERMISSION_DENIED, other 4xx | 4xx | no try can succeed |
/// | INTERNAL, UNAVAILABLE without `Retry-After`, any other 5xx | 5xx | may have been done |
fn refusal(reply: &HttpReply) -> MessageOutcome {
    let error = reply.json::<ErrorReply>().map(|reply| reply.error);
    let code = error.as_ref().and_then(|error| {
        let detail = error.details.iter().find_map(|detail| detail.error_code.clone());
        detail.or_else(|| Some(error.status.clone()).filter(|status| !status.is_empty()))
    });
    let code = code.unwrap_or_else(|| format!("http_{}", reply.status));
    let class = match code.as_str() {
        "UNREGISTERED" | "SENDER_ID_MISMATCH" => RefusalClass::NextChannel,
        "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED" | "UNAUTHENTICATED" => RefusalClass::Retry,
        "UNAVAILABLE" if reply.retry_after.is_some() => RefusalClass::Retry,
        _ if reply.is_turned_away() => RefusalClass::Retry,
        _ if reply.status >= 500 => return MessageOutcome::Unknown { cause: format!("{code}, http {}", reply.status) },
        _ => RefusalClass::Permanent,
    };
    MessageOutcome::Refused { code: reply.code(&code), class }
}

/// The reference, or its digest when it is longer than Apple takes.
fn collapse_id(reference: &str) -> String {
    if reference.len() <= COLLAPSE_ID_BYTES_MAX {
        return reference.to_owned();
    }
    hex::encode(&Sha256::digest(reference.as_bytes())[..16])
}

impl MessageProvider for Fcm {
    fn name(&self) -> &'static str {
        "fcm"
    }
    fn channel(&self) -> Channel {
        Channel::Push
    }
    /// Neither key nor lookup: an unknown outcome is final. HTTP v1 takes one message a call.
    fn ability(&self) -> Ability {
        Ability { key_window: None, lookup: false, batch_max: 1 }
    }
    fn send<'a>(&'a self, batch: &'a [MessageRequest], deadline: Millis) -> BoxFuture<'a, Vec<MessageOutcome>> {
        Box::pin(join_all(batch.iter().map(move |request| self.send_one(request, deadline))))
    }
    fn lookup<'a>(&'a self, _request: &'a MessageRequest, _deadline: Millis) -> BoxFuture<'a, LookupAnswer> {
        Box::pin(async { LookupAnswer::Unknown { cause: "FCM has no lookup".to_owned() } })
    }
    fn poll(&self, _span: Span, _deadline: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn webhook(&self, _headers: &WebhookHeaders, _body: &[u8]) -> Result<Vec<Report>, WebhookError> {
        Err(WebhookError::Malformed { what: "FCM has no webhook".to_owned() })
    }
}
