//! Which heirs a chooser has named at its last looks. A hand-over that comes to nothing makes no noise, whether the heir is
//! behind or the request was lost: the shard stays where it was. So whoever was named and does not lead comes after the others
//! at the next looks, and so does the shard: each has its turn, and none is forgotten.

use crate::sharding::meta::PeerId;
use crate::types::ids::{NodeId, ShardId};
use std::collections::BTreeMap;

/// After so many looks a hand-over is taken to have come to nothing.
const UNDER_WAY_LOOKS: u64 = 1;

/// What one chooser remembers. It forgets a shard whose leader is another, or not known.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    /// Counts from 1.
    look: u64,
    shards: BTreeMap<ShardId, Named>,
}

/// The heirs of one shard, each with the look at which it was last named.
#[derive(Clone, Debug)]
struct Named {
    from: NodeId,
    heirs: BTreeMap<PeerId, u64>,
}

impl Attempts {
    /// Begins a look, at which these nodes lead.
    pub fn begin(&mut self, leaders: &BTreeMap<ShardId, NodeId>) {
        self.look += 1;
        self.shards.retain(|shard, named| leaders.get(shard) == Some(&named.from));
    }

    /// The leader of the shard, on `from`, is asked to hand over to this peer.
    pub fn name(&mut self, shard: ShardId, from: NodeId, heir: PeerId) {
        let named = self.shards.entry(shard).or_insert_with(|| Named { from, heirs: BTreeMap::new() });
        named.heirs.insert(heir, self.look);
    }

    /// Nothing is left to be handed over: what comes up later begins anew.
    pub fn forget(&mut self) {
        self.shards.clear();
    }

    /// The heirs that were named for a shard, and when: the later, the higher.
    #[must_use]
    pub fn of(&self, shard: ShardId) -> BTreeMap<PeerId, u64> {
        self.shards.get(&shard).map(|named| named.heirs.clone()).unwrap_or_default()
    }

    /// When an heir was last named for the shard, before this look; 0 is never.
    #[must_use]
    pub fn last(&self, shard: ShardId) -> u64 {
        self.latest(shard).map_or(0, |(_, look)| look)
    }

    /// When this peer was last named as its heir, before this look; 0 is never.
    #[must_use]
    pub fn last_of(&self, shard: ShardId, heir: PeerId) -> u64 {
        self.shards.get(&shard).and_then(|named| named.heirs.get(&heir)).copied().unwrap_or(0)
    }

    /// The heir that the shard may be on its way to.
    #[must_use]
    pub fn under_way(&self, shard: ShardId) -> Option<PeerId> {
        self.latest(shard).filter(|(_, look)| look + UNDER_WAY_LOOKS >= self.look).map(|(heir, _)| heir)
    }

    fn latest(&self, shard: ShardId) -> Option<(PeerId, u64)> {
        let heirs = &self.shards.get(&shard)?.heirs;
        heirs.iter().max_by_key(|(_, look)| **look).map(|(heir, look)| (*heir, *look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(7);

    fn led_by(node: u64) -> BTreeMap<ShardId, NodeId> {
        BTreeMap::from([(SHARD, NodeId(node))])
    }

    #[test]
    fn a_hand_over_is_under_way_until_the_look_after_the_next() {
        let mut attempts = Attempts::default();
        attempts.begin(&led_by(1));
        assert_eq!((attempts.under_way(SHARD), attempts.last(SHARD)), (None, 0));
        attempts.name(SHARD, NodeId(1), PeerId(20));
        attempts.begin(&led_by(1));
        assert_eq!((attempts.under_way(SHARD), attempts.last(SHARD)), (Some(PeerId(20)), 1));
        attempts.begin(&led_by(1));
        assert_eq!((attempts.under_way(SHARD), attempts.last(SHARD)), (None, 1));
        attempts.name(SHARD, NodeId(1), PeerId(30));
        let last = [20, 30, 40].map(|peer| attempts.last_of(SHARD, PeerId(peer)));
        assert_eq!((last, attempts.last(SHARD)), ([1, 3, 0], 3));
        assert_eq!(attempts.of(SHARD), BTreeMap::from([(PeerId(20), 1), (PeerId(30), 3)]));
    }

    #[test]
    fn a_shard_that_another_leads_is_forgotten() {
        for leaders in [led_by(2), BTreeMap::new()] {
            let mut attempts = Attempts::default();
            attempts.begin(&led_by(1));
            attempts.name(SHARD, NodeId(1), PeerId(20));
            attempts.begin(&leaders);
            assert_eq!((attempts.last(SHARD), attempts.under_way(SHARD)), (0, None));
        }
    }
}
