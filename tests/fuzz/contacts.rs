//! What people type: phones, addresses, ids, names, messages. What is taken is in its one spelling.

use crate::engine::{Target, lines, text_of};
use crate::{PLACE, heap};
use bojagi::types::contact::{Email, KakaoId, PersonName, Phone};
use bojagi::types::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use bojagi::types::text::MESSAGE;

const DICTIONARY: [&str; 22] = [
    "+82",
    "010",
    "(0)",
    "-",
    " ",
    "+",
    "@",
    "..",
    "\r\nBcc: x@y.kr",
    "\0",
    "\u{202e}",
    "\u{200b}",
    "\u{feff}",
    "é",
    "\u{1112}\u{1161}\u{11AB}",
    "👨‍👩‍👧‍👦",
    "\u{0301}",
    "ﷺ",
    "\u{1D15E}",
    "٠١",
    "\u{2028}",
    ";ext=1",
];

#[test]
fn contacts() {
    let corpus = lines(include_str!("corpus/contacts.txt"));
    Target { name: "contacts", place: PLACE, corpus, dictionary: &DICTIONARY, cases: 8_000 }.run(|input, _| {
        let text = text_of(input);
        if let Ok(phone) = heap::modest(input, || Phone::parse(&text)) {
            assert_eq!(Phone::parse(phone.expose()).as_ref(), Ok(&phone), "{}", phone.expose());
            let digits = phone.expose().strip_prefix('+').expect("E.164 begins with a plus");
            assert!((5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
            assert!(phone.masked().contains('*'));
        }
        if let Ok(email) = heap::modest(input, || Email::parse(&text)) {
            assert_eq!(Email::parse(email.expose()).as_ref(), Ok(&email));
            assert!(email.expose().bytes().all(|b| b.is_ascii_graphic()), "no header can be made of it");
        }
        if let Ok(id) = KakaoId::parse(&text) {
            assert_eq!(KakaoId::parse(id.expose()).as_ref(), Ok(&id));
        }
        if let Ok(name) = heap::modest(input, || PersonName::parse(&text)) {
            assert_eq!(PersonName::parse(name.expose()).as_ref(), Ok(&name));
            assert!(name.expose().len() <= NAME_BYTES_MAX && !name.expose().chars().any(char::is_control));
            assert!(name.masked().contains('*'));
        }
        if let Ok(message) = heap::modest(input, || MESSAGE.check(&text)) {
            assert_eq!(MESSAGE.check(&message).as_ref(), Ok(&message));
            assert!(message.len() <= MESSAGE_BYTES_MAX);
        }
    });
}
