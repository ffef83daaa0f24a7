//! Batches on a node of the simulation: the binary's gatherer and the binary's flows, whose hands are events. A flow waits
//! for an answer, is polled when it is there, and asks for the next thing.

use crate::actors::door::{Answer, AskError};
use crate::domain::batch::{BatchCommand, BatchRejection, BatchState, batch_key_of};
use crate::domain::kinds::INDEX_BATCH_MEMBER;
use crate::gateways::batch_book::{Later, NotAgain, NotStarted, OpenBatch};
use crate::gateways::batch_flow::{self, Fate, Repeats, Slip};
use crate::gateways::course::Cut;
use crate::gateways::gather::{Gather, GroupNumber};
use crate::gateways::policy::concurrency::Micros;
use crate::providers::LookupAnswer;
use crate::simulation::answers::Caller;
use crate::simulation::batch_hands::{Asked, Replied, Reply, SimHands};
use crate::simulation::event::{Event, MS, NodeEvent, ProviderAnswer, ProviderCall, Time, Wire};
use crate::simulation::hosting::Mail;
use crate::simulation::lanes::Permit;
use crate::simulation::log_disk::SHARD;
use crate::simulation::node::{Node, Turn};
use crate::simulation::options::Defect;
use crate::types::batch::Member;
use crate::types::call::{CallOutcome, CallRequest, EntityRequest, MessageRequest, Prior, Template};
use crate::types::codec;
use crate::types::effect::{Channel, Slot};
use crate::types::ids::{CommandId, EntityKey, Version};
use crate::types::limits::{ATTEMPT_NOT_AFTER, CALL_DEADLINE};
use crate::types::time::BootMillis;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The one lane of the simulation whose provider takes batches.
pub(super) const CHANNEL: Channel = Channel::Kakao;
/// How long a send waits for others.
const WAIT: Time = 25 * MS;

/// A started attempt with its permit.
pub(super) struct Held {
    pub key: EntityKey,
    pub slot: Slot,
    pub permit: Permit,
    pub slip: Slip,
}

struct Flow {
    future: BoxFuture<'static, Vec<Fate>>,
    members: Vec<Held>,
}

/// What an entity or a barrier is to say.
enum Open {
    Start(EntityKey, Reply<Result<EntityKey, NotStarted>>),
    Find(Member, Reply<Result<Option<OpenBatch>, Later>>),
    Render(Vec<Member>, Reply<Result<Option<Vec<MessageRequest>>, Later>>),
    Again(Reply<Result<(), NotAgain>>),
    Close(Reply<Result<(), Later>>),
}

/// A call that is about to be written, or is out.
struct Line {
    wire: Wire,
    not_after: BootMillis,
    token: u64,
    began: Time,
    end: BootMillis,
    reply: LineReply,
}

enum LineReply {
    LookUp(Reply<Result<LookupAnswer, Cut>>),
    Call(Reply<Replied>),
}

/// A node's batches.
pub(super) struct Batches {
    most: usize,
    /// Broken on purpose: what is in an open batch is not looked for.
    forgets: bool,
    gather: Gather<Held>,
    flows: BTreeMap<u64, Flow>,
    repeats: Repeats,
    hands: Arc<SimHands>,
    open: BTreeMap<u64, Open>,
    lines: BTreeMap<u64, Line>,
    numbers: u64,
}

impl Default for Batches {
    fn default() -> Self {
        Self::new(1, false)
    }
}

impl Batches {
    /// Gathers up to `most`; 1 gathers nothing and finds nothing.
    pub fn new(most: usize, forgets: bool) -> Self {
        Self {
            most,
            forgets,
            gather: Gather::new(most),
            flows: BTreeMap::new(),
            repeats: Repeats::default(),
            hands: Arc::default(),
            open: BTreeMap::new(),
            lines: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub fn are_on(&self) -> bool {
        self.most > 1
    }

    /// A permit of the lane is on its way to its attempt.
    pub fn granted(&mut self, permit: &Permit) {
        if self.are_on() && permit.may_share_a_call() {
            self.gather.granted(SHARD);
        }
    }

    /// Whether a call is about to send gifts.
    pub fn sends(&self, call: u64) -> bool {
        self.lines.get(&call).is_some_and(|line| matches!(line.wire, Wire::Batch(_)))
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Node {
    /// A permit came back, or is used otherwise.
    pub(super) fn batch_left(&mut self, permit: &Permit, turn: &mut Turn<'_>) {
        if self.gathers(permit) {
            let groups = self.hosting.lanes.batches.gather.left(SHARD);
            self.send_off(groups, turn);
        }
    }

    fn gathers(&self, permit: &Permit) -> bool {
        self.hosting.lanes.batches.are_on() && permit.may_share_a_call()
    }

    /// A started attempt comes with its permit; given back when it goes alone.
    pub(super) fn take_into_batch(&mut self, held: Held, turn: &mut Turn<'_>) -> Option<Held> {
        if !self.gathers(&held.permit) || held.slip.request.channel != CHANNEL {
            return Some(held);
        }
        match held.slip.request.prior {
            Prior::Perhaps { .. } => {
                self.batch_left(&held.permit, turn);
                return Some(held);
            }
            Prior::Unknown { .. } if self.hosting.lanes.batches.forgets => {
                self.batch_left(&held.permit, turn);
                return Some(held);
            }
            Prior::Unknown { .. } => {
                self.batch_left(&held.permit, turn);
                let batches = &self.hosting.lanes.batches;
                let (hands, repeats) = (Arc::clone(&batches.hands), batches.repeats.clone());
                let slip = held.slip.clone();
                let flow = async move { vec![batch_flow::repeat(hands, &repeats, SHARD, &slip).await] };
                self.begin_flow(Box::pin(flow), vec![held]);
            }
            Prior::None => {
                let template: Template = held.slip.request.template;
                let gathered = self.hosting.lanes.batches.gather.came(SHARD, template, held);
                self.send_off(gathered.groups, turn);
                if let Some(GroupNumber(group)) = gathered.waits {
                    turn.after(WAIT, self.event(NodeEvent::GatheredLongEnough { group }));
                }
            }
        }
        self.run_batches(turn);
        None
    }

    /// A group has waited for long enough.
    pub fn on_gathered(&mut self, group: u64, turn: &mut Turn<'_>) {
        let group = self.hosting.lanes.batches.gather.overdue(GroupNumber(group));
        self.send_off(group.into_iter().collect(), turn);
    }

    fn send_off(&mut self, groups: Vec<Vec<Held>>, turn: &mut Turn<'_>) {
        for mut group in groups {
            if group.len() > 1 {
                let hands = Arc::clone(&self.hosting.lanes.batches.hands);
                let slips: Vec<Slip> = group.iter().map(|held| held.slip.clone()).collect();
                let flow = async move { batch_flow::first_try(&*hands, &slips).await };
                self.begin_flow(Box::pin(flow), group);
            } else if let Some(held) = group.pop() {
                self.call_alone(held, turn);
            }
        }
        self.run_batches(turn);
    }

    fn begin_flow(&mut self, future: BoxFuture<'static, Vec<Fate>>, members: Vec<Held>) {
        let batches = &mut self.hosting.lanes.batches;
        let number = batches.number();
        batches.flows.insert(number, Flow { future, members });
    }

    /// Polls the flows and does what they ask for, until they all wait.
    fn run_batches(&mut self, turn: &mut Turn<'_>) {
        loop {
            let (now, boot) = (self.clock(turn), self.boot_clock(turn.now));
            let batches = &mut self.hosting.lanes.batches;
            {
                let mut desk = batches.hands.desk.lock();
                (desk.now, desk.boot) = (now, boot);
            }
            let mut context = Context::from_waker(Waker::noop());
            let mut ended = Vec::new();
            for (number, flow) in &mut batches.flows {
                if let Poll::Ready(fates) = flow.future.as_mut().poll(&mut context) {
                    ended.push((*number, fates));
                }
            }
            let ended: Vec<(Vec<Held>, Vec<Fate>)> = ended
                .into_iter()
                .filter_map(|(number, fates)| Some((batches.flows.remove(&number)?.members, fates)))
                .collect();
            let asked = std::mem::take(&mut batches.hands.desk.lock().asked);
            if ended.is_empty() && asked.is_empty() {
                return;
            }
            asked.into_iter().for_each(|asked| self.do_asked(asked, turn));
            for (held, fate) in ended.into_iter().flat_map(|(members, fates)| members.into_iter().zip(fates)) {
                match fate {
                    Fate::End(outcome, health) => {
                        let Held { key, slot, permit, .. } = held;
                        self.end_call(key, slot, Some(permit), (CallOutcome::Message(outcome), health), turn);
                    }
                    Fate::Alone => self.call_alone(held, turn),
                }
            }
        }
    }

    fn do_asked(&mut self, asked: Asked, turn: &mut Turn<'_>) {
        match asked {
            Asked::Start(sheet, reply) => {
                let now = self.clock(turn);
                let Some(key) = batch_key_of(&sheet, now) else { return };
                let command = BatchCommand::Start { sheet: Box::new(sheet), by: now + ATTEMPT_NOT_AFTER };
                self.command_batch(key, &command, Open::Start(key, reply), turn);
            }
            Asked::Again(key, absent_since, reply) => {
                let command = absent_since.map_or(BatchCommand::Again, |since| BatchCommand::AgainAbsent { since });
                self.command_batch(key, &command, Open::Again(reply), turn);
            }
            Asked::Close(key, why, reply) => {
                self.command_batch(key, &BatchCommand::Close(why), Open::Close(reply), turn);
            }
            Asked::Find(member, reply) => self.behind_a_barrier(Open::Find(member, reply), turn),
            Asked::Render(members, reply) => self.behind_a_barrier(Open::Render(members, reply), turn),
            Asked::LookUp(request, not_after, reply) => {
                self.hold_line(Wire::LookUp(request), not_after, LineReply::LookUp(reply), turn);
            }
            Asked::Call(requests, not_after, reply) => {
                self.hold_line(Wire::Batch(requests), not_after, LineReply::Call(reply), turn);
            }
        }
    }

    fn command_batch(&mut self, target: EntityKey, command: &BatchCommand, open: Open, turn: &mut Turn<'_>) {
        let batches = &mut self.hosting.lanes.batches;
        let number = batches.number();
        batches.open.insert(number, open);
        let request = EntityRequest { target, command_id: CommandId(turn.dice.id()), command: codec::encode(command) };
        self.hosting.mail.push_back((target, Mail::Batch { number, request }));
    }

    fn behind_a_barrier(&mut self, open: Open, turn: &mut Turn<'_>) {
        let batches = &mut self.hosting.lanes.batches;
        let number = batches.number();
        batches.open.insert(number, open);
        let key = EntityKey { kind: crate::domain::kinds::BATCH, id: [0; 16] };
        let nothing = Answer { key, version: Version(0), state: Vec::new(), replayed: false, unwritten: true };
        self.tell(Caller::Batch(number), Ok(nothing), turn);
    }

    /// What an entity or a barrier says.
    pub(super) fn batch_answered(&mut self, number: u64, answer: Result<Answer, AskError>, turn: &mut Turn<'_>) {
        let Some(open) = self.hosting.lanes.batches.open.remove(&number) else { return };
        // A flow that is gone listens no more.
        match open {
            Open::Start(key, reply) => {
                let written = match answer {
                    Ok(_) => Ok(key),
                    Err(AskError::Unknown) => Err(NotStarted::Unknown),
                    Err(_) => Err(NotStarted::Refused),
                };
                let _gone = reply.send(written);
            }
            Open::Again(reply) => {
                let _gone = reply.send(answer.map(|_| ()).map_err(|error| not_again(&error)));
            }
            Open::Close(reply) => {
                let _gone = reply.send(answer.map(|_| ()).map_err(|_| Later));
            }
            Open::Find(member, reply) => {
                let found = if answer.is_ok() { self.find_batch(member, turn) } else { Err(Later) };
                let _gone = reply.send(found);
            }
            Open::Render(members, reply) => {
                let rendered = if answer.is_ok() { self.render(&members, turn) } else { Err(Later) };
                let _gone = reply.send(rendered);
            }
        }
        self.run_batches(turn);
    }

    fn find_batch(&self, member: Member, turn: &mut Turn<'_>) -> Result<Option<OpenBatch>, Later> {
        let found = self.state.state.index_get(SHARD, INDEX_BATCH_MEMBER, &member.to_bytes());
        let Some(key) = self.read(found, turn).ok_or(Later)? else { return Ok(None) };
        let row = self.read(self.state.state.get(SHARD, &key), turn).ok_or(Later)?.ok_or(Later)?;
        let state: BatchState = codec::decode(&row.state).expect("a stored state decodes");
        Ok(state.open().map(|open| OpenBatch { key, sheet: open.sheet.clone() }))
    }

    fn render(&self, members: &[Member], turn: &mut Turn<'_>) -> Result<Option<Vec<MessageRequest>>, Later> {
        let mut requests = Vec::new();
        for member in members {
            let key = member.entity;
            let row = self.read(self.state.state.get(SHARD, &key), turn).ok_or(Later)?;
            let kind = self.hosting.kinds.get(key.kind).expect("only registered kinds are hosted");
            let live = kind.load(key, row.as_ref().map(|row| row.state.as_slice())).expect("a stored state decodes");
            let personal = live.sealed().and_then(|sealed| self.state.vault.open(key, &sealed).expect("it opens"));
            let wanted = live.wants().calls.iter().any(|call| call.slot == member.slot);
            match live.request(member.slot, personal.as_deref()).filter(|_| wanted) {
                Some(CallRequest::Message(message)) => requests.push(message),
                Some(CallRequest::Payment(_) | CallRequest::Entity(_) | CallRequest::Shipment(_)) | None => {
                    return Ok(None);
                }
            }
        }
        Ok(Some(requests))
    }

    fn hold_line(&mut self, wire: Wire, not_after: BootMillis, reply: LineReply, turn: &mut Turn<'_>) {
        let number = self.hosting.lanes.number();
        let line = Line { wire, not_after, token: 0, began: turn.now, end: BootMillis(u64::MAX), reply };
        self.hosting.lanes.batches.lines.insert(number, line);
        let delay = MS / 10 + turn.dice.below(2 * MS);
        turn.after(delay, self.event(NodeEvent::Write { call: number }));
    }

    /// As [`Node::write_call`], for what a flow asked for.
    pub(super) fn write_line(&mut self, number: u64, turn: &mut Turn<'_>) {
        let (boot, life) = (self.boot_clock(turn.now), self.life());
        let term = self.hosting.claim.map_or(0, |claim| claim.term.0);
        let Some(line) = self.hosting.lanes.batches.lines.get_mut(&number) else { return };
        line.token += 1;
        let token = line.token;
        if boot >= line.not_after && turn.defect != Defect::LateFirstByte {
            return self.on_line_answer(number, token, ProviderAnswer::Cut(Cut::NotBegun), turn);
        }
        line.end = BootMillis(boot.0 + CALL_DEADLINE.0.unsigned_abs());
        line.began = turn.now;
        let wire = line.wire.clone();
        let arrival = ProviderCall { from: life, call: number, token, term, wire, late: false };
        let delay = MS + turn.dice.below(30 * MS);
        turn.after(delay, Event::Arrive(Box::new(arrival)));
        let cut = NodeEvent::Answered { call: number, token, answer: ProviderAnswer::Cut(Cut::Late) };
        turn.after(CALL_DEADLINE.0.unsigned_abs() * MS, Event::Node(life, cut));
    }

    pub(super) fn on_line_answer(&mut self, number: u64, token: u64, answer: ProviderAnswer, turn: &mut Turn<'_>) {
        let (boot, now) = (self.boot_clock(turn.now), self.clock(turn));
        let lines = &mut self.hosting.lanes.batches.lines;
        if lines.get(&number).is_none_or(|line| line.token != token) {
            return;
        }
        let Some(line) = lines.remove(&number) else { return };
        let answer = if boot >= line.end { ProviderAnswer::Cut(Cut::Late) } else { answer };
        let latency = Micros(turn.now - line.began);
        match (line.reply, answer) {
            (LineReply::LookUp(reply), ProviderAnswer::LookedUp(found)) => {
                let _gone = reply.send(Ok(found));
            }
            (LineReply::LookUp(reply), ProviderAnswer::Cut(cut)) => {
                let _gone = reply.send(Err(cut));
            }
            (LineReply::Call(reply), ProviderAnswer::SentMany(outcomes)) => {
                let _gone = reply.send((Ok(outcomes), latency, now));
            }
            (LineReply::Call(reply), ProviderAnswer::Cut(cut)) => {
                let _gone = reply.send((Err(cut), latency, now));
            }
            // Of another sort of call: the flow hears that nothing came.
            (LineReply::LookUp(_) | LineReply::Call(_), _) => {}
        }
        self.run_batches(turn);
    }
}

fn not_again(error: &AskError) -> NotAgain {
    let AskError::Rejected { rejection, .. } = error else { return NotAgain::Later };
    match codec::decode::<BatchRejection>(rejection) {
        Ok(BatchRejection::KeyTooOld) => NotAgain::KeyTooOld,
        Ok(BatchRejection::NotOpen) => NotAgain::NotOpen,
        Ok(_) | Err(_) => NotAgain::Later,
    }
}
