//! Claiming a coupon, from the door's side (ADR-11).
//!
//! 1. What this node knows of the campaign for good (its terms, that it is sold out) refuses without asking it. Behind
//!    that refusal the member's coupon is read: a winner who repeats gets it all the same. In this order, since a
//!    campaign says that it is sold out only when every coupon exists.
//! 2. Else the coupon is read first, without a round trip: a repeat reaches the campaign only past a leader that was just
//!    replaced, and then the coupon refuses the second grant.
//! 3. Else the campaign is asked. Its grant is committed before it answers, and from there on the coupon comes, whether
//!    anybody waits for it or not. Of a campaign in parts the member's own part is asked first, and while the answer is that
//!    it is sold out, the part behind it; parts that are known to be sold out are passed over. So a member is told `sold_out`
//!    when every coupon of every part exists, never before.
//!
//! The coupon decides what the caller hears: it carries the claim that won it. The same `Idempotency-Key` gets the first
//! reply again, for as long as the coupon exists; another one hears `already_claimed`.

use crate::api::campaigns::{DeskView, OpenCampaign, read_state};
use crate::api::coupons::{OpenCoupon, open};
use crate::api::patience::PATIENCE;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::campaign_refusal;
use crate::api::router::Shared;
use crate::domain::campaign::{Campaign, CampaignCommand, CampaignRejection, Terms, part_of_member};
use crate::domain::coupon::coupon_key;
use crate::domain::kinds;
use crate::types::codec;
use crate::types::ids::{EntityKey, IdempotencyId, Version};
use crate::types::limits::CLOCK_UNCERTAINTY;
use crate::types::time::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::time::Instant;

/// Campaigns that a node remembers; then all are forgotten, and read again.
const KNOWN_MAX: usize = 1_024;

/// What holds of a campaign for good.
pub struct Known {
    terms: Terms,
    /// Where it is claimed: its parts, or itself when it has none.
    desks: Vec<Desk>,
}

/// One place where a campaign's coupons are given out.
struct Desk {
    key: EntityKey,
    sold_out: AtomicBool,
    /// Coupons that were left when this node saw it last.
    left: AtomicU32,
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
    pub fn note(&self, campaign: &OpenCampaign) -> Arc<Known> {
        let mut all = self.known.lock();
        if all.len() >= KNOWN_MAX && !all.contains_key(&campaign.key) {
            all.clear();
        }
        let known = all.entry(campaign.key).or_insert_with(|| Arc::new(Known::new(campaign))).clone();
        for desk in campaign.desks() {
            known.note(desk.key, desk.campaign);
        }
        known
    }
}

impl Known {
    fn new(campaign: &OpenCampaign) -> Self {
        let desk = |desk: DeskView<'_>| Desk {
            key: desk.key,
            sold_out: AtomicBool::new(false),
            left: AtomicU32::new(desk.share),
        };
        Self { terms: campaign.terms().clone(), desks: campaign.desks().map(desk).collect() }
    }

    /// Notes one of its desks as it was read just now; `None`: it does not exist yet.
    fn note(&self, key: EntityKey, campaign: Option<&Campaign>) {
        let (Some(desk), Some(campaign)) = (self.desks.iter().find(|desk| desk.key == key), campaign) else { return };
        if campaign.sold_out_at.is_some() {
            desk.sold_out.store(true, Ordering::Relaxed);
        }
        desk.left.store(campaign.left(), Ordering::Relaxed);
    }

    /// For good, and only when every coupon of every desk exists.
    fn is_sold_out(&self) -> bool {
        self.desks.iter().all(Desk::is_sold_out)
    }

    /// How many are left, as far as this node has seen; 0 only for good.
    fn left(&self) -> u32 {
        self.desks.iter().map(Desk::told).sum()
    }

    /// The desks that a member's claim is tried at, in order: the member's own, then those behind it.
    fn desks_for(&self, owner: &str) -> impl Iterator<Item = &Desk> {
        let parts = u8::try_from(self.desks.len()).unwrap_or(u8::MAX);
        let (before, from) = self.desks.split_at(usize::from(part_of_member(owner, parts)).min(self.desks.len()));
        from.iter().chain(before).filter(|desk| !desk.is_sold_out())
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

impl Desk {
    fn is_sold_out(&self) -> bool {
        self.sold_out.load(Ordering::Relaxed)
    }

    /// What the other nodes are told: while the last ones are only granted, one may come back.
    fn told(&self) -> u32 {
        if self.is_sold_out() { 0 } else { self.left.load(Ordering::Relaxed).max(1) }
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
            None => self.look_at_campaign(claim.campaign).await?,
        };
        if !known.is_sold_out() && self.is_told_sold_out(claim.campaign) {
            // Somebody says so: one look tells whether it is true, and then it is known here for good.
            self.look_at_campaign(claim.campaign).await?;
        }
        if let Some(refusal) = known.refusal(self.clock.now()) {
            return self.claimed_before(claim).await?.unwrap_or_else(|| Err(campaign_refusal(&refusal)));
        }
        // Whether there is one is the coupon's to decide: the campaign takes back a grant that it refuses.
        let key = coupon_key(claim.campaign, claim.owner);
        if let Some(coupon) = self.glance(key).await?.map(|coupon| open(key, &coupon)).transpose()? {
            return told(claim, coupon, true);
        }
        let deadline = Instant::now() + PATIENCE;
        match self.ask_desks(claim, &known, deadline).await? {
            Ok(()) => self.await_coupon(claim, deadline).await,
            Err(refusal) => self.claimed_before(claim).await?.unwrap_or_else(|| Err(campaign_refusal(&refusal))),
        }
    }

    /// What a member who has the coupon is told.
    async fn claimed_before(&self, claim: Claim<'_>) -> Result<Option<Result<Claimed, Problem>>, Problem> {
        let coupon = self.read_coupon(coupon_key(claim.campaign, claim.owner)).await?;
        Ok(coupon.map(|coupon| told(claim, coupon, true)))
    }

    /// Asks one desk after the other until one has a coupon left.
    async fn ask_desks(
        &self,
        claim: Claim<'_>,
        known: &Known,
        deadline: Instant,
    ) -> Result<Result<(), CampaignRejection>, Problem> {
        for desk in known.desks_for(claim.owner) {
            let answer = self.ask_desk(claim, desk.key, deadline).await?;
            match &answer {
                Ok(campaign) => known.note(desk.key, Some(campaign)),
                Err(CampaignRejection::SoldOut) => desk.sold_out.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
            self.tell_left(claim.campaign, known, desk);
            match answer {
                Ok(_) => return Ok(Ok(())),
                Err(CampaignRejection::SoldOut) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Err(CampaignRejection::SoldOut))
    }

    /// Asks until a desk decides; the desk as it is then.
    async fn ask_desk(
        &self,
        claim: Claim<'_>,
        desk: EntityKey,
        deadline: Instant,
    ) -> Result<Result<Campaign, CampaignRejection>, Problem> {
        let command = CampaignCommand::Claim { owner: claim.owner.to_owned(), claim: claim.id };
        // A part that is not there yet is being made.
        let not_yet = |refusal: &CampaignRejection| {
            let passes =
                matches!(refusal, CampaignRejection::Undecided | CampaignRejection::Busy | CampaignRejection::NotFound);
            passes.then(|| Problem::new(Code::Overloaded))
        };
        match self.ask_patiently(desk, codec::encode(&command), deadline, not_yet).await? {
            Ok(answer) => Ok(Ok(read_state(&answer.state)?)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Reads a campaign and what is left of it, and says so to the other nodes.
    async fn look_at_campaign(&self, key: EntityKey) -> Result<Arc<Known>, Problem> {
        let known = self.campaigns.note(&self.read_campaign(key).await?);
        for desk in &known.desks {
            self.tell_left(key, &known, desk);
        }
        Ok(known)
    }

    /// Of the whole, and of the desk that was looked at.
    fn tell_left(&self, campaign: EntityKey, known: &Known, desk: &Desk) {
        let Some(hints) = self.door.hints() else { return };
        hints.tell(&kinds::text_id(campaign), known.left());
        if desk.key != campaign {
            hints.tell(&kinds::text_id(desk.key), desk.told());
        }
    }

    /// A hint, not a fact.
    fn is_told_sold_out(&self, campaign: EntityKey) -> bool {
        self.door.hints().is_some_and(|hints| hints.is_sold_out(&kinds::text_id(campaign)))
    }

    /// The grant is committed: waits until the coupon is, too.
    async fn await_coupon(&self, claim: Claim<'_>, deadline: Instant) -> Result<Claimed, Problem> {
        let key = coupon_key(claim.campaign, claim.owner);
        let coupon = self.await_beyond(key, Version(0), deadline).await?;
        told(claim, open(key, &coupon).map_err(Problem::past_commit)?, false)
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

    fn campaign(key: EntityKey, sold_out: bool) -> OpenCampaign {
        let terms = Terms {
            name: "c".to_owned(),
            quantity: 1,
            starts_at: Timestamp(10_000),
            ends_at: Timestamp(20_000),
            discount: Discount::Amount(Money::krw(1)),
            valid_days: 1,
        };
        let campaign = Campaign {
            terms,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            issued: 0,
            next_ticket: Ticket(1),
            grants: BTreeMap::new(),
            sold_out_at: sold_out.then_some(Timestamp(1)),
            opened: false,
            closed: false,
            division: None,
        };
        OpenCampaign::new(key, Version(1), campaign, Vec::new())
    }

    fn key(number: usize) -> EntityKey {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        EntityKey { kind: kinds::CAMPAIGN, id }
    }

    #[test]
    fn near_the_edges_of_its_window_the_campaign_itself_is_asked() {
        let campaigns = KnownCampaigns::default();
        let known = campaigns.note(&campaign(key(1), false));
        let at = |now| known.refusal(Timestamp(now));
        assert_eq!(at(8_999), Some(CampaignRejection::NotStarted));
        assert_eq!((at(9_000), at(15_000), at(21_000)), (None, None, None));
        assert_eq!(at(21_001), Some(CampaignRejection::Ended));
        // Once sold out, for good, and for those who knew it before.
        campaigns.note(&campaign(key(1), true));
        campaigns.note(&campaign(key(1), false));
        assert_eq!(known.refusal(Timestamp(0)), Some(CampaignRejection::SoldOut));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let campaigns = KnownCampaigns::default();
        for number in 0..KNOWN_MAX {
            campaigns.note(&campaign(key(number), false));
        }
        assert!(campaigns.get(key(0)).is_some());
        campaigns.note(&campaign(key(KNOWN_MAX), false));
        assert!(campaigns.get(key(0)).is_none() && campaigns.get(key(KNOWN_MAX)).is_some());
    }

    #[test]
    fn a_claim_goes_round_the_desks_that_are_not_known_to_be_sold_out_and_begins_at_the_members_own() {
        let desk = |number| Desk { key: key(number), sold_out: AtomicBool::new(false), left: AtomicU32::new(2) };
        let terms = campaign(key(9), false).terms().clone();
        let known = Known { terms, desks: (0..4).map(desk).collect() };
        let round = |owner: &str| known.desks_for(owner).map(|desk| desk.key.home()).collect::<Vec<u64>>();
        let own = |owner: &str| u64::from(part_of_member(owner, 4));
        for owner in ["a", "b", "c", "d", "e", "f"] {
            assert_eq!(round(owner), (0..4).map(|step| (own(owner) + step) % 4).collect::<Vec<u64>>());
        }
        assert_eq!((known.left(), known.is_sold_out()), (8, false));
        known.desks[2].sold_out.store(true, Ordering::Relaxed);
        assert!(!round("a").contains(&2) && round("a").len() == 3);
        known.desks.iter().for_each(|desk| desk.left.store(0, Ordering::Relaxed));
        assert_eq!((known.left(), known.is_sold_out()), (3, false), "one may come back while any is not sold out");
        known.desks.iter().for_each(|desk| desk.sold_out.store(true, Ordering::Relaxed));
        assert_eq!((known.left(), known.is_sold_out(), round("a")), (0, true, vec![]));
    }
}
