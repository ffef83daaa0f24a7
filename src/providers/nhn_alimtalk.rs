//! NHN Cloud KakaoTalk Bizmessage v2.3, Alimtalk (TOAST-DOCS/Alimtalk `alimtalk-api-guide`).
//!
//! Our reference travels as `recipientGroupingKey`; it is what lookups, polls and webhooks are matched by. One POST is
//! one uncertain unit under one `X-NC-API-IDEMPOTENCY-KEY`: the reference itself for a single recipient, a hash of the
//! references for several. Within 10 minutes a repeated key fails with -1005 and the first reply is *not* replayed,
//! so -1005 means: look up. NHN's own fallback to SMS is switched off in every request, for it would be a second
//! channel behind our back.

use super::http::{HttpClient, HttpFailure, HttpReply};
use super::nhn_codes::{self, Placing, Row};
use super::nhn_names::Names;
use super::seen::Seen;
use super::settings::{NhnAlimtalkConfig, Secret, SettingsError, template_codes};
use super::wire::{self, Dialled};
use super::{Ability, LookupAnswer, MessageProvider, PollFailure, Span, WebhookError, WebhookHeaders};
use crate::types::batch::batch_key;
use crate::types::call::{MessageOutcome, MessageRequest, RefusalClass, Report, Template};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::time::{Clock, Millis, Timestamp};
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Recipients of one POST.
const RECIPIENTS_MAX: usize = 1_000;
/// A repeated key fails inside this span.
const KEY_WINDOW: Millis = Millis::from_mins(10);
/// Lookups reach this far around the first try: minutes are the API's grain, clocks differ.
const LOOKUP_MARGIN: Millis = Millis::from_mins(10);
/// A date range may span 30 days; a try further back is looked for in the last 29.
const LOOKUP_SPAN_MAX: Millis = Millis::from_days(29);
const PAGE_ITEMS: usize = 1_000;
/// Pages read of one poll. Minutes are the API's grain, so that a span cannot be made shorter than one.
const POLL_PAGES_MAX: usize = 100;
/// Requests whose recipients are listed at once, because `message-results` names no grouping key.
const REQUESTS_AT_ONCE: usize = 16;

/// The client. Cheap to call concurrently.
pub struct NhnAlimtalk {
    http: HttpClient,
    clock: Arc<dyn Clock>,
    app_key: String,
    secret_key: Private<String>,
    sender_key: String,
    webhook_signature: Option<Private<String>>,
    codes: BTreeMap<Template, String>,
    link_prefix: String,
    new_profile: bool,
    names: Mutex<Names>,
    /// What lookups saw.
    seen: Seen,
}

impl NhnAlimtalk {
    /// # Errors
    /// [`SettingsError`]
    pub fn new(config: &NhnAlimtalkConfig, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let signature =
            config.webhook_signature.as_ref().map(|secret: &Secret| secret.get("nhn_alimtalk.webhook_signature"));
        Ok(Self {
            http: HttpClient::new(&config.base_url)?,
            clock,
            app_key: config.app_key.clone(),
            secret_key: config.secret_key.get("nhn_alimtalk.secret_key")?,
            sender_key: config.sender_key.clone(),
            webhook_signature: signature.transpose()?,
            codes: template_codes(&config.template_codes)?,
            link_prefix: config.link_prefix.clone(),
            new_profile: config.new_profile,
            names: Mutex::default(),
            seen: Seen::default(),
        })
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut segments = vec!["alimtalk", "v2.3", "appkeys", self.app_key.as_str()];
        segments.extend_from_slice(path);
        let mut url = self.http.url(&segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url).header("X-Secret-Key", &self.secret_key.0)
    }

    async fn get(&self, path: &[&str], query: &[(&str, String)], deadline: Millis) -> Result<HttpReply, HttpFailure> {
        self.http.call(self.request(Method::GET, path, query), deadline, self.clock.now()).await
    }

    /// One recipient of the POST's list, or the refusal that NHN would answer (so that it does not cost the batch).
    fn recipient(&self, request: &MessageRequest) -> Result<Value, MessageOutcome> {
        let dialled = Dialled::parse(&request.to).ok_or_else(wire::wrong_address)?;
        let link = request.link.as_ref().map(|link| {
            let rest = link.0.strip_prefix(self.link_prefix.as_str()).unwrap_or(&link.0);
            ("link".to_owned(), rest.to_owned())
        });
        let named = request.variables.iter().map(|(name, value)| (name.clone(), value.0.clone()));
        let parameters: Vec<(String, String)> = named.chain(link).collect();
        if let Some(code) = nhn_codes::refuse_parameters(&parameters, self.new_profile) {
            return Err(MessageOutcome::Refused { code: code.to_owned(), class: RefusalClass::Permanent });
        }
        let parameters: serde_json::Map<String, Value> =
            parameters.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        Ok(json!({
            "recipientNo": dialled.digits(),
            "templateParameter": parameters,
            "resendParameter": { "isResend": false },
            "recipientGroupingKey": request.reference,
        }))
    }

    /// One POST for members of one template. `outcomes` gets one entry for each member.
    async fn post(
        &self,
        members: &[(usize, &MessageRequest, Value)],
        deadline: Millis,
    ) -> Vec<(usize, MessageOutcome)> {
        let Some((_, first, _)) = members.first() else { return Vec::new() };
        let references: Vec<&str> = members.iter().map(|(_, request, _)| request.reference.as_str()).collect();
        let body = json!({
            "senderKey": self.sender_key,
            "templateCode": self.codes.get(&first.template).expect("codes exist for all templates"),
            "senderGroupingKey": first.purpose.name(),
            "recipientList": members.iter().map(|(_, _, recipient)| recipient).collect::<Vec<_>>(),
        });
        let request = self
            .request(Method::POST, &["messages"], &[])
            .header("X-NC-API-IDEMPOTENCY-KEY", batch_key(&references))
            .json(&body);
        let placings = match self.http.call(request, deadline, self.clock.now()).await {
            Ok(reply) => nhn_codes::placings(&reply, &references),
            Err(failure) => return members.iter().map(|(at, _, _)| (*at, failure.message_outcome())).collect(),
        };
        let now = self.clock.now();
        let mut names = self.names.lock();
        for (placing, reference) in placings.iter().zip(&references) {
            if let Placing::Accepted { receipt } = placing {
                names.sent(receipt, reference);
            }
        }
        drop(names);
        let indexes = members.iter().map(|(index, _, _)| *index);
        indexes.zip(placings.into_iter().map(|placing| self.outcome(placing, now))).collect()
    }

    fn outcome(&self, placing: Placing, at: Timestamp) -> MessageOutcome {
        match placing {
            Placing::Accepted { receipt } => MessageOutcome::Accepted { provider: self.name().to_owned(), receipt, at },
            Placing::Refused { code, class } => MessageOutcome::Refused { code, class },
            Placing::Unknown { cause } => MessageOutcome::Unknown { cause },
        }
    }

    async fn send_all(&self, batch: &[MessageRequest], deadline: Millis) -> Vec<MessageOutcome> {
        let mut outcomes: Vec<Option<MessageOutcome>> = batch.iter().map(|_| None).collect();
        let mut groups: BTreeMap<Template, Vec<(usize, &MessageRequest, Value)>> = BTreeMap::new();
        for (index, request) in batch.iter().enumerate() {
            match self.recipient(request) {
                Ok(recipient) => groups.entry(request.template).or_default().push((index, request, recipient)),
                Err(refusal) => outcomes[index] = Some(refusal),
            }
        }
        let posts = groups.values().flat_map(|members| members.chunks(RECIPIENTS_MAX));
        for (index, outcome) in join_all(posts.map(|members| self.post(members, deadline))).await.into_iter().flatten()
        {
            outcomes[index] = Some(outcome);
        }
        outcomes.into_iter().map(|outcome| outcome.expect("each member was refused or posted")).collect()
    }

    async fn find(&self, request: &MessageRequest, deadline: Millis) -> LookupAnswer {
        let now = self.clock.now();
        let first = wire::first_tried(request, now).max(now - LOOKUP_SPAN_MAX);
        let query = [
            ("startRequestDate", wire::korean_minute(first - LOOKUP_MARGIN)),
            ("endRequestDate", wire::korean_minute(now + LOOKUP_MARGIN)),
            ("recipientGroupingKey", request.reference.clone()),
            ("pageNum", "1".to_owned()),
            ("pageSize", PAGE_ITEMS.to_string()),
        ];
        let rows = match self.get(&["messages"], &query, deadline).await {
            Ok(reply) => nhn_codes::rows(&reply),
            Err(failure) => Err(failure.to_string()),
        };
        match rows {
            Ok(rows) => match rows.iter().find(|row| row.reference.as_deref() == Some(&request.reference)) {
                Some(row) => {
                    self.seen.note(row.report(self.name(), now));
                    self.names.lock().sent(&row.receipt(), &request.reference);
                    LookupAnswer::Found { receipt: row.receipt(), at: row.created_at().unwrap_or(now) }
                }
                None => LookupAnswer::Absent,
            },
            Err(cause) => LookupAnswer::Unknown { cause },
        }
    }

    /// References of every recipient of one request, by sequence number.
    async fn references(&self, request_id: &str, deadline: Millis) -> Result<Vec<Row>, String> {
        let query =
            [("requestId", request_id.to_owned()), ("pageNum", "1".to_owned()), ("pageSize", PAGE_ITEMS.to_string())];
        let reply = self.get(&["messages"], &query, deadline).await.map_err(|failure| failure.to_string())?;
        nhn_codes::rows(&reply)
    }

    async fn updated_rows(&self, span: Span, deadline: Millis) -> Result<Vec<Row>, PollFailure> {
        let mut rows = Vec::new();
        for page in 1..=POLL_PAGES_MAX {
            let query = [
                ("startUpdateDate", wire::korean_minute(span.since)),
                ("endUpdateDate", wire::korean_minute(span.until + Millis::from_mins(1))),
                ("pageNum", page.to_string()),
                ("pageSize", PAGE_ITEMS.to_string()),
            ];
            let reply =
                self.get(&["message-results"], &query, deadline).await.map_err(|failure| failure.to_string())?;
            let found = nhn_codes::rows(&reply)?;
            let is_last = found.len() < PAGE_ITEMS;
            rows.extend(found);
            if is_last {
                return Ok(rows);
            }
        }
        Err(PollFailure::TooMany)
    }

    /// Updates come without the grouping key, so the requests of what failed elsewhere are listed once each: as many as half
    /// the deadline allows, the others by the next poll.
    async fn updates(&self, span: Span, deadline: Millis) -> Result<Vec<Report>, PollFailure> {
        let enough = tokio::time::Instant::now() + Millis(deadline.0 / 2).to_std();
        let rows = self.updated_rows(span, deadline).await?;
        let mut named = self.names.lock().take(rows);
        loop {
            let requests = self.names.lock().wanted(REQUESTS_AT_ONCE);
            if requests.is_empty() {
                break;
            }
            let listed = join_all(requests.iter().map(|request| self.references(request, deadline))).await;
            let failure = listed.iter().find_map(|rows| rows.as_ref().err().cloned());
            for (request, rows) in requests.iter().zip(listed) {
                if let Ok(rows) = rows {
                    named.extend(self.names.lock().learn(request, rows));
                }
            }
            if let Some(cause) = failure {
                tracing::warn!(cause, "not every updated message has a name yet: the next poll asks again");
                break;
            }
            if tokio::time::Instant::now() >= enough {
                break;
            }
        }
        let mut reports = self.seen.take();
        reports.extend(self.reports(&named));
        Ok(reports)
    }

    fn reports(&self, rows: &[Row]) -> Vec<Report> {
        let now = self.clock.now();
        rows.iter().filter_map(|row| row.report(self.name(), now)).collect()
    }
}

impl MessageProvider for NhnAlimtalk {
    fn name(&self) -> &'static str {
        "nhn"
    }
    fn channel(&self) -> Channel {
        Channel::Kakao
    }
    fn ability(&self) -> Ability {
        Ability { key_window: Some(KEY_WINDOW), lookup: true, batch_max: RECIPIENTS_MAX }
    }
    /// Members of different templates go as one POST each, side by side.
    fn send<'a>(&'a self, batch: &'a [MessageRequest], deadline: Millis) -> BoxFuture<'a, Vec<MessageOutcome>> {
        Box::pin(self.send_all(batch, deadline))
    }
    fn refuses(&self, request: &MessageRequest) -> bool {
        self.recipient(request).is_err()
    }
    fn lookup<'a>(&'a self, request: &'a MessageRequest, deadline: Millis) -> BoxFuture<'a, LookupAnswer> {
        Box::pin(self.find(request, deadline))
    }
    fn poll(&self, span: Span, deadline: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>> {
        Box::pin(async move {
            let updates = wire::within(deadline, self.updates(span, deadline)).await;
            updates.unwrap_or(Err(PollFailure::Late))
        })
    }
    fn webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<Vec<Report>, WebhookError> {
        let expected = self.webhook_signature.as_ref().ok_or(WebhookError::Unsigned)?;
        let presented = wire::header(headers, "x-toast-webhook-signature").ok_or(WebhookError::Unsigned)?;
        if !wire::same_secret(presented, &expected.0) {
            return Err(WebhookError::Unsigned);
        }
        let hooks = nhn_codes::hooks(body).ok_or_else(|| WebhookError::Malformed { what: "hooks".to_owned() })?;
        Ok(self.reports(&hooks))
    }
}
