//! What happened in a run, as plain values: what clients were told, what was committed, what the providers did, and what
//! was left at the end. The simulator and the harness with real processes write it, the checkers read it.
//!
//! All instants are of one clock that nobody in the cluster sees: true time.

use crate::types::ids::{CommandId, EntityKey, LogIndex, Version};
use crate::types::time::{Millis, Timestamp};

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub replies: Vec<Reply>,
    pub records: Vec<RecordRow>,
    pub replicas: Vec<ReplicaRow>,
    /// The voters that run at the end, the leader first.
    pub voters: Vec<VoterRow>,
    pub sends: Vec<SendRow>,
    /// Every request to send a gift that reached a provider, whatever came of it.
    pub calls: Vec<CallRow>,
    /// What providers answered badly, or not at all.
    pub bad_answers: Vec<BadAnswer>,
    /// For every member of a batch that is made again, which needs no record of the member's own: the batch has it.
    pub batch_repeats: Vec<CallRow>,
    /// What members were told of their claims.
    pub claims: Vec<ClaimRow>,
    /// Orders, and what they took from, at the end.
    pub orders: Vec<OrderRow>,
    pub stocks: Vec<StockRow>,
    pub wallets: Vec<WalletRow>,
    /// What happened to seats and to queues, each in the order of its entity's records.
    pub seats: Vec<SeatRow>,
    pub queues: Vec<QueueRow>,
    /// Reservations of seats at the end.
    pub bookings: Vec<BookingRow>,
    pub payments: Vec<PaymentRow>,
    pub moves: Vec<MoneyMove>,
    pub gifts: Vec<GiftRow>,
    /// Where personal data was found outside its seal.
    pub leaks: Vec<Leak>,
    pub faults: Vec<FaultSpan>,
    /// Requests that nobody answered.
    pub unanswered: Vec<UnansweredRow>,
    /// Nothing is broken from here on.
    pub healed_at: Timestamp,
    /// How far honest clocks may be off true time.
    pub clock_error: Millis,
    /// How far the instants of records may be off those of the providers: the simulator knows them exactly.
    pub record_clock_error: Millis,
    pub ended_at: Timestamp,
}

/// What a client was told. Its silence is not listed: an unknown outcome proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub gift: EntityKey,
    /// The idempotency key's id, under which a repeat is the same request.
    pub key: [u8; 16],
    /// When it was asked for: what was written by the first of its tries, anything else by the one that is answered.
    pub asked: Timestamp,
    pub at: Timestamp,
    pub told: Told,
}

/// A definite answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The gift as of `version`, whose content has this digest. `written`: by a record of this request.
    Done { version: Version, digest: u64, written: bool },
    /// Business said no, on the state of `version`.
    Refused { version: Version, code: String },
}

/// A record that was applied, listed once, in the order of first application.
#[derive(Clone, Debug)]
pub struct RecordRow {
    pub gift: EntityKey,
    pub version: Version,
    pub command_id: CommandId,
    /// When it was first applied anywhere.
    pub at: Timestamp,
    pub facts: Vec<Fact>,
    pub money: Money4,
}

/// The money of a gift after a record, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money4 {
    pub paid: i64,
    pub held: i64,
    pub used: i64,
    pub refunded: i64,
}

/// What the checkers need to know of a record's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Reserved {
        due: Timestamp,
    },
    /// The sender moved the instant.
    Moved {
        due: Timestamp,
    },
    Cancelled,
    /// It is paid and leaves when it is due.
    Scheduled,
    SendStarted {
        delivery: u16,
        attempt: u16,
        term: u64,
    },
    /// The provider took the message, as it answered.
    SendAccepted {
        delivery: u16,
        attempt: u16,
    },
    /// The provider reported that the message arrived.
    SendReported {
        delivery: u16,
    },
    /// The message counts as sent though it may never have left: nobody can be asked.
    SendUnconfirmed {
        delivery: u16,
    },
    /// The attempt has to wait until then: it was refused, or it is not known what came of it.
    SendPaused {
        delivery: u16,
        until: Timestamp,
    },
    /// A dead letter. `away`: no attempt was made because the provider had not been there.
    SendFailed {
        delivery: u16,
        attempt: u16,
        away: bool,
    },
    /// An operator has the dead letter tried again.
    Replayed,
    PaymentStarted {
        term: u64,
    },
    RefundStarted {
        number: u16,
        term: u64,
    },
    Captured {
        minor: i64,
    },
    RefundSettled {
        total: i64,
    },
    Redeemed,
    Forgotten,
    /// A campaign promises so many coupons.
    Promised {
        quantity: u32,
    },
    /// A part of a campaign was made, with its share of them.
    PartPromised {
        whole: EntityKey,
        quantity: u32,
    },
    /// So many coupons of a campaign, or of a part, exist by its own count.
    Issued {
        total: u32,
    },
    /// A member has a coupon of a campaign. Members have numbers.
    CouponIssued {
        campaign: EntityKey,
        member: u64,
    },
}

/// A replica's state at an applied index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    pub replica: u64,
    pub applied: LogIndex,
    pub digest: u64,
}

/// How far a voter is at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterRow {
    pub replica: u64,
    pub applied: LogIndex,
}

/// A request that was asked again and again, and never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnansweredRow {
    pub key: EntityKey,
    /// When it was asked for first.
    pub asked: Timestamp,
}

/// A message as a provider took it, in the order of the providers' ledgers. Repeats that had no effect are listed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRow {
    pub gift: EntityKey,
    /// Generation of the delivery.
    pub delivery: u16,
    pub attempt: u16,
    /// Term of the claim under which the call was made.
    pub term: u64,
    pub at: Timestamp,
    /// A person gets a message by it. False for a repeat that the provider recognised.
    pub effective: bool,
    /// The provider says later that it did not arrive.
    pub failed: bool,
}

/// A request to send that reached a provider, or its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRow {
    pub gift: EntityKey,
    pub delivery: u16,
    pub attempt: u16,
    pub at: Timestamp,
}

/// An answer of a message's provider that is not the one it should give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer {
    /// Gift, generation of the delivery and attempt; `None` for what is not a gift's own message.
    pub of: Option<(EntityKey, u16, u16)>,
    /// It says for sure that the message was not taken.
    pub refused: bool,
    pub at: Timestamp,
    /// How long the caller waits for it at most.
    pub until: Timestamp,
}

/// What a member was told of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    pub campaign: EntityKey,
    pub member: u64,
    /// When it was told.
    pub at: Timestamp,
    pub told: ClaimTold,
}

/// The end of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimTold {
    /// The member has a coupon, or will have it.
    Won,
    /// Every coupon of the campaign exists.
    SoldOut,
}

/// An order at the end, with what the providers have of it. Skus and owners have numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    pub order: EntityKey,
    pub owner: u64,
    pub end: OrderEnd,
    pub amount: i64,
    /// Paid from the owner's wallet; else by card.
    pub by_wallet: bool,
    pub captured: i64,
    pub refunded: i64,
    /// The goods leave.
    pub shipped: bool,
    /// Sku and units.
    pub lines: Vec<(u64, u32)>,
}

/// Where an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEnd {
    Completed,
    /// Failed or cancelled: undone.
    Undone,
    /// Under way, or stuck.
    Open,
}

/// A stock at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockRow {
    pub sku: u64,
    /// Units that were put.
    pub put: u32,
    pub left: u32,
    pub held: u32,
}

/// A wallet at the end, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalletRow {
    pub owner: u64,
    /// By the payment provider.
    pub captured: i64,
    pub charged: i64,
    pub balance: i64,
    pub held: i64,
    pub spent: i64,
}

/// Something happened to a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatRow {
    /// The section that the seat is of.
    pub area: EntityKey,
    pub seat: u16,
    pub reservation: EntityKey,
    /// When its record was first applied anywhere.
    pub at: Timestamp,
    pub what: SeatMove,
}

/// What may happen to a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatMove {
    /// For somebody with this number in the show's queue.
    Held {
        queue: EntityKey,
        number: u64,
    },
    Sold,
    Freed,
}

/// Something happened to a show's queue. Instants are the queue's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRow {
    pub queue: EntityKey,
    pub at: Timestamp,
    pub what: QueueMove,
}

/// What may happen to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMove {
    /// As the show has it: nobody is in before, and never more at one time.
    Announced {
        opens_at: Timestamp,
        active_max: u32,
    },
    Entered {
        number: u64,
    },
    /// Everybody up to this number.
    Admitted {
        upto: u64,
    },
    /// It has what it came for, or is nobody's.
    Left {
        number: u64,
    },
}

/// A reservation at the end, with what the payment provider has of it. Owners have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookingRow {
    pub reservation: EntityKey,
    pub owner: u64,
    pub end: BookingEnd,
    pub seats: usize,
    pub amount: i64,
    /// Paid from the owner's wallet; else by card.
    pub by_wallet: bool,
    pub captured: i64,
    pub refunded: i64,
}

/// Where a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookingEnd {
    /// The seats are its owner's. `closed`: it cannot be cancelled any more, and a wallet's money is spent.
    Confirmed { closed: bool },
    /// Failed, expired or cancelled: undone.
    Over,
    /// Under way, or stuck.
    Open,
}

/// A payment as its provider has it at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentRow {
    pub gift: EntityKey,
    pub captured: i64,
    pub refunded: i64,
}

/// Money moved at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoneyMove {
    pub gift: EntityKey,
    /// `None` captures; else the number of the refund's attempt.
    pub refund: Option<u16>,
    pub term: u64,
    pub at: Timestamp,
    pub minor: i64,
}

/// A gift, or another entity without money, at the end of a run.
#[derive(Clone, Debug)]
pub struct GiftRow {
    pub gift: EntityKey,
    pub version: Version,
    pub status: &'static str,
    pub money: Money4,
    /// Nothing left to do and nothing left to hold.
    pub terminal: bool,
    /// Its send is a dead letter, which waits for an operator.
    pub dead: bool,
    /// The earliest timer or call that is wanted; `None` when nothing is.
    pub next_due: Option<Timestamp>,
    /// Whether a payment or a refund is wanted still, or its outcome is not known.
    pub money_in_doubt: bool,
}

/// Personal data where none may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    pub place: &'static str,
    pub gift: EntityKey,
}

/// Something was broken meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSpan {
    pub class: &'static str,
    pub from: Timestamp,
    pub to: Timestamp,
}
