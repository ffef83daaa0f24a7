//! The event heap, the network and the course of one run.

use crate::persistence::key_store::KeyStore;
use crate::persistence::memory_store::MemoryStore;
use crate::persistence::ring::RingFile;
use crate::persistence::vault::Vault;
use crate::simulation::Tracing;
use crate::simulation::clients::{Clients, Step};
use crate::simulation::core_checks::CoreChecks;
use crate::simulation::coverage::Recent;
use crate::simulation::dice::{Dice, fill_secret, seed_secrets};
use crate::simulation::event::{Agenda, Event, Life, MINUTE, MS, NodeEvent, SECOND, Time};
use crate::simulation::hosting::Mail;
use crate::simulation::node::{Do, Node, Turn};
use crate::simulation::options::{FaultClass, Options};
use crate::simulation::outcome::Outcome;
use crate::simulation::providers::{Providers, parse_reference};
use crate::simulation::recorder::Recorder;
use crate::types::call::{RefusalClass, Report, ReportStatus};
use crate::types::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// 2026-12-24T13:40:00Z: Christmas midnight in Seoul is near.
const BEGIN: Timestamp = Timestamp(1_798_119_600_000);
/// What is left in peace, to come to rest: longer than any pause that a healthy cluster makes.
const HEALING: Time = 16 * MINUTE;
/// How long the world stands still for everybody at once, so that gifts expire and reservations cannot be cancelled any more.
const NIGHT: Millis = Millis::from_hours(7 * 24 + 1);
const TRACE_LINES: usize = 160;

/// A simulated cluster, its clients and its providers.
pub struct World {
    pub options: Options,
    pub dice: Dice,
    pub now: Time,
    agenda: Agenda,
    pub nodes: BTreeMap<u64, Node>,
    pub ring: RingFile,
    /// Of the front door.
    pub vault: Vault,
    /// Directed links that carry nothing.
    pub cut: BTreeSet<(u64, u64)>,
    pub providers: Providers,
    pub clients: Clients,
    pub recorder: Recorder,
    pub checks: CoreChecks,
    /// Nights that have passed.
    pub(super) jumped: Millis,
    pub healed: bool,
    /// No new gifts.
    pub closing: bool,
    pub outcome: Outcome,
    recent: Recent,
    violation: Option<String>,
    hash: Xxh3,
    tracing: Tracing,
    trace: Vec<String>,
}

impl World {
    /// Runs a seed to its end.
    ///
    /// # Errors
    /// The first violation, named by its invariant, with the trace as far as it is wanted.
    pub fn run(options: Options, tracing: Tracing) -> Result<Outcome, String> {
        let mut world = Self::new(options, tracing);
        let safe = world.options.minutes * MINUTE;
        world.run_until(safe)?;
        world.heal();
        world.run_until(safe + 2 * MINUTE)?;
        world.closing = true;
        // The last gifts are due within 22 minutes of their reservation.
        world.run_until(safe + 25 * MINUTE + HEALING)?;
        world.pass_night();
        world.run_until(safe + 25 * MINUTE + 2 * HEALING)?;
        world.judge();
        match world.violation.take() {
            Some(violation) => Err(world.report(&violation)),
            None => Ok(world.close()),
        }
    }

    fn new(options: Options, tracing: Tracing) -> Self {
        seed_secrets(options.seed);
        let ring = RingFile::memory();
        let keys = Arc::new(KeyStore::new(Arc::new(MemoryStore::new()), ring.clone()));
        let vault = Vault::open_with(keys, [7; 32], fill_secret).expect("a new ring opens");
        let mut world = Self {
            dice: Dice::new(options.seed),
            now: 0,
            agenda: Agenda::default(),
            nodes: BTreeMap::new(),
            ring,
            vault,
            cut: BTreeSet::new(),
            providers: Providers::default(),
            clients: Clients::default(),
            recorder: Recorder::default(),
            checks: CoreChecks::default(),
            jumped: Millis(0),
            healed: false,
            closing: false,
            outcome: Outcome::default(),
            recent: Recent::default(),
            violation: None,
            hash: Xxh3::new(),
            tracing,
            trace: Vec::new(),
            options,
        };
        let voters: Vec<u64> = (1..=world.options.voters).collect();
        for peer in &voters {
            world.add_node(*peer, voters.clone());
        }
        world.after(2 * SECOND, Event::Client(Step::Reserve));
        world.after(20 * SECOND, Event::Client(Step::Operate));
        world.after(40 * SECOND, Event::Client(Step::Campaign));
        world.after(70 * SECOND, Event::Client(Step::Sale));
        world.after(55 * SECOND, Event::Client(Step::Show));
        world.after(5 * SECOND, Event::NextFault);
        world
    }

    /// A node with an empty disk, and a clock as good as most.
    pub fn add_node(&mut self, peer: u64, found: Vec<u64>) {
        let skew = Millis(i64::try_from(self.dice.below(400)).unwrap_or(0) - 200);
        self.nodes.insert(peer, Node::new(peer, found, self.ring.clone(), skew));
        self.boot(peer);
    }

    fn run_until(&mut self, end: Time) -> Result<(), String> {
        while let Some((at, event)) = self.agenda.pop_until(end) {
            self.now = at;
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(self.report(&violation));
            }
        }
        self.now = end;
        Ok(())
    }

    /// True time, which no node sees.
    #[must_use]
    pub fn true_wall(&self) -> Timestamp {
        BEGIN + self.jumped + Millis(i64::try_from(self.now / MS).unwrap_or(i64::MAX))
    }

    pub fn after(&mut self, delay: Time, event: Event) {
        self.agenda.push(self.now + delay, event);
    }

    fn happen(&mut self, event: Event) {
        self.outcome.events += 1;
        self.hash.update(&self.now.to_le_bytes());
        match event {
            Event::Node(life, event) => self.node_event(life, event),
            Event::Frame { from, to, bytes } => {
                if !self.cut.contains(&(from, to)) && self.nodes.contains_key(&to) {
                    let frame = crate::replication::core::Input::Frame { from, bytes };
                    self.input(to, frame);
                }
            }
            Event::Arrive(call) => {
                let at = (self.now, self.true_wall());
                let reaction = self.providers.arrive(&call, &self.options, self.healed, at, &mut self.dice);
                for class in std::mem::take(&mut self.providers.struck) {
                    self.strike(class);
                }
                self.note(|| format!("provider gets {call:?}: {:?}", reaction.answer));
                if let Some((delay, answer)) = reaction.answer {
                    let answered = NodeEvent::Answered { call: call.call, token: call.token, answer };
                    self.after(delay, Event::Node(call.from, answered));
                }
                if let Some(delay) = reaction.again {
                    let mut again = call;
                    again.late = true;
                    self.after(delay, Event::Arrive(again));
                }
                reaction.taken.into_iter().for_each(|row| self.message_taken(row));
            }
            Event::Report { row, tries } => self.report_message(row, tries),
            Event::Client(step) => self.client(step),
            Event::Relief(relief) => self.relieve(relief),
            Event::NextFault => self.next_fault(),
        }
    }

    /// A provider has taken a message: reports follow, and unless it fails a person reads it.
    fn message_taken(&mut self, row: usize) {
        let send = self.providers.sends[row];
        let late = !self.healed && self.options.strikes(FaultClass::LateTruth, 200, &mut self.dice);
        let delay = if late {
            self.strike(FaultClass::LateTruth);
            self.dice.between(2 * MINUTE, 14 * MINUTE)
        } else {
            self.dice.between(SECOND, 40 * SECOND)
        };
        self.after(delay, Event::Report { row, tries: 0 });
        if !send.failed {
            self.delivered(send.gift);
        }
    }

    /// By webhook, or by a poll that asks again: any number of times, some never.
    fn report_message(&mut self, row: usize, tries: u32) {
        let send = self.providers.sends[row];
        let status = if send.failed {
            ReportStatus::Failed { code: "3018".to_owned(), class: RefusalClass::NextChannel }
        } else {
            ReportStatus::Delivered
        };
        let reference = format!("g_{}.{}.{}", send.gift.hex(), send.delivery, send.attempt);
        debug_assert!(parse_reference(&reference).is_some());
        let report = Report { reference, provider: "sim".to_owned(), status, at: self.true_wall() };
        let hosts: Vec<u64> =
            self.nodes.values().filter(|node| node.hosting.claim.is_some()).map(|node| node.peer).collect();
        let lost = self.dice.per_mille(100);
        if let Some(peer) = self.dice.pick(&hosts).filter(|_| !lost) {
            self.post(peer, send.gift, Mail::Report(report));
        }
        // What did not arrive is told until it surely was.
        if tries < 3 {
            let delay = self.dice.between(15 * SECOND, 60 * SECOND);
            self.after(delay, Event::Report { row, tries: tries + 1 });
        }
    }

    fn post(&mut self, peer: u64, gift: crate::types::ids::EntityKey, mail: Mail) {
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs() && !node.paused) else { return };
        node.catch_up(self.now);
        node.hosting.mail.push_back((gift, mail));
        self.settle_node(peer);
    }

    /// Lets a node act, and does in the world what comes of it.
    pub fn with_node(&mut self, peer: u64, act: impl FnOnce(&mut Node, &mut Turn<'_>)) {
        let (now, wall, moved, defect) = (self.now, self.true_wall(), self.jumped, self.options.defect);
        let loses = !self.healed && self.options.has(FaultClass::LostAnswer);
        let loses_answers = if loses { self.options.lost_answers() } else { 0 };
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs()) else { return };
        let mut turn = Turn { now, wall, moved, defect, loses_answers, dice: &mut self.dice, out: Vec::new() };
        act(node, &mut turn);
        for done in turn.out {
            match done {
                Do::After(delay, event) => self.after(delay, event),
                Do::Reply { to, answer } => self.reply(to, answer),
                Do::Damaged(what) => self.damaged(peer, &what),
                Do::Fail(what) => self.fail(what),
            }
        }
    }

    /// Sends a frame through the network as it is today.
    pub fn send(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        self.hash.update(&bytes);
        if self.cut.contains(&(from, to)) {
            return;
        }
        if self.harms(FaultClass::FrameDrop) {
            return self.strike(FaultClass::FrameDrop);
        }
        let mut delay = MS / 5 + self.dice.below(2 * MS);
        if self.harms(FaultClass::FrameDelay) {
            self.strike(FaultClass::FrameDelay);
            delay += self.dice.below(600 * MS);
        }
        if self.harms(FaultClass::FrameDouble) {
            self.strike(FaultClass::FrameDouble);
            let later = delay + self.dice.below(SECOND);
            self.after(later, Event::Frame { from, to, bytes: bytes.clone() });
        }
        self.after(delay, Event::Frame { from, to, bytes });
    }

    /// Whether a frame meets something.
    fn harms(&mut self, class: FaultClass) -> bool {
        !self.healed && self.options.strikes(class, 8, &mut self.dice)
    }

    /// A week passes in an instant, for all clocks at once: what was not used expires.
    fn pass_night(&mut self) {
        self.note(|| "A WEEK PASSES".into());
        self.jumped = Millis(self.jumped.0 + NIGHT.0);
        for peer in self.nodes.keys().copied().collect::<Vec<u64>>() {
            self.with_node(peer, |node, _| node.clock_moved());
            self.settle_node(peer);
        }
    }

    /// Something single meets a fault.
    pub fn strike(&mut self, class: FaultClass) {
        self.strike_for(class, 0);
    }

    /// A fault begins that lasts for so long.
    pub fn strike_for(&mut self, class: FaultClass, length: Time) {
        let span = (self.now, self.now + length);
        self.outcome.coverage.strike(class, span, &mut self.recent);
    }

    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// What the run did goes into its digest.
    pub fn mark(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.tracing != Tracing::Off
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing == Tracing::Off {
            return;
        }
        if self.tracing == Tracing::Last && self.trace.len() >= 2 * TRACE_LINES {
            self.trace.drain(..TRACE_LINES);
        }
        self.trace.push(format!("{:>11.3} {}", self.now as f64 / SECOND as f64, line()));
    }

    fn report(&self, violation: &str) -> String {
        let skipped = if self.tracing == Tracing::Last { self.trace.len().saturating_sub(TRACE_LINES) } else { 0 };
        let trace = &self.trace[skipped..];
        let nodes: Vec<String> =
            self.nodes.iter().map(|(peer, node)| format!("  node {peer}: {}", node.said())).collect();
        let at = self.now as f64 / SECOND as f64;
        format!("at {at:.3} s: {violation}\n  {}\n{}\n{}", self.options, nodes.join("\n"), trace.join("\n"))
    }

    fn close(mut self) -> Outcome {
        self.outcome.simulated = self.now;
        self.hash.update(&self.clients.acknowledged.to_le_bytes());
        self.outcome.digest = self.hash.digest128();
        self.outcome
    }
}

/// Whether an event is for the node as it runs now.
#[must_use]
pub fn is_current(node: &Node, life: Life) -> bool {
    node.runs() && node.life == life.count
}
