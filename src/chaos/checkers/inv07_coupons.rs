//! INV-7: no coupon beyond its campaign's quantity, none twice to a member, whichever of its parts give them out; who was told
//! that a coupon is won has one at the end, and who was told that all are gone was told the truth at that moment.

use super::history::{ClaimTold, Fact, History, RecordRow};
use crate::types::ids::EntityKey;
use crate::types::time::Timestamp;
use std::collections::BTreeMap;

/// What campaigns promised, and who has what.
#[derive(Default)]
struct Campaigns {
    /// Of campaigns that stand alone, of wholes, and of parts.
    promised: BTreeMap<EntityKey, u32>,
    /// Whose parts there are, and what the parts of a whole promise together.
    wholes: BTreeMap<EntityKey, EntityKey>,
    shares: BTreeMap<EntityKey, u32>,
    /// Members with a coupon, and since when, by campaign; never by part.
    issued: BTreeMap<EntityKey, BTreeMap<u64, Timestamp>>,
}

/// The first coupon too many, the first winner without one, or the first refusal that was not true.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let mut campaigns = Campaigns::default();
    for row in &history.records {
        for fact in &row.facts {
            if let Some(breach) = campaigns.note(row, *fact) {
                return Some(breach);
            }
        }
    }
    for (campaign, members) in &campaigns.issued {
        let quantity = campaigns.quantity(*campaign);
        if members.len() > quantity as usize {
            return Some(format!("{campaign:?} issued {} of {quantity} coupons", members.len()));
        }
    }
    let none = BTreeMap::new();
    for claim in &history.claims {
        let members = campaigns.issued.get(&claim.campaign).unwrap_or(&none);
        let (quantity, then) =
            (campaigns.promised.get(&claim.campaign), members.values().filter(|at| **at <= claim.at));
        let held = match claim.told {
            ClaimTold::Won => members.contains_key(&claim.member),
            ClaimTold::SoldOut => quantity.is_some_and(|quantity| then.clone().count() >= *quantity as usize),
        };
        if !held {
            let (then, all) = (then.count(), members.len());
            return Some(format!("{claim:?}, but {then} of {quantity:?} coupons were issued, {all} in the end"));
        }
    }
    None
}

impl Campaigns {
    fn quantity(&self, campaign: EntityKey) -> u32 {
        self.promised.get(&campaign).copied().unwrap_or(0)
    }

    /// Notes what a record says, unless it must not.
    fn note(&mut self, row: &RecordRow, fact: Fact) -> Option<String> {
        if let Fact::Promised { quantity } = fact {
            self.promised.insert(row.gift, quantity);
        }
        if let Fact::PartPromised { whole, quantity } = fact {
            self.promised.insert(row.gift, quantity);
            self.wholes.insert(row.gift, whole);
            let shares = self.shares.entry(whole).or_default();
            *shares = shares.saturating_add(quantity);
            let (shares, promised) = (*shares, self.quantity(whole));
            if shares > promised {
                return Some(format!("the parts of {whole:?} promise {shares} of {promised} coupons"));
            }
        }
        if let Fact::Issued { total } = fact
            && total > self.quantity(row.gift)
        {
            return Some(format!("{:?} counts {total} coupons of {}", row.gift, self.quantity(row.gift)));
        }
        if let Fact::CouponIssued { campaign, member } = fact {
            let campaign = self.wholes.get(&campaign).copied().unwrap_or(campaign);
            if self.issued.entry(campaign).or_default().insert(member, row.at).is_some() {
                return Some(format!("member {member} has a second coupon of {campaign:?}: {:?}", row.gift));
            }
        }
        None
    }
}
