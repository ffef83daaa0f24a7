//! What a shard core says of itself, for routing, placement and the operator.

use crate::persistence::log::Membership;
use crate::replication::core::ShardCore;
use crate::types::ids::{Claim, LogIndex, Term};
use raft::StateRole;

/// A replica's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    /// Elected; its claim is not applied yet.
    Elected,
    /// Elected, claimed and hosting.
    Leader,
}

/// A replica at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    pub role: Role,
    pub term: Term,
    /// Peer id of the leader, as far as known.
    pub leader: Option<u64>,
    pub claim: Option<Claim>,
    pub committed: LogIndex,
    pub applied: LogIndex,
    /// First and last entry that the log holds; first = last + 1 when it is empty.
    pub first: LogIndex,
    pub last: LogIndex,
    pub members: Membership,
    /// False until a snapshot is complete: no reads, no promotion, no comparison of state.
    pub whole: bool,
    /// Leadership is being handed to this peer.
    pub transferee: Option<u64>,
    /// Receiver of the snapshot in flight.
    pub snapshot_to: Option<u64>,
    /// Followers as the leader sees them, by peer id; empty elsewhere.
    pub peers: Vec<PeerStatus>,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub peer: u64,
    /// Its log is known to match up to here.
    pub matched: LogIndex,
    /// It answered within the last election timeout.
    pub active: bool,
}

impl ShardCore {
    /// So many ticks from now on, at least, do nothing but count: no election, heartbeat, look at the quorum, resend or
    /// report is due by then, unless something else happens here.
    #[must_use]
    pub fn quiet_ticks(&self) -> u64 {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        let learns = self.members().learners.contains(&self.options.peer_id);
        let streams = self.outgoing.receiver().is_some() || self.incoming.is_some();
        if learns || self.is_behind() || streams || self.is_hurried() || (leads && self.lead.leading().is_none()) {
            return 0;
        }
        let elapsed = |limit: usize, elapsed: usize| limit.saturating_sub(elapsed);
        let left = if leads {
            let heartbeat = elapsed(raft.heartbeat_timeout(), raft.heartbeat_elapsed());
            heartbeat.min(elapsed(raft.election_timeout(), raft.election_elapsed))
        } else {
            elapsed(raft.randomized_election_timeout(), raft.election_elapsed)
        };
        left.saturating_sub(1) as u64
    }

    #[must_use]
    pub fn status(&self) -> CoreStatus {
        let raft = &self.raw.raft;
        let role = match (raft.state, self.lead.leading()) {
            (StateRole::Leader, Some(_)) => Role::Leader,
            (StateRole::Leader, None) => Role::Elected,
            (StateRole::Candidate | StateRole::PreCandidate, _) => Role::Candidate,
            (StateRole::Follower, _) => Role::Follower,
        };
        CoreStatus {
            role,
            term: Term(raft.term),
            leader: self.leader(),
            claim: self.claim(),
            committed: LogIndex(raft.raft_log.committed),
            applied: self.applied,
            first: LogIndex(raft.raft_log.first_index()),
            last: LogIndex(raft.raft_log.last_index()),
            members: self.members().clone(),
            whole: self.is_whole(),
            transferee: raft.lead_transferee,
            snapshot_to: self.outgoing.receiver(),
            peers: self.peers(),
        }
    }

    /// Peer id of the leader, as far as known.
    #[must_use]
    pub fn leader_peer(&self) -> Option<u64> {
        self.leader()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        let status = |(id, progress): (&u64, &raft::Progress)| PeerStatus {
            peer: *id,
            matched: LogIndex(progress.matched),
            active: progress.recent_active,
        };
        let mut peers: Vec<PeerStatus> = others.map(status).collect();
        peers.sort_by_key(|peer| peer.peer);
        peers
    }
}
