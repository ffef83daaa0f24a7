//! For people and tests, beside the providers' paths: the ledger, the faults, and the console.

use crate::sandbox::console;
use crate::sandbox::context::Context;
use crate::sandbox::event::{Event, MessageEvent};
use crate::sandbox::faults::FaultOrder;
use crate::sandbox::http::{Answer, Call, Content};
use crate::sandbox::journal::{FrameAt, JournalLost};
use crate::sandbox::ledger::{Item, Kind, Reference};
use crate::sandbox::settings::{LEDGER_PAGE_MAX, Provider};
use crate::types::effect::Channel;
use crate::types::money::Currency;
use crate::types::time::Timestamp;
use http::Method;
use serde_json::{Value, json};

const PAGE_DEFAULT: usize = 20;

/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, JournalLost> {
    match (call.method, call.path) {
        (&Method::GET, "/") => console::page(call).await,
        (&Method::GET, "/ledger") => ledger(call).await,
        (&Method::GET, "/ledger/summary") => Ok(summary(call)),
        (&Method::GET, "/faults") => Ok(faults(call)),
        (&Method::POST, "/faults") => Ok(order(call)),
        (&Method::DELETE, "/faults") => Ok(cleared(call.context.faults.clear(None))),
        (&Method::DELETE, path) if path.starts_with("/faults/") => {
            let id = path.trim_start_matches("/faults/").parse().ok();
            Ok(match id.map(|id| call.context.faults.clear(Some(id))) {
                Some(1..) => cleared(1),
                Some(0) | None => problem(404, "not_found", "There is no such fault."),
            })
        }
        (&Method::GET, "/healthz") => Ok(Answer::of(200, &json!({ "status": "ok" }))),
        (_, "/" | "/ledger" | "/ledger/summary" | "/faults" | "/healthz") => {
            Ok(problem(405, "method_not_allowed", "This path does not take this method."))
        }
        (_, _) => Ok(problem(404, "not_found", "Neither a provider's path nor one of the sandbox's own.")),
    }
}

/// An RFC 9457 problem document.
fn problem(status: u16, code: &str, detail: &str) -> Answer {
    let body = json!({
        "type": format!("urn:bojagi:sandbox:{code}"), "title": code, "status": status, "code": code, "detail": detail,
    });
    let mut answer = Answer::of(status, &body);
    answer.content = Content::Problem;
    answer
}

fn cleared(count: usize) -> Answer {
    Answer::of(200, &json!({ "cleared": count }))
}

fn faults(call: &Call<'_>) -> Answer {
    let items = call.context.faults.list(call.context.clock.now());
    Answer::of(200, &json!({ "items": items, "next_cursor": null }))
}

fn order(call: &Call<'_>) -> Answer {
    let order = match serde_json::from_slice::<FaultOrder>(call.body) {
        Ok(order) => order,
        Err(error) => return problem(400, "malformed", &error.to_string()),
    };
    match call.context.faults.order(order, call.context.clock.now()) {
        Ok(fault) => Answer::of(201, &fault),
        Err(error) => problem(400, "invalid_fault", &error.to_string()),
    }
}

fn money(won: i64) -> Value {
    json!({ "value": won, "currency": Currency::KRW.code() })
}

fn summary(call: &Call<'_>) -> Answer {
    let summary = call.context.glance(|book, _| book.ledger.summary());
    Answer::of(
        200,
        &json!({
            "messages": {
                "requests": summary.requests,
                "effective": summary.effective,
                "references": summary.references,
                "doubled": summary.doubled,
            },
            "payments": { "paid": money(summary.paid), "refunded": money(summary.refunded) },
            "gift_calls": summary.gift_calls,
            "gifts_delivered": summary.delivered,
            "gifts_delivered_twice": summary.delivered_twice,
        }),
    )
}

/// An item of the ledger, copied out of the book.
pub(crate) struct Seen {
    pub kind: Kind,
    pub provider: Provider,
    pub channel: Option<Channel>,
    pub reference: String,
    pub requests: u32,
    pub effective: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    amount: i64,
    frame: FrameAt,
}

impl From<&Item> for Seen {
    fn from(item: &Item) -> Self {
        Self {
            kind: item.kind,
            provider: item.provider,
            channel: item.channel,
            reference: item.reference.to_string(),
            requests: item.requests,
            effective: item.effective,
            first_at: item.first_at,
            last_at: item.last_at,
            amount: item.amount,
            frame: item.frame,
        }
    }
}

impl Seen {
    /// Address and text, from the journal. Payments have none.
    pub(crate) fn read(&self, context: &Context) -> Option<MessageEvent<'static>> {
        match context.read(self.frame) {
            Ok(Event::Message(event)) => Some(event),
            Ok(_) | Err(_) => None,
        }
    }

    fn json(&self, context: &Context) -> Value {
        let event = match self.kind {
            Kind::Message => self.read(context),
            Kind::Payment | Kind::Refund | Kind::Shipment => None,
        };
        json!({
            "kind": self.kind.name(),
            "provider": self.provider.name(),
            "channel": self.channel.map(Channel::name),
            "reference": self.reference,
            "purpose": Reference::parse(&self.reference).purpose(),
            "to": event.as_ref().map(|event| &event.to),
            "text": event.as_ref().map(whole_text),
            "requests": self.requests,
            "effective": self.effective,
            "first_at": self.first_at.to_rfc3339(),
            "last_at": self.last_at.to_rfc3339(),
            "amount": match self.kind {
                Kind::Payment | Kind::Refund => money(self.amount),
                Kind::Message | Kind::Shipment => Value::Null,
            },
        })
    }
}

/// What a person reads: the title, if there is one, above the text.
fn whole_text(event: &MessageEvent<'_>) -> String {
    if event.title.is_empty() { event.text.to_string() } else { format!("{}\n{}", event.title, event.text) }
}

/// `GET /ledger?kind=&reference_prefix=&cursor=&limit=`.
async fn ledger(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let kind = match call.parameter("kind").filter(|kind| !kind.is_empty()) {
        None => None,
        Some(name) => match Kind::parse(&name) {
            Some(kind) => Some(kind),
            None => return Ok(problem(400, "invalid_kind", "kind must be message, payment, refund or shipment.")),
        },
    };
    let from = match call.parameter("cursor").filter(|cursor| !cursor.is_empty()) {
        None => 0,
        Some(cursor) => match u32::from_str_radix(&cursor, 16) {
            Ok(from) => from,
            Err(_not_ours) => return Ok(problem(400, "invalid_cursor", "This cursor is not one of ours.")),
        },
    };
    let limit = call.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_DEFAULT);
    let limit = usize::clamp(limit, 1, LEDGER_PAGE_MAX);
    let prefix = call.parameter("reference_prefix").unwrap_or_default();
    let (seen, next) = call
        .context
        .look(|book, _| {
            let (items, next) = book.ledger.page(kind, &prefix, from, limit);
            (items.into_iter().map(Seen::from).collect::<Vec<_>>(), next)
        })
        .await?;
    let items: Vec<Value> = seen.iter().map(|seen| seen.json(call.context)).collect();
    Ok(Answer::of(200, &json!({ "items": items, "next_cursor": next.map(|next| format!("{next:x}")) })))
}
