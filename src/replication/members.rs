//! Membership changes: from our own steps to raft's joint consensus, and back to what is persisted.

use crate::persistence::log::Membership;
use crate::replication::io::{MemberChange, MembersRefusal};
use crate::types::ids::LogIndex;
use crate::types::limits::MEMBERS_MAX;
use raft::prelude::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use std::collections::BTreeSet;

pub(crate) fn to_conf_state(members: &Membership) -> ConfState {
    ConfState {
        voters: members.voters.clone(),
        learners: members.learners.clone(),
        voters_outgoing: members.voters_outgoing.clone(),
        learners_next: members.learners_next.clone(),
        auto_leave: members.auto_leave,
        ..ConfState::default()
    }
}

/// Sorted, so that equal groups are equal bytes: raft-rs keeps them in hash sets.
pub(crate) fn from_conf_state(index: LogIndex, conf: &ConfState) -> Membership {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    Membership {
        index,
        voters: sorted(&conf.voters),
        learners: sorted(&conf.learners),
        voters_outgoing: sorted(&conf.voters_outgoing),
        learners_next: sorted(&conf.learners_next),
        auto_leave: conf.auto_leave,
    }
}

/// Whether raft can be started with these members.
pub(crate) fn is_sound(members: &Membership) -> bool {
    let lists = [&members.voters, &members.learners, &members.voters_outgoing, &members.learners_next];
    let sorted = |ids: &[u64]| ids.windows(2).all(|pair| pair[0] < pair[1]) && ids.first() != Some(&0);
    let learner_votes = |id| members.voters.contains(id) || members.voters_outgoing.contains(id);
    !members.voters.is_empty()
        && lists.iter().all(|ids| ids.len() <= MEMBERS_MAX && sorted(ids))
        && !members.learners.iter().any(learner_votes)
        && members.learners_next.iter().all(|id| members.voters_outgoing.contains(id))
}

pub(crate) fn contains(members: &Membership, peer: u64) -> bool {
    [&members.voters, &members.learners, &members.voters_outgoing].iter().any(|ids| ids.contains(&peer))
}

pub(crate) fn is_joint(members: &Membership) -> bool {
    !members.voters_outgoing.is_empty()
}

/// Checks the steps against the group and turns them into one change.
///
/// # Errors
/// The refusal to answer with.
pub(crate) fn plan(
    members: &Membership,
    leader: u64,
    changes: &[MemberChange],
    caught_up: impl Fn(u64) -> bool,
) -> Result<ConfChangeV2, MembersRefusal> {
    if is_joint(members) {
        return Err(MembersRefusal::Busy);
    }
    let mut voters: BTreeSet<u64> = members.voters.iter().copied().collect();
    let mut touched = BTreeSet::new();
    let mut change = ConfChangeV2::default();
    for step in changes {
        let (kind, peer) = match *step {
            MemberChange::AddLearner(peer) if !contains(members, peer) => (ConfChangeType::AddLearnerNode, peer),
            MemberChange::Promote(peer) if members.learners.contains(&peer) => {
                if !caught_up(peer) {
                    return Err(MembersRefusal::NotCaughtUp);
                }
                voters.insert(peer);
                (ConfChangeType::AddNode, peer)
            }
            MemberChange::Remove(peer) if contains(members, peer) => {
                voters.remove(&peer);
                (ConfChangeType::RemoveNode, peer)
            }
            MemberChange::AddLearner(_) | MemberChange::Promote(_) | MemberChange::Remove(_) => {
                return Err(MembersRefusal::Senseless);
            }
        };
        if peer == 0 || !touched.insert(peer) {
            return Err(MembersRefusal::Senseless);
        }
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = peer;
        change.mut_changes().push(single);
    }
    let members_after = members.voters.len() + members.learners.len() + changes.len();
    if changes.is_empty() || voters.is_empty() || members_after > MEMBERS_MAX {
        return Err(MembersRefusal::Senseless);
    }
    if !voters.contains(&leader) {
        return Err(MembersRefusal::LeaderItself);
    }
    // One step is safe by itself; several go through a joint group that raft leaves by itself.
    change.set_transition(ConfChangeTransition::Auto);
    Ok(change)
}
