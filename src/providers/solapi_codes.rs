//! Solapi v4: replies and codes as the API writes them, and what each code means to us (solapi/documents
//! `message-status-codes`).
//!
//! | code | meaning |
//! |---|---|
//! | 2000, 3000 | registered, at the carrier: nothing to report yet |
//! | 4000 | delivered |
//! | 3014, 3048 | state unknown to the carrier: sent, not confirmed |
//! | 1026, 1030, 2230, 1024, 2024, 3024, 3012, 1058, 3052, 3053, 3056, 3057, 3058, 3108 | worth another try |
//! | 1060, 1061, 2060, 2061, 3010, 3031, 3032, 3040..3047, 3050, 3051, 3054, 3055, 3102, 3104, 3107 | next channel |
//! | other | request, text or sender number wrong: no try can succeed |

use super::http::HttpReply;
use super::wire;
use crate::types::call::{MessageOutcome, RefusalClass, Report, ReportStatus};
use crate::types::time::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A member of a group, as registering it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    Taken { message_id: String },
    Refused { code: String, class: RefusalClass },
}

impl Registered {
    pub(crate) fn refusal(&self) -> Option<MessageOutcome> {
        match self {
            Self::Taken { .. } => None,
            Self::Refused { code, class } => Some(MessageOutcome::Refused { code: code.clone(), class: *class }),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    error_code: Option<String>,
}

/// A group of messages.
#[derive(Deserialize)]
pub(crate) struct Group {
    #[serde(rename = "groupId")]
    group_id: Option<String>,
    #[serde(rename = "_id")]
    inner_id: Option<String>,
    status: Option<String>,
}

impl Group {
    pub(crate) fn id(self) -> Option<String> {
        self.group_id.or(self.inner_id).filter(|id| !id.is_empty())
    }
    /// Whether its messages are on their way; `None` when the state is not one that is known.
    pub(crate) fn is_sent(&self) -> Option<bool> {
        match self.status.as_deref()? {
            "PENDING" | "DELETED" => Some(false),
            "SENDING" | "SCHEDULED" | "COMPLETE" | "COMPLETED" | "FAILED" => Some(true),
            _ => None,
        }
    }
}

/// One message of a registration, a list or a webhook; each leaves some fields out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    to: Option<String>,
    message_id: Option<String>,
    group_id: Option<String>,
    #[serde(default, deserialize_with = "wire::scalar")]
    status_code: Option<String>,
    custom_fields: Option<BTreeMap<String, serde_json::Value>>,
    date_created: Option<String>,
    date_reported: Option<String>,
    date_received: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    result_list: Option<Vec<Message>>,
    failed_message_list: Option<Vec<Message>>,
    message_list: Option<Messages>,
}

/// Lists are objects keyed by message id; some versions of the API write arrays.
#[derive(Deserialize)]
#[serde(untagged)]
enum Messages {
    Keyed(BTreeMap<String, Message>),
    Listed(Vec<Message>),
}

impl Messages {
    fn into_vec(self) -> Vec<Message> {
        match self {
            Self::Keyed(messages) => messages.into_values().collect(),
            Self::Listed(messages) => messages,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    message_list: Option<Messages>,
    next_key: Option<String>,
}

/// A reply that says no before anything was sent. Without a usable code the status decides.
pub(crate) fn definite_refusal(reply: &HttpReply) -> MessageOutcome {
    let code = reply.json::<Failure>().and_then(|failure| failure.error_code);
    let code = code.unwrap_or_else(|| format!("http_{}", reply.status));
    let class = match code.as_str() {
        // A skewed clock or a repeated signature is mended by the next signature.
        "RequestTimeTooSkewed" | "DuplicatedSignature" | "NotEnoughBalance" => RefusalClass::Retry,
        _ if reply.is_turned_away() || reply.status >= 500 || reply.is_success() => RefusalClass::Retry,
        _ => RefusalClass::Permanent,
    };
    MessageOutcome::Refused { code: reply.code(&code), class }
}

/// One entry for each number, in the order they were put into the group. `None`: the reply is not a registration.
pub(crate) fn registered(reply: &HttpReply, numbers: &[&str]) -> Option<Vec<Registered>> {
    let parsed: Registration = reply.json()?;
    if let Some(results) = parsed.result_list {
        let in_order = results.len() == numbers.len()
            && results.iter().zip(numbers).all(|(result, to)| result.to.as_deref() == Some(*to));
        return in_order.then(|| results.iter().map(registration).collect::<Option<Vec<_>>>()).flatten();
    }
    // Only the failures are listed: they are matched by number, and a number that failed failed for all its messages.
    let failed: BTreeMap<String, Message> = parsed
        .failed_message_list?
        .into_iter()
        .filter_map(|message| message.to.clone().map(|to| (to, message)))
        .collect();
    let taken: BTreeMap<String, Message> = parsed
        .message_list
        .map(Messages::into_vec)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|message| message.to.clone().map(|to| (to, message)))
        .collect();
    let one = |to: &&str| match failed.get(*to) {
        Some(message) => registration(message),
        None => {
            let id = taken.get(*to).and_then(|message| message.message_id.clone());
            Some(Registered::Taken { message_id: id.unwrap_or_else(|| "-".to_owned()) })
        }
    };
    numbers.iter().map(one).collect()
}

fn registration(message: &Message) -> Option<Registered> {
    let code = message.status_code.as_deref()?;
    if code == "2000" {
        return Some(Registered::Taken { message_id: message.message_id.clone().unwrap_or_else(|| "-".to_owned()) });
    }
    let class = match code_status(code) {
        Some(ReportStatus::Failed { class, .. }) => class,
        Some(ReportStatus::Delivered | ReportStatus::SentUnconfirmed) | None => return None,
    };
    Some(Registered::Refused { code: code.to_owned(), class })
}

/// The messages of a page and the key of the next one.
///
/// # Errors
/// What kept the page from being read, without personal data.
pub(crate) fn page(reply: &HttpReply) -> Result<(Vec<Message>, Option<String>), String> {
    let page: Option<Page> = reply.json().filter(|_| reply.is_success());
    let page = page.ok_or_else(|| format!("list: http {}", reply.status))?;
    let messages = page.message_list.map(Messages::into_vec).unwrap_or_default();
    Ok((messages, page.next_key.filter(|key| !key.is_empty())))
}

impl Message {
    pub(crate) fn reference(&self) -> Option<&str> {
        let field = self.custom_fields.as_ref()?.get("reference")?.as_str()?;
        Some(field).filter(|field| wire::is_reference(field))
    }
    pub(crate) fn group_id(&self) -> Option<&str> {
        self.group_id.as_deref()
    }
    /// `groupId/messageId`, as a send's receipt.
    pub(crate) fn receipt(&self) -> String {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
        format!("{}/{}", part(&self.group_id), part(&self.message_id))
    }
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        wire::parse_instant(self.date_created.as_deref()?)
    }
    /// Its code can only come from a group that was sent; 2000 says registered, sent or not.
    pub(crate) fn is_under_way(&self) -> bool {
        self.status_code.as_deref().is_some_and(|code| code != "2000" && !code.starts_with('1'))
    }
    /// `None`: not ours, or not final yet.
    pub(crate) fn report(&self, provider: &str, now: Timestamp) -> Option<Report> {
        let reference = self.reference()?.to_owned();
        let status = code_status(self.status_code.as_deref()?)?;
        let at = self.date_received.as_deref().or(self.date_reported.as_deref()).and_then(wire::parse_instant);
        Some(Report { reference, provider: provider.to_owned(), status, at: at.unwrap_or(now) })
    }
}

/// What a status code says; `None` while the message is under way.
pub(crate) fn code_status(code: &str) -> Option<ReportStatus> {
    let class = match code {
        "2000" | "3000" => return None,
        "4000" => return Some(ReportStatus::Delivered),
        "3014" | "3048" => return Some(ReportStatus::SentUnconfirmed),
        "1024" | "1026" | "1030" | "1058" | "2024" | "2230" | "3012" | "3024" | "3052" | "3053" | "3056" | "3057"
        | "3058" | "3108" => RefusalClass::Retry,
        "1060" | "1061" | "2060" | "2061" | "3010" | "3031" | "3032" | "3040" | "3041" | "3042" | "3043" | "3044"
        | "3045" | "3046" | "3047" | "3050" | "3051" | "3054" | "3055" | "3102" | "3104" | "3107" => {
            RefusalClass::NextChannel
        }
        _ => RefusalClass::Permanent,
    };
    Some(ReportStatus::Failed { code: code.to_owned(), class })
}
