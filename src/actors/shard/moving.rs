//! The shard's side of the network: frames of its Raft group, and the snapshots that bring up a replica that lags or is
//! new. Blocking work runs in order on the node's mover thread; an installation on the applier's, between entries.

use super::{ShardMsg, ShardState};
use crate::actors::applier::ApplyTask;
use crate::actors::peering::encode_frame;
use crate::persistence::snapshot::SnapshotError;
use crate::persistence::transfer;
use crate::replication::core::{SnapshotId, SnapshotSeal};
use crate::replication::is_urgent;
use crate::replication::transport::Lane;
use crate::types::codec;
use ractor::ActorRef;
use std::sync::atomic::Ordering;

impl ShardState {
    pub(super) fn send(&self, to: u64, lane: Lane, bytes: &[u8]) {
        let shared = &self.args.shared;
        let Some(node) = shared.routes.node_of(self.args.id, to) else {
            tracing::debug!(shard = %self.args.id, to, "frame for a peer that is not known yet");
            return;
        };
        let frame = encode_frame(self.args.id, to, self.args.peer, bytes);
        // A lost frame is raft's business.
        let _sent = if lane == Lane::Raft && is_urgent(bytes) {
            shared.transport().cast_urgent(node, frame)
        } else {
            shared.transport().cast(node, lane, frame)
        };
    }

    pub(super) fn export(&self, me: &ActorRef<ShardMsg>, snapshot: SnapshotId, cursor: Vec<u8>, bytes_max: usize) {
        let (shared, shard, me) = (self.args.shared.clone(), self.args.id, me.clone());
        self.args.shared.mover.run(move || {
            let message = match transfer::export(&shared.state, &shared.keys, shard, cursor, bytes_max) {
                Ok(exported) => ShardMsg::Exported { snapshot, exported: Some(exported) },
                Err(SnapshotError::Lost | SnapshotError::OutOfOrder { .. }) => {
                    ShardMsg::Exported { snapshot, exported: None }
                }
                Err(SnapshotError::Store(error)) => shared.fatal(&error.to_string()),
            };
            let _ended = me.cast(message);
        });
    }

    pub(super) fn end_export(&self) {
        self.args.shared.counters.snapshots_sent.fetch_add(1, Ordering::Relaxed);
        let (shared, shard) = (self.args.shared.clone(), self.args.id);
        self.args.shared.mover.run(move || shared.state.end_export(shard));
    }

    pub(super) fn stage(
        &self,
        me: &ActorRef<ShardMsg>,
        snapshot: SnapshotId,
        number: u32,
        bytes: Vec<u8>,
        seal: Option<SnapshotSeal>,
    ) {
        let (shared, shard, me) = (self.args.shared.clone(), self.args.id, me.clone());
        let seal = seal.map(|seal| codec::encode(&seal)).unwrap_or_default();
        self.args.shared.mover.run(move || {
            match transfer::stage(&shared.state, shard, &bytes, seal) {
                Ok(()) => {
                    let _ended = me.cast(ShardMsg::Staged { snapshot, number });
                }
                // The sender hears nothing of this chunk and begins anew.
                Err(error @ (SnapshotError::Lost | SnapshotError::OutOfOrder { .. })) => {
                    tracing::warn!(%shard, %error, "snapshot chunk not staged");
                }
                Err(SnapshotError::Store(error)) => shared.fatal(&error.to_string()),
            }
        });
    }

    pub(super) fn drop_stage(&self) {
        let (shared, shard) = (self.args.shared.clone(), self.args.id);
        self.args.shared.mover.run(move || {
            if let Err(error) = shared.state.stage_drop(shard) {
                shared.fatal(&error.to_string());
            }
        });
    }

    pub(super) fn install(&self, me: &ActorRef<ShardMsg>, seal: SnapshotSeal) {
        tracing::info!(shard = %self.args.id, from = %seal.from.index, to = %seal.to_index, "installing a snapshot");
        self.args.shared.counters.snapshots_installed.fetch_add(1, Ordering::Relaxed);
        let task = ApplyTask::Install { shard: self.args.id, snapshot: seal.snapshot, reply: me.clone() };
        self.args.applier.submit(task);
    }
}
