//! Solapi v4, the sending half: send-many/detail, and groups in two steps.
//!
//! Facts (github solapi/documents; npm solapi 6.0.1): there is no idempotency key; `allowDuplicates: false` refuses a
//! repeated `to` only inside one group (1026); messages refused on entry are kept but not sent; a group that was sent
//! cannot be sent again. A call is one group, and its id is what an uncertain caller looks up.

use crate::sandbox::book::MessageState;
use crate::sandbox::context::Decision;
use crate::sandbox::event::{Disposition, Event, Fate, GroupNumber, MessageEvent, MessageNumber};
use crate::sandbox::fate::{self, PhoneRule};
use crate::sandbox::http::{Answer, Call};
use crate::sandbox::journal::JournalLost;
use crate::sandbox::settings::{Provider, SOLAPI_MESSAGES_MAX};
use crate::sandbox::solapi_lookup::{self, group_json, group_of, message_id};
use crate::sandbox::{solapi_auth, template};
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashSet;

/// Messages that one group may hold here.
const GROUP_MESSAGES_MAX: usize = 100_000;
const SMS_BYTES_MAX: usize = 90;
const LMS_BYTES_MAX: usize = 2_000;
const ALIMTALK_CHARACTERS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SendMany<'a> {
    #[serde(borrow)]
    messages: Vec<Incoming<'a>>,
    #[serde(default)]
    allow_duplicates: bool,
    scheduled_date: Option<String>,
    #[serde(default)]
    show_message_list: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming<'a> {
    #[serde(borrow, default)]
    to: Cow<'a, str>,
    #[serde(borrow, default)]
    from: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    kakao_options: Option<KakaoOptions<'a>>,
    #[serde(borrow, default)]
    custom_fields: template::Parameters<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KakaoOptions<'a> {
    #[serde(borrow, default)]
    pf_id: Cow<'a, str>,
    #[serde(borrow, default)]
    template_id: Cow<'a, str>,
    #[serde(borrow, default)]
    variables: template::Parameters<'a>,
    #[serde(default = "yes")]
    disable_sms: bool,
}

/// Whether an absent `disableSms` means true is not documented; true never sends twice.
fn yes() -> bool {
    true
}

/// How a message was registered.
struct Registered {
    number: MessageNumber,
    code: u16,
}

const REGISTERED: u16 = 2000;

/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, JournalLost> {
    if let Err(error) = solapi_auth::verify(call.context, call.header("authorization")) {
        return Ok(failure(403, error.code(), &error.to_string()));
    }
    let resource = call.path.trim_start_matches("/messages/v4/").trim_end_matches('/');
    let mut parts = resource.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    match (call.method, first, second, third) {
        (&Method::POST, "send-many", Some("detail"), None) => send_many(call).await,
        (&Method::PUT, "groups", Some(group), Some("messages")) => add(call, group),
        (_, _, _, _) if call.turned_away().is_some() => Ok(door(call)),
        (&Method::POST, "groups", None, None) => make_group(call).await,
        (&Method::POST, "groups", Some(group), Some("send")) => dispatch(call, group, None).await,
        (&Method::POST, "groups", Some(group), Some("schedule")) => schedule(call, group).await,
        (&Method::DELETE, "groups", Some(group), Some("schedule")) => unschedule(call, group).await,
        (&Method::DELETE, "groups", Some(group), None) => delete(call, group).await,
        (&Method::GET, "groups", Some(group), None) => solapi_lookup::group(call, group).await,
        (&Method::GET, "groups", Some(group), Some("messages")) => solapi_lookup::list(call, Some(group)).await,
        (&Method::GET, "list", None, None) => solapi_lookup::list(call, None).await,
        (_, _, _, _) => Ok(failure(404, "ResourceNotFound", "존재하지 않는 API 입니다.")),
    }
}

pub(crate) fn failure(status: u16, code: &str, message: &str) -> Answer {
    Answer::of(status, &json!({ "errorCode": code, "errorMessage": message }))
}

fn door(call: &Call<'_>) -> Answer {
    let status = call.turned_away().unwrap_or(500);
    let code = if status == 429 { "TooManyRequests" } else { "InternalError" };
    failure(status, code, "잠시 후 다시 시도해주세요.")
}

async fn send_many(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let Ok(send) = serde_json::from_slice::<SendMany<'_>>(call.body) else {
        return Ok(failure(400, "ValidationError", "요청 본문이 올바르지 않습니다."));
    };
    if send.messages.is_empty() || send.messages.len() > SOLAPI_MESSAGES_MAX {
        return Ok(failure(400, "ValidationError", "messages 는 1 ~ 10,000 건이어야 합니다."));
    }
    let at = match &send.scheduled_date {
        None => None,
        Some(text) => match Timestamp::parse_rfc3339(text) {
            Some(at) => Some(at),
            None => return Ok(failure(400, "ValidationError", "scheduledDate 형식이 올바르지 않습니다.")),
        },
    };
    if let Some(status) = call.turned_away() {
        let ((), mark) = call.context.decide(|decision| turn_away(decision, &send.messages, status));
        return Ok(door(call).after(mark));
    }
    let ((group, registered), mark) = call.context.decide(|decision| {
        let group = decision.book.next_group();
        decision.record(&Event::GroupMade { at: decision.now, allow_duplicates: send.allow_duplicates });
        let registered = register(call, decision, group, &send.messages);
        release(call, decision, group, at);
        (group, registered)
    });
    let info = call.context.look(|book, now| group_json(book, group, now)).await?;
    let lists = send.messages.iter().zip(&registered);
    let failed: Vec<Value> = lists
        .clone()
        .filter(|(_, result)| result.code != REGISTERED)
        .map(|(message, result)| listed(call, message, result))
        .collect();
    let mut body = json!({ "groupInfo": info, "failedMessageList": failed });
    if send.show_message_list {
        body["messageList"] = lists.map(|(message, result)| listed(call, message, result)).collect();
    }
    Ok(Answer::of(200, &body).after(mark))
}

fn listed(call: &Call<'_>, message: &Incoming<'_>, result: &Registered) -> Value {
    let at = call.context.glance(|book, _| book.get(result.number).map(|message| message.at)).unwrap_or_default();
    json!({
        "to": message.to,
        "from": message.from,
        "type": kind_of(message),
        "country": "82",
        "messageId": message_id(at, result.number),
        "statusCode": result.code.to_string(),
        "statusMessage": if result.code == REGISTERED { "정상 접수(이통사로 접수 예정)" } else { "접수 실패" },
        "accountId": "sandbox",
        "customFields": fields_json(&message.custom_fields),
    })
}

fn fields_json(fields: &template::Parameters<'_>) -> Value {
    fields.0.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_ref()))).collect()
}

/// Our correlation id: the custom field `reference`, else the first custom field.
fn reference<'a>(message: &'a Incoming<'_>) -> &'a str {
    let fields = &message.custom_fields.0;
    let named = fields.iter().find(|(name, _)| name == "reference").or_else(|| fields.first());
    named.map(|(_, value)| &**value).unwrap_or_default()
}

fn channel_of(message: &Incoming<'_>) -> Channel {
    if message.kakao_options.is_some() { Channel::Kakao } else { Channel::Sms }
}

fn kind_of<'a>(message: &'a Incoming<'_>) -> &'a str {
    if !message.kind.is_empty() {
        return &message.kind;
    }
    if message.kakao_options.is_some() {
        return "ATA";
    }
    let (bytes, _, _) = encoding_rs::EUC_KR.encode(&message.text);
    if bytes.len() <= SMS_BYTES_MAX && message.subject.is_empty() { "SMS" } else { "LMS" }
}

fn event<'a>(message: &'a Incoming<'_>, at: Timestamp, sequence: u32, disposition: Disposition) -> Event<'a> {
    let kakao = message.kakao_options.as_ref();
    let text = match kakao {
        Some(options) => Cow::Owned(template::render(&options.template_id, &options.variables)),
        None => Cow::Borrowed(&*message.text),
    };
    Event::Message(MessageEvent {
        provider: Provider::Solapi,
        channel: channel_of(message),
        reference: reference(message).into(),
        to: Cow::Borrowed(&message.to),
        text,
        title: Cow::Borrowed(&message.subject),
        from: Cow::Borrowed(&message.from),
        template: kakao.map(|options| &*options.template_id).unwrap_or_default().into(),
        extra: fields_json(&message.custom_fields).to_string().into(),
        at,
        sequence,
        key: None,
        disposition,
    })
}

fn turn_away(decision: &mut Decision<'_>, messages: &[Incoming<'_>], status: u16) {
    for (sequence, message) in (1u32..).zip(messages) {
        let disposition = Disposition::NotTaken { code: i32::from(status) };
        decision.record(&event(message, decision.now, sequence, disposition));
    }
}

/// Takes messages into a group; those refused on entry are kept as refused.
fn register(
    call: &Call<'_>,
    decision: &mut Decision<'_>,
    group: GroupNumber,
    messages: &[Incoming<'_>],
) -> Vec<Registered> {
    let allow_duplicates = decision.book.group(group).is_some_and(|group| group.allow_duplicates);
    let mut seen = HashSet::new();
    let mut registered = Vec::with_capacity(messages.len());
    for (sequence, message) in (1u32..).zip(messages) {
        let repeated = !allow_duplicates && !seen.insert(&*message.to);
        let code = if repeated { Some(1026) } else { refusal(call, message, decision.now) };
        let disposition = match code {
            Some(code) => Disposition::Refused { code: i32::from(code), group: Some(group) },
            None => {
                let fallback = message.kakao_options.as_ref().is_some_and(|options| !options.disable_sms);
                Disposition::Held { group, fallback }
            }
        };
        registered.push(Registered { number: decision.book.next_message(), code: code.unwrap_or(REGISTERED) });
        decision.record(&event(message, decision.now, sequence, disposition));
    }
    registered
}

/// The code of a refusal on entry.
fn refusal(call: &Call<'_>, message: &Incoming<'_>, now: Timestamp) -> Option<u16> {
    let long = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| name.chars().count() > 30 || value.chars().count() > 100;
    if message.to.is_empty() || message.from.is_empty() && message.kakao_options.is_none() {
        return Some(1010);
    }
    if message.custom_fields.0.iter().any(long) {
        return Some(1032);
    }
    if fate::phone_rule(&message.to) == Some(PhoneRule::RefusedOnEntry) {
        return Some(1060);
    }
    if message.from.starts_with("000") {
        return Some(1062);
    }
    if call.context.faults.any() {
        let ordered = call.context.faults.recipient(Provider::Solapi, call.path, now);
        if let Some(code) = ordered.refused {
            return Some(code.parse().unwrap_or(1062));
        }
    }
    match &message.kakao_options {
        Some(options) => kakao_refusal(options),
        None => text_refusal(message),
    }
}

fn kakao_refusal(options: &KakaoOptions<'_>) -> Option<u16> {
    if options.pf_id.is_empty() {
        return Some(1041);
    }
    if options.template_id.is_empty() || options.template_id.starts_with("none_") {
        return Some(1042);
    }
    (options.variables.characters() > ALIMTALK_CHARACTERS_MAX).then_some(1031)
}

fn text_refusal(message: &Incoming<'_>) -> Option<u16> {
    let kind = kind_of(message);
    if message.text.is_empty() {
        return Some(1010);
    }
    let (bytes, _, unmappable) = encoding_rs::EUC_KR.encode(&message.text);
    if unmappable {
        return Some(1029);
    }
    match kind {
        "SMS" if !message.subject.is_empty() => Some(1013),
        "SMS" => (bytes.len() > SMS_BYTES_MAX).then_some(1031),
        "LMS" | "MMS" => (bytes.len() > LMS_BYTES_MAX).then_some(1031),
        _ => Some(1025),
    }
}

/// Sends the held messages of a group, now or at an instant.
fn release(call: &Call<'_>, decision: &mut Decision<'_>, group: GroupNumber, at: Option<Timestamp>) {
    let now = decision.now;
    let numbers = decision.book.group(group).map(|group| group.messages.clone()).unwrap_or_default();
    let fates: Vec<(MessageNumber, Fate)> = numbers
        .into_iter()
        .filter_map(|number| {
            let message = decision.book.get(number).filter(|message| message.state == MessageState::Held)?;
            let item = decision.book.ledger.get(message.item);
            let channel = item.channel.unwrap_or(Channel::Sms);
            let late = match call.context.faults.any() {
                true => call.context.faults.recipient(Provider::Solapi, call.path, now).late,
                false => None,
            };
            let send_at = at.filter(|at| *at > now);
            let rule = message.phone;
            let mut fate = fate::of_rule(Provider::Solapi, channel, rule, (send_at.unwrap_or(now), late));
            fate.send_at = send_at;
            fate.fallback = message.fallback;
            Some((number, fate))
        })
        .collect();
    decision.record(&Event::GroupSent { group, at: now, fates });
}

async fn make_group(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let body: Value =
        if call.body.is_empty() { json!({}) } else { serde_json::from_slice(call.body).unwrap_or_default() };
    if !body.is_object() {
        return Ok(failure(400, "ValidationError", "요청 본문이 올바르지 않습니다."));
    }
    let allow_duplicates = body["allowDuplicates"].as_bool().unwrap_or(false);
    let (group, mark) = call.context.decide(|decision| {
        let group = decision.book.next_group();
        decision.record(&Event::GroupMade { at: decision.now, allow_duplicates });
        group
    });
    let info = call.context.look(|book, now| group_json(book, group, now)).await?;
    Ok(Answer::of(200, &info).after(mark))
}

fn add(call: &Call<'_>, group: &str) -> Result<Answer, JournalLost> {
    let Ok(send) = serde_json::from_slice::<SendMany<'_>>(call.body) else {
        return Ok(failure(400, "ValidationError", "요청 본문이 올바르지 않습니다."));
    };
    if let Some(status) = call.turned_away() {
        let ((), mark) = call.context.decide(|decision| turn_away(decision, &send.messages, status));
        return Ok(door(call).after(mark));
    }
    let (registered, mark) = call.context.decide(|decision| {
        let number = group_of(decision.book, group)?;
        let held = decision.book.group(number)?;
        let full = held.messages.len() + send.messages.len() > GROUP_MESSAGES_MAX;
        if held.sent_at.is_some() || full || send.messages.len() > SOLAPI_MESSAGES_MAX {
            return None;
        }
        Some(register(call, decision, number, &send.messages))
    });
    let Some(registered) = registered else {
        return Ok(failure(400, "GroupNotEditable", "메시지를 추가할 수 없는 그룹입니다."));
    };
    let results: Vec<Value> =
        send.messages.iter().zip(&registered).map(|(message, result)| listed(call, message, result)).collect();
    let errors = registered.iter().filter(|result| result.code != REGISTERED).count();
    Ok(Answer::of(200, &json!({ "errorCount": errors, "resultList": results })).after(mark))
}

async fn dispatch(call: &Call<'_>, group: &str, at: Option<Timestamp>) -> Result<Answer, JournalLost> {
    let (number, mark) = call.context.decide(|decision| {
        let number = group_of(decision.book, group)?;
        if decision.book.group(number)?.sent_at.is_some() {
            return None;
        }
        release(call, decision, number, at);
        Some(number)
    });
    let Some(number) = number else {
        return Ok(failure(400, "GroupNotSendable", "없는 그룹이거나 이미 발송된 그룹입니다."));
    };
    let info = call.context.look(|book, now| group_json(book, number, now)).await?;
    Ok(Answer::of(200, &info).after(mark))
}

async fn delete(call: &Call<'_>, group: &str) -> Result<Answer, JournalLost> {
    let found = call.context.look(|book, now| {
        let number = group_of(book, group)?;
        Some(group_json(book, number, now))
    });
    let Some(info) = found.await? else { return Ok(failure(404, "ResourceNotFound", "없는 그룹입니다.")) };
    // Decided anew under the lock: the group may have been sent since.
    let (deleted, mark) = call.context.decide(|decision| {
        let number = group_of(decision.book, group)?;
        if decision.book.group(number)?.sent_at.is_some() {
            return None;
        }
        decision.record(&Event::GroupDeleted { group: number });
        Some(())
    });
    Ok(match deleted {
        Some(()) => Answer::of(200, &info).after(mark),
        None => failure(400, "GroupNotDeletable", "이미 발송된 그룹입니다."),
    })
}

async fn schedule(call: &Call<'_>, group: &str) -> Result<Answer, JournalLost> {
    let body: Value = serde_json::from_slice(call.body).unwrap_or_default();
    match body["scheduledDate"].as_str().and_then(Timestamp::parse_rfc3339) {
        Some(at) => dispatch(call, group, Some(at)).await,
        None => Ok(failure(400, "ValidationError", "scheduledDate 형식이 올바르지 않습니다.")),
    }
}

async fn unschedule(call: &Call<'_>, group: &str) -> Result<Answer, JournalLost> {
    let (number, mark) = call.context.decide(|decision| {
        let number = group_of(decision.book, group)?;
        let members = decision.book.group(number)?.messages.clone();
        let still_waits = |number: &MessageNumber| decision.book.scheduled(*number).is_some_and(|at| decision.now < at);
        let messages: Vec<MessageNumber> = members.into_iter().filter(still_waits).collect();
        if !messages.is_empty() {
            decision.record(&Event::Cancelled { messages });
        }
        Some(number)
    });
    let Some(number) = number else { return Ok(failure(404, "ResourceNotFound", "없는 그룹입니다.")) };
    let info = call.context.look(|book, now| group_json(book, number, now)).await?;
    Ok(Answer::of(200, &info).after(mark))
}
