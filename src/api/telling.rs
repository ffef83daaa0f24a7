//! Telling an entity of any kind a command, and looking at one: typed, and failures as problems.

use crate::actors::door::{Answer, Ask, AskError};
use crate::api::extract::{IfMatch, etag};
use crate::api::idempotency::{Mark, Posted, REPLAYED};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::problem_of;
use crate::api::router::Shared;
use crate::types::codec;
use crate::types::ids::{EntityKey, EntityKind, Version};
use crate::types::level::FeatureLevel;
use crate::types::record::WrappedKey;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

/// A command's committed answer, decoded.
#[derive(Debug)]
pub struct Told<S> {
    pub version: Version,
    pub state: S,
    /// The reply of an earlier request under the same key.
    pub replayed: bool,
}

/// What a command carries beside itself.
#[derive(Clone, Debug, Default)]
pub struct With {
    pub mark: Option<Mark>,
    pub if_version: Option<Version>,
    pub new_key: Option<WrappedKey>,
}

impl From<Mark> for With {
    fn from(mark: Mark) -> Self {
        Self { mark: Some(mark), ..Self::default() }
    }
}

fn told<S: DeserializeOwned>(answer: &Answer) -> Result<Told<S>, Problem> {
    let state = codec::decode(&answer.state).map_err(|_| Problem::new(Code::Internal))?;
    Ok(Told { version: answer.version, state, replayed: answer.replayed })
}

impl Shared {
    /// The key of an entity of `kind` from its text id.
    ///
    /// # Errors
    /// [`Code::NotFound`]: not an id of that kind.
    pub fn key_of(&self, kind: EntityKind, id: &str) -> Result<EntityKey, Problem> {
        let key = self.door.kinds().parse(id).filter(|key| key.kind == kind);
        let key = key.ok_or_else(|| Problem::new(Code::NotFound))?;
        tracing::Span::current().record("entity", tracing::field::display(id));
        Ok(key)
    }

    /// Whether every member of the cluster knows what came with this feature level (ADR-10).
    ///
    /// # Errors
    /// [`Code::Unavailable`]: not yet, and nothing was done.
    pub fn knows(&self, needs: FeatureLevel) -> Result<(), Problem> {
        if self.door.feature_level() < needs { Err(AskError::NotFinalized { needs }.into()) } else { Ok(()) }
    }

    /// Sends a command to an entity.
    ///
    /// # Errors
    /// The kind's refusal as `refusal` says it, or what the runtime says.
    pub async fn tell<C: Serialize, S: DeserializeOwned, R: DeserializeOwned>(
        &self,
        key: EntityKey,
        command: &C,
        with: With,
        refusal: fn(&R) -> Problem,
    ) -> Result<Told<S>, Problem> {
        let With { mark: idempotency, if_version, new_key } = with;
        let ask = Ask { key, command: codec::encode(command), idempotency, if_version, new_key };
        let answer = self.door.ask(ask).await.map_err(|error| problem_of(&error, refusal))?;
        told(&answer)
    }

    /// What a POST upon an entity that is there carries: its mark and, when it was sent with `If-Match`, the version that it must
    /// still meet; `*` lets it move. A repeat is answered as before, whatever came after it. To be asked once the caller may see the entity.
    ///
    /// # Errors
    /// [`Code::VersionMismatch`], or what the runtime says.
    pub async fn holding(&self, posted: &Posted, key: EntityKey, mark: Mark) -> Result<With, Problem> {
        let Some(if_match) = &posted.if_match else { return Ok(mark.into()) };
        let Some(now) = self.door.read(key).await? else { return Ok(mark.into()) };
        if *if_match == IfMatch::Any {
            return Ok(mark.into());
        }
        if if_match.allows(now.version) {
            return Ok(With { if_version: Some(now.version), ..With::from(mark) });
        }
        // An empty command decides nothing: only an earlier reply can answer it.
        let ask = Ask { key, command: Vec::new(), idempotency: Some(mark), if_version: None, new_key: None };
        match self.door.ask(ask).await {
            Ok(_) => Ok(mark.into()),
            Err(AskError::Malformed) => Err(AskError::VersionMoved { version: now.version }.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// The committed state of an entity; `None` when there is none.
    ///
    /// # Errors
    /// [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn look<S: DeserializeOwned>(&self, key: EntityKey) -> Result<Option<Told<S>>, Problem> {
        self.door.read(key).await?.as_ref().map(told).transpose()
    }

    /// A committed state of an entity that its leader may have moved on from, should it lead no more: for what is decided
    /// again by a command. `None` does not say that there is none.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn glance<S: DeserializeOwned>(&self, key: EntityKey) -> Result<Option<Told<S>>, Problem> {
        self.door.glance(key).await?.as_ref().map(told).transpose()
    }

    /// Waits until an entity is beyond a version, as a committed command makes it.
    ///
    /// # Errors
    /// [`Code::OutcomeUnknown`] at the deadline, or when nobody can be asked: what was asked for is on its way.
    pub async fn await_beyond<S: DeserializeOwned>(
        &self,
        key: EntityKey,
        after: Version,
        deadline: Instant,
    ) -> Result<Told<S>, Problem> {
        let late = |_late| Problem::because(Code::OutcomeUnknown, "It is on its way. Repeat the request.");
        let answer = timeout_at(deadline, self.door.beyond(key, after)).await.map_err(late)?;
        told(&answer.map_err(|error| Problem::from(error).past_commit())?)
    }

    /// An earlier reply under a mark, for requests that have become unacceptable since: an empty command decides
    /// nothing, so only an earlier reply can answer it. `None` when there is none.
    ///
    /// # Errors
    /// What the runtime says of the mark itself (reused, in flight, expired), or that it cannot answer.
    pub async fn earlier<S: DeserializeOwned>(&self, key: EntityKey, mark: Mark) -> Result<Option<Told<S>>, Problem> {
        if self.door.read(key).await?.is_none() {
            return Ok(None);
        }
        let ask = Ask { key, command: Vec::new(), idempotency: Some(mark), if_version: None, new_key: None };
        match self.door.ask(ask).await {
            Ok(answer) => told(&answer).map(Some),
            Err(AskError::Malformed) => Err(Problem::new(Code::KeyExpired)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A reply with an entity's tag, marked when it was given before.
pub fn reply<T: Serialize>(status: StatusCode, version: Version, replayed: bool, body: &T) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::ETAG, etag(version));
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// A reply that says where what it made is: `path`, ASCII.
pub fn located(mut response: Response, path: &str) -> Response {
    let location = HeaderValue::from_str(path).expect("paths of entities are ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    response
}
