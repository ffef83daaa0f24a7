//! Batches through the whole of the gateways: tickets in, permits and outcomes out, on tokio's paused time.

use crate::gateways::batch_book::BatchBook;
use crate::gateways::testing::{
    Act, BATCHES, FakeBook, FakeMessages, FakePayments, START, TestClock, accepted, message, refused, timed_out,
};
use crate::gateways::{Asker, GatewayOptions, Gateways, Permit, Ticket};
use crate::providers::MessageProvider;
use crate::types::batch::Member;
use crate::types::call::{CallOutcome, CallRequest, MessageOutcome, Prior, RefusalClass};
use crate::types::contact::Private;
use crate::types::effect::{Channel, Lane, Slot};
use crate::types::ids::{EntityKey, EntityKind, ShardId};
use crate::types::time::{BootMillis, Clock};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const NEVER: BootMillis = BootMillis(u64::MAX);

struct Bench {
    gateways: Gateways,
    kakao: Arc<FakeMessages>,
    book: Arc<FakeBook>,
    permits: UnboundedReceiver<(u32, Permit)>,
    permit_sink: UnboundedSender<(u32, Permit)>,
    outcomes: UnboundedReceiver<(u32, MessageOutcome)>,
    outcome_sink: UnboundedSender<(u32, MessageOutcome)>,
}

fn options(batch_max: u32) -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.kakao.batch_max = batch_max;
    options
}

impl Bench {
    fn new(batch_max: u32, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let (clock, book) = (TestClock::new(), FakeBook::new());
        let kakao = Arc::new(FakeMessages::new(&clock, Channel::Kakao, BATCHES, script));
        let gateways = Gateways::start(
            &options(batch_max),
            vec![Arc::clone(&kakao) as Arc<dyn MessageProvider>],
            Arc::new(FakePayments::new(Vec::new())),
            None,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(|_, _| Ok(())),
            Arc::new(|_| {}),
        )
        .expect("the options are sound");
        gateways.keep_batches(&(Arc::clone(&book) as Arc<dyn BatchBook>));
        let ((permit_sink, permits), (outcome_sink, outcomes)) = (unbounded_channel(), unbounded_channel());
        Self { gateways, kakao, book, permits, permit_sink, outcomes, outcome_sink }
    }

    /// Asks for sends of a shard, and waits for their permits.
    async fn granted(&mut self, shard: u16, numbers: std::ops::Range<u32>) -> Vec<(u32, Permit)> {
        let count = numbers.len();
        for number in numbers {
            let mut id = [0; 16];
            id[12..].copy_from_slice(&number.to_be_bytes());
            let entity = EntityKey { kind: EntityKind(1), id };
            let asker = Asker { shard: ShardId(shard), member: Member { entity, slot: Slot(1) } };
            let sink = self.permit_sink.clone();
            let grant = Box::new(move |permit| sink.send((number, permit)).expect("it listens"));
            let ticket = Ticket { lane: Lane::Send(Channel::Kakao), due: START, asker, grant };
            self.gateways.request(ticket).expect("there is room");
        }
        let mut permits = Vec::new();
        while permits.len() < count {
            permits.push(self.permits.recv().await.expect("granted"));
        }
        permits
    }

    fn perform(&self, (number, permit): (u32, Permit), prior: Prior) {
        let mut request = message(Channel::Kakao, &format!("g_{number}.0.1"), prior);
        request.link = Some(Private(format!("link {number}")));
        let sink = self.outcome_sink.clone();
        let done = Box::new(move |outcome| match outcome {
            CallOutcome::Message(outcome) => sink.send((number, outcome)).expect("it listens"),
            other => panic!("{other:?}"),
        });
        permit.perform(CallRequest::Message(request), NEVER, done);
    }

    async fn ended(&mut self, count: usize) -> Vec<(u32, MessageOutcome)> {
        let mut ended = Vec::new();
        while ended.len() < count {
            ended.push(self.outcomes.recv().await.expect("answered"));
        }
        ended.sort_by_key(|(number, _)| *number);
        ended
    }

    fn calls(&self) -> Vec<usize> {
        let mut calls = self.kakao.calls.lock().clone();
        calls.sort_unstable();
        calls
    }
}

#[tokio::test(start_paused = true)]
async fn sends_of_one_shard_share_a_call_behind_a_record_and_each_has_its_outcome() {
    let no = || refused("-5000", RefusalClass::NextChannel);
    let mut bench = Bench::new(100, move |_| Act::Each(vec![accepted(), no(), accepted()]));
    for permit in bench.granted(1, 0..3).await {
        bench.perform(permit, Prior::None);
    }
    let ended = bench.ended(3).await;
    let refused = ended.iter().filter(|(_, outcome)| matches!(outcome, MessageOutcome::Refused { .. })).count();
    assert_eq!((refused, bench.calls()), (1, vec![3]));
    assert_eq!(bench.book.asked.lock()[0], "start 3");
    let status = bench.gateways.status().into_iter().find(|lane| lane.lane == "send.kakao").unwrap();
    assert_eq!((status.accepted, status.refused, status.open_attempts), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_client_refuses_by_itself_goes_alone() {
    let mut bench = Bench::new(100, |_| Act::Answer(accepted()));
    bench.kakao.refused_here.lock().push("g_1.0.1".to_owned());
    for permit in bench.granted(1, 0..3).await {
        bench.perform(permit, Prior::None);
    }
    bench.ended(3).await;
    assert_eq!(bench.calls(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn shards_and_lone_sends_go_by_themselves_and_a_batch_has_its_bound() {
    let mut bench = Bench::new(4, |_| Act::Answer(accepted()));
    let mut permits = bench.granted(1, 0..9).await;
    permits.extend(bench.granted(2, 9..10).await);
    for permit in permits {
        bench.perform(permit, Prior::None);
    }
    bench.ended(10).await;
    assert_eq!(bench.calls(), [1, 1, 4, 4], "the ninth of the first shard and the only one of the second are alone");
    assert_eq!(
        *bench.book.asked.lock().iter().filter(|asked| asked.starts_with("start")).collect::<Vec<_>>(),
        ["start 4", "start 4"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_send_waits_for_those_under_way_but_not_for_long() {
    let mut bench = Bench::new(100, |_| Act::Answer(accepted()));
    let mut permits = bench.granted(1, 0..3).await;
    let (third, second) = (permits.pop().unwrap(), permits.pop().unwrap());
    let first = permits.pop().unwrap();
    bench.perform(first, Prior::None);
    bench.perform(second, Prior::None);
    bench.ended(2).await;
    assert_eq!(bench.calls(), [2], "the third did not come in time");
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_given_back_keeps_nobody_waiting() {
    let mut bench = Bench::new(100, |_| Act::Answer(accepted()));
    let mut permits = bench.granted(1, 0..3).await;
    drop(permits.pop());
    for permit in permits {
        bench.perform(permit, Prior::None);
    }
    assert_eq!(bench.ended(2).await.len(), 2);
    assert_eq!(bench.calls(), [2]);
}

#[tokio::test(start_paused = true)]
async fn switched_off_or_without_a_record_each_goes_alone() {
    let mut bench = Bench::new(1, |_| Act::Answer(accepted()));
    for permit in bench.granted(1, 0..3).await {
        bench.perform(permit, Prior::None);
    }
    bench.ended(3).await;
    assert_eq!(bench.calls(), [1, 1, 1]);
    let mut bench = Bench::new(100, |_| Act::Answer(accepted()));
    *bench.book.start.lock() = Err(crate::gateways::batch_book::NotStarted::Refused);
    for permit in bench.granted(1, 0..3).await {
        bench.perform(permit, Prior::None);
    }
    bench.ended(3).await;
    assert_eq!(bench.calls(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn failed_batches_open_the_breaker_as_so_many_calls() {
    let mut bench = Bench::new(100, |_| Act::Answer(timed_out()));
    for permit in bench.granted(1, 0..60).await {
        bench.perform(permit, Prior::None);
    }
    bench.ended(60).await;
    let status = bench.gateways.status().into_iter().find(|lane| lane.lane == "send.kakao").unwrap();
    assert_eq!((bench.calls(), status.breaker), (vec![60], "closed"), "one call failed, not sixty");
}

#[tokio::test(start_paused = true)]
async fn a_send_in_doubt_looks_for_its_batch_before_anything_else() {
    let mut bench = Bench::new(1, |_| Act::Answer(accepted()));
    let permit = bench.granted(1, 0..1).await.pop().unwrap();
    bench.perform(permit, Prior::Unknown { first_tried_at: START });
    assert_eq!(bench.ended(1).await, [(0, accepted())]);
    assert_eq!(*bench.book.asked.lock(), ["find"]);
    bench.book.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let permit = bench.granted(1, 1..2).await.pop().unwrap();
    bench.perform(permit, Prior::Unknown { first_tried_at: START });
    assert!(matches!(bench.ended(1).await[0].1, MessageOutcome::NotSent { .. }));
    assert_eq!(bench.calls(), [1]);
}
