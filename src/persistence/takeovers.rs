//! The row that keeps a replica's [`Takeovers`]. Of this replica alone: in no snapshot, and not among what replicas compare.

use crate::persistence::codec::{frame_value, open_value};
use crate::persistence::key::{self, Table};
use crate::persistence::state_store::StateStore;
use crate::persistence::store::{StoreError, WriteBatch};
use crate::types::ids::{ShardId, Term};
use crate::types::takeovers::Takeovers;
use crate::types::time::{BootId, BootMillis};

impl StateStore {
    /// Notes that claims of these terms are applied; all that is known then. A row that is damaged counts as none: attempts are
    /// then waited out for longer. Durable with what is applied next: a row that a
    /// power cut takes is of a boot clock that is gone too.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read or written; the process must end.
    pub fn note_claims(
        &self,
        shard: ShardId,
        terms: impl IntoIterator<Item = Term>,
        boot: BootId,
        at: BootMillis,
    ) -> Result<Takeovers, StoreError> {
        let row_key = key::of_shard(Table::Takeovers, shard);
        let noted = self.store().get(&row_key)?.and_then(|value| {
            let opened = open_value::<Takeovers>(&row_key, &value);
            opened.inspect_err(|error| tracing::warn!(%shard, %error, "when claims were applied is damaged: later instants stand for it")).ok()
        });
        let mut takeovers = noted.unwrap_or_default().on(boot);
        let news = terms.into_iter().filter(|term| takeovers.saw(*term, at)).count();
        if news > 0 {
            let mut batch = WriteBatch::default();
            batch.put(row_key.clone(), frame_value(&row_key, &takeovers));
            self.store().apply(batch)?;
        }
        Ok(takeovers)
    }

    /// Notes the claim up to which the shard's state goes, which was applied before now.
    ///
    /// # Errors
    /// As [`StateStore::note_claims`].
    pub fn note_applied_claim(&self, shard: ShardId, boot: BootId, at: BootMillis) -> Result<Takeovers, StoreError> {
        self.note_claims(shard, [self.applied(shard)?.claim.term], boot, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::memory_store::MemoryStore;
    use crate::persistence::state_store::AppliedRow;
    use crate::persistence::store::Store;
    use crate::types::ids::Claim;
    use std::sync::Arc;

    const SHARD: ShardId = ShardId(3);
    const HERE: BootId = BootId([7; 16]);

    fn at(state: &StateStore, terms: &[u64], boot: BootId, ms: u64) -> Takeovers {
        state.note_claims(SHARD, terms.iter().copied().map(Term), boot, BootMillis(ms)).unwrap()
    }

    #[test]
    fn when_claims_were_applied_is_known_to_the_next_process_but_not_after_a_power_cut() {
        let disk = Arc::new(MemoryStore::new());
        let state = StateStore::new(disk.clone());
        at(&state, &[2], HERE, 10);
        at(&state, &[3, 4], HERE, 20);
        let golden = hex::encode(disk.get(&key::of_shard(Table::Takeovers, SHARD)).unwrap().unwrap());
        assert_eq!(golden, "01074924cc0707070707070707070707070707070703020a03140414");
        let claim = Claim { term: Term(4), ..Claim::default() };
        state.commit(SHARD, WriteBatch::default(), &AppliedRow { claim, ..AppliedRow::default() }).unwrap();

        let next = StateStore::new(disk.clone());
        let known = next.note_applied_claim(SHARD, HERE, BootMillis(90)).unwrap();
        let over = |known: &Takeovers| [1, 2, 3, 4].map(|term| known.over(Term(term)).map(|at| at.0));
        assert_eq!(over(&known), [Some(10), Some(20), Some(20), None]);
        let elsewhere = BootId([8; 16]);
        let known = next.note_applied_claim(SHARD, elsewhere, BootMillis(5)).unwrap();
        assert_eq!(over(&known), [Some(5), Some(5), Some(5), None], "what was applied was so before the start");
        assert_eq!(over(&at(&next, &[5], elsewhere, 7)), [Some(5), Some(5), Some(5), Some(7)]);
        assert!(disk.flip_bit(&key::of_shard(Table::Takeovers, SHARD), 60));
        assert_eq!(over(&at(&next, &[6], elsewhere, 9)), [Some(9); 4], "the next leaders wait for longer");
    }
}
