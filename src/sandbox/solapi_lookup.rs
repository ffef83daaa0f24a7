//! Solapi v4, the asking half: the message list and groups.
//!
//! Facts (github solapi/documents, api-reference/messages/getMessageList.md): filters are parameters of their own or
//! the triple `criteria`, `cond`, `value`; `messageList` is an object keyed by message id; pages go by
//! `startKey`/`nextKey`; `customFields` come back and cannot be searched for.

use crate::sandbox::book::{Book, MessageState, NO_RESULT};
use crate::sandbox::event::{Disposition, Event, GroupNumber, MessageEvent, MessageNumber};
use crate::sandbox::http::{Answer, Call};
use crate::sandbox::journal::{FrameAt, JournalLost};
use crate::sandbox::settings::Provider;
use crate::sandbox::solapi::failure;
use crate::sandbox::wire_time;
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 500;

pub(crate) fn message_id(at: Timestamp, number: MessageNumber) -> String {
    format!("M4V{:014}{:015X}", wire_time::digits(at), number.0)
}

pub(crate) fn group_id(at: Timestamp, number: GroupNumber) -> String {
    format!("G4V{:014}{:015X}", wire_time::digits(at), number.0)
}

/// The number at the end of an id of ours.
fn number_in(id: &str, prefix: &str) -> Option<u32> {
    let rest = id.strip_prefix(prefix)?;
    u32::from_str_radix(rest.get(14..).filter(|number| number.len() == 15)?, 16).ok()
}

pub(crate) fn message_of(book: &Book, id: &str) -> Option<MessageNumber> {
    let number = MessageNumber(number_in(id, "M4V")?);
    let message = book.get(number).filter(|message| message.provider == Provider::Solapi)?;
    (message_id(message.at, number) == id).then_some(number)
}

pub(crate) fn group_of(book: &Book, id: &str) -> Option<GroupNumber> {
    let number = GroupNumber(number_in(id, "G4V")?);
    (group_id(book.group(number)?.at, number) == id).then_some(number)
}

/// `groupInfo`, and the reply of every call on a group.
pub(crate) fn group_json(book: &Book, number: GroupNumber, now: Timestamp) -> Value {
    let Some(group) = book.group(number) else { return Value::Null };
    let (mut pending, mut done, mut failed, mut scheduled) = (0, 0, 0, 0);
    for number in &group.messages {
        let held = book.get(*number).filter(|message| message.state != MessageState::Refused);
        let Some(message) = held else { continue };
        if book.scheduled(*number).is_some_and(|at| now < at) {
            scheduled += 1;
        } else if !message.is_final() {
            pending += 1;
        } else if message.reached {
            done += 1;
        } else {
            failed += 1;
        }
    }
    let status = match (group.sent_at, scheduled, pending) {
        (None, _, _) => "PENDING",
        (Some(_), 1.., _) => "SCHEDULED",
        (Some(_), 0, 1..) => "SENDING",
        (Some(_), _, _) => "COMPLETE",
    };
    let total = group.messages.len();
    let id = group_id(group.at, number);
    json!({
        "groupId": id,
        "_id": id,
        "accountId": "sandbox",
        "apiVersion": "4",
        "status": status,
        "allowDuplicates": group.allow_duplicates,
        "count": {
            "total": total,
            "registeredSuccess": total - group.refused as usize,
            "registeredFailed": group.refused,
            "sentTotal": done + failed,
            "sentSuccess": done,
            "sentFailed": failed,
            "sentPending": if group.sent_at.is_some() { pending } else { 0 },
            "sentReplacement": 0,
            "refund": 0,
        },
        "customFields": {},
        "dateSent": group.sent_at.map(Timestamp::to_rfc3339),
        "dateCreated": group.at.to_rfc3339(),
        "dateUpdated": group.sent_at.unwrap_or(group.at).to_rfc3339(),
    })
}

/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn group(call: &Call<'_>, id: &str) -> Result<Answer, JournalLost> {
    let found = call.context.look(|book, now| group_of(book, id).map(|number| group_json(book, number, now))).await?;
    Ok(match found {
        Some(info) => Answer::of(200, &info),
        None => failure(404, "ResourceNotFound", "없는 그룹입니다."),
    })
}

/// What a search asks for.
#[derive(Default)]
struct Search {
    message: Option<String>,
    group: Option<String>,
    to: Option<String>,
    from: Option<String>,
    status_code: Option<String>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    /// `dateType=UPDATED`: the dates are those of results, not of creation.
    by_update: bool,
}

fn search(call: &Call<'_>, group: Option<&str>) -> Search {
    let list = |name: &str| call.parameter(name).unwrap_or_default();
    let (criteria, condition, values) = (list("criteria"), list("cond"), list("value"));
    let triples = criteria.split(',').zip(condition.split(',')).zip(values.split(','));
    let named = |name: &str| {
        let by_triple = triples.clone().find(|((field, cond), _)| *field == name && *cond == "eq");
        let by_triple = by_triple.map(|(_, value)| value.to_owned());
        call.parameter(name).or(by_triple).filter(|value| !value.is_empty())
    };
    let instant = |name: &str| call.parameter(name).and_then(|text| Timestamp::parse_rfc3339(&text));
    Search {
        message: named("messageId"),
        group: group.map(str::to_owned).or_else(|| named("groupId")),
        to: named("to"),
        from: named("from"),
        status_code: named("statusCode"),
        start: instant("startDate"),
        end: instant("endDate"),
        by_update: call.parameter("dateType").is_some_and(|kind| kind.eq_ignore_ascii_case("UPDATED")),
    }
}

/// A message as far as memory knows it.
struct Seen {
    number: MessageNumber,
    frame: FrameAt,
    at: Timestamp,
    code: u16,
    state: MessageState,
    is_final: bool,
    result_at: Timestamp,
    group: Option<(GroupNumber, Timestamp)>,
}

fn candidates(book: &Book, search: &Search) -> Vec<MessageNumber> {
    if let Some(id) = &search.message {
        return message_of(book, id).into_iter().collect();
    }
    if let Some(id) = &search.group {
        return group_of(book, id)
            .and_then(|number| book.group(number))
            .map(|group| group.messages.clone())
            .unwrap_or_default();
    }
    let (start, end) = (search.start.unwrap_or_default(), search.end.unwrap_or(Timestamp::MAX));
    let tag = search.to.as_deref().map(crate::sandbox::book::phone_tag);
    let fits = |number: &MessageNumber| tag.is_none() || book.get(*number).map(|message| message.to_tag) == tag;
    if search.by_update {
        // In order of arrival and each once, as pages need it.
        let updated: BTreeSet<MessageNumber> = book.updated(Provider::Solapi, start, end).filter(fits).collect();
        return updated.into_iter().collect();
    }
    book.arrived(Provider::Solapi, start, end).filter(fits).collect()
}

fn see(book: &Book, number: MessageNumber) -> Option<Seen> {
    let message = book.get(number).filter(|message| message.state != MessageState::Deleted)?;
    let group = message.group.and_then(|number| Some((number, book.group(number)?.at)));
    Some(Seen {
        number,
        frame: message.frame,
        at: message.at,
        code: message.code,
        state: message.state,
        is_final: message.is_final(),
        result_at: message.result_at,
        group,
    })
}

/// `GET /messages/v4/list`, and the messages of one group.
///
/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn list(call: &Call<'_>, group: Option<&str>) -> Result<Answer, JournalLost> {
    let search = search(call, group);
    let limit = call.parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let start_key = call.parameter("startKey");
    let seen: Vec<Seen> = call
        .context
        .look(|book, _| {
            let from = start_key.as_deref().and_then(|id| message_of(book, id)).unwrap_or(MessageNumber(0));
            let later = candidates(book, &search).into_iter().filter(|number| *number >= from);
            later.filter_map(|number| see(book, number)).collect()
        })
        .await?;
    let mut messages = Map::new();
    let mut next_key = None;
    for seen in seen {
        let Ok(Event::Message(event)) = call.context.read(seen.frame) else { continue };
        let code = status_code(&seen, &event);
        let fits = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        if !fits(&search.to, &event.to) || !fits(&search.from, &event.from) || !fits(&search.status_code, &code) {
            continue;
        }
        let id = message_id(seen.at, seen.number);
        if messages.len() == limit {
            next_key = Some(id);
            break;
        }
        messages.insert(id.clone(), message_json(&seen, &event, &id, &code));
    }
    let body = json!({ "startKey": start_key, "nextKey": next_key, "limit": limit, "messageList": messages });
    Ok(Answer::of(200, &body))
}

fn status_code(seen: &Seen, event: &MessageEvent<'_>) -> String {
    match (&event.disposition, seen.code) {
        (Disposition::Refused { code, .. }, _) => code.to_string(),
        (_, NO_RESULT) => "2000".to_owned(),
        (_, code) => code.to_string(),
    }
}

fn message_json(seen: &Seen, event: &MessageEvent<'_>, id: &str, code: &str) -> Value {
    let status = match (seen.state, seen.is_final) {
        (MessageState::Held, _) => "PENDING",
        (MessageState::Refused | MessageState::Cancelled | MessageState::Deleted, _) => "FAILED",
        (MessageState::Accepted, false) => "SENDING",
        (MessageState::Accepted, true) => "COMPLETE",
    };
    let received = (seen.code != NO_RESULT).then(|| seen.result_at.to_rfc3339());
    json!({
        "_id": id,
        "messageId": id,
        "groupId": seen.group.map(|(number, at)| group_id(at, number)),
        "accountId": "sandbox",
        "to": event.to,
        "from": event.from,
        "type": if event.channel == Channel::Kakao { "ATA" } else { "SMS" },
        "country": "82",
        "subject": event.title,
        "text": event.text,
        "kakaoOptions": { "templateId": event.template },
        "statusCode": code,
        "status": status,
        "customFields": serde_json::from_str::<Value>(&event.extra).unwrap_or_default(),
        "replacement": false,
        "dateCreated": seen.at.to_rfc3339(),
        "dateUpdated": seen.result_at.to_rfc3339(),
        "dateReported": received,
        "dateReceived": received,
    })
}

/// One entry of a `SINGLE-REPORT` webhook.
pub(crate) fn hook(book: &Book, number: MessageNumber, event: &MessageEvent<'_>, code: u16) -> Option<Value> {
    let seen = see(book, number)?;
    let at = seen.result_at;
    let group = seen.group.map(|(number, at)| group_id(at, number));
    Some(json!({
        "messageId": message_id(event.at, number),
        "groupId": group,
        "accountId": "sandbox",
        "type": if event.channel == Channel::Kakao { "ATA" } else { "SMS" },
        "to": event.to,
        "from": event.from,
        "statusCode": code.to_string(),
        "customFields": serde_json::from_str::<Value>(&event.extra).unwrap_or_default(),
        "dateProcessed": event.at.to_rfc3339(),
        "dateReported": at.to_rfc3339(),
        "dateReceived": at.to_rfc3339(),
    }))
}
