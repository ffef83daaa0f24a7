//! Providers in memory, each with its own ledger, which is the ground truth: what a person got, and what was paid. They
//! accept and then do not answer, answer with errors after accepting, throttle, dawdle, refuse, are away, forget their
//! idempotency keys, and tell the truth late.

use crate::chaos::checkers::history::{BadAnswer, CallRow, SendRow};
use crate::providers::{Ability, LookupAnswer};
use crate::simulation::bank::Bank;
use crate::simulation::batches::CHANNEL;
use crate::simulation::dice::Dice;
use crate::simulation::event::{MS, ProviderAnswer, ProviderCall, SECOND, Time, Wire};
use crate::simulation::lanes::{DESKS, PAYMENT_DESK, SHIPMENT_DESK, channel_place};
use crate::simulation::options::{FaultClass, Options};
use crate::simulation::shipper::Shipper;
use crate::types::batch::batch_key;
use crate::types::call::{MessageOutcome, MessageRequest, Purpose, RefusalClass};
use crate::types::effect::Channel;
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::limits::CALL_DEADLINE;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// What one call meets. The classes of faults name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Good,
    AcceptThenTimeout,
    AcceptThenError,
    Throttle,
    Slow,
    Refuse(RefusalClass),
    Unreachable,
    /// The request was lost on its way.
    Lost,
}

/// Single calls that meet something, in thousandths, when the class is on and faults are dense.
const SINGLE: [(FaultClass, u64); 6] = [
    (FaultClass::AcceptThenTimeout, 50),
    (FaultClass::AcceptThenError, 15),
    (FaultClass::Throttle, 10),
    (FaultClass::SlowProvider, 20),
    (FaultClass::Refusal, 15),
    (FaultClass::Unreachable, 15),
];
/// Calls for several that arrive late, in thousandths.
const BATCH_LATE: u64 = 150;
/// Calls that meet it in a spell, in thousandths.
const SPELL: u64 = 700;

/// A bad spell of one provider.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    pub class: FaultClass,
    pub until: Time,
}

struct Accepted {
    since: Timestamp,
    receipt: String,
    /// Under the key of its batch: its own was never used.
    in_batch: bool,
}

/// All providers and their ledgers.
#[derive(Default)]
pub struct Providers {
    /// By desk.
    pub spells: [Option<Spell>; DESKS],
    accepted: BTreeMap<String, Accepted>,
    /// Keys of batches, and when they were taken.
    batches: BTreeMap<String, Timestamp>,
    /// Calls for several, messages that were taken in them, and repeats that their keys kept from harm.
    pub batched: [u64; 3],
    pub sends: Vec<SendRow>,
    /// Every request to send a gift.
    pub calls: Vec<CallRow>,
    pub bad_answers: Vec<BadAnswer>,
    pub bank: Bank,
    pub shipper: Shipper,
    /// Single calls, reports and captures that met something, by class.
    pub struck: Vec<FaultClass>,
}

/// An answer and what follows: after which time, or never.
pub struct Reaction {
    pub answer: Option<(Time, ProviderAnswer)>,
    /// Rows of the ledger that reports will tell of.
    pub taken: Vec<usize>,
    /// Not lost after all: it arrives again after this.
    pub again: Option<Time>,
}

impl Reaction {
    fn of(answer: Option<(Time, ProviderAnswer)>) -> Self {
        Self { answer, taken: Vec::new(), again: None }
    }
}

/// What each channel's provider can do: all four combinations. A key is honoured for ten minutes, as NHN Alimtalk's.
#[must_use]
pub fn ability(channel: Channel) -> Ability {
    let key = Some(Millis::from_mins(10));
    let (key_window, lookup) = match channel {
        Channel::Kakao => (key, true),
        Channel::Sms => (None, true),
        Channel::Email => (key, false),
        Channel::Push => (None, false),
    };
    Ability { key_window, lookup, batch_max: 1 }
}

#[must_use]
pub fn provider_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Kakao => "sim_kakao",
        Channel::Sms => "sim_sms",
        Channel::Email => "sim_email",
        Channel::Push => "sim_push",
    }
}

/// Gift, generation and attempt of a reference that a gift's own send bears.
#[must_use]
pub fn parse_reference(reference: &str) -> Option<(EntityKey, u16, u16)> {
    let mut parts = reference.split('.');
    let key = parse_order(parts.next()?)?;
    Some((key, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The gift behind an order id.
#[must_use]
pub fn parse_order(order_id: &str) -> Option<EntityKey> {
    let id: [u8; 16] = hex::decode(order_id.strip_prefix("g_")?).ok()?.try_into().ok()?;
    Some(EntityKey { kind: EntityKind(1), id })
}

impl Providers {
    /// A call arrives. `wall` is true time: providers' clocks are right.
    pub fn arrive(
        &mut self,
        call: &ProviderCall,
        options: &Options,
        healed: bool,
        (now, wall): (Time, Timestamp),
        dice: &mut Dice,
    ) -> Reaction {
        let desk = match &call.wire {
            Wire::Send(request) | Wire::LookUp(request) => channel_place(request.channel),
            Wire::Batch(_) => channel_place(CHANNEL),
            Wire::Pay(_) => PAYMENT_DESK,
            Wire::Ship(_) => SHIPMENT_DESK,
        };
        let fate = match (call.late, healed) {
            (true, _) => Fate::AcceptThenTimeout,
            (false, true) => Fate::Good,
            (false, false) => self.draw(desk, options, now, dice),
        };
        if options.batch_max > 1 && !call.late && !healed && self.is_late(call, fate, wall, dice) {
            let again = Some(dice.between(20 * SECOND, 90 * SECOND));
            return Reaction { again, ..Reaction::of(None) };
        }
        match &call.wire {
            Wire::Send(request) => self.send(call, request, fate, wall, dice),
            Wire::Batch(requests) => self.send_many(call, requests, fate, wall, dice),
            Wire::LookUp(request) => self.look_up(request, fate, wall, dice),
            Wire::Ship(request) => {
                let answer = self.shipper.perform(request, fate, wall);
                let delay = delay_of(fate, dice);
                Reaction::of(answer.map(|outcome| (delay, ProviderAnswer::Shipped(outcome))))
            }
            Wire::Pay(request) => {
                let late_capture = !healed && options.strikes(FaultClass::LateCapture, 30, dice);
                let (answer, late) = self.bank.perform(request, (fate, late_capture), call.term, wall, dice);
                if late {
                    self.struck.push(FaultClass::LateCapture);
                }
                let delay = delay_of(fate, dice);
                Reaction::of(answer.map(|outcome| (delay, ProviderAnswer::Paid(outcome))))
            }
        }
    }

    fn draw(&mut self, desk: usize, options: &Options, now: Time, dice: &mut Dice) -> Fate {
        if let Some(spell) = self.spells[desk].filter(|spell| now < spell.until)
            && dice.per_mille(SPELL)
        {
            return fate_of(spell.class, dice);
        }
        for (class, per_mille) in SINGLE {
            if options.strikes(class, per_mille, dice) {
                self.struck.push(class);
                return fate_of(class, dice);
            }
        }
        Fate::Good
    }

    fn send(
        &mut self,
        call: &ProviderCall,
        request: &MessageRequest,
        fate: Fate,
        wall: Timestamp,
        dice: &mut Dice,
    ) -> Reaction {
        let refuse = |code: &str, class| MessageOutcome::Refused { code: code.to_owned(), class };
        self.note_bad_answer(request, fate, wall);
        if let (Purpose::Gift, Some((gift, delivery, attempt))) = (request.purpose, parse_reference(&request.reference))
        {
            self.calls.push(CallRow { gift, delivery, attempt, at: wall });
        }
        let delay = delay_of(fate, dice);
        let (taken, outcome) = match fate {
            Fate::Lost => (false, None),
            Fate::Unreachable => (false, Some(refuse("connect", RefusalClass::Retry))),
            Fate::Throttle => (false, Some(refuse("429;retry-after=3", RefusalClass::Retry))),
            Fate::Refuse(class) => (false, Some(refuse("refused", class))),
            Fate::AcceptThenTimeout => (true, None),
            Fate::AcceptThenError => (true, Some(MessageOutcome::Unknown { cause: "500".to_owned() })),
            Fate::Good | Fate::Slow => (true, None),
        };
        let mut row = None;
        let mut outcome = outcome;
        if taken {
            row = self.take(call, request, (wall, false), dice);
            if matches!(fate, Fate::Good | Fate::Slow) {
                let receipt = self.accepted[&request.reference].receipt.clone();
                let provider = provider_name(request.channel).to_owned();
                outcome = Some(MessageOutcome::Accepted { provider, receipt, at: wall });
            }
        }
        let answer = outcome.map(|outcome| (delay, ProviderAnswer::Sent(outcome)));
        Reaction { taken: row.into_iter().collect(), ..Reaction::of(answer) }
    }

    /// Whether a call by Kakao is thought lost and arrives when nobody waits for it any more: then its key is all that
    /// keeps it from harm.
    fn is_late(&mut self, call: &ProviderCall, fate: Fate, wall: Timestamp, dice: &mut Dice) -> bool {
        let (requests, late) = match &call.wire {
            Wire::Batch(requests) => (requests.as_slice(), fate == Fate::Lost || dice.per_mille(BATCH_LATE)),
            Wire::Send(request) => (std::slice::from_ref(request), fate == Fate::Lost && request.channel == CHANNEL),
            Wire::LookUp(_) | Wire::Pay(_) | Wire::Ship(_) => return false,
        };
        if late {
            requests.iter().for_each(|request| self.note_bad_answer(request, Fate::Lost, wall));
        }
        late
    }

    /// One call for several: one key, one fate; of a refusal each has its own.
    fn send_many(
        &mut self,
        call: &ProviderCall,
        requests: &[MessageRequest],
        fate: Fate,
        wall: Timestamp,
        dice: &mut Dice,
    ) -> Reaction {
        let references: Vec<&str> = requests.iter().map(|request| request.reference.as_str()).collect();
        let key = batch_key(&references);
        let window = ability(CHANNEL).key_window;
        let known = self.batches.get(&key).is_some_and(|since| window.is_some_and(|window| wall < *since + window));
        self.batched[0] += 1;
        let (mut taken, mut outcomes) = (Vec::new(), Vec::new());
        for request in requests {
            if let Some((gift, delivery, attempt)) = parse_reference(&request.reference) {
                self.calls.push(CallRow { gift, delivery, attempt, at: wall });
            }
            let (takes, outcome) = self.verdict_in_batch(fate, known, wall, dice);
            if known || !matches!(outcome, MessageOutcome::Accepted { .. }) || fate == Fate::Slow {
                self.note_bad_answer(request, if fate == Fate::Good { Fate::AcceptThenError } else { fate }, wall);
            }
            outcomes.push(outcome);
            if takes {
                self.batched[1] += 1;
                taken.extend(self.take(call, request, (wall, true), dice));
            }
        }
        self.batched[2] += u64::from(known);
        if !known && !matches!(fate, Fate::Unreachable | Fate::Throttle | Fate::Lost) {
            self.batches.insert(key, wall);
        }
        let answers = !matches!(fate, Fate::Lost | Fate::AcceptThenTimeout);
        let answer = answers.then(|| (delay_of(fate, dice), ProviderAnswer::SentMany(outcomes)));
        Reaction { taken, ..Reaction::of(answer) }
    }

    /// Whether a message of a call for several is taken, and what is said of it.
    fn verdict_in_batch(&self, fate: Fate, known: bool, wall: Timestamp, dice: &mut Dice) -> (bool, MessageOutcome) {
        let refuse = |code: &str, class| MessageOutcome::Refused { code: code.to_owned(), class };
        let unknown = |cause: &str| MessageOutcome::Unknown { cause: cause.to_owned() };
        match fate {
            Fate::Unreachable => (false, refuse("connect", RefusalClass::Retry)),
            Fate::Throttle => (false, refuse("429;retry-after=3", RefusalClass::Retry)),
            Fate::Lost => (false, unknown("lost")),
            Fate::AcceptThenTimeout | Fate::AcceptThenError => (!known, unknown("500")),
            Fate::Good | Fate::Slow | Fate::Refuse(_) if known => (false, unknown("-1005")),
            Fate::Refuse(class) if dice.per_mille(500) => (false, refuse("refused", class)),
            Fate::Good | Fate::Slow | Fate::Refuse(_) => {
                let (provider, receipt) = (provider_name(CHANNEL).to_owned(), format!("b-{}", self.sends.len()));
                (true, MessageOutcome::Accepted { provider, receipt, at: wall })
            }
        }
    }

    /// Writes the ledger; the row's place when a person gets a message by it.
    fn take(
        &mut self,
        call: &ProviderCall,
        request: &MessageRequest,
        (wall, in_batch): (Timestamp, bool),
        dice: &mut Dice,
    ) -> Option<usize> {
        let window = ability(request.channel).key_window;
        // Keys of batches are looked at before.
        let known = self.accepted.get(&request.reference).filter(|known| !known.in_batch && !in_batch);
        let repeat = known.is_some_and(|known| window.is_some_and(|window| wall < known.since + window));
        if !repeat {
            let accepted = Accepted { since: wall, receipt: format!("r-{}", self.sends.len()), in_batch };
            self.accepted.insert(request.reference.clone(), accepted);
        }
        let (gift, delivery, attempt) = match (request.purpose, parse_reference(&request.reference)) {
            (Purpose::Gift, Some(parsed)) => parsed,
            (Purpose::Gift | Purpose::Notice, _) => return None,
        };
        if repeat && call.late {
            // The network held it back beyond its fence, on purpose: its key kept it from harm, as it is meant to.
            return None;
        }
        let term = call.term;
        let reports = matches!(request.channel, Channel::Kakao | Channel::Sms);
        let failed = !repeat && reports && dice.per_mille(20);
        let effective = !repeat;
        self.sends.push(SendRow { gift, delivery, attempt, term, at: wall, effective, failed });
        effective.then(|| self.sends.len() - 1)
    }

    fn look_up(&mut self, request: &MessageRequest, fate: Fate, wall: Timestamp, dice: &mut Dice) -> Reaction {
        let as_unknown = matches!(fate, Fate::Unreachable | Fate::Throttle | Fate::Refuse(_));
        self.note_bad_answer(request, if as_unknown { Fate::AcceptThenError } else { fate }, wall);
        let answer = match fate {
            Fate::Lost | Fate::AcceptThenTimeout => None,
            Fate::Unreachable | Fate::Throttle | Fate::AcceptThenError | Fate::Refuse(_) => {
                Some(LookupAnswer::Unknown { cause: "503".to_owned() })
            }
            Fate::Good | Fate::Slow => Some(match self.accepted.get(&request.reference) {
                Some(known) => LookupAnswer::Found { receipt: known.receipt.clone(), at: known.since },
                None => LookupAnswer::Absent,
            }),
        };
        let delay = delay_of(fate, dice);
        Reaction::of(answer.map(|answer| (delay, ProviderAnswer::LookedUp(answer))))
    }

    /// A bad answer holds its delivery up by its own time; what follows is written down by the gift.
    fn note_bad_answer(&mut self, request: &MessageRequest, fate: Fate, wall: Timestamp) {
        let (refused, lasts) = match fate {
            Fate::Good => return,
            Fate::Slow | Fate::AcceptThenTimeout | Fate::Lost => (false, CALL_DEADLINE),
            Fate::AcceptThenError => (false, Millis(0)),
            Fate::Throttle | Fate::Refuse(_) | Fate::Unreachable => (true, Millis(0)),
        };
        let of = parse_reference(&request.reference).filter(|_| request.purpose == Purpose::Gift);
        self.bad_answers.push(BadAnswer { of, refused, at: wall, until: wall + lasts });
    }
}

fn fate_of(class: FaultClass, dice: &mut Dice) -> Fate {
    match class {
        FaultClass::AcceptThenTimeout => {
            if dice.per_mille(250) {
                Fate::Lost
            } else {
                Fate::AcceptThenTimeout
            }
        }
        FaultClass::AcceptThenError => Fate::AcceptThenError,
        FaultClass::Throttle => Fate::Throttle,
        FaultClass::SlowProvider => Fate::Slow,
        FaultClass::Refusal => {
            let classes = [RefusalClass::Retry, RefusalClass::NextChannel, RefusalClass::Permanent];
            Fate::Refuse(dice.pick(&classes).expect("there are three"))
        }
        FaultClass::Unreachable => Fate::Unreachable,
        FaultClass::Kill
        | FaultClass::PowerCut
        | FaultClass::Blackout
        | FaultClass::Pause
        | FaultClass::Partition
        | FaultClass::OneWayCut
        | FaultClass::Flap
        | FaultClass::FrameDrop
        | FaultClass::FrameDouble
        | FaultClass::FrameDelay
        | FaultClass::SlowDisk
        | FaultClass::DiskError
        | FaultClass::DiskFull
        | FaultClass::SlowApplier
        | FaultClass::Transfer
        | FaultClass::Amnesia
        | FaultClass::Move
        | FaultClass::BitFlip
        | FaultClass::ClockSkew
        | FaultClass::ClockJump
        | FaultClass::LateTruth
        | FaultClass::LateCapture
        | FaultClass::LostAnswer => Fate::Good,
    }
}

fn delay_of(fate: Fate, dice: &mut Dice) -> Time {
    match fate {
        // Some of it longer than the caller waits.
        Fate::Slow => dice.between(2 * SECOND, 13 * SECOND),
        Fate::Good
        | Fate::AcceptThenTimeout
        | Fate::AcceptThenError
        | Fate::Throttle
        | Fate::Refuse(_)
        | Fate::Unreachable
        | Fate::Lost => dice.between(5 * MS, 80 * MS),
    }
}
