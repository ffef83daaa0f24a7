//! The demo's HTTP client: one keep-alive connection to the API and one to the sandbox, JSON in and out.

use crate::load::demo::{DemoError, DemoTarget};
use crate::load::http::{Call, Connection, Reply, Target, bearer};
use crate::load::ledger::{self, LedgerItem};
use crate::load::{LoadError, api};
use crate::types::time::{Millis, Timestamp};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// One call; moving the dev clock may take 30 s.
const DEADLINE: Millis = Millis::from_secs(45);
/// For what happens behind a reply, real time.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    User,
    Merchant,
    Operator,
    /// Whoever holds a gift's link.
    Nobody,
}

pub(crate) struct Client {
    api: Connection,
    sandbox: Connection,
    user: HeaderValue,
    merchant: HeaderValue,
    operator: HeaderValue,
}

/// A JSON answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
    text: String,
}

impl Answer {
    fn of(reply: &Reply) -> Self {
        Self {
            status: reply.status,
            json: serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
            text: reply.text(),
        }
    }
    /// # Errors
    /// [`DemoError::Answer`] unless the status is `status`.
    pub(crate) fn expect(self, step: &'static str, expected: &'static str, status: u16) -> Result<Value, DemoError> {
        if self.status == status {
            return Ok(self.json);
        }
        Err(DemoError::Answer { step, expected, status: self.status, body: self.text })
    }
}

impl Client {
    pub(crate) fn new(target: &DemoTarget) -> Result<Self, DemoError> {
        const STEP: &str = "reading the command line";
        let http = |source| DemoError::Http { step: STEP, source };
        let connection = |url: &str| Target::parse(url).map(|target| Connection::new(target, DEADLINE)).map_err(http);
        Ok(Self {
            api: connection(&target.api)?,
            sandbox: connection(&target.sandbox)?,
            user: bearer(&target.user_token).map_err(http)?,
            merchant: bearer(&target.merchant_token).map_err(http)?,
            operator: bearer(&target.operator_token).map_err(http)?,
        })
    }

    pub(crate) async fn get(&mut self, step: &'static str, caller: Caller, path: &str) -> Result<Answer, DemoError> {
        self.exchange(step, caller, Call::get(path)).await
    }

    pub(crate) async fn put(
        &mut self,
        step: &'static str,
        caller: Caller,
        path: &str,
        body: &Value,
    ) -> Result<Answer, DemoError> {
        self.exchange(step, caller, Call::json(Method::PUT, path, Bytes::from(body.to_string()))).await
    }

    /// Without `key`, for the calls that carry their own (redeem).
    pub(crate) async fn post(
        &mut self,
        step: &'static str,
        caller: Caller,
        (path, key): (&str, Option<&str>),
        body: &Value,
    ) -> Result<Answer, DemoError> {
        let mut call = Call::json(Method::POST, path, Bytes::from(body.to_string()));
        if let Some(key) = key {
            call = call.header("idempotency-key", key).map_err(|source| DemoError::Http { step, source })?;
        }
        self.exchange(step, caller, call).await
    }

    async fn exchange(&mut self, step: &'static str, caller: Caller, call: Call<'_>) -> Result<Answer, DemoError> {
        let call = match caller {
            Caller::User => call.bearer(&self.user),
            Caller::Merchant => call.bearer(&self.merchant),
            Caller::Operator => call.bearer(&self.operator),
            Caller::Nobody => call,
        };
        let reply = self.api.call(call).await.map_err(|source| DemoError::Http { step, source })?;
        Ok(Answer::of(&reply))
    }

    /// Looks at a gift until it has one of the statuses.
    pub(crate) async fn gift_in(
        &mut self,
        step: &'static str,
        id: &str,
        expected: &'static str,
    ) -> Result<Value, DemoError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let path = format!("/v1/gifts/{id}");
            let gift = self.get(step, Caller::User, &path).await?.expect(step, "the gift", 200)?;
            if gift["status"] == expected {
                return Ok(gift);
            }
            if Instant::now() >= give_up {
                let found = gift["status"].to_string();
                return Err(DemoError::Late { step, seconds: PATIENCE.as_secs(), expected, found });
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    pub(crate) async fn now(&mut self, step: &'static str) -> Result<Timestamp, DemoError> {
        let clock = api::clock(&mut self.api).await.map_err(|source| DemoError::World { step, source })?;
        Ok(clock.now())
    }

    /// Moves the dev clock to `instant` or up to a second past it; does nothing when it is there already.
    pub(crate) async fn move_clock_to(&mut self, step: &'static str, instant: Timestamp) -> Result<(), DemoError> {
        let world = |source: LoadError| DemoError::World { step, source };
        let left = instant - self.now(step).await?;
        if left.0 <= 0 {
            return Ok(());
        }
        let whole_seconds = Millis(left.0.div_euclid(1_000) * 1_000 + 1_000);
        let settled = api::advance(&mut self.api, whole_seconds).await.map_err(world)?;
        if settled {
            return Ok(());
        }
        Err(DemoError::Wrong { step, expected: "everything due to be settled", found: "calls still open".to_owned() })
    }

    /// The sandbox's rows of one gift.
    pub(crate) async fn ledger(
        &mut self,
        step: &'static str,
        kind: &str,
        id: &str,
    ) -> Result<Vec<LedgerItem>, DemoError> {
        ledger::rows(&mut self.sandbox, kind, id).await.map_err(|source| DemoError::World { step, source })
    }
}
