//! An outage of one provider takes neither the memory nor the time of the others, and ends with every call made once.

use super::{Bench, Counting, HandClock, ParcelCommand, Till, key, plain, post, rt, start, start_with};
use crate::actors::door::{AskError, Door, OpsView};
use crate::actors::loading::{self, Loaded};
use crate::actors::seats::SeatClass;
use crate::actors::shard::ShardMsg;
use crate::gateways::GatewayOptions;
use crate::types::effect::Lane;
use crate::types::ids::{EntityKey, Version};
use crate::types::limits::PASSIVATE_AFTER_MS;
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use tokio::sync::oneshot;

/// More than may wait in memory.
const PENDING: u16 = 150;
const WAITING_MAX: u32 = 56;

fn order(number: u16) -> EntityKey {
    let [high, low] = number.to_be_bytes();
    let mut id = [high; 16];
    id[7] = low;
    EntityKey { id, ..key(0) }
}

#[test]
fn payments_that_are_down_hold_nobody_else_back_and_are_all_made_once_when_they_return() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let (clock, till) = (HandClock::new(), Till::new(false));
        let mut options = GatewayOptions { waiting_max: WAITING_MAX, ..GatewayOptions::default() };
        (options.payment.concurrency_min, options.payment.concurrency_start) = (2, 2);
        options.payment.concurrency_max = 2;
        let provider: Arc<Counting> = Arc::default();
        let bench = start_with(folder.path(), clock.clone(), provider.clone(), till.clone(), options).await;
        let counters = &bench.node.shared.counters;
        for number in 0..PENDING {
            let pay = ParcelCommand::Pay { at: clock.now() };
            bench.door.ask(plain(order(number), &pay)).await.unwrap();
        }
        for number in 200..240 {
            bench.door.ask(post(number, clock.now() + Millis::from_mins(20))).await.unwrap();
        }
        // What has no room leaves memory, and so does what is not due.
        let bound = usize::try_from(WAITING_MAX).unwrap() + 2;
        while counters.live.load(Ordering::Relaxed) > bound {
            tokio::task::yield_now().await;
        }
        let payments = SeatClass::of(Some(Lane::Payment));
        assert!(bench.node.shared.left_on_disk.since(payments).is_some());
        // An operator sees all that wait, as of a look that may be some moments old.
        let lane = loop {
            let view = bench.door.ops(OpsView::Gateways { own: true }).await;
            let lane = view["lanes"].as_array().unwrap().iter().find(|lane| lane["lane"] == "payment").unwrap();
            if lane["overdue"] == PENDING {
                break lane.clone();
            }
            tokio::task::yield_now().await;
        };
        assert!(lane["left_on_disk_since"].is_string() && lane["in_memory"].as_u64().unwrap() > 2);
        clock.advance(Millis::from_mins(20));
        for number in 200..240 {
            provider.until(key(number), 1).await;
        }
        assert!(till.captured.lock().is_empty(), "payments are still down");
        till.up.send_replace(true);
        for number in 0..PENDING {
            while bench.door.read(order(number)).await.unwrap().unwrap().version < Version(3) {
                tokio::task::yield_now().await;
            }
        }
        let captured = till.captured.lock().clone();
        assert_eq!(captured.len(), usize::from(PENDING));
        assert!(captured.values().all(|times| *times == 1), "each order once: {captured:?}");
        bench.node.stop().await;
    });
}

#[test]
fn a_burst_beyond_the_seats_streams_through_and_each_leaves_once() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let clock = HandClock::new();
        let options = GatewayOptions { waiting_max: WAITING_MAX, ..GatewayOptions::default() };
        let provider: Arc<Counting> = Arc::default();
        let bench = start_with(folder.path(), clock.clone(), provider.clone(), Till::new(true), options).await;
        let at = clock.now() + Millis::from_mins(20);
        for number in 0..400 {
            bench.door.ask(plain(order(number), &ParcelCommand::Post { at })).await.unwrap();
        }
        while bench.node.shared.counters.live.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Millis::from_mins(20));
        for number in 0..400 {
            provider.until(order(number), 1).await;
        }
        assert!((0..400).all(|number| provider.of(order(number)) == 1));
        bench.node.stop().await;
    });
}

/// Nothing else runs on the background thread until the first is dropped; the second then tells.
async fn hold_background(bench: &Bench) -> (Sender<()>, oneshot::Receiver<()>) {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = oneshot::channel();
    let (left, outside) = oneshot::channel();
    bench.node.shared.background.run(move || {
        entered.send(()).unwrap();
        held.recv().unwrap_err();
        // Not everybody wants to know.
        let _gone = left.send(());
    });
    inside.await.unwrap();
    (release, outside)
}

/// What is due is counted row by row: with a midnight's backlog that takes a while, and operators ask often.
#[test]
fn a_look_that_takes_long_holds_up_neither_other_looks_nor_requests_nor_alerts() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let (release, _held) = hold_background(&bench).await;
        for number in 0..20 {
            let view = bench.door.ops(OpsView::Gateways { own: true }).await;
            assert_ne!(view["lanes"], serde_json::json!([]));
            bench.door.ask(post(number, bench.clock.now() + Millis::from_hours(1))).await.unwrap();
            bench.door.read(key(number)).await.unwrap().unwrap();
        }
        // The alerts are judged, by figures of now.
        while bench.node.shared.alerts.machine().1.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        drop(release);
        bench.node.stop().await;
    });
}

/// A forecast reads all rows of the hours ahead, on the thread behind whose work the log is purged.
#[test]
fn however_many_ask_for_a_forecast_at_once_they_share_one_look_and_a_checkpoint_waits_for_a_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let (shared, door) = (&bench.node.shared, &bench.door);
        for number in 0..20 {
            bench.door.ask(post(number, bench.clock.now() + Millis::from_mins(30))).await.unwrap();
        }
        let (release, held) = hold_background(&bench).await;
        let asked = (0..64).map(|number| door.ops(OpsView::Forecast { hours: 1 + number % 48 }));
        let mut answers = Box::pin(join_all(asked));
        assert!(futures_util::poll!(&mut answers).is_pending());
        // What was spawned runs.
        tokio::task::yield_now().await;
        // At most one of the forecast, of the checkpoints, and of the figures of what is due.
        assert!(shared.background.waiting() <= 3, "{} jobs", shared.background.waiting());
        drop(release);
        held.await.unwrap();
        let minute = (bench.clock.now() + Millis::from_mins(30)).0.div_euclid(60_000) * 60_000;
        let sms = serde_json::json!({ "sends": 20, "notices": 0, "quota": 1_200_000, "late": 0 });
        let expected = serde_json::json!([
            { "minute": Timestamp(minute).to_rfc3339(), "due": 20, "late": 0, "channels": { "sms": sms } },
        ]);
        assert!(answers.await.iter().all(|view| view["minutes"] == expected));

        let (release, held) = hold_background(&bench).await;
        let before = door.ops(OpsView::Forecast { hours: 48 }).await;
        assert_eq!(before["minutes"], expected, "known");
        bench.clock.advance(Millis::from_mins(10));
        let mut later = door.ops(OpsView::Forecast { hours: 1 });
        assert!(futures_util::poll!(&mut later).is_pending(), "known no more");
        drop(release);
        held.await.unwrap();
        assert_ne!(later.await["from"], before["from"]);
        bench.node.stop().await;
    });
}

#[test]
fn a_state_that_was_read_long_ago_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(folder.path(), HandClock::new(), Arc::default()).await;
        let (at, shared) = (bench.clock.now() + Millis::from_hours(1), bench.node.shared.clone());
        while bench.clock.boot().0 <= 2 * PASSIVATE_AFTER_MS {
            tokio::task::yield_now().await;
        }
        let stale = Loaded {
            last_record: Timestamp(i64::MIN),
            version: Version(0),
            state: None,
            personal_read: false,
            personal: None,
            read_at: BootMillis(bench.clock.boot().0 - PASSIVATE_AFTER_MS),
            seat: None,
        };
        bench.door.ask(post(1, at)).await.unwrap();
        while shared.live.contains_key(&key(1)) {
            tokio::task::yield_now().await;
        }
        let shard = shared.shard(shared.shard_of(&key(1))).unwrap();
        shard.cast(ShardMsg::Activate(vec![(key(1), stale)])).unwrap();
        let again = bench.door.ask(plain(key(1), &ParcelCommand::Post { at })).await;
        assert!(matches!(again, Err(AskError::Rejected { version: Version(1), .. })), "{again:?}");
        assert_eq!(shared.counters.records_void.load(Ordering::Relaxed), 0);
        let posted = loading::load(&shared, shared.shard_of(&key(1)), key(1)).last_record;
        assert!(posted > at - Millis::from_hours(2) && posted < at, "its time does not go back behind {posted}");
        bench.node.stop().await;
    });
}
