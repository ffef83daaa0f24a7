//! From the fault to the next send of each shard that the victims led, read from the ledger.
//!
//! A gift whose attempt was open at the fault is waited out on purpose before it is looked up and repeated; so what counts
//! is the first acceptance of any gift of the shard after the fault.

use crate::load::ledger::{LedgerItem, gift_id};
use crate::sharding::shard_of;
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Kind of a gift in an entity's key.
const GIFT: EntityKind = EntityKind(1);

/// The shard of a gift.
#[must_use]
pub fn shard_of_gift(id: [u8; 16], shards: u16) -> u16 {
    shard_of(&EntityKey { kind: GIFT, id }, shards).0
}

/// For each of the `led` shards that had something left to send, milliseconds from the fault to its next send.
#[must_use]
pub fn next_sends(led: &BTreeSet<u16>, shards: u16, fault: Timestamp, items: &[LedgerItem]) -> BTreeMap<u16, i64> {
    let mut next: BTreeMap<u16, i64> = BTreeMap::new();
    for item in items.iter().filter(|item| item.effective > 0 && item.purpose.as_deref() == Some("gift")) {
        let id = item.reference.split('.').next().and_then(gift_id);
        let at = Timestamp::parse_rfc3339(&item.first_at).filter(|at| *at > fault);
        let (Some(id), Some(at)) = (id, at) else { continue };
        let shard = shard_of_gift(id, shards);
        if led.contains(&shard) {
            let after = (at - fault).0;
            next.entry(shard).and_modify(|least| *least = after.min(*least)).or_insert(after);
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: [u8; 16], at: i64, purpose: &str) -> LedgerItem {
        LedgerItem {
            reference: format!("g_{}.0.1", hex::encode(id)),
            purpose: Some(purpose.to_owned()),
            requests: 1,
            effective: 1,
            first_at: Timestamp(at).to_rfc3339(),
            amount: None,
        }
    }

    #[test]
    fn the_first_send_after_the_fault_counts_for_its_shard() {
        let (a, b) = ([1; 16], [2; 16]);
        let (of_a, of_b) = (shard_of_gift(a, 64), shard_of_gift(b, 64));
        assert_ne!(of_a, of_b);
        let items = [row(a, 900, "gift"), row(a, 1_700, "gift"), row(a, 1_300, "gift"), row(b, 1_100, "notice")];
        let next = next_sends(&[of_a, of_b].into(), 64, Timestamp(1_000), &items);
        assert_eq!(next, [(of_a, 300)].into());
        assert!(next_sends(&[of_b].into(), 64, Timestamp(1_000), &items).is_empty());
    }
}
