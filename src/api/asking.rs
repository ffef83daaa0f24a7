//! Asking the node about gifts, with their personal data.

use crate::api::idempotency::Mark;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::gift_refusal;
use crate::api::router::Shared;
use crate::api::telling::{Told, With};
use crate::domain::gift::{GiftCommand, GiftRejection, GiftState, Personal};
use crate::domain::kinds;
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::record::Sealed;

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

impl Shared {
    /// A gift's key from its text id.
    ///
    /// # Errors
    /// [`Code::NotFound`]: not an id of a gift.
    pub fn gift_key(&self, id: &str) -> Result<EntityKey, Problem> {
        self.key_of(kinds::GIFT, id)
    }

    /// Sends a command to a gift.
    ///
    /// # Errors
    /// What the gift or the runtime says, see `refusal.rs` and `problem.rs`; [`Code::OutcomeUnknown`] too when it is
    /// committed and cannot be opened.
    pub async fn ask_gift(
        &self,
        key: EntityKey,
        command: &GiftCommand,
        with: impl Into<With>,
    ) -> Result<OpenGift, Problem> {
        let told = self.tell(key, command, with.into(), gift_refusal).await?;
        self.open_committed(key, told).await
    }

    /// Sends a command to a gift whose personal data its reply does not show.
    ///
    /// # Errors
    /// The gift's refusal as `refusal` says it, or what the runtime says.
    pub async fn tell_gift(
        &self,
        key: EntityKey,
        command: &GiftCommand,
        with: With,
        refusal: fn(&GiftRejection) -> Problem,
    ) -> Result<Told<GiftState>, Problem> {
        existing(self.tell(key, command, with, refusal).await?)
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
        with: With,
        (sealed, personal): (Sealed, Personal),
    ) -> Result<OpenGift, Problem> {
        let told = self.tell_gift(key, command, with, gift_refusal).await?;
        if told.state.sealed() != Some(&sealed) {
            return self.open_committed(key, told).await;
        }
        Ok(self.opened(key, told, Some(personal)))
    }

    /// A committed gift; `None` when there is none.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn read_gift(&self, key: EntityKey) -> Result<Option<OpenGift>, Problem> {
        match self.look(key).await? {
            Some(told) => self.open(key, told).await.map(Some),
            None => Ok(None),
        }
    }

    /// A committed gift without its personal data.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn peek_gift(&self, key: EntityKey) -> Result<Option<(Version, GiftState)>, Problem> {
        let told = self.look(key).await?.map(existing).transpose()?;
        Ok(told.map(|told| (told.version, told.state)))
    }

    /// The gift behind an earlier reply under this mark; `None` when there is none ([`Shared::earlier`]).
    ///
    /// # Errors
    /// As [`Shared::earlier`].
    pub async fn earlier_gift(&self, key: EntityKey, mark: Mark) -> Result<Option<OpenGift>, Problem> {
        match self.earlier(key, mark).await? {
            Some(told) => self.open_committed(key, told).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens what a command was answered with: it stays committed, though it cannot be opened now.
    async fn open_committed(&self, key: EntityKey, told: Told<GiftState>) -> Result<OpenGift, Problem> {
        self.open(key, told).await.map_err(Problem::past_commit)
    }

    async fn open(&self, key: EntityKey, told: Told<GiftState>) -> Result<OpenGift, Problem> {
        let told = existing(told)?;
        let personal = self.personal(key, &told.state).await?;
        Ok(self.opened(key, told, personal))
    }

    fn opened(&self, key: EntityKey, told: Told<GiftState>, personal: Option<Personal>) -> OpenGift {
        let Told { version, state, replayed } = told;
        OpenGift { key, id: self.door.kinds().format(key), version, state, personal, replayed }
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
}

/// The entity behind an answer exists, or there would be no answer (`GiftState`'s accessors rely on it).
fn existing(told: Told<GiftState>) -> Result<Told<GiftState>, Problem> {
    if told.state.exists() { Ok(told) } else { Err(Problem::new(Code::Internal)) }
}
