//! NHN Cloud KakaoTalk Bizmessage v2.3, the sending half: send and cancel.
//!
//! Facts (github TOAST-DOCS/Alimtalk, ko/alimtalk-api-guide.md, common-api-guide.md, error-code.md): an HTTP reply is
//! 200 with `header.isSuccessful`; a repeated `X-NC-API-IDEMPOTENCY-KEY` fails with -1005 for 10 minutes and replays
//! nothing; a refused recipient does not fail the call.

use crate::sandbox::context::Decision;
use crate::sandbox::event::{Disposition, Event, KeyDigest, MessageEvent, MessageNumber};
use crate::sandbox::fate::{self, PhoneRule};
use crate::sandbox::http::{Answer, Call};
use crate::sandbox::journal::JournalLost;
use crate::sandbox::settings::{NHN_APP_KEY, NHN_RECIPIENTS_MAX, NHN_SCHEDULE_AHEAD, NHN_SECRET_KEY, Provider};
use crate::sandbox::{nhn_lookup, template, wire_time};
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use http::Method;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_128;

/// Sum of the characters of all parameters (-3048).
const PARAMETER_CHARACTERS_MAX: usize = 1_300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Send<'a> {
    #[serde(borrow, default)]
    sender_key: Cow<'a, str>,
    #[serde(borrow, default)]
    template_code: Cow<'a, str>,
    #[serde(borrow, default)]
    request_date: Cow<'a, str>,
    #[serde(borrow, default)]
    sender_grouping_key: Cow<'a, str>,
    #[serde(borrow, default)]
    recipient_list: Vec<Recipient<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recipient<'a> {
    #[serde(borrow, default)]
    recipient_no: Cow<'a, str>,
    #[serde(borrow, default)]
    template_parameter: template::Parameters<'a>,
    #[serde(default)]
    resend_parameter: Resend,
    #[serde(borrow, default)]
    recipient_grouping_key: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resend {
    is_resend: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    pub result_code: i32,
    pub result_message: &'static str,
    pub is_successful: bool,
}

#[derive(Serialize)]
struct SendReply<'a> {
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<SendReplyMessage<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SendReplyMessage<'a> {
    request_id: &'a str,
    sender_grouping_key: &'a str,
    send_results: Vec<SendResult<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SendResult<'a> {
    recipient_seq: u32,
    recipient_no: &'a str,
    result_code: i32,
    result_message: &'static str,
    recipient_grouping_key: &'a str,
}

#[derive(Serialize)]
struct HeaderOnly {
    header: Header,
}

pub(crate) fn header(code: i32) -> Header {
    Header { result_code: code, result_message: message_of(code), is_successful: code == 0 }
}

fn message_of(code: i32) -> &'static str {
    match code {
        0 => "SUCCESS",
        -1000 => "Invalid appKey.",
        -1001 => "Invalid secretKey.",
        -1005 => "The same 'X-NC-API-IDEMPOTENCY-KEY' was used within the last 10 minute.",
        -1006 => "Plus friend don't have senderKey.",
        -3003 => "Template does not exist.",
        -3004 => "Please check template parameter.",
        -3005 => "Please check template status.",
        -3048 => "The template parameter is too long.",
        -4000 => "Invalid parameter",
        -4016 => "Not exist data.",
        -4103 => "RequestId or startRequestDate/endRequestDate is invalid.",
        -5000 => "RecipientNo is invalid.",
        -9997 => "Client Error.",
        -9998 => "Not exist API",
        _ => "System error. Please inquire at support@toast.com.",
    }
}

/// A reply that says no more than its header.
pub(crate) fn header_only(code: i32) -> Answer {
    Answer::of(200, &HeaderOnly { header: header(code) })
}

/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let mut parts = call.path.strip_prefix("/alimtalk/v2.3/appkeys/").unwrap_or_default().split('/');
    let (app_key, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (first, second) = (parts.next(), parts.next());
    if app_key != NHN_APP_KEY {
        return Ok(header_only(-1000));
    }
    if call.header("x-secret-key") != Some(NHN_SECRET_KEY) {
        return Ok(header_only(-1001));
    }
    match (call.method, resource, first, second) {
        (&Method::POST, "messages", None, None) => Ok(send(call)),
        (_, _, _, _) if call.turned_away().is_some() => Ok(door(call)),
        (&Method::DELETE, "messages", Some(request), None) => Ok(cancel(call, request)),
        (&Method::GET, "messages", None, None) => nhn_lookup::list(call).await,
        (&Method::GET, "messages", Some(request), Some(sequence)) => nhn_lookup::single(call, request, sequence).await,
        (&Method::GET, "message-results", None, None) => Ok(nhn_lookup::results(call)),
        (_, _, _, _) => Ok(header_only(-9998)),
    }
}

/// The ordered refusal at the door.
fn door(call: &Call<'_>) -> Answer {
    Answer::of(call.turned_away().unwrap_or(500), &HeaderOnly { header: header(-9999) })
}

fn send(call: &Call<'_>) -> Answer {
    let Ok(send) = serde_json::from_slice::<Send<'_>>(call.body) else { return header_only(-9997) };
    let key = call.header("x-nc-api-idempotency-key").map(|key| KeyDigest(xxh3_128(key.as_bytes())));
    let ((refusal, request_id, codes), mark) = call.context.decide(|decision| {
        let scheduled = schedule(&send, decision.now);
        let refusal = match (call.turned_away(), whole_refusal(&send), &scheduled) {
            (Some(status), _, _) => i32::from(status),
            (None, Some(code), _) => code,
            (None, None, Err(code)) => *code,
            (None, None, Ok(_)) if key.is_some_and(|key| decision.book.key_is_fresh(key, decision.now)) => -1005,
            (None, None, Ok(_)) => 0,
        };
        let first = decision.book.next_message();
        let request_id = request_id(decision.now, first);
        let codes = take(call, decision, &send, (refusal, key, scheduled.unwrap_or(None)));
        (refusal, request_id, codes)
    });
    if refusal > 0 {
        return door(call).after(mark);
    }
    if refusal < 0 {
        return header_only(refusal).after(mark);
    }
    reply(&send, &request_id, &codes).after(mark)
}

/// Records every recipient; returns the code of each.
fn take(
    call: &Call<'_>,
    decision: &mut Decision<'_>,
    send: &Send<'_>,
    (refusal, key, scheduled): (i32, Option<KeyDigest>, Option<Timestamp>),
) -> Vec<i32> {
    let at = decision.now;
    let mut codes = Vec::with_capacity(send.recipient_list.len());
    for (sequence, recipient) in (1u32..).zip(&send.recipient_list) {
        let disposition = match refusal {
            0 => disposition(call, recipient, at, scheduled),
            code => Disposition::NotTaken { code },
        };
        codes.push(match disposition {
            Disposition::Refused { code, .. } | Disposition::NotTaken { code } => code,
            Disposition::Accepted(_) | Disposition::Held { .. } => 0,
        });
        decision.record(&Event::Message(MessageEvent {
            provider: Provider::Nhn,
            channel: Channel::Kakao,
            reference: Cow::Borrowed(&recipient.recipient_grouping_key),
            to: Cow::Borrowed(&recipient.recipient_no),
            text: template::render(&send.template_code, &recipient.template_parameter).into(),
            title: Cow::Borrowed(""),
            from: Cow::Borrowed(&send.sender_key),
            template: Cow::Borrowed(&send.template_code),
            extra: Cow::Borrowed(&send.sender_grouping_key),
            at,
            sequence,
            key: key.filter(|_| sequence == 1 && refusal == 0),
            disposition,
        }));
    }
    codes
}

fn disposition(call: &Call<'_>, recipient: &Recipient<'_>, at: Timestamp, scheduled: Option<Timestamp>) -> Disposition {
    let to = &*recipient.recipient_no;
    let digits = to.bytes().filter(u8::is_ascii_digit).count();
    if to.len() > 15 || digits < 9 || fate::phone_rule(to) == Some(PhoneRule::RefusedOnEntry) {
        return refused(-5000);
    }
    if recipient.template_parameter.characters() > PARAMETER_CHARACTERS_MAX {
        return refused(-3048);
    }
    if recipient.recipient_grouping_key.chars().count() > 100 {
        return refused(-4000);
    }
    let mut late = None;
    if call.context.faults.any() {
        let ordered = call.context.faults.recipient(Provider::Nhn, call.path, at);
        if let Some(code) = ordered.refused {
            return refused(code.parse().unwrap_or(-3005));
        }
        late = ordered.late;
    }
    let mut fate = fate::of_message(Provider::Nhn, Channel::Kakao, to, scheduled.unwrap_or(at), late);
    fate.send_at = scheduled;
    fate.fallback = recipient.resend_parameter.is_resend;
    Disposition::Accepted(fate)
}

fn refused(code: i32) -> Disposition {
    Disposition::Refused { code, group: None }
}

/// Why nothing of the call is taken.
fn whole_refusal(send: &Send<'_>) -> Option<i32> {
    if send.recipient_list.is_empty() || send.recipient_list.len() > NHN_RECIPIENTS_MAX {
        return Some(-4000);
    }
    if send.sender_key.is_empty() || send.sender_key.chars().count() > 40 {
        return Some(-1006);
    }
    let template = &*send.template_code;
    if template.is_empty() || template.len() > 20 || template.starts_with("none_") {
        return Some(-3003);
    }
    template.starts_with("unapproved_").then_some(-3005)
}

/// The instant asked for, if it is one.
fn schedule(send: &Send<'_>, now: Timestamp) -> Result<Option<Timestamp>, i32> {
    if send.request_date.is_empty() {
        return Ok(None);
    }
    let (at, _) = wire_time::parse_nhn(&send.request_date).ok_or(-4000)?;
    if at > now + NHN_SCHEDULE_AHEAD {
        return Err(-4000);
    }
    Ok((at > now).then_some(at))
}

fn reply(send: &Send<'_>, request_id: &str, codes: &[i32]) -> Answer {
    let send_results = (1u32..).zip(send.recipient_list.iter().zip(codes));
    let send_results = send_results.map(|(recipient_seq, (recipient, code))| SendResult {
        recipient_seq,
        recipient_no: &recipient.recipient_no,
        result_code: *code,
        result_message: message_of(*code),
        recipient_grouping_key: &recipient.recipient_grouping_key,
    });
    let message = SendReplyMessage {
        request_id,
        sender_grouping_key: &send.sender_grouping_key,
        send_results: send_results.collect(),
    };
    Answer::of(200, &SendReply { header: header(0), message: Some(message) })
}

/// The id of a call: Korean date and time, and the number of its first message.
pub(crate) fn request_id(at: Timestamp, first: MessageNumber) -> String {
    format!("{:014}SBX{:08x}", wire_time::digits(at), first.0)
}

/// The first message of a call, by its id.
pub(crate) fn first_of(request_id: &str) -> Option<MessageNumber> {
    let (date, number) = request_id.split_once("SBX")?;
    (date.len() == 14 && number.len() == 8).then_some(())?;
    u32::from_str_radix(number, 16).ok().map(MessageNumber)
}

/// Cancels scheduled messages of a call, all or those named by `recipientSeq=1,2`.
fn cancel(call: &Call<'_>, request: &str) -> Answer {
    let named = call.parameter("recipientSeq");
    let chosen: Option<Vec<u32>> = named.map(|list| list.split(',').filter_map(|text| text.parse().ok()).collect());
    let (found, mark) = call.context.decide(|decision| {
        let Some(first) = first_of(request) else { return false };
        let numbers = nhn_lookup::of_call(decision.book, first, request);
        let messages: Vec<MessageNumber> = numbers
            .iter()
            .filter(|(sequence, _)| chosen.as_ref().is_none_or(|chosen| chosen.contains(sequence)))
            .filter(|(_, number)| decision.book.scheduled(*number).is_some_and(|at| decision.now < at))
            .map(|(_, number)| *number)
            .collect();
        if !messages.is_empty() {
            decision.record(&Event::Cancelled { messages });
        }
        !numbers.is_empty()
    });
    header_only(if found { 0 } else { -4016 }).after(mark)
}
