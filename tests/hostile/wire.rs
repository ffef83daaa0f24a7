//! HTTP itself as a weapon: slow, huge, ambiguous and odd requests, and crowds of connections, at a production node.

use crate::raw::{Heard, Serve, ask, connect, dribble, exchange, healthy, until_closed};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const SHORT: &str = "header_s = 1\nbody_s = 1\nidle_s = 2\nrequest_s = 5";

#[test]
fn slow_heads_slow_bodies_and_idle_sockets_are_cut() {
    let node = Serve::start(SHORT);
    let cut = |first: &[u8], piece: &[u8]| {
        let mut stream = connect(&node.address);
        stream.write_all(first).unwrap();
        dribble(&mut stream, piece)
    };
    std::thread::scope(|scope| {
        for first in ["GET /healthz HTTP/1.1\r\n", "P", "PRI * HTTP/2.0\r\n", "\r\n", "POST /v1/gifts HT"] {
            scope.spawn(move || {
                let heard = cut(first.as_bytes(), b"A: b\r\n");
                assert!(!heard.text().contains(" 200 "), "{first:?}: {}", heard.text());
            });
        }
        scope.spawn(|| {
            let head = "POST /v1/gifts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
            let heard = cut(format!("{head}Content-Length: 10000\r\n\r\n{{").as_bytes(), b" ");
            assert_eq!(heard.one().problem(408), "request_timeout");
            let heard = cut(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), b"1\r\n \r\n");
            assert_eq!(heard.one().problem(408), "request_timeout");
        });
        scope.spawn(|| assert_eq!(until_closed(&mut connect(&node.address)).0, b"", "a silent socket"));
        scope.spawn(|| {
            let mut stream = connect(&node.address);
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(until_closed(&mut stream).one().status, 200, "a socket that falls silent");
        });
        scope.spawn(|| {
            let mut stream = connect(&node.address);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            // Frames of settings come; a 200 in text would not.
            assert!(!until_closed(&mut stream).text().contains("HTTP/1.1 200"), "a silent HTTP/2 connection");
        });
        scope.spawn(|| {
            let mut stream = connect(&node.address);
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(!until_closed(&mut stream).text().contains(" 200 "), "half a head is no request");
        });
    });
    healthy(&node.address);
}

#[test]
fn heads_and_bodies_beyond_their_bounds_are_refused_before_they_are_read() {
    let node = Serve::start(SHORT);
    let status = |heard: &Heard| heard.answers().first().map_or(0, |answer| answer.status);
    let head_bombs = [
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(300_000)),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(200)),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "a=b; ".repeat(20_000)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(60_000)),
        format!("GET /v1/gifts?{} HTTP/1.1\r\nHost: x\r\n\r\n", "limit=1&".repeat(10_000)),
        format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "G".repeat(60_000)),
    ];
    for bomb in head_bombs {
        let heard = exchange(&node.address, bomb.as_bytes());
        assert!([400, 414, 431].contains(&status(&heard)), "{}: {}", &bomb[..40], heard.text());
    }
    let post = "POST /v1/gifts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let big = "x".repeat(1_900_000);
    let heard = exchange(&node.address, format!("{post}Content-Length: {}\r\n\r\n{big}", big.len()).as_bytes());
    assert_eq!(heard.one().problem(413), "payload_too_large");
    let heard = exchange(
        &node.address,
        format!("{post}Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n").as_bytes(),
    );
    assert_eq!(heard.one().problem(413), "payload_too_large", "a declared length alone is enough");
    let chunk = "x".repeat(20_000);
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    assert_eq!(exchange(&node.address, chunked.as_bytes()).one().problem(413), "payload_too_large");
    let lying = format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx");
    assert_ne!(status(&exchange(&node.address, lying.as_bytes())), 200);
    // A compressed body is not opened, so it cannot be a bomb.
    let squeezed = format!("{post}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x08\0\0\0");
    let answer = exchange(&node.address, squeezed.as_bytes()).one();
    assert!((400..500).contains(&answer.status), "{answer:?}");
    healthy(&node.address);
}

/// What a front server that reads the framing in the other way would take for the next caller's request.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: hidden\r\n\r\n";

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_heard() {
    let node = Serve::start(SHORT);
    let framings = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\ncontent-LENGTH: 5\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length : 5\r\n",
    ];
    let targets = ["POST /v1/gifts", "GET /healthz", "POST /nothing/here", "DELETE /healthz"];
    for framing in framings {
        for target in targets {
            let request = format!("{target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n0\r\n\r\n{HIDDEN}{HIDDEN}");
            let heard = exchange(&node.address, request.as_bytes());
            let answer = heard.one();
            assert!([400, 501].contains(&answer.status), "{target} {framing:?}: {}", heard.text());
        }
    }
    healthy(&node.address);
}

#[test]
fn heads_that_break_the_grammar_are_refused() {
    let node = Serve::start(SHORT);
    let heads: [&[&str]; 9] = [
        &["GET /healthz HTTP/1.1", "Connection: close"],
        &["GET /healthz HTTP/1.1", "Host: a", "Host: b", "Connection: close"],
        &["GET /healthz HTTP/1.1", "Host: x", "A\0B: c", "Connection: close"],
        &["GET /healthz HTTP/1.1", "Host: x", "A: b\0c", "Connection: close"],
        &["GET /healthz HTTP/1.1", "Host: x", "no colon", "Connection: close"],
        &["GET /healthz HTTP/1.1", "Host: x", ": empty", "Connection: close"],
        &["GET  /healthz HTTP/1.1", "Host: x", "Connection: close"],
        &["GET /healthz HTTP/3.7", "Host: x", "Connection: close"],
        &["GET /health z HTTP/1.1", "Host: x", "Connection: close"],
    ];
    for head in heads {
        let heard = ask(&node.address, head, "");
        assert!([400, 505].contains(&heard.one().status), "{head:?}: {}", heard.text());
    }
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"SSH-2.0-x\r\n\r\n"] {
        assert!(!exchange(&node.address, garbage).text().contains(" 200 "));
    }
    healthy(&node.address);
}

#[test]
fn pipelined_requests_are_answered_in_order_each_by_itself() {
    let node = Serve::start(SHORT);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut requests: String = (0..100).map(|number| one(&format!("/healthz?n={number}"))).collect();
    requests += &one("/nothing/here");
    requests += &one("/v1/gifts");
    requests += "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    requests += &one("/healthz");
    let statuses: Vec<u16> =
        exchange(&node.address, requests.as_bytes()).answers().iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [vec![200; 100], vec![404, 401, 200]].concat(), "nothing after a close is heard");
}

#[test]
fn methods_are_what_they_are_and_no_other_origin_is_let_in() {
    let node = Serve::start(SHORT);
    let close = ["Host: x", "Connection: close"];
    for method in ["DELETE", "TRACE", "OPTIONS", "PUT", "BREW", "get", "CONNECT"] {
        let answer = ask(&node.address, &[&format!("{method} /healthz HTTP/1.1"), close[0], close[1]], "").one();
        if method != "CONNECT" {
            assert_eq!(answer.problem(405), "method_not_allowed", "{method}");
            assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
        }
        assert!((400..500).contains(&answer.status), "{method}: {answer:?}");
        assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
    }
    // An override is not heard: a POST stays a POST, a GET a GET.
    let overrides = ["X-HTTP-Method-Override: GET", "X-HTTP-Method: GET", "X-Method-Override: GET"];
    for header in overrides {
        let lines = ["POST /healthz?_method=GET HTTP/1.1", close[0], close[1], header, "Content-Length: 0"];
        assert_eq!(ask(&node.address, &lines, "").one().problem(405), "method_not_allowed");
    }
    let preflight = [
        "OPTIONS /v1/gifts HTTP/1.1",
        close[0],
        close[1],
        "Origin: https://evil.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization",
    ];
    let answer = ask(&node.address, &preflight, "").one();
    assert_eq!(answer.problem(405), "method_not_allowed");
    let get = ["GET /v1/gifts HTTP/1.1", close[0], close[1], "Origin: https://evil.example"];
    for answer in [answer, ask(&node.address, &get, "").one()] {
        assert!(!answer.head.to_ascii_lowercase().contains("access-control-"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn paths_that_climb_or_hide_lead_nowhere() {
    let node = Serve::start(SHORT);
    let key = bojagi::app::token_key(&crate::raw::JWT_KEY);
    let bearer = |role| format!("Authorization: Bearer {}", key.mint("u-1", role, 60).unwrap());
    let operator = bearer(bojagi::api::auth::Role::Operator);
    let user = bearer(bojagi::api::auth::Role::User);
    let paths = [
        "/v1/gifts/../../healthz",
        "/v1/gifts/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/gifts/%2e%2e%2f%2e%2e",
        "/v1/gifts/%00",
        "/v1/gifts/%ff%fe",
        "/v1/gifts/g_%ff",
        "/v1/gifts/g_00000000000000000000000000000000%00",
        "/v1/gifts/G_00000000000000000000000000000000",
        "/v1/gifts/g_00000000000000000000000000000000/",
        "/v1/gifts/g_00000000000000000000000000000000/events/",
        "/v1//gifts",
        "//v1/gifts",
        "/v1/gifts;role=operator",
        "/V1/gifts",
        "/v1/ops/products/..%2f..%2fcluster",
        "/v1/ops/products/%ff",
        "/v1/ops/gifts/%ff/erasure",
        "/v1/ops/backup/shards/-1/rows",
        "/v1/ops/backup/shards/99999/rows",
        "/v1/ops/backup/shards/%ff/rows",
        "/v1/links/%ff",
        "/v1/shows/%ff/queue/x",
        "/v1/shows/x/queue/%ff",
        "/v1/shows/%ff/queue/x/stream",
        "/v1/orders/%ff/notices",
        "/v1/coupon-campaigns/%ff/stream",
        "/v1/ops/wallets/%ff/erasure",
        "/v1/links/..%2f..%2fv1%2fops%2fcluster",
        "/healthz/",
        "/./healthz",
        "/metrics/../v1/ops/cluster",
        "/v1/dev/clock",
        "/v1/dev/links/g_00000000000000000000000000000000",
    ];
    for path in paths {
        let token = if path.contains("/ops/") { &operator } else { &user };
        let line = format!("GET {path} HTTP/1.1");
        let answer = ask(&node.address, &[&line, "Host: x", "Connection: close", token], "").one();
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
        answer.problem(answer.status);
    }
    // The page is for people, so its refusal is a page.
    for path in ["/g/%ff", "/g/..%2f", "/g/<script>alert(1)</script>", "/g/%3Cscript%3E"] {
        let line = format!("GET {path} HTTP/1.1");
        let answer = ask(&node.address, &[&line, "Host: x", "Connection: close"], "").one();
        assert!([400, 404].contains(&answer.status) && !answer.body.contains("<script>alert"), "{path}: {answer:?}");
    }
    for target in ["http://evil.example/healthz", "*", "evil.example:443", "/healthz#x"] {
        let answer = ask(&node.address, &[&format!("GET {target} HTTP/1.1"), "Host: x", "Connection: close"], "").one();
        assert!(answer.status < 500, "{target}: {answer:?}");
    }
}

/// Open sockets that say nothing, or next to nothing.
fn crowd(address: &str, count: usize) -> Vec<TcpStream> {
    let beginnings: [&[u8]; 4] =
        [b"", b"GET /healthz HTTP/1.1\r\n", b"P", b"POST /v1/gifts HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"];
    let mut crowd: Vec<TcpStream> = (0..count).map(|_| connect(address)).collect();
    for (stream, beginning) in crowd.iter_mut().zip(beginnings.iter().cycle()) {
        stream.write_all(beginning).unwrap();
    }
    crowd
}

#[test]
fn a_crowd_of_idle_sockets_does_not_keep_a_good_caller_out() {
    let node = Serve::start("connections_max = 520\nheader_s = 60\nbody_s = 60\nidle_s = 60");
    let crowd = crowd(&node.address, 500);
    for _ in 0..20 {
        healthy(&node.address);
        let list = ask(&node.address, &["GET /v1/gifts HTTP/1.1", "Host: x", "Connection: close"], "");
        assert_eq!(list.one().problem(401), "unauthenticated");
    }
    // Beyond the cap a caller is told so at once, and the others stay.
    let more: Vec<TcpStream> = (0..20).map(|_| connect(&node.address)).collect();
    let full = loop {
        let mut stream = connect(&node.address);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let answer = until_closed(&mut stream).one();
        if answer.status == 503 {
            break answer;
        }
    };
    assert_eq!(full.header("retry-after"), Some("1"));
    drop(more);
    loop {
        let mut stream = connect(&node.address);
        let _refused = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut first = [0u8; 12];
        if stream.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1 200" {
            break;
        }
    }
    drop(crowd);
    healthy(&node.address);
}
