//! One node: its replica, its clocks, and what it hosts while it leads.

use crate::actors::clocks::Clocks;
use crate::actors::link::peer_clock::PeerClock;
use crate::domain::kinds::kinds;
use crate::persistence::ring::RingFile;
use crate::persistence::store::StoreError;
use crate::replication::core::{CoreError, Input, ShardCore};
use crate::replication::transport::LinkStatus;
use crate::simulation::answers::Try;
use crate::simulation::dice::Dice;
use crate::simulation::event::{Event, Life, MS, NodeEvent, Time};
use crate::simulation::hosting::Hosting;
use crate::simulation::log_disk::SHARD;
use crate::simulation::options::{Defect, Options};
use crate::simulation::replica::Replica;
use crate::types::ids::{LogIndex, META_SHARD, NodeId, Term};
use crate::types::takeovers::Takeovers;
use crate::types::time::{BootId, BootMillis, Millis, Timestamp};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A tick of the cores.
const TICK: Time = 100 * MS;

/// The instant of a step as the world knows it, and where a step's consequences go.
pub struct Turn<'a> {
    pub now: Time,
    /// True time, which no node sees.
    pub wall: Timestamp,
    /// By how much all clocks were moved by hand.
    pub moved: Millis,
    pub defect: Defect,
    /// Answers between nodes that are lost, in ten-thousandths.
    pub loses_answers: u64,
    pub dice: &'a mut Dice,
    pub out: Vec<Do>,
}

/// What a step of a node leads to in the world.
pub enum Do {
    After(Time, Event),
    /// A client is told.
    Reply {
        to: Try,
        answer: Result<crate::actors::door::Answer, crate::actors::door::AskError>,
    },
    Fail(String),
    /// A row cannot be read: the process ends.
    Damaged(String),
}

impl Turn<'_> {
    pub fn after(&mut self, delay: Time, event: Event) {
        self.out.push(Do::After(delay, event));
    }
}

pub struct Node {
    pub replica: Replica,
    /// Its disk is lost: it never comes back under this id.
    pub lost: bool,
    /// Its replica is being moved to another node, or was.
    pub moved_away: bool,
    /// A bit of its disks is flipped.
    pub flipped: bool,
    /// It is one of the log.
    pub flipped_log: bool,
    /// What happened while it stood still.
    pub deferred: Vec<NodeEvent>,
    /// Its wall clock minus true time.
    pub skew: Millis,
    /// The latest that its process has read: `app::clock` never lets a process see the wall clock go back.
    wall_reached: Timestamp,
    /// Stands still when it next is about to write a call's first byte.
    pub freezes_at_write: bool,
    pub power_cuts: u64,
    /// What the file `takeovers` holds.
    takeovers: Takeovers,
    pub clocks: Clocks,
    links: BTreeMap<u64, PeerClock>,
    looks: u64,
    /// When its core last ticked, and when it is to tick next at the latest.
    pub(super) ticked: Time,
    pub(super) ticks_by: Time,
    /// The state was made durable, and the log told, up to here.
    pub(super) settled: LogIndex,
    pub(super) settlings: u64,
    pub hosting: Hosting,
    /// Digests of proposals without a fate.
    pub proposed: BTreeMap<u64, u64>,
    /// Read barriers without an answer, and what they must see.
    pub reads: BTreeMap<u64, LogIndex>,
}

/// Busy entities that are named.
const SAID_MAX: usize = 4;

impl Deref for Node {
    type Target = Replica;
    fn deref(&self) -> &Replica {
        &self.replica
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }
}

impl Node {
    #[must_use]
    pub fn new(peer: u64, found: Vec<u64>, ring: RingFile, skew: Millis) -> Self {
        Self {
            replica: Replica::new(peer, found, ring, kinds),
            lost: false,
            moved_away: false,
            flipped: false,
            flipped_log: false,
            deferred: Vec::new(),
            skew,
            wall_reached: Timestamp(i64::MIN),
            freezes_at_write: false,
            power_cuts: 0,
            takeovers: Takeovers::default(),
            clocks: Clocks::new(NodeId(peer)),
            links: BTreeMap::new(),
            looks: 0,
            ticked: 0,
            ticks_by: 0,
            settled: LogIndex(0),
            settlings: 0,
            hosting: Hosting::default(),
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn life(&self) -> Life {
        Life { peer: self.peer, count: self.life }
    }

    /// What stands here, for the report of a violation.
    #[must_use]
    pub fn said(&self) -> String {
        let busy = self.hosting.live.iter().filter(|(_, entity)| !entity.driver.is_quiet());
        let busy: Vec<_> = busy.map(|(key, entity)| (*key, entity.driver.version())).take(SAID_MAX).collect();
        let (status, live) = (self.core.as_ref().map(ShardCore::status), self.hosting.live.len());
        format!("{live} live, busy {busy:?}, {status:?}")
    }

    /// An event for this very life.
    #[must_use]
    pub fn event(&self, event: NodeEvent) -> Event {
        Event::Node(self.life(), event)
    }

    /// What its own wall clock shows.
    #[must_use]
    pub fn own_wall(&self, wall: Timestamp) -> Timestamp {
        self.wall_reached.max(wall + self.skew)
    }

    /// The process reads its clock.
    pub fn read_clock(&mut self, wall: Timestamp) {
        self.wall_reached = self.own_wall(wall);
    }

    /// What its boot clock shows; no two machines were booted together.
    #[must_use]
    pub fn boot_clock(&self, now: Time) -> BootMillis {
        BootMillis(now / MS + 7_919 * self.peer)
    }

    /// What its boot clock counts from: when its machine last had its power back.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        BootId((u128::from(self.peer) << 64 | u128::from(self.power_cuts + 1)).to_be_bytes())
    }

    /// Claims of these terms are applied.
    pub fn note_claims(&mut self, terms: impl IntoIterator<Item = Term>, at: Timestamp) {
        let mut takeovers = std::mem::take(&mut self.takeovers).on(self.boot_id(), at);
        for term in terms {
            takeovers.saw(term, at);
        }
        self.hosting.takeovers = Arc::new(takeovers.clone());
        self.takeovers = takeovers;
    }

    /// What its steady clock shows: its boot clock, moved by hand like all others.
    #[must_use]
    pub fn steady(&self, turn: &Turn<'_>) -> Timestamp {
        self.steady_at(turn.now, turn.moved)
    }

    /// The same, while all clocks are moved by so much.
    #[must_use]
    pub fn steady_at(&self, now: Time, moved: Millis) -> Timestamp {
        Timestamp(i64::try_from(self.boot_clock(now).0).unwrap_or(i64::MAX)) + moved
    }

    /// The time of the shard, as its timers fire by it.
    #[must_use]
    pub fn time(&self, turn: &Turn<'_>) -> Option<Timestamp> {
        let own = self.own_wall(turn.wall);
        if turn.defect == Defect::OwnClock {
            return Some(own);
        }
        self.clocks.time(SHARD, own, self.steady(turn))
    }

    /// The clock of the gateways and of the front door.
    #[must_use]
    pub fn clock(&self, turn: &Turn<'_>) -> Timestamp {
        self.time(turn).unwrap_or_else(|| self.own_wall(turn.wall))
    }

    /// Hands its core the ticks since the last one. Between those that lead to something they come late, and in one go:
    /// they count, and nothing is counted in between.
    pub fn catch_up(&mut self, now: Time) {
        while self.ticked + TICK <= now {
            self.ticked += TICK;
            self.hosting.inputs.push(Input::Tick);
        }
    }

    /// When its core has to tick next, if that is sooner than it was going to.
    pub fn tick_due(&mut self) -> Option<Time> {
        let quiet = self.core.as_ref()?.quiet_ticks();
        let due = self.ticked + (quiet + 1) * TICK;
        let sooner = due < self.ticks_by || self.ticks_by <= self.ticked;
        sooner.then(|| {
            self.ticks_by = due;
            due
        })
    }

    /// Starts the process on what the disks hold.
    ///
    /// # Errors
    /// [`CoreError`] as the core says.
    pub fn boot(&mut self, options: &Options, wall: Timestamp) -> Result<(), CoreError> {
        let core = self.replica.boot(options.seed, |core| {
            if options.tight {
                core.uncommitted_bytes_max = 6_000;
            }
            if options.short_logs {
                core.log_keep_entries = 8;
                core.log_held_entries_max = 60;
            }
        })?;
        break_core(core, options.defect);
        self.wall_reached = wall + self.skew;
        self.freezes_at_write = false;
        self.clocks = Clocks::new(NodeId(self.peer));
        self.links.clear();
        self.hosting = Hosting::new(options.seed ^ self.peer, wall + self.skew, options.defect);
        self.hosting.lanes.gather_up_to(options.batch_max, options.batches_forgotten);
        Ok(())
    }

    /// The process ends: of what was not synced, so many writes of the log and the state survive.
    ///
    /// # Errors
    /// [`StoreError`]: the log does not open again.
    pub fn crash(&mut self, log_kept: usize, state_kept: usize) -> Result<(), StoreError> {
        self.replica.crash(log_kept, state_kept)?;
        self.deferred.clear();
        self.hosting = Hosting::default();
        self.proposed.clear();
        self.reads.clear();
        Ok(())
    }

    /// The clocks of these count.
    pub fn count_clocks(&self, voters: &[u64]) {
        let voters: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
        let members = voters.iter().copied().collect();
        self.clocks.count(members, BTreeMap::from([(SHARD, voters.clone()), (META_SHARD, voters)]));
    }

    /// Takes the links' word for the other clocks. `others`: peer, whether the link is up, what its clock shows.
    /// Returns whether this node must lead nothing and it is time to hand over.
    pub fn look_at_clocks(&mut self, voters: &[u64], others: &[(u64, bool, Timestamp)], turn: &mut Turn<'_>) -> bool {
        let (own, now) = (self.own_wall(turn.wall), self.steady(turn));
        let mut links = Vec::new();
        for (peer, up, shows) in others {
            let clock = self.links.entry(*peer).or_default();
            if *up {
                let round_trip_ms = i64::try_from(1 + turn.dice.below(4)).unwrap_or(1);
                clock.asked(turn.now, now - Millis(round_trip_ms));
                clock.answered(turn.now, shows.0 - turn.dice.below(2) as i64, turn.now, now);
            }
            let reading = clock.offset_ms();
            links.push(LinkStatus {
                node: *peer,
                address: String::new(),
                up: *up,
                incarnation: Some(1),
                round_trip_us: clock.round_trip_us(),
                clock_offset_ms: None,
                steady_offset_ms: reading.map(|(offset, _)| offset),
                clock_error_ms: reading.map(|(_, error)| error),
                queued_bytes: 0,
                credit_bytes: [0; 3],
                dropped_frames: 0,
            });
        }
        self.count_clocks(voters);
        self.clocks.look(&links, own, now);
        self.looks += 1;
        self.clocks.am_off() && self.looks.is_multiple_of(3)
    }
}

#[cfg(debug_assertions)]
fn break_core(core: &mut ShardCore, defect: Defect) {
    core.defects.go_on_after_drop = defect == Defect::GoOnAfterDrop;
    core.defects.keep_old_claim = defect == Defect::KeepOldClaim;
    core.defects.send_before_persisted = defect == Defect::SendBeforePersisted;
}

#[cfg(not(debug_assertions))]
fn break_core(_core: &mut ShardCore, _defect: Defect) {}
