//! Text that people typed: normalised to NFC, bounded in what a person counts (grapheme clusters) and in bytes, and
//! free of characters that control a terminal or turn the reading direction.

use crate::types::limits::{MESSAGE_BYTES_MAX, MESSAGE_GRAPHEMES_MAX, NAME_BYTES_MAX, NAME_GRAPHEMES_MAX};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Why a text is refused. `code` is stable for the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    #[error("is empty")]
    Empty,
    #[error("has more than {max} characters")]
    TooManyCharacters { max: usize },
    #[error("has more than {max} bytes")]
    TooManyBytes { max: usize },
    #[error("contains the character U+{code:04X}, which is not allowed", code = u32::from(*character))]
    ForbiddenCharacter { character: char },
}

impl TextFault {
    /// Stable code of the fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "required",
            Self::TooManyCharacters { .. } => "too_long",
            Self::TooManyBytes { .. } => "too_many_bytes",
            Self::ForbiddenCharacter { .. } => "forbidden_character",
        }
    }
}

/// Bounds of one kind of text.
#[derive(Clone, Copy, Debug)]
pub struct TextRule {
    pub graphemes_max: usize,
    pub bytes_max: usize,
    /// Line feeds and tabs are kept, CR LF becomes LF.
    pub multi_line: bool,
    pub may_be_empty: bool,
}

/// The sender's words.
pub const MESSAGE: TextRule = TextRule {
    graphemes_max: MESSAGE_GRAPHEMES_MAX,
    bytes_max: MESSAGE_BYTES_MAX,
    multi_line: true,
    may_be_empty: true,
};
/// Names of people and of products.
pub const NAME: TextRule =
    TextRule { graphemes_max: NAME_GRAPHEMES_MAX, bytes_max: NAME_BYTES_MAX, multi_line: false, may_be_empty: false };

impl TextRule {
    /// The text in NFC; one-line texts are trimmed.
    ///
    /// # Errors
    /// The first [`TextFault`], bytes before anything that costs more.
    pub fn check(&self, text: &str) -> Result<String, TextFault> {
        // Bounds the work before normalisation, which may only shorten what is within the bound by a factor of 3.
        if text.len() > self.bytes_max.saturating_mul(3) {
            return Err(TextFault::TooManyBytes { max: self.bytes_max });
        }
        let unified = text.replace("\r\n", "\n");
        let trimmed = if self.multi_line { unified.as_str() } else { unified.trim() };
        if let Some(character) = trimmed.chars().find(|c| self.forbids(*c)) {
            return Err(TextFault::ForbiddenCharacter { character });
        }
        let normal: String = trimmed.nfc().collect();
        if !self.may_be_empty && normal.chars().all(is_invisible) {
            return Err(TextFault::Empty);
        }
        if normal.graphemes(true).count() > self.graphemes_max {
            return Err(TextFault::TooManyCharacters { max: self.graphemes_max });
        }
        if normal.len() > self.bytes_max {
            return Err(TextFault::TooManyBytes { max: self.bytes_max });
        }
        Ok(normal)
    }

    fn forbids(&self, character: char) -> bool {
        if self.multi_line && matches!(character, '\n' | '\t') {
            return false;
        }
        character.is_control() || turns_direction(character) || is_separator(character)
    }
}

/// Marks and overrides of the reading direction, with which a text can be made to look like another one.
fn turns_direction(character: char) -> bool {
    matches!(character, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Line and paragraph separators, the byte order mark and annotation marks.
fn is_separator(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

/// Takes no room by itself: a name made of these alone is empty. Joiners stay allowed, as emoji need them.
fn is_invisible(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{00AD}' | '\u{3164}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_counts_what_a_person_counts() {
        let family = "👨‍👩‍👧‍👦"; // seven code points, one cluster
        assert_eq!(family.chars().count(), 7);
        assert_eq!(MESSAGE.check(&"가".repeat(500)).unwrap().graphemes(true).count(), 500);
        assert_eq!(MESSAGE.check(&"가".repeat(501)), Err(TextFault::TooManyCharacters { max: 500 }));
        assert!(MESSAGE.check(&family.repeat(100)).is_ok());
        // 500 of them are within the count but not within 4 KB.
        assert_eq!(MESSAGE.check(&family.repeat(400)), Err(TextFault::TooManyBytes { max: 4096 }));
    }

    #[test]
    fn decomposed_hangul_is_composed() {
        let decomposed = "\u{1112}\u{1161}\u{11AB}";
        assert_eq!(NAME.check(decomposed).unwrap(), "한");
        // Three times the bytes, yet within the count once composed.
        assert_eq!(MESSAGE.check(&decomposed.repeat(400)).unwrap(), "한".repeat(400));
    }

    #[test]
    fn control_and_direction_characters_are_refused() {
        for character in ['\u{0}', '\u{1b}', '\u{7f}', '\u{85}', '\u{202E}', '\u{2066}', '\u{200F}', '\u{2028}'] {
            let text = format!("a{character}b");
            assert_eq!(NAME.check(&text), Err(TextFault::ForbiddenCharacter { character }));
            assert_eq!(MESSAGE.check(&text), Err(TextFault::ForbiddenCharacter { character }));
        }
        assert_eq!(MESSAGE.check("a\r\nb\tc").unwrap(), "a\nb\tc");
        assert_eq!(NAME.check("a\nb"), Err(TextFault::ForbiddenCharacter { character: '\n' }));
    }

    #[test]
    fn names_are_trimmed_and_never_empty() {
        assert_eq!(NAME.check("  지민 ").unwrap(), "지민");
        assert_eq!(NAME.check(" \u{200B}\u{200D} "), Err(TextFault::Empty));
        assert_eq!(NAME.check(&"a".repeat(51)), Err(TextFault::TooManyCharacters { max: 50 }));
        assert_eq!(MESSAGE.check("").unwrap(), "");
    }
}
