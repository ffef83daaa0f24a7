//! One node: its shard core, its two disks, its clock, and what it hosts while it leads.

use crate::actors::clocks::Clocks;
use crate::actors::link::peer_clock::PeerClock;
use crate::persistence::ring::RingFile;
use crate::persistence::store::StoreError;
use crate::replication::core::{Committed, CoreError, CoreOptions, ShardCore, SnapshotSeal};
use crate::replication::entry::EntryFormat;
use crate::replication::transport::LinkStatus;
use crate::simulation::dice::Dice;
use crate::simulation::event::{Event, Life, MS, NodeEvent, Time};
use crate::simulation::hosting::Hosting;
use crate::simulation::log_disk::{LogDisk, SHARD};
use crate::simulation::options::{Defect, Options};
use crate::simulation::state_disk::StateDisk;
use crate::types::ids::{Incarnation, LogIndex, META_SHARD, NodeId};
use crate::types::time::{BootMillis, Millis, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// Work of the applier, in order.
pub enum Work {
    Apply(Vec<Committed>),
    Install(SnapshotSeal),
}

/// The instant of a step as the world knows it, and where a step's consequences go.
pub struct Turn<'a> {
    pub now: Time,
    /// True time, which no node sees.
    pub wall: Timestamp,
    /// By how much all clocks were moved by hand.
    pub moved: Millis,
    pub defect: Defect,
    pub dice: &'a mut Dice,
    pub out: Vec<Do>,
}

/// What a step of a node leads to in the world.
pub enum Do {
    After(Time, Event),
    /// A client is told.
    Reply {
        request: u64,
        answer: Result<crate::actors::door::Answer, crate::actors::door::AskError>,
    },
    Fail(String),
}

impl Turn<'_> {
    pub fn after(&mut self, delay: Time, event: Event) {
        self.out.push(Do::After(delay, event));
    }
}

pub struct Node {
    pub peer: u64,
    found: Vec<u64>,
    /// Counts starts and ends; events of an earlier life are void.
    pub life: u64,
    pub core: Option<ShardCore>,
    /// Its disk is lost: it never comes back under this id.
    pub lost: bool,
    pub log: LogDisk,
    pub syncing: bool,
    pub state: StateDisk,
    pub work: VecDeque<Work>,
    pub applying: bool,
    pub paused: bool,
    /// What happened while it stood still.
    pub deferred: Vec<NodeEvent>,
    pub slow_disk: bool,
    pub slow_applier: bool,
    /// Its wall clock minus true time.
    pub skew: Millis,
    /// The latest that its process has read: `app::clock` never lets a process see the wall clock go back.
    wall_reached: Timestamp,
    /// Stands still when it next is about to write a call's first byte.
    pub freezes_at_write: bool,
    pub clocks: Clocks,
    links: BTreeMap<u64, PeerClock>,
    looks: u64,
    pub hosting: Hosting,
    /// Digests of proposals without a fate.
    pub proposed: BTreeMap<u64, u64>,
    /// Read barriers without an answer, and what they must see.
    pub reads: BTreeMap<u64, LogIndex>,
}

impl Node {
    #[must_use]
    pub fn new(peer: u64, found: Vec<u64>, ring: RingFile, skew: Millis) -> Self {
        Self {
            peer,
            found,
            life: 0,
            core: None,
            lost: false,
            log: LogDisk::new(),
            syncing: false,
            state: StateDisk::new(ring),
            work: VecDeque::new(),
            applying: false,
            paused: false,
            deferred: Vec::new(),
            slow_disk: false,
            slow_applier: false,
            skew,
            wall_reached: Timestamp(i64::MIN),
            freezes_at_write: false,
            clocks: Clocks::new(NodeId(peer)),
            links: BTreeMap::new(),
            looks: 0,
            hosting: Hosting::default(),
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn life(&self) -> Life {
        Life { peer: self.peer, count: self.life }
    }

    /// An event for this very life.
    #[must_use]
    pub fn event(&self, event: NodeEvent) -> Event {
        Event::Node(self.life(), event)
    }

    #[must_use]
    pub fn runs(&self) -> bool {
        self.core.is_some()
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

    /// What its steady clock shows: its boot clock, moved by hand like all others.
    #[must_use]
    pub fn steady(&self, turn: &Turn<'_>) -> Timestamp {
        Timestamp(i64::try_from(self.boot_clock(turn.now).0).unwrap_or(i64::MAX)) + turn.moved
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

    /// Starts the process on what the disks hold.
    ///
    /// # Errors
    /// [`CoreError`] as the core says.
    pub fn boot(&mut self, options: &Options, wall: Timestamp) -> Result<(), CoreError> {
        self.life += 1;
        let log = self.log.load();
        // A crash may have come between the log's new beginning and the state's, or in the middle of the latter.
        let sealed = self.state.sealed();
        if sealed.as_ref().is_some_and(|seal| seal.from == log.start) {
            self.state.install();
        } else {
            self.state.stage_drop();
        }
        let (node, incarnation) = (NodeId(self.peer), Incarnation(self.life));
        let mut core_options = CoreOptions::new(SHARD, self.peer, node, incarnation);
        core_options.found.clone_from(&self.found);
        core_options.seed = options.seed;
        // Exports are of one index, so an installed state is whole.
        core_options.whole_at = sealed.map_or(LogIndex(0), |seal| seal.to_index);
        if options.tight {
            core_options.uncommitted_bytes_max = 6_000;
        }
        if options.short_logs {
            core_options.log_keep_entries = 8;
            core_options.log_held_entries_max = 60;
        }
        let mut core = ShardCore::new(core_options, log, self.state.applied(), self.log.reader())?;
        break_core(&mut core, options.defect);
        // Leaders of either format, one after the other, in one log.
        let dense = (self.peer + self.life).is_multiple_of(2);
        core.write_entries_as(if dense { EntryFormat::Dense } else { EntryFormat::Plain });
        self.core = Some(core);
        self.wall_reached = wall + self.skew;
        self.freezes_at_write = false;
        self.clocks = Clocks::new(NodeId(self.peer));
        self.links.clear();
        self.hosting = Hosting::new(options.seed ^ self.peer, wall + self.skew);
        Ok(())
    }

    /// The process ends: of what was not synced, so many writes of the log and the state survive.
    ///
    /// # Errors
    /// [`StoreError`]: the log does not open again.
    pub fn crash(&mut self, log_kept: usize, state_kept: usize) -> Result<(), StoreError> {
        self.core = None;
        self.life += 1;
        self.log.crash(log_kept)?;
        self.state.crash(state_kept);
        self.syncing = false;
        self.work.clear();
        self.applying = false;
        self.paused = false;
        self.deferred.clear();
        self.hosting = Hosting::default();
        self.proposed.clear();
        self.reads.clear();
        Ok(())
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
        let members = voters.iter().map(|peer| NodeId(*peer)).collect();
        let of_shard: Vec<NodeId> = voters.iter().map(|peer| NodeId(*peer)).collect();
        self.clocks.count(members, BTreeMap::from([(SHARD, of_shard.clone()), (META_SHARD, of_shard)]));
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
