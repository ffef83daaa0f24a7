//! Shows that sell out: a crowd enters the queue, is let in, wants the same seats, pays by card or from a wallet, takes the
//! reservation back, or lets its seats lapse. What the front door does between the entities is done here.

use crate::actors::door::Ask;
use crate::chaos::checkers::history::{BookingEnd, BookingRow, Told};
use crate::domain::area::{AreaCommand, AreaRejection, Take, area_key};
use crate::domain::entity::Entity;
use crate::domain::kinds;
use crate::domain::order::Method;
use crate::domain::queue::{Enter, QueueCommand, QueueRejection, queue_key};
use crate::domain::reservation::{
    Assignment, Payment, PaymentKey, Reservation, ReservationCommand, ReservationState, Status,
};
use crate::domain::show::{Admission, SeatNumber, SeatRow, SectionNumber, ShowCommand, ShowState, Terms};
use crate::domain::ticket::{QueueNumber, TicketState, ticket_key};
use crate::simulation::clients::{Step, Whose};
use crate::simulation::event::{Event, MINUTE, MS, SECOND, Time};
use crate::simulation::log_disk::SHARD;
use crate::simulation::world::World;
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::ids::{EntityKey, EntityKind, Fingerprint, IdempotencyId, Version};
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

/// Seats of a section, and who wants the seats of a show's two sections.
const SEATS: u16 = 8;
const FANS: usize = 24;
/// One seat may be had for what is in a wallet, two may not.
const PRICE: Money = Money::krw(5_000);
/// How often somebody looks or chooses again before giving up.
const TRIES_MAX: u32 = 120;
const CHOICES_MAX: u32 = 6;

/// What is on sale, and who wants it.
#[derive(Default)]
pub struct Shows {
    shows: Vec<(EntityKey, Terms)>,
    fans: Vec<Fan>,
    /// Reservations that were asked for.
    bookings: Vec<EntityKey>,
}

/// Somebody of a crowd.
#[derive(Clone)]
struct Fan {
    show: usize,
    owner: String,
    method: Method,
    claim: IdempotencyId,
    /// The number that has passed, of who queues again.
    replaces: Option<QueueNumber>,
    number: QueueNumber,
    stage: Stage,
    tries: u32,
    reservation: EntityKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Enters,
    /// For a number on the ticket, then to be let in.
    Waits,
    Chooses,
    Pays,
    Done,
}

impl World {
    /// A show goes on sale.
    pub(super) fn open_show(&mut self) {
        if self.closing {
            return;
        }
        let pause = self.dice.between(5 * MINUTE, 11 * MINUTE);
        self.after(pause, Event::Client(Step::Show));
        let key = EntityKey { kind: kinds::SHOW, id: self.dice.id() };
        let row = |section: &str| SeatRow { section: section.into(), row: "1".into(), count: SEATS, price: PRICE };
        let mut few = |from, to| u32::try_from(self.dice.between(from, to)).unwrap_or(1);
        let (per_second, active_max) = (few(1, 4), few(5, 10));
        let opens_at = self.true_wall() + Millis::from_secs(6);
        let admission = Admission { opens_at, per_second, active_max };
        let terms = Terms { title: "concert".into(), rows: vec![row("A"), row("B")], admission };
        self.request(key, codec::encode(&ShowCommand::Create(Box::new(terms.clone()))), None);
        let show = self.clients.shows.shows.len();
        self.clients.shows.shows.push((key, terms));
        for number in 0..FANS {
            let method = if self.dice.per_mille(400) { Method::Balance } else { Method::Card };
            let (owner, claim) = (format!("f-{show}-{number}"), IdempotencyId(self.dice.id()));
            if method == Method::Balance {
                self.charge(owner.clone());
            }
            let fan = Fan {
                show,
                owner,
                method,
                claim,
                replaces: None,
                number: QueueNumber(0),
                stage: Stage::Enters,
                tries: 0,
                reservation: EntityKey { kind: kinds::RESERVATION, id: [0; 16] },
            };
            self.clients.shows.fans.push(fan);
            let comes = 3 * SECOND + self.dice.below(9 * SECOND);
            self.fan_later(self.clients.shows.fans.len() - 1, comes);
        }
    }

    fn fan_later(&mut self, fan: usize, delay: Time) {
        self.after(delay, Event::Client(Step::Fan(fan)));
    }

    /// What comes next for somebody of the crowd.
    pub(super) fn fan_acts(&mut self, place: usize) {
        let fan = &mut self.clients.shows.fans[place];
        fan.tries += 1;
        if fan.tries > TRIES_MAX {
            fan.stage = Stage::Done;
        }
        match fan.stage {
            Stage::Enters => self.enter(place),
            Stage::Waits => self.look_at_ticket(place),
            Stage::Chooses => self.choose(place),
            Stage::Pays => self.pay(place),
            Stage::Done => {}
        }
    }

    /// Asks for somebody of the crowd, without a key of its own: entities know the repeat.
    fn ask_for(&mut self, place: usize, key: EntityKey, command: Vec<u8>) {
        let ask = Ask { key, command, idempotency: None, if_version: None, new_key: None };
        self.begin(ask, 0, Whose::Fan(place));
    }

    fn enter(&mut self, place: usize) {
        let fan = &self.clients.shows.fans[place];
        let (show, terms) = &self.clients.shows.shows[fan.show];
        let (show, admission, ticket) = (*show, terms.admission, ticket_key(*show, &fan.owner));
        // The door knows of no queue before there is a show.
        let found: Option<(Version, ShowState)> = self.peek(show);
        if found.is_none() {
            return self.fan_later(place, SECOND);
        }
        let enter = Enter { show, admission, ticket, replaces: fan.replaces, claim: fan.claim };
        self.ask_for(place, queue_key(show), codec::encode(&QueueCommand::Enter(Box::new(enter))));
    }

    /// An entity as the leader's disk holds it, which may be behind: what the front door shows.
    fn peek<T: serde::de::DeserializeOwned>(&self, key: EntityKey) -> Option<(Version, T)> {
        let node = &self.nodes[&self.leader()?];
        let row = node.state.state.get(SHARD, &key).ok()??;
        Some((row.version, codec::decode(&row.state).expect("a stored state decodes")))
    }

    fn look_at_ticket(&mut self, place: usize) {
        let fan = &self.clients.shows.fans[place];
        let (show, replaces) = (self.clients.shows.shows[fan.show].0, fan.replaces);
        let found: Option<(Version, TicketState)> = self.peek(ticket_key(show, &fan.owner));
        let number = found.and_then(|(_, ticket)| Some(ticket.get()?.number)).filter(|held| Some(*held) != replaces);
        let Some(number) = number else { return self.fan_later(place, SECOND) };
        self.clients.shows.fans[place].number = number;
        self.ask_for(place, queue_key(show), codec::encode(&QueueCommand::Check(number)));
    }

    /// Most want the seats in front, some a second one beside it.
    fn choose(&mut self, place: usize) {
        let section = SectionNumber(u16::from(self.dice.per_mille(500)));
        let first =
            u16::try_from(self.dice.below(u64::from(SEATS)).min(self.dice.below(u64::from(SEATS)))).unwrap_or(0);
        let last = if self.dice.per_mille(350) { (first + 1).min(SEATS - 1) } else { first };
        let seats: Vec<SeatNumber> = (first..=last).map(SeatNumber).collect();
        let reservation = EntityKey { kind: kinds::RESERVATION, id: self.dice.id() };
        let fan = &mut self.clients.shows.fans[place];
        fan.reservation = reservation;
        let show = self.clients.shows.shows[fan.show].0;
        let assignment = Assignment {
            reservation,
            serial: Default::default(),
            show,
            section,
            section_name: ["A", "B"][usize::from(section.0)].to_owned(),
            amount: Money::krw(PRICE.minor * i64::try_from(seats.len()).unwrap_or(1)),
            seats,
            owner: fan.owner.clone(),
            number: fan.number,
            claim: fan.claim,
            fingerprint: Fingerprint([0; 16]),
            assigned_at: Timestamp(0),
        };
        self.clients.shows.bookings.push(reservation);
        let take = AreaCommand::Take(Box::new(Take { seats_total: SEATS, assignment }));
        self.ask_for(place, area_key(show, section), codec::encode(&take));
    }

    /// Pays, thinks better of it, or forgets about it.
    fn pay(&mut self, place: usize) {
        let fan = &self.clients.shows.fans[place];
        let (reservation, method) = (fan.reservation, fan.method);
        let found: Option<(Version, ReservationState)> = self.peek(reservation);
        let Some((version, state)) = found else { return self.fan_later(place, 500 * MS) };
        let mood = self.dice.below(1_000);
        if state.status() != Status::TemporaryAssigned || mood < 100 {
            self.clients.shows.fans[place].stage = Stage::Done;
            return;
        }
        if mood < 200 {
            self.clients.shows.fans[place].stage = Stage::Done;
            return self.unbook(reservation);
        }
        let mut payment = Payment { method, sealed: None };
        let mut new_key = None;
        if method == Method::Card {
            let canary = String::from_utf8_lossy(crate::chaos::checkers::inv11_sealed::CANARY).into_owned();
            let secret = codec::encode(&PaymentKey(Private(format!("pay-{canary}-{}", reservation.hex()))));
            let (sealed, wrapped) = self.vault.seal_new(reservation, &secret);
            (payment.sealed, new_key) = (Some(sealed), Some(wrapped));
            let at = self.true_wall();
            self.providers.bank.open(kinds::text_id(reservation), at);
        }
        let command = codec::encode(&ReservationCommand::Pay(Box::new(payment)));
        // A key comes with the very record that it is made for, or not at all.
        let if_version = new_key.is_some().then_some(version);
        let ask = Ask { if_version, ..self.keyed(reservation, command, new_key) };
        let repeats = u32::from(self.dice.per_mille(250));
        self.begin(ask, repeats, Whose::Fan(place));
        self.clients.shows.fans[place].stage = Stage::Done;
        if self.dice.per_mille(150) {
            let delay = self.dice.below(3 * MINUTE);
            self.after(delay, Event::Client(Step::Unbook(reservation)));
        }
    }

    pub(super) fn unbook(&mut self, reservation: EntityKey) {
        self.request(reservation, codec::encode(&ReservationCommand::Cancel), None);
    }

    /// The reservation has moved on since it was looked at.
    pub(super) fn look_again(&mut self, whose: Whose) {
        if let Whose::Fan(place) = whose {
            self.clients.shows.fans[place].stage = Stage::Pays;
            self.fan_later(place, 200 * MS);
        }
    }

    /// Somebody of the crowd has a first answer to what was asked last.
    pub(super) fn fan_told(&mut self, place: usize, told: &Told) {
        let done = matches!(told, Told::Done { .. });
        let passed = matches!(told, Told::Refused { code, .. } if *code == format!("{:?}", QueueRejection::Passed));
        let (short, long) = (self.dice.between(200 * MS, 2 * SECOND), self.dice.below(80 * SECOND));
        let again = self.dice.per_mille(500);
        let fan = &mut self.clients.shows.fans[place];
        let (stage, delay) = match (fan.stage, done) {
            (Stage::Enters, true) => (Stage::Waits, short),
            (Stage::Waits, true) => {
                fan.tries = TRIES_MAX - CHOICES_MAX;
                (Stage::Chooses, 0)
            }
            (Stage::Waits, false) if passed && again => {
                fan.replaces = Some(fan.number);
                (Stage::Enters, short)
            }
            (Stage::Waits, false) if !passed => (Stage::Waits, 2 * short),
            (Stage::Chooses, true) => {
                fan.tries = 0;
                (Stage::Pays, if again { short } else { long })
            }
            // The seat is another's by now.
            (Stage::Chooses, false) => (Stage::Chooses, short),
            (Stage::Enters | Stage::Waits, false) | (Stage::Pays | Stage::Done, _) => (Stage::Done, 0),
        };
        fan.stage = stage;
        if stage != Stage::Done {
            self.fan_later(place, delay);
        }
    }

    /// Reservations as the leader's disk and the bank hold them.
    pub(super) fn gather_bookings(&mut self) {
        for reservation in self.clients.shows.bookings.clone() {
            let found: Option<(Version, ReservationState)> = self.peek(reservation);
            let Some((_, state)) = found else { continue };
            let (captured, refunded) = self.providers.bank.of(&kinds::text_id(reservation));
            let row = BookingRow {
                reservation,
                owner: xxh3_64(state.owner().as_bytes()),
                end: end_of(reservation, &state),
                seats: state.assignment().map_or(0, |assignment| assignment.seats.len()),
                amount: state.amount().minor,
                by_wallet: state.method() == Some(Method::Balance),
                captured,
                refunded,
            };
            self.recorder.history.bookings.push(row);
        }
    }
}

fn end_of(reservation: EntityKey, state: &ReservationState) -> BookingEnd {
    let wants = Reservation::wants(reservation, state);
    match state.status() {
        Status::Confirmed if wants.calls.is_empty() => BookingEnd::Confirmed { closed: wants.terminal },
        Status::PaymentFailed | Status::Cancelled | Status::Expired if wants.terminal => BookingEnd::Over,
        Status::Confirmed
        | Status::PaymentFailed
        | Status::Cancelled
        | Status::Expired
        | Status::TemporaryAssigned
        | Status::PaymentPending => BookingEnd::Open,
    }
}

/// How an area or a queue says no; `None` when it says "ask again".
///
/// # Panics
/// On bytes that are not a rejection of the kind.
#[must_use]
pub fn refusal_of(kind: EntityKind, rejection: &[u8]) -> Option<String> {
    if kind == kinds::AREA {
        let refusal: AreaRejection = codec::decode(rejection).expect("a rejection decodes");
        return (refusal != AreaRejection::Busy).then(|| format!("{refusal:?}"));
    }
    let refusal: QueueRejection = codec::decode(rejection).expect("a rejection decodes");
    (refusal != QueueRejection::Busy).then(|| format!("{refusal:?}"))
}
