//! A coupon campaign: so many coupons, from one instant to another, one for each member, in the order in which claims
//! are decided (ADR-11).
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Create | scheduled, or open |
//! | open, coupons left | Claim | a grant: a ticket for the member, and a wanted call to the member's coupon |
//! | any | Claim of a member with a grant | unchanged |
//! | no coupon left, some only granted | Claim | refused: undecided |
//! | every coupon issued | Claim | refused: sold out, for good |
//! | before `starts_at`, from `ends_at` on | Claim | refused: not started, ended |
//! | a grant | its coupon took the ticket | issued |
//! | a grant | its coupon has another ticket | released: the member was a winner before, the place is free again |
//!
//! A campaign may be one in parts (`division.rs`): the whole has its parts made and takes no claim, each part is as above.
//!
//! issued + granted <= quantity, always. A campaign does not remember its winners: each of them has a coupon, which
//! takes the first ticket that it is given and no other. What a campaign holds is bounded by [`GRANTS_MAX`].

mod division;
#[cfg(test)]
mod division_tests;
mod event;
mod terms;
#[cfg(test)]
mod tests;

pub use division::{Division, NewPart, PARTS_MAX, PartOf, part_home, part_key, part_of_member, share_of};
pub use event::{CampaignEvent, TOPICS, publications};
pub use terms::{NAME_BYTES_MAX, QUANTITY_MAX, Terms, TermsFault, VALID_DAYS_MAX};

use self::division::part_in;
use super::coupon::{self, CouponCommand, CouponRejection, CouponState, Ticket, coupon_key};
use super::entity::{Decision, Entity};
use super::kinds;
use super::stored::{Stored, StoredRef};
use crate::types::call::{CallOutcome, CallRequest, EntityOutcome, EntityRequest, Report};
use crate::types::codec;
use crate::types::effect::{CallWant, Effects, Guard, IndexWant, Lane, Slot, TimerWant};
use crate::types::ids::{CommandId, EntityKey, EntityKind, IdempotencyId};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Grants whose coupons have not answered yet.
pub const GRANTS_MAX: usize = 128;
/// Bytes of a member's name in a grant: with [`GRANTS_MAX`] it keeps the state within its bound.
pub const OWNER_BYTES_MAX: usize = 128;
/// Names the timer of the first instant, and of the last. Slots below belong to grants.
const OPENING: Slot = Slot(1_000);
const CLOSING: Slot = Slot(1_001);

/// What may be asked of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CampaignCommand {
    Create(Box<Terms>),
    Claim {
        owner: String,
        /// The request that claims.
        claim: IdempotencyId,
    },
    /// What coupons answered, by ticket.
    Settle(Vec<Settlement>),
    Timer(Slot),
    /// Made by the runtime for an attempt or a report; a campaign wants none.
    Unwanted,
    /// As [`CampaignCommand::Create`], in parts with these homes.
    CreateWhole(Box<Terms>, Vec<u64>),
    CreatePart(Box<NewPart>),
    /// These parts exist.
    PartsMade(Vec<u8>),
}

/// A coupon's answer to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub ticket: Ticket,
    /// Whether the coupon took it.
    pub taken: bool,
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CampaignRejection {
    #[error("no such campaign")]
    NotFound,
    #[error("the campaign exists already")]
    AlreadyExists,
    #[error("{0}")]
    BadTerms(TermsFault),
    #[error("not started")]
    NotStarted,
    #[error("sold out")]
    SoldOut,
    #[error("ended")]
    Ended,
    /// Every coupon is granted and some may come back: asked again in a moment, it is known.
    #[error("undecided")]
    Undecided,
    /// Too many grants are on their way to their coupons.
    #[error("busy")]
    Busy,
    #[error("not a command of a campaign")]
    NotWanted,
}

/// A ticket on its way to a member's coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub ticket: Ticket,
    pub owner: String,
    pub claim: IdempotencyId,
    pub at: Timestamp,
}

/// A campaign, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignState {
    campaign: Option<Campaign>,
}

impl Serialize for CampaignState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let campaign = self.campaign.as_ref();
        StoredRef::of(campaign.map(|campaign| (campaign, campaign.division.as_ref()))).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CampaignState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Stored::<Campaign, Division>::deserialize(deserializer)?.into_parts();
        Ok(Self { campaign: parts.map(|(campaign, division)| Campaign { division, ..*campaign }) })
    }
}

/// An existing campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    pub terms: Terms,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Coupons that exist.
    pub issued: u32,
    pub next_ticket: Ticket,
    /// By the number of their slot.
    pub grants: BTreeMap<u16, Granted>,
    pub sold_out_at: Option<Timestamp>,
    pub opened: bool,
    pub closed: bool,
    /// `None`: it stands alone. Written beside the rest, see [`CampaignState`].
    #[serde(skip)]
    pub division: Option<Division>,
}

impl CampaignState {
    /// `None` when it does not exist.
    #[must_use]
    pub fn get(&self) -> Option<&Campaign> {
        self.campaign.as_ref()
    }
}

impl Campaign {
    /// Stable name of where it stands, for the front door.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> &'static str {
        if self.sold_out_at.is_some() { "sold_out" } else { self.window(now) }
    }

    /// As [`Campaign::status`], whatever is left: of a campaign in parts only its parts know that.
    #[must_use]
    pub fn window(&self, now: Timestamp) -> &'static str {
        if now < self.terms.starts_at {
            "scheduled"
        } else if now < self.terms.ends_at {
            "open"
        } else {
            "ended"
        }
    }

    fn granted(&self) -> u32 {
        u32::try_from(self.grants.len()).unwrap_or(u32::MAX)
    }

    /// Coupons neither issued nor granted.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.terms.quantity.saturating_sub(self.issued).saturating_sub(self.granted())
    }

    /// The lowest slot without a grant.
    fn free_slot(&self) -> u16 {
        let mut free = 0;
        for slot in self.grants.keys() {
            if *slot != free {
                break;
            }
            free += 1;
        }
        free
    }
}

/// The campaign as an entity kind.
pub struct CampaignEntity;

type Decided = Result<Vec<CampaignEvent>, CampaignRejection>;

impl CampaignEntity {
    fn create(state: &CampaignState, terms: Terms, at: &At) -> Decided {
        if state.get().is_some() {
            return Err(CampaignRejection::AlreadyExists);
        }
        terms.check(at.now).map_err(CampaignRejection::BadTerms)?;
        Ok(vec![CampaignEvent::Created { at: at.now, terms: Box::new(terms) }])
    }

    /// The shares of the parts are from 1 up.
    fn create_whole(state: &CampaignState, terms: Terms, homes: Vec<u64>, at: &At) -> Decided {
        if state.get().is_some() {
            return Err(CampaignRejection::AlreadyExists);
        }
        terms.check(at.now).map_err(CampaignRejection::BadTerms)?;
        let parts = u8::try_from(homes.len()).unwrap_or(u8::MAX);
        if !(2..=PARTS_MAX).contains(&parts) || u32::from(parts) > terms.quantity {
            return Err(CampaignRejection::BadTerms(TermsFault::Parts));
        }
        Ok(vec![CampaignEvent::CreatedWhole { at: at.now, terms: Box::new(terms), homes }])
    }

    /// The terms were checked with the whole's. A repeat finds the part made, whatever became of it since.
    fn create_part(key: EntityKey, state: &CampaignState, part: NewPart, at: &At) -> Decided {
        match state.get() {
            Some(_) if state.part_of() == Some(part.of) => Ok(Vec::new()),
            Some(_) => Err(CampaignRejection::AlreadyExists),
            None if !part.of.fits(key) => Err(CampaignRejection::NotWanted),
            None => Ok(vec![CampaignEvent::CreatedPart { at: at.now, part: Box::new(part) }]),
        }
    }

    fn parts_made(campaign: &Campaign, numbers: Vec<u8>, at: &At) -> Vec<CampaignEvent> {
        let numbers: BTreeSet<u8> = numbers.into_iter().filter(|number| campaign.is_unmade(*number)).collect();
        numbers.into_iter().map(|number| CampaignEvent::PartMade { at: at.now, number }).collect()
    }

    fn claim(campaign: &Campaign, owner: String, claim: IdempotencyId, at: &At) -> Decided {
        if matches!(campaign.division, Some(Division::Whole { .. })) {
            return Err(CampaignRejection::NotWanted);
        }
        if campaign.grants.values().any(|grant| grant.owner == owner) {
            return Ok(Vec::new());
        }
        if campaign.sold_out_at.is_some() {
            return Err(CampaignRejection::SoldOut);
        }
        if at.now < campaign.terms.starts_at {
            return Err(CampaignRejection::NotStarted);
        }
        if at.now >= campaign.terms.ends_at {
            return Err(CampaignRejection::Ended);
        }
        if owner.len() > OWNER_BYTES_MAX {
            return Err(CampaignRejection::NotWanted);
        }
        if campaign.left() == 0 {
            return Err(CampaignRejection::Undecided);
        }
        if campaign.grants.len() >= GRANTS_MAX {
            return Err(CampaignRejection::Busy);
        }
        let (ticket, slot) = (campaign.next_ticket, campaign.free_slot());
        Ok(vec![CampaignEvent::Granted { slot, grant: Box::new(Granted { ticket, owner, claim, at: at.now }) }])
    }

    /// What is not (any more) on its way was settled before: the coupon answered twice.
    fn settle(campaign: &Campaign, settlements: &[Settlement], at: &At) -> Vec<CampaignEvent> {
        let mut open: Vec<Ticket> = campaign.grants.values().map(|grant| grant.ticket).collect();
        let (mut issued, mut events) = (Vec::new(), Vec::new());
        for Settlement { ticket, taken } in settlements {
            let Some(place) = open.iter().position(|known| known == ticket) else { continue };
            open.swap_remove(place);
            if *taken {
                issued.push(*ticket);
            } else {
                events.push(CampaignEvent::Released { at: at.now, ticket: *ticket });
            }
        }
        if issued.is_empty() {
            return events;
        }
        let total = campaign.issued + u32::try_from(issued.len()).unwrap_or(u32::MAX);
        let quantity = campaign.terms.quantity;
        events.push(CampaignEvent::Issued { at: at.now, tickets: issued, total, quantity });
        if total == quantity {
            events.push(CampaignEvent::SoldOut { at: at.now });
        }
        events
    }

    fn timer(campaign: &Campaign, slot: Slot, at: &At) -> Vec<CampaignEvent> {
        match slot {
            OPENING if !campaign.opened && at.now >= campaign.terms.starts_at => {
                vec![CampaignEvent::Opened { at: at.now }]
            }
            CLOSING if !campaign.closed && at.now >= campaign.terms.ends_at => {
                vec![CampaignEvent::Closed { at: at.now, issued: campaign.issued }]
            }
            // Done already, not due yet, or a slot of no timer.
            OPENING | CLOSING | Slot(_) => Vec::new(),
        }
    }
}

/// What a coupon's answer says, by the ticket that it names and not by the slot: an answer from before a change of
/// leaders may come home when its slot belongs to another grant.
fn settlement(outcome: CallOutcome) -> Option<Settlement> {
    match outcome {
        CallOutcome::Entity(EntityOutcome::Done { state }) => {
            let state: CouponState = codec::decode(&state).ok()?;
            Some(Settlement { ticket: state.get()?.ticket, taken: true })
        }
        CallOutcome::Entity(EntityOutcome::Rejected { rejection }) => match codec::decode(&rejection).ok()? {
            CouponRejection::AlreadyClaimed { refused } => Some(Settlement { ticket: refused, taken: false }),
            CouponRejection::NotFound
            | CouponRejection::WrongKey
            | CouponRejection::NotOwner
            | CouponRejection::AlreadyUsed
            | CouponRejection::Expired
            | CouponRejection::TakenBack
            | CouponRejection::NotWanted => None,
        },
        CallOutcome::Entity(EntityOutcome::Unknown { .. })
        | CallOutcome::Message(_)
        | CallOutcome::Payment(_)
        | CallOutcome::Shipment(_) => None,
    }
}

impl Entity for CampaignEntity {
    type State = CampaignState;
    type Command = CampaignCommand;
    type Event = CampaignEvent;
    type Rejection = CampaignRejection;
    const KIND: EntityKind = kinds::CAMPAIGN;
    const PREFIX: &'static str = "cc";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;
    const SHARES_RECORDS: bool = true;

    fn decide(
        key: EntityKey,
        state: &CampaignState,
        command: CampaignCommand,
        at: &At,
    ) -> Result<Decision<CampaignEvent>, CampaignRejection> {
        let campaign = state.get().ok_or(CampaignRejection::NotFound);
        let events = match command {
            CampaignCommand::Create(terms) => Self::create(state, *terms, at)?,
            CampaignCommand::Claim { owner, claim } => Self::claim(campaign?, owner, claim, at)?,
            CampaignCommand::Settle(settlements) => Self::settle(campaign?, &settlements, at),
            CampaignCommand::Timer(slot) => Self::timer(campaign?, slot, at),
            CampaignCommand::CreateWhole(terms, homes) => Self::create_whole(state, *terms, homes, at)?,
            CampaignCommand::CreatePart(part) => Self::create_part(key, state, *part, at)?,
            CampaignCommand::PartsMade(numbers) => Self::parts_made(campaign?, numbers, at),
            CampaignCommand::Unwanted => return Err(CampaignRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut CampaignState, event: &CampaignEvent) {
        event.evolve(&mut state.campaign);
    }

    fn wants(key: EntityKey, state: &CampaignState) -> Effects {
        let Some(campaign) = state.get() else { return Effects::default() };
        let mut timers = Vec::new();
        if !campaign.opened {
            timers.push(TimerWant { slot: OPENING, due: campaign.terms.starts_at });
        }
        if !campaign.closed {
            timers.push(TimerWant { slot: CLOSING, due: campaign.terms.ends_at });
        }
        let call = |(slot, grant): (&u16, &Granted)| CallWant {
            slot: Slot(*slot),
            lane: Lane::Entity,
            due: grant.at,
            guard: Guard::Repeatable,
            open: None,
        };
        let newest_first = u64::MAX - u64::try_from(campaign.created_at.0).unwrap_or(0);
        let row = [newest_first.to_be_bytes().as_slice(), &key.id].concat();
        // A part is in no list: its whole is.
        let listed = state.part_of().is_none();
        let row = IndexWant { index: kinds::INDEX_CAMPAIGN, key: row, unique: false };
        let calls: Vec<CallWant> = campaign.grants.iter().map(call).chain(campaign.part_calls()).collect();
        let terminal = campaign.closed && calls.is_empty();
        Effects { timers, calls, indexes: listed.then_some(row).into_iter().collect(), terminal }
    }

    /// Without the grants: they are the campaign's own business, and change with every claim.
    fn answer(state: &CampaignState) -> Vec<u8> {
        let told = state.get().map(Campaign::without_grants);
        codec::encode(&CampaignState { campaign: told })
    }

    fn sealed(_state: &CampaignState) -> Option<&Sealed> {
        None
    }

    /// The very same grant each time, so that the coupon knows a repeat by its ticket.
    fn request(key: EntityKey, state: &CampaignState, slot: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        let campaign = state.get()?;
        if let Some((target, part)) = campaign.part_behind(key, slot) {
            let number = u64::from(part.of.number);
            let command = codec::encode(&CampaignCommand::CreatePart(Box::new(part)));
            return Some(CallRequest::Entity(EntityRequest::of(key, number, target, command)));
        }
        let Granted { ticket, owner, claim, at: _ } = campaign.grants.get(&slot.0)?.clone();
        let issuer = campaign.issuer(key);
        let target = coupon_key(issuer, &owner);
        let digest = Sha256::new().chain_update(b"grant\0").chain_update(key.to_bytes());
        let digest = digest.chain_update(ticket.0.to_be_bytes()).finalize();
        let mut command_id = CommandId::default();
        command_id.0.copy_from_slice(&digest[..16]);
        let Terms { name, discount, valid_days, .. } = campaign.terms.clone();
        let grant = coupon::Grant { campaign: issuer, ticket, name, discount, valid_days, owner, claim };
        let command = codec::encode(&CouponCommand::Grant(Box::new(grant)));
        Some(CallRequest::Entity(EntityRequest { target, command_id, command }))
    }

    fn timer_command(slot: Slot) -> CampaignCommand {
        CampaignCommand::Timer(slot)
    }
    fn attempt_command(_start: AttemptStart) -> CampaignCommand {
        CampaignCommand::Unwanted
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> CampaignCommand {
        // A whole wants nothing but its parts, which nobody else does.
        if outcomes.iter().any(|(slot, _)| part_in(*slot).is_some()) {
            let is_done = |outcome: &CallOutcome| matches!(outcome, CallOutcome::Entity(EntityOutcome::Done { .. }));
            let made = outcomes.iter().filter(|(_, outcome)| is_done(outcome));
            return CampaignCommand::PartsMade(made.filter_map(|(slot, _)| part_in(*slot)).collect());
        }
        CampaignCommand::Settle(outcomes.into_iter().filter_map(|(_, outcome)| settlement(outcome)).collect())
    }
    fn report_command(_report: Report) -> CampaignCommand {
        CampaignCommand::Unwanted
    }
    fn describe(event: &CampaignEvent) -> serde_json::Value {
        event.describe()
    }
}
