//! Coupon campaigns, and the crowd that claims them at once: more members than coupons, some of them twice. Some campaigns
//! are in parts: a member is tried at one after the other, as `api/claims.rs` does, and not always at the own one first.

use crate::actors::door::Ask;
use crate::chaos::checkers::history::{ClaimRow, ClaimTold, Told};
use crate::domain::campaign::{CampaignCommand, CampaignRejection, PartOf, Terms, part_home, part_key, part_of_member};
use crate::domain::coupon::{CouponCommand, Discount, Ticket};
use crate::domain::gift::GiftRejection;
use crate::domain::inventory::StockRejection;
use crate::domain::kinds;
use crate::domain::order::OrderRejection;
use crate::domain::reservation::ReservationRejection;
use crate::domain::show::ShowRejection;
use crate::domain::wallet::WalletRejection;
use crate::simulation::clients::{Step, Whose};
use crate::simulation::event::{Event, MINUTE, SECOND};
use crate::simulation::options::Defect;
use crate::simulation::shows;
use crate::simulation::world::World;
use crate::types::call::CallRequest;
use crate::types::codec;
use crate::types::ids::{EntityKey, EntityKind, IdempotencyId};
use crate::types::money::Money;
use crate::types::time::Millis;

/// How long the crowd takes, and how long the campaign is open.
const CROWD: u64 = 4 * SECOND;
const OPEN: Millis = Millis::from_mins(6);
/// Campaigns in parts, in thousandths, and parts of one, at most.
const IN_PARTS: u64 = 400;
const PARTS_MOST: u64 = 4;
/// Claims that are not tried at the member's own part first, in thousandths.
const ASTRAY: u64 = 150;

/// A member who claims, at one of the campaign's desks after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimer {
    campaign: EntityKey,
    member: u64,
    claim: IdempotencyId,
    desk: usize,
    /// Desks behind this one that were not tried.
    left: usize,
}

impl World {
    /// Announces a campaign whose coupons are wanted by three times as many members.
    pub(super) fn announce(&mut self) {
        if self.closing {
            return;
        }
        let pause = self.dice.between(2 * MINUTE, 8 * MINUTE);
        self.after(pause, Event::Client(Step::Campaign));
        let campaign = EntityKey { kind: kinds::CAMPAIGN, id: self.dice.id() };
        let quantity = u32::try_from(self.dice.between(3, 15)).unwrap_or(3);
        let starts_at = self.true_wall() + Millis::from_secs(5);
        let terms = Box::new(Terms {
            name: "flash".to_owned(),
            quantity,
            starts_at,
            ends_at: starts_at + OPEN,
            discount: Discount::Amount(Money::krw(1_000)),
            valid_days: 1,
        });
        let parts = if self.dice.per_mille(IN_PARTS) { self.dice.between(2, PARTS_MOST + 1) } else { 0 };
        let parts = u8::try_from(parts.min(u64::from(quantity))).unwrap_or(0);
        let homes: Vec<u64> = (0..parts).map(|number| part_home(campaign, number, 0)).collect();
        let desk = |(number, home): (u8, &u64)| part_key(PartOf { whole: campaign, number }, *home);
        let desks = if homes.is_empty() { vec![campaign] } else { (0..).zip(&homes).map(desk).collect() };
        self.clients.desks.insert(campaign, desks);
        let command =
            if homes.is_empty() { CampaignCommand::Create(terms) } else { CampaignCommand::CreateWhole(terms, homes) };
        self.request(campaign, codec::encode(&command), None);
        for member in 0..u64::from(3 * quantity) {
            for _ in 0..1 + u64::from(self.dice.per_mille(250)) {
                let delay = 6 * SECOND + self.dice.below(CROWD);
                self.after(delay, Event::Client(Step::Claim { campaign, member }));
            }
        }
    }

    /// A member claims. Nothing that is promised rests on where.
    pub(super) fn claim(&mut self, campaign: EntityKey, member: u64) {
        let claim = IdempotencyId(self.dice.id());
        let desks = self.clients.desks.get(&campaign).map_or(1, Vec::len);
        let own = usize::from(part_of_member(&owner_of(member), u8::try_from(desks).unwrap_or(1)));
        let astray = self.dice.per_mille(ASTRAY).then(|| self.dice.below(desks as u64));
        let desk = astray.and_then(|desk| usize::try_from(desk).ok()).unwrap_or(own);
        self.claim_at(Claimer { campaign, member, claim, desk, left: desks - 1 });
    }

    /// By a request of its own.
    fn claim_at(&mut self, claimer: Claimer) {
        let Claimer { campaign, member, claim, desk, .. } = claimer;
        let Some(key) = self.clients.desks.get(&campaign).and_then(|desks| desks.get(desk).copied()) else { return };
        let command = codec::encode(&CampaignCommand::Claim { owner: owner_of(member), claim });
        let ask = Ask { key, command, idempotency: None, if_version: None, new_key: None };
        self.begin(ask, 0, Whose::Member(claimer));
    }

    /// What a member was told; `is_new`: for the first time by this request. A repeat of a winner is refused too, or finds
    /// a place for a moment; who won is what the first good answer says.
    pub(super) fn claimed(&mut self, claimer: Claimer, told: &Told, is_new: bool) {
        let Claimer { campaign, member, desk, left, .. } = claimer;
        let asks_all = self.options.defect != Defect::OnePartAsked;
        let told = match told {
            Told::Done { .. } => ClaimTold::Won,
            Told::Refused { code, .. } if *code == format!("{:?}", CampaignRejection::SoldOut) => {
                if left > 0 && asks_all {
                    let desks = self.clients.desks.get(&campaign).map_or(1, Vec::len);
                    let next = Claimer { desk: (desk + 1) % desks, left: left - 1, ..claimer };
                    if is_new {
                        self.claim_at(next);
                    }
                    return;
                }
                ClaimTold::SoldOut
            }
            Told::Refused { .. } => return,
        };
        let at = self.true_wall();
        self.recorder.history.claims.push(ClaimRow { campaign, member, at, told });
    }
}

fn owner_of(member: u64) -> String {
    format!("m-{member}")
}

/// The number of a member.
#[must_use]
pub fn member_of(owner: &str) -> u64 {
    owner.strip_prefix("m-").and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

/// The ticket in a grant's call.
#[must_use]
pub fn ticket_of(request: &CallRequest) -> Option<Ticket> {
    let CallRequest::Entity(request) = request else { return None };
    match codec::decode(&request.command).ok()? {
        CouponCommand::Grant(grant) => Some(grant.ticket),
        CouponCommand::Use { .. } | CouponCommand::Restore { .. } | CouponCommand::Expire | CouponCommand::Unwanted => {
            None
        }
    }
}

/// How a kind says no; `None` when it says "ask again".
///
/// # Panics
/// On bytes that are not a rejection of the kind.
#[must_use]
pub fn refusal_of(kind: EntityKind, rejection: &[u8]) -> Option<String> {
    if matches!(kind, kinds::AREA | kinds::QUEUE) {
        return shows::refusal_of(kind, rejection);
    }
    if kind != kinds::CAMPAIGN {
        return Some(code_of(kind, rejection));
    }
    match codec::decode(rejection).expect("a rejection decodes") {
        CampaignRejection::Undecided | CampaignRejection::Busy | CampaignRejection::NotFound => None,
        refusal @ (CampaignRejection::AlreadyExists
        | CampaignRejection::BadTerms(_)
        | CampaignRejection::NotStarted
        | CampaignRejection::SoldOut
        | CampaignRejection::Ended
        | CampaignRejection::NotWanted) => Some(format!("{refusal:?}")),
    }
}

fn code_of(kind: EntityKind, rejection: &[u8]) -> String {
    fn named<T: serde::de::DeserializeOwned + std::fmt::Debug>(rejection: &[u8]) -> String {
        format!("{:?}", codec::decode::<T>(rejection).expect("a rejection decodes"))
    }
    match kind {
        kinds::ORDER => named::<OrderRejection>(rejection),
        kinds::INVENTORY => named::<StockRejection>(rejection),
        kinds::WALLET => named::<WalletRejection>(rejection),
        kinds::SHOW => named::<ShowRejection>(rejection),
        kinds::RESERVATION => named::<ReservationRejection>(rejection),
        _gift => named::<GiftRejection>(rejection),
    }
}
