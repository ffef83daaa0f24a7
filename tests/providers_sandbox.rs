//! The wire clients against the sandbox: two implementations of the same documents, written apart.

use bojagi::providers::{
    FillRandom, LookupAnswer, MessageProvider, PaymentProvider, ProvidersConfig, Span, build_message_providers,
    build_payment_provider,
};
use bojagi::sandbox::{Sandbox, SandboxHandle, SandboxOptions};
use bojagi::types::call::{
    Address, MessageOutcome, MessageRequest, PaymentOperation, PaymentOutcome, PaymentRequest, Prior, Purpose,
    RefusalClass, ReportStatus, Template,
};
use bojagi::types::contact::Private;
use bojagi::types::effect::Channel;
use bojagi::types::money::Money;
use bojagi::types::time::{BootMillis, Clock, Millis, Timestamp};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const DEADLINE: Millis = Millis::from_secs(5);
const GIFT: &str = "g_00112233445566778899aabbccddeeff";

/// Stands still until it is moved.
struct HandClock(AtomicI64, tokio::sync::watch::Sender<u64>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }
    fn moved(&self) -> tokio::sync::watch::Receiver<u64> {
        self.1.subscribe()
    }
}

impl HandClock {
    fn advance(&self, span: Millis) {
        self.0.fetch_add(span.0, Ordering::SeqCst);
        self.1.send_modify(|count| *count += 1);
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    sandbox: SandboxHandle,
    clock: Arc<HandClock>,
    messages: Vec<Arc<dyn MessageProvider>>,
    payments: Arc<dyn PaymentProvider>,
    http: reqwest::Client,
}

impl Bench {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let christmas = Timestamp::parse_rfc3339("2026-12-24T15:00:00Z").unwrap();
        let clock = Arc::new(HandClock(AtomicI64::new(christmas.0), tokio::sync::watch::channel(0).0));
        let shared: Arc<dyn Clock> = clock.clone();
        let sandbox = Sandbox::start(SandboxOptions {
            http_addr: "127.0.0.1:0".parse().unwrap(),
            smtp_addr: "127.0.0.1:0".parse().unwrap(),
            data_dir: folder.path().to_owned(),
            webhook_targets: Vec::new(),
            clock: Arc::clone(&shared),
            seed: 1,
        })
        .unwrap();
        let base = format!("http://{}", sandbox.http_addr());
        let config = ProvidersConfig::sandbox(&base, &sandbox.smtp_addr().to_string());
        let count = AtomicU64::new(0);
        let random: FillRandom = Arc::new(move |bytes: &mut [u8]| {
            let next = count.fetch_add(1, Ordering::SeqCst).to_le_bytes();
            bytes.iter_mut().zip(next.iter().cycle()).for_each(|(byte, next)| *byte = *next);
        });
        let messages = build_message_providers(&config, &shared, &random).unwrap();
        let payments = build_payment_provider(&config, &shared).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { _folder: folder, sandbox, clock, messages, payments, http }
    }

    fn channel(&self, channel: Channel) -> &Arc<dyn MessageProvider> {
        self.messages.iter().find(|provider| provider.channel() == channel).unwrap()
    }

    async fn send(&self, request: &MessageRequest) -> MessageOutcome {
        self.channel(request.channel).send(std::slice::from_ref(request), DEADLINE).await.remove(0)
    }

    async fn lookup(&self, request: &MessageRequest) -> LookupAnswer {
        self.channel(request.channel).lookup(request, DEADLINE).await
    }

    async fn order_fault(&self, provider: &str, kind: &str, path: &str) {
        let url = format!("http://{}/faults", self.sandbox.http_addr());
        let fault = json!({ "provider": provider, "kind": kind, "probability": 1.0, "path": path });
        let reply = self.http.post(url).json(&fault).send().await.unwrap();
        assert!(reply.status().is_success(), "{}", reply.text().await.unwrap());
    }

    async fn clear_faults(&self) {
        let url = format!("http://{}/faults", self.sandbox.http_addr());
        assert!(self.http.delete(url).send().await.unwrap().status().is_success());
    }

    async fn effective(&self, reference: &str) -> i64 {
        let url = format!("http://{}/ledger?reference_prefix={reference}", self.sandbox.http_addr());
        let page: serde_json::Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        page["items"].as_array().unwrap().iter().map(|item| item["effective"].as_i64().unwrap()).sum()
    }
}

fn gift(channel: Channel, to: Address, reference: &str) -> MessageRequest {
    MessageRequest {
        reference: reference.to_owned(),
        purpose: Purpose::Gift,
        channel,
        template: Template::GiftArrived,
        to: Private(to),
        variables: vec![("sender".to_owned(), Private("지민".to_owned()))],
        link: Some(Private("http://127.0.0.1:8080/g/00100112233445566778899aabbccddeeff".to_owned())),
        prior: Prior::None,
    }
}

fn phone(number: &str) -> Address {
    Address::Phone(number.to_owned())
}

/// One gift on the two channels that can be looked up.
fn kakao_and_sms() -> [MessageRequest; 2] {
    [
        gift(Channel::Kakao, phone("+821012345678"), &format!("{GIFT}.1.1")),
        gift(Channel::Sms, phone("+821012345678"), &format!("{GIFT}.1.2")),
    ]
}

fn is_unknown(outcome: &MessageOutcome) -> bool {
    matches!(outcome, MessageOutcome::Unknown { .. })
}

#[tokio::test]
async fn every_channel_delivers_once_and_is_found_again() {
    let bench = Bench::start();
    let [kakao, sms] = kakao_and_sms();
    let mail = gift(Channel::Email, Address::Email("mina@example.com".to_owned()), &format!("{GIFT}.1.3"));
    let push = gift(Channel::Push, Address::Push("/topics/owner-1".to_owned()), &format!("{GIFT}.1.4"));
    for request in [kakao, sms, mail, push] {
        let outcome = bench.send(&request).await;
        assert!(matches!(outcome, MessageOutcome::Accepted { .. }), "{outcome:?}");
        assert_eq!(bench.effective(&request.reference).await, 1, "{:?}", request.channel);
        let is_found = matches!(bench.lookup(&request).await, LookupAnswer::Found { .. });
        assert_eq!(is_found, bench.channel(request.channel).ability().lookup, "{:?}", request.channel);
    }
}

#[tokio::test]
async fn what_was_accepted_and_then_dropped_is_unknown_found_and_single() {
    let bench = Bench::start();
    bench.order_fault("nhn", "accept_then_drop", "/messages").await;
    bench.order_fault("solapi", "accept_then_drop", "/send").await;
    let requests = kakao_and_sms();
    for request in &requests {
        let outcome = bench.send(request).await;
        assert!(is_unknown(&outcome), "{outcome:?}");
    }
    bench.clear_faults().await;
    for request in &requests {
        let found = bench.lookup(request).await;
        assert!(matches!(found, LookupAnswer::Found { .. }), "{found:?}");
        assert_eq!(bench.effective(&request.reference).await, 1);
    }
    let again = bench.send(&requests[0]).await;
    assert!(is_unknown(&again), "the same key says: look up. {again:?}");
    assert_eq!(bench.effective(&requests[0].reference).await, 1);
}

#[tokio::test]
async fn what_was_never_taken_is_absent() {
    let bench = Bench::start();
    let requests = kakao_and_sms();
    bench.order_fault("nhn", "server_error", "").await;
    bench.order_fault("solapi", "server_error", "").await;
    for request in &requests {
        let outcome = bench.send(request).await;
        assert!(!matches!(outcome, MessageOutcome::Accepted { .. }), "{outcome:?}");
        assert!(matches!(bench.lookup(request).await, LookupAnswer::Unknown { .. }));
    }
    bench.clear_faults().await;
    for request in &requests {
        assert_eq!(bench.lookup(request).await, LookupAnswer::Absent);
    }
    bench.order_fault("nhn", "rate_limit", "").await;
    let limited = bench.send(&requests[0]).await;
    let MessageOutcome::Refused { code, class: RefusalClass::Retry } = &limited else { panic!("{limited:?}") };
    assert_eq!(bojagi::providers::retry_after_of(code), Some(Millis::from_secs(1)), "{code}");
}

#[tokio::test]
async fn a_group_that_was_never_sent_is_absent() {
    let bench = Bench::start();
    let request = &kakao_and_sms()[1];
    bench.order_fault("solapi", "server_error", "/send").await;
    let outcome = bench.send(request).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
    bench.clear_faults().await;
    assert_eq!(bench.lookup(request).await, LookupAnswer::Absent);
    assert_eq!(bench.effective(&request.reference).await, 0);
}

#[tokio::test]
async fn polls_tell_what_became_of_a_batch() {
    let bench = Bench::start();
    let numbers = ["+821012345678", "+821012340000", "+821099990004", "+821099990006", "+821099990002"];
    for channel in [Channel::Kakao, Channel::Sms] {
        let members = numbers.iter().enumerate();
        let batch: Vec<MessageRequest> =
            members.map(|(n, number)| gift(channel, phone(number), &format!("{GIFT}.1.{n}"))).collect();
        let provider = bench.channel(channel);
        let since = bench.clock.now();
        let outcomes = provider.send(&batch, DEADLINE).await;
        let accepted = outcomes.iter().filter(|outcome| matches!(outcome, MessageOutcome::Accepted { .. })).count();
        assert_eq!(accepted, 4, "{outcomes:?}");
        assert!(matches!(outcomes[3], MessageOutcome::Refused { class: RefusalClass::NextChannel, .. }));
        bench.clock.advance(Millis::from_secs(2));
        let mut reports = Vec::new();
        for _ in 0..500 {
            let until = bench.clock.now() + Millis::from_mins(1);
            reports = provider.poll(Span { since, until }, DEADLINE).await.unwrap();
            if reports.len() >= 3 {
                break;
            }
        }
        let status = |n: usize| {
            let reference = format!("{GIFT}.1.{n}");
            reports.iter().find(|report| report.reference == reference).map(|report| report.status.clone())
        };
        assert_eq!(status(0), Some(ReportStatus::Delivered), "{channel:?} {reports:?}");
        if channel == Channel::Kakao {
            let class = RefusalClass::NextChannel;
            assert_eq!(status(1), Some(ReportStatus::Failed { code: "3019".to_owned(), class }));
            assert_eq!(status(2), Some(ReportStatus::SentUnconfirmed));
            assert_eq!(status(4), Some(ReportStatus::Failed { code: "3020".to_owned(), class }));
        }
    }
}

fn pay(operation: PaymentOperation, key: &str, prior: Prior) -> PaymentRequest {
    PaymentRequest { order_id: GIFT.to_owned(), operation, idempotency_key: format!("{GIFT}.{key}"), prior }
}

fn confirm(payment_key: &str, prior: Prior) -> PaymentRequest {
    let payment_key = Private(payment_key.to_owned());
    pay(PaymentOperation::Confirm { payment_key, amount: Money::krw(30_000) }, "pay", prior)
}

fn lookup(payment_key: &str, prior: Prior) -> PaymentRequest {
    pay(PaymentOperation::Lookup { payment_key: Private(payment_key.to_owned()) }, "pay", prior)
}

fn cancel(payment_key: &str, key: &str, prior: Prior) -> PaymentRequest {
    let payment_key = Private(payment_key.to_owned());
    let reason = "expired".to_owned();
    pay(PaymentOperation::Cancel { payment_key, amount: Money::krw(30_000), reason }, key, prior)
}

#[tokio::test]
async fn money_is_captured_found_and_given_back_once() {
    let bench = Bench::start();
    let amount = Money::krw(30_000);
    let tried = Prior::Unknown { first_tried_at: bench.clock.now() };
    let perform = async |request: PaymentRequest| bench.payments.perform(&request, DEADLINE).await;
    assert_eq!(perform(lookup("tok_1", tried)).await, PaymentOutcome::Pending);
    bench.order_fault("toss", "accept_then_drop", "").await;
    let lost = perform(confirm("tok_1", Prior::None)).await;
    assert!(matches!(lost, PaymentOutcome::Unknown { .. }), "{lost:?}");
    bench.clear_faults().await;
    for request in [confirm("tok_1", tried), confirm("tok_1", Prior::None), lookup("tok_1", tried)] {
        let outcome = perform(request).await;
        assert!(matches!(outcome, PaymentOutcome::Captured { amount: held, .. } if held == amount), "{outcome:?}");
    }
    bench.order_fault("toss", "accept_then_drop", "/cancel").await;
    let lost = perform(cancel("tok_1", "refund.1", Prior::None)).await;
    assert!(matches!(lost, PaymentOutcome::Unknown { .. }), "{lost:?}");
    bench.clear_faults().await;
    bench.clock.advance(Millis::from_days(20));
    let again = [cancel("tok_1", "refund.1", tried), cancel("tok_1", "refund.2", Prior::None), lookup("tok_1", tried)];
    for request in again {
        let outcome = perform(request).await;
        assert!(matches!(outcome, PaymentOutcome::Refunded { amount: back, .. } if back == amount), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_payment_that_never_answers_is_dead_only_after_its_window() {
    let bench = Bench::start();
    let lost = bench.payments.perform(&confirm("tok_silent", Prior::None), Millis(300)).await;
    assert!(matches!(lost, PaymentOutcome::Unknown { .. }), "{lost:?}");
    let request = lookup("tok_silent", Prior::Unknown { first_tried_at: bench.clock.now() });
    assert_eq!(bench.payments.perform(&request, DEADLINE).await, PaymentOutcome::Pending);
    bench.clock.advance(Millis::from_mins(12));
    let dead = bench.payments.perform(&request, DEADLINE).await;
    assert!(matches!(dead, PaymentOutcome::NotCaptured { .. }), "{dead:?}");
}

#[tokio::test]
async fn refunds_that_fail_or_are_refused_say_which() {
    for (payment_key, code, class) in [
        ("tok_norefund", "NOT_CANCELABLE_PAYMENT", RefusalClass::Permanent),
        ("tok_refundfail", "FAILED_REFUND_PROCESS", RefusalClass::Retry),
        ("tok_carrier", "EXCEED_MAX_REFUND_DUE", RefusalClass::Permanent),
    ] {
        let bench = Bench::start();
        let held = bench.payments.perform(&confirm(payment_key, Prior::None), DEADLINE).await;
        assert!(matches!(held, PaymentOutcome::Captured { .. }), "{held:?}");
        bench.clock.advance(Millis::from_days(30));
        let outcome = bench.payments.perform(&cancel(payment_key, "refund.1", Prior::None), DEADLINE).await;
        assert_eq!(outcome, PaymentOutcome::RefundRefused { code: code.to_owned(), class }, "{payment_key}");
    }
}

#[tokio::test]
async fn refusals_come_through_as_they_are_meant() {
    let bench = Bench::start();
    for (channel, to, expected) in [
        (Channel::Email, Address::Email("bounce@example.com".to_owned()), RefusalClass::NextChannel),
        (Channel::Email, Address::Email("greylist@example.com".to_owned()), RefusalClass::Retry),
        (Channel::Push, Address::Push("unregistered-1".to_owned()), RefusalClass::NextChannel),
        (Channel::Push, Address::Push("mismatch-1".to_owned()), RefusalClass::NextChannel),
        (Channel::Push, Address::Push("invalid-1".to_owned()), RefusalClass::Permanent),
    ] {
        let outcome = bench.send(&gift(channel, to, &format!("{GIFT}.1.1"))).await;
        assert!(matches!(&outcome, MessageOutcome::Refused { class, .. } if *class == expected), "{outcome:?}");
    }
    for (key, expected) in [("tok_reject", "REJECT_CARD_COMPANY"), ("tok_expired", "NOT_FOUND_PAYMENT_SESSION")] {
        let mut request = confirm(key, Prior::None);
        (request.order_id, request.idempotency_key) = (format!("g_{key}"), format!("g_{key}.pay"));
        let code = expected.to_owned();
        assert_eq!(bench.payments.perform(&request, DEADLINE).await, PaymentOutcome::NotCaptured { code });
    }
}
