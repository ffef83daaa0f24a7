//! The printed table of `gift/mod.rs` against the machine: every listed transition is reached, no other ever is.

use super::model_beside::Paying;
use super::*;
use crate::domain::coupon::CouponRejection;
use crate::domain::gift::names;
use crate::domain::policy::{Overdue, RefundRule};

type Transition = (Option<Status>, Status);

/// The rows of the table, one for each pair of statuses.
pub(super) fn listed() -> BTreeSet<Transition> {
    let table = include_str!("../mod.rs");
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut listed = BTreeSet::new();
    for row in rows.filter(|row| !row.starts_with("from")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        for from in cells[0].split(", ") {
            let from = (from != "(nothing)").then(|| Status::parse(from).expect("a status"));
            listed.extend(cells[2].split(", ").map(|to| (from, Status::parse(to).expect("a status"))));
        }
    }
    listed
}

/// Staying where one is needs no row.
pub(super) fn is_listed(listed: &BTreeSet<Transition>, transition: Transition) -> bool {
    transition.0 == Some(transition.1) || listed.contains(&transition)
}

/// Everything that could be done to a gift, right or wrong.
fn battery(play: &Play) -> Vec<Play> {
    let mut commands = vec![
        GiftCommand::Cancel,
        GiftCommand::Opened { link_hash: LINK },
        GiftCommand::Accept { link_hash: LINK },
        GiftCommand::Decline { link_hash: LINK },
        GiftCommand::Transfer(Box::new(hand_on())),
        GiftCommand::Redeem { code_hash: CODE, redemption: till("x-1") },
        GiftCommand::CancelRedeem { code_hash: CODE, redemption: till("x-1") },
        GiftCommand::Replay { actor: "op".into(), letter: Letter::Gift, new_generation: false },
        GiftCommand::Discard { actor: "op".into(), letter: Letter::Gift, reason: "r".into() },
        GiftCommand::Erase,
    ];
    let delivery = play.state.delivery();
    for status in [ReportStatus::Delivered, ReportStatus::SentUnconfirmed, failed("x", RefusalClass::NextChannel)] {
        let report = report(delivery.generation, delivery.attempts, status, play.now);
        commands.push(GiftCommand::Report(report));
    }
    for call in play.wants().calls.iter().filter(|call| call.guard == Guard::Fenced) {
        let start = AttemptStart { slot: call.slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER };
        commands.push(GiftCommand::Attempt(start));
        commands.extend(outcomes(play).into_iter().map(|outcome| GiftCommand::Outcomes(vec![(call.slot, outcome)])));
    }
    for call in play.wants().calls.iter().filter(|call| call.lane == Lane::Entity && call.due <= play.now) {
        let outcome = |outcome| GiftCommand::Outcomes(vec![(call.slot, CallOutcome::Entity(outcome))]);
        let rejection = codec::encode(&CouponRejection::AlreadyUsed);
        commands.push(outcome(EntityOutcome::Done { state: Vec::new() }));
        commands.push(outcome(EntityOutcome::Rejected { rejection }));
    }
    let mut plays: Vec<Play> = commands.into_iter().filter_map(|command| ask(play, command)).collect();
    for timer in play.wants().timers {
        plays.extend(ask(&play.clone().at(timer.due.max(play.now)), GiftCommand::Timer(timer.slot)));
    }
    for call in play.wants().calls.into_iter().filter(|call| is_own(call) && call.due > play.now) {
        plays.push(play.clone().at(call.due));
    }
    plays
}

/// Not a notice.
fn is_own(call: &CallWant) -> bool {
    call.guard == Guard::Fenced || call.lane == Lane::Entity
}

fn outcomes(play: &Play) -> Vec<CallOutcome> {
    let other = PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(1), at: play.now };
    let unconfirmed = MessageOutcome::Unconfirmed { provider: "smtp".into(), at: play.now };
    vec![
        captured(),
        CallOutcome::Payment(other),
        not_captured(),
        payment_unknown(),
        refunded(4_500),
        refund_refused("x", RefusalClass::Permanent),
        taken(play.now),
        refused("x", RefusalClass::NextChannel),
        unknown(),
        CallOutcome::Message(unconfirmed),
    ]
}

fn ask(play: &Play, command: GiftCommand) -> Option<Play> {
    let mut next = play.clone();
    next.ask(command).ok().filter(|events| !events.is_empty()).map(|_| next)
}

/// What tells two gifts apart, as far as transitions go.
fn shape(play: &Play) -> String {
    let calls: Vec<(Lane, bool, bool)> = play
        .wants()
        .calls
        .iter()
        .filter(|call| is_own(call))
        .map(|call| (call.lane, call.open.is_some(), call.due <= play.now))
        .collect();
    let timers: Vec<Slot> = play.wants().timers.iter().map(|timer| timer.slot).collect();
    let state = &play.state;
    let reason = state.refund_reason();
    format!(
        "{} {calls:?} {timers:?} {reason:?} {:?} {} {:?}",
        state.status(),
        state.delivery().confirmed,
        state.transfers_left(),
        (state.product().policy.refund, state.amount(), state.coupon().map(|coupon| coupon.hold.name())),
    )
}

fn policies() -> [Policy; 2] {
    let refund = RefundRule { expired_percent: 0, declined_percent: 0, ..RefundRule::default() };
    let overdue = Overdue::DeadLetterAfter(Millis::from_hours(1));
    [Policy::default(), Policy { refund, overdue, ..Policy::default() }]
}

/// Every transition of every gift that can be reached, by trying everything on every shape of gift.
fn reached() -> BTreeSet<Transition> {
    let mut seen = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let mut frontier: Vec<Play> = policies().map(Play::with_policy).to_vec();
    let whole = Paying { method: PaymentMethod::Card, off: PRICE.minor };
    frontier.push(Play::new().then(whole.reserving(reservation())));
    while let Some(play) = frontier.pop() {
        reached.extend(play.transitions.iter().copied());
        if seen.insert(shape(&play)) {
            frontier.extend(battery(&play));
        }
    }
    reached
}

#[test]
fn table_lists_exactly_what_the_machine_does() {
    let listed = listed();
    let reached: BTreeSet<Transition> = reached().into_iter().filter(|(from, to)| *from != Some(*to)).collect();
    let name = |(from, to): &Transition| format!("{} -> {}", from.map_or("(nothing)", Status::name), to.name());
    let unlisted: Vec<String> = reached.difference(&listed).map(name).collect();
    let unreached: Vec<String> = listed.difference(&reached).map(name).collect();
    assert!(unlisted.is_empty(), "reached but not listed: {unlisted:?}");
    assert!(unreached.is_empty(), "listed but not reached: {unreached:?}");
    let statuses: BTreeSet<Status> = reached.iter().map(|(_, to)| *to).collect();
    assert_eq!(statuses.len(), Status::ALL.len());
}

#[test]
fn timers_that_are_not_wanted_are_refused() {
    let stages =
        [Play::reserved(), Play::scheduled(), Play::sending(), Play::sent(), Play::accepted(), Play::refunding()];
    for play in stages {
        for slot in (0..40).map(Slot).chain([names::send_slot(0, 9), names::refund_slot(9)]) {
            if play.timer(slot).is_none() {
                check(&play, GiftCommand::Timer(slot), Then::Rejected(GiftRejection::NotWanted));
            }
            let start = AttemptStart { slot, claim: claim(1), not_after: ATTEMPT_NOT_AFTER };
            if play.wants().calls.iter().all(|call| call.slot != slot) {
                check(&play, GiftCommand::Attempt(start), Then::Rejected(GiftRejection::NotWanted));
            }
        }
    }
}
