//! Senders, recipients, tills and an operator: they reserve, cancel, accept, decline, redeem and replay, ask again under the
//! same idempotency key, and race each other.

use crate::actors::door::{Answer, Ask, AskError};
use crate::chaos::checkers::history::{Reply, Told, UnansweredRow};
use crate::domain::calendar::SendAt;
use crate::domain::gift::{
    ContactSet, GiftCommand, Letter, PaymentTerms, Personal, ProductSnapshot, RecipientContact, RecipientFacts,
    RedemptionKey, Reservation, Store,
};
use crate::domain::kinds;
use crate::domain::policy::{PaymentMethod, Policy, RefundRule, RefundWindows};
use crate::simulation::answers::Try;
use crate::simulation::coupons::{self, Claimer};
use crate::simulation::event::{Event, MINUTE, MS, NodeEvent, SECOND, Time};
use crate::simulation::options::{Defect, FaultClass};
use crate::simulation::orders::Shopper;
use crate::simulation::shows::Shows;
use crate::simulation::world::World;
use crate::types::codec;
use crate::types::effect::Channel;
use crate::types::ids::{EntityKey, Fingerprint, IdempotencyId};
use crate::types::limits::ASK_DEADLINE;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// A client that hears nothing definite gives up after so many tries.
const TRIES_MAX: u32 = 60;
const PRICE: Money = Money::krw(4_500);

/// What a client does next.
#[derive(Debug)]
pub enum Step {
    Reserve,
    Ask {
        request: u64,
    },
    Answer {
        to: Try,
        answer: Result<Answer, AskError>,
    },
    /// Nothing was heard for as long as a caller waits.
    GiveUp {
        request: u64,
        attempt: u32,
    },
    Command {
        gift: EntityKey,
        intent: Intent,
    },
    Operate,
    /// A campaign is announced; its coupons are claimed at once.
    Campaign,
    Claim {
        campaign: EntityKey,
        member: u64,
    },
    /// A sale opens; then its crowd orders.
    Sale,
    Shop(Shopper),
    CancelOrder(EntityKey),
    /// A show goes on sale; its crowd comes.
    Show,
    /// Somebody of the crowd does what comes next.
    Fan(usize),
    Unbook(EntityKey),
}

/// What someone wants with a gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Cancel,
    Open,
    Accept,
    Decline,
    /// At one of the tills; two of them may race.
    Redeem {
        till: u8,
    },
    TakeBack,
    Replay {
        new_generation: bool,
    },
    Discard,
}

/// What only people know of a gift.
struct Known {
    link_hash: [u8; 16],
    code_hash: [u8; 16],
}

struct Request {
    ask: Ask,
    attempt: u32,
    settled: bool,
    /// Nothing definite was heard in all of its tries.
    given_up: bool,
    repeats: u32,
    /// When each try was made.
    asked: Vec<Timestamp>,
    whose: Whose,
}

/// Who waits for the answer to a request, beyond the record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Nobody,
    /// A member who claims a coupon.
    Member(Claimer),
    /// Somebody who wants seats.
    Fan(usize),
}

/// All of them.
#[derive(Default)]
pub struct Clients {
    gifts: BTreeMap<EntityKey, Known>,
    requests: BTreeMap<u64, Request>,
    numbers: u64,
    pub(super) sales: u64,
    /// Where the coupons of each campaign are given out: at its parts, or by itself.
    pub(super) desks: BTreeMap<EntityKey, Vec<EntityKey>>,
    /// What was put for sale, by sku; who charged a wallet; what was ordered.
    pub(super) stocks: BTreeMap<String, u32>,
    pub(super) wallets: Vec<String>,
    pub(super) orders: Vec<EntityKey>,
    pub(super) shows: Shows,
    pub reserved: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub repeated: u64,
    pub unanswered: u64,
}

impl World {
    pub fn client(&mut self, step: Step) {
        match step {
            Step::Reserve => self.reserve(),
            Step::Ask { request } => self.ask(request),
            Step::Answer { to, answer } => self.answered(to, answer),
            Step::GiveUp { request, attempt } => {
                let waits =
                    self.clients.requests.get(&request).is_some_and(|one| !one.settled && one.attempt == attempt);
                if waits {
                    self.again(request, MS);
                }
            }
            Step::Command { gift, intent } => self.command(gift, intent),
            Step::Operate => self.operate(),
            Step::Campaign => self.announce(),
            Step::Claim { campaign, member } => self.claim(campaign, member),
            Step::Sale => self.open_sale(),
            Step::Shop(shopper) => self.shop(shopper),
            Step::CancelOrder(order) => self.cancel_order(order),
            Step::Show => self.open_show(),
            Step::Fan(fan) => self.fan_acts(fan),
            Step::Unbook(reservation) => self.unbook(reservation),
        }
    }

    fn reserve(&mut self) {
        if self.closing {
            return;
        }
        let mean = 3_600 * SECOND / self.options.gifts_per_hour.max(1);
        let delay = self.dice.between(mean / 4, 2 * mean - mean / 4);
        self.after(delay, Event::Client(Step::Reserve));
        let gift = EntityKey { kind: kinds::GIFT, id: self.dice.id() };
        let wall = self.true_wall();
        // Most want a round minute, and the same ones.
        let mut due = wall + Millis::from_secs(615) + Millis(i64::try_from(self.dice.below(600_000)).unwrap_or(0));
        if self.dice.per_mille(700) {
            due = Timestamp(due.0 - due.0 % 60_000 + 60_000);
        }
        let known = Known { link_hash: self.dice.id(), code_hash: self.dice.id() };
        let (reservation, new_key) = self.reservation(gift, &known, due);
        self.clients.gifts.insert(gift, known);
        self.clients.reserved += 1;
        self.providers.bank.open(kinds::text_id(gift), wall);
        let command = codec::encode(&GiftCommand::Reserve(Box::new(reservation)));
        self.request(gift, command, new_key);
        self.change_of_heart(gift, due);
    }

    /// Some cancel; a third of them at the very instant at which the gift leaves.
    fn change_of_heart(&mut self, gift: EntityKey, due: Timestamp) {
        if !self.dice.per_mille(180) {
            return;
        }
        let ahead = u64::try_from((due - self.true_wall()).0).unwrap_or(0) * MS;
        let delay = if self.dice.per_mille(330) {
            ahead - SECOND + self.dice.below(2 * SECOND)
        } else {
            self.dice.below(ahead)
        };
        self.after(delay, Event::Client(Step::Command { gift, intent: Intent::Cancel }));
    }

    fn reservation(
        &mut self,
        gift: EntityKey,
        known: &Known,
        due: Timestamp,
    ) -> (Reservation, Option<crate::types::record::WrappedKey>) {
        let personal = personal_of(gift);
        let plain = codec::encode(&personal);
        let (mut sealed, new_key) = self.vault.seal_new(gift, &plain);
        if self.options.defect == Defect::SealOpen {
            sealed = Sealed { ciphertext: plain, ..sealed };
        }
        let send_at = SendAt::instant(due, None).expect("the default zone is known");
        let resolved = send_at.resolve().expect("an instant resolves");
        let lists: [&[Channel]; 6] = [
            &[Channel::Kakao, Channel::Sms],
            &[Channel::Sms, Channel::Email],
            &[Channel::Kakao, Channel::Sms, Channel::Email],
            &[Channel::Email],
            &[Channel::Email, Channel::Sms],
            &[Channel::Push, Channel::Sms],
        ];
        let channels = self.dice.pick(&lists).expect("there are six").to_vec();
        let percent = if self.dice.per_mille(500) { 100 } else { 40 };
        let refund = RefundRule { declined_percent: percent, expired_percent: percent, ..RefundRule::default() };
        let policy = Policy { validity_days: 1, refund, ..Policy::default() };
        let payment = PaymentTerms {
            method: PaymentMethod::Card,
            amount: PRICE,
            refund_by: PaymentMethod::Card.refund_by(due, &RefundWindows::default()),
        };
        let reservation = Reservation {
            owner: "u-1".to_owned(),
            product: ProductSnapshot { id: "americano".to_owned(), name: "americano".to_owned(), price: PRICE, policy },
            recipient: RecipientFacts { contacts: personal.recipient.contacts(), zone: "Asia/Seoul".to_owned() },
            sender: ContactSet::default(),
            sealed,
            link_hash: known.link_hash,
            code_hash: known.code_hash,
            send_at,
            resolved,
            channels,
            payment,
        };
        (reservation, Some(new_key))
    }

    /// A person got the message.
    pub fn delivered(&mut self, gift: EntityKey) {
        let opened = self.dice.between(SECOND, 3 * MINUTE);
        if self.dice.per_mille(800) {
            self.after(opened, Event::Client(Step::Command { gift, intent: Intent::Open }));
        }
        if self.dice.per_mille(150) {
            self.after(opened + SECOND, Event::Client(Step::Command { gift, intent: Intent::Decline }));
        }
        if !self.dice.per_mille(750) {
            return;
        }
        let accepted = opened + self.dice.below(MINUTE);
        self.after(accepted, Event::Client(Step::Command { gift, intent: Intent::Accept }));
        let used = accepted + self.dice.below(4 * MINUTE);
        if self.dice.per_mille(600) {
            self.after(used, Event::Client(Step::Command { gift, intent: Intent::Redeem { till: 1 } }));
            if self.dice.per_mille(200) {
                let beside = used + self.dice.below(8 * MS);
                self.after(beside, Event::Client(Step::Command { gift, intent: Intent::Redeem { till: 2 } }));
            }
        }
        if self.dice.per_mille(60) {
            self.after(used + SECOND, Event::Client(Step::Command { gift, intent: Intent::TakeBack }));
        }
    }

    fn command(&mut self, gift: EntityKey, intent: Intent) {
        let Some(known) = self.clients.gifts.get(&gift) else { return };
        let (link_hash, code_hash) = (known.link_hash, known.code_hash);
        let redemption = |till: u8| RedemptionKey {
            store: Store::of("m-1", "s-1"),
            terminal_id: format!("t-{till}"),
            transaction_id: gift.hex(),
        };
        let actor = "operator".to_owned();
        let command = match intent {
            Intent::Cancel => GiftCommand::Cancel,
            Intent::Open => GiftCommand::Opened { link_hash },
            Intent::Accept => GiftCommand::Accept { link_hash },
            Intent::Decline => GiftCommand::Decline { link_hash },
            Intent::Redeem { till } => GiftCommand::Redeem { code_hash, redemption: redemption(till) },
            Intent::TakeBack => GiftCommand::CancelRedeem { code_hash, redemption: redemption(1) },
            Intent::Replay { new_generation } => GiftCommand::Replay { actor, letter: Letter::Gift, new_generation },
            Intent::Discard => GiftCommand::Discard { actor, letter: Letter::Gift, reason: "given up".to_owned() },
        };
        self.request(gift, codec::encode(&command), None);
    }

    /// The operator looks after dead letters.
    fn operate(&mut self) {
        if self.closing {
            return;
        }
        self.after(20 * SECOND, Event::Client(Step::Operate));
        let dead: Vec<EntityKey> = self.recorder.dead.iter().copied().collect();
        let Some(gift) = self.dice.pick(&dead) else { return };
        let intent = match self.dice.below(10) {
            0 => Intent::Discard,
            1..=3 => Intent::Replay { new_generation: true },
            4.. => Intent::Replay { new_generation: false },
        };
        self.command(gift, intent);
    }

    pub(super) fn request(
        &mut self,
        gift: EntityKey,
        command: Vec<u8>,
        new_key: Option<crate::types::record::WrappedKey>,
    ) {
        let ask = self.keyed(gift, command, new_key);
        let repeats = if self.dice.per_mille(250) { 1 + u32::try_from(self.dice.below(2)).unwrap_or(0) } else { 0 };
        let number = self.begin(ask, repeats, Whose::Nobody);
        // An impatient one asks twice at once.
        if self.dice.per_mille(60) {
            self.after(self.now % MS, Event::Client(Step::Ask { request: number }));
        }
    }

    /// A request under an idempotency key of its own.
    pub(super) fn keyed(
        &mut self,
        key: EntityKey,
        command: Vec<u8>,
        new_key: Option<crate::types::record::WrappedKey>,
    ) -> Ask {
        let id = IdempotencyId(self.dice.id());
        let mut fingerprint = [0; 16];
        fingerprint[..8].copy_from_slice(&xxh3_64(&command).to_be_bytes());
        Ask { key, command, idempotency: Some((id, Fingerprint(fingerprint))), if_version: None, new_key }
    }

    /// A request's first try; its number.
    pub(super) fn begin(&mut self, ask: Ask, repeats: u32, whose: Whose) -> u64 {
        self.clients.numbers += 1;
        let number = self.clients.numbers;
        let (settled, given_up, asked) = (false, false, Vec::new());
        let request = Request { ask, attempt: 0, settled, given_up, repeats, asked, whose };
        self.clients.requests.insert(number, request);
        self.ask(number);
        number
    }

    /// Sends a request to a node, mostly to one that leads.
    fn ask(&mut self, number: u64) {
        let hosts: Vec<u64> =
            self.nodes.values().filter(|node| node.hosting.claim.is_some()).map(|node| node.peer).collect();
        let running: Vec<u64> = self.nodes.values().filter(|node| node.runs()).map(|node| node.peer).collect();
        let from = if self.dice.per_mille(self.options.strays) || hosts.is_empty() { &running } else { &hosts };
        let (target, wall) = (self.dice.pick(from), self.true_wall());
        let Some(request) = self.clients.requests.get_mut(&number) else { return };
        request.attempt += 1;
        let attempt = request.attempt;
        if attempt > TRIES_MAX {
            if !request.settled {
                self.clients.unanswered += 1;
                (request.settled, request.given_up) = (true, true);
            }
            return;
        }
        request.asked.push(wall);
        let delay = MS / 2 + self.dice.below(3 * MS);
        if let Some(node) = target.and_then(|peer| self.nodes.get(&peer)) {
            let ask = node.event(NodeEvent::Ask { from: Try { request: number, number: attempt } });
            self.after(delay, ask);
        }
        let patience = ASK_DEADLINE.0.unsigned_abs() * MS;
        self.after(patience, Event::Client(Step::GiveUp { request: number, attempt }));
    }

    fn again(&mut self, number: u64, least: Time) {
        let delay = least + self.dice.below(1_500 * MS);
        self.after(delay, Event::Client(Step::Ask { request: number }));
    }

    /// Requests that nobody answered, or not yet.
    pub(super) fn unanswered(&self) -> Vec<UnansweredRow> {
        let unheard = self.clients.requests.values().filter(|request| !request.settled || request.given_up);
        let row = |request: &Request| Some(UnansweredRow { key: request.ask.key, asked: *request.asked.first()? });
        unheard.filter_map(row).collect()
    }

    /// What a node asks for when a request reaches it.
    pub fn ask_of(&self, number: u64) -> Option<Ask> {
        self.clients.requests.get(&number).map(|request| request.ask.clone())
    }

    /// A node answers; the answer may be lost on its way.
    pub fn reply(&mut self, to: Try, answer: Result<Answer, AskError>) {
        if !self.healed && self.options.strikes(FaultClass::LostAnswer, 20, &mut self.dice) {
            self.strike(FaultClass::LostAnswer);
            return;
        }
        let delay = MS / 2 + self.dice.below(3 * MS);
        self.after(delay, Event::Client(Step::Answer { to, answer }));
    }

    fn answered(&mut self, Try { request: number, number: tried }: Try, answer: Result<Answer, AskError>) {
        let at = self.true_wall();
        let Some(request) = self.clients.requests.get_mut(&number) else { return };
        let (gift, whose, is_new) = (request.ask.key, request.whose, !request.settled);
        let id = request.ask.idempotency.map(|(id, _)| id);
        let told = match answer {
            Ok(answer) => {
                self.clients.acknowledged += 1;
                let digest = xxh3_64(&answer.state);
                // A record without a key is nobody's in particular.
                Told::Done { version: answer.version, digest, written: !answer.unwritten && id.is_some() }
            }
            Err(AskError::Rejected { rejection, version }) => {
                self.clients.refused += 1;
                match coupons::refusal_of(gift.kind, &rejection) {
                    Some(code) => Told::Refused { version, code },
                    None => {
                        if !request.settled {
                            self.again(number, 20 * MS);
                        }
                        return;
                    }
                }
            }
            Err(AskError::KeyInFlight | AskError::Overloaded { .. } | AskError::Unavailable | AskError::Unknown) => {
                if !request.settled {
                    self.again(number, 300 * MS);
                }
                return;
            }
            // A reservation that ends just now: who wants to pay looks again.
            Err(AskError::VersionMoved { .. }) if gift.kind == kinds::RESERVATION => {
                request.settled = true;
                return self.look_again(whose);
            }
            Err(
                error @ (AskError::VersionMoved { .. }
                | AskError::KeyReused
                | AskError::KeyExpired
                | AskError::Malformed
                | AskError::NotFinalized { .. }
                | AskError::TooLarge),
            ) => return self.fail(format!("a client is told of {gift:?}: {error}")),
        };
        // What was written may have been by any try, the rest is as of this one.
        let place = if matches!(told, Told::Done { written: true, .. }) { 0 } else { tried as usize - 1 };
        let asked = request.asked[place];
        request.settled = true;
        let repeats = request.repeats > 0 && request.attempt < TRIES_MAX;
        request.repeats = request.repeats.saturating_sub(1);
        self.mark(format!("{gift:?} {told:?}").as_bytes());
        self.recorder.history.replies.push(Reply {
            gift,
            key: id.unwrap_or_default().0,
            asked,
            at,
            told: told.clone(),
        });
        match whose {
            Whose::Nobody => {}
            Whose::Member(claimer) => self.claimed(claimer, &told, is_new),
            Whose::Fan(fan) if is_new => self.fan_told(fan, &told),
            Whose::Fan(_) => {}
        }
        if repeats {
            self.clients.repeated += 1;
            let delay = self.dice.below(40 * SECOND);
            self.after(delay, Event::Client(Step::Ask { request: number }));
        }
    }
}

fn personal_of(gift: EntityKey) -> Personal {
    let canary = String::from_utf8_lossy(crate::chaos::checkers::inv11_sealed::CANARY).into_owned();
    let recipient = RecipientContact {
        name: format!("{canary} Jimin"),
        phone: Some("+821012345678".to_owned()),
        email: Some(format!("{canary}@example.com")),
        push_token: Some(format!("push-{canary}")),
        ..RecipientContact::default()
    };
    Personal {
        recipient,
        message: format!("{canary} happy birthday"),
        link_base: "https://gift.example".to_owned(),
        link_token: format!("000{canary}"),
        voucher_code: "0001234567890123".to_owned(),
        payment_key: format!("pay-{canary}-{}", gift.hex()),
        ..Personal::default()
    }
}
