//! Firebase Cloud Messaging HTTP v1, and the OAuth2 token endpoint that its clients ask first.
//!
//! Facts (firebase error-codes, throttling-and-quotas; npm @googleapis/fcm): the reply names the message; there is no
//! idempotency and no lookup, so each accepted call is an effective push; errors come as `error{code,status,details}`.

use crate::sandbox::event::{Disposition, Event, Fate, MessageEvent};
use crate::sandbox::http::{Answer, Call};
use crate::sandbox::journal::JournalLost;
use crate::sandbox::settings::Provider;
use crate::types::effect::Channel;
use http::Method;
use serde_json::{Value, json};

/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) fn answer(call: &Call<'_>) -> Result<Answer, JournalLost> {
    if call.method != Method::POST {
        return Ok(failure(404, "NOT_FOUND", "Requested entity was not found."));
    }
    if call.path == "/token" {
        let token = json!({ "access_token": "sandbox", "expires_in": 3599, "token_type": "Bearer" });
        return Ok(match call.turned_away() {
            Some(status) => failure(status, "UNAVAILABLE", "The service is currently unavailable."),
            None => Answer::of(200, &token),
        });
    }
    let project = call.path.strip_prefix("/v1/projects/").and_then(|rest| rest.strip_suffix("/messages:send"));
    let Some(project) = project else { return Ok(failure(404, "NOT_FOUND", "Requested entity was not found.")) };
    let bearer = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if bearer.is_none_or(|token| token.trim().is_empty()) {
        return Ok(failure(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."));
    }
    Ok(send(call, project))
}

/// The error envelope; messaging errors carry a detail of their own.
fn failure(status: u16, code: &str, message: &str) -> Answer {
    let name = match (status, code) {
        (404, _) => "NOT_FOUND",
        (403, _) => "PERMISSION_DENIED",
        (429, _) => "RESOURCE_EXHAUSTED",
        (503, _) => "UNAVAILABLE",
        (500..=599, _) => "INTERNAL",
        (_, code) => code,
    };
    let detail = json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code });
    let error = json!({ "code": status, "message": message, "status": name, "details": [detail] });
    Answer::of(status, &json!({ "error": error }))
}

fn send(call: &Call<'_>, project: &str) -> Answer {
    let body: Value = serde_json::from_slice(call.body).unwrap_or_default();
    let message = &body["message"];
    let to = text_at(message, "/token").or_else(|| text_at(message, "/topic")).unwrap_or_default();
    if to.is_empty() {
        return failure(400, "INVALID_ARGUMENT", "Recipient of the message is not set.");
    }
    if body["validateOnly"].as_bool().unwrap_or(false) {
        return Answer::of(200, &json!({ "name": format!("projects/{project}/messages/fake_message_id") }));
    }
    let now = call.context.clock.now();
    let refusal = match call.turned_away() {
        Some(429) => Some((429, "QUOTA_EXCEEDED".to_owned())),
        Some(503) => Some((503, "UNAVAILABLE".to_owned())),
        Some(status) => Some((status, "INTERNAL".to_owned())),
        None => refusal(to).map(|(status, code)| (status, code.to_owned())).or_else(|| ordered_refusal(call, now)),
    };
    let disposition = match &refusal {
        Some((status, _)) => Disposition::NotTaken { code: i32::from(*status) },
        None => Disposition::Accepted(Fate { reached: true, ..Fate::default() }),
    };
    let (number, mark) = call.context.decide(|decision| {
        let number = decision.book.next_message();
        decision.record(&Event::Message(MessageEvent {
            provider: Provider::Fcm,
            channel: Channel::Push,
            reference: reference(message).into(),
            to: to.into(),
            text: text(message).into(),
            title: text_at(message, "/notification/title").unwrap_or_default().into(),
            from: project.into(),
            template: "".into(),
            extra: "".into(),
            at: decision.now,
            sequence: 1,
            key: None,
            disposition,
        }));
        number
    });
    match refusal {
        Some((status, code)) => failure(status, &code, "The message was not sent.").after(mark),
        None => {
            let name = format!("projects/{project}/messages/0:{}%{:08x}", now.0, number.0);
            Answer::of(200, &json!({ "name": name })).after(mark)
        }
    }
}

fn ordered_refusal(call: &Call<'_>, now: crate::types::time::Timestamp) -> Option<(u16, String)> {
    let code = call.context.faults.recipient(Provider::Fcm, call.path, now).refused?;
    let code = if code.is_empty() { "UNREGISTERED".to_owned() } else { code };
    let status = match code.as_str() {
        "UNREGISTERED" => 404,
        "SENDER_ID_MISMATCH" => 403,
        "THIRD_PARTY_AUTH_ERROR" => 401,
        _ => 400,
    };
    Some((status, code))
}

/// Tokens that are not what they should be.
fn refusal(token: &str) -> Option<(u16, &'static str)> {
    let rules = [
        ("unregistered", 404, "UNREGISTERED"),
        ("invalid", 400, "INVALID_ARGUMENT"),
        ("mismatch", 403, "SENDER_ID_MISMATCH"),
    ];
    let found = rules.into_iter().find(|(prefix, _, _)| token.starts_with(prefix));
    found.map(|(_, status, code)| (status, code))
}

fn text_at<'a>(message: &'a Value, pointer: &str) -> Option<&'a str> {
    message.pointer(pointer).and_then(Value::as_str)
}

/// Our correlation id: `data.reference`, else one of the fields that replace an older notification.
fn reference(message: &Value) -> &str {
    let places = [
        "/data/reference",
        "/android/notification/tag",
        "/android/collapse_key",
        "/android/collapseKey",
        "/apns/headers/apns-collapse-id",
        "/webpush/notification/tag",
    ];
    places.into_iter().find_map(|place| text_at(message, place)).unwrap_or_default()
}

/// Body of the notification, then every link among the data.
fn text(message: &Value) -> String {
    let mut text = text_at(message, "/notification/body").unwrap_or_default().to_owned();
    let links = message["data"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
    for link in
        links.filter(|value| crate::sandbox::template::is_link(value) && !text.contains(value)).collect::<Vec<_>>()
    {
        text.push('\n');
        text.push_str(link);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_and_text_are_found_where_clients_put_them() {
        let message = json!({
            "token": "t",
            "notification": { "title": "a", "body": "b" },
            "data": { "link": "https://x/g/1" },
            "android": { "notification": { "tag": "g_1.n.2.0" } },
        });
        assert_eq!(reference(&message), "g_1.n.2.0");
        assert_eq!(text(&message), "b\nhttps://x/g/1");
        assert_eq!(reference(&json!({ "data": { "reference": "r" }, "android": { "collapse_key": "k" } })), "r");
        assert_eq!(reference(&Value::Null), "");
    }

    #[test]
    fn tokens_decide() {
        assert_eq!(refusal("unregistered-1"), Some((404, "UNREGISTERED")));
        assert_eq!(refusal("abc"), None);
    }
}
