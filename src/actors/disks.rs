//! How long this node's log takes to become durable, and what the other nodes say of theirs. While this node's disk is far
//! slower than most others', it hands over what it leads and is given nothing. The rules are in `sharding::disk`.
//!
//! Each node judges its own disk and says so in its figures ([`crate::actors::health`]). The others are asked only by who
//! has a use for it: a node whose syncs are slow, and the leader of the meta group, which spreads the leaders.

use crate::actors::cluster::{leave, meta};
use crate::actors::node::Node;
use crate::actors::router::{self, NodeReply, NodeRequest};
use crate::persistence::log_writer::SyncWatch;
use crate::sharding::attempts::Attempts;
use crate::sharding::disk::{DiskJudge, SLOW, Syncs, of_majority};
use crate::types::ids::{META_SHARD, NodeId};
use crate::types::time::{BootMillis, Clock, Millis};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The other nodes are asked by every so many looks, and have so long to answer.
const ASK_EVERY: u32 = 2;
const ASK_PATIENCE: Duration = Duration::from_secs(1);
/// A slow node's log that nobody writes to is probed after so long.
const PROBE_AFTER: Millis = Millis(900);
/// What another node said is forgotten after so long.
const WORD_HOLDS: Millis = Millis::from_secs(6);

/// What another node said of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    typical: Option<Millis>,
    is_slow: bool,
    at: BootMillis,
}

/// One per node.
pub struct Disks {
    clock: Arc<dyn Clock>,
    syncs: Mutex<Syncs>,
    judge: Mutex<DiskJudge>,
    words: RwLock<BTreeMap<NodeId, Word>>,
    pub(super) am_slow: AtomicBool,
    /// Syncs take so much longer. Absent from every build but the tests'.
    #[cfg(test)]
    pub delay_ms: std::sync::atomic::AtomicU64,
}

impl SyncWatch for Arc<Disks> {
    fn begins(&self) {
        self.syncs.lock().begins(self.clock.boot());
    }
    fn ends(&self) {
        #[cfg(test)]
        std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
        self.syncs.lock().ends(self.clock.boot());
    }
}

impl Disks {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (syncs, judge, words) = (Mutex::default(), Mutex::default(), RwLock::default());
        Arc::new(Self {
            clock,
            syncs,
            judge,
            words,
            am_slow: AtomicBool::new(false),
            #[cfg(test)]
            delay_ms: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// What a sync of this node's log typically takes of late; `None` while there are few.
    #[must_use]
    pub fn typical(&self) -> Option<Millis> {
        self.syncs.lock().typical(self.clock.boot())
    }

    /// This node's disk is far slower than most others': it is to lead nothing.
    #[must_use]
    pub fn am_slow(&self) -> bool {
        self.am_slow.load(Ordering::Acquire)
    }

    /// The other nodes that said so of theirs, as far as they were asked of late.
    #[must_use]
    pub fn slow_others(&self) -> BTreeSet<NodeId> {
        let now = self.clock.boot();
        let words = self.words.read();
        words.iter().filter(|(_, word)| word.is_slow && word.holds(now)).map(|(node, _)| *node).collect()
    }

    /// As the node's figures show it.
    #[must_use]
    pub fn view(&self) -> Value {
        json!({ "typical_ms": self.typical().map(|typical| typical.0), "slow": self.am_slow() })
    }

    /// Takes another node's figures; `None` when it did not answer.
    fn hear(&self, node: NodeId, figures: Option<&Value>) {
        let mut words = self.words.write();
        // A build of before does not speak of it.
        match figures.map(|figures| &figures["log_sync"]).filter(|said| said.is_object()) {
            Some(said) => {
                let typical = said["typical_ms"].as_i64().map(Millis);
                let is_slow = said["slow"].as_bool().unwrap_or(false);
                words.insert(node, Word { typical, is_slow, at: self.clock.boot() });
            }
            None => drop(words.remove(&node)),
        }
    }

    /// Judges; whether this node is slow now, when that has changed.
    fn look(&self, members: usize) -> Option<bool> {
        let (now, own) = (self.clock.boot(), self.typical());
        let words = self.words.read();
        let others = words.values().filter(|word| word.holds(now)).filter_map(|word| word.typical);
        let majority = of_majority(members, others.chain(own));
        let changed = self.judge.lock().look(own, majority, now);
        if let Some(is_slow) = changed {
            self.am_slow.store(is_slow, Ordering::Release);
        }
        changed
    }
}

impl Word {
    fn holds(&self, now: BootMillis) -> bool {
        now.0.saturating_sub(self.at.0) <= WORD_HOLDS.0.unsigned_abs()
    }
}

/// Looks at the disks until it is aborted; hands leadership over while this node's is slow.
pub async fn run(node: Arc<Node>) {
    let mut attempts = Attempts::default();
    let mut looks: u32 = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        let disks = &node.shared.disks;
        let Some((_, state)) = meta::read(&node.shared) else { continue };
        let members: Vec<NodeId> = state.members().map(|(member, _)| member).collect();
        let suspicious = disks.am_slow() || disks.typical().is_some_and(|typical| typical >= SLOW);
        if (suspicious || node.shared.leads(META_SHARD)) && looks.is_multiple_of(ASK_EVERY) {
            ask(&node, &members).await;
        }
        if disks.am_slow() && disks.syncs.lock().is_idle(PROBE_AFTER, disks.clock.boot()) {
            node.probe_log();
        }
        if let Some(is_slow) = disks.look(members.len()) {
            say(disks.typical(), is_slow);
            attempts.forget();
        }
        if disks.am_slow() {
            hand_over(&node, &mut attempts);
        }
    }
}

fn say(typical: Option<Millis>, is_slow: bool) {
    let typical_ms = typical.map(|typical| typical.0);
    if is_slow {
        tracing::error!(
            typical_ms,
            "this node's disk takes far longer to make its log durable than most others': it hands all leadership over \
             and is given none until it is well; look at the disk"
        );
    } else {
        tracing::warn!(typical_ms, "this node's disk is well again: it may lead");
    }
}

async fn ask(node: &Node, members: &[NodeId]) {
    let others = members.iter().filter(|member| **member != node.folder.node);
    let asked = others.map(|other| async move {
        let answer = tokio::time::timeout(ASK_PATIENCE, router::ask_node(&node.shared, *other, NodeRequest::Health));
        let figures: Option<Value> = if let Ok(Ok(NodeReply::Health(figures))) = answer.await {
            serde_json::from_str(&figures).ok()
        } else {
            None
        };
        node.shared.disks.hear(*other, figures.as_ref());
    });
    futures_util::future::join_all(asked).await;
}

/// To nodes whose disks are well: a shard whose other replicas are all slow, or away, stays.
fn hand_over(node: &Node, attempts: &mut Attempts) {
    let mut shunned = leave::shunned(node);
    shunned.off.append(&mut shunned.slow);
    leave::name_heirs(node, &shunned, attempts);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::HandBoot;

    fn said(typical_ms: i64, slow: bool) -> Value {
        json!({ "log_sync": { "typical_ms": typical_ms, "slow": slow } })
    }

    #[test]
    fn a_node_is_slow_by_its_own_syncs_and_the_others_words() {
        let clock = Arc::new(HandBoot::default());
        let disks = Disks::new(clock.clone());
        let sync = |ms: u64| {
            disks.begins();
            clock.0.fetch_add(ms, Ordering::Relaxed);
            disks.ends();
        };
        (0..3).for_each(|_| sync(400));
        assert_eq!(disks.look(3), None);
        disks.hear(NodeId(2), Some(&said(2, false)));
        disks.hear(NodeId(3), Some(&said(3, false)));
        assert_eq!((disks.typical(), disks.look(3)), (Some(Millis(400)), None));
        (0..5).for_each(|_| sync(400));
        assert_eq!((disks.look(3), disks.am_slow()), (Some(true), true));
        assert_eq!(disks.view(), json!({ "typical_ms": 400, "slow": true }));
    }

    #[test]
    fn what_another_node_said_is_forgotten_after_a_while_or_when_it_is_silent() {
        let clock = Arc::new(HandBoot::default());
        let disks = Disks::new(clock.clone());
        disks.hear(NodeId(2), Some(&said(500, true)));
        disks.hear(NodeId(3), Some(&said(500, true)));
        assert_eq!(disks.slow_others(), BTreeSet::from([NodeId(2), NodeId(3)]));
        disks.hear(NodeId(3), None);
        assert_eq!(disks.slow_others(), BTreeSet::from([NodeId(2)]));
        disks.hear(NodeId(3), Some(&json!({ "commit_ms": {} })));
        clock.0.fetch_add(6_001, Ordering::Relaxed);
        assert_eq!(disks.slow_others(), BTreeSet::new());
    }
}
