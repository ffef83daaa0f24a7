//! INV-7: no coupon beyond its campaign's quantity, none twice to a member; who was told that a coupon is won has one at the
//! end, and who was told that all are gone was told the truth.

use super::history::{ClaimTold, Fact, History};
use crate::types::ids::EntityKey;
use std::collections::{BTreeMap, BTreeSet};

/// The first coupon too many, the first winner without one, or the first refusal that was not true.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let mut promised: BTreeMap<EntityKey, u32> = BTreeMap::new();
    let mut issued: BTreeMap<EntityKey, BTreeSet<u64>> = BTreeMap::new();
    for row in &history.records {
        for fact in &row.facts {
            if let Fact::Promised { quantity } = fact {
                promised.insert(row.gift, *quantity);
            }
            if let Fact::CouponIssued { campaign, member } = fact
                && !issued.entry(*campaign).or_default().insert(*member)
            {
                return Some(format!("member {member} has a second coupon of {campaign:?}: {:?}", row.gift));
            }
        }
    }
    for (campaign, members) in &issued {
        let quantity = promised.get(campaign).copied().unwrap_or(0);
        if members.len() > quantity as usize {
            return Some(format!("{campaign:?} issued {} of {quantity} coupons", members.len()));
        }
    }
    let none = BTreeSet::new();
    for claim in &history.claims {
        let (members, quantity) = (issued.get(&claim.campaign).unwrap_or(&none), promised.get(&claim.campaign));
        let held = match claim.told {
            ClaimTold::Won => members.contains(&claim.member),
            ClaimTold::SoldOut => quantity.is_some_and(|quantity| members.len() >= *quantity as usize),
        };
        if !held {
            return Some(format!("{claim:?}, but {} of {quantity:?} coupons were issued", members.len()));
        }
    }
    None
}
