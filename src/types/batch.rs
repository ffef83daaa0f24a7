//! A batch: the attempts of several entities of one shard in one call to a provider (ADR-13).
//!
//! What is written down of it before the call is enough to make the very same call again: who its members are, in the
//! order of the call, and a digest of what was to be sent for them.

use crate::types::call::{MessageRequest, Prior};
use crate::types::codec;
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;
use crate::types::time::Millis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One attempt within a batch. An attempt has a slot of its own, so the two name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    pub entity: EntityKey,
    pub slot: Slot,
}

impl Member {
    /// Length of [`Member::to_bytes`].
    pub const LEN: usize = EntityKey::LEN + 2;

    /// Entity, then slot, big-endian: as an index row names it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0u8; Self::LEN];
        bytes[..EntityKey::LEN].copy_from_slice(&self.entity.to_bytes());
        bytes[EntityKey::LEN..].copy_from_slice(&self.slot.0.to_be_bytes());
        bytes
    }
}

/// SHA-256 of what is sent for the members, in order. It tells nothing of persons: each member's part holds the 128
/// random bits of a link, and what has no link is not batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyHash(pub [u8; 32]);

impl BodyHash {
    /// What is known of earlier tries is no part of the message.
    #[must_use]
    pub fn of(requests: &[MessageRequest]) -> Self {
        let mut hash = Sha256::new();
        for request in requests {
            let bare = MessageRequest { prior: Prior::None, ..request.clone() };
            let bytes = codec::encode(&bare);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        Self(hash.finalize().into())
    }
}

/// What is written down before the call of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    /// Whose client makes the call.
    pub provider: String,
    /// The provider's idempotency key, as [`batch_key`] makes it of the members' references.
    pub key: String,
    /// In the order of the call.
    pub members: Vec<Member>,
    pub body: BodyHash,
    /// How long the provider knows the key.
    pub window: Millis,
}

/// Why a batch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closing {
    /// The provider said of each member what became of it.
    Answered,
    /// A lookup found a member: the provider has had the call.
    Taken,
    /// The call was never made.
    NeverSent,
    /// A member is decided, so no call of it takes effect any more, and it cannot be made again as it was.
    GivenUp,
    /// So long after its last try that the provider may have forgotten the key.
    WindowOver,
}

impl Closing {
    /// As timelines name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Taken => "taken",
            Self::NeverSent => "never_sent",
            Self::GivenUp => "given_up",
            Self::WindowOver => "window_over",
        }
    }
}

/// The idempotency key of a call for these references: the reference itself for one, for several a hash over all of
/// them in order, so that the same batch has the same key wherever it is repeated.
#[must_use]
pub fn batch_key(references: &[&str]) -> String {
    match references {
        [one] => (*one).to_owned(),
        many => {
            let mut hash = Sha256::new();
            for reference in many {
                hash.update(reference.as_bytes());
                hash.update([0]);
            }
            hex::encode(hash.finalize())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::call::{Address, Purpose, Template};
    use crate::types::contact::Private;
    use crate::types::effect::Channel;
    use crate::types::ids::EntityKind;
    use crate::types::time::Timestamp;

    fn request(reference: &str, link: &str) -> MessageRequest {
        MessageRequest {
            reference: reference.to_owned(),
            purpose: Purpose::Gift,
            channel: Channel::Kakao,
            template: Template::GiftArrived,
            to: Private(Address::Phone("+821012345678".to_owned())),
            variables: Vec::new(),
            link: Some(Private(link.to_owned())),
            prior: Prior::None,
        }
    }

    #[test]
    fn the_hash_is_of_what_is_sent_and_of_its_order() {
        let (one, two) = (request("g_1.0.1", "a"), request("g_2.0.1", "b"));
        let hash = BodyHash::of(&[one.clone(), two.clone()]);
        assert_ne!(hash, BodyHash::of(&[two.clone(), one.clone()]));
        assert_ne!(hash, BodyHash::of(&[one.clone(), request("g_2.0.1", "c")]));
        let tried = MessageRequest { prior: Prior::Unknown { first_tried_at: Timestamp(9) }, ..two };
        assert_eq!(hash, BodyHash::of(&[one, tried]), "an earlier try changes nothing of what is sent");
    }

    #[test]
    fn a_member_is_named_by_its_entity_and_slot() {
        let entity = EntityKey { kind: EntityKind(1), id: [7; 16] };
        let bytes = Member { entity, slot: Slot(0x4001) }.to_bytes();
        assert_eq!(EntityKey::from_bytes(&bytes[..EntityKey::LEN]), Some(entity));
        assert_eq!(&bytes[EntityKey::LEN..], [0x40, 0x01]);
    }

    #[test]
    fn one_reference_is_its_own_key_and_several_have_one_in_order() {
        assert_eq!(batch_key(&["g_1.0.1"]), "g_1.0.1");
        assert_eq!(batch_key(&["a", "b"]).len(), 64);
        assert_ne!(batch_key(&["a", "b"]), batch_key(&["b", "a"]));
    }
}
