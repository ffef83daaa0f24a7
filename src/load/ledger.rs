//! The sandbox's ledger, read over HTTP, and what it says of a burst: arrivals, lateness, doubles, losses.

use crate::load::http::{Call, Connection};
use crate::load::report::MeasureReport;
use crate::load::{HttpError, LoadError};
use crate::types::time::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Rows asked for at a time.
const PAGE_ROWS: usize = 1_000;
/// Examples of a fault that a report names, at most.
const EXAMPLES_MAX: usize = 5;

/// One row of `GET /ledger`, as far as it is needed here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LedgerItem {
    #[serde(default)]
    pub(crate) reference: String,
    #[serde(default)]
    pub(crate) purpose: Option<String>,
    pub(crate) requests: u64,
    pub(crate) effective: u64,
    pub(crate) first_at: String,
    #[serde(default)]
    pub(crate) last_at: String,
    #[serde(default)]
    pub(crate) amount: Option<Amount>,
}

/// Money, in minor units.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Amount {
    pub(crate) value: i64,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<LedgerItem>,
    next_cursor: Option<String>,
}

/// `GET /ledger/summary`, as far as it is needed here.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) gifts_delivered: u64,
    #[serde(default)]
    pub(crate) gifts_delivered_twice: u64,
    #[serde(default)]
    pub(crate) payments: Payments,
}

/// Money that the payment provider moved.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Payments {
    pub(crate) paid: Amount,
    pub(crate) refunded: Amount,
}

pub(crate) async fn summary(sandbox: &mut Connection) -> Result<Summary, LoadError> {
    get(sandbox, "/ledger/summary", "the ledger's summary").await
}

/// Every row of one kind whose reference starts with `prefix`, page by page.
pub(crate) async fn rows(sandbox: &mut Connection, kind: &str, prefix: &str) -> Result<Vec<LedgerItem>, LoadError> {
    let base = format!("/ledger?kind={kind}&reference_prefix={prefix}&limit={PAGE_ROWS}");
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let path = match &cursor {
            Some(cursor) => format!("{base}&cursor={}", query_escaped(cursor)),
            None => base.clone(),
        };
        let page: Page = get(sandbox, &path, "the ledger").await?;
        found.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(found),
        }
    }
}

async fn get<T: serde::de::DeserializeOwned>(
    sandbox: &mut Connection,
    path: &str,
    what: &'static str,
) -> Result<T, LoadError> {
    let reply = sandbox.call(Call::get(path)).await.map_err(|source: HttpError| LoadError::Http { what, source })?;
    let unexpected = || LoadError::Reply { what, status: reply.status, body: reply.text() };
    if reply.status != 200 {
        return Err(unexpected());
    }
    serde_json::from_slice(&reply.body).map_err(|_| unexpected())
}

fn query_escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// The 16 bytes of a gift's text id, `g_` and 32 lower-case hexadecimal digits.
pub(crate) fn gift_id(text: &str) -> Option<[u8; 16]> {
    hex::decode(text.strip_prefix("g_")?).ok()?.try_into().ok()
}

/// Gift and generation of a reference `g_….<generation>.<attempt>`.
fn delivery(reference: &str) -> Option<([u8; 16], u32)> {
    let mut parts = reference.split('.');
    let id = gift_id(parts.next()?)?;
    let generation = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((id, generation))
}

/// A gift that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) id: [u8; 16],
    pub(crate) due: Timestamp,
    /// Its place in the load, from 0.
    pub(crate) number: u64,
}

impl Promise {
    /// As the API names it.
    pub(crate) fn name(&self) -> String {
        format!("g_{}", hex::encode(self.id))
    }
}

/// What the ledger shows of one gift.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) gift: Promise,
    /// Calls that named it.
    pub(crate) requests: u64,
    /// Messages that a person got.
    pub(crate) effective: u64,
    /// First effective acceptance.
    pub(crate) first_at: Option<Timestamp>,
}

impl Arrival {
    /// From its instant to the first effective acceptance, milliseconds; negative before it.
    pub(crate) fn lateness_ms(&self) -> Option<i64> {
        self.first_at.map(|at| (at - self.gift.due).0)
    }
}

/// What became of each gift, in the order of their ids. Rows of other gifts are not looked at.
pub(crate) fn arrivals(gifts: &[Promise], items: &[LedgerItem]) -> Vec<Arrival> {
    // One delivery each: a transfer or an operator's resend makes another generation, which a load never does.
    let unseen = |gift: &Promise| Arrival { gift: *gift, requests: 0, effective: 0, first_at: None };
    let mut seen: BTreeMap<[u8; 16], Arrival> = gifts.iter().map(|gift| (gift.id, unseen(gift))).collect();
    for item in items.iter().filter(|item| item.purpose.as_deref() != Some("notice")) {
        let Some((id, _generation)) = delivery(&item.reference) else { continue };
        let Some(entry) = seen.get_mut(&id) else { continue };
        entry.requests += item.requests;
        if item.effective == 0 {
            continue;
        }
        entry.effective += item.effective;
        let at = Timestamp::parse_rfc3339(&item.first_at);
        entry.first_at = [entry.first_at, at].into_iter().flatten().min();
    }
    seen.into_values().collect()
}

/// Judges a burst: each gift was to arrive once, not before its instant.
pub(crate) fn judge(arrivals: &[Arrival]) -> MeasureReport {
    let mut report = MeasureReport { gifts: arrivals.len() as u64, ..MeasureReport::default() };
    arrivals.iter().for_each(|arrival| note(&mut report, arrival));
    let mut lateness: Vec<i64> = arrivals.iter().filter_map(Arrival::lateness_ms).collect();
    lateness.sort_unstable();
    spread(&mut report, &lateness);
    report
}

fn note(report: &mut MeasureReport, entry: &Arrival) {
    report.requests += entry.requests;
    report.effective += entry.effective;
    let wrong = match entry.effective {
        0 => {
            report.lost += 1;
            "lost"
        }
        1 => {
            report.arrived += 1;
            return;
        }
        _ => {
            report.arrived += 1;
            report.doubled += 1;
            "doubled"
        }
    };
    if report.examples.len() < EXAMPLES_MAX {
        report.examples.push(format!("{wrong} {}", entry.gift.name()));
    }
}

fn spread(report: &mut MeasureReport, sorted_ms: &[i64]) {
    report.early = sorted_ms.partition_point(|late| *late < 0) as u64;
    report.beyond_minute = sorted_ms.iter().filter(|late| **late > 60_000).count() as u64;
    report.lateness_ms_min = sorted_ms.first().copied();
    report.lateness_ms_p50 = percentile(sorted_ms, 50);
    report.lateness_ms_p99 = percentile(sorted_ms, 99);
    report.last_acceptance_ms = sorted_ms.last().copied();
}

/// Nearest rank.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::Millis;

    const DUE: Timestamp = Timestamp(1_800_000_000_000);

    fn id(n: u8) -> [u8; 16] {
        [n; 16]
    }

    fn row(n: u8, attempt: u32, effective: u64, late_ms: i64) -> LedgerItem {
        LedgerItem {
            reference: format!("g_{}.0.{attempt}", hex::encode(id(n))),
            purpose: Some("gift".to_owned()),
            requests: 1,
            effective,
            first_at: Timestamp(DUE.0 + late_ms).to_rfc3339(),
            last_at: Timestamp(DUE.0 + late_ms).to_rfc3339(),
            amount: None,
        }
    }

    fn judge(ids: &[[u8; 16]], items: &[LedgerItem]) -> MeasureReport {
        let promise = |(number, id): (u64, &[u8; 16])| Promise { id: *id, due: DUE, number };
        super::judge(&arrivals(&(0..).zip(ids).map(promise).collect::<Vec<_>>(), items))
    }

    #[test]
    fn each_gift_is_late_by_its_own_instant() {
        let promise = |n, late_s| Promise { id: id(n), due: DUE + Millis::from_secs(late_s), number: n.into() };
        let found = arrivals(&[promise(2, 10), promise(1, 0)], &[row(1, 1, 1, 7), row(2, 1, 1, 10_900)]);
        let late: Vec<_> = found.iter().map(|arrival| (arrival.gift.number, arrival.lateness_ms())).collect();
        assert_eq!(late, [(1, Some(7)), (2, Some(900))]);
        assert_eq!(super::judge(&found).last_acceptance_ms, Some(900));
    }

    #[test]
    fn a_clean_burst_shows_its_spread() {
        let gifts: Vec<[u8; 16]> = (1..=100).map(id).collect();
        let items: Vec<LedgerItem> = (1..=100).map(|n| row(n, 1, 1, i64::from(n) * 10)).collect();
        let report = judge(&gifts, &items);
        assert_eq!((report.gifts, report.arrived, report.lost, report.doubled, report.early), (100, 100, 0, 0, 0));
        assert_eq!((report.lateness_ms_p50, report.lateness_ms_p99), (Some(500), Some(990)));
        assert_eq!((report.lateness_ms_min, report.last_acceptance_ms), (Some(10), Some(1_000)));
        assert!(report.passed());
    }

    #[test]
    fn a_gift_on_two_channels_is_doubled() {
        let report = judge(&[id(1)], &[row(1, 1, 1, 5), row(1, 2, 1, 9)]);
        assert_eq!((report.arrived, report.doubled, report.effective), (1, 1, 2));
        assert_eq!(report.last_acceptance_ms, Some(5));
        assert!(!report.passed());
    }

    #[test]
    fn an_attempt_without_effect_is_no_arrival() {
        let lost = judge(&[id(1)], &[row(1, 1, 0, 5)]);
        assert_eq!((lost.lost, lost.requests, lost.last_acceptance_ms), (1, 1, None));
        assert_eq!(lost.examples, [format!("lost g_{}", hex::encode(id(1)))]);
        let retried = judge(&[id(1)], &[row(1, 1, 0, 5), row(1, 2, 1, 10_005)]);
        assert_eq!((retried.lost, retried.requests, retried.last_acceptance_ms), (0, 2, Some(10_005)));
    }

    #[test]
    fn an_early_or_very_late_arrival_fails() {
        let report = judge(&[id(1), id(2)], &[row(1, 1, 1, -1), row(2, 1, 1, 60_001)]);
        assert_eq!((report.early, report.beyond_minute), (1, 1));
        assert!(!report.passed());
    }

    #[test]
    fn others_gifts_notices_and_foreign_references_are_left_out() {
        let mut notice = row(1, 1, 1, 5);
        notice.purpose = Some("notice".to_owned());
        let mut foreign = row(1, 1, 1, 5);
        foreign.reference = "g_short.0.1".to_owned();
        let report = judge(&[id(1)], &[row(9, 1, 1, 5), notice, foreign]);
        assert_eq!((report.gifts, report.requests, report.lost), (1, 0, 1));
    }

    #[test]
    fn cursors_are_escaped() {
        assert_eq!(query_escaped("a+b/c=1"), "a%2Bb%2Fc%3D1");
    }
}
