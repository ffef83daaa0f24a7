//! What one call may conclude, for each earlier try and each ability of its provider.

use super::*;
use crate::gateways::policy::Health;
use crate::gateways::testing::{
    Act, FakeMessages, FakePayments, KEY_AND_LOOKUP, KEY_ONLY, NEITHER, START, TestClock, accepted, cancel, confirm,
    message as request, payment as pay_request, refused, timed_out, unknown_since,
};
use crate::providers::{Ability, LookupAnswer};
use crate::types::call::{PaymentOperation, Prior, RefusalClass};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::limits::CLOCK_UNCERTAINTY;
use crate::types::money::Money;
use crate::types::time::Timestamp;
use std::sync::Arc;

const LATER: BootMillis = BootMillis(2_000);

struct Bench {
    clock: Arc<TestClock>,
    begun: AtomicBool,
}

impl Bench {
    fn new() -> Self {
        Self { clock: TestClock::new(), begun: AtomicBool::new(false) }
    }
    fn provider(&self, ability: Ability, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> FakeMessages {
        FakeMessages::new(&self.clock, Channel::Sms, ability, script)
    }
    async fn call(&self, provider: &FakeMessages, prior: Prior, not_after: BootMillis) -> Ended<MessageOutcome> {
        let fence = Fence { clock: &*self.clock, not_after, begun: &self.begun };
        message(provider, &request(Channel::Sms, "g_1.0.1", prior), &fence).await
    }
    async fn pay(&self, provider: &FakePayments, operation: PaymentOperation, prior: Prior) -> PaymentOutcome {
        let fence = Fence { clock: &*self.clock, not_after: LATER, begun: &self.begun };
        payment(provider, &pay_request(operation, prior), &fence).await.outcome
    }
    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}

fn captured() -> PaymentOutcome {
    PaymentOutcome::Captured { provider: "fakepay".to_owned(), amount: Money::krw(5_000), at: START }
}

fn given_back(won: i64) -> PaymentOutcome {
    PaymentOutcome::Refunded { amount: Money::krw(won), at: START }
}

#[tokio::test(start_paused = true)]
async fn a_call_past_its_not_after_writes_nothing() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_AND_LOOKUP, |_| Act::Answer(accepted()));
    bench.clock.freeze(2_000);
    let ended = bench.call(&provider, Prior::None, LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::NotSent { .. }), "{:?}", ended.outcome);
    assert_eq!(ended.health, Health::Void, "it says nothing about the provider");
    assert!(provider.sent.lock().is_empty() && !bench.has_begun());
    let ended = bench.call(&provider, Prior::None, BootMillis(2_001)).await;
    assert_eq!(ended.outcome, accepted(), "one millisecond before it, it is sent");
}

#[tokio::test(start_paused = true)]
async fn a_process_frozen_in_a_call_does_not_go_on_writing() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_ONLY, |_| Act::FrozenThenWrite(CALL_DEADLINE));
    let ended = bench.call(&provider, Prior::None, LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::Unknown { .. }));
    assert_eq!(provider.late_writes.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_cut_at_the_deadline() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_AND_LOOKUP, |_| Act::After(Millis::from_hours(1), accepted()));
    let ended = bench.call(&provider, Prior::None, LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::Unknown { .. }));
    assert_eq!(ended.health, Health::Overloaded);
    assert_eq!(bench.clock.real_ms(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_client_is_an_unknown_outcome() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_AND_LOOKUP, |_| Act::Panic);
    let ended = bench.call(&provider, Prior::None, LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::Unknown { .. }));
    assert!(bench.has_begun());
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_tried_is_looked_for_where_it_can_be_and_sent_where_it_cannot() {
    let bench = Bench::new();
    let perhaps = Prior::Perhaps { since: START };
    for (ability, found, sends) in [(KEY_AND_LOOKUP, true, 0), (KEY_AND_LOOKUP, false, 1), (NEITHER, false, 1)] {
        let provider = bench.provider(ability, |_| Act::Answer(accepted()));
        let known = LookupAnswer::Found { receipt: "first".to_owned(), at: START };
        provider.lookups.lock().push(if found { known } else { LookupAnswer::Absent });
        let ended = bench.call(&provider, perhaps, LATER).await;
        assert!(matches!(ended.outcome, MessageOutcome::Accepted { .. }), "{ability:?}: {:?}", ended.outcome);
        assert_eq!(provider.sent.lock().len(), sends, "{ability:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_is_turned_away_while_its_key_is_known_leaves_the_first_try_in_doubt() {
    let bench = Bench::new();
    let (soon, late) = (Millis::from_secs(20), Millis::from_mins(11));
    let cases = [
        ("not_connected", RefusalClass::Retry, soon, true),
        ("429;retry-after=7", RefusalClass::Retry, soon, true),
        ("not_connected", RefusalClass::Retry, late, false),
        ("-5000", RefusalClass::NextChannel, soon, false),
    ];
    for (code, class, tried, is_unknown) in cases {
        let provider = bench.provider(KEY_AND_LOOKUP, move |_| Act::Answer(refused(code, class)));
        let outcome = bench.call(&provider, unknown_since(tried), LATER).await.outcome;
        assert_eq!(matches!(outcome, MessageOutcome::Unknown { .. }), is_unknown, "{code}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_is_final_only_with_neither_key_nor_lookup() {
    let bench = Bench::new();
    for (ability, is_final) in [(KEY_AND_LOOKUP, false), (KEY_ONLY, false), (NEITHER, true)] {
        let provider = bench.provider(ability, |_| Act::Answer(timed_out()));
        let ended = bench.call(&provider, Prior::None, LATER).await;
        assert_eq!(matches!(ended.outcome, MessageOutcome::Unconfirmed { .. }), is_final, "{ability:?}");
        assert_eq!(ended.health, Health::Overloaded, "the provider was silent either way");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_loses_its_retry_after_but_the_lane_hears_it() {
    let bench = Bench::new();
    let provider = bench.provider(NEITHER, |_| Act::Answer(refused("429;retry-after=7", RefusalClass::Retry)));
    let ended = bench.call(&provider, Prior::None, LATER).await;
    assert_eq!(ended.outcome, refused("429", RefusalClass::Retry));
    assert_eq!(ended.health, Health::Throttled { retry_after: Some(Millis(7_000)) });
}

#[tokio::test(start_paused = true)]
async fn an_unknown_try_that_is_found_is_accepted_and_not_sent_again() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_AND_LOOKUP, |_| Act::Answer(accepted()));
    provider.lookups.lock().push(LookupAnswer::Found { receipt: "first".to_owned(), at: Timestamp(7) });
    let ended = bench.call(&provider, unknown_since(Millis(5_000)), LATER).await;
    let found = MessageOutcome::Accepted { provider: "fake".to_owned(), receipt: "first".to_owned(), at: Timestamp(7) };
    assert_eq!(ended.outcome, found);
    assert!(provider.sent.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_try_that_is_absent_is_sent_again_with_the_same_bytes() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_AND_LOOKUP, |_| Act::Answer(accepted()));
    let ended = bench.call(&provider, unknown_since(Millis::from_days(3)), LATER).await;
    assert_eq!(ended.outcome, accepted());
    assert_eq!(*provider.looked_up.lock(), ["g_1.0.1"]);
    assert_eq!(*provider.sent.lock(), ["g_1.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_outlives_the_fence_sends_nothing() {
    let bench = Bench::new();
    let mut provider = bench.provider(KEY_AND_LOOKUP, |_| Act::Answer(accepted()));
    provider.lookup_ms = 2_000;
    let ended = bench.call(&provider, unknown_since(Millis(5_000)), LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::NotSent { .. }), "{:?}", ended.outcome);
    assert!(provider.sent.lock().is_empty() && !bench.has_begun());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_leaves_the_outcome_unknown() {
    let bench = Bench::new();
    let provider = bench.provider(KEY_AND_LOOKUP, |_| Act::Answer(accepted()));
    provider.lookups.lock().push(LookupAnswer::Unknown { cause: "503".to_owned() });
    let ended = bench.call(&provider, unknown_since(Millis(5_000)), LATER).await;
    assert_eq!(ended.outcome, MessageOutcome::Unknown { cause: "503".to_owned() });
    assert!(provider.sent.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_lookup_the_key_decides_while_its_window_holds() {
    let bench = Bench::new();
    let held = Millis(600_000 - CALL_DEADLINE.0 - CLOCK_UNCERTAINTY.0);
    let provider = bench.provider(KEY_ONLY, |_| Act::Answer(accepted()));
    let ended = bench.call(&provider, unknown_since(Millis(held.0 - 1)), LATER).await;
    assert_eq!(ended.outcome, accepted());
    let ended = bench.call(&provider, unknown_since(held), LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::Unconfirmed { .. }), "it could arrive after the window");
    assert_eq!(provider.sent.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_repeat_is_no_refusal_of_the_first_try() {
    let bench = Bench::new();
    for class in [RefusalClass::Retry, RefusalClass::NextChannel, RefusalClass::Permanent] {
        let provider = bench.provider(KEY_ONLY, move |_| Act::Answer(refused("503", class)));
        let ended = bench.call(&provider, unknown_since(Millis(5_000)), LATER).await;
        assert!(matches!(ended.outcome, MessageOutcome::Unknown { .. }), "{:?}", ended.outcome);
        let provider = bench.provider(KEY_AND_LOOKUP, move |_| Act::Answer(refused("503", class)));
        let ended = bench.call(&provider, unknown_since(Millis(5_000)), LATER).await;
        let is_told = ended.outcome == refused("503", class);
        assert_eq!(is_told, class != RefusalClass::Retry, "the lookup found nothing, and the provider looked at it");
    }
}

#[tokio::test(start_paused = true)]
async fn with_neither_key_nor_lookup_an_unknown_try_is_never_sent_again() {
    let bench = Bench::new();
    let provider = bench.provider(NEITHER, |_| Act::Answer(accepted()));
    let ended = bench.call(&provider, unknown_since(Millis(5_000)), LATER).await;
    assert!(matches!(ended.outcome, MessageOutcome::Unconfirmed { .. }));
    assert!(provider.sent.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn refusing_without_a_call_keeps_an_unknown_try_unknown() {
    let refuse = |prior| refuse_message(prior, "provider_away", RefusalClass::Retry);
    assert_eq!(refuse(Prior::None), refused("provider_away", RefusalClass::Retry));
    assert!(matches!(refuse(unknown_since(Millis(1))), MessageOutcome::NotSent { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_payment_of_unknown_outcome_is_looked_up_before_it_is_repeated() {
    let prior = unknown_since(Millis(5_000));
    let unknown = PaymentOutcome::Unknown { cause: "503".to_owned() };
    let declined = PaymentOutcome::NotCaptured { code: "EXPIRED".to_owned() };
    let cases: Vec<(PaymentOperation, Vec<PaymentOutcome>, PaymentOutcome, &[&str])> = vec![
        (confirm(), vec![captured()], captured(), &["lookup"]),
        (confirm(), vec![declined.clone()], declined.clone(), &["lookup"]),
        (confirm(), vec![unknown.clone()], unknown.clone(), &["lookup"]),
        (confirm(), vec![PaymentOutcome::Pending, captured()], captured(), &["lookup", "confirm"]),
        (cancel(), vec![given_back(5_000)], given_back(5_000), &["lookup"]),
        (cancel(), vec![captured(), given_back(5_000)], given_back(5_000), &["lookup", "cancel"]),
        (cancel(), vec![given_back(1_000), given_back(6_000)], given_back(6_000), &["lookup", "cancel"]),
        (cancel(), vec![unknown.clone()], unknown.clone(), &["lookup"]),
    ];
    for (operation, answers, outcome, calls) in cases {
        let bench = Bench::new();
        let provider = FakePayments::new(answers);
        assert_eq!(bench.pay(&provider, operation.clone(), prior).await, outcome, "{operation:?}");
        assert_eq!(provider.calls(), calls, "{operation:?}");
        assert!(provider.log.lock().iter().all(|(_, key)| key == "k"), "repeats go under the same key");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_payment_and_a_lookup_are_performed_as_they_are() {
    let bench = Bench::new();
    let provider = FakePayments::new(vec![captured(), PaymentOutcome::Pending]);
    assert_eq!(bench.pay(&provider, confirm(), Prior::None).await, captured());
    let lookup = PaymentOperation::Lookup { payment_key: Private("pk".to_owned()) };
    assert_eq!(bench.pay(&provider, lookup, unknown_since(Millis(1))).await, PaymentOutcome::Pending);
    assert_eq!(provider.calls(), ["confirm", "lookup"]);
}
