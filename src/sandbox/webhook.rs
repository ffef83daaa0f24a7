//! Webhooks: what the providers tell on their own accord, to the nodes that are configured.
//!
//! `POST {node}/v1/providers/{provider}/webhook`, with the signature headers of each provider. One node is told; when
//! it does not answer 2xx the next one is, then the hook waits and is tried again, and in the end is left to the polls.
//! Waiting follows the given clock; the deadline of one call is real time.

use crate::sandbox::faults::Faults;
use crate::sandbox::settings::{
    NHN_APP_KEY, NHN_WEBHOOK_SIGNATURE, Provider, SOLAPI_API_SECRET, WEBHOOK_BACKOFF_SECONDS, WEBHOOK_BYTES_MAX,
    WEBHOOK_DEADLINE, WEBHOOKS_IN_FLIGHT_MAX, WEBHOOKS_WAITING_MAX,
};
use crate::types::time::{Clock, Millis, Timestamp};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};

/// One fact for one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hook {
    provider: Provider,
    body: String,
    tries: usize,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<(Timestamp, u64), Hook>,
    next: u64,
}

pub(crate) struct Hooks {
    targets: Vec<String>,
    queue: Mutex<Queue>,
    wake: Notify,
    in_flight: AtomicUsize,
    /// The node that answered last.
    current: AtomicUsize,
    calls: AtomicU64,
}

impl Hooks {
    /// `targets` are base URLs with the scheme `http`; one that is not is returned as the error.
    pub(crate) fn new(targets: Vec<String>) -> Result<Self, String> {
        for target in &targets {
            let uri = target.parse::<Uri>().ok();
            let plain = uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
            if !plain {
                return Err(target.clone());
            }
        }
        let targets = targets.into_iter().map(|target| target.trim_end_matches('/').to_owned()).collect();
        Ok(Self {
            targets,
            queue: Mutex::default(),
            wake: Notify::new(),
            in_flight: AtomicUsize::new(0),
            current: AtomicUsize::new(0),
            calls: AtomicU64::new(1),
        })
    }

    pub(crate) fn wanted(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Queues a fact; an ordered fault holds it back or repeats it.
    pub(crate) fn push(&self, faults: &Faults, now: Timestamp, provider: Provider, fact: &Value) {
        if !self.wanted() {
            return;
        }
        let (held, again) = faults.hook(provider, now);
        let hook = Hook { provider, body: fact.to_string(), tries: 0 };
        let due = now + held.unwrap_or_default();
        if let Some(after) = again {
            self.queue(due + after, hook.clone());
        }
        self.queue(due, hook);
        self.wake.notify_one();
    }

    /// Queues `PAYMENT_STATUS_CHANGED`; it carries no signature, so it is only a hint.
    pub(crate) fn payment(&self, faults: &Faults, now: Timestamp, payment: &Value) {
        let created = crate::sandbox::wire_time::toss(now);
        let fact = json!({ "eventType": "PAYMENT_STATUS_CHANGED", "createdAt": created, "data": payment });
        self.push(faults, now, Provider::Toss, &fact);
    }

    fn queue(&self, due: Timestamp, hook: Hook) {
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        if queue.waiting.len() >= WEBHOOKS_WAITING_MAX {
            tracing::warn!(provider = hook.provider.name(), "too many webhooks wait; this one is left to the polls");
            return;
        }
        queue.waiting.insert((due, number), hook);
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.lock().waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Nothing is due and nothing is on its way.
    pub(crate) fn quiet(&self, now: Timestamp) -> bool {
        let queue = self.queue.lock();
        let due = queue.waiting.first_key_value().is_some_and(|((due, _), _)| *due <= now);
        !due && self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Enough calls are on their way, or about to be; the end of one wakes the sender.
    fn is_busy(&self, more: usize) -> bool {
        self.in_flight.load(Ordering::Acquire) + more >= WEBHOOKS_IN_FLIGHT_MAX
    }

    /// Takes what is due, as calls that are small enough. Counts them as in flight.
    fn take_calls(&self, now: Timestamp) -> Vec<Vec<Hook>> {
        let mut calls: Vec<Vec<Hook>> = Vec::new();
        let mut open: BTreeMap<Provider, (usize, usize)> = BTreeMap::new();
        let mut queue = self.queue.lock();
        while let Some(entry) = queue.waiting.first_entry() {
            if entry.key().0 > now || self.is_busy(calls.len()) {
                break;
            }
            let hook = entry.remove();
            let size = hook.body.len() + 1;
            let fits = open.get(&hook.provider).filter(|(_, bytes)| {
                // A payment webhook carries one payment.
                hook.provider != Provider::Toss && bytes + size <= WEBHOOK_BYTES_MAX
            });
            let (index, bytes) = fits.copied().unwrap_or_else(|| {
                calls.push(Vec::new());
                (calls.len() - 1, 0)
            });
            open.insert(hook.provider, (index, bytes + size));
            calls[index].push(hook);
        }
        self.in_flight.fetch_add(calls.len(), Ordering::AcqRel);
        calls
    }

    /// A call that ended: what was not taken waits for its next try.
    fn ended(&self, taken: bool, hooks: Vec<Hook>, now: Timestamp) {
        if !taken {
            for mut hook in hooks {
                let Some(seconds) = WEBHOOK_BACKOFF_SECONDS.get(hook.tries) else { continue };
                hook.tries += 1;
                self.queue(now + Millis::from_secs(*seconds), hook);
            }
        }
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    fn request(&self, target: &str, hooks: &[Hook], number: u64) -> Option<Request<Full<Bytes>>> {
        let provider = hooks.first()?.provider;
        let facts = hooks.iter().map(|hook| hook.body.as_str()).collect::<Vec<_>>().join(",");
        let uri = format!("{target}/v1/providers/{}/webhook", provider.name());
        let request = Request::post(uri).header("content-type", "application/json;charset=UTF-8");
        let (request, body) = match provider {
            Provider::Nhn => {
                let id = format!("sandbox-{number}");
                let body = format!(
                    r#"{{"hooksId":"{id}","webhookConfigId":"sandbox","productName":"KakaoTalk Bizmessage","appKey":"{NHN_APP_KEY}","event":"MESSAGE_RESULT_UPDATE","hooks":[{facts}]}}"#
                );
                (request.header("x-toast-webhook-signature", NHN_WEBHOOK_SIGNATURE), body)
            }
            Provider::Solapi => {
                let secret = hex::encode(Sha1::digest(SOLAPI_API_SECRET.as_bytes()));
                let request = request.header("x-solapi-secret", secret);
                (request.header("x-solapi-event-name", "SINGLE-REPORT"), format!("[{facts}]"))
            }
            Provider::Toss | Provider::Smtp | Provider::Fcm | Provider::Shipping => {
                let id = format!("sandbox-{number}");
                (request.header("tosspayments-webhook-transmission-id", id), facts)
            }
        };
        request.body(Full::new(Bytes::from(body))).ok()
    }
}

type WebClient = Client<HttpConnector, Full<Bytes>>;

/// Sends what is due until `stop` changes.
pub(crate) async fn run(hooks: Arc<Hooks>, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
    let client: WebClient = Client::builder(TokioExecutor::new()).build_http();
    let mut moved = clock.moved();
    let mut calls = tokio::task::JoinSet::new();
    loop {
        let now = clock.now();
        for batch in hooks.take_calls(now) {
            let (hooks, clock, client) = (hooks.clone(), clock.clone(), client.clone());
            calls.spawn(async move {
                let taken = deliver(&hooks, &client, &batch).await;
                hooks.ended(taken, batch, clock.now());
            });
        }
        while calls.try_join_next().is_some() {}
        let next = hooks.next_due().filter(|_| !hooks.is_busy(0));
        let next = next.map_or(Millis::from_hours(1), |due| due - clock.now());
        tokio::select! {
            () = tokio::time::sleep(next.to_std().max(std::time::Duration::from_millis(1))) => {}
            () = hooks.wake.notified() => {}
            // A clock that is gone never moves again.
            Ok(()) = moved.changed() => {}
            _ended = stop.changed() => return,
        }
    }
}

/// Tells one node after the other until one takes it.
async fn deliver(hooks: &Hooks, client: &WebClient, batch: &[Hook]) -> bool {
    let first = hooks.current.load(Ordering::Relaxed);
    let number = hooks.calls.fetch_add(1, Ordering::Relaxed);
    for turn in 0..hooks.targets.len() {
        let index = (first + turn) % hooks.targets.len();
        let Some(request) = hooks.request(&hooks.targets[index], batch, number) else { return false };
        let call = async {
            let response = client.request(request).await.ok()?;
            let ok = response.status().is_success();
            // Read to the end, so that the connection can be used again.
            response.into_body().collect().await.ok()?;
            Some(ok)
        };
        if let Ok(Some(true)) = tokio::time::timeout(WEBHOOK_DEADLINE.to_std(), call).await {
            hooks.current.store(index, Ordering::Relaxed);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::faults::FaultOrder;

    fn hooks() -> Hooks {
        Hooks::new(vec!["http://127.0.0.1:1/".to_owned()]).unwrap()
    }

    fn order(faults: &Faults, kind: &str) {
        let json = format!(r#"{{"provider":"nhn","kind":"{kind}","latency_ms":500}}"#);
        faults.order(serde_json::from_str::<FaultOrder>(&json).unwrap(), Timestamp(0)).unwrap();
    }

    #[test]
    fn calls_are_small_and_of_one_provider() {
        let (hooks, faults) = (hooks(), Faults::new(1));
        for index in 0..30 {
            hooks.push(&faults, Timestamp(0), Provider::Nhn, &json!({ "i": index, "pad": "x".repeat(1_000) }));
        }
        hooks.push(&faults, Timestamp(0), Provider::Solapi, &json!(1));
        hooks.push(&faults, Timestamp(0), Provider::Toss, &json!(1));
        hooks.push(&faults, Timestamp(0), Provider::Toss, &json!(2));
        let mut shape: Vec<(Provider, usize)> = Vec::new();
        while !hooks.quiet(Timestamp(0)) {
            let calls = hooks.take_calls(Timestamp(0));
            assert!(calls.len() <= WEBHOOKS_IN_FLIGHT_MAX && !hooks.quiet(Timestamp(0)), "they are on their way");
            for call in calls {
                shape.push((call[0].provider, call.len()));
                hooks.ended(true, call, Timestamp(0));
            }
        }
        let nhn: usize = shape.iter().filter(|(provider, _)| *provider == Provider::Nhn).map(|(_, count)| count).sum();
        assert_eq!((nhn, shape.len()), (30, 6), "{shape:?}");
        assert!(shape.iter().all(|(_, count)| *count <= 14));
    }

    #[test]
    fn ordered_hooks_come_twice_or_late() {
        let (hooks, faults) = (hooks(), Faults::new(1));
        order(&faults, "webhook_duplicate");
        hooks.push(&faults, Timestamp(0), Provider::Nhn, &json!(1));
        assert_eq!(hooks.take_calls(Timestamp(0)).len(), 1);
        assert_eq!(hooks.next_due(), Some(Timestamp(500)));
        faults.clear(None);
        order(&faults, "webhook_reorder");
        hooks.push(&faults, Timestamp(100), Provider::Nhn, &json!(2));
        assert!(hooks.take_calls(Timestamp(499)).is_empty());
    }

    #[test]
    fn untaken_hooks_are_tried_again_and_then_left() {
        let (hooks, faults) = (hooks(), Faults::new(1));
        hooks.push(&faults, Timestamp(0), Provider::Nhn, &json!(1));
        let mut now = Timestamp(0);
        for seconds in WEBHOOK_BACKOFF_SECONDS {
            let call = hooks.take_calls(now).remove(0);
            hooks.ended(false, call, now);
            assert_eq!(hooks.next_due(), Some(now + Millis::from_secs(seconds)));
            now = now + Millis::from_secs(seconds);
        }
        let call = hooks.take_calls(now).remove(0);
        hooks.ended(false, call, now);
        assert!(hooks.next_due().is_none() && hooks.quiet(now));
    }

    #[test]
    fn only_plain_http_targets_are_taken() {
        assert!(Hooks::new(vec!["https://node".to_owned()]).is_err());
        assert!(Hooks::new(vec!["node:8080".to_owned()]).is_err());
        assert!(!Hooks::new(Vec::new()).unwrap().wanted());
    }
}
