//! A lane whose quota is the fleet's: it asks, waits, falls back, and comes back.

use super::*;
use crate::gateways::QuotaState;
use crate::types::quota::{FleetQuota, QuotaAnswer, QuotaAsk};
use futures_util::future::BoxFuture;

/// Answers what it is told to, in order, and says what it was asked.
struct ScriptedQuota {
    answers: Arc<tokio::sync::Mutex<UnboundedReceiver<QuotaAnswer>>>,
    asked: Mutex<Vec<QuotaAsk>>,
    shared: AtomicBool,
}

impl FleetQuota for ScriptedQuota {
    fn take(&self, ask: QuotaAsk) -> BoxFuture<'static, QuotaAnswer> {
        self.asked.lock().push(ask);
        let answers = self.answers.clone();
        Box::pin(async move { answers.lock().await.recv().await.expect("ordered by a test") })
    }
    fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }
}

fn scripted() -> (Arc<ScriptedQuota>, UnboundedSender<QuotaAnswer>) {
    let (answer, answers) = unbounded_channel();
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    let quota = ScriptedQuota { answers, asked: Mutex::default(), shared: AtomicBool::new(true) };
    (Arc::new(quota), answer)
}

fn wide() -> GatewayOptions {
    let mut options = options();
    options.sms.concurrency_min = 100;
    options.sms.concurrency_start = 100;
    options.sms.concurrency_max = 100;
    (options.sms.rate_per_s, options.sms.burst) = (300, 90);
    options
}

#[tokio::test(start_paused = true)]
async fn permits_go_as_the_fleet_grants_them() {
    let mut bench = Bench::new(&wide(), |_| Act::Answer(accepted()));
    assert_eq!(bench.status("send.sms").quota, QuotaState::Node);
    let (quota, answer) = scripted();
    bench.gateways.share_quota(&(quota.clone() as Arc<dyn FleetQuota>));
    for number in 0..5 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    assert_eq!(bench.granted().await.len(), 0, "nothing goes before the fleet says so");
    assert_eq!((bench.status("send.sms").quota, quota.asked.lock().len()), (QuotaState::Shared, 1));
    answer.send(QuotaAnswer::Granted { permits: 2 }).unwrap();
    let first = bench.granted().await;
    assert_eq!(first.len(), 2);
    answer.send(QuotaAnswer::Granted { permits: 0 }).unwrap();
    assert_eq!(bench.granted().await.len(), 0);
    answer.send(QuotaAnswer::Granted { permits: 3 }).unwrap();
    assert_eq!(bench.granted().await.len(), 3);
    let asked = quota.asked.lock().clone();
    assert_eq!(asked.iter().map(|ask| ask.permits).collect::<Vec<_>>(), [1, 3, 3], "{asked:?}");
    assert!(asked.iter().all(|ask| (ask.quota.as_str(), ask.per_s, ask.burst) == ("sms", 300, 90)));
}

#[tokio::test(start_paused = true)]
async fn without_the_fleet_a_lane_takes_its_part_until_it_is_back() {
    let mut bench = Bench::new(&wide(), |_| Act::Answer(accepted()));
    let (quota, answer) = scripted();
    bench.gateways.share_quota(&(quota.clone() as Arc<dyn FleetQuota>));
    quota.shared.store(false, Ordering::SeqCst);
    for number in 0..60 {
        bench.ask(Lane::Send(Channel::Sms), number).unwrap();
    }
    answer.send(QuotaAnswer::Away { members: 3 }).unwrap();
    // Held: a permit that is dropped unused may go to another.
    let mut held = bench.granted().await;
    assert_eq!(held.len(), 1, "a part begins without its burst");
    let status = bench.status("send.sms");
    assert_eq!((status.quota, status.rate_per_s), (QuotaState::Fallback, 100));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    held.extend(bench.granted().await);
    let third = held.len() - 1;
    assert!((19..=21).contains(&third), "a third of 300 a second for 200 ms: {third}");
    tokio::time::sleep(std::time::Duration::from_millis(320)).await;
    held.extend(bench.granted().await);
    quota.shared.store(true, Ordering::SeqCst);
    answer.send(QuotaAnswer::Granted { permits: 4 }).unwrap();
    assert_eq!(bench.granted().await.len(), 4, "after {} it is the fleet's again", held.len());
    assert_eq!((bench.status("send.sms").quota, bench.status("send.sms").rate_per_s), (QuotaState::Shared, 300));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_started_again_still_shares_its_quota() {
    let mut bench = Bench::new(&wide(), |_| Act::Answer(accepted()));
    let (quota, answer) = scripted();
    bench.gateways.share_quota(&(quota.clone() as Arc<dyn FleetQuota>));
    let desk = bench.gateways.desk(Channel::Sms).clone();
    desk.actor().expect("it runs").cast(GatewayMsg::Panic).unwrap();
    settle().await;
    bench.ask(Lane::Send(Channel::Sms), 1).unwrap();
    assert_eq!(bench.granted().await.len(), 0);
    answer.send(QuotaAnswer::Granted { permits: 1 }).unwrap();
    assert_eq!(bench.granted().await.len(), 1);
}
