//! Fuzz targets: what a request carries beside its body. List cursors, queries, keys, entity tags, trace ids.

use crate::api::cursor::{CursorScope, Query};
use crate::api::extract::IfMatch;
use crate::api::idempotency::{HEADER, Key};
use crate::api::json::Faults;
use crate::fuzzing::{Target, text_of};
use crate::fuzzing_heap as heap;
use http::{HeaderMap, HeaderValue};

const PLACE: &str = "--lib";
const SCOPE: CursorScope<'static> = CursorScope { secret: &[3; 32], list: "gifts", caller: "u-1" };

#[test]
fn fuzz_list_cursors() {
    let keys: [&[u8]; 3] = [b"", b"key", &[0xff; 60]];
    let own: Vec<String> = keys.iter().map(|key| SCOPE.write(key)).collect();
    let others = [
        CursorScope { caller: "u-2", ..SCOPE }.write(b"key"),
        CursorScope { list: "dead-letters", ..SCOPE }.write(b"key"),
        CursorScope { secret: &[4; 32], ..SCOPE }.write(b"key"),
    ];
    let corpus = own.iter().chain(&others).map(|cursor| cursor.as_bytes().to_vec()).collect();
    let dictionary = ["=", "-", "_", "+", "/", "AAAA", "%00", "é"];
    let target = Target { name: "fuzz_list_cursors", place: PLACE, corpus, dictionary: &dictionary, cases: 20_000 };
    target.run(|input, _| {
        let text = text_of(input);
        let read = heap::modest(input, || SCOPE.read(&text));
        let place = own.iter().position(|cursor| *cursor == text);
        assert_eq!(read.as_deref(), place.map(|place| keys[place]), "only what this list wrote is a cursor");
    });
}

#[test]
fn fuzz_queries() {
    let corpus = crate::fuzzing::lines(include_str!("../../../tests/fuzz/corpus/queries.txt"));
    let dictionary = ["&", "=", "%", "%00", "%ff", "+", "limit=", "cursor=", "status=scheduled", ";", "#"];
    let target = Target { name: "fuzz_queries", place: PLACE, corpus, dictionary: &dictionary, cases: 20_000 };
    target.run(|input, _| {
        let text = text_of(input);
        let faults = Faults::default();
        let limit = heap::modest(input, || {
            let mut query = Query::parse(Some(&text));
            let page = SCOPE.page(query.take("limit").as_deref(), query.take("cursor").as_deref(), &faults);
            query.done(&faults);
            page.limit
        });
        assert!((1..=100).contains(&limit));
        // The faults of any query fit a small reply.
        if let Err(problem) = faults.check() {
            assert!(problem.document("0").to_string().len() < 64 << 10);
        }
    });
}

fn headers(name: &'static str, input: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_bytes(input).ok()?);
    Some(headers)
}

#[test]
fn fuzz_header_values() {
    let values = ["abc", "\"abc\"", r#""a\"b""#, "*", "\"4\"", "\"4\", W/\"5\"", "\"18446744073709551616\"", "4", ""];
    let corpus = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    let dictionary = ["\"", "\\", "W/", ",", " ", "\t", "é", "*", "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"];
    let target = Target { name: "fuzz_header_values", place: PLACE, corpus, dictionary: &dictionary, cases: 20_000 };
    target.run(|input, _| {
        if let Some(Ok(key)) = headers(HEADER, input).map(|headers| heap::modest(input, || Key::from_headers(&headers)))
        {
            let quoted = format!("\"{}\"", key.text().replace('\\', "\\\\").replace('"', "\\\""));
            let again = headers(HEADER, quoted.as_bytes()).map(|headers| Key::from_headers(&headers));
            assert_eq!(again.and_then(Result::ok), Some(key), "quoted it is the same key");
        }
        if let Some(headers) = headers("if-match", input) {
            let _read = heap::modest(input, || IfMatch::from_headers(&headers));
        }
        if let Some(headers) = headers("authorization", input) {
            let key = crate::api::auth::TokenKey::new(&super::KEY_BYTES).unwrap();
            assert!(key.caller(&headers).is_err());
        }
    });
}
