//! NHN Cloud KakaoTalk Bizmessage v2.3, the asking half: one message, a list, and results since an instant.

use crate::sandbox::book::{Book, Message, MessageState, NO_RESULT};
use crate::sandbox::context::Context;
use crate::sandbox::event::{Event, MessageEvent, MessageNumber};
use crate::sandbox::fate::{NHN_RECEIVED, NHN_UNCONFIRMED};
use crate::sandbox::http::{Answer, Call};
use crate::sandbox::journal::{FrameAt, JournalLost};
use crate::sandbox::nhn::{first_of, header, header_only, request_id};
use crate::sandbox::settings::{NHN_RECIPIENTS_MAX, Provider};
use crate::sandbox::wire_time;
use crate::types::effect::Channel;
use crate::types::time::{Millis, Timestamp};
use serde_json::{Value, json};

const PAGE_DEFAULT: usize = 15;
const PAGE_MAX: usize = 1_000;
/// Span between start and end of a search.
const SEARCH_SPAN: Millis = Millis::from_days(30);

/// What a lookup says of a message, apart from what stands in its frame.
#[derive(Clone)]
pub(crate) struct Seen {
    pub request_id: String,
    pub sequence: u32,
    pub frame: FrameAt,
    at: Timestamp,
    result_at: Timestamp,
    code: u16,
    final_result: bool,
    cancelled: bool,
    fallback: bool,
    scheduled: Option<Timestamp>,
}

/// The messages of a call by the number of its first one; empty when `request` is not its id.
pub(crate) fn of_call(book: &Book, first: MessageNumber, request: &str) -> Vec<(u32, MessageNumber)> {
    let Some(head) = book.get(first) else { return Vec::new() };
    if head.sequence != 1 || head.provider != Provider::Nhn || request_id(head.at, first) != request {
        return Vec::new();
    }
    let mut members = Vec::new();
    for (sequence, number) in (1u32..).zip(first.0..).take(NHN_RECIPIENTS_MAX) {
        let number = MessageNumber(number);
        match book.get(number) {
            Some(message) if message.sequence == sequence && message.at == head.at => members.push((sequence, number)),
            Some(_) | None => break,
        }
    }
    members
}

pub(crate) fn see(book: &Book, number: MessageNumber) -> Option<Seen> {
    let message: &Message = book.get(number)?;
    if matches!(message.state, MessageState::Refused | MessageState::Deleted) {
        return None;
    }
    let first = MessageNumber(number.0.checked_sub(message.sequence - 1)?);
    Some(Seen {
        request_id: request_id(message.at, first),
        sequence: message.sequence,
        frame: message.frame,
        at: message.at,
        result_at: message.result_at,
        code: message.code,
        final_result: message.is_final(),
        cancelled: message.state == MessageState::Cancelled,
        fallback: message.fallback,
        scheduled: book.scheduled(number),
    })
}

impl Seen {
    fn failed(&self) -> bool {
        self.final_result && self.code != NHN_RECEIVED
    }

    fn message_status(&self) -> Option<&'static str> {
        if self.cancelled {
            return Some("CANCEL");
        }
        match self.code {
            NO_RESULT => None,
            NHN_RECEIVED | NHN_UNCONFIRMED => Some("COMPLETED"),
            _failure => Some("FAILED"),
        }
    }

    fn resend_status(&self) -> (&'static str, &'static str) {
        match (self.fallback, self.failed()) {
            (false, _) => ("RSC01", "대체 발송 미대상"),
            (true, false) => ("RSC02", "대체 발송 대상"),
            (true, true) => ("RSC04", "대체 발송 성공"),
        }
    }

    /// The part that every reply and the webhook share.
    fn short(&self) -> Value {
        let (resend_status, resend_status_name) = self.resend_status();
        let resent = self.fallback && self.failed();
        let known = (self.code != NO_RESULT).then_some(self.code);
        json!({
            "requestId": self.request_id,
            "recipientSeq": self.sequence,
            "requestDate": wire_time::nhn(self.scheduled.unwrap_or(self.at)),
            "createDate": wire_time::nhn(self.at),
            "receiveDate": known.map(|_| wire_time::nhn(self.result_at)),
            "resendStatus": resend_status,
            "resendStatusName": resend_status_name,
            "resendResultCode": resent.then_some("1000"),
            "resendRequestId": resent.then(|| format!("{}R", self.request_id)),
            "messageStatus": self.message_status(),
            "resultCode": known.map(|code| code.to_string()),
            "resultCodeName": known.map(result_name),
        })
    }

    /// Everything, with what the message itself says.
    fn whole(&self, event: &MessageEvent<'_>) -> Value {
        let mut value = self.short();
        let extra = json!({
            "plusFriendId": "@bojagi",
            "senderKey": event.from,
            "templateCode": event.template,
            "recipientNo": event.to,
            "content": event.text,
            "createUser": null,
            "senderGroupingKey": event.extra,
            "recipientGroupingKey": event.reference,
        });
        if let (Value::Object(value), Value::Object(extra)) = (&mut value, extra) {
            value.extend(extra);
        }
        value
    }

    /// One entry of a `MESSAGE_RESULT_UPDATE` webhook.
    pub(crate) fn hook(&self, event: &MessageEvent<'_>, code: u16, hook_id: &str) -> Value {
        json!({
            "kakaoMessageType": "ALIMTALK_NORMAL",
            "requestId": self.request_id,
            "recipientSeq": self.sequence,
            "requestDate": wire_time::nhn(self.at),
            "createDate": wire_time::nhn(self.at),
            "receiveDate": wire_time::nhn(self.result_at),
            "recipientNo": event.to,
            "resultCode": code.to_string(),
            "senderGroupingKey": event.extra,
            "recipientGroupingKey": event.reference,
            "isAddedChannel": null,
            "_links": { "self": { "href": format!(
                "/alimtalk/v2.3/appkeys/{}/messages/{}/{}",
                crate::sandbox::settings::NHN_APP_KEY, self.request_id, self.sequence
            ) } },
            "hookId": hook_id,
        })
    }
}

fn result_name(code: u16) -> &'static str {
    match code {
        1000 => "성공",
        3005 => "메시지를 발송했으나 수신확인 안됨(성공불확실)",
        3008 => "전화번호 오류",
        3018 => "메시지를 전송할 수 없음",
        3019 => "카카오톡 미사용자",
        3020 => "알림톡 수신 차단",
        _ => "실패",
    }
}

/// `GET …/messages/{requestId}/{recipientSeq}`.
///
/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn single(call: &Call<'_>, request: &str, sequence: &str) -> Result<Answer, JournalLost> {
    let found = call
        .context
        .look(|book, _| {
            let members = first_of(request).map(|first| of_call(book, first, request)).unwrap_or_default();
            let wanted = members.iter().find(|(member, _)| sequence.parse() == Ok(*member));
            wanted.and_then(|(_, number)| see(book, *number))
        })
        .await?;
    let Some((seen, event)) = found.and_then(|seen| read(call.context, seen)) else { return Ok(header_only(-4016)) };
    Ok(Answer::of(200, &json!({ "header": header(0), "message": seen.whole(&event) })))
}

fn read(context: &Context, seen: Seen) -> Option<(Seen, MessageEvent<'static>)> {
    match context.read(seen.frame) {
        Ok(Event::Message(event)) => Some((seen, event)),
        Ok(_) | Err(_) => None,
    }
}

/// `GET …/messages` by `requestId`, or by a span of request or creation dates; then filtered.
///
/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let request = call.parameter("requestId");
    let span =
        span(call, "startRequestDate", "endRequestDate").or_else(|| span(call, "startCreateDate", "endCreateDate"));
    if request.is_none() && span.is_none_or(|(from, until)| until < from || until - from > SEARCH_SPAN) {
        return Ok(header_only(-4103));
    }
    let reference = call.parameter("recipientGroupingKey").filter(|reference| !reference.is_empty());
    let candidates = call
        .context
        .look(|book, _| {
            let within = |number: &MessageNumber| {
                let message = book.get(*number);
                message.is_some_and(|message| span.is_none_or(|(from, until)| (from..=until).contains(&message.at)))
            };
            let numbers: Vec<MessageNumber> = match (&request, &reference, span) {
                (Some(request), _, _) => {
                    let members = first_of(request).map(|first| of_call(book, first, request)).unwrap_or_default();
                    members.into_iter().map(|(_, number)| number).collect()
                }
                (None, Some(reference), _) => book.by_reference(Provider::Nhn, Channel::Kakao, reference),
                (None, None, Some((from, until))) => book.arrived(Provider::Nhn, from, until).collect(),
                (None, None, None) => Vec::new(),
            };
            numbers.iter().filter(|number| within(number)).filter_map(|number| see(book, *number)).collect::<Vec<_>>()
        })
        .await?;
    let wanted = |event: &MessageEvent<'_>| {
        let fits =
            |name: &str, value: &str| call.parameter(name).is_none_or(|wanted| wanted.is_empty() || wanted == value);
        fits("recipientGroupingKey", &event.reference)
            && fits("recipientNo", &event.to)
            && fits("templateCode", &event.template)
            && fits("senderGroupingKey", &event.extra)
            && fits("senderKey", &event.from)
    };
    let status = call.parameter("messageStatus");
    let fitting = candidates.into_iter().filter(|seen| status.is_none() || seen.message_status() == status.as_deref());
    let found: Vec<Value> = fitting
        .filter_map(|seen| read(call.context, seen))
        .filter(|(_, event)| wanted(event))
        .map(|(seen, event)| seen.whole(&event))
        .collect();
    let total = found.len();
    let (skip, size) = page(call);
    let messages: Vec<Value> = found.into_iter().skip(skip).take(size).collect();
    let body = json!({ "messages": messages, "totalCount": total });
    Ok(Answer::of(200, &json!({ "header": header(0), "messageSearchResultResponse": body })))
}

/// `GET …/message-results`: results that came out in the span.
pub(crate) fn results(call: &Call<'_>) -> Answer {
    let Some((from, until)) = span(call, "startUpdateDate", "endUpdateDate") else { return header_only(-4103) };
    let (skip, size) = page(call);
    let seen: Vec<Seen> = call.context.glance(|book, _| {
        let updated = book.updated(Provider::Nhn, from, until).skip(skip).take(size);
        updated.filter_map(|number| see(book, number)).collect()
    });
    let messages: Vec<Value> = seen.iter().map(Seen::short).collect();
    Answer::of(200, &json!({ "header": header(0), "messages": messages }))
}

fn page(call: &Call<'_>) -> (usize, usize) {
    let number =
        |name: &str, default: usize| call.parameter(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let size = number("pageSize", PAGE_DEFAULT).clamp(1, PAGE_MAX);
    (number("pageNum", 1).clamp(1, usize::MAX / PAGE_MAX - 1).saturating_sub(1) * size, size)
}

/// Start and end, each as the whole minute or second that is named.
fn span(call: &Call<'_>, from: &str, until: &str) -> Option<(Timestamp, Timestamp)> {
    let (from, _) = wire_time::parse_nhn(&call.parameter(from)?)?;
    let (until, seconds) = wire_time::parse_nhn(&call.parameter(until)?)?;
    let last = if seconds { 999 } else { 59_999 };
    Some((from, until + Millis(last)))
}
