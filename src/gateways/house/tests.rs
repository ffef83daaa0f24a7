//! The whole of it: tickets in, permits and outcomes out, over real actors on tokio's paused time.

mod quota;

use super::*;
use crate::gateways::testing::{
    Act, FakeMessages, FakePayments, KEY_AND_LOOKUP, NEITHER, START, TestClock, accepted, confirm, message, payment,
    refused, timed_out, unknown_since,
};
use crate::gateways::{Asker, NO_PROVIDER, PROVIDER_AWAY, Permit, WhenOpen};
use crate::types::batch::Member;
use crate::types::call::{
    CallOutcome, CallRequest, MessageOutcome, PaymentOutcome, Prior, RefusalClass, Report, ReportStatus,
};
use crate::types::effect::Slot;
use crate::types::ids::{EntityKey, EntityKind, ShardId};
use crate::types::time::{BootMillis, Millis};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const NEVER: BootMillis = BootMillis(u64::MAX);

fn asker(number: u32) -> Asker {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    let entity = EntityKey { kind: EntityKind(1), id };
    Asker { shard: ShardId(0), member: Member { entity, slot: Slot(0x4001) } }
}

struct Bench {
    gateways: Gateways,
    clock: Arc<TestClock>,
    sms: Arc<FakeMessages>,
    permits: UnboundedReceiver<(u32, Permit)>,
    permit_sink: UnboundedSender<(u32, Permit)>,
    outcomes: UnboundedReceiver<(u32, CallOutcome)>,
    outcome_sink: UnboundedSender<(u32, CallOutcome)>,
    reports: Arc<Mutex<Vec<Report>>>,
    hints: Arc<Mutex<Vec<String>>>,
    no_room: Arc<AtomicBool>,
}

fn options() -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.sms.concurrency_min = 4;
    options.sms.concurrency_start = 4;
    options.sms.concurrency_max = 4;
    options
}

impl Bench {
    fn new(options: &GatewayOptions, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let clock = TestClock::new();
        let sms = Arc::new(FakeMessages::new(&clock, Channel::Sms, KEY_AND_LOOKUP, script));
        Self::with(options, clock, sms)
    }

    fn with(options: &GatewayOptions, clock: Arc<TestClock>, sms: Arc<FakeMessages>) -> Self {
        let (reports, hints) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let no_room = Arc::new(AtomicBool::new(false));
        let (report_log, hint_log, full) = (Arc::clone(&reports), Arc::clone(&hints), Arc::clone(&no_room));
        let report: ReportSink = Arc::new(move |report, _heard| {
            if full.load(Ordering::SeqCst) {
                return Err(Busy);
            }
            report_log.lock().push(report);
            Ok(())
        });
        let gateways = Gateways::start(
            options,
            vec![Arc::clone(&sms) as Arc<dyn MessageProvider>],
            Arc::new(FakePayments::new(vec![PaymentOutcome::Pending])),
            None,
            Arc::clone(&clock) as Arc<dyn Clock>,
            report,
            Arc::new(move |order| hint_log.lock().push(order)),
        )
        .expect("the options are sound");
        let ((permit_sink, permits), (outcome_sink, outcomes)) = (unbounded_channel(), unbounded_channel());
        Self { gateways, clock, sms, permits, permit_sink, outcomes, outcome_sink, reports, hints, no_room }
    }

    fn ask(&self, lane: Lane, number: u32) -> Result<(), Busy> {
        let sink = self.permit_sink.clone();
        let grant = Box::new(move |permit| {
            // A test that no longer listens has dropped its receiver, and so the permit.
            let _ = sink.send((number, permit));
        });
        self.gateways.request(Ticket { lane, due: START, asker: asker(number), grant })
    }

    fn perform(&self, number: u32, permit: Permit, prior: Prior) {
        let request = CallRequest::Message(message(Channel::Sms, &format!("g_{number}.0.1"), prior));
        self.make(number, permit, request);
    }

    fn make(&self, number: u32, permit: Permit, request: CallRequest) {
        let sink = self.outcome_sink.clone();
        permit.perform(request, NEVER, Box::new(move |outcome| sink.send((number, outcome)).expect("it listens")));
    }

    /// Asks for one send, performs it and waits for its outcome.
    async fn send(&mut self, number: u32, prior: Prior) -> MessageOutcome {
        self.ask(Lane::Send(Channel::Sms), number).expect("there is room");
        let (number, permit) = self.permits.recv().await.expect("granted");
        self.perform(number, permit, prior);
        match self.outcomes.recv().await.expect("answered").1 {
            CallOutcome::Message(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// The permits that are granted without time going on.
    async fn granted(&mut self) -> Vec<(u32, Permit)> {
        settle().await;
        std::iter::from_fn(|| self.permits.try_recv().ok()).collect()
    }

    fn status(&self, lane: &str) -> LaneStatus {
        self.gateways.status().into_iter().find(|status| status.lane == lane).expect("a known lane")
    }
}

/// Lets every task that can run do so; time stands still.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn open_attempts_are_bounded_and_an_end_lets_the_next_one_in() {
    let mut bench = Bench::new(&options(), |_| Act::After(Millis(100), accepted()));
    for number in 0..10 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    let first = bench.granted().await;
    assert_eq!(first.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!((bench.gateways.open_attempts(), bench.gateways.in_flight(), bench.gateways.queued()), (4, 0, 6));
    for (number, permit) in first {
        bench.perform(number, permit, Prior::None);
    }
    assert_eq!(bench.gateways.in_flight(), 4);
    for _ in 0..4 {
        let (_, outcome) = bench.outcomes.recv().await.unwrap();
        assert_eq!(outcome, CallOutcome::Message(accepted()));
    }
    let second = bench.granted().await;
    assert_eq!(second.len(), 4);
    drop(second);
    assert_eq!(bench.granted().await.len(), 2, "permits dropped unused give their capacity back");
    assert_eq!((bench.gateways.open_attempts(), bench.gateways.queued()), (0, 0));
    let status = bench.status("send.sms");
    assert_eq!((status.accepted, status.state, status.latency_ms_p50.is_some()), (4, "ready", true));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_busy_and_has_room_again_after_a_grant() {
    let mut options = options();
    options.sms.queue_max = 2;
    let mut bench = Bench::new(&options, |_| Act::Answer(accepted()));
    for number in 0..4 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
        settle().await;
    }
    bench.ask(Lane::Send(Channel::Sms), 4).unwrap();
    bench.ask(Lane::Send(Channel::Sms), 5).unwrap();
    assert_eq!(bench.ask(Lane::Send(Channel::Sms), 6), Err(Busy), "counted before the actor has run");
    assert_eq!(bench.gateways.queued(), 2);
    drop(bench.granted().await);
    settle().await;
    assert_eq!(bench.ask(Lane::Send(Channel::Sms), 6), Ok(()));
    assert_eq!(bench.ask(Lane::Entity, 7), Err(Busy), "entities have no gateway");
}

#[tokio::test(start_paused = true)]
async fn waiting_notices_never_hold_up_a_send() {
    let mut bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    for number in 0..50 {
        bench.ask(Lane::Notice(Channel::Sms), number).unwrap();
    }
    let notices = bench.granted().await;
    assert_eq!(notices.len(), 1, "a quarter of four");
    for number in 100..104 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    assert_eq!(bench.granted().await.len(), 4, "all sends go at once");
    assert_eq!(bench.status("notice.sms").queued, 49);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_client_gives_unknown_once_and_the_lane_goes_on() {
    let mut bench = Bench::new(&options(), |number| match number {
        0 => Act::Panic,
        _ => Act::Answer(accepted()),
    });
    assert!(matches!(bench.send(0, Prior::None).await, MessageOutcome::Unknown { .. }));
    for number in 1..10 {
        assert_eq!(bench.send(number, Prior::None).await, accepted());
    }
    settle().await;
    assert!(bench.outcomes.try_recv().is_err(), "each outcome came once");
    assert_eq!(bench.gateways.open_attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn panicking_receivers_do_not_cost_capacity() {
    let mut bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    for _ in 0..8 {
        let grant = Box::new(|_permit: Permit| panic!("ordered by a test"));
        bench.gateways.request(Ticket { lane: Lane::Send(Channel::Sms), due: START, asker: asker(1), grant }).unwrap();
    }
    for number in 0..8 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
        let (_, permit) = bench.permits.recv().await.unwrap();
        let request = CallRequest::Message(message(Channel::Sms, "g_1.0.1", Prior::None));
        permit.perform(request, NEVER, Box::new(|_| panic!("ordered by a test")));
        settle().await;
    }
    assert_eq!((bench.gateways.open_attempts(), bench.gateways.in_flight()), (0, 0));
}

async fn break_down(bench: &mut Bench) {
    for number in 0..3 {
        assert!(matches!(bench.send(number, Prior::None).await, MessageOutcome::Refused { .. }));
        settle().await;
    }
    assert_eq!(bench.status("send.sms").state, "open");
    let open = bench.gateways.states().into_iter().filter(|gateway| gateway.open_since == Some(START));
    assert_eq!(open.map(|gateway| gateway.lane).collect::<Vec<_>>(), [Lane::Send(Channel::Sms)]);
}

fn down_then_up(number: usize) -> Act {
    Act::Answer(if number < 3 { refused("not_connected", RefusalClass::Retry) } else { accepted() })
}

#[tokio::test(start_paused = true)]
async fn an_outage_refuses_after_a_short_patience_and_never_what_is_unknown() {
    let mut options = options();
    options.breaker.reopen_ms = 60_000;
    options.breaker.reopen_ms_max = 60_000;
    for (when_open, class) in
        [(WhenOpen::Retry, RefusalClass::Retry), (WhenOpen::NextChannel, RefusalClass::NextChannel)]
    {
        options.when_open = when_open;
        let mut bench = Bench::new(&options, down_then_up);
        break_down(&mut bench).await;
        let from = bench.clock.real_ms();
        assert_eq!(bench.send(7, Prior::None).await, refused(PROVIDER_AWAY, class));
        assert_eq!(bench.clock.real_ms() - from, 2_000, "the patience");
        assert!(matches!(bench.send(8, unknown_since(Millis(1))).await, MessageOutcome::NotSent { .. }));
        assert_eq!(bench.clock.real_ms() - from, 4_000, "counted from its own arrival");
        assert_eq!(bench.sms.sent.lock().len(), 3, "no byte went out meanwhile");
    }
}

#[tokio::test(start_paused = true)]
async fn a_moved_clock_moves_an_open_breaker() {
    let mut options = options();
    options.when_open = WhenOpen::Hold;
    options.breaker.reopen_ms = 3_600_000;
    options.breaker.reopen_ms_max = 3_600_000;
    let mut bench = Bench::new(&options, down_then_up);
    break_down(&mut bench).await;
    bench.ask(Lane::Send(Channel::Sms), 7).unwrap();
    assert!(bench.granted().await.is_empty());
    let until = bench.gateways.next_due().expect("it goes on by itself");
    assert!(until > START + Millis(1_700_000));
    bench.clock.advance(until - bench.clock.now());
    let probe = bench.granted().await;
    assert_eq!(probe.len(), 1, "without a millisecond of real time");
    for (number, permit) in probe {
        bench.perform(number, permit, Prior::None);
    }
    assert_eq!(bench.outcomes.recv().await.unwrap().1, CallOutcome::Message(accepted()));
}

#[tokio::test(start_paused = true)]
async fn a_moved_clock_moves_a_retry_after() {
    let options = GatewayOptions { when_open: WhenOpen::Hold, ..options() };
    let mut bench = Bench::new(&options, |number| {
        Act::Answer(if number == 0 { refused("429;retry-after=600", RefusalClass::Retry) } else { accepted() })
    });
    assert_eq!(bench.send(0, Prior::None).await, refused("429", RefusalClass::Retry));
    settle().await;
    bench.ask(Lane::Send(Channel::Sms), 1).unwrap();
    assert!(bench.granted().await.is_empty());
    assert_eq!(bench.status("send.sms").state, "paused");
    bench.clock.advance(Millis(599_999));
    assert!(bench.granted().await.is_empty());
    bench.clock.advance(Millis(1));
    assert_eq!(bench.granted().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_rate_refills_with_the_clock_by_itself_and_when_it_is_moved() {
    let mut options = options();
    options.sms.rate_per_s = 2;
    options.sms.burst = 2;
    let mut bench = Bench::new(&options, |_| Act::Answer(accepted()));
    for number in 0..6 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    let mut log = Vec::new();
    for _ in 0..4 {
        let (number, permit) = bench.permits.recv().await.unwrap();
        log.push(bench.clock.real_ms());
        bench.perform(number, permit, Prior::None);
    }
    assert_eq!(log, [0, 0, 500, 1_000]);
    bench.clock.advance(Millis::from_days(1));
    assert_eq!(bench.granted().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_actor_is_started_again_and_no_call_is_lost() {
    let mut bench = Bench::new(&options(), |_| Act::After(Millis(1_000), accepted()));
    for number in 0..6 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    let mut permits = bench.granted().await;
    assert_eq!(permits.len(), 4);
    let (number, permit) = permits.remove(0);
    bench.perform(number, permit, Prior::None);
    bench.gateways.house.sms.actor().unwrap().cast(GatewayMsg::Panic).unwrap();
    settle().await;
    assert_eq!(bench.gateways.queued(), 0, "queued tickets are withdrawn, their owners ask again");
    bench.ask(Lane::Send(Channel::Sms), 7).unwrap();
    assert!(bench.granted().await.is_empty(), "the open attempts of before still count");
    assert_eq!(bench.outcomes.recv().await.unwrap(), (0, CallOutcome::Message(accepted())));
    assert_eq!(bench.granted().await.len(), 1);
    let other = Bench::new(&options(), |_| Act::Answer(accepted()));
    assert_eq!(other.gateways.open_attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_withdraws_the_queue_and_lets_calls_finish() {
    let mut bench = Bench::new(&options(), |_| Act::After(Millis(3_000), accepted()));
    for number in 0..9 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    let mut permits = bench.granted().await;
    let (number, late) = permits.remove(3);
    for (number, permit) in permits {
        bench.perform(number, permit, Prior::None);
    }
    bench.gateways.close().await;
    assert_eq!(bench.clock.real_ms(), 3_000, "as long as the calls");
    assert_eq!((bench.gateways.in_flight(), bench.gateways.queued()), (0, 0));
    for _ in 0..3 {
        assert_eq!(bench.outcomes.try_recv().unwrap().1, CallOutcome::Message(accepted()));
    }
    bench.perform(number, late, Prior::None);
    let (_, outcome) = bench.outcomes.try_recv().unwrap();
    assert!(matches!(outcome, CallOutcome::Message(MessageOutcome::NotSent { .. })), "{outcome:?}");
    assert_eq!(bench.ask(Lane::Send(Channel::Sms), 10), Err(Busy));
    assert_eq!(bench.status("send.sms").state, "closed");
    assert!(bench.granted().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_a_provider_sends_the_gift_to_the_next_one() {
    let mut bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    bench.ask(Lane::Send(Channel::Email), 1).unwrap();
    let (number, permit) = bench.permits.recv().await.unwrap();
    bench.make(number, permit, CallRequest::Message(message(Channel::Email, "g_1.0.1", Prior::None)));
    let outcome = bench.outcomes.recv().await.unwrap().1;
    assert_eq!(outcome, CallOutcome::Message(refused(NO_PROVIDER, RefusalClass::NextChannel)));
    bench.ask(Lane::Send(Channel::Email), 2).unwrap();
    let (number, permit) = bench.permits.recv().await.unwrap();
    bench.make(number, permit, CallRequest::Message(message(Channel::Sms, "g_1.0.1", Prior::None)));
    let outcome = bench.outcomes.recv().await.unwrap().1;
    assert!(matches!(outcome, CallOutcome::Message(MessageOutcome::NotSent { .. })), "another lane's call");
}

#[tokio::test(start_paused = true)]
async fn payments_have_a_lane_of_their_own_and_wait_for_a_provider_that_is_away() {
    let mut options = options();
    (options.breaker.volume_min, options.breaker.reopen_ms, options.breaker.reopen_ms_max) = (1, 60_000, 60_000);
    let mut bench = Bench::new(&options, |_| Act::Answer(accepted()));
    let unknown = PaymentOutcome::Unknown { cause: "no script".to_owned() };
    for expected in [PaymentOutcome::Pending, unknown.clone(), unknown] {
        bench.ask(Lane::Payment, 1).unwrap();
        let (number, permit) = bench.permits.recv().await.unwrap();
        bench.make(number, permit, CallRequest::Payment(payment(confirm(), Prior::None)));
        assert_eq!(bench.outcomes.recv().await.unwrap().1, CallOutcome::Payment(expected));
        settle().await;
    }
    assert!(bench.clock.real_ms() >= 30_000, "the third was a probe, not a refusal after the patience");
    assert_eq!((bench.status("payment").accepted, bench.status("payment").unknown), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn silence_on_a_channel_without_key_or_lookup_is_unconfirmed_and_counted_unknown() {
    let clock = TestClock::new();
    let sms = Arc::new(FakeMessages::new(&clock, Channel::Sms, NEITHER, |_| Act::Answer(timed_out())));
    let mut bench = Bench::with(&options(), clock, sms);
    assert!(matches!(bench.send(0, Prior::None).await, MessageOutcome::Unconfirmed { .. }));
    assert_eq!(bench.status("send.sms").unknown, 1);
}

fn report(reference: &str) -> Report {
    Report { reference: reference.to_owned(), provider: "fake".to_owned(), status: ReportStatus::Delivered, at: START }
}

#[tokio::test(start_paused = true)]
async fn polls_follow_the_clock_overlap_and_ask_again_for_what_found_no_room() {
    let bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    *bench.sms.reports.lock() = Ok(vec![report("g_1.0.1")]);
    tokio::time::sleep(std::time::Duration::from_secs(16)).await;
    assert_eq!(*bench.sms.polled_since.lock(), [START - Millis(3_600_000)]);
    assert_eq!(bench.reports.lock().len(), 1);
    bench.no_room.store(true, Ordering::SeqCst);
    bench.clock.advance(Millis::from_days(30));
    settle().await;
    bench.no_room.store(false, Ordering::SeqCst);
    *bench.sms.reports.lock() = Err("503".to_owned());
    bench.clock.advance(Millis(15_000));
    settle().await;
    *bench.sms.reports.lock() = Ok(vec![report("g_2.0.1")]);
    bench.clock.advance(Millis(15_000));
    settle().await;
    let since = START + Millis(15_000 - 10_000);
    assert_eq!(bench.sms.polled_since.lock()[1..], [since; 3], "until a poll's reports all found room");
    assert_eq!(bench.reports.lock().len(), 2);
    bench.clock.advance(Millis(15_000));
    settle().await;
    assert_eq!(bench.sms.polled_since.lock()[4], bench.clock.now() - Millis(25_000));
}

#[tokio::test(start_paused = true)]
async fn webhooks_are_verified_and_handed_on() {
    let bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    let signed: WebhookHeaders = vec![("x".to_owned(), "y".to_owned())];
    *bench.sms.reports.lock() = Ok(vec![report("g_1.0.1"), report("g_2.0.1")]);
    let webhook = |name: &str, headers: &WebhookHeaders| bench.gateways.webhook(name, headers, b"g_9");
    assert_eq!(webhook("fake", &signed), WebhookResult::Taken { count: 2 });
    assert_eq!(webhook("fake", &Vec::new()), WebhookResult::Unsigned);
    assert_eq!(webhook("nobody", &signed), WebhookResult::UnknownProvider);
    assert_eq!(webhook("fakepay", &Vec::new()), WebhookResult::Taken { count: 1 });
    assert_eq!(*bench.hints.lock(), ["g_9"]);
    assert_eq!(bench.reports.lock().len(), 2);
    bench.no_room.store(true, Ordering::SeqCst);
    assert_eq!(webhook("fake", &signed), WebhookResult::Busy);
}

#[tokio::test(start_paused = true)]
async fn status_lists_every_lane_as_json() {
    let bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    let lanes: Vec<String> = bench.gateways.status().into_iter().map(|status| status.lane).collect();
    let all = ["kakao", "sms", "email", "push"].map(|channel| [format!("send.{channel}"), format!("notice.{channel}")]);
    assert_eq!(
        lanes,
        all.concat().into_iter().chain(["payment".to_owned(), "shipment".to_owned()]).collect::<Vec<_>>()
    );
    let json = serde_json::to_value(bench.status("send.sms")).unwrap();
    assert_eq!(json["concurrency_limit"], 4);
    assert_eq!(json["breaker"], "closed");
    assert_eq!(bench.gateways.window(), 512 + 4 + 64 + 256 + 256 + 256);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_withdraws_what_waits() {
    let mut bench = Bench::new(&options(), |_| Act::Answer(accepted()));
    for number in 0..9 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    let permits = bench.granted().await;
    let Bench { gateways, permit_sink, permits: mut rest, .. } = bench;
    drop((gateways, permit_sink));
    assert!(rest.recv().await.is_none(), "every grant sink is gone");
    drop(permits);
}

#[test]
fn calls_that_die_with_their_runtime_still_answer_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut bench = runtime.block_on(async {
        let mut bench = Bench::new(&options(), |_| Act::After(Millis(5_000), accepted()));
        bench.ask(Lane::Send(Channel::Sms), 0).unwrap();
        bench.ask(Lane::Send(Channel::Sms), 1).unwrap();
        let mut permits = bench.granted().await;
        let (number, permit) = permits.remove(0);
        bench.perform(number, permit, Prior::None);
        settle().await;
        let (number, permit) = permits.remove(0);
        bench.perform(number, permit, Prior::None);
        bench
    });
    drop(runtime);
    let mut outcomes: Vec<_> = std::iter::from_fn(|| bench.outcomes.try_recv().ok()).collect();
    outcomes.sort_by_key(|(number, _)| *number);
    let [(0, CallOutcome::Message(begun)), (1, CallOutcome::Message(waiting))] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(matches!(begun, MessageOutcome::Unknown { .. }), "its first byte may have been written");
    assert!(matches!(waiting, MessageOutcome::NotSent { .. }), "its client never ran");
}
