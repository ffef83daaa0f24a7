//! Result updates of NHN come without our reference: what is known of the names behind them, and which requests are to be
//! listed to learn the others. What failed comes first, for its gift goes on to the next channel.

use crate::providers::nhn_codes::Row;
use crate::types::call::ReportStatus;
use std::collections::{BTreeMap, BTreeSet};

/// Request and sequence number of a recipient.
type Place = (String, String);

/// Rows that wait for their names; beyond, the least urgent go. A gift without a report is believed to have arrived.
const ROWS_MAX: usize = 100_000;
/// Names that are remembered, since polls overlap; beyond, all are forgotten.
const NAMES_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Names {
    known: BTreeMap<Place, String>,
    failed: BTreeMap<Place, Row>,
    others: BTreeMap<Place, Row>,
}

impl Names {
    /// Takes the rows of an update; those that have a name, or need none any more, come back.
    pub(crate) fn take(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let mut named = Vec::new();
        for mut row in rows {
            let place = row.request_id.clone().zip(row.sequence.clone());
            let name = place.as_ref().and_then(|place| self.known.get(place)).cloned();
            match (row.reference.is_some(), name, place) {
                (false, Some(name), _) => {
                    row.reference = Some(name);
                    named.push(row);
                }
                (false, None, Some(place)) => self.keep(place, row),
                (true, _, _) | (false, None, None) => named.push(row),
            }
        }
        named
    }

    fn keep(&mut self, place: Place, row: Row) {
        let failed = matches!(row.status(), Some(ReportStatus::Failed { .. }));
        if failed {
            self.others.remove(&place);
        }
        let rows = if failed { &mut self.failed } else { &mut self.others };
        rows.insert(place, row);
        while self.failed.len() + self.others.len() > ROWS_MAX {
            let surplus = if self.others.is_empty() { &mut self.failed } else { &mut self.others };
            surplus.pop_first();
        }
    }

    /// Requests whose recipients are to be listed next, the most urgent first.
    pub(crate) fn wanted(&self, most: usize) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let requests = self.failed.keys().chain(self.others.keys()).map(|(request, _)| request);
        requests.filter(|request| seen.insert(*request)).take(most).cloned().collect()
    }

    /// The recipients of a request; its rows come back with their names, but for those that it does not list.
    pub(crate) fn learn(&mut self, request: &str, listed: Vec<Row>) -> Vec<Row> {
        if self.known.len() + listed.len() > NAMES_MAX {
            self.known.clear();
        }
        for row in listed {
            if let (Some(sequence), Some(name)) = (row.sequence, row.reference) {
                self.known.insert((request.to_owned(), sequence), name);
            }
        }
        let mut named = Vec::new();
        for rows in [&mut self.failed, &mut self.others] {
            let from = (request.to_owned(), String::new());
            let of_request = rows.range(from..).take_while(|((other, _), _)| other == request);
            let places: Vec<Place> = of_request.map(|(place, _)| place.clone()).collect();
            named.extend(places.iter().filter_map(|place| rows.remove(place)));
        }
        for row in &mut named {
            let place = row.request_id.clone().zip(row.sequence.clone());
            row.reference = place.and_then(|place| self.known.get(&place).cloned());
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
    fn what_failed_is_named_first_and_a_name_is_asked_for_once() {
        let mut known = Names::default();
        let rows =
            vec![row("A", "1", "1000", None), row("B", "1", "3019", None), row("C", "1", "1000", Some("g_3.1.1"))];
        assert_eq!(names(&known.take(rows)), [Some("g_3.1.1")]);
        assert_eq!((known.wanted(1), known.wanted(9)), (vec!["B".to_owned()], vec!["B".to_owned(), "A".to_owned()]));
        let listed = vec![row("B", "1", "3019", Some("g_2.1.1")), row("B", "2", "1000", Some("g_4.1.1"))];
        assert_eq!(names(&known.learn("B", listed)), [Some("g_2.1.1")]);
        assert_eq!(known.wanted(9), ["A"]);
        let again = vec![row("B", "2", "1000", None), row("B", "1", "3019", None)];
        assert_eq!(names(&known.take(again)), [Some("g_4.1.1"), Some("g_2.1.1")], "no request is listed twice");
        assert_eq!(names(&known.learn("A", Vec::new())), [None], "a request that lists nobody is not asked again");
        assert!(known.wanted(9).is_empty());
    }

    #[test]
    fn the_rows_that_wait_are_bounded_and_the_failed_stay_longest() {
        let mut known = Names::default();
        known.take(vec![row("Z", "1", "3019", None)]);
        known.take((0..ROWS_MAX).map(|n| row(&format!("R{n}"), "1", "1000", None)).collect());
        assert_eq!((known.failed.len(), known.others.len()), (1, ROWS_MAX - 1));
    }
}
