//! Solapi (CoolSMS) v4, SMS and LMS (solapi/documents).
//!
//! Solapi has no idempotency key. So a batch is sent in three calls: a group is made, messages are put into it, the
//! group is sent. Only the last has an effect on people, so a failure before it is definite, and only a `send` without
//! a reply is unknown. Every message carries our reference in `customFields`, so a lookup needs nothing but the
//! request: it finds the message by number and reference, then asks for its group. A group that was never sent is
//! *deleted* by the lookup before it answers "absent", so that a `send` still on its way cannot take effect later.
//! The official SDK's blind retry on a reset connection is not copied.

use super::http::{HttpClient, HttpFailure, HttpReply};
use super::seen::Seen;
use super::settings::{FillRandom, SettingsError, SolapiConfig};
use super::sms_text::{self, SmsText};
use super::solapi_codes::{self, Group, Message, Registered};
use super::templates::Texts;
use super::wire::{self, Dialled};
use super::{Ability, LookupAnswer, MessageProvider, PollFailure, Span, WebhookError, WebhookHeaders};
use crate::types::call::{MessageOutcome, MessageRequest, RefusalClass, Report};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::time::{Clock, Millis};
use futures_util::future::BoxFuture;
use hmac::{Hmac, Mac};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `PUT …/messages` takes 10,000; a smaller unit keeps one uncertain call small.
const BATCH_MAX: usize = 1_000;
/// Lookups reach this far around the first try.
const LOOKUP_MARGIN: Millis = Millis::from_mins(10);
const PAGE_ITEMS: usize = 500;
/// Pages read of one list.
const PAGES_MAX: usize = 20;

/// The client. Cheap to call concurrently.
pub struct Solapi {
    http: HttpClient,
    clock: Arc<dyn Clock>,
    random: FillRandom,
    texts: Texts,
    api_key: String,
    api_secret: Private<String>,
    from: String,
    /// SHA-1 of the webhook's secret, lower-case hexadecimal.
    webhook_digest: Option<String>,
    /// What lookups saw.
    seen: Seen,
}

/// A batch member that can be sent.
struct Member {
    index: usize,
    body: Value,
    to: String,
}

impl Solapi {
    /// # Errors
    /// [`SettingsError`]
    pub(crate) fn new(
        config: &SolapiConfig,
        texts: Texts,
        clock: Arc<dyn Clock>,
        random: FillRandom,
    ) -> Result<Self, SettingsError> {
        let webhook = config.webhook_secret.as_ref().map(|secret| secret.get("solapi.webhook_secret")).transpose()?;
        Ok(Self {
            http: HttpClient::new(&config.base_url)?,
            clock,
            random,
            texts,
            api_key: config.api_key.clone(),
            api_secret: config.api_secret.get("solapi.api_secret")?,
            from: config.from.clone(),
            webhook_digest: webhook.map(|secret| hex::encode(Sha1::digest(secret.0.as_bytes()))),
            seen: Seen::default(),
        })
    }

    /// `HMAC-SHA256 apiKey=…, date=…, salt=…, signature=hex(HMAC(secret, date + salt))`; a signature is good once.
    fn authorization(&self) -> String {
        let date = self.clock.now().to_rfc3339();
        let mut salt = [0u8; 16];
        (self.random)(&mut salt);
        let salt = hex::encode(salt);
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.api_secret.0.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(date.as_bytes());
        mac.update(salt.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("HMAC-SHA256 apiKey={}, date={date}, salt={salt}, signature={signature}", self.api_key)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut segments = vec!["messages", "v4"];
        segments.extend_from_slice(path);
        let mut url = self.http.url(&segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url).header("Authorization", self.authorization())
    }

    async fn call(&self, request: RequestBuilder, deadline: Millis) -> Result<HttpReply, HttpFailure> {
        self.http.call(request, deadline, self.clock.now()).await
    }

    fn member(&self, index: usize, request: &MessageRequest) -> Result<Member, MessageOutcome> {
        let dialled = Dialled::parse(&request.to).ok_or_else(wire::wrong_address)?;
        let permanent = |code: String| MessageOutcome::Refused { code, class: RefusalClass::Permanent };
        let rendered = self.texts.render(request).map_err(|missing| permanent(missing.code()))?;
        let text = sms_text::choose(&rendered.subject, &rendered.text).map_err(|code| permanent(code.to_owned()))?;
        let mut body = json!({
            "to": dialled.national,
            "country": dialled.country,
            "from": self.from,
            "customFields": { "reference": request.reference, "purpose": request.purpose.name() },
        });
        match text {
            SmsText::Sms { text } => {
                body["type"] = json!("SMS");
                body["text"] = json!(text);
            }
            SmsText::Lms { subject, text } => {
                body["type"] = json!("LMS");
                body["subject"] = json!(subject);
                body["text"] = json!(text);
            }
        }
        Ok(Member { index, body, to: dialled.national })
    }

    /// Makes a group. Nothing that fails here was sent to anyone.
    async fn make_group(&self, deadline: Millis) -> Result<String, MessageOutcome> {
        // Two gifts of one batch may go to one number: duplicates are told apart by our reference, not by `to`.
        let request = self.request(Method::POST, &["groups"], &[]).json(&json!({ "allowDuplicates": true }));
        let reply = self.call(request, deadline).await.map_err(|failure| not_begun(&failure))?;
        let group: Option<Group> = reply.json().filter(|_| reply.is_success());
        group.and_then(|group| group.id()).ok_or_else(|| solapi_codes::definite_refusal(&reply))
    }

    /// Puts the members into the group; one entry for each, in order.
    async fn register(
        &self,
        group: &str,
        members: &[Member],
        deadline: Millis,
    ) -> Result<Vec<Registered>, MessageOutcome> {
        let bodies: Vec<&Value> = members.iter().map(|member| &member.body).collect();
        let request =
            self.request(Method::PUT, &["groups", group, "messages"], &[]).json(&json!({ "messages": bodies }));
        let reply = self.call(request, deadline).await.map_err(|failure| not_begun(&failure))?;
        let numbers: Vec<&str> = members.iter().map(|member| member.to.as_str()).collect();
        match solapi_codes::registered(&reply, &numbers) {
            Some(registered) if reply.is_success() => Ok(registered),
            _ => Err(solapi_codes::definite_refusal(&reply)),
        }
    }

    /// Sends the group: the only call whose outcome can be unknown.
    async fn release(&self, group: &str, deadline: Millis) -> Result<(), MessageOutcome> {
        let request = self.request(Method::POST, &["groups", group, "send"], &[]).json(&json!({}));
        match self.call(request, deadline).await {
            Ok(reply) if reply.is_success() => Ok(()),
            Ok(reply) if reply.status >= 500 => {
                Err(MessageOutcome::Unknown { cause: format!("send of group {group}: http {}", reply.status) })
            }
            Ok(reply) => Err(solapi_codes::definite_refusal(&reply)),
            Err(HttpFailure::NoReply { cause }) => {
                Err(MessageOutcome::Unknown { cause: format!("send of group {group}: {cause}") })
            }
            Err(failure @ HttpFailure::NotConnected { .. }) => Err(failure.message_outcome()),
        }
    }

    /// `releasing` is set once the call that can be unknown has begun.
    async fn send_members(
        &self,
        members: &[Member],
        deadline: Millis,
        releasing: &mut Releasing,
    ) -> Vec<MessageOutcome> {
        let all = |outcome: MessageOutcome| vec![outcome; members.len()];
        let group = match self.make_group(deadline).await {
            Ok(group) => group,
            Err(refusal) => return all(refusal),
        };
        let registered = match self.register(&group, members, deadline).await {
            Ok(registered) => registered,
            Err(refusal) => return all(refusal),
        };
        *releasing = Releasing { refused: registered.iter().map(Registered::refusal).collect(), has_begun: false };
        let released = if releasing.refused.iter().any(Option::is_none) {
            releasing.has_begun = true;
            self.release(&group, deadline).await
        } else {
            Ok(())
        };
        let at = self.clock.now();
        let outcome = |registered: Registered| match (registered, &released) {
            (Registered::Refused { code, class }, _) => MessageOutcome::Refused { code, class },
            (Registered::Taken { .. }, Err(outcome)) => outcome.clone(),
            (Registered::Taken { message_id }, Ok(())) => MessageOutcome::Accepted {
                provider: self.name().to_owned(),
                receipt: format!("{group}/{message_id}"),
                at,
            },
        };
        registered.into_iter().map(outcome).collect()
    }

    async fn send_all(&self, batch: &[MessageRequest], deadline: Millis) -> Vec<MessageOutcome> {
        let mut outcomes: Vec<Option<MessageOutcome>> = batch.iter().map(|_| None).collect();
        let mut members = Vec::new();
        for (index, request) in batch.iter().enumerate() {
            match self.member(index, request) {
                Ok(member) => members.push(member),
                Err(refusal) => outcomes[index] = Some(refusal),
            }
        }
        if !members.is_empty() {
            let mut releasing = Releasing::default();
            let sent = wire::within(deadline, self.send_members(&members, deadline, &mut releasing)).await;
            let sent = sent.unwrap_or_else(|| releasing.late(members.len()));
            for (member, outcome) in members.iter().zip(sent) {
                outcomes[member.index] = Some(outcome);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.expect("each member was refused or sent")).collect()
    }

    /// All messages of a list, page by page.
    async fn list(&self, query: &[(&str, String)], deadline: Millis) -> Result<Vec<Message>, PollFailure> {
        let mut messages = Vec::new();
        let mut key: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            query.push(("limit", PAGE_ITEMS.to_string()));
            query.extend(key.take().map(|key| ("startKey", key)));
            let reply = self.call(self.request(Method::GET, &["list"], &query), deadline).await;
            let (found, next) = solapi_codes::page(&reply.map_err(|failure| failure.to_string())?)?;
            messages.extend(found);
            match next {
                Some(next) => key = Some(next),
                None => return Ok(messages),
            }
        }
        Err(PollFailure::TooMany)
    }

    async fn find(&self, request: &MessageRequest, deadline: Millis) -> Result<LookupAnswer, String> {
        let Some(dialled) = Dialled::parse(&request.to) else { return Ok(LookupAnswer::Absent) };
        let now = self.clock.now();
        let query = [
            ("to", dialled.national),
            ("startDate", (wire::first_tried(request, now) - LOOKUP_MARGIN).to_rfc3339()),
            ("endDate", (now + LOOKUP_MARGIN).to_rfc3339()),
        ];
        let messages = self.list(&query, deadline).await.map_err(|failure| failure.to_string())?;
        let ours = messages.iter().filter(|message| message.reference() == Some(request.reference.as_str()));
        let mut unsent = BTreeSet::new();
        for message in ours {
            let group = message.group_id().ok_or("message without a group")?;
            self.seen.note(message.report(self.name(), now));
            if message.is_under_way() || self.is_sent(group, deadline).await? {
                return Ok(LookupAnswer::Found { receipt: message.receipt(), at: message.created_at().unwrap_or(now) });
            }
            unsent.insert(group.to_owned());
        }
        for group in unsent {
            self.delete(&group, deadline).await?;
        }
        Ok(LookupAnswer::Absent)
    }

    async fn is_sent(&self, group: &str, deadline: Millis) -> Result<bool, String> {
        let reply = self.call(self.request(Method::GET, &["groups", group], &[]), deadline).await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        if reply.status == 404 {
            return Ok(false);
        }
        let group: Option<Group> = reply.json().filter(|_| reply.is_success());
        let group = group.ok_or_else(|| format!("group: http {}", reply.status))?;
        group.is_sent().ok_or_else(|| "group in an unknown state".to_owned())
    }

    async fn delete(&self, group: &str, deadline: Millis) -> Result<(), String> {
        let reply = self.call(self.request(Method::DELETE, &["groups", group], &[]), deadline).await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        match reply.is_success() || reply.status == 404 {
            true => Ok(()),
            false => Err(format!("delete of an unsent group: http {}", reply.status)),
        }
    }

    async fn updates(&self, span: Span, deadline: Millis) -> Result<Vec<Report>, PollFailure> {
        let query = [
            ("dateType", "UPDATED".to_owned()),
            ("startDate", span.since.to_rfc3339()),
            ("endDate", span.until.to_rfc3339()),
        ];
        let messages = self.list(&query, deadline).await?;
        let mut reports = self.seen.take();
        reports.extend(self.reports(&messages));
        Ok(reports)
    }

    fn reports(&self, messages: &[Message]) -> Vec<Report> {
        let now = self.clock.now();
        messages.iter().filter_map(|message| message.report(self.name(), now)).collect()
    }
}

/// How far a batch had come, for when its deadline passes.
#[derive(Default)]
struct Releasing {
    /// Refusals of single members; empty until they were registered.
    refused: Vec<Option<MessageOutcome>>,
    has_begun: bool,
}

impl Releasing {
    fn late(self, count: usize) -> Vec<MessageOutcome> {
        let late = match self.has_begun {
            true => MessageOutcome::Unknown { cause: "send of a group: deadline".to_owned() },
            false => MessageOutcome::Refused { code: "deadline_before_send".to_owned(), class: RefusalClass::Retry },
        };
        let mut refused = self.refused;
        refused.resize(count, None);
        refused.into_iter().map(|refusal| refusal.unwrap_or_else(|| late.clone())).collect()
    }
}

/// A failure before the group is sent: definite, whether or not there was a reply.
fn not_begun(failure: &HttpFailure) -> MessageOutcome {
    let code = match failure {
        HttpFailure::NotConnected { .. } => "not_connected",
        HttpFailure::NoReply { .. } => "no_reply_before_send",
    };
    MessageOutcome::Refused { code: code.to_owned(), class: RefusalClass::Retry }
}

impl MessageProvider for Solapi {
    fn name(&self) -> &'static str {
        "solapi"
    }
    fn channel(&self) -> Channel {
        Channel::Sms
    }
    fn ability(&self) -> Ability {
        Ability { key_window: None, lookup: true, batch_max: BATCH_MAX }
    }
    fn send<'a>(&'a self, batch: &'a [MessageRequest], deadline: Millis) -> BoxFuture<'a, Vec<MessageOutcome>> {
        Box::pin(self.send_all(batch, deadline))
    }
    /// `Absent` is final: an unsent group of the reference is gone by then.
    fn lookup<'a>(&'a self, request: &'a MessageRequest, deadline: Millis) -> BoxFuture<'a, LookupAnswer> {
        Box::pin(async move {
            match wire::within(deadline, self.find(request, deadline)).await {
                Some(Ok(answer)) => answer,
                Some(Err(cause)) => LookupAnswer::Unknown { cause },
                None => LookupAnswer::Unknown { cause: "deadline".to_owned() },
            }
        })
    }
    fn poll(&self, span: Span, deadline: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>> {
        Box::pin(async move {
            let updates = wire::within(deadline, self.updates(span, deadline)).await;
            updates.unwrap_or(Err(PollFailure::Late))
        })
    }
    fn webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<Vec<Report>, WebhookError> {
        let expected = self.webhook_digest.as_ref().ok_or(WebhookError::Unsigned)?;
        let presented = wire::header(headers, "x-solapi-secret").ok_or(WebhookError::Unsigned)?;
        if !wire::same_secret(&presented.to_ascii_lowercase(), expected) {
            return Err(WebhookError::Unsigned);
        }
        let messages: Vec<Message> = serde_json::from_slice(body)
            .map_err(|_| WebhookError::Malformed { what: "array of reports".to_owned() })?;
        Ok(self.reports(&messages))
    }
}
