//! Contacts: redaction, so that personal data cannot be printed by accident, and the parsing of phones, e-mail
//! addresses and Kakao ids. What a contact is printed as is its mask; the value itself has to be asked for by name.

use crate::types::text::{NAME, TextFault};
use serde::{Deserialize, Serialize};
use std::fmt;
use unicode_segmentation::UnicodeSegmentation;

/// Wraps personal data; `Debug` prints a placeholder, there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Private<T>(pub T);

impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<private>")
    }
}

/// Why a contact is refused. `code` is stable for the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContactFault {
    #[error("is not a Korean mobile number (010) nor a number in E.164 form (+ and country code)")]
    NotAPhone,
    #[error("is a Korean number that cannot receive messages: mobile numbers start with 010")]
    NotAMobile,
    #[error("is not an e-mail address")]
    NotAnEmail,
    #[error("is not a Kakao id")]
    NotAKakaoId,
    #[error("{0}")]
    Text(TextFault),
}

impl ContactFault {
    /// Stable code of the fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAPhone => "invalid_phone",
            Self::NotAMobile => "not_a_mobile_phone",
            Self::NotAnEmail => "invalid_email",
            Self::NotAKakaoId => "invalid_kakao_id",
            Self::Text(fault) => fault.code(),
        }
    }
}

macro_rules! contact {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub struct $name(String);
        impl $name {
            /// The value itself; never for a log.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }
            /// The value itself; never for a log.
            #[must_use]
            pub fn into_exposed(self) -> String {
                self.0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(<private>)"))
            }
        }
    };
}

contact! {
    /// A phone that can receive messages, in E.164: `+821012345678`.
    Phone
}
contact! {
    /// An e-mail address, ASCII, domain in lower case.
    Email
}
contact! {
    /// A person's name, NFC, 1 to 50 grapheme clusters.
    PersonName
}
contact! {
    /// A Kakao id as a Kakao login knows it.
    KakaoId
}

/// Characters of a phone number as people write it, at most.
const PHONE_CHARS_MAX: usize = 32;
/// Bytes of an e-mail address and of its local part, at most (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;
const EMAIL_LOCAL_BYTES_MAX: usize = 64;
/// Bytes of a Kakao id, at most.
const KAKAO_ID_BYTES_MAX: usize = 64;

impl Phone {
    /// Parses `010-1234-5678` and its likes as Korean, and anything with a leading `+` as E.164.
    ///
    /// # Errors
    /// [`ContactFault::NotAPhone`] or, for Korean numbers other than 010, [`ContactFault::NotAMobile`].
    pub fn parse(text: &str) -> Result<Self, ContactFault> {
        let text = text.trim();
        let allowed = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | ' ' | '.' | '(' | ')');
        if text.is_empty() || text.chars().count() > PHONE_CHARS_MAX || !text.chars().all(allowed) {
            return Err(ContactFault::NotAPhone);
        }
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        match text.strip_prefix('+') {
            Some(rest) if rest.contains('+') => Err(ContactFault::NotAPhone),
            Some(_) => match digits.strip_prefix("82") {
                Some(national) => Self::korean(national.strip_prefix('0').unwrap_or(national)),
                None => Self::international(&digits),
            },
            None if text.contains('+') => Err(ContactFault::NotAPhone),
            None => match digits.strip_prefix('0') {
                Some(national) => Self::korean(national),
                None => Err(ContactFault::NotAPhone),
            },
        }
    }

    /// `national` without its leading zero. The rule is ours, as metadata still takes retired 011 numbers for
    /// mobiles: mobile is 010 and eight digits.
    fn korean(national: &str) -> Result<Self, ContactFault> {
        match national.strip_prefix("10") {
            Some(subscriber) if subscriber.len() == 8 => Ok(Self(format!("+8210{subscriber}"))),
            Some(_) => Err(ContactFault::NotAPhone),
            None if (7..=11).contains(&national.len()) => Err(ContactFault::NotAMobile),
            None => Err(ContactFault::NotAPhone),
        }
    }

    fn international(digits: &str) -> Result<Self, ContactFault> {
        let number = phonenumber::parse(None, format!("+{digits}")).map_err(|_| ContactFault::NotAPhone)?;
        if !phonenumber::is_valid(&number) {
            return Err(ContactFault::NotAPhone);
        }
        Ok(Self(number.format().mode(phonenumber::Mode::E164).to_string()))
    }

    /// `010-****-5678`, or `+1********34` abroad.
    #[must_use]
    pub fn masked(&self) -> String {
        mask_phone(&self.0)
    }
}

/// The mask of a phone in E.164.
#[must_use]
pub fn mask_phone(e164: &str) -> String {
    match e164.strip_prefix("+8210") {
        Some(subscriber) if subscriber.len() == 8 && subscriber.is_ascii() => format!("010-****-{}", &subscriber[4..]),
        Some(_) | None => {
            let count = e164.chars().count();
            let hide = |(at, c): (usize, char)| if at < 2 || at + 2 >= count { c } else { '*' };
            e164.chars().enumerate().map(hide).collect()
        }
    }
}

/// `지*` for `지민`: the first character, then one star for each of the others, at most three.
#[must_use]
pub fn mask_name(name: &str) -> String {
    let mut clusters = name.graphemes(true);
    let first = clusters.next().unwrap_or("");
    match clusters.count() {
        0 => "*".to_owned(),
        others => format!("{first}{}", "*".repeat(others.min(3))),
    }
}

/// `j***@example.com`.
#[must_use]
pub fn mask_email(email: &str) -> String {
    match email.split_once('@') {
        Some((local, domain)) => format!("{}***@{domain}", local.chars().next().unwrap_or('*')),
        None => "***".to_owned(),
    }
}

impl Email {
    /// Parses an address of the plain form `local@domain`; quoted local parts, comments, literals and non-ASCII
    /// addresses are refused, as mail that we send would not reach them reliably.
    ///
    /// # Errors
    /// [`ContactFault::NotAnEmail`].
    pub fn parse(text: &str) -> Result<Self, ContactFault> {
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or(ContactFault::NotAnEmail)?;
        if text.len() > EMAIL_BYTES_MAX || !is_local_part(local) || !is_domain(domain) {
            return Err(ContactFault::NotAnEmail);
        }
        Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase())))
    }
    /// `j***@example.com`.
    #[must_use]
    pub fn masked(&self) -> String {
        mask_email(&self.0)
    }
}

fn is_local_part(local: &str) -> bool {
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    local.len() <= EMAIL_LOCAL_BYTES_MAX && local.split('.').all(|part| !part.is_empty() && part.chars().all(atom))
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = domain.rsplit('.').next().unwrap_or("");
    domain.contains('.') && domain.split('.').all(label) && last.len() >= 2 && !last.bytes().all(|b| b.is_ascii_digit())
}

impl PersonName {
    /// # Errors
    /// [`ContactFault::Text`].
    pub fn parse(text: &str) -> Result<Self, ContactFault> {
        NAME.check(text).map(Self).map_err(ContactFault::Text)
    }
    /// `지*` for `지민`.
    #[must_use]
    pub fn masked(&self) -> String {
        mask_name(&self.0)
    }
}

impl KakaoId {
    /// # Errors
    /// [`ContactFault::NotAKakaoId`].
    pub fn parse(text: &str) -> Result<Self, ContactFault> {
        let text = text.trim();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-@+".contains(&b);
        if text.is_empty() || text.len() > KAKAO_ID_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(ContactFault::NotAKakaoId);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(text: &str) -> Result<String, ContactFault> {
        Phone::parse(text).map(Phone::into_exposed)
    }

    #[test]
    fn korean_mobiles_are_taken_in_every_usual_form() {
        for text in ["010-1234-5678", "01012345678", " 010 1234 5678 ", "+82 10-1234-5678", "+82 (0)10 1234 5678"] {
            assert_eq!(phone(text).unwrap(), "+821012345678", "{text}");
        }
    }

    #[test]
    fn korean_numbers_other_than_010_are_not_mobiles() {
        for text in ["011-234-5678", "02-1234-5678", "+82 2 1234 5678", "031-123-4567", "070-1234-5678"] {
            assert_eq!(phone(text), Err(ContactFault::NotAMobile), "{text}");
        }
        for text in ["010-1234-567", "010-1234-56789", "1012345678", "010-1234-567a", "", "+", "0", "٠١٠١٢٣٤٥٦٧٨"]
        {
            assert_eq!(phone(text), Err(ContactFault::NotAPhone), "{text}");
        }
    }

    #[test]
    fn foreign_numbers_need_a_plus_and_have_to_exist() {
        assert_eq!(phone("+1 202-456-1111").unwrap(), "+12024561111");
        assert_eq!(phone("+81 90-1234-5678").unwrap(), "+819012345678");
        for text in ["+1 202", "+999 12345678", "+1+2024561111", "2024561111", "++12024561111"] {
            assert_eq!(phone(text), Err(ContactFault::NotAPhone), "{text}");
        }
    }

    #[test]
    fn contacts_print_as_masks_only() {
        let phone = Phone::parse("010-1234-5678").unwrap();
        assert_eq!(format!("{phone:?}"), "Phone(<private>)");
        assert_eq!(phone.masked(), "010-****-5678");
        assert_eq!(Phone::parse("+12024561111").unwrap().masked(), "+1********11");
        assert_eq!(PersonName::parse("지민").unwrap().masked(), "지*");
        assert_eq!(PersonName::parse("Alexandra").unwrap().masked(), "A***");
        assert_eq!(PersonName::parse("김").unwrap().masked(), "*");
        assert_eq!(Email::parse("jimin@Example.COM").unwrap().masked(), "j***@example.com");
        assert_eq!(format!("{:?}", Private("x")), "<private>");
    }

    #[test]
    fn email_addresses_that_mail_reaches_are_taken() {
        for text in ["a@b.kr", "a.b+c@x-y.example", "o'brien@example.co.kr"] {
            assert!(Email::parse(text).is_ok(), "{text}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for text in ["", "a", "@b.kr", "a@", "a@b", "a@-b.kr", "a..b@c.kr", ".a@b.kr", "a b@c.kr", "a@b.1", "지@b.kr"]
        {
            assert_eq!(Email::parse(text), Err(ContactFault::NotAnEmail), "{text}");
        }
        assert_eq!(Email::parse(&long), Err(ContactFault::NotAnEmail));
        assert_eq!(Email::parse("a@b.kr\r\nBcc: x@y.kr"), Err(ContactFault::NotAnEmail));
    }

    #[test]
    fn kakao_ids_are_short_and_plain() {
        assert_eq!(KakaoId::parse(" jimin_01 ").unwrap().expose(), "jimin_01");
        for text in ["", "a b", "지민", &"a".repeat(65)] {
            assert_eq!(KakaoId::parse(text), Err(ContactFault::NotAKakaoId));
        }
    }
}
