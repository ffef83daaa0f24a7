//! Asking the node about gifts, and rendering its answers.

use crate::actors::door::{Answer, Ask, AskError};
use crate::api::extract::etag;
use crate::api::idempotency::REPLAYED;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::gift_problem;
use crate::api::router::Shared;
use crate::domain::gift::{GiftCommand, GiftState, Personal};
use crate::domain::kinds;
use crate::types::codec;
use crate::types::ids::{EntityKey, Fingerprint, IdempotencyId, Version};
use crate::types::record::{Sealed, WrappedKey};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A committed gift with its personal data, `None` once that is erased.
pub struct OpenGift {
    pub key: EntityKey,
    /// `g_5f1c…`
    pub id: String,
    pub version: Version,
    pub state: GiftState,
    pub personal: Option<Personal>,
    /// The reply of an earlier request under the same key.
    pub replayed: bool,
}

/// The idempotency of one request: its row's id and the digest of its body.
pub type Mark = (IdempotencyId, Fingerprint);

impl Shared {
    /// A gift's key from its text id.
    ///
    /// # Errors
    /// [`Code::NotFound`]: not an id of a gift.
    pub fn gift_key(&self, id: &str) -> Result<EntityKey, Problem> {
        let key = self.door.kinds().parse(id).filter(|key| key.kind == kinds::GIFT);
        let key = key.ok_or_else(|| Problem::new(Code::NotFound))?;
        tracing::Span::current().record("entity", tracing::field::display(id));
        Ok(key)
    }

    /// Sends a command to a gift.
    ///
    /// # Errors
    /// What the gift or the runtime says; see `refusal.rs` and `problem.rs`.
    pub async fn ask_gift(
        &self,
        key: EntityKey,
        command: &GiftCommand,
        mark: Option<Mark>,
        more: AskMore,
    ) -> Result<OpenGift, Problem> {
        let answer = self.ask(key, command, mark, more).await?;
        self.open(answer).await
    }

    /// Sends a command that carries personal data sealed just now. What comes back under that very seal need not be
    /// opened to be known.
    ///
    /// # Errors
    /// As [`Shared::ask_gift`].
    pub async fn ask_gift_sealed(
        &self,
        key: EntityKey,
        command: &GiftCommand,
        mark: Option<Mark>,
        more: AskMore,
        (sealed, personal): (Sealed, Personal),
    ) -> Result<OpenGift, Problem> {
        let answer = self.ask(key, command, mark, more).await?;
        let state = decode(&answer)?;
        if state.sealed() != Some(&sealed) {
            return self.open(answer).await;
        }
        let (id, version, replayed) = (self.door.kinds().format(answer.key), answer.version, answer.replayed);
        Ok(OpenGift { key: answer.key, id, version, state, personal: Some(personal), replayed })
    }

    async fn ask(
        &self,
        key: EntityKey,
        command: &GiftCommand,
        mark: Option<Mark>,
        more: AskMore,
    ) -> Result<Answer, Problem> {
        let command = codec::encode(command);
        let ask = Ask { key, command, idempotency: mark, if_version: more.if_version, new_key: more.new_key };
        self.door.ask(ask).await.map_err(|error| gift_problem(&error))
    }

    /// A committed gift; `None` when there is none.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn read_gift(&self, key: EntityKey) -> Result<Option<OpenGift>, Problem> {
        match self.door.read(key).await? {
            Some(answer) => self.open(answer).await.map(Some),
            None => Ok(None),
        }
    }

    /// A committed gift without its personal data.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn peek_gift(&self, key: EntityKey) -> Result<Option<(Version, GiftState)>, Problem> {
        match self.door.read(key).await? {
            Some(answer) => Ok(Some((answer.version, decode(&answer)?))),
            None => Ok(None),
        }
    }

    /// Decodes an answer and opens the seal.
    ///
    /// # Errors
    /// [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn open(&self, answer: Answer) -> Result<OpenGift, Problem> {
        let state = decode(&answer)?;
        let personal = self.personal(answer.key, &state).await?;
        let id = self.door.kinds().format(answer.key);
        Ok(OpenGift { key: answer.key, id, version: answer.version, state, personal, replayed: answer.replayed })
    }

    /// A gift's personal data, `None` once erased.
    ///
    /// # Errors
    /// [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn personal(&self, key: EntityKey, state: &GiftState) -> Result<Option<Personal>, Problem> {
        let Some(sealed) = state.sealed() else { return Ok(None) };
        let Some(bytes) = self.door.unseal(key, sealed.clone()).await? else { return Ok(None) };
        codec::decode(&bytes).map(Some).map_err(|_| Problem::new(Code::Internal))
    }

    /// Asks for nothing under a mark: an empty command decides nothing, so only an earlier reply can answer it.
    /// `None` when there is none. For requests that have become unacceptable since they were first made.
    ///
    /// # Errors
    /// What the runtime says of the mark itself (reused, in flight, expired), or that it cannot answer.
    pub async fn earlier_reply(&self, key: EntityKey, mark: Mark) -> Result<Option<OpenGift>, Problem> {
        if self.door.read(key).await?.is_none() {
            return Ok(None);
        }
        let ask = Ask { key, command: Vec::new(), idempotency: Some(mark), if_version: None, new_key: None };
        match self.door.ask(ask).await {
            Ok(answer) => self.open(answer).await.map(Some),
            Err(AskError::Malformed) => Err(Problem::new(Code::KeyExpired)),
            Err(error) => Err(gift_problem(&error)),
        }
    }
}

/// What a command may carry beside itself.
#[derive(Clone, Debug, Default)]
pub struct AskMore {
    pub if_version: Option<Version>,
    pub new_key: Option<WrappedKey>,
}

fn decode(answer: &Answer) -> Result<GiftState, Problem> {
    let state: GiftState = codec::decode(&answer.state).map_err(|_| Problem::new(Code::Internal))?;
    // The entity behind an answer exists, or there would be no answer (`GiftState`'s accessors rely on it).
    if state.exists() { Ok(state) } else { Err(Problem::new(Code::Internal)) }
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
