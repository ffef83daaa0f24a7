//! The personal part of a gift: sealed under the gift's own key, opened only to render a call or a page.
//! Never part of an event, a state or a log in the clear.

use crate::types::call::Address;
use crate::types::effect::Channel;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything of a gift that names or reaches a person, and its secrets. Encoded with `types::codec`, then sealed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    pub recipient: RecipientContact,
    pub sender: SenderContact,
    /// The sender's words, up to 500 grapheme clusters.
    pub message: String,
    /// Base of the recipient's link without a trailing slash, as `https://gift.example`.
    pub link_base: String,
    pub link_token: String,
    /// 16 digits.
    pub voucher_code: String,
    /// The payment provider's key of the payment.
    pub payment_key: String,
}

/// Who gets the gift.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientContact {
    pub name: String,
    /// E.164.
    pub phone: Option<String>,
    pub kakao_id: Option<String>,
    pub email: Option<String>,
    pub push_token: Option<String>,
}

/// Who gives it. All optional: without any, notices go to the topic of the owner.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderContact {
    pub name: Option<String>,
    /// E.164.
    pub phone: Option<String>,
    pub push_token: Option<String>,
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(<private>)"))
            }
        }
    )*};
}
redacted!(Personal, RecipientContact, SenderContact);

impl Personal {
    /// The recipient's link, `https://gift.example/g/<token>`.
    #[must_use]
    pub fn link(&self) -> String {
        format!("{}/g/{}", self.link_base, self.link_token)
    }
}

impl RecipientContact {
    /// Which contacts exist.
    #[must_use]
    pub fn contacts(&self) -> ContactSet {
        ContactSet {
            phone: self.phone.is_some(),
            kakao: self.kakao_id.is_some(),
            email: self.email.is_some(),
            push: self.push_token.is_some(),
        }
    }
    /// Where a channel reaches this person. Alimtalk is addressed by phone number.
    #[must_use]
    pub fn address(&self, channel: Channel) -> Option<Address> {
        match channel {
            Channel::Kakao | Channel::Sms => self.phone.clone().map(Address::Phone),
            Channel::Email => self.email.clone().map(Address::Email),
            Channel::Push => self.push_token.clone().map(Address::Push),
        }
    }
}

impl SenderContact {
    /// Which contacts exist.
    #[must_use]
    pub fn contacts(&self) -> ContactSet {
        ContactSet { phone: self.phone.is_some(), kakao: false, email: false, push: self.push_token.is_some() }
    }
    /// Where a channel reaches the sender; push without a token goes to the topic of the owner.
    #[must_use]
    pub fn address(&self, channel: Channel, owner: &str) -> Option<Address> {
        match channel {
            Channel::Kakao | Channel::Sms => self.phone.clone().map(Address::Phone),
            Channel::Email => None,
            Channel::Push => Some(Address::Push(self.push_token.clone().unwrap_or_else(|| topic_of(owner)))),
        }
    }
}

/// The push topic of a user. FCM allows `[a-zA-Z0-9-_.~%]` in a topic, the rest is percent-encoded.
#[must_use]
pub fn topic_of(owner: &str) -> String {
    let mut topic = String::from("/topics/u-");
    for byte in owner.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            topic.push(char::from(byte));
        } else {
            topic.push_str(&format!("%{byte:02X}"));
        }
    }
    topic
}

/// Which contacts of a person exist; says nothing about what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactSet {
    pub phone: bool,
    pub kakao: bool,
    pub email: bool,
    pub push: bool,
}

impl ContactSet {
    /// Whether a channel can reach the person at all.
    #[must_use]
    pub fn reaches(self, channel: Channel) -> bool {
        match channel {
            Channel::Kakao | Channel::Sms => self.phone,
            Channel::Email => self.email,
            Channel::Push => self.push,
        }
    }
    /// The channels of a gift that names none, in the order in which they are tried.
    #[must_use]
    pub fn default_channels(self) -> Vec<Channel> {
        Channel::ALL.into_iter().filter(|channel| self.reaches(*channel)).collect()
    }
    /// The channels of notices to a sender: push first (a topic needs no contact), then by phone.
    #[must_use]
    pub fn sender_channels(self) -> Vec<Channel> {
        match (self.push, self.phone) {
            (true, true) => vec![Channel::Push, Channel::Kakao, Channel::Sms],
            (false, true) => vec![Channel::Kakao, Channel::Sms],
            (true | false, false) => vec![Channel::Push],
        }
    }
}
