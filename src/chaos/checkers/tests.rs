//! Each checker sees its breach, and only a breach.

mod at_rest;
mod lateness;
mod sends;

use super::history::*;
use super::*;
use crate::types::ids::{CommandId, EntityKey, EntityKind, LogIndex, Version};
use crate::types::time::{Millis, Timestamp};

const GIFT: EntityKey = EntityKey { kind: EntityKind(1), id: [7; 16] };
const NOTHING: Money4 = Money4 { paid: 0, held: 0, used: 0, refunded: 0 };
const DUE: Timestamp = Timestamp(1_000_000);

fn record(version: u64, at: i64, facts: Vec<Fact>, money: Money4) -> RecordRow {
    let command_id = CommandId([u8::try_from(version).unwrap(); 16]);
    RecordRow { gift: GIFT, version: Version(version), command_id, at: Timestamp(at), facts, money }
}
fn send(at: Timestamp, attempt: u16, term: u64) -> SendRow {
    let (effective, failed) = (true, false);
    SendRow { gift: GIFT, delivery: 0, attempt, term, at, effective, failed }
}
fn call(at: Timestamp) -> CallRow {
    CallRow { gift: GIFT, delivery: 0, attempt: 1, at }
}
fn reply(key: u8, told: Told) -> Reply {
    Reply { gift: GIFT, key: [key; 16], asked: DUE + Millis(10_000), at: DUE + Millis(10_010), told }
}
fn done(version: u64, digest: u64) -> Told {
    Told::Done { version: Version(version), digest, written: true }
}

/// A gift that was reserved, paid, sent in time and used.
fn whole() -> History {
    let held = Money4 { paid: 100, held: 100, used: 0, refunded: 0 };
    let used = Money4 { held: 0, used: 100, ..held };
    let started = Fact::SendStarted { delivery: 0, attempt: 1, term: 3 };
    History {
        replies: vec![reply(1, done(1, 11)), reply(1, done(1, 11)), reply(5, done(5, 55))],
        records: vec![
            record(1, 10, vec![Fact::Reserved { due: DUE }], Money4::default()),
            record(2, 20, vec![Fact::PaymentStarted { term: 3 }], Money4::default()),
            record(3, 30, vec![Fact::Captured { minor: 100 }, Fact::Scheduled], held),
            record(4, DUE.0, vec![started], held),
            record(5, DUE.0 + 9_000, vec![Fact::Redeemed], used),
        ],
        replicas: vec![
            ReplicaRow { replica: 1, applied: LogIndex(9), digest: 4 },
            ReplicaRow { replica: 2, applied: LogIndex(9), digest: 4 },
        ],
        sends: vec![send(DUE + Millis(40), 1, 3)],
        calls: vec![call(DUE + Millis(40))],
        payments: vec![PaymentRow { gift: GIFT, captured: 100, refunded: 0 }],
        moves: vec![MoneyMove { gift: GIFT, refund: None, term: 3, at: Timestamp(25), minor: 100 }],
        gifts: vec![GiftRow {
            gift: GIFT,
            version: Version(5),
            status: "used",
            money: used,
            terminal: true,
            dead: false,
            next_due: None,
            money_in_doubt: false,
        }],
        faults: vec![FaultSpan { class: "kill", from: Timestamp(0), to: Timestamp(5) }],
        ended_at: DUE + Millis::from_hours(1),
        ..History::default()
    }
}

/// The invariants that a change of the whole history breaks.
fn broken_by(change: impl FnOnce(&mut History)) -> Vec<&'static str> {
    let mut history = whole();
    change(&mut history);
    check_all(&history).iter().map(|violation| violation.invariant).collect()
}

#[test]
fn a_whole_history_breaks_nothing() {
    assert_eq!(check_all(&whole()), []);
    assert_eq!(proves_something(&whole()), Ok(()));
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_seen() {
    assert_eq!(broken_by(|history| history.replies.push(reply(6, done(6, 66)))), ["INV-1"]);
    assert_eq!(broken_by(|history| history.gifts[0].version = Version(4)), ["INV-1"]);
    assert_eq!(broken_by(|history| history.replies.push(reply(9, done(4, 44)))), ["INV-1"], "another's record");
    let refused = Told::Refused { version: Version(8), code: "AlreadyUsed".to_owned() };
    assert_eq!(broken_by(|history| history.replies.push(reply(8, refused))), ["INV-1"], "on a state that never was");
}

#[test]
fn what_was_told_before_it_was_committed_is_seen() {
    let told = |at: i64| Reply { asked: DUE, at: DUE + Millis(at), ..reply(5, done(5, 55)) };
    assert_eq!(broken_by(|history| history.replies = vec![told(8_999)]), ["INV-1"]);
    assert_eq!(broken_by(|history| history.replies = vec![told(9_000)]), [""; 0]);
}

#[test]
fn an_answer_out_of_the_past_is_seen() {
    let later = |told: Told| Reply { asked: DUE + Millis(20_000), at: DUE + Millis(20_010), ..reply(7, told) };
    let refused = |version| Told::Refused { version: Version(version), code: "NotSent".to_owned() };
    assert_eq!(broken_by(|history| history.replies.push(later(refused(4)))), ["LINEAR"]);
    assert_eq!(broken_by(|history| history.replies.push(later(refused(5)))), [""; 0]);
    let overlaps = |history: &mut History| {
        let asked = DUE + Millis(10_010);
        history.replies.push(Reply { asked, ..later(refused(4)) });
    };
    assert_eq!(broken_by(overlaps), [""; 0], "it was asked for before the other was heard");
}

#[test]
fn a_request_beside_the_journal_is_seen() {
    assert_eq!(broken_by(|history| history.calls.push(call(DUE + Millis(60)))), ["INV-6"]);
    let again = |history: &mut History| {
        history.calls.push(call(DUE + Millis(60)));
        history.records[4].facts.push(Fact::SendStarted { delivery: 0, attempt: 1, term: 3 });
    };
    assert_eq!(broken_by(again), [""; 0], "it has a record of its own");
    let with_its_batch = |history: &mut History| {
        history.calls.push(call(DUE + Millis(60)));
        history.batch_repeats.push(call(DUE + Millis(50)));
        history.sends[0].term = 4;
        history.sends[0].at = DUE + Millis(60);
    };
    assert_eq!(broken_by(with_its_batch), [""; 0], "its batch has one for all of its members");
}

#[test]
fn a_second_effect_is_seen_and_one_that_failed_is_none() {
    let second = send(DUE + Millis(900), 1, 3);
    assert_eq!(broken_by(|history| history.sends.push(second)), ["INV-2"]);
    assert_eq!(broken_by(|history| history.sends.push(SendRow { effective: false, ..second })), [""; 0]);
    assert_eq!(broken_by(|history| history.sends.insert(0, SendRow { failed: true, ..second })), [""; 0]);
    assert_eq!(broken_by(|history| history.records[4].facts.push(Fact::Cancelled)), ["INV-2"]);
}

#[test]
fn early_and_late_sends_are_seen() {
    let at = |at: Timestamp| move |history: &mut History| history.sends[0].at = at;
    assert_eq!(broken_by(at(DUE - Millis(1))), ["INV-3", "INV-6"]);
    assert_eq!(broken_by(at(DUE + Millis(60_001))), ["INV-3"]);
    assert_eq!(broken_by(at(DUE + Millis(60_000))), [""; 0]);
}

#[test]
fn money_that_does_not_add_up_is_seen() {
    assert_eq!(broken_by(|history| history.records[3].money.held = 99), ["INV-4"]);
    assert_eq!(broken_by(|history| history.records[2].facts.clear()), ["INV-4"]);
    assert_eq!(broken_by(|history| history.payments[0].refunded = 40), ["INV-4"]);
    assert_eq!(broken_by(|history| history.payments.clear()), ["INV-4"]);
}

#[test]
fn holes_and_replicas_that_differ_are_seen() {
    assert_eq!(broken_by(|history| history.replicas[1].digest = 5), ["INV-5"]);
    assert_eq!(broken_by(|history| drop(history.records.remove(1))), ["INV-5", "INV-6"]);
    assert_eq!(
        broken_by(|history| history.records.push(record(5, 1, vec![], Money4::default()))).first(),
        Some(&"INV-4")
    );
}

#[test]
fn effects_without_a_record_and_of_stale_leaders_are_seen() {
    assert_eq!(broken_by(|history| history.sends[0].term = 4), ["INV-6"]);
    assert_eq!(broken_by(|history| history.moves[0].at = Timestamp(19)), ["INV-6"], "before its record");
    let stale = |history: &mut History| {
        let facts = vec![Fact::SendStarted { delivery: 0, attempt: 1, term: 5 }];
        history.records[3].facts.extend(facts);
        history.sends.insert(0, SendRow { term: 5, effective: false, ..send(DUE + Millis(1), 1, 5) });
    };
    assert_eq!(broken_by(stale), ["INV-6"]);
    let recognised = |history: &mut History| {
        stale(history);
        (history.sends[0].effective, history.sends[1].effective) = (true, false);
    };
    assert_eq!(broken_by(recognised), ["INV-6"], "only the provider kept it from harm");
}

#[test]
fn coupons_beyond_the_quantity_and_winners_without_one_are_seen() {
    let campaign = EntityKey { kind: EntityKind(3), id: [3; 16] };
    // Three coupons in two parts: two in the first, one in the second.
    let parts = [(EntityKey { id: [40; 16], ..campaign }, 2), (EntityKey { id: [50; 16], ..campaign }, 1)];
    let with = |issued: &[(u64, EntityKey)], claims: &[(u64, i64, ClaimTold)]| {
        let (issued, claims) = (issued.to_vec(), claims.to_vec());
        move |history: &mut History| {
            let other = |gift: EntityKey, at: i64, fact: Fact| {
                let command_id = CommandId(gift.id);
                RecordRow { gift, command_id, ..record(1, at, vec![fact], NOTHING) }
            };
            history.records.push(other(campaign, 5, Fact::Promised { quantity: 3 }));
            for (part, quantity) in parts {
                history.records.push(other(part, 5, Fact::PartPromised { whole: campaign, quantity }));
            }
            for (at, (member, campaign)) in (6..).zip(issued) {
                let gift = EntityKey { kind: EntityKind(4), id: [u8::try_from(at).unwrap() + 100; 16] };
                history.records.push(other(gift, at, Fact::CouponIssued { campaign, member }));
            }
            let row = |(member, at, told)| ClaimRow { campaign, member, at: Timestamp(at), told };
            history.claims = claims.into_iter().map(row).collect();
        }
    };
    let (won, sold_out) = (ClaimTold::Won, ClaimTold::SoldOut);
    let [one, two, three] = [1, 2, 3].map(|member| (member, campaign));
    assert_eq!(broken_by(with(&[one, two, three], &[(1, 6, won), (2, 6, won), (4, 8, sold_out)])), [""; 0]);
    assert_eq!(broken_by(with(&[one, two, three], &[(4, 7, sold_out)])), ["INV-7"], "one was left then");
    assert_eq!(broken_by(with(&[one, two, three, (4, campaign)], &[])), ["INV-7"]);
    assert_eq!(broken_by(with(&[one, one], &[])), ["INV-7"]);
    assert_eq!(broken_by(with(&[one, (1, parts[1].0)], &[])), ["INV-7"], "a coupon of the part is one of the whole");
    assert_eq!(broken_by(with(&[one], &[(2, 9, won)])), ["INV-7"]);
    assert_eq!(broken_by(with(&[one], &[(3, 9, sold_out)])), ["INV-7"]);
    let with_fact = |gift: EntityKey, version: u64, fact: Fact| {
        let sound = with(&[one], &[]);
        broken_by(move |history| {
            sound(history);
            let command_id = CommandId([70; 16]);
            history.records.push(RecordRow { gift, command_id, ..record(version, 9, vec![fact], NOTHING) });
        })
    };
    assert_eq!(with_fact(parts[0].0, 2, Fact::Issued { total: 2 }), [""; 0]);
    assert_eq!(with_fact(parts[0].0, 2, Fact::Issued { total: 3 }), ["INV-7"], "beyond its share");
    let third = EntityKey { id: [60; 16], ..campaign };
    assert_eq!(
        with_fact(third, 1, Fact::PartPromised { whole: campaign, quantity: 1 }),
        ["INV-7"],
        "one share too many"
    );
}

/// An order of two units that was completed, one that was undone, and what they were taken from.
fn shop(history: &mut History) {
    let order = |id: u8, end: OrderEnd, by_wallet: bool| OrderRow {
        order: EntityKey { kind: EntityKind(7), id: [id; 16] },
        owner: u64::from(id),
        end,
        amount: 200,
        by_wallet,
        captured: if by_wallet { 0 } else { 200 },
        refunded: 0,
        shipped: end == OrderEnd::Completed,
        lines: vec![(1, 2)],
    };
    let undone = OrderRow { refunded: 200, ..order(2, OrderEnd::Undone, false) };
    history.orders = vec![order(1, OrderEnd::Completed, false), undone, order(3, OrderEnd::Completed, true)];
    history.stocks = vec![StockRow { sku: 1, put: 10, left: 6, held: 0 }];
    history.wallets = vec![WalletRow { owner: 3, captured: 500, charged: 500, balance: 300, held: 0, spent: 200 }];
}

#[test]
fn orders_that_are_neither_whole_nor_undone_are_seen() {
    let with = |change: fn(&mut History)| {
        broken_by(|history| {
            shop(history);
            change(history);
        })
    };
    assert_eq!(with(|_| {}), [""; 0]);
    assert_eq!(with(|history| history.orders[0].shipped = false), ["SAGA"]);
    assert_eq!(with(|history| history.orders[0].refunded = 1), ["SAGA"]);
    assert_eq!(with(|history| history.orders[1].refunded = 100), ["SAGA"]);
    assert_eq!(with(|history| history.orders[1].shipped = true), ["SAGA"]);
    assert_eq!(with(|history| history.stocks[0].held = 2), ["SAGA"], "nobody is left to release it");
    assert_eq!(with(|history| history.stocks[0].left = 5), ["SAGA"]);
    assert_eq!(with(|history| history.wallets[0].captured = 400), ["SAGA"]);
    assert_eq!(with(|history| (history.wallets[0].balance, history.wallets[0].held) = (200, 100)), ["SAGA"]);
    let open = |history: &mut History| {
        history.orders[1].end = OrderEnd::Open;
        history.stocks[0].held = 2;
    };
    assert_eq!(with(open), [""; 0], "it is still under way");
}

const AREA: EntityKey = EntityKey { kind: EntityKind(9), id: [9; 16] };
const QUEUE: EntityKey = EntityKey { kind: EntityKind(10), id: [10; 16] };

fn booked(id: u8) -> EntityKey {
    EntityKey { kind: EntityKind(12), id: [id; 16] }
}
fn seat(at: i64, id: u8, what: SeatMove) -> SeatRow {
    SeatRow { area: AREA, seat: 3, reservation: booked(id), at: DUE + Millis(at), what }
}
fn queue(at: i64, what: QueueMove) -> QueueRow {
    QueueRow { queue: QUEUE, at: DUE + Millis(at), what }
}
fn held(number: u64) -> SeatMove {
    SeatMove::Held { queue: QUEUE, number }
}

/// A seat that was held in vain and then sold, in a room for two of three.
fn show(history: &mut History) {
    let entered = |number| queue(1, QueueMove::Entered { number });
    let left = |number| queue(1_700, QueueMove::Left { number });
    history.queues = vec![
        queue(0, QueueMove::Announced { opens_at: DUE + Millis(1_000), active_max: 2 }),
        entered(1),
        entered(2),
        entered(3),
        queue(1_000, QueueMove::Admitted { upto: 2 }),
        left(1),
        queue(1_800, QueueMove::Admitted { upto: 3 }),
    ];
    history.seats = vec![
        seat(1_100, 1, held(1)),
        seat(301_100, 1, SeatMove::Freed),
        seat(310_000, 2, held(3)),
        seat(330_000, 2, SeatMove::Sold),
    ];
    let booking = |id, end, captured, refunded| BookingRow {
        reservation: booked(id),
        owner: u64::from(id),
        end,
        seats: 1,
        amount: 500,
        by_wallet: false,
        captured,
        refunded,
    };
    let confirmed = BookingEnd::Confirmed { closed: true };
    history.bookings = vec![booking(1, BookingEnd::Over, 500, 500), booking(2, confirmed, 500, 0)];
}

#[test]
fn seats_with_two_holders_and_seats_that_are_held_for_too_long_are_seen() {
    let with = |change: fn(&mut History)| {
        broken_by(|history| {
            show(history);
            change(history);
        })
    };
    assert_eq!(with(|_| {}), [""; 0]);
    assert_eq!(
        with(|history| history.seats = [&history.seats[..1], &history.seats[2..]].concat()),
        ["INV-8"],
        "two hold it"
    );
    assert_eq!(with(|history| history.seats.push(seat(400_000, 5, held(2)))), ["INV-8"], "sold, and taken again");
    assert_eq!(with(|history| history.seats[3].reservation = booked(1)), ["INV-8"], "sold to another");
    assert_eq!(with(|history| history.seats[1].at = DUE + Millis(361_101)), ["INV-8"]);
    let excused = |history: &mut History| {
        history.seats.truncate(2);
        history.bookings.truncate(1);
        history.seats[1].at = DUE + Millis(400_000);
        let (from, to) = (DUE + Millis(290_000), DUE + Millis(350_000));
        history.faults.push(FaultSpan { class: "kill", from, to });
    };
    assert_eq!(with(excused), [""; 0], "a fault held it up");
    let forgotten = |history: &mut History| {
        history.seats.truncate(1);
        history.bookings.clear();
    };
    assert_eq!(with(forgotten), ["INV-8"], "nobody frees it");
}

#[test]
fn reservations_with_a_part_of_their_seats_or_money_are_seen() {
    let with = |change: fn(&mut BookingRow, &mut BookingRow)| {
        broken_by(|history| {
            show(history);
            let [over, sold] = &mut history.bookings[..] else { panic!("two") };
            change(over, sold);
        })
    };
    assert_eq!(with(|over, _| over.refunded = 0), ["INV-8"]);
    assert_eq!(with(|_, sold| sold.refunded = 1), ["INV-8"]);
    assert_eq!(with(|_, sold| sold.seats = 2), ["INV-8"]);
    assert_eq!(with(|_, sold| sold.end = BookingEnd::Over), ["INV-8"]);
    assert_eq!(with(|_, sold| sold.end = BookingEnd::Open), ["INV-8"]);
    let wallet = |held, spent| WalletRow { owner: 2, captured: 900, charged: 900, balance: 400, held, spent };
    let by_wallet = |end, row| {
        broken_by(move |history| {
            show(history);
            (history.bookings[1].end, history.bookings[1].by_wallet, history.bookings[1].captured) = (end, true, 0);
            history.wallets = vec![row];
        })
    };
    let confirmed = |closed| BookingEnd::Confirmed { closed };
    assert_eq!(by_wallet(confirmed(true), wallet(0, 500)), [""; 0]);
    assert_eq!(by_wallet(confirmed(false), wallet(500, 0)), [""; 0]);
    assert_eq!(by_wallet(confirmed(false), wallet(0, 500)), ["SAGA"]);
}

#[test]
fn queues_that_let_in_too_many_too_early_or_out_of_order_are_seen() {
    let with = |change: fn(&mut Vec<QueueRow>)| {
        broken_by(|history| {
            show(history);
            change(&mut history.queues);
        })
    };
    assert_eq!(with(|rows| rows.retain(|row| row.what != QueueMove::Left { number: 1 })), ["INV-8"], "three are in");
    assert_eq!(with(|rows| rows[4].at = DUE + Millis(999)), ["INV-8"], "not open yet");
    assert_eq!(with(|rows| rows.swap(1, 2)), ["INV-8"]);
    assert_eq!(with(|rows| rows[6].what = QueueMove::Admitted { upto: 2 }), ["INV-8"]);
    assert_eq!(with(|rows| rows[6].what = QueueMove::Admitted { upto: 4 }), ["INV-8"]);
    assert_eq!(with(|rows| rows.truncate(6)), ["INV-8"], "the buyer was not in");
    let later = |rows: &mut Vec<QueueRow>| {
        rows.remove(5);
        rows[5].at = DUE + Millis(601_000);
    };
    assert_eq!(with(later), ["INV-8"], "their time is over, but the buyer was not in when it took the seat");
}

#[test]
fn what_waits_for_nothing_or_in_vain_is_seen() {
    let wait = |next_due: Option<Timestamp>| {
        move |history: &mut History| (history.gifts[0].terminal, history.gifts[0].next_due) = (false, next_due)
    };
    assert_eq!(broken_by(wait(None)), ["INV-9"]);
    assert_eq!(broken_by(wait(Some(DUE))), ["INV-9"]);
    assert_eq!(broken_by(wait(Some(DUE + Millis::from_days(9)))), [""; 0]);
}

#[test]
fn another_answer_under_the_same_key_is_seen() {
    assert_eq!(broken_by(|history| history.replies.push(reply(1, done(1, 12)))), ["INV-10"]);
}

#[test]
fn a_refusal_of_what_was_done_is_seen_but_not_one_of_a_try_before_it() {
    let refused = |version: u64, asked: Millis| {
        move |history: &mut History| {
            let told = Told::Refused { version: Version(version), code: "AlreadyUsed".to_owned() };
            // The third version's record is this request's.
            history.replies.push(Reply { asked: DUE + Millis(9_000), ..reply(3, done(3, 33)) });
            history.replies.push(Reply { asked: DUE + asked, at: DUE + Millis(10_020), ..reply(3, told) });
        }
    };
    assert_eq!(broken_by(refused(2, Millis(10_009))), [""; 0], "decided before");
    assert_eq!(broken_by(refused(3, Millis(10_009))), ["INV-10"], "on what was done");
    assert_eq!(broken_by(refused(2, Millis(10_010))), ["INV-10"], "asked when it had been told");
}

#[test]
fn personal_data_is_seen() {
    assert_eq!(broken_by(|history| history.leaks.push(Leak { place: "a record", gift: GIFT })), ["INV-11"]);
    assert!(inv11_sealed::holds_canary(b"ab~~canary.") && !inv11_sealed::holds_canary(b"ab~canar"));
}

#[test]
fn a_run_without_faults_or_answers_proves_nothing() {
    assert!(proves_something(&History { faults: Vec::new(), ..whole() }).is_err());
    assert!(proves_something(&History { replies: Vec::new(), ..whole() }).is_err());
}
