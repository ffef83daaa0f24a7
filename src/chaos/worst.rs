//! The gifts that came off worst, each with its journal: lost ones first, then those sent twice, early, and late.

use crate::chaos::looks::Axis;
use crate::load::http::{Call, Connection, Target, bearer};
use crate::load::ledger::Arrival;
use crate::load::{HttpError, LoadError, api};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Reverse;

/// Gifts that a round's report names.
pub const WORST_MAX: usize = 10;
/// Events of a gift, and letters of an event's words, that are told.
const STEPS_MAX: usize = 40;
const WORDS_MAX: usize = 160;
/// For one gift's journal; without it the gift stands there without its timeline.
const LOOK_DEADLINE: Millis = Millis::from_secs(10);

/// A gift and what happened to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorstGift {
    pub id: String,
    /// `lost`, `doubled`, `early` or `late`.
    pub fate: String,
    /// Its instant on the round's axis, and RFC 3339.
    pub due_ms: i64,
    pub due: String,
    /// From it to the first acceptance.
    pub lateness_ms: Option<i64>,
    /// Calls that named it, and messages that a person got.
    pub requests: u64,
    pub effective: u64,
    /// Its journal, oldest first.
    pub steps: Vec<Step>,
}

/// An event of a gift.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Since its instant; negative before it.
    pub after_due_ms: i64,
    pub what: String,
}

/// The worst gifts of a round, without their journals.
#[must_use]
pub fn worst(arrivals: &[Arrival], axis: Axis) -> Vec<(WorstGift, u64)> {
    let rank = |arrival: &&Arrival| {
        let late = arrival.lateness_ms().unwrap_or(i64::MAX);
        (Reverse((arrival.effective == 0, arrival.effective > 1, late < 0)), Reverse(late))
    };
    let mut ranked: Vec<&Arrival> = arrivals.iter().collect();
    ranked.sort_by_key(rank);
    let name = |arrival: &Arrival| {
        let fate = match (arrival.effective, arrival.lateness_ms()) {
            (0, _) => "lost",
            (2.., _) => "doubled",
            (1, Some(..0)) => "early",
            (1, _) => "late",
        };
        let gift = WorstGift {
            id: arrival.gift.name(),
            fate: fate.to_owned(),
            due_ms: axis.place_ms(arrival.gift.due),
            due: arrival.gift.due.to_rfc3339(),
            lateness_ms: arrival.lateness_ms(),
            requests: arrival.requests,
            effective: arrival.effective,
            steps: Vec::new(),
        };
        (gift, arrival.gift.number)
    };
    ranked.into_iter().take(WORST_MAX).map(name).collect()
}

/// Adds the journals, as the senders may read them; a gift whose journal cannot be read has none. The `users` senders are
/// those of `bojagi load`.
pub async fn with_steps(urls: &[String], users: u32, gifts: Vec<(WorstGift, u64)>) -> Vec<WorstGift> {
    let mut told = Vec::new();
    for (mut gift, number) in gifts {
        let sender = number % u64::from(users.max(1));
        gift.steps = steps(urls, &gift, &format!("load-{sender}")).await.unwrap_or_default();
        told.push(gift);
    }
    told
}

async fn steps(urls: &[String], gift: &WorstGift, sender: &str) -> Result<Vec<Step>, LoadError> {
    const WHAT: &str = "a gift's journal";
    let http = |source: HttpError| LoadError::Http { what: WHAT, source };
    let targets = urls.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>().map_err(http)?;
    let mut node = Connection::to_any(targets, 0, LOOK_DEADLINE);
    let token = bearer(&api::token(&mut node, "user", sender).await?).map_err(http)?;
    let path = format!("/v1/gifts/{}/events?limit={STEPS_MAX}", gift.id);
    let reply = node.call(Call::get(&path).bearer(&token)).await.map_err(http)?;
    let page: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let due = Timestamp::parse_rfc3339(&gift.due);
    match (page, due) {
        (Some(page), Some(due)) if reply.status == 200 => Ok(read(&page, due)),
        (Some(_) | None, Some(_) | None) => {
            Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() })
        }
    }
}

fn read(page: &Value, due: Timestamp) -> Vec<Step> {
    let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let step = |event: &Value| {
        let at = Timestamp::parse_rfc3339(event["at"].as_str()?)?;
        Some(Step { after_due_ms: (at - due).0, what: words(event) })
    };
    items.iter().filter_map(step).collect()
}

/// Its type, then what else it says in plain values.
fn words(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap_or("event").to_owned();
    let rest =
        event.as_object().into_iter().flatten().filter(|(name, _)| !["type", "at", "version"].contains(&name.as_str()));
    let plain = rest.filter_map(|(name, value)| match value {
        Value::String(text) => Some(format!("{name} {text}")),
        Value::Number(number) => Some(format!("{name} {number}")),
        Value::Bool(true) => Some(name.clone()),
        Value::Bool(false) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    });
    let all: Vec<String> = std::iter::once(kind).chain(plain).collect();
    all.join(", ").chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ledger::Promise;
    use serde_json::json;

    fn arrival(number: u64, effective: u64, late_ms: Option<i64>) -> Arrival {
        let id = [u8::try_from(number).unwrap(); 16];
        let first_at = late_ms.map(|late| Timestamp(10_000 + late));
        Arrival { gift: Promise { id, due: Timestamp(10_000), number }, requests: effective, effective, first_at }
    }

    #[test]
    fn the_worst_come_first() {
        let mut arrivals: Vec<Arrival> =
            (10..30).map(|number| arrival(number, 1, Some(100 + i64::try_from(number).unwrap()))).collect();
        arrivals.extend([
            arrival(1, 1, Some(-3)),
            arrival(2, 2, Some(5)),
            arrival(3, 0, None),
            arrival(4, 1, Some(70_000)),
        ]);
        let found = worst(&arrivals, Axis::new(Timestamp(9_000), 0));
        let fates: Vec<_> = found.iter().map(|(gift, number)| (gift.fate.as_str(), *number)).take(5).collect();
        assert_eq!(fates, [("lost", 3), ("doubled", 2), ("early", 1), ("late", 4), ("late", 29)]);
        assert_eq!(found.len(), WORST_MAX);
        assert_eq!((found[3].0.lateness_ms, found[3].0.due_ms), (Some(70_000), 1_000));
        assert_eq!(found[3].0.id, format!("g_{}", "04".repeat(16)));
    }

    #[test]
    fn a_journal_becomes_a_timeline_of_plain_words() {
        let page = json!({ "items": [
            { "version": 1, "at": "1970-01-01T00:00:08.500Z", "type": "reserved", "amount": { "value": 1 } },
            { "version": 3, "at": "1970-01-01T00:00:10.250Z", "type": "send_started", "attempt": 1, "channel": "kakao" },
            { "at": "not an instant", "type": "x" },
        ], "next_cursor": null });
        let told: Vec<_> =
            read(&page, Timestamp(10_000)).into_iter().map(|step| (step.after_due_ms, step.what)).collect();
        let wanted = [(-1_500, "reserved"), (250, "send_started, attempt 1, channel kakao")];
        assert_eq!(told, wanted.map(|(ms, what)| (ms, what.to_owned())));
    }
}
