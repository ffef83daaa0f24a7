//! What is asked of the book and of the provider, in which order, and what each member is told.

use super::*;
use crate::gateways::policy::concurrency::Micros;
use crate::gateways::testing::{BATCH, BATCHES, FakeBook, START, accepted, message, refused, timed_out, unknown_since};
use crate::types::call::{Prior, RefusalClass};
use crate::types::contact::Private;
use crate::types::effect::{Channel, Slot};
use crate::types::ids::EntityKind;
use crate::types::time::Millis;

const GOOD: Health = Health::Good { latency: Some(Micros(7)) };
const MATE: Health = Health::Mate { latency: Micros(7) };

struct FakeHands {
    book: Arc<FakeBook>,
    lookups: Mutex<Vec<LookupAnswer>>,
    reply: Mutex<Result<Vec<MessageOutcome>, Cut>>,
    /// Does not answer a call before this is set.
    gate: tokio::sync::Semaphore,
}

impl FakeHands {
    fn new(reply: Result<Vec<MessageOutcome>, Cut>) -> Arc<Self> {
        let gate = tokio::sync::Semaphore::new(1_000);
        Arc::new(Self { book: FakeBook::new(), lookups: Mutex::default(), reply: Mutex::new(reply), gate })
    }
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.book.asked.lock())
    }
}

impl Hands for FakeHands {
    fn provider(&self) -> (&'static str, Ability) {
        ("fake", BATCHES)
    }
    fn now(&self) -> Timestamp {
        START
    }
    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }
    fn book(&self) -> Option<&dyn BatchBook> {
        Some(&*self.book)
    }
    fn by<'a>(
        &'a self,
        _not_after: BootMillis,
        write: BoxFuture<'a, Result<EntityKey, NotStarted>>,
    ) -> BoxFuture<'a, Result<EntityKey, NotStarted>> {
        write
    }
    fn look_up<'a>(&'a self, slip: &'a Slip) -> BoxFuture<'a, Result<LookupAnswer, Cut>> {
        self.book.asked.lock().push(format!("look up {}", slip.request.reference));
        let answer = self.lookups.lock().pop().unwrap_or(LookupAnswer::Absent);
        Box::pin(std::future::ready(Ok(answer)))
    }
    fn call<'a>(&'a self, requests: &'a [MessageRequest], not_after: BootMillis) -> BoxFuture<'a, BatchEnd> {
        Box::pin(async move {
            let _open = self.gate.acquire().await;
            let references: Vec<&str> = requests.iter().map(|request| request.reference.as_str()).collect();
            self.book.asked.lock().push(format!("call {} by {}", references.join(" "), not_after.0));
            let reply = self.reply.lock().clone();
            BatchEnd::of(self.provider(), requests.len(), reply, Micros(7), START)
        })
    }
    fn close_behind(&self, _batch: EntityKey, why: Closing) {
        self.book.asked.lock().push(format!("close behind {}", why.name()));
    }
}

fn slip(number: u8, prior: Prior) -> Slip {
    let mut request = message(Channel::Kakao, &format!("g_{number}.0.1"), prior);
    request.link = Some(Private(format!("link {number}")));
    let entity = EntityKey { kind: EntityKind(1), id: [number; 16] };
    Slip { member: Member { entity, slot: Slot(1) }, request, not_after: BootMillis(1_000 + u64::from(number)) }
}

fn two(prior: Prior) -> [Slip; 2] {
    [slip(1, prior), slip(2, prior)]
}

/// A batch of the two that is open, and what is still to be sent for them.
fn opened(hands: &FakeHands) {
    let slips = two(unknown_since(Millis(20_000)));
    let requests: Vec<MessageRequest> = slips.iter().map(|slip| slip.request.clone()).collect();
    let members = slips.iter().map(|slip| slip.member).collect();
    let sheet = sheet("fake", Millis(600_000), members, &requests);
    *hands.book.open.lock() = Some(OpenBatch { key: BATCH, sheet });
    *hands.book.rendered.lock() = Some(requests);
}

async fn again(hands: &Arc<FakeHands>, number: u8) -> Fate {
    let slip = slip(number, unknown_since(Millis(20_000)));
    repeat(hands.clone() as Arc<dyn Hands>, &Repeats::default(), ShardId(0), &slip).await
}

fn is_unknown(fate: &Fate) -> bool {
    matches!(fate, Fate::End(MessageOutcome::Unknown { .. }, Health::Void | Health::Overloaded))
}
fn is_not_sent(fate: &Fate) -> bool {
    matches!(fate, Fate::End(MessageOutcome::NotSent { .. }, Health::Void))
}

#[tokio::test]
async fn a_batch_is_written_down_before_its_call_and_closed_behind_its_reply() {
    let no = refused("-5000", RefusalClass::NextChannel);
    let hands = FakeHands::new(Ok(vec![no.clone(), accepted()]));
    let fates = first_try(&*hands, &two(Prior::None)).await;
    assert_eq!(hands.asked(), ["start 2", "call g_1.0.1 g_2.0.1 by 1001", "close behind answered"]);
    assert_eq!(fates, [Fate::End(no, GOOD), Fate::End(accepted(), MATE)], "half failed, and one good call");
}

#[tokio::test]
async fn without_a_record_nothing_leaves_together() {
    let hands = FakeHands::new(Ok(vec![accepted(), accepted()]));
    *hands.book.start.lock() = Err(NotStarted::Refused);
    assert_eq!(first_try(&*hands, &two(Prior::None)).await, [Fate::Alone, Fate::Alone]);
    *hands.book.start.lock() = Err(NotStarted::Unknown);
    let fates = first_try(&*hands, &two(Prior::None)).await;
    assert!(fates.iter().all(is_unknown), "{fates:?}: the record may come yet, so they are in doubt");
    assert_eq!(hands.asked(), ["start 2", "start 2"]);
}

#[tokio::test]
async fn a_batch_that_was_not_sent_in_time_is_closed_before_anybody_is_told_so() {
    let hands = FakeHands::new(Err(Cut::NotBegun));
    let fates = first_try(&*hands, &two(Prior::None)).await;
    assert!(fates.iter().all(is_not_sent), "{fates:?}");
    assert_eq!(hands.asked()[2], "close never_sent");
    hands.book.away.store(true, Ordering::SeqCst);
    let fates = first_try(&*hands, &two(Prior::None)).await;
    assert!(fates.iter().all(is_unknown), "{fates:?}: it may be found open");
}

#[tokio::test]
async fn a_batch_without_a_word_on_each_member_stays_open() {
    for reply in [Ok(vec![accepted(), timed_out()]), Err(Cut::Late), Ok(vec![timed_out(), timed_out()])] {
        let hands = FakeHands::new(reply);
        let fates = first_try(&*hands, &two(Prior::None)).await;
        assert!(is_unknown(&fates[1]) || matches!(fates[1], Fate::End(MessageOutcome::Unknown { .. }, _)), "{fates:?}");
        assert_eq!(hands.asked().len(), 2, "nothing is closed");
    }
}

#[tokio::test]
async fn what_was_sent_alone_is_repeated_alone() {
    let hands = FakeHands::new(Ok(Vec::new()));
    assert_eq!(again(&hands, 1).await, Fate::Alone);
    hands.book.away.store(true, Ordering::SeqCst);
    assert!(is_not_sent(&again(&hands, 1).await), "it may be in a batch");
    assert_eq!(hands.asked(), ["find", "find"]);
}

#[tokio::test]
async fn a_member_that_a_lookup_finds_is_accepted_and_its_batch_was_taken() {
    let hands = FakeHands::new(Ok(Vec::new()));
    opened(&hands);
    hands.lookups.lock().push(LookupAnswer::Found { receipt: "R/1".to_owned(), at: START });
    let fate = again(&hands, 1).await;
    assert!(matches!(&fate, Fate::End(MessageOutcome::Accepted { receipt, .. }, _) if receipt == "R/1"), "{fate:?}");
    assert_eq!(hands.asked(), ["find", "look up g_1.0.1", "close behind taken"]);
    hands.lookups.lock().push(LookupAnswer::Unknown { cause: "503".to_owned() });
    assert!(is_unknown(&again(&hands, 1).await));
    assert_eq!(hands.asked(), ["find", "look up g_1.0.1"], "nothing is sent on a guess");
}

#[tokio::test]
async fn an_absent_member_has_the_batch_made_again_as_it_was_for_all() {
    let hands = FakeHands::new(Ok(vec![accepted(), refused("-5000", RefusalClass::NextChannel)]));
    opened(&hands);
    assert_eq!(again(&hands, 1).await, Fate::End(accepted(), GOOD));
    let call = "call g_1.0.1 g_2.0.1 by 1001";
    assert_eq!(hands.asked(), ["find", "look up g_1.0.1", "render", "again", call, "close behind answered"]);
}

#[tokio::test]
async fn who_comes_while_the_batch_is_made_again_waits_for_the_same_reply() {
    let hands = FakeHands::new(Ok(vec![accepted(), refused("-5000", RefusalClass::NextChannel)]));
    opened(&hands);
    let gate = hands.gate.acquire_many(1_000).await.unwrap();
    let (repeats, slips) = (Repeats::default(), two(unknown_since(Millis(20_000))));
    let of = |slip| repeat(hands.clone() as Arc<dyn Hands>, &repeats, ShardId(0), slip);
    let open = async {
        tokio::task::yield_now().await;
        drop(gate);
    };
    let (first, second, ()) = tokio::join!(of(&slips[0]), of(&slips[1]), open);
    assert_eq!(
        (first, second),
        (Fate::End(accepted(), GOOD), Fate::End(refused("-5000", RefusalClass::NextChannel), MATE))
    );
    assert_eq!(hands.asked().iter().filter(|asked| asked.starts_with("call")).count(), 1);
}

#[tokio::test]
async fn once_a_member_is_decided_the_others_go_by_themselves() {
    let hands = FakeHands::new(Ok(vec![accepted(), accepted()]));
    opened(&hands);
    *hands.book.rendered.lock() = None;
    assert_eq!(again(&hands, 1).await, Fate::Alone);
    assert_eq!(hands.asked(), ["find", "look up g_1.0.1", "render", "close given_up"]);
}

#[tokio::test]
async fn what_is_not_what_was_written_down_leaves_neither_together_nor_alone() {
    let hands = FakeHands::new(Ok(vec![accepted(), accepted()]));
    let spoil: [fn(&FakeHands); 2] = [
        |hands| hands.book.rendered.lock().as_mut().unwrap()[1].link = None,
        |hands| hands.book.open.lock().as_mut().unwrap().sheet.provider = "another".to_owned(),
    ];
    for spoiled in spoil {
        opened(&hands);
        spoiled(&hands);
        assert!(is_not_sent(&again(&hands, 1).await), "a call of it that is late has only its own key");
        assert_eq!(hands.asked(), ["find", "look up g_1.0.1", "render"]);
    }
}

#[tokio::test]
async fn with_a_key_that_may_be_forgotten_a_batch_is_made_again_once_nobody_of_it_is_found() {
    let found = || LookupAnswer::Found { receipt: "R/2".to_owned(), at: START };
    let away = || LookupAnswer::Unknown { cause: "503".to_owned() };
    let old = |lookups| {
        let hands = FakeHands::new(Ok(vec![accepted(), accepted()]));
        opened(&hands);
        *hands.book.again.lock() = Err(NotAgain::KeyTooOld);
        *hands.lookups.lock() = lookups;
        hands
    };
    let looks = ["find", "look up g_1.0.1", "render", "again", "look up g_1.0.1", "look up g_2.0.1"];
    let hands = old(Vec::new());
    assert_eq!(again(&hands, 1).await, Fate::End(accepted(), GOOD));
    let call = "call g_1.0.1 g_2.0.1 by 2000";
    assert_eq!(hands.asked(), [&looks[..], &["again, all are absent", call, "close behind answered"]].concat());
    // The last of the answers is the first that is given.
    let hands = old(vec![found(), LookupAnswer::Absent, LookupAnswer::Absent]);
    assert_eq!(again(&hands, 1).await, Fate::Alone, "the other was taken, so it was refused, and nothing is late");
    assert_eq!(hands.asked(), [&looks[..], &["close taken"]].concat());
    let hands = old(vec![away(), LookupAnswer::Absent, LookupAnswer::Absent]);
    assert!(is_not_sent(&again(&hands, 1).await));
    assert_eq!(hands.asked(), looks);
}

#[tokio::test]
async fn a_batch_whose_repeat_is_turned_away_stays_open_with_all_its_members() {
    let no = refused("not_connected", RefusalClass::Retry);
    let hands = FakeHands::new(Ok(vec![no.clone(), no]));
    opened(&hands);
    let fate = again(&hands, 1).await;
    assert!(matches!(fate, Fate::End(MessageOutcome::Unknown { .. }, Health::Unreachable)), "{fate:?}");
    assert!(hands.asked().last().unwrap().starts_with("call"), "it is not closed");
}

#[tokio::test]
async fn nothing_goes_alone_while_a_call_of_its_batch_may_be_on_its_way() {
    let hands = FakeHands::new(Ok(vec![accepted(), accepted()]));
    opened(&hands);
    *hands.book.again.lock() = Err(NotAgain::Later);
    assert!(is_not_sent(&again(&hands, 1).await));
    *hands.book.again.lock() = Err(NotAgain::NotOpen);
    assert_eq!(again(&hands, 1).await, Fate::Alone, "it was closed meanwhile");
    *hands.book.again.lock() = Ok(());
    *hands.reply.lock() = Err(Cut::NotBegun);
    assert!(is_not_sent(&again(&hands, 1).await));
    assert!(!hands.asked().iter().any(|asked| asked.starts_with("close")));
}

#[tokio::test]
async fn the_same_key_again_is_an_unknown_outcome_and_the_batch_stays_open() {
    let hands = FakeHands::new(Ok(vec![timed_out(), timed_out()]));
    opened(&hands);
    let fate = again(&hands, 2).await;
    assert!(matches!(fate, Fate::End(MessageOutcome::Unknown { .. }, _)), "{fate:?}");
    assert!(hands.asked().last().unwrap().starts_with("call"));
}
