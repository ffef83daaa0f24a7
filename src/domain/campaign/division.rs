//! A campaign in parts: its quantity split over entities on shards of their own, for a crowd that is too much for one
//! leader. Each part is a campaign as any other and gives out its share; the whole gives out nothing, and only has its
//! parts made.
//!
//! Whose part a member's is follows from the member alone. A member whose part is sold out is tried at the next one
//! (`api/claims.rs`), so that nobody is refused while a coupon is left. Nothing of what is promised rests on where a member
//! claims: a part never goes beyond its share, the shares add up to the quantity, and a member's coupon, whose key knows
//! the whole only, takes one ticket of any of them. The one order of claims is given up; each part has its own.

use super::{Campaign, CampaignState, Terms};
use crate::domain::coupon::Ticket;
use crate::domain::kinds;
use crate::types::effect::{CallWant, Guard, Lane, Slot};
use crate::types::ids::EntityKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Parts of one campaign, at most.
pub const PARTS_MAX: u8 = 64;
/// Slots of the calls that have parts made; above the timers', far above those of grants.
const PART_SLOTS: u16 = 2_000;
/// Tickets of one part; those of the next begin behind them.
const TICKETS_SHIFT: u32 = 40;

/// What a campaign is beside one that stands alone. Persisted: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Division {
    /// Its coupons are given out by its parts.
    Whole {
        /// The home of each part, which chooses its shard.
        homes: Vec<u64>,
        /// Parts that exist, a bit for each.
        made: u64,
    },
    Part(PartOf),
}

/// Whose part, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOf {
    pub whole: EntityKey,
    /// From 0.
    pub number: u8,
}

/// A part that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPart {
    /// With the part's share as their quantity.
    pub terms: Terms,
    pub of: PartOf,
}

/// The home of a part at a try: the first tries whose shards differ put the parts on different shards.
#[must_use]
pub fn part_home(whole: EntityKey, number: u8, attempt: u16) -> u64 {
    let digest = Sha256::new().chain_update(b"home\0").chain_update(whole.to_bytes());
    let digest = digest.chain_update([number]).chain_update(attempt.to_be_bytes()).finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
}

/// The entity of a part with this home.
#[must_use]
pub fn part_key(of: PartOf, home: u64) -> EntityKey {
    let digest = Sha256::new().chain_update(b"part\0").chain_update(of.whole.to_bytes());
    let digest = digest.chain_update([of.number]).finalize();
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&home.to_be_bytes());
    id[8..].copy_from_slice(&digest[..8]);
    EntityKey { kind: kinds::CAMPAIGN, id }
}

impl PartOf {
    /// Whether this is the key of this part, at whatever home.
    pub(super) fn fits(self, key: EntityKey) -> bool {
        part_key(self, key.home()) == key
    }

    /// The number before the part's first ticket.
    pub(super) fn first_ticket(self) -> Ticket {
        Ticket((u64::from(self.number) << TICKETS_SHIFT) + 1)
    }
}

/// What part `number` of so many gives out of a quantity: all shares add up to it, and differ by one at most.
#[must_use]
pub fn share_of(quantity: u32, number: u8, parts: u8) -> u32 {
    let parts = u32::from(parts.max(1));
    quantity / parts + u32::from(u32::from(number) < quantity % parts)
}

/// The part that a member's claims go to first.
#[must_use]
pub fn part_of_member(owner: &str, parts: u8) -> u8 {
    let digest = Sha256::new().chain_update(b"member\0").chain_update(owner.as_bytes()).finalize();
    let hash = u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"));
    u8::try_from(hash % u64::from(parts.max(1))).unwrap_or(0)
}

impl CampaignState {
    /// What it is a part of; `None` for a campaign that stands alone or is a whole.
    #[must_use]
    pub fn part_of(&self) -> Option<PartOf> {
        match &self.get()?.division {
            Some(Division::Part(of)) => Some(*of),
            Some(Division::Whole { .. }) | None => None,
        }
    }
}

impl Campaign {
    /// The keys of its parts, in order; none for a campaign that has none.
    #[must_use]
    pub fn parts(&self, key: EntityKey) -> Vec<EntityKey> {
        let Some(Division::Whole { homes, .. }) = &self.division else { return Vec::new() };
        let numbered = (0u8..).zip(homes);
        numbered.map(|(number, home)| part_key(PartOf { whole: key, number }, *home)).collect()
    }

    /// Parts that do not exist yet, with their homes.
    fn unmade(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        let (homes, made) = match &self.division {
            Some(Division::Whole { homes, made }) => (homes.as_slice(), *made),
            Some(Division::Part(_)) | None => ([].as_slice(), 0),
        };
        (0u8..).zip(homes.iter().copied()).filter(move |(number, _)| made & bit(*number) == 0)
    }

    pub(super) fn is_unmade(&self, number: u8) -> bool {
        self.unmade().any(|(unmade, _)| unmade == number)
    }

    pub(super) fn note_made(&mut self, number: u8) {
        if let Some(Division::Whole { made, .. }) = &mut self.division {
            *made |= bit(number);
        }
    }

    /// Calls that have the missing parts made, in slot order.
    pub(super) fn part_calls(&self) -> impl Iterator<Item = CallWant> + '_ {
        self.unmade().map(|(number, _)| CallWant {
            slot: part_slot(number),
            lane: Lane::Entity,
            due: self.created_at,
            guard: Guard::Repeatable,
            open: None,
        })
    }

    /// The part behind a slot, as it is to be made, and its key.
    pub(super) fn part_behind(&self, key: EntityKey, slot: Slot) -> Option<(EntityKey, NewPart)> {
        let (number, home) = self.unmade().find(|(number, _)| part_slot(*number) == slot)?;
        let of = PartOf { whole: key, number };
        let parts = u8::try_from(self.parts(key).len()).ok()?;
        let terms = Terms { quantity: share_of(self.terms.quantity, number, parts), ..self.terms.clone() };
        Some((part_key(of, home), NewPart { terms, of }))
    }

    /// Whose coupons a grant of this campaign makes.
    pub(super) fn issuer(&self, key: EntityKey) -> EntityKey {
        match &self.division {
            Some(Division::Part(of)) => of.whole,
            Some(Division::Whole { .. }) | None => key,
        }
    }
}

fn bit(number: u8) -> u64 {
    1u64.checked_shl(u32::from(number)).unwrap_or(0)
}

fn part_slot(number: u8) -> Slot {
    Slot(PART_SLOTS + u16::from(number))
}

/// The part whose making is behind a slot.
pub(super) fn part_in(slot: Slot) -> Option<u8> {
    let number = u8::try_from(slot.0.checked_sub(PART_SLOTS)?).ok()?;
    (number < PARTS_MAX).then_some(number)
}
