//! NHN Alimtalk: replies and codes as the API writes them, and what each code means to us (docs.nhncloud.com).
//!
//! | code | of | meaning |
//! |---|---|---|
//! | 0 | request, recipient | accepted |
//! | -1005 | request | same key within 10 min: probably accepted, look up |
//! | -7000, -9999, 5xx | request | the system failed somewhere: may be accepted |
//! | -4019, -5000 | recipient | bad number: next channel |
//! | other negative | request, recipient | template, parameters, keys: no try can succeed |
//! | 1000 | result | delivered |
//! | 3005, 4000, 4001 | result | sent, receipt not confirmed: never another channel |
//! | 1020, 3008, 3018..3021 | result | this person cannot be reached by Kakao: next channel |
//! | 2001, 3000, 3006, 3010, 3012, 4131, 4143, 9998, 9999 | result | failed on their side: worth another try |
//! | 4161, MRC02 | result | in progress, or without a reason: nothing to report yet |
//! | other | result | request or template wrong: no try can succeed |

use super::http::HttpReply;
use super::wire;
use crate::types::call::{RefusalClass, Report, ReportStatus};
use crate::types::time::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Characters of all substituted values of one recipient together (-3048).
const PARAMETERS_CHARS_MAX: usize = 1_300;
/// Characters of one substituted value while the sender profile is new (-1028).
const NEW_PROFILE_CHARS_MAX: usize = 14;

/// What became of one recipient of a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placing {
    Accepted { receipt: String },
    Refused { code: String, class: RefusalClass },
    Unknown { cause: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(default, deserialize_with = "wire::scalar")]
    result_code: Option<String>,
    #[serde(default)]
    is_successful: bool,
}

#[derive(Deserialize)]
struct SendReply {
    header: Header,
    message: Option<SendMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SendMessage {
    request_id: Option<String>,
    #[serde(default)]
    send_results: Vec<SendResult>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SendResult {
    #[serde(default, deserialize_with = "wire::scalar")]
    recipient_seq: Option<String>,
    #[serde(default, deserialize_with = "wire::scalar")]
    result_code: Option<String>,
    recipient_grouping_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListReply {
    header: Header,
    message_search_result_response: Option<Rows>,
    messages: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Rows {
    #[serde(default)]
    messages: Vec<Row>,
}

/// One message, as lists, result updates and webhooks write it; each leaves some fields out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub request_id: Option<String>,
    #[serde(rename = "recipientSeq", default, deserialize_with = "wire::scalar")]
    pub sequence: Option<String>,
    #[serde(rename = "recipientGroupingKey")]
    pub reference: Option<String>,
    #[serde(default, deserialize_with = "wire::scalar")]
    result_code: Option<String>,
    message_status: Option<String>,
    resend_status: Option<String>,
    create_date: Option<String>,
    receive_date: Option<String>,
}

#[derive(Deserialize)]
struct Hooks {
    event: String,
    #[serde(default)]
    hooks: Vec<serde_json::Value>,
}

/// The code that NHN would refuse these values with.
pub(crate) fn refuse_parameters(parameters: &[(String, String)], new_profile: bool) -> Option<&'static str> {
    let mut lengths = parameters.iter().map(|(_, value)| value.chars().count());
    if lengths.clone().sum::<usize>() > PARAMETERS_CHARS_MAX {
        return Some("-3048");
    }
    (new_profile && lengths.any(|length| length > NEW_PROFILE_CHARS_MAX)).then_some("-1028")
}

/// One placing for each reference, in order. A recipient that the reply does not name is unknown, never failed.
pub(crate) fn placings(reply: &HttpReply, references: &[&str]) -> Vec<Placing> {
    let all = |placing: Placing| vec![placing; references.len()];
    if reply.is_turned_away() {
        return all(Placing::Refused { code: reply.code(&reply.status.to_string()), class: RefusalClass::Retry });
    }
    let Some(parsed) = reply.json::<SendReply>().filter(|_| reply.status < 500) else {
        return all(match reply.status {
            400..=499 => Placing::Refused { code: format!("http_{}", reply.status), class: RefusalClass::Permanent },
            status => Placing::Unknown { cause: format!("http {status}") },
        });
    };
    let code = parsed.header.result_code.unwrap_or_default();
    match parsed.message {
        Some(message) if !message.send_results.is_empty() => recipient_placings(&message, references),
        _ if parsed.header.is_successful => all(Placing::Unknown { cause: "reply names no recipient".to_owned() }),
        _ => all(request_placing(&code)),
    }
}

fn recipient_placings(message: &SendMessage, references: &[&str]) -> Vec<Placing> {
    let named: BTreeMap<&str, &SendResult> = message
        .send_results
        .iter()
        .filter_map(|result| result.recipient_grouping_key.as_deref().map(|key| (key, result)))
        .collect();
    let request_id = message.request_id.as_deref().unwrap_or("-");
    let placing = |reference: &&str| match named.get(reference) {
        Some(result) => recipient_placing(request_id, result),
        None => Placing::Unknown { cause: "reply does not name the recipient".to_owned() },
    };
    references.iter().map(placing).collect()
}

fn recipient_placing(request_id: &str, result: &SendResult) -> Placing {
    match result.result_code.as_deref() {
        Some("0") => {
            Placing::Accepted { receipt: format!("{request_id}/{}", result.recipient_seq.as_deref().unwrap_or("-")) }
        }
        Some(code) => request_placing(code),
        None => Placing::Unknown { cause: "recipient without a code".to_owned() },
    }
}

/// An API code of a request or of one recipient in it.
fn request_placing(code: &str) -> Placing {
    let refused = |class| Placing::Refused { code: code.to_owned(), class };
    match code {
        "-1005" => Placing::Unknown { cause: "-1005: same key within 10 minutes".to_owned() },
        "-9999" | "-7000" | "" => Placing::Unknown { cause: format!("system error {code}") },
        "-4019" | "-5000" => refused(RefusalClass::NextChannel),
        _ => refused(RefusalClass::Permanent),
    }
}

/// Rows of a list, or of the result updates.
///
/// # Errors
/// What kept the list from being read, without personal data.
pub(crate) fn rows(reply: &HttpReply) -> Result<Vec<Row>, String> {
    let parsed = match reply.json::<ListReply>() {
        Some(parsed) if reply.is_success() => parsed,
        _ => return Err(format!("http {}", reply.status)),
    };
    if !parsed.header.is_successful {
        return Err(format!("code {}", parsed.header.result_code.unwrap_or_default()));
    }
    Ok(parsed.message_search_result_response.map(|found| found.messages).or(parsed.messages).unwrap_or_default())
}

/// Rows of a webhook; other events than results have none.
pub(crate) fn hooks(body: &[u8]) -> Option<Vec<Row>> {
    let hooks: Hooks = serde_json::from_slice(body).ok()?;
    if hooks.event != "MESSAGE_RESULT_UPDATE" {
        return Some(Vec::new());
    }
    hooks.hooks.into_iter().map(|hook| serde_json::from_value(hook).ok()).collect()
}

impl Row {
    /// `requestId/recipientSeq`, as a send's receipt.
    pub(crate) fn receipt(&self) -> String {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
        format!("{}/{}", part(&self.request_id), part(&self.sequence))
    }

    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        wire::parse_instant(self.create_date.as_deref()?)
    }

    /// `None`: not ours, or not final yet.
    pub(crate) fn report(&self, provider: &str, now: Timestamp) -> Option<Report> {
        let reference = self.reference.as_deref().filter(|reference| wire::is_reference(reference))?;
        let status = self.status()?;
        let at = self.receive_date.as_deref().and_then(wire::parse_instant).unwrap_or(now);
        Some(Report { reference: reference.to_owned(), provider: provider.to_owned(), status, at })
    }

    /// NHN's own fallback may have been switched on in its console: while it runs the message has not failed, and
    /// once it succeeded the person was reached.
    pub(crate) fn status(&self) -> Option<ReportStatus> {
        match self.resend_status.as_deref() {
            Some("RSC04") => return Some(ReportStatus::Delivered),
            Some("RSC03") => return None,
            _ => {}
        }
        if self.message_status.as_deref() == Some("CANCEL") {
            return Some(ReportStatus::Failed { code: "CANCEL".to_owned(), class: RefusalClass::Retry });
        }
        result_status(self.result_code.as_deref()?)
    }
}

/// What a result code says; `None` while the message is in progress.
pub(crate) fn result_status(code: &str) -> Option<ReportStatus> {
    let class = match code {
        "1000" | "MRC01" => return Some(ReportStatus::Delivered),
        "3005" | "4000" | "4001" => return Some(ReportStatus::SentUnconfirmed),
        // MRC02 says "failed" without a reason, which could be 3005: wait for the code itself.
        "4161" | "MRC02" => return None,
        "1020" | "3008" | "3018" | "3019" | "3020" | "3021" => RefusalClass::NextChannel,
        "2001" | "3000" | "3006" | "3010" | "3012" | "4131" | "4143" | "9998" | "9999" => RefusalClass::Retry,
        _ => RefusalClass::Permanent,
    };
    Some(ReportStatus::Failed { code: code.to_owned(), class })
}
