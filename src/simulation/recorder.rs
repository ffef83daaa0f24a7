//! Writes the history of a run: each record once, with what its events say, as it is first applied anywhere.

use crate::chaos::checkers::history::{CallRow, Fact, GiftRow, History, Leak, Money4, RecordRow};
use crate::chaos::checkers::inv11_sealed::holds_canary;
use crate::domain::batch::BatchEvent;
use crate::domain::campaign::CampaignEvent;
use crate::domain::coupon::{CouponEvent, Grant};
use crate::domain::entity::Entity;
use crate::domain::gift::{
    DeliveryFact, Doubt, Evidence, Gift, GiftEvent, GiftFact, GiftState, Ledger, Letter, PaymentFact, PlanFact,
    RefundFact, Status, UseFact,
};
use crate::domain::kinds;
use crate::gateways::PROVIDER_AWAY;
use crate::simulation::coupons::member_of;
use crate::simulation::seats::Seats;
use crate::types::codec;
use crate::types::effect::{Effects, Lane};
use crate::types::ids::{EntityKey, Version};
use crate::types::record::Record;
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// The slots of refunds begin here; the rest of a slot is the attempt's number.
const REFUND_SLOTS: u16 = 0x1000;

/// What has happened so far.
#[derive(Default)]
pub struct Recorder {
    pub history: History,
    /// Every gift as its records make it.
    pub states: BTreeMap<EntityKey, (Version, GiftState)>,
    /// Gifts whose send is a dead letter.
    pub dead: BTreeSet<EntityKey>,
    /// Whatever is not a gift.
    pub others: BTreeSet<EntityKey>,
    pub seats: Seats,
    digests: BTreeMap<(EntityKey, Version), u64>,
    /// What each batch sends: gifts, with the delivery's generation and the attempt.
    batches: BTreeMap<EntityKey, Vec<(EntityKey, u16, u16)>>,
}

impl Recorder {
    /// A record of a batch says what it sends, and that it is made again.
    fn batch(&mut self, record: &Record, at: Timestamp) {
        if record.key.kind != kinds::BATCH {
            return;
        }
        let events: Vec<BatchEvent> = codec::decode(&record.events).expect("applied events decode");
        for event in events {
            match event {
                BatchEvent::Started { sheet, .. } => {
                    let gifts = sheet.members.iter().filter_map(|member| {
                        let delivery = self.states.get(&member.entity)?.1.delivery();
                        Some((member.entity, delivery.generation, delivery.attempts))
                    });
                    self.batches.insert(record.key, gifts.collect());
                }
                BatchEvent::TriedAgain { .. } => {
                    let gifts = self.batches.get(&record.key).into_iter().flatten();
                    let repeats = gifts.map(|(gift, delivery, attempt)| CallRow {
                        gift: *gift,
                        delivery: *delivery,
                        attempt: *attempt,
                        at,
                    });
                    self.history.batch_repeats.extend(repeats);
                }
                BatchEvent::Closed { .. } => {}
            }
        }
    }

    /// A replica applied a record.
    pub fn applied(&mut self, record: &Record, version: Version, at: Timestamp) {
        let (gift, command_id) = (record.key, record.command_id);
        let digest = xxh3_64(&[command_id.0.as_slice(), &record.events].concat());
        if self.digests.get(&(gift, version)) == Some(&digest) {
            return;
        }
        self.digests.insert((gift, version), digest);
        if holds_canary(&record.events) {
            self.history.leaks.push(Leak { place: "a record", gift });
        }
        if gift.kind != kinds::GIFT {
            self.others.insert(gift);
            self.seats.applied(record, at);
            self.batch(record, at);
            let (facts, money) = (facts_of_another(record), Money4::default());
            self.history.records.push(RecordRow { gift, version, command_id, at, facts, money });
            return;
        }
        let events: Vec<GiftEvent> = codec::decode(&record.events).expect("applied events decode");
        let (reached, state) = self.states.entry(gift).or_default();
        *reached = version;
        let mut facts = Vec::new();
        for event in &events {
            let was_scheduled = is_scheduled(state);
            Gift::evolve(state, event);
            facts.extend(fact_of(gift, event, state));
            if is_scheduled(state) && !was_scheduled {
                facts.push(Fact::Scheduled);
            }
        }
        let money = if state.exists() { money_of(state.ledger()) } else { Money4::default() };
        if state.exists() && state.state() == Status::SendFailed {
            self.dead.insert(gift);
        } else {
            self.dead.remove(&gift);
        }
        self.history.records.push(RecordRow { gift, version, command_id, at, facts, money });
    }

    /// A gift as a disk holds it at the end.
    pub fn left(&mut self, gift: EntityKey, version: Version, bytes: &[u8]) {
        if holds_canary(bytes) {
            self.history.leaks.push(Leak { place: "a state", gift });
        }
        let state: GiftState = codec::decode(bytes).expect("a stored state decodes");
        let wants = Gift::wants(gift, &state);
        let row = GiftRow {
            gift,
            version,
            status: state.status(),
            money: money_of(state.ledger()),
            terminal: wants.terminal,
            dead: state.exists() && state.state() == Status::SendFailed,
            next_due: wants.next_due(),
            money_in_doubt: is_money_in_doubt(&wants),
        };
        self.history.gifts.push(row);
    }
}

impl Recorder {
    /// Another entity as a disk holds it at the end.
    pub fn other_left(&mut self, key: EntityKey, version: Version, wants: &Effects) {
        self.history.gifts.push(GiftRow {
            gift: key,
            version,
            status: "not a gift",
            money: Money4::default(),
            terminal: wants.terminal,
            dead: false,
            next_due: wants.next_due(),
            money_in_doubt: is_money_in_doubt(wants),
        });
    }
}

/// What the records of campaigns and coupons say; orders are judged by what they end as.
fn facts_of_another(record: &Record) -> Vec<Fact> {
    if record.key.kind == kinds::CAMPAIGN {
        let events: Vec<CampaignEvent> = codec::decode(&record.events).expect("applied events decode");
        let fact = |event: CampaignEvent| match event {
            CampaignEvent::Created { terms, .. } | CampaignEvent::CreatedWhole { terms, .. } => {
                Some(Fact::Promised { quantity: terms.quantity })
            }
            CampaignEvent::CreatedPart { part, .. } => {
                Some(Fact::PartPromised { whole: part.of.whole, quantity: part.terms.quantity })
            }
            CampaignEvent::Issued { total, .. } => Some(Fact::Issued { total }),
            CampaignEvent::PartMade { .. }
            | CampaignEvent::Opened { .. }
            | CampaignEvent::Granted { .. }
            | CampaignEvent::Released { .. }
            | CampaignEvent::SoldOut { .. }
            | CampaignEvent::Closed { .. } => None,
        };
        return events.into_iter().filter_map(fact).collect();
    }
    if record.key.kind != kinds::COUPON {
        return Vec::new();
    }
    let events: Vec<CouponEvent> = codec::decode(&record.events).expect("applied events decode");
    let issued = |event: CouponEvent| match event {
        CouponEvent::Issued(issue) => {
            let Grant { campaign, owner, .. } = issue.grant;
            Some(Fact::CouponIssued { campaign, member: member_of(&owner) })
        }
        CouponEvent::Used { .. } | CouponEvent::Restored { .. } | CouponEvent::Expired { .. } => None,
    };
    events.into_iter().filter_map(issued).collect()
}

fn is_scheduled(state: &GiftState) -> bool {
    state.exists() && state.state() == Status::Scheduled
}

/// A payment or refund that is wanted, or was started and has no known end.
fn is_money_in_doubt(wants: &Effects) -> bool {
    wants.calls.iter().any(|call| call.lane == Lane::Payment)
}

fn money_of(ledger: Ledger) -> Money4 {
    Money4 {
        paid: ledger.paid().minor,
        held: ledger.held().minor,
        used: ledger.used().minor,
        refunded: ledger.refunded().minor,
    }
}

/// `state` is the gift after the event.
fn fact_of(gift: EntityKey, event: &GiftEvent, state: &GiftState) -> Option<Fact> {
    match &event.fact {
        GiftFact::Reserved(reservation) | GiftFact::ReservedWith(reservation, _) => {
            Some(Fact::Reserved { due: reservation.resolved.instant })
        }
        GiftFact::Payment(fact) => match fact {
            PaymentFact::Attempted(started) => Some(Fact::PaymentStarted { term: started.claim.term.0 }),
            PaymentFact::Captured { amount, .. } => Some(Fact::Captured { minor: amount.minor }),
            PaymentFact::Undecided { .. }
            | PaymentFact::Refused { .. }
            | PaymentFact::TimedOut
            | PaymentFact::RuledOut { .. }
            | PaymentFact::Hinted
            | PaymentFact::HoldClosed => None,
        },
        GiftFact::Plan(fact) => match fact {
            PlanFact::Cancelled => Some(Fact::Cancelled),
            PlanFact::Changed(change) => change.send_at.as_ref().map(|(_, at)| Fact::Moved { due: at.instant }),
            PlanFact::ReResolved { resolved, .. } => Some(Fact::Moved { due: resolved.instant }),
        },
        GiftFact::Delivery(fact) => fact_of_delivery(fact, state),
        GiftFact::Refund(RefundFact::Attempted(started)) => {
            let wants = Gift::wants(gift, state);
            let slot = wants.calls.iter().find(|call| call.lane == Lane::Payment)?.slot;
            Some(Fact::RefundStarted { number: slot.0 & !REFUND_SLOTS, term: started.claim.term.0 })
        }
        GiftFact::Refund(RefundFact::Settled { total, .. }) => Some(Fact::RefundSettled { total: total.minor }),
        GiftFact::Use(UseFact::Redeemed { .. }) => Some(Fact::Redeemed),
        GiftFact::Forgotten => Some(Fact::Forgotten),
        GiftFact::DeadLetterReplayed { letter: Letter::Gift, .. } => Some(Fact::Replayed),
        GiftFact::Coupon(_)
        | GiftFact::Refund(_)
        | GiftFact::Use(_)
        | GiftFact::Notice(_)
        | GiftFact::DeadLetterReplayed { letter: Letter::Notice(_), .. }
        | GiftFact::DeadLetterDiscarded { .. }
        | GiftFact::Erased => None,
    }
}

fn fact_of_delivery(fact: &DeliveryFact, state: &GiftState) -> Option<Fact> {
    let view = state.delivery();
    let (delivery, attempt) = (view.generation, view.attempts);
    match fact {
        DeliveryFact::Attempted(started) => Some(Fact::SendStarted { delivery, attempt, term: started.claim.term.0 }),
        DeliveryFact::Accepted { .. } => Some(Fact::SendAccepted { delivery, attempt }),
        DeliveryFact::Undecided { retry_at, doubt: Doubt::Unknown { .. } | Doubt::Pending } => {
            Some(Fact::SendPaused { delivery, until: *retry_at })
        }
        DeliveryFact::Refused { next, .. } => Some(Fact::SendPaused { delivery, until: next.due }),
        DeliveryFact::Failed { code, .. } => {
            Some(Fact::SendFailed { delivery, attempt, away: code.as_str() == PROVIDER_AWAY })
        }
        DeliveryFact::Delivered { evidence, .. } => match evidence {
            Evidence::Report => Some(Fact::SendReported { delivery }),
            Evidence::UnconfirmedReport | Evidence::Unconfirmable => Some(Fact::SendUnconfirmed { delivery }),
            // Who opens the link has the message; no report follows an acceptance.
            Evidence::LinkOpened | Evidence::ReportTimeout => None,
        },
        DeliveryFact::Undecided { doubt: Doubt::NotSent, .. }
        | DeliveryFact::Confirmed { .. }
        | DeliveryFact::FailureNoted { .. } => None,
    }
}
