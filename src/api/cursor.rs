//! Pages of lists: `?limit=` and an opaque, sealed-in-shape `?cursor=`.
//!
//! A cursor is the index key to go on after, behind a tag that binds it to its list and caller: one that was edited,
//! or taken from another list, is a fault and not a strange page.

use crate::api::idempotency::keyed_digest;
use crate::api::json::Faults;
use crate::types::limits::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

/// Bytes of the tag before the index key.
const TAG_BYTES: usize = 8;
/// Longest cursor that is looked at, in characters.
const CURSOR_CHARS_MAX: usize = 512;

/// One page as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageAsk {
    /// 1 to 100.
    pub limit: usize,
    /// Index key to go on after.
    pub after: Option<Vec<u8>>,
}

/// What a cursor is good for.
#[derive(Clone, Copy, Debug)]
pub struct CursorScope<'a> {
    pub secret: &'a [u8; 32],
    /// The list, with whatever narrows it.
    pub list: &'a str,
    pub caller: &'a str,
}

impl CursorScope<'_> {
    /// The cursor that goes on after `key`.
    #[must_use]
    pub fn write(&self, key: &[u8]) -> String {
        let mut bytes = self.tag(key).to_vec();
        bytes.extend_from_slice(key);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The index key of a cursor of this list and caller.
    #[must_use]
    pub fn read(&self, cursor: &str) -> Option<Vec<u8>> {
        if cursor.len() > CURSOR_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (tag, key) = bytes.split_at_checked(TAG_BYTES)?;
        bool::from(self.tag(key).ct_eq(tag)).then(|| key.to_vec())
    }

    fn tag(&self, key: &[u8]) -> [u8; TAG_BYTES] {
        let parts: [&[u8]; 5] = [self.list.as_bytes(), b"\0", self.caller.as_bytes(), b"\0", key];
        let digest = keyed_digest(self.secret, b"cursor\0", &parts);
        digest[..TAG_BYTES].try_into().expect("the digest has 16 bytes")
    }

    /// Reads both parameters; every fault is noted.
    #[must_use]
    pub fn page(&self, limit: Option<&str>, cursor: Option<&str>, faults: &Faults) -> PageAsk {
        let limit = match limit {
            None => PAGE_ITEMS_DEFAULT,
            Some(text) => parse_limit(text).unwrap_or_else(|| {
                faults.add("/limit", "out_of_range", format!("A whole number from 1 to {PAGE_ITEMS_MAX}."));
                PAGE_ITEMS_DEFAULT
            }),
        };
        let after = cursor.and_then(|text| {
            let key = self.read(text);
            if key.is_none() {
                faults.add("/cursor", "invalid_cursor", "This is not a cursor of this list.");
            }
            key
        });
        PageAsk { limit, after }
    }
}

fn parse_limit(text: &str) -> Option<usize> {
    if text.is_empty() || text.len() > 3 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|limit| (1..=PAGE_ITEMS_MAX).contains(limit))
}

/// Query parameters of a request. A name that is unknown or given twice is a fault.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Splits a query string; `%`-escapes are decoded.
    #[must_use]
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = url_pairs(query.unwrap_or(""));
        Self { pairs }
    }

    /// Takes a parameter out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let position = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.remove(position).1)
    }

    /// Names whatever nobody took.
    pub fn done(self, faults: &Faults) {
        for (name, _) in self.pairs {
            let cut: String = name.chars().take(64).collect();
            faults.add(format!("/{cut}"), "unknown_parameter", "There is no such parameter, or it is given twice.");
        }
    }
}

fn url_pairs(query: &str) -> Vec<(String, String)> {
    let split = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => (percent_decode(name), percent_decode(value)),
        None => (percent_decode(pair), String::new()),
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

/// Decodes `%XX` and `+`; what is not UTF-8 afterwards is replaced, and then matches nothing.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match (bytes[at], escape.and_then(|digits| hex::decode(digits).ok())) {
            (_, Some(byte)) => {
                decoded.extend(byte);
                at += 3;
            }
            (b'+', None) => {
                decoded.push(b' ');
                at += 1;
            }
            (byte, None) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: CursorScope<'static> = CursorScope { secret: &[3; 32], list: "gifts", caller: "u-1" };

    #[test]
    fn a_cursor_is_good_for_its_own_list_and_caller_only() {
        let cursor = SCOPE.write(b"key");
        assert_eq!(SCOPE.read(&cursor), Some(b"key".to_vec()));
        assert_eq!(CursorScope { caller: "u-2", ..SCOPE }.read(&cursor), None);
        assert_eq!(CursorScope { list: "dead", ..SCOPE }.read(&cursor), None);
        let mut edited = cursor.clone();
        edited.push('A');
        for bad in [edited.as_str(), "", "!!", "AAAA", &"A".repeat(2000)] {
            assert_eq!(SCOPE.read(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_run_from_1_to_100() {
        let page = |limit| {
            let faults = Faults::default();
            let page = SCOPE.page(Some(limit), None, &faults);
            (!faults.any_at("")).then_some(page.limit)
        };
        assert_eq!(page("1"), Some(1));
        assert_eq!(page("100"), Some(100));
        for bad in ["0", "101", "-1", "1e2", "", "99999999999999999999", "abc"] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }

    #[test]
    fn queries_decode_and_name_strangers() {
        let mut query = Query::parse(Some("status=a%20b+c&limit=1&limit=2&x"));
        assert_eq!(query.take("status").as_deref(), Some("a b c"));
        assert_eq!(query.take("limit").as_deref(), Some("1"));
        let faults = Faults::default();
        query.done(&faults);
        assert!(faults.any_at("/limit") && faults.any_at("/x"));
    }
}
