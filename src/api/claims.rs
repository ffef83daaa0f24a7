//! Claiming a coupon, from the door's side (ADR-11).
//!
//! 1. What this node knows of the campaign for good (its terms, that it is sold out) refuses without asking it. Behind
//!    that refusal the member's coupon is read: a winner who repeats gets it all the same. In this order, since a
//!    campaign says that it is sold out only when every coupon exists.
//! 2. Else the coupon is read first: a repeat never reaches the campaign.
//! 3. Else the campaign is asked. Its grant is committed before it answers, and from there on the coupon comes, whether
//!    anybody waits for it or not.
//!
//! The coupon decides what the caller hears: it carries the claim that won it. The same `Idempotency-Key` gets the first
//! reply again, for as long as the coupon exists; another one hears `already_claimed`.

use crate::api::campaigns::read_state;
use crate::api::coupons::OpenCoupon;
use crate::api::patience::PATIENCE;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::campaign_refusal;
use crate::api::router::Shared;
use crate::domain::campaign::{Campaign, CampaignCommand, CampaignRejection, Terms};
use crate::domain::coupon::coupon_key;
use crate::domain::kinds;
use crate::types::codec;
use crate::types::ids::{EntityKey, IdempotencyId, Version};
use crate::types::limits::CLOCK_UNCERTAINTY;
use crate::types::time::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

/// Campaigns that a node remembers; then all are forgotten, and read again.
const KNOWN_MAX: usize = 1_024;

/// What holds of a campaign for good.
pub struct Known {
    terms: Terms,
    sold_out: AtomicBool,
}

/// The campaigns of which this node knows something.
#[derive(Default)]
pub struct KnownCampaigns {
    known: Mutex<BTreeMap<EntityKey, Arc<Known>>>,
}

impl KnownCampaigns {
    fn get(&self, key: EntityKey) -> Option<Arc<Known>> {
        self.known.lock().get(&key).cloned()
    }

    /// Notes what was read just now.
    pub fn note(&self, key: EntityKey, campaign: &Campaign) -> Arc<Known> {
        let mut all = self.known.lock();
        if all.len() >= KNOWN_MAX && !all.contains_key(&key) {
            all.clear();
        }
        let new = || Arc::new(Known { terms: campaign.terms.clone(), sold_out: AtomicBool::new(false) });
        let known = all.entry(key).or_insert_with(new).clone();
        if campaign.sold_out_at.is_some() {
            known.sold_out.store(true, Ordering::Relaxed);
        }
        known
    }
}

impl Known {
    fn is_sold_out(&self) -> bool {
        self.sold_out.load(Ordering::Relaxed)
    }

    /// A refusal that asking would only repeat. Near an instant of the window the campaign's own clock decides.
    fn refusal(&self, now: Timestamp) -> Option<CampaignRejection> {
        if self.is_sold_out() {
            Some(CampaignRejection::SoldOut)
        } else if now + CLOCK_UNCERTAINTY < self.terms.starts_at {
            Some(CampaignRejection::NotStarted)
        } else if now > self.terms.ends_at + CLOCK_UNCERTAINTY {
            Some(CampaignRejection::Ended)
        } else {
            None
        }
    }
}

/// Who claims what, by which request.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    pub campaign: EntityKey,
    pub owner: &'a str,
    pub id: IdempotencyId,
}

/// A claim's good end.
pub struct Claimed {
    pub coupon: OpenCoupon,
    /// It was won before this request.
    pub replayed: bool,
}

impl Shared {
    /// Claims a coupon. A repeat, after whatever failure, settles it.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::SoldOut`], [`Code::AlreadyClaimed`], [`Code::NotStarted`], [`Code::Ended`];
    /// [`Code::OutcomeUnknown`] when the coupon did not come in time, or what the runtime says.
    pub async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, Problem> {
        let known = match self.campaigns.get(claim.campaign) {
            Some(known) => known,
            None => {
                let (_, campaign) = self.read_campaign(claim.campaign).await?;
                self.note_campaign(claim.campaign, &campaign)
            }
        };
        if !known.is_sold_out() && self.is_told_sold_out(claim.campaign) {
            // Somebody says so: one look tells whether it is true, and then it is known here for good.
            let (_, campaign) = self.read_campaign(claim.campaign).await?;
            self.note_campaign(claim.campaign, &campaign);
        }
        if let Some(refusal) = known.refusal(self.clock.now()) {
            return self.claimed_before(claim).await?.unwrap_or_else(|| Err(campaign_refusal(&refusal)));
        }
        if let Some(told) = self.claimed_before(claim).await? {
            return told;
        }
        let deadline = Instant::now() + PATIENCE;
        match self.ask_campaign(claim, deadline).await? {
            Ok(()) => self.await_coupon(claim, deadline).await,
            Err(refusal) => self.claimed_before(claim).await?.unwrap_or_else(|| Err(campaign_refusal(&refusal))),
        }
    }

    /// What a member who has the coupon is told.
    async fn claimed_before(&self, claim: Claim<'_>) -> Result<Option<Result<Claimed, Problem>>, Problem> {
        let coupon = self.read_coupon(coupon_key(claim.campaign, claim.owner)).await?;
        Ok(coupon.map(|coupon| told(claim, coupon, true)))
    }

    /// Asks until the campaign decides.
    async fn ask_campaign(
        &self,
        claim: Claim<'_>,
        deadline: Instant,
    ) -> Result<Result<(), CampaignRejection>, Problem> {
        let command = CampaignCommand::Claim { owner: claim.owner.to_owned(), claim: claim.id };
        let not_yet = |refusal: &CampaignRejection| {
            let passes = matches!(refusal, CampaignRejection::Undecided | CampaignRejection::Busy);
            passes.then(|| campaign_refusal(refusal))
        };
        match self.ask_patiently(claim.campaign, codec::encode(&command), deadline, not_yet).await? {
            Ok(answer) => {
                self.note_campaign(claim.campaign, &read_state(&answer.state)?);
                Ok(Ok(()))
            }
            Err(refusal) => {
                self.note_refusal(claim.campaign, &refusal);
                Ok(Err(refusal))
            }
        }
    }

    fn note_refusal(&self, campaign: EntityKey, refusal: &CampaignRejection) {
        if let (CampaignRejection::SoldOut, Some(known)) = (refusal, self.campaigns.get(campaign)) {
            known.sold_out.store(true, Ordering::Relaxed);
            self.tell_left(campaign, 0);
        }
    }

    /// Keeps what was read just now, and says so to the other nodes.
    fn note_campaign(&self, key: EntityKey, campaign: &Campaign) -> Arc<Known> {
        // While the last ones are only granted, one may come back.
        let left = if campaign.sold_out_at.is_some() { 0 } else { campaign.left().max(1) };
        self.tell_left(key, left);
        self.campaigns.note(key, campaign)
    }

    fn tell_left(&self, campaign: EntityKey, left: u32) {
        if let Some(hints) = self.door.hints() {
            hints.tell(&kinds::text_id(campaign), left);
        }
    }

    /// A hint, not a fact.
    fn is_told_sold_out(&self, campaign: EntityKey) -> bool {
        self.door.hints().is_some_and(|hints| hints.is_sold_out(&kinds::text_id(campaign)))
    }

    /// The grant is committed: waits until the coupon is, too.
    async fn await_coupon(&self, claim: Claim<'_>, deadline: Instant) -> Result<Claimed, Problem> {
        let key = coupon_key(claim.campaign, claim.owner);
        self.await_change(key, Version(0), deadline).await?;
        let coupon = self.read_coupon(key).await?.ok_or_else(|| Problem::new(Code::OutcomeUnknown))?;
        told(claim, coupon, false)
    }
}

/// The coupon's own account: whose claim won it.
fn told(claim: Claim<'_>, coupon: OpenCoupon, replayed: bool) -> Result<Claimed, Problem> {
    if coupon.coupon.claim == claim.id {
        return Ok(Claimed { coupon, replayed });
    }
    Err(Problem::because(Code::AlreadyClaimed, format!("Your coupon of this campaign is {}.", coupon.id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::coupon::{Discount, Ticket};
    use crate::types::money::Money;

    fn campaign(sold_out: bool) -> Campaign {
        let terms = Terms {
            name: "c".to_owned(),
            quantity: 1,
            starts_at: Timestamp(10_000),
            ends_at: Timestamp(20_000),
            discount: Discount::Amount(Money::krw(1)),
            valid_days: 1,
        };
        Campaign {
            terms,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            issued: 0,
            next_ticket: Ticket(1),
            grants: BTreeMap::new(),
            sold_out_at: sold_out.then_some(Timestamp(1)),
            opened: false,
            closed: false,
        }
    }

    fn key(number: usize) -> EntityKey {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        EntityKey { kind: kinds::CAMPAIGN, id }
    }

    #[test]
    fn near_the_edges_of_its_window_the_campaign_itself_is_asked() {
        let campaigns = KnownCampaigns::default();
        let known = campaigns.note(key(1), &campaign(false));
        let at = |now| known.refusal(Timestamp(now));
        assert_eq!(at(8_999), Some(CampaignRejection::NotStarted));
        assert_eq!((at(9_000), at(15_000), at(21_000)), (None, None, None));
        assert_eq!(at(21_001), Some(CampaignRejection::Ended));
        // Once sold out, for good, and for those who knew it before.
        campaigns.note(key(1), &campaign(true));
        campaigns.note(key(1), &campaign(false));
        assert_eq!(known.refusal(Timestamp(0)), Some(CampaignRejection::SoldOut));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let campaigns = KnownCampaigns::default();
        for number in 0..KNOWN_MAX {
            campaigns.note(key(number), &campaign(false));
        }
        assert!(campaigns.get(key(0)).is_some());
        campaigns.note(key(KNOWN_MAX), &campaign(false));
        assert!(campaigns.get(key(0)).is_none() && campaigns.get(key(KNOWN_MAX)).is_some());
    }
}
