//! The body of a show, checked member by member, all faults at once.

use crate::api::commerce::read_price;
use crate::api::extract::JsonBody;
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::domain::show::{Admission, PLACE_NAME_BYTES_MAX, ROWS_MAX, SeatRow, TITLE_BYTES_MAX, Terms, TermsFault};
use crate::types::money::Money;
use crate::types::text::TextRule;
use crate::types::time::Timestamp;

const TITLE: TextRule =
    TextRule { graphemes_max: 100, bytes_max: TITLE_BYTES_MAX, multi_line: false, may_be_empty: false };
/// The name of a section or row.
const PLACE: TextRule =
    TextRule { graphemes_max: 20, bytes_max: PLACE_NAME_BYTES_MAX, multi_line: false, may_be_empty: false };

/// Reads `POST /v1/shows`, and its canonical form.
///
/// # Errors
/// [`Code::MalformedJson`], or every fault at once.
pub fn read_show(body: &JsonBody) -> Result<(Terms, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let title = root.required_text("title").and_then(|text| named(&root, "title", TITLE, &text));
    let opens_at = root.required_text("opens_at").and_then(|text| {
        let at = Timestamp::parse_rfc3339(&text);
        if at.is_none() {
            root.fault("opens_at", "invalid_instant", "An RFC 3339 instant, 2026-12-25T00:00:00Z.");
        }
        at
    });
    let rows = root.required_objects("seats", ROWS_MAX);
    let read = |(number, object)| read_row(number, object);
    let rows: Option<Vec<(SeatRow, bool)>> = rows.map(|rows| rows.into_iter().enumerate().map(read).collect());
    let (per_second, active_max) = (count(&mut root, "admission_per_second"), count(&mut root, "active_max"));
    root.done();
    let is_whole = title.is_some() && opens_at.is_some() && per_second.is_some() && active_max.is_some();
    let is_whole = is_whole && rows.as_ref().is_some_and(|rows| rows.iter().all(|(_, is_whole)| *is_whole));
    // What does not read is stood in for by what has no fault, so that the rest is judged all the same.
    let terms = Terms {
        title: title.unwrap_or_else(|| "-".to_owned()),
        rows: rows.unwrap_or_default().into_iter().map(|(row, _)| row).collect(),
        admission: Admission {
            opens_at: opens_at.unwrap_or(Timestamp(0)),
            per_second: per_second.unwrap_or(1),
            active_max: active_max.unwrap_or(1),
        },
    };
    for fault in terms.faults() {
        faults.add_new(terms_pointer(fault), "out_of_range", format!("Not acceptable: {fault}."));
    }
    faults.check()?;
    if is_whole { Ok((terms, canonical)) } else { Err(Problem::new(Code::Internal)) }
}

/// The member of a show's body that a fault is about.
#[must_use]
pub fn terms_pointer(fault: TermsFault) -> String {
    match fault {
        TermsFault::Title => "/title".to_owned(),
        TermsFault::Rows => "/seats".to_owned(),
        TermsFault::Name { row } => format!("/seats/{row}/section"),
        TermsFault::Twice { row } => format!("/seats/{row}/row"),
        TermsFault::Count { row } => format!("/seats/{row}/count"),
        TermsFault::Price { row } => format!("/seats/{row}/price/value"),
        TermsFault::PerSecond => "/admission_per_second".to_owned(),
        TermsFault::ActiveMax => "/active_max".to_owned(),
    }
}

fn named(object: &Object<'_>, name: &str, rule: TextRule, text: &str) -> Option<String> {
    match rule.check(text) {
        Ok(text) => Some(text),
        Err(fault) => {
            object.fault(name, fault.code(), format!("This {fault}."));
            None
        }
    }
}

fn count<T: TryFrom<i64>>(object: &mut Object<'_>, name: &str) -> Option<T> {
    let number = T::try_from(object.required_integer(name)?).ok();
    if number.is_none() {
        object.fault(name, "out_of_range", "This number is out of its range.");
    }
    number
}

/// A row, and whether all of it reads; what does not is stood in for by what has no fault and is like no other row's.
fn read_row(number: usize, mut object: Object<'_>) -> (SeatRow, bool) {
    let section = object.required_text("section").and_then(|text| named(&object, "section", PLACE, &text));
    // A row may be called by a number, and a section may have none.
    let row = match object.take("row") {
        None => Some(String::new()),
        Some(serde_json::Value::String(text)) => named(&object, "row", PLACE, &text),
        Some(serde_json::Value::Number(number)) if number.is_u64() => Some(number.to_string()),
        Some(_) => {
            object.fault("row", "wrong_type", "A string or a whole number is expected here.");
            None
        }
    };
    let seats = count(&mut object, "count");
    let price = object.required_object("price").and_then(read_price);
    object.done();
    let is_whole = section.is_some() && row.is_some() && seats.is_some() && price.is_some();
    // No name that reads has a control character.
    let nameless = || format!("\u{1}{number}");
    let row = SeatRow {
        section: section.unwrap_or_else(nameless),
        row: row.unwrap_or_else(nameless),
        count: seats.unwrap_or(1),
        price: price.unwrap_or(Money::krw(1)),
    };
    (row, is_whole)
}
