//! Seeded defects of the neighbours: a leader that decides wrongly about seats, coupons, stocks and wallets, and calls that
//! are said to be done though nobody made them. What is applied is not touched. Only in builds with debug assertions.

#[cfg(not(debug_assertions))]
pub use absent::{claimed, kinds_of};
#[cfg(debug_assertions)]
pub use present::{claimed, kinds_of};

#[cfg(not(debug_assertions))]
mod absent {
    use crate::domain::kinds::kinds;
    use crate::simulation::options::Defect;
    use crate::types::call::{CallOutcome, CallRequest};
    use crate::types::ids::EntityKey;
    use crate::types::kind::KindTable;
    use crate::types::time::Timestamp;

    /// The kinds as they are.
    #[must_use]
    pub fn kinds_of(_defect: Defect) -> KindTable {
        kinds()
    }

    /// Nothing is claimed.
    #[must_use]
    pub fn claimed(_: EntityKey, _: &CallRequest, _: Defect, _: Timestamp) -> Option<CallOutcome> {
        None
    }
}

#[cfg(debug_assertions)]
mod present {
    use crate::domain::area::{AreaCommand, AreaEvent, AreaRejection, Serial};
    use crate::domain::campaign::{CampaignCommand, CampaignEvent, CampaignRejection, CampaignState, Granted};
    use crate::domain::coupon::{CouponCommand, coupon_key};
    use crate::domain::inventory::{StockCommand, StockEvent, StockRejection};
    use crate::domain::kinds::{self, kinds};
    use crate::domain::queue::QueueCommand;
    use crate::domain::reservation::Assignment;
    use crate::domain::show::ACTIVE_MAX;
    use crate::domain::wallet::{WalletCommand, WalletEvent, WalletFact, WalletRejection};
    use crate::simulation::options::Defect;
    use crate::types::call::{
        CallOutcome, CallRequest, EntityOutcome, EntityRequest, PaymentOperation, PaymentOutcome, Report,
        ShipmentOperation, ShipmentOutcome,
    };
    use crate::types::codec::{self, CodecError};
    use crate::types::effect::{Effects, Slot};
    use crate::types::ids::{EntityKey, EntityKind};
    use crate::types::kind::{At, AttemptStart, Decided, Kind, KindTable, Live};
    use crate::types::record::{Erasure, Sealed};
    use crate::types::time::Timestamp;
    use std::sync::Arc;

    /// Defects that decide wrongly or ask for the wrong thing, and for which kind.
    const DECIDES: [(Defect, EntityKind); 8] = [
        (Defect::SeatTwice, kinds::AREA),
        (Defect::RoomForAll, kinds::QUEUE),
        (Defect::CouponTooMany, kinds::CAMPAIGN),
        (Defect::PartShareTwice, kinds::CAMPAIGN),
        (Defect::CouponOfEachPart, kinds::CAMPAIGN),
        (Defect::StockBelowZero, kinds::INVENTORY),
        (Defect::WalletBelowZero, kinds::WALLET),
        (Defect::ChargedTwice, kinds::WALLET),
    ];

    /// The kinds as a leader with this defect decides for them.
    ///
    /// # Panics
    /// When a kind that is broken is not registered.
    #[must_use]
    pub fn kinds_of(defect: Defect) -> KindTable {
        let all = kinds();
        let Some((_, broken)) = DECIDES.into_iter().find(|(known, _)| *known == defect) else { return all };
        let sound = all.get(broken).expect("it is registered").clone();
        let others = (1..=u8::MAX).filter_map(|tag| all.get(EntityKind(tag)).cloned());
        let others = others.filter(|kind| kind.kind() != broken);
        let broken: Arc<dyn Kind> = Arc::new(Broken { sound, defect });
        KindTable::new(others.chain([broken]).collect())
    }

    struct Broken {
        sound: Arc<dyn Kind>,
        defect: Defect,
    }

    impl Kind for Broken {
        fn kind(&self) -> EntityKind {
            self.sound.kind()
        }
        fn prefix(&self) -> &'static str {
            self.sound.prefix()
        }
        fn load(&self, key: EntityKey, state: Option<&[u8]>) -> Result<Box<dyn Live>, CodecError> {
            Ok(Box::new(BrokenLive { key, sound: self.sound.load(key, state)?, defect: self.defect }))
        }
    }

    struct BrokenLive {
        key: EntityKey,
        sound: Box<dyn Live>,
        defect: Defect,
    }

    impl Live for BrokenLive {
        fn decide(&self, command: &[u8], at: &At) -> Result<Decided, CodecError> {
            let command = misread(command, self.defect)?;
            let decided = self.sound.decide(&command, at)?;
            let wrong = match (&decided, self.defect) {
                (Decided::Rejected(refusal), Defect::SeatTwice) => seat_twice(&command, refusal, at)?,
                (Decided::Rejected(refusal), Defect::CouponTooMany) => {
                    coupon_too_many(&self.sound.encode(), &command, refusal, at)?
                }
                (Decided::Rejected(refusal), Defect::StockBelowZero) => stock_below_zero(&command, refusal, at)?,
                (Decided::Rejected(refusal), Defect::WalletBelowZero) => wallet_below_zero(&command, refusal, at)?,
                (Decided::Events { events, .. }, Defect::ChargedTwice) => charged_twice(events)?,
                (Decided::Events { .. } | Decided::Unchanged | Decided::Rejected(_), _) => None,
            };
            Ok(wrong.map_or(decided, |events| Decided::Events { events, erase: Erasure::Nothing }))
        }
        fn evolve(&mut self, events: &[u8]) -> Result<(), CodecError> {
            self.sound.evolve(events)
        }
        fn wants(&self) -> Effects {
            self.sound.wants()
        }
        fn encode(&self) -> Vec<u8> {
            self.sound.encode()
        }
        fn answer(&self) -> Vec<u8> {
            self.sound.answer()
        }
        fn shares_records(&self) -> bool {
            self.sound.shares_records()
        }
        fn join(&self, steps: &[Vec<u8>]) -> Result<Vec<u8>, CodecError> {
            self.sound.join(steps)
        }
        fn fork(&self) -> Box<dyn Live> {
            Box::new(Self { key: self.key, sound: self.sound.fork(), defect: self.defect })
        }
        fn sealed(&self) -> Option<Sealed> {
            self.sound.sealed()
        }
        fn request(&self, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
            let request = self.sound.request(slot, personal)?;
            Some(if self.defect == Defect::CouponOfEachPart { coupon_of(self.key, request) } else { request })
        }
        fn timer_command(&self, slot: Slot) -> Vec<u8> {
            self.sound.timer_command(slot)
        }
        fn attempt_command(&self, start: AttemptStart) -> Vec<u8> {
            self.sound.attempt_command(start)
        }
        fn outcome_command(&self, outcomes: Vec<(Slot, CallOutcome)>) -> Vec<u8> {
            self.sound.outcome_command(outcomes)
        }
        fn report_command(&self, report: Report) -> Vec<u8> {
            self.sound.report_command(report)
        }
        fn describe(&self, events: &[u8]) -> Result<Vec<serde_json::Value>, CodecError> {
            self.sound.describe(events)
        }
    }

    type Wrong = Result<Option<Vec<u8>>, CodecError>;

    /// A queue takes the show's room for as large as there may be any; a part of a campaign takes its share for twice as
    /// large.
    fn misread(command: &[u8], defect: Defect) -> Result<Vec<u8>, CodecError> {
        if defect == Defect::PartShareTwice
            && let CampaignCommand::CreatePart(mut part) = codec::decode(command)?
        {
            part.terms.quantity *= 2;
            return Ok(codec::encode(&CampaignCommand::CreatePart(part)));
        }
        if defect == Defect::RoomForAll
            && let QueueCommand::Enter(mut enter) = codec::decode(command)?
        {
            enter.admission.active_max = ACTIVE_MAX;
            return Ok(codec::encode(&QueueCommand::Enter(enter)));
        }
        Ok(command.to_vec())
    }

    /// A part of a campaign takes itself for what its coupons are of.
    fn coupon_of(part: EntityKey, request: CallRequest) -> CallRequest {
        let CallRequest::Entity(request) = request else { return request };
        let grants = request.target.kind == kinds::COUPON;
        let Some(CouponCommand::Grant(mut grant)) = grants.then(|| codec::decode(&request.command).ok()).flatten()
        else {
            return CallRequest::Entity(request);
        };
        grant.campaign = part;
        let target = coupon_key(part, &grant.owner);
        let command = codec::encode(&CouponCommand::Grant(grant));
        CallRequest::Entity(EntityRequest { target, command, ..request })
    }

    /// An area does not look who has the seats.
    fn seat_twice(command: &[u8], refusal: &[u8], at: &At) -> Wrong {
        let (AreaCommand::Take(take), AreaRejection::SeatTaken(_)) = (codec::decode(command)?, codec::decode(refusal)?)
        else {
            return Ok(None);
        };
        let id = take.assignment.reservation.id;
        // Seldom, so that no section sells more seats than it has, which its show would refuse to hear of for ever.
        if id[4] >= 32 {
            return Ok(None);
        }
        let number = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        let (serial, slot) = (Serial(number | (1 << 31)), 100 + u16::try_from(number % 800).unwrap_or(0));
        let assignment = Box::new(Assignment { serial, assigned_at: at.now, ..take.assignment });
        Ok(Some(codec::encode(&vec![AreaEvent::Taken { slot, assignment }])))
    }

    /// A campaign counts what its coupons took, and not what is on its way to them.
    fn coupon_too_many(state: &[u8], command: &[u8], refusal: &[u8], at: &At) -> Wrong {
        let (CampaignCommand::Claim { owner, claim }, CampaignRejection::Undecided) =
            (codec::decode(command)?, codec::decode(refusal)?)
        else {
            return Ok(None);
        };
        let state: CampaignState = codec::decode(state)?;
        let granted = state.get().map(|campaign| {
            let slot = campaign.grants.keys().next_back().map_or(0, |last| last + 1);
            let grant = Box::new(Granted { ticket: campaign.next_ticket, owner, claim, at: at.now });
            codec::encode(&vec![CampaignEvent::Granted { slot, grant }])
        });
        Ok(granted)
    }

    /// A stock gives what it does not have.
    fn stock_below_zero(command: &[u8], refusal: &[u8], at: &At) -> Wrong {
        let (StockCommand::Reserve { holder, quantity, .. }, StockRejection::OutOfStock { .. }) =
            (codec::decode(command)?, codec::decode(refusal)?)
        else {
            return Ok(None);
        };
        Ok(Some(codec::encode(&vec![StockEvent::Reserved { at: at.now, holder, quantity }])))
    }

    /// A wallet holds what is not in it.
    fn wallet_below_zero(command: &[u8], refusal: &[u8], at: &At) -> Wrong {
        let (WalletCommand::Hold { holder, amount, .. }, WalletRejection::InsufficientBalance { .. }) =
            (codec::decode(command)?, codec::decode(refusal)?)
        else {
            return Ok(None);
        };
        Ok(Some(codec::encode(&vec![WalletEvent { at: at.now, fact: WalletFact::Held { holder, amount } }])))
    }

    /// A wallet books what was captured for it twice.
    fn charged_twice(events: &[u8]) -> Wrong {
        let mut events: Vec<WalletEvent> = codec::decode(events)?;
        let charged = events.iter().find(|event| matches!(event.fact, WalletFact::Charged { .. })).cloned();
        Ok(charged.map(|charged| {
            events.push(charged);
            codec::encode(&events)
        }))
    }

    /// The outcome of a call that is said to be done, and that nobody makes.
    #[must_use]
    pub fn claimed(source: EntityKey, request: &CallRequest, defect: Defect, at: Timestamp) -> Option<CallOutcome> {
        match request {
            CallRequest::Shipment(shipment) => {
                let undoes = matches!(shipment.operation, ShipmentOperation::Cancel { .. });
                let claims = defect == Defect::UnshipClaimed && undoes;
                claims.then_some(CallOutcome::Shipment(ShipmentOutcome::Cancelled { at }))
            }
            CallRequest::Payment(payment) => match payment.operation {
                PaymentOperation::Cancel { amount, .. }
                    if defect == Defect::RefundClaimed && source.kind == kinds::ORDER =>
                {
                    Some(CallOutcome::Payment(PaymentOutcome::Refunded { amount, at }))
                }
                PaymentOperation::Cancel { .. }
                | PaymentOperation::Confirm { .. }
                | PaymentOperation::Lookup { .. } => None,
            },
            CallRequest::Entity(request) => {
                let claims = match request.target.kind {
                    kinds::AREA if defect == Defect::SeatsKept => {
                        matches!(codec::decode(&request.command), Ok(AreaCommand::Release { .. }))
                    }
                    kinds::INVENTORY if defect == Defect::StockKept => {
                        matches!(codec::decode(&request.command), Ok(StockCommand::Release { .. }))
                    }
                    _other => false,
                };
                claims.then(|| CallOutcome::Entity(EntityOutcome::Done { state: Vec::new() }))
            }
            CallRequest::Message(_) => None,
        }
    }
}
