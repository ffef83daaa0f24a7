//! A show: what it offers, and how many of its seats are sold (ADR-12).
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Create | on sale from `opens_at` on |
//! | any | Report of an area, newer than the last | its count of sold seats |
//! | a seat left | Report that leaves none | sold out, for good: it keeps its place in the ranking whatever is cancelled later |
//!
//! The seats themselves are the areas' (one for each section), the crowd is the queue's, a seat's buyer is the
//! reservation's. What an area reports comes late, never wrong: a show counts, it does not decide.

mod event;
mod terms;
#[cfg(test)]
mod tests;

pub use event::{DATA_PLATFORM, ShowEvent, publications};
pub use terms::{
    ACTIVE_MAX, Admission, PER_SECOND_MAX, PLACE_NAME_BYTES_MAX, PRICE_MINOR_MAX, ROWS_MAX, SECTION_SEATS_MAX, Seat,
    SeatNumber, SeatRow, SectionNumber, TITLE_BYTES_MAX, Terms, TermsFault, seat_name,
};

use super::entity::{Decision, Entity};
use super::kinds;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, IndexWant, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What may be asked of a show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShowCommand {
    Create(Box<Terms>),
    Report(SoldReport),
    /// Made by the runtime for a timer, an outcome or a report; a show wants none.
    Unwanted,
}

/// How many seats of a section are sold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sold {
    /// Counts the area's changes: a report that is not newer says nothing.
    pub revision: u32,
    pub seats: u16,
    /// When the last of them was sold for the first time.
    pub full_at: Option<Timestamp>,
}

/// An area's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoldReport {
    pub section: SectionNumber,
    pub sold: Sold,
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ShowRejection {
    #[error("no such show")]
    NotFound,
    #[error("the show exists already")]
    AlreadyExists,
    #[error("{0}")]
    BadTerms(TermsFault),
    #[error("not a command of a show")]
    NotWanted,
}

/// A show, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowState {
    show: Option<Show>,
}

/// An existing show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Show {
    pub terms: Terms,
    /// By section.
    pub sold: Vec<Sold>,
    pub sold_out_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ShowState {
    /// `None` when it does not exist.
    #[must_use]
    pub fn get(&self) -> Option<&Show> {
        self.show.as_ref()
    }
}

impl Show {
    /// Seats that are paid for, as the areas reported.
    #[must_use]
    pub fn sold_total(&self) -> u32 {
        self.sold.iter().map(|sold| u32::from(sold.seats)).sum()
    }

    /// Stable name of where it stands, for the front door.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> &'static str {
        if self.sold_total() == self.terms.seats_total() {
            "sold_out"
        } else if now < self.terms.admission.opens_at {
            "scheduled"
        } else {
            "open"
        }
    }

    /// From its opening to its last seat, once it was sold out.
    #[must_use]
    pub fn sold_out_after(&self) -> Option<Millis> {
        self.sold_out_at.map(|at| (at - self.terms.admission.opens_at).max(Millis(0)))
    }
}

/// A part of a show, or of what belongs to one: `purpose` tells the sorts apart.
pub(crate) fn key_of(kind: EntityKind, purpose: &[u8], show: EntityKey, part: &[u8]) -> EntityKey {
    let digest = Sha256::new().chain_update(purpose).chain_update(show.to_bytes()).chain_update(part).finalize();
    let mut id = [0u8; 16];
    id.copy_from_slice(&digest[..16]);
    EntityKey { kind, id }
}

/// The show as an entity kind.
pub struct ShowEntity;

type Decided = Result<Vec<ShowEvent>, ShowRejection>;

impl ShowEntity {
    fn create(state: &ShowState, terms: Terms, at: &At) -> Decided {
        if state.get().is_some() {
            return Err(ShowRejection::AlreadyExists);
        }
        match terms.faults().first() {
            Some(fault) => Err(ShowRejection::BadTerms(*fault)),
            None => Ok(vec![ShowEvent::Created { at: at.now, terms: Box::new(terms) }]),
        }
    }

    fn report(show: &Show, report: SoldReport, at: &At) -> Decided {
        let SoldReport { section, sold } = report;
        let known = show.sold.get(usize::from(section.0)).ok_or(ShowRejection::NotWanted)?;
        if sold.revision <= known.revision {
            return Ok(Vec::new());
        }
        if sold.seats > show.terms.section_seats(section) {
            return Err(ShowRejection::NotWanted);
        }
        let mut after = show.sold.clone();
        after[usize::from(section.0)] = sold;
        let total = after.iter().map(|sold| u32::from(sold.seats)).sum();
        let mut events = vec![ShowEvent::SeatsSold { at: at.now, section, sold, total }];
        let full: Option<Vec<Timestamp>> = after.iter().map(|sold| sold.full_at).collect();
        if let Some(last) = full.and_then(|full| full.into_iter().max())
            && show.sold_out_at.is_none()
            && total == show.terms.seats_total()
        {
            events.push(ShowEvent::SoldOut { at: at.now, last_sold_at: last });
        }
        Ok(events)
    }
}

impl Entity for ShowEntity {
    type State = ShowState;
    type Command = ShowCommand;
    type Event = ShowEvent;
    type Rejection = ShowRejection;
    const KIND: EntityKind = kinds::SHOW;
    const PREFIX: &'static str = "sh";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        _key: EntityKey,
        state: &ShowState,
        command: ShowCommand,
        at: &At,
    ) -> Result<Decision<ShowEvent>, ShowRejection> {
        let events = match command {
            ShowCommand::Create(terms) => Self::create(state, *terms, at)?,
            ShowCommand::Report(report) => Self::report(state.get().ok_or(ShowRejection::NotFound)?, report, at)?,
            ShowCommand::Unwanted => return Err(ShowRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut ShowState, event: &ShowEvent) {
        event.evolve(&mut state.show);
    }

    /// Always at rest: a show holds nothing and waits for nothing.
    fn wants(key: EntityKey, state: &ShowState) -> Effects {
        let Some(show) = state.get() else { return Effects::default() };
        let newest_first = u64::MAX - u64::try_from(show.created_at.0).unwrap_or(0);
        let row = |index, place: u64| {
            let key = [place.to_be_bytes().as_slice(), &key.id].concat();
            IndexWant { index, key, unique: false }
        };
        let mut indexes = vec![row(kinds::INDEX_SHOW, newest_first)];
        let rank = show.sold_out_after().map(|span| u64::try_from(span.0).unwrap_or(0));
        indexes.extend(rank.map(|span| row(kinds::INDEX_SHOW_RANKING, span)));
        Effects { indexes, terminal: true, ..Effects::default() }
    }

    fn sealed(_state: &ShowState) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &ShowState, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> ShowCommand {
        ShowCommand::Unwanted
    }
    fn attempt_command(_start: AttemptStart) -> ShowCommand {
        ShowCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> ShowCommand {
        ShowCommand::Unwanted
    }
    fn report_command(_report: Report) -> ShowCommand {
        ShowCommand::Unwanted
    }
    fn describe(event: &ShowEvent) -> serde_json::Value {
        event.describe()
    }
}
