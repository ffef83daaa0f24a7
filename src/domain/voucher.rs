//! Secrets of a gift: the voucher code for the till and the token of the recipient's link.
//!
//! Random digits are inputs, drawn by the shell from the system's CSPRNG. Both carry the shard, so that a node finds
//! the gift's shard without asking around; an index holds only their keyed hashes. Neither is ever printed by `Debug`.

use crate::types::ids::ShardId;
use crate::types::limits::SHARDS_MAX;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// Digits of a code: 3 of the shard, 12 random, 1 check digit (Luhn).
pub const CODE_DIGITS: usize = 16;
/// Characters of a token: 3 digits of the shard, 32 hexadecimal digits.
pub const TOKEN_CHARS: usize = 35;
const RANDOM_DIGITS_RANGE: u128 = 1_000_000_000_000;

/// A voucher code with a right check digit.
#[derive(Clone, PartialEq, Eq)]
pub struct VoucherCode(String);

/// The token of a recipient's link.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkToken(String);

macro_rules! secret {
    ($name:ident, $label:literal) => {
        impl $name {
            /// The text itself; only for sealing, messages and the page.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }
            /// The shard that knows it.
            ///
            /// # Panics
            /// Never: construction checked the digits.
            #[must_use]
            pub fn shard(&self) -> ShardId {
                ShardId(self.0[..3].parse().expect("three digits, checked at construction"))
            }
            /// The key of its index row: HMAC-SHA256 under the cluster's secret, 16 bytes.
            ///
            /// # Panics
            /// Never: HMAC takes keys of any length.
            #[must_use]
            pub fn hash(&self, cluster_secret: &[u8; 32]) -> [u8; 16] {
                let mut mac = Hmac::<Sha256>::new_from_slice(cluster_secret).expect("HMAC takes any key length");
                mac.update($label.as_bytes());
                mac.update(self.0.as_bytes());
                let digest = mac.finalize().into_bytes();
                let mut key = [0u8; 16];
                key.copy_from_slice(&digest[..16]);
                key
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(<private>)"))
            }
        }
    };
}
secret!(VoucherCode, "code");
secret!(LinkToken, "link");

impl VoucherCode {
    /// Composes a code. The 128 random bits are reduced to 12 digits; the bias is below 2^-88.
    ///
    /// # Panics
    /// When the shard is above [`SHARDS_MAX`], which no cluster has.
    #[must_use]
    pub fn compose(shard: ShardId, random: [u8; 16]) -> Self {
        assert!(shard.0 <= SHARDS_MAX, "a shard has at most three digits");
        let digits = u128::from_be_bytes(random) % RANDOM_DIGITS_RANGE;
        let body = format!("{:03}{digits:012}", shard.0);
        let check = luhn_check_digit(&body);
        Self(format!("{body}{check}"))
    }

    /// Parses what a till read or a person typed: 16 digits, spaces and hyphens between them do not count.
    /// `None` when it is no code, so that a typing error costs no look-up.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).take(CODE_DIGITS + 1).collect();
        let well_formed = digits.len() == CODE_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        if !well_formed {
            return None;
        }
        let (body, check) = digits.split_at(CODE_DIGITS - 1);
        (luhn_check_digit(body).to_string() == check).then(|| Self(digits.clone()))
    }
}

impl LinkToken {
    /// Composes a token of the shard and 128 random bits.
    ///
    /// # Panics
    /// When the shard is above [`SHARDS_MAX`], which no cluster has.
    #[must_use]
    pub fn compose(shard: ShardId, random: [u8; 16]) -> Self {
        assert!(shard.0 <= SHARDS_MAX, "a shard has at most three digits");
        Self(format!("{:03}{}", shard.0, hex::encode(random)))
    }

    /// `None` when it is no token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (shard, random) = text.split_at_checked(3)?;
        let well_formed = text.len() == TOKEN_CHARS
            && shard.bytes().all(|b| b.is_ascii_digit())
            && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        well_formed.then(|| Self(text.to_owned()))
    }
}

/// The digit that makes the sum of ISO/IEC 7812-1 annex B a multiple of ten. `body` holds ASCII digits only.
fn luhn_check_digit(body: &str) -> u32 {
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0');
            let weighed = if at % 2 == 0 { digit * 2 } else { digit };
            weighed / 10 + weighed % 10
        })
        .sum();
    (10 - sum % 10) % 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_digit_is_luhns() {
        // ISO/IEC 7812-1 and the well-known card test numbers.
        assert_eq!(luhn_check_digit("7992739871"), 3);
        assert_eq!(luhn_check_digit("411111111111111"), 1);
    }

    #[test]
    fn code_and_token_have_their_documented_form() {
        let code = VoucherCode::compose(ShardId(7), 123_456_789_012u128.to_be_bytes());
        assert_eq!(code.expose(), "0071234567890123");
        assert_eq!(VoucherCode::parse("0071 2345-6789 0123"), Some(code.clone()));
        let token = LinkToken::compose(ShardId(63), [0xab; 16]);
        assert_eq!(token.expose(), format!("063{}", "ab".repeat(16)));
        assert_eq!(token.shard(), ShardId(63));
        assert_eq!(format!("{code:?} {token:?}"), "VoucherCode(<private>) LinkToken(<private>)");
        // The same text under the two labels must not meet in an index.
        assert_ne!(code.hash(&[1; 32]), LinkToken(code.expose().to_owned()).hash(&[1; 32]));
        assert_ne!(code.hash(&[1; 32]), code.hash(&[2; 32]));
    }

    #[test]
    fn what_is_no_token_or_code_is_refused() {
        let good = format!("001{}", "0f".repeat(16));
        assert!(LinkToken::parse(&good).is_some());
        for text in ["", "001", &good[1..], &format!("{good}0"), &good.replace('f', "F"), &good.replace("001", "0x1")] {
            assert_eq!(LinkToken::parse(text), None, "{text}");
        }
        for text in ["", "0071234567890125", "007123456789012", "00712345678901244", "٠٠٧١٢٣٤٥٦٧٨٩٠١٢٤"]
        {
            assert_eq!(VoucherCode::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_code_parses_and_no_single_wrong_digit_does(
            shard in 0u16..=999, random: [u8; 16], at in 0usize..16, shift in 1u8..10,
        ) {
            let code = VoucherCode::compose(ShardId(shard), random);
            prop_assert_eq!(code.expose().len(), CODE_DIGITS);
            prop_assert_eq!(code.shard(), ShardId(shard));
            prop_assert_eq!(VoucherCode::parse(code.expose()), Some(code.clone()));
            let mut wrong = code.expose().as_bytes().to_vec();
            wrong[at] = b'0' + (wrong[at] - b'0' + shift) % 10;
            prop_assert_eq!(VoucherCode::parse(std::str::from_utf8(&wrong).unwrap()), None);
        }
    }
}
