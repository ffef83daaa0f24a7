//! What callers carry: link tokens, voucher codes, bearer tokens.

use crate::engine::{Target, lines, text_of};
use crate::{PLACE, heap};
use bojagi::api::auth::{Role, TokenKey};
use bojagi::domain::voucher::{CODE_DIGITS, LinkToken, TOKEN_CHARS, VoucherCode};
use bojagi::types::ids::ShardId;
use bojagi::types::limits::SHARDS_MAX;

#[test]
fn link_tokens() {
    let sound = [LinkToken::compose(ShardId(0), [0; 16]), LinkToken::compose(ShardId(998), [0xfe; 16])];
    let corpus = sound.iter().map(|token| token.expose().as_bytes().to_vec()).collect();
    let dictionary = ["0", "f", "F", "-", "%30", "\0", "é", "٣", "０", "999"];
    Target { name: "link_tokens", place: PLACE, corpus, dictionary: &dictionary, cases: 20_000 }.run(|input, _| {
        let text = text_of(input);
        let Some(token) = heap::modest(input, || LinkToken::parse(&text)) else { return };
        assert_eq!((token.expose(), text.len()), (text.as_str(), TOKEN_CHARS), "a token has one spelling");
        assert!(token.shard().0 <= SHARDS_MAX);
        assert!(!format!("{token:?}").contains(&text), "a token is never printed");
        let other = LinkToken::parse(&sound[0].expose().replace('0', "1")).unwrap();
        assert_eq!(token.hash(&[7; 32]) == other.hash(&[7; 32]), token == other);
    });
}

#[test]
fn voucher_codes() {
    let sound = [VoucherCode::compose(ShardId(0), [0; 16]), VoucherCode::compose(ShardId(7), [0x99; 16])];
    let mut corpus: Vec<Vec<u8>> = sound.iter().map(|code| code.expose().as_bytes().to_vec()).collect();
    corpus.push(b"0071 2345 6789 0124".to_vec());
    let dictionary = ["-", " ", "0", "9", "\0", "٣", "０", "0000000000000000"];
    Target { name: "voucher_codes", place: PLACE, corpus, dictionary: &dictionary, cases: 20_000 }.run(|input, _| {
        let text = text_of(input);
        let Some(code) = heap::modest(input, || VoucherCode::parse(&text)) else { return };
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        assert_eq!((code.expose(), digits.len()), (digits.as_str(), CODE_DIGITS));
        assert_eq!(VoucherCode::parse(code.expose()).as_ref(), Some(&code));
        assert!(code.shard().0 <= SHARDS_MAX);
        // One wrong digit is always seen.
        let mut wrong = code.expose().as_bytes().to_vec();
        wrong[5] = b'0' + (wrong[5] - b'0' + 1) % 10;
        assert_eq!(VoucherCode::parse(&text_of(&wrong)), None);
    });
}

#[test]
fn bearer_tokens() {
    let key = TokenKey::new(&[1; 32]).unwrap();
    let other = TokenKey::new(&[2; 32]).unwrap();
    let year = 365 * 86_400;
    let sound: Vec<String> = [("u-1", Role::User), ("op-1", Role::Operator), ("지민", Role::Merchant)]
        .into_iter()
        .map(|(subject, role)| key.mint(subject, role, year).unwrap())
        .collect();
    let mut corpus: Vec<Vec<u8>> = sound.iter().map(|token| token.as_bytes().to_vec()).collect();
    corpus.push(other.mint("u-1", Role::Operator, year).unwrap().into_bytes());
    corpus.extend(lines(include_str!("corpus/tokens.txt")));
    let dictionary = [
        ".",
        "..",
        "=",
        "eyJhbGciOiJub25lIn0",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJIUzUxMiJ9",
        "eyJhbGciOiJSUzI1NiJ9",
        "e30",
        "null",
        "\0",
        "é",
    ];
    Target { name: "bearer_tokens", place: PLACE, corpus, dictionary: &dictionary, cases: 4_000 }.run(|input, _| {
        let text = text_of(input);
        let caller = heap::modest(input, || key.check(&text));
        assert_eq!(caller.is_ok(), sound.contains(&text), "nothing but what was signed is taken");
    });
}
