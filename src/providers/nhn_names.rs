//! Result updates of NHN come without our reference. A node remembers the names of what it sent itself; of the others it
//! asks for what failed alone, whose gifts go on to the next channel. What was delivered and has no name is left to the
//! webhooks and to the node that sent it: a gift without a report is believed to have arrived.

use crate::providers::nhn_codes::Row;
use crate::types::call::ReportStatus;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Request and sequence number of a recipient.
type Place = (String, String);

/// Failed rows that wait for their names; beyond, the oldest requests go.
const ROWS_MAX: usize = 100_000;
/// Names of a generation; two are remembered, so that of the last 100,000 messages none is forgotten.
const NAMES_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Names {
    known: HashMap<Place, String>,
    /// The generation before.
    known_before: HashMap<Place, String>,
    failed: BTreeMap<Place, Row>,
}

impl Names {
    /// A message that this node sent, by its receipt `request/sequence`.
    pub(crate) fn sent(&mut self, receipt: &str, name: &str) {
        if let Some((request, sequence)) = receipt.rsplit_once('/') {
            self.remember((request.to_owned(), sequence.to_owned()), name.to_owned());
        }
    }

    fn remember(&mut self, place: Place, name: String) {
        if self.known.len() >= NAMES_MAX {
            self.known_before = std::mem::take(&mut self.known);
        }
        self.known.insert(place, name);
    }

    fn of(&self, place: &Place) -> Option<&String> {
        self.known.get(place).or_else(|| self.known_before.get(place))
    }

    /// Delivered: what the next polls tell of it again is no news.
    fn forget(&mut self, place: &Place) {
        self.known.remove(place);
        self.known_before.remove(place);
    }

    /// Takes the rows of an update; those that have a name come back.
    pub(crate) fn take(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let mut named = Vec::new();
        for mut row in rows {
            let place = row.request_id.clone().zip(row.sequence.clone());
            let (Some(place), None, Some(status)) = (place, &row.reference, row.status()) else {
                named.extend(row.reference.is_some().then_some(row));
                continue;
            };
            let failed = matches!(status, ReportStatus::Failed { .. });
            match self.of(&place).cloned() {
                Some(name) => {
                    if !failed {
                        self.forget(&place);
                    }
                    row.reference = Some(name);
                    named.push(row);
                }
                None if failed => self.keep(place, row),
                None => {}
            }
        }
        named
    }

    fn keep(&mut self, place: Place, row: Row) {
        self.failed.insert(place, row);
        if self.failed.len() > ROWS_MAX {
            self.failed.pop_first();
        }
    }

    /// Requests whose recipients are to be listed next.
    pub(crate) fn wanted(&self, most: usize) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let requests = self.failed.keys().map(|(request, _)| request);
        requests.filter(|request| seen.insert(*request)).take(most).cloned().collect()
    }

    /// The recipients of a request; its rows come back with their names, but for those that it does not list.
    pub(crate) fn learn(&mut self, request: &str, listed: Vec<Row>) -> Vec<Row> {
        for row in listed {
            if let (Some(sequence), Some(name)) = (row.sequence, row.reference) {
                self.remember((request.to_owned(), sequence), name);
            }
        }
        let from = (request.to_owned(), String::new());
        let of_request = self.failed.range(from..).take_while(|((other, _), _)| other == request);
        let places: Vec<Place> = of_request.map(|(place, _)| place.clone()).collect();
        let mut named: Vec<Row> = places.iter().filter_map(|place| self.failed.remove(place)).collect();
        for (row, place) in named.iter_mut().zip(&places) {
            row.reference = self.of(place).cloned();
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(request: &str, sequence: &str, code: &str, name: Option<&str>) -> Row {
        let row =
            json!({ "requestId": request, "recipientSeq": sequence, "recipientGroupingKey": name, "resultCode": code });
        serde_json::from_value(row).unwrap()
    }

    fn names(rows: &[Row]) -> Vec<Option<&str>> {
        rows.iter().map(|row| row.reference.as_deref()).collect()
    }

    #[test]
    fn what_this_node_sent_has_a_name_and_is_told_as_delivered_once() {
        let mut known = Names::default();
        known.sent("A/1", "g_1.0.1");
        known.sent("A/2", "g_2.0.1");
        let rows = || vec![row("A", "1", "1000", None), row("A", "2", "3019", None), row("B", "1", "1000", None)];
        assert_eq!(names(&known.take(rows())), [Some("g_1.0.1"), Some("g_2.0.1")], "another node's is not asked for");
        assert_eq!(names(&known.take(rows())), [Some("g_2.0.1")], "a failure is told as often as it is read");
        assert!(known.wanted(9).is_empty());
        known.sent("C/1", "g_3.0.1");
        assert!(known.take(vec![row("C", "1", "4161", None)]).is_empty(), "in progress");
        assert_eq!(names(&known.take(vec![row("C", "1", "3005", None)])), [Some("g_3.0.1")]);
    }

    #[test]
    fn what_failed_without_a_name_is_asked_for_once() {
        let mut known = Names::default();
        let rows =
            vec![row("A", "1", "3018", None), row("B", "1", "3019", None), row("C", "1", "1000", Some("g_3.1.1"))];
        assert_eq!(names(&known.take(rows)), [Some("g_3.1.1")]);
        assert_eq!((known.wanted(1), known.wanted(9)), (vec!["A".to_owned()], vec!["A".to_owned(), "B".to_owned()]));
        let listed = vec![row("B", "1", "3019", Some("g_2.1.1")), row("B", "2", "1000", Some("g_4.1.1"))];
        assert_eq!(names(&known.learn("B", listed)), [Some("g_2.1.1")]);
        assert_eq!(known.wanted(9), ["A"]);
        let again = vec![row("B", "2", "1000", None), row("B", "1", "3019", None)];
        assert_eq!(names(&known.take(again)), [Some("g_4.1.1"), Some("g_2.1.1")], "no request is listed twice");
        assert_eq!(names(&known.learn("A", Vec::new())), [None], "a request that lists nobody is not asked again");
        assert!(known.wanted(9).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_last_is_not_forgotten() {
        let mut known = Names::default();
        let sent = 2 * NAMES_MAX + 2;
        (0..sent).for_each(|n| known.sent(&format!("R/{n}"), "g_1.0.1"));
        assert!(known.known.len() + known.known_before.len() <= 2 * NAMES_MAX);
        let of = |n: usize| known.of(&("R".to_owned(), n.to_string())).is_some();
        assert!(!of(0) && (sent - NAMES_MAX..sent).all(of));
        let mut known = Names::default();
        known.take((0..=ROWS_MAX).map(|n| row(&format!("R{n}"), "1", "3018", None)).collect());
        assert_eq!(known.failed.len(), ROWS_MAX);
    }
}
