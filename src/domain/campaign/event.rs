//! What happens to a campaign, and what the event stream says of it. Members are not named there: a request is known by
//! its ticket, which the coupon's own events carry too.

use super::{Campaign, Division, Granted, NewPart, Terms};
use crate::domain::coupon::Ticket;
use crate::domain::kinds;
use crate::types::codec::{self, CodecError};
use crate::types::publication::{Publication, Topic};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What happened to a campaign. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CampaignEvent {
    Created {
        at: Timestamp,
        terms: Box<Terms>,
    },
    /// A claim was taken up: a ticket goes to the member's coupon.
    Granted {
        slot: u16,
        grant: Box<Granted>,
    },
    /// These coupons exist. `total`: all of the campaign's.
    Issued {
        at: Timestamp,
        tickets: Vec<Ticket>,
        total: u32,
        quantity: u32,
    },
    /// The member had a coupon already: the place is free again.
    Released {
        at: Timestamp,
        ticket: Ticket,
    },
    /// Every coupon exists.
    SoldOut {
        at: Timestamp,
    },
    Opened {
        at: Timestamp,
    },
    Closed {
        at: Timestamp,
        issued: u32,
    },
    /// As `Created`, in parts with these homes.
    CreatedWhole {
        at: Timestamp,
        terms: Box<Terms>,
        homes: Vec<u64>,
    },
    /// The beginning of a part.
    CreatedPart {
        at: Timestamp,
        part: Box<NewPart>,
    },
    PartMade {
        at: Timestamp,
        number: u8,
    },
}

const REQUEST: Topic = Topic("coupon-request.v1");
const FAILED: Topic = Topic("coupon-failed.v1");
const INVENTORY: Topic = Topic("coupon-inventory.v1");

/// The topics that a campaign's events are published under.
pub const TOPICS: [Topic; 3] = [REQUEST, FAILED, INVENTORY];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not a campaign's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<CampaignEvent> = codec::decode(events)?;
    let topic = |event: &CampaignEvent| match event {
        CampaignEvent::Granted { .. } => REQUEST,
        CampaignEvent::Released { .. } => FAILED,
        CampaignEvent::Created { .. }
        | CampaignEvent::Issued { .. }
        | CampaignEvent::SoldOut { .. }
        | CampaignEvent::Opened { .. }
        | CampaignEvent::Closed { .. }
        | CampaignEvent::CreatedWhole { .. }
        | CampaignEvent::CreatedPart { .. }
        | CampaignEvent::PartMade { .. } => INVENTORY,
    };
    events.iter().map(|event| Publication::new(topic(event), event.describe(), &[])).collect()
}

impl CampaignEvent {
    pub(super) fn describe(&self) -> Value {
        match self {
            Self::Created { at, terms } => created(*at, terms),
            Self::CreatedWhole { at, terms, homes } => {
                let mut told = created(*at, terms);
                told["parts"] = json!(homes.len());
                told
            }
            Self::CreatedPart { at, part } => {
                let mut told = created(*at, &part.terms);
                told["part_of"] = json!(kinds::text_id(part.of.whole));
                told["part"] = json!(part.of.number);
                told
            }
            Self::PartMade { at, number } => json!({ "type": "part_made", "at": at.to_rfc3339(), "part": number }),
            Self::Granted { grant, .. } => {
                json!({ "type": "requested", "at": grant.at.to_rfc3339(), "ticket": grant.ticket.0 })
            }
            Self::Issued { at, tickets, total, quantity } => json!({
                "type": "inventory", "at": at.to_rfc3339(), "tickets": tickets,
                "issued": total, "quantity": quantity,
            }),
            Self::Released { at, ticket } => json!({
                "type": "failed", "at": at.to_rfc3339(), "ticket": ticket.0, "reason": "already_claimed",
            }),
            Self::SoldOut { at } => json!({ "type": "sold_out", "at": at.to_rfc3339() }),
            Self::Opened { at } => json!({ "type": "opened", "at": at.to_rfc3339() }),
            Self::Closed { at, issued } => json!({ "type": "closed", "at": at.to_rfc3339(), "issued": issued }),
        }
    }

    fn at(&self) -> Timestamp {
        match self {
            Self::Granted { grant, .. } => grant.at,
            Self::Created { at, .. }
            | Self::Issued { at, .. }
            | Self::Released { at, .. }
            | Self::SoldOut { at }
            | Self::Opened { at }
            | Self::Closed { at, .. }
            | Self::CreatedWhole { at, .. }
            | Self::CreatedPart { at, .. }
            | Self::PartMade { at, .. } => *at,
        }
    }

    pub(super) fn evolve(&self, campaign: &mut Option<Campaign>) {
        match self {
            Self::Created { at, terms } => *campaign = Some(Campaign::new(*at, terms, None)),
            Self::CreatedWhole { at, terms, homes } => {
                let division = Division::Whole { homes: homes.clone(), made: 0 };
                *campaign = Some(Campaign::new(*at, terms, Some(division)));
            }
            Self::CreatedPart { at, part } => {
                let new = Campaign::new(*at, &part.terms, Some(Division::Part(part.of)));
                *campaign = Some(Campaign { next_ticket: part.of.first_ticket(), ..new });
            }
            Self::Granted { .. }
            | Self::Issued { .. }
            | Self::Released { .. }
            | Self::SoldOut { .. }
            | Self::Opened { .. }
            | Self::Closed { .. }
            | Self::PartMade { .. } => {
                if let Some(campaign) = campaign {
                    self.evolve_existing(campaign);
                    campaign.updated_at = self.at();
                }
            }
        }
    }

    fn evolve_existing(&self, campaign: &mut Campaign) {
        match self {
            Self::Created { .. } | Self::CreatedWhole { .. } | Self::CreatedPart { .. } => {}
            Self::PartMade { number, .. } => campaign.note_made(*number),
            Self::Granted { slot, grant } => {
                campaign.next_ticket = Ticket(grant.ticket.0.saturating_add(1));
                campaign.grants.insert(*slot, (**grant).clone());
            }
            Self::Issued { tickets, total, .. } => {
                campaign.issued = *total;
                campaign.grants.retain(|_, grant| !tickets.contains(&grant.ticket));
            }
            Self::Released { ticket, .. } => campaign.grants.retain(|_, grant| grant.ticket != *ticket),
            Self::SoldOut { at } => campaign.sold_out_at = Some(*at),
            Self::Opened { .. } => campaign.opened = true,
            Self::Closed { .. } => campaign.closed = true,
        }
    }
}

fn created(at: Timestamp, terms: &Terms) -> Value {
    json!({
        "type": "created", "at": at.to_rfc3339(), "name": terms.name, "quantity": terms.quantity,
        "starts_at": terms.starts_at.to_rfc3339(), "ends_at": terms.ends_at.to_rfc3339(),
        "discount": terms.discount.describe(), "valid_days": terms.valid_days,
    })
}

impl Campaign {
    fn new(at: Timestamp, terms: &Terms, division: Option<Division>) -> Self {
        Self {
            opened: at >= terms.starts_at,
            terms: terms.clone(),
            created_at: at,
            updated_at: at,
            issued: 0,
            next_ticket: Ticket(1),
            grants: BTreeMap::new(),
            sold_out_at: None,
            closed: false,
            division,
        }
    }

    /// A copy that leaves the grants out, without copying them first.
    pub(super) fn without_grants(&self) -> Self {
        Self {
            terms: self.terms.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            issued: self.issued,
            next_ticket: self.next_ticket,
            grants: BTreeMap::new(),
            sold_out_at: self.sold_out_at,
            opened: self.opened,
            closed: self.closed,
            division: self.division.clone(),
        }
    }
}
