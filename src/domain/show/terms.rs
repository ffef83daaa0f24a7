//! What a show offers: rows of seats at prices, and how its queue lets people in. Fixed when it is made.
//!
//! A seat is named `<section>-<number>`; numbers run from 1 through the rows of a section in their order. The names
//! `<section>-<row>-<number in the row>` and, where no section and no other row is called so, `<row>-<number in the row>`
//! mean the same seats.

use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Bytes of a title, and of the name of a section or row.
pub const TITLE_BYTES_MAX: usize = 256;
pub const PLACE_NAME_BYTES_MAX: usize = 32;
/// Rows of one show, and seats of one section: with these show and area stay within `STATE_BYTES_MAX`.
pub const ROWS_MAX: usize = 200;
pub const SECTION_SEATS_MAX: u16 = 1_500;
/// Most that one seat may cost, in minor units.
pub const PRICE_MINOR_MAX: i64 = 100_000_000;
/// Bounds of how a queue lets people in.
pub const PER_SECOND_MAX: u32 = 10_000;
pub const ACTIVE_MAX: u32 = 100_000;

/// What a show offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub title: String,
    pub rows: Vec<SeatRow>,
    pub admission: Admission,
}

/// Seats side by side, at one price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRow {
    pub section: String,
    /// Empty where the section has no rows.
    pub row: String,
    pub count: u16,
    pub price: Money,
}

/// How a queue lets people in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Nobody is admitted before.
    pub opens_at: Timestamp,
    pub per_second: u32,
    /// Admitted at one time, at most.
    pub active_max: u32,
}

/// The number of a section within its show, from 0 in the order of first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SectionNumber(pub u16);

/// A seat of a section, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeatNumber(pub u16);

/// A seat of a show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat<'a> {
    pub section: SectionNumber,
    pub number: SeatNumber,
    pub row: &'a SeatRow,
    /// From 1, within the row.
    pub in_row: u16,
}

/// Which of the terms is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TermsFault {
    #[error("the title is empty or too long")]
    Title,
    #[error("1 to 200 rows of seats")]
    Rows,
    #[error("a section or row has no name, or too long a one")]
    Name { row: u16 },
    #[error("this row is named twice")]
    Twice { row: u16 },
    #[error("a row has seats, and a section at most 1,500")]
    Count { row: u16 },
    #[error("the price is out of its range")]
    Price { row: u16 },
    #[error("1 to 10,000 a second")]
    PerSecond,
    #[error("1 to 100,000 at one time")]
    ActiveMax,
}

impl Terms {
    /// Every fault.
    #[must_use]
    pub fn faults(&self) -> Vec<TermsFault> {
        let mut faults = Vec::new();
        let mut note = |broken: bool, fault: TermsFault| faults.extend(broken.then_some(fault));
        note(self.title.is_empty() || self.title.len() > TITLE_BYTES_MAX, TermsFault::Title);
        note(!(1..=ROWS_MAX).contains(&self.rows.len()), TermsFault::Rows);
        note(!(1..=PER_SECOND_MAX).contains(&self.admission.per_second), TermsFault::PerSecond);
        note(!(1..=ACTIVE_MAX).contains(&self.admission.active_max), TermsFault::ActiveMax);
        let mut names = BTreeSet::new();
        for (row, named) in (0u16..).zip(&self.rows) {
            let long = |name: &str| name.len() > PLACE_NAME_BYTES_MAX;
            let unnamed = named.section.is_empty() || long(&named.section) || long(&named.row);
            let mine = self.rows.iter().filter(|other| other.section == named.section);
            let seats: u64 = mine.map(|other| u64::from(other.count)).sum();
            note(unnamed, TermsFault::Name { row });
            note(!names.insert((&named.section, &named.row)), TermsFault::Twice { row });
            note(named.count == 0 || seats > u64::from(SECTION_SEATS_MAX), TermsFault::Count { row });
            note(!(1..=PRICE_MINOR_MAX).contains(&named.price.minor), TermsFault::Price { row });
        }
        faults
    }

    /// Names of the sections, by their numbers.
    #[must_use]
    pub fn sections(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.section.as_str()) {
                names.push(&row.section);
            }
        }
        names
    }

    /// Seats of a section; 0 for one that there is not.
    #[must_use]
    pub fn section_seats(&self, section: SectionNumber) -> u16 {
        let sections = self.sections();
        let Some(name) = sections.get(usize::from(section.0)) else { return 0 };
        let rows = self.rows.iter().filter(|row| row.section == *name);
        rows.map(|row| row.count).fold(0, u16::saturating_add)
    }

    /// Seats in all.
    #[must_use]
    pub fn seats_total(&self) -> u32 {
        self.rows.iter().map(|row| u32::from(row.count)).sum()
    }

    /// Every seat, section by section and row by row.
    #[must_use]
    pub fn seats(&self) -> Vec<Seat<'_>> {
        let mut seats = Vec::new();
        for (section, name) in (0u16..).zip(self.sections()) {
            let mut next = 0u16;
            for row in self.rows.iter().filter(|row| row.section == name) {
                seats.extend((1..=row.count).map(|in_row| Seat {
                    section: SectionNumber(section),
                    number: SeatNumber(next + in_row - 1),
                    row,
                    in_row,
                }));
                next = next.saturating_add(row.count);
            }
        }
        seats
    }

    /// The seat of a name; `None` when there is none.
    #[must_use]
    pub fn seat(&self, name: &str) -> Option<Seat<'_>> {
        let (place, number) = name.rsplit_once('-')?;
        let plain = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        let number: u16 = number.parse().ok().filter(|_| plain)?;
        let sections = self.sections();
        if sections.contains(&place) {
            let before = |row: &&SeatRow| row.section == place;
            let mut left = number;
            for row in self.rows.iter().filter(before) {
                if left <= row.count {
                    return self.seat_of(row, left);
                }
                left -= row.count;
            }
            return None;
        }
        let full = |row: &&SeatRow| !row.row.is_empty() && format!("{}-{}", row.section, row.row) == place;
        let row = match self.rows.iter().find(full) {
            Some(row) => row,
            None => {
                let mut rows = self.rows.iter().filter(|row| row.row == place && !place.is_empty());
                rows.next().filter(|_| rows.next().is_none())?
            }
        };
        self.seat_of(row, number)
    }

    fn seat_of<'a>(&'a self, row: &'a SeatRow, in_row: u16) -> Option<Seat<'a>> {
        if !(1..=row.count).contains(&in_row) {
            return None;
        }
        let section = self.sections().iter().position(|name| *name == row.section)?;
        let mine = self.rows.iter().filter(|other| other.section == row.section);
        let before = mine.take_while(|other| other.row != row.row).map(|other| other.count);
        let number = before.fold(in_row - 1, u16::saturating_add);
        Some(Seat { section: SectionNumber(u16::try_from(section).ok()?), number: SeatNumber(number), row, in_row })
    }
}

/// `A-12`.
#[must_use]
pub fn seat_name(section: &str, number: SeatNumber) -> String {
    format!("{section}-{}", u32::from(number.0) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(section: &str, row: &str, count: u16) -> SeatRow {
        SeatRow { section: section.into(), row: row.into(), count, price: Money::krw(10) }
    }
    fn terms(rows: Vec<SeatRow>) -> Terms {
        let admission = Admission { opens_at: Timestamp(0), per_second: 1, active_max: 1 };
        Terms { title: "t".into(), rows, admission }
    }

    #[test]
    fn every_seat_has_one_name_that_finds_it_and_aliases_find_the_same() {
        let terms = terms(vec![row("A", "1", 10), row("B", "가", 3), row("A", "2", 5), row("C", "", 2)]);
        let seats = terms.seats();
        assert_eq!((seats.len(), terms.seats_total()), (20, 20));
        for seat in &seats {
            assert_eq!(terms.seat(&seat_name(&seat.row.section, seat.number)).as_ref(), Some(seat));
        }
        assert_eq!(terms.seat("A-12"), terms.seat("A-2-2"));
        assert_eq!(terms.seat("가-3"), terms.seat("B-3"));
        assert_eq!(terms.section_seats(SectionNumber(0)), 15);
        assert_eq!(terms.section_seats(SectionNumber(3)), 0);
        for none in ["A-0", "A-16", "A-01", "B-4", "A", "-1", "D-1", "A--1", "A-99999", "C--1", "1-11"] {
            assert_eq!(terms.seat(none), None, "{none}");
        }
    }

    #[test]
    fn a_row_that_is_called_like_a_section_or_twice_is_meant_by_its_full_name_alone() {
        let terms = terms(vec![row("A", "B", 2), row("B", "x", 2), row("C", "x", 2)]);
        assert_eq!(terms.seat("B-1").map(|seat| seat.section), Some(SectionNumber(1)));
        assert_eq!(terms.seat("x-1"), None);
        assert_eq!(terms.seat("C-x-2").map(|seat| seat.section), Some(SectionNumber(2)));
    }

    #[test]
    fn faults_are_named_all_at_once() {
        assert_eq!(terms(vec![row("A", "1", 1_500)]).faults(), []);
        let mut bad = terms(vec![row("", "1", 0), row("A", "1", 1_000), row("A", "1", 501)]);
        bad.rows[1].price = Money::krw(0);
        bad.admission = Admission { opens_at: Timestamp(0), per_second: 0, active_max: ACTIVE_MAX + 1 };
        let expected = [
            TermsFault::PerSecond,
            TermsFault::ActiveMax,
            TermsFault::Name { row: 0 },
            TermsFault::Count { row: 0 },
            TermsFault::Count { row: 1 },
            TermsFault::Price { row: 1 },
            TermsFault::Twice { row: 2 },
            TermsFault::Count { row: 2 },
        ];
        assert_eq!(bad.faults(), expected);
        assert_eq!(terms(Vec::new()).faults(), [TermsFault::Rows]);
    }
}
