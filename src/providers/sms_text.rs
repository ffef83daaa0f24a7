//! SMS or LMS: a text is measured in EUC-KR bytes, and what carriers cannot show is replaced or refused.
//!
//! `encoding_rs::EUC_KR` is windows-949 and turns what it cannot encode into `&#…;`, so every character is checked.
//! A symbol or an emoji without a counterpart is left out; a letter of a foreign script loses its accents; a letter
//! that still has no counterpart makes the text unreadable and is a refusal (Solapi's 1029).

use encoding_rs::EUC_KR;
use unicode_normalization::UnicodeNormalization;

/// Bytes of an SMS.
const SMS_BYTES_MAX: usize = 90;
/// Bytes of an LMS title.
const SUBJECT_BYTES_MAX: usize = 40;
/// Bytes of an LMS body.
const LMS_BYTES_MAX: usize = 2_000;
/// A character is outside EUC-KR.
const NOT_EUC_KR: &str = "1029";
/// Too long even for LMS.
const TOO_LONG: &str = "1031";

/// A text that a Korean carrier takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SmsText {
    Sms { text: String },
    Lms { subject: String, text: String },
}

/// Chooses the shortest kind that holds the text. SMS has no title.
///
/// # Errors
/// The code that Solapi would refuse the text with.
pub(crate) fn choose(subject: &str, text: &str) -> Result<SmsText, &'static str> {
    let text = encodable(text)?;
    match bytes(&text) {
        0 => Err(NOT_EUC_KR),
        1..=SMS_BYTES_MAX => Ok(SmsText::Sms { text }),
        length if length <= LMS_BYTES_MAX => Ok(SmsText::Lms { subject: shorten(&encodable(subject)?), text }),
        _ => Err(TOO_LONG),
    }
}

/// EUC-KR bytes of an encodable text.
fn bytes(text: &str) -> usize {
    EUC_KR.encode(text).0.len()
}

fn is_encodable(character: char) -> bool {
    let mut buffer = [0u8; 4];
    !EUC_KR.encode(character.encode_utf8(&mut buffer)).2
}

fn encodable(text: &str) -> Result<String, &'static str> {
    let composed: String = text.nfc().collect();
    if !EUC_KR.encode(&composed).2 {
        return Ok(composed);
    }
    let mut kept = String::with_capacity(composed.len());
    for character in composed.chars() {
        if is_encodable(character) {
            kept.push(character);
            continue;
        }
        match counterpart(character) {
            Some(counterpart) => kept.push_str(&counterpart),
            None if character.is_alphanumeric() => return Err(NOT_EUC_KR),
            None => {}
        }
    }
    Ok(kept)
}

fn counterpart(character: char) -> Option<String> {
    match character {
        '\u{2010}'..='\u{2014}' | '\u{2212}' => return Some("-".to_owned()),
        '\u{00a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' => return Some(" ".to_owned()),
        _ => {}
    }
    let bases: String = character.nfkd().filter(|part| is_encodable(*part)).collect();
    (!bases.is_empty()).then_some(bases)
}

fn shorten(subject: &str) -> String {
    let mut kept = String::new();
    for character in subject.chars() {
        kept.push(character);
        if bytes(&kept) > SUBJECT_BYTES_MAX {
            kept.pop();
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sms(text: &str) -> SmsText {
        SmsText::Sms { text: text.to_owned() }
    }

    #[test]
    fn forty_five_syllables_are_an_sms_and_one_more_byte_an_lms() {
        let text = "가".repeat(45);
        assert_eq!(choose("제목", &text), Ok(sms(&text)));
        let text = format!("{text}a");
        assert_eq!(choose("제목", &text), Ok(SmsText::Lms { subject: "제목".to_owned(), text: text.clone() }));
    }

    #[test]
    fn a_title_is_cut_at_forty_bytes_between_characters() {
        let text = "a".repeat(91);
        let Ok(SmsText::Lms { subject, .. }) = choose(&format!("a{}", "가".repeat(30)), &text) else { panic!() };
        assert_eq!(subject, format!("a{}", "가".repeat(19)));
    }

    #[test]
    fn two_thousand_bytes_are_the_end() {
        assert!(matches!(choose("s", &"a".repeat(2_000)), Ok(SmsText::Lms { .. })));
        assert_eq!(choose("s", &"a".repeat(2_001)), Err(TOO_LONG));
    }

    #[test]
    fn emoji_go_accents_fold_and_unreadable_letters_refuse() {
        assert_eq!(choose("s", "축하🎉해 👨‍👩‍👧 — Nguyễn"), Ok(sms("축하해  - Nguyen")));
        assert_eq!(choose("s", "สมชาย님 선물"), Err(NOT_EUC_KR));
        assert_eq!(choose("s", "🎉🎉"), Err(NOT_EUC_KR));
    }

    #[test]
    fn decomposed_hangul_is_composed_and_windows_949_syllables_stay() {
        let decomposed: String = "한글".nfd().collect();
        assert_eq!(choose("s", &decomposed), Ok(sms("한글")));
        assert_eq!(choose("s", "똠뷁"), Ok(sms("똠뷁")));
    }
}
