//! The other entities of a gift's world: a real coupon, a real wallet, and a network between them that loses calls and
//! answers, and delivers calls again long after they were answered.

use super::model::{Mood, World};
use super::*;
use crate::domain::coupon::{Payer, testing};
use crate::domain::tender::CouponTerms;
use crate::domain::wallet::{Wallet, WalletCommand, WalletEvent, WalletFact, WalletState, wallet_key};

/// In the sender's wallet at first.
pub(super) const BALANCE: i64 = 10_000;

/// How the gift of a world is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paying {
    pub method: PaymentMethod,
    /// What a coupon takes off the 4,500 won; 0: there is none.
    pub off: i64,
}

impl Paying {
    pub(super) const CARD: Self = Self { method: PaymentMethod::Card, off: 0 };
    pub(super) const ALL: [Self; 6] = [
        Self::CARD,
        Self { method: PaymentMethod::Card, off: 1_001 },
        Self { method: PaymentMethod::Card, off: 4_500 },
        Self { method: PaymentMethod::Balance, off: 0 },
        Self { method: PaymentMethod::Balance, off: 1_001 },
        Self { method: PaymentMethod::Balance, off: 4_500 },
    ];

    pub(super) fn left(self) -> Money {
        Money::krw(PRICE.minor - self.off)
    }

    pub(super) fn command(self) -> GiftCommand {
        self.reserving(reservation())
    }

    pub(super) fn reserving(self, mut reservation: Reservation) -> GiftCommand {
        reservation.channels = vec![Channel::Kakao, Channel::Sms, Channel::Email];
        reservation.payment.method = self.method;
        reservation.payment.amount = self.left();
        match self.off {
            0 => GiftCommand::Reserve(Box::new(reservation)),
            off => {
                let terms = CouponTerms { coupon: testing::key(), off: Money::krw(off) };
                GiftCommand::ReserveWith(Box::new(reservation), terms)
            }
        }
    }
}

/// Charged once with [`BALANCE`].
pub(super) fn full_wallet() -> WalletState {
    let mut wallet = WalletState::default();
    charge(&mut wallet, BALANCE);
    wallet
}

fn charge(wallet: &mut WalletState, won: i64) {
    let (owner, amount) = ("u-1".to_owned(), Money::krw(won));
    for fact in [
        WalletFact::ChargeRequested { owner, number: 1, amount, sealed: sealed() },
        WalletFact::Charged { provider: "p".into(), amount },
    ] {
        Wallet::evolve(wallet, &WalletEvent { at: reserved_at(), fact });
    }
}

impl World {
    /// Every call to another entity that is due is made; what was answered comes home unless it is lost.
    pub(super) fn ask_others(&mut self, mood: Mood) -> bool {
        let now = self.play.now;
        let due = |call: &CallWant| call.lane == Lane::Entity && call.due <= now;
        let slots: Vec<Slot> = self.play.wants().calls.iter().filter(|call| due(call)).map(|call| call.slot).collect();
        for slot in &slots {
            let Some(CallRequest::Entity(request)) = Gift::request(KEY, &self.play.state, *slot, None) else {
                continue;
            };
            self.on_the_way.push(request.clone());
            let outcome = match mood {
                Mood::Willing | Mood::RefusesForNow | Mood::RefusesForGood => self.deliver(&request),
                Mood::DropsReply => {
                    self.deliver(&request);
                    EntityOutcome::Unknown { cause: "timeout".into() }
                }
                Mood::DropsRequest | Mood::NotSent => EntityOutcome::Unknown { cause: "no leader".into() },
            };
            self.ask(GiftCommand::Outcomes(vec![(*slot, CallOutcome::Entity(outcome))]));
        }
        !slots.is_empty()
    }

    /// What an entity answers.
    pub(super) fn deliver(&mut self, request: &EntityRequest) -> EntityOutcome {
        if request.target == testing::key() {
            return testing::ask(&mut self.coupon, codec::decode(&request.command).unwrap(), self.play.now);
        }
        assert_eq!(request.target, wallet_key("u-1"));
        self.tell_wallet(codec::decode(&request.command).unwrap())
    }

    fn tell_wallet(&mut self, command: WalletCommand) -> EntityOutcome {
        let at = At { now: self.play.now, command_id: CommandId::default() };
        match Wallet::decide(wallet_key("u-1"), &self.wallet, command, &at) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| Wallet::evolve(&mut self.wallet, event));
                assert!(self.wallet.is_sound());
                EntityOutcome::Done { state: Vec::new() }
            }
            Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
        }
    }

    /// A call of before comes once more.
    pub(super) fn deliver_again(&mut self, pick: usize) {
        if let Some(request) = self.on_the_way.get(pick % self.on_the_way.len().max(1)).cloned() {
            self.deliver(&request);
        }
    }

    /// Another of the member's purchases: takes the coupon or gives it back, empties the wallet or fills it.
    pub(super) fn meddle(&mut self, arg: u8) {
        let now = self.play.now;
        match arg % 4 {
            0 => testing::other_payer(&mut self.coupon, true, now),
            1 => testing::other_payer(&mut self.coupon, false, now),
            2 => self.spend_all_but(0),
            _ => charge(&mut self.wallet, 5_000),
        }
    }

    /// Somebody else spends what is on the balance.
    pub(super) fn spend_all_but(&mut self, left: i64) {
        let spare = self.wallet.balance().minor - left;
        let mut id = [0xDD; 16];
        id[8..].copy_from_slice(&self.play.now.0.to_be_bytes());
        let (holder, stamp) = (EntityKey { kind: kinds::ORDER, id }, self.play.now);
        let before = self.wallet.spent().minor;
        if spare > 0 {
            self.tell_wallet(WalletCommand::Hold { holder, amount: Money::krw(spare), stamp });
            self.tell_wallet(WalletCommand::Confirm { holder, stamp });
        }
        // Twice at one instant is the same holder, which the wallet refuses.
        self.spent_by_others += self.wallet.spent().minor - before;
    }

    pub(super) fn coupon_is_ours(&self) -> bool {
        testing::is_used_by(&self.coupon, Payer::Entity(KEY))
    }

    /// Once a gift is done: whatever still comes over the network changes nothing, the wallet's books agree with the
    /// gift's, and the coupon is used exactly when something of the gift was used or kept.
    pub(super) fn assert_end_beside(&mut self) {
        for request in std::mem::take(&mut self.on_the_way) {
            self.deliver(&request);
        }
        let ledger = self.play.state.ledger();
        assert!(self.wallet.held().is_zero(), "a hold was left behind: {:?}", self.wallet);
        if self.paying.method == PaymentMethod::Balance {
            let others = self.spent_by_others;
            assert_eq!(self.wallet.spent().minor - others, ledger.used().minor, "{ledger:?}");
            assert_eq!(ledger.paid().minor, ledger.used().minor + ledger.refunded().minor);
        }
        assert!([0, self.paying.left().minor].contains(&ledger.paid().minor), "paid in money what the coupon left");
        let status = self.play.state.state();
        let kept = matches!(status, Status::Used | Status::Declined | Status::Expired) || !ledger.used().is_zero();
        assert_eq!(self.coupon_is_ours(), kept && self.paying.off > 0, "{status} {:?}", self.coupon);
    }
}
