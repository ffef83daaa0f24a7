//! Addresses in the configuration: what `serve` refuses to start with, and what a provider's reply cannot make it do.

use crate::raw::{self, JWT_KEY, Serve, configuration, run};
use crate::support::free_address;
use bojagi::api::auth::Role;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// What the node says when it does not start; panics when it does.
fn complaint(change: impl Fn(String) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    let sound = configuration(folder.path(), &free_address(), "http://127.0.0.1:9");
    let text = change(sound.clone());
    assert_ne!(text, sound, "the change changed nothing");
    let (mut node, log) = run(folder.path(), &text);
    assert!(!node.says("Bojagi serves."), "it started with\n{text}");
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn addresses_that_are_none_are_refused_at_start_by_name() {
    let base_urls = [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1:70/",
        "127.0.0.1:9",
        "//127.0.0.1:9",
        "http://",
        "javascript:alert(1)",
        "http://user:password@127.0.0.1:9",
        "http://127.0.0.1:9/?key=x",
        "http://127.0.0.1:9/#x",
        "",
    ];
    for url in base_urls {
        let said =
            complaint(|text| text.replacen("base_url = \"http://127.0.0.1:9\"", &format!("base_url = \"{url}\""), 1));
        assert!(said.contains("base URL") && !said.contains("password"), "{url}: {said}");
    }
    let public_urls = [
        "javascript:alert(1)",
        "gift.example",
        "//gift.example",
        "https://",
        "https://user@gift.example",
        "https://gift.example/?next=",
        "https://gift.example/#",
        "https://gift.example/a b",
        "ftp://gift.example",
        "",
    ];
    for url in public_urls {
        let said = complaint(|text| text.replacen("https://gift.example", url, 1));
        assert!(said.contains("node.public_url"), "{url}: {said}");
    }
}

#[test]
fn settings_that_would_leave_a_door_open_or_shut_are_refused_at_start_by_name() {
    let with = |line: &str| complaint(|text| format!("{text}\n[limits]\n{line}\n"));
    for name in ["connections_max", "requests_max", "streams_max", "header_s", "body_s", "idle_s", "request_s"] {
        let said = with(&format!("{name} = 0"));
        assert!(said.contains(&format!("limits.{name}")), "{said}");
    }
    for line in
        ["caller_per_s = 0.0", "caller_per_s = -1.0", "caller_per_s = nan", "caller_burst = 0.5", "caller_burst = inf"]
    {
        let said = with(line);
        assert!(said.contains(&format!("limits.{}", line.split(' ').next().unwrap())), "{said}");
    }
    let said = complaint(|text| text.replacen("secret_key = {", "secret_key = \"sk_live\" #", 1));
    assert!(!said.contains("sk_live"), "a secret is never said: {said}");
    for key in ["", "abcd", "zz"] {
        let said = complaint(|text| {
            let start = text.find("jwt_key = {").unwrap();
            let end = start + text[start..].find('\n').unwrap();
            let folder = std::path::Path::new(text[start..end].split('"').nth(1).unwrap()).parent().unwrap().to_owned();
            let short = raw::secret(&folder, "short", key);
            format!("{}jwt_key = {short}{}", &text[..start], &text[end..])
        });
        assert!(said.contains("auth.jwt_key"), "{said}");
    }
}

/// Answers every request with a redirect; tells of each.
fn redirecting(to: String) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (told, to) = (told.clone(), to.clone());
            std::thread::spawn(move || {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.is_empty() {
                    return;
                }
                let _over = told.send(line);
                let reply = format!(
                    "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _gone = stream.write_all(reply.as_bytes());
            });
        }
    });
    (address, heard)
}

#[test]
fn a_providers_redirect_is_not_followed_to_another_host() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let trapped = Arc::new(AtomicUsize::new(0));
    let counted = trapped.clone();
    let inner = format!("http://{}/latest/meta-data/", trap.local_addr().unwrap());
    std::thread::spawn(move || {
        trap.incoming().for_each(|_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    });
    let (provider, heard) = redirecting(inner);
    let node = Serve::with("", &format!("http://{provider}"));
    let base = format!("http://{}", node.address);
    let key = bojagi::app::token_key(&JWT_KEY);
    let bearer = |role, sub| key.mint(sub, role, 600).unwrap();
    let client = reqwest::blocking::Client::new();
    let product = json!({"name": "Americano", "price": {"value": 4500, "currency": "KRW"}});
    let put = client.put(format!("{base}/v1/ops/products/americano")).bearer_auth(bearer(Role::Operator, "op-1"));
    assert!(put.json(&product).send().unwrap().status().is_success());
    #[allow(clippy::disallowed_methods, reason = "a production node runs on the wall clock")]
    let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let body = json!({"product_id": "americano", "recipient": {"name": "지민", "phone": "010-1234-5678"},
        "channels": ["kakao"], "send_at": {"instant": in_an_hour.to_string()},
        "payment": {"method": "card", "payment_key": "../../../evil"}});
    let post = client.post(format!("{base}/v1/gifts")).bearer_auth(bearer(Role::User, "u-1"));
    let reply = post.header("Idempotency-Key", "one").json(&body).send().unwrap();
    assert_eq!(reply.status().as_u16(), 201, "{}", reply.text().unwrap());
    // Two calls: by the second, the first one's redirect has been read.
    for _call in 0..2 {
        let line = heard.recv_timeout(Duration::from_secs(60)).expect("the payment provider is called");
        assert!(line.contains(" /v1/payments"), "{line}");
        assert!(!line.contains(".."), "no path is made of a caller's text: {line}");
    }
    assert_eq!(trapped.load(Ordering::SeqCst), 0, "the redirect was followed");
}
