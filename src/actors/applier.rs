//! The thread that applies committed entries of all shards of a node, in order, and reports what became of each record.

use crate::actors::shard::ShardMsg;
use crate::persistence::last_words::EndsProcess;
use crate::persistence::staged_keys;
use crate::persistence::takeovers::TakeoverFile;
use crate::replication::apply::Applier;
use crate::replication::core::{Committed, SnapshotId};
use crate::types::ids::{ShardId, Term};
use crate::types::record::RecordFate;
use crate::types::takeovers::Takeovers;
use crate::types::time::Clock;
use crossbeam_channel::{Sender, bounded};
use ractor::ActorRef;
use std::sync::Arc;
use std::thread;

/// What the applier does for one shard, in the order in which its core asked.
pub enum ApplyTask {
    /// Committed entries, in log order.
    Entries { shard: ShardId, entries: Vec<Committed>, reply: ActorRef<ShardMsg> },
    /// Makes what is staged the shard's state.
    Install { shard: ShardId, snapshot: SnapshotId, reply: ActorRef<ShardMsg> },
    /// The shard leaves this node: what is cached of it is of no use. Answered when nothing of it is left to do.
    Forget { shard: ShardId, done: Sender<()> },
}

/// What became of one of this node's own proposals.
#[derive(Clone, Copy, Debug)]
pub struct Fated {
    pub tag: u64,
    pub fate: RecordFate,
}

/// Notes when claims are applied.
pub struct Noting {
    pub file: Arc<TakeoverFile>,
    pub clock: Arc<dyn Clock>,
}

impl Noting {
    fn claims(&self, shard: ShardId, terms: impl IntoIterator<Item = Term>) -> Arc<Takeovers> {
        Arc::new(self.file.note(shard, terms, &*self.clock))
    }
}

/// Hands tasks to the applier thread.
#[derive(Clone)]
pub struct ApplierHandle {
    tasks: Sender<ApplyTask>,
}

/// Tasks waiting for the applier; submitting blocks beyond it, which holds back the log.
const QUEUE_MAX: usize = 4_096;

impl ApplierHandle {
    pub fn submit(&self, task: ApplyTask) {
        if self.tasks.send(task).is_err() {
            tracing::debug!("apply task dropped: the node stops");
        }
    }

    /// Waits until all that was submitted of a shard is done, and what is cached of it is gone; `false` when the node stops.
    /// Nothing more of it may be submitted meanwhile.
    #[must_use]
    pub fn forget(&self, shard: ShardId) -> bool {
        let (done, wait) = bounded(1);
        self.submit(ApplyTask::Forget { shard, done });
        wait.recv().is_ok()
    }
}

/// Starts the thread. An entry that cannot be applied ends the process: replicas must not differ.
///
/// # Errors
/// The operating system refused a thread.
pub fn start(applier: Applier, takeovers: Noting) -> std::io::Result<ApplierHandle> {
    let (tasks, inbox) = bounded::<ApplyTask>(QUEUE_MAX);
    thread::Builder::new().name("applier".to_owned()).spawn(move || {
        let _guard = EndsProcess("applier");
        for task in inbox {
            match task {
                ApplyTask::Entries { shard, entries, reply } => run(&applier, &takeovers, shard, &entries, &reply),
                ApplyTask::Forget { shard, done } => {
                    applier.forget(shard);
                    // Who waits may have given up.
                    done.send(()).unwrap_or_default();
                }
                ApplyTask::Install { shard, snapshot, reply } => install(&applier, &takeovers, shard, snapshot, &reply),
            }
        }
    })?;
    Ok(ApplierHandle { tasks })
}

fn install(applier: &Applier, noting: &Noting, shard: ShardId, snapshot: SnapshotId, reply: &ActorRef<ShardMsg>) {
    let installed = staged_keys::install(&applier.state, &applier.keys, shard);
    let takeovers = match installed {
        Ok(applied) => noting.claims(shard, [applied.claim.term]),
        Err(error) => {
            tracing::error!(%shard, %error, "cannot install a snapshot: ending the process");
            std::process::abort()
        }
    };
    applier.forget(shard);
    let _ended = reply.cast(ShardMsg::Installed { snapshot, takeovers });
}

fn run(applier: &Applier, noting: &Noting, shard: ShardId, entries: &[Committed], reply: &ActorRef<ShardMsg>) {
    let Some(last) = entries.last().map(|entry| entry.index) else { return };
    let payloads: Vec<_> = entries.iter().map(|entry| (entry.index, entry.term, entry.payload.as_slice())).collect();
    let ends = |error: &dyn std::fmt::Display| -> ! {
        tracing::error!(%shard, %error, "cannot apply a committed entry: ending the process");
        std::process::abort()
    };
    let applied = applier.apply(shard, &payloads).unwrap_or_else(|error| ends(&error));
    let mut claims = applied.iter().filter_map(|entry| entry.claim).map(|claim| claim.term).peekable();
    let takeovers = claims.peek().is_some().then(|| noting.claims(shard, claims));
    let tags = entries.iter().flat_map(|entry| entry.tags.iter().copied().map(move |tag| (entry.index, tag)));
    let mut fates = Vec::new();
    let mut own = tags.peekable();
    for entry in &applied {
        let mut position = 0;
        while let Some((_, tag)) = own.next_if(|(index, _)| *index == entry.index) {
            if let Some(fate) = entry.fates.get(position) {
                fates.push(Fated { tag, fate: *fate });
            }
            position += 1;
        }
    }
    if reply.cast(ShardMsg::Applied { index: last, fates, takeovers }).is_err() {
        tracing::debug!(%shard, "applied for a stopped shard");
    }
}
