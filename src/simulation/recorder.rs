//! Writes the history of a run: each record once, with what its events say, as it is first applied anywhere.

use crate::audit::trace::{self, Trace};
use crate::chaos::checkers::history::{CallRow, Fact, History, Leak, Money4, RecordRow};
use crate::chaos::checkers::inv11_sealed::holds_canary;
use crate::domain::batch::BatchEvent;
use crate::domain::campaign::CampaignEvent;
use crate::domain::coupon::{CouponEvent, Grant};
use crate::domain::kinds;
use crate::simulation::coupons::member_of;
use crate::simulation::seats::Seats;
use crate::types::codec;
use crate::types::effect::Effects;
use crate::types::ids::{EntityKey, Version};
use crate::types::record::Record;
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// What has happened so far.
#[derive(Default)]
pub struct Recorder {
    pub history: History,
    /// Every gift as its records make it.
    pub traces: BTreeMap<EntityKey, Trace>,
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
                        let delivery = self.traces.get(&member.entity)?.state.delivery();
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
        let trace = self.traces.entry(gift).or_default();
        let (facts, money) = trace.record(gift, &record.events).expect("applied events decode");
        if trace.is_dead() {
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
        self.history.gifts.push(trace::left(gift, version, bytes).expect("a stored state decodes"));
    }

    /// Another entity as a disk holds it at the end.
    pub fn other_left(&mut self, key: EntityKey, version: Version, wants: &Effects) {
        self.history.gifts.push(trace::other_left(key, version, wants));
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
