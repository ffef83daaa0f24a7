//! What happens to a show, and what the data platform is told of it.

use super::{SectionNumber, Show, Sold, Terms};
use crate::types::codec::{self, CodecError};
use crate::types::publication::{Publication, Topic};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What happened to a show. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShowEvent {
    Created {
        at: Timestamp,
        terms: Box<Terms>,
    },
    /// `total`: of all sections.
    SeatsSold {
        at: Timestamp,
        section: SectionNumber,
        sold: Sold,
        total: u32,
    },
    /// For the first time.
    SoldOut {
        at: Timestamp,
        last_sold_at: Timestamp,
    },
}

/// What the data platform gets, of shows and of reservations.
pub const DATA_PLATFORM: Topic = Topic("data-platform-events.v1");

/// What the events of one record say on the event stream. Their topic is registered with the reservation.
///
/// # Errors
/// [`CodecError`]: the bytes are not a show's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<ShowEvent> = codec::decode(events)?;
    events.iter().map(|event| Publication::new(DATA_PLATFORM, event.describe(), &[])).collect()
}

impl ShowEvent {
    pub(super) fn describe(&self) -> Value {
        match self {
            Self::Created { at, terms } => json!({
                "type": "show_created", "at": at.to_rfc3339(), "title": terms.title, "seats": terms.seats_total(),
                "opens_at": terms.admission.opens_at.to_rfc3339(),
            }),
            Self::SeatsSold { at, section, sold, total } => json!({
                "type": "seats_sold", "at": at.to_rfc3339(), "section": section.0, "sold": sold.seats, "total": total,
            }),
            Self::SoldOut { at, last_sold_at } => json!({
                "type": "show_sold_out", "at": at.to_rfc3339(), "last_sold_at": last_sold_at.to_rfc3339(),
            }),
        }
    }

    pub(super) fn evolve(&self, slot: &mut Option<Show>) {
        match (self, slot) {
            (Self::Created { at, terms }, slot) => {
                let (sold, terms) = (vec![Sold::default(); terms.sections().len()], (**terms).clone());
                *slot = Some(Show { terms, sold, sold_out_at: None, created_at: *at, updated_at: *at });
            }
            (Self::SeatsSold { at, section, sold, .. }, Some(show)) => {
                if let Some(known) = show.sold.get_mut(usize::from(section.0)) {
                    *known = *sold;
                }
                show.updated_at = *at;
            }
            (Self::SoldOut { at, last_sold_at }, Some(show)) => {
                show.sold_out_at = Some(*last_sold_at);
                show.updated_at = *at;
            }
            (Self::SeatsSold { .. } | Self::SoldOut { .. }, None) => {}
        }
    }
}
