//! The mail server, spoken to by a real client and by hand.

use crate::common::Bench;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

fn mail(to: &str) -> Message {
    let mut mail = Message::builder()
        .message_id(Some("<g_1.0.3@bojagi>".to_owned()))
        .from("보자기 <gift@bojagi.example>".parse().unwrap())
        .to(to.parse().unwrap())
        .subject("지민님, 선물이 도착했어요")
        .body("생일 축하해! 🎁\nhttp://127.0.0.1:8080/g/1\n.점으로 시작\n".to_owned())
        .unwrap();
    let name = HeaderName::new_from_ascii_str("X-Bojagi-Reference");
    mail.headers_mut().insert_raw(HeaderValue::new(name, "g_1.0.3".to_owned()));
    mail
}

async fn send(bench: &Bench, to: &str) -> Result<(), lettre::transport::smtp::Error> {
    let addr = bench.handle().smtp_addr();
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(addr.ip().to_string()).port(addr.port());
    transport.build::<Tokio1Executor>().send(mail(to)).await.map(|_| ())
}

/// Speaks each line and returns the last reply line to it; nothing when the server hung up.
async fn by_hand(bench: &Bench, lines: &[String]) -> Vec<String> {
    let mut stream = BufReader::new(TcpStream::connect(bench.handle().smtp_addr()).await.unwrap());
    let mut replies = Vec::new();
    let mut lines = lines.iter();
    loop {
        let mut reply = String::new();
        while stream.read_line(&mut reply).await.unwrap_or(0) > 0 {
            if reply.as_bytes().get(3) == Some(&b' ') {
                break;
            }
            reply.clear();
        }
        let ended = reply.is_empty();
        replies.push(reply.trim_end().to_owned());
        let Some(line) = lines.next().filter(|_| !ended) else { return replies };
        stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test]
async fn real_client_delivers_a_mail() {
    let bench = Bench::start();
    send(&bench, "jimin@example.com").await.unwrap();
    let item = bench.item("g_1.0.3").await;
    assert_eq!(
        (&item["provider"], &item["channel"], &item["to"]),
        (&json!("smtp"), &json!("email"), &json!("jimin@example.com"))
    );
    assert_eq!(item["text"], "지민님, 선물이 도착했어요\n생일 축하해! 🎁\nhttp://127.0.0.1:8080/g/1\n.점으로 시작");
    assert_eq!(bench.counts("g_1.").await, (1, 1));
}

#[tokio::test]
async fn refusals_are_permanent_or_transient_as_they_should_be() {
    let bench = Bench::start();
    assert!(send(&bench, "bounce@example.com").await.unwrap_err().is_permanent());
    assert!(send(&bench, "greylist@example.com").await.unwrap_err().is_transient());
    assert!(send(&bench, "full@example.com").await.unwrap_err().is_permanent());
    assert_eq!(bench.counts("g_1.").await, (1, 0));
    bench.fault(r#"{"provider":"smtp","kind":"rate_limit"}"#).await;
    assert!(send(&bench, "jimin@example.com").await.unwrap_err().is_transient());
    assert_eq!(bench.counts("g_1.").await, (2, 0));
}

#[tokio::test]
async fn dropped_reply_was_a_mail_and_down_is_a_closed_door() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"smtp","kind":"accept_then_drop"}"#).await;
    let lost = send(&bench, "jimin@example.com").await.unwrap_err();
    assert!(!lost.is_permanent() && !lost.is_transient(), "{lost}");
    assert_eq!(bench.counts("g_1.").await, (1, 1));
    bench.clear_faults().await;
    bench.fault(r#"{"provider":"smtp","kind":"down"}"#).await;
    assert!(by_hand(&bench, &[]).await[0].starts_with("421"));
}

#[tokio::test]
async fn protocol_is_kept_by_hand() {
    let bench = Bench::start();
    let spoken = lines(&[
        "MAIL FROM:<a@b>",
        "EHLO me",
        "NONSENSE",
        "RCPT TO:<x@y>",
        "mail from:<a@b> SIZE=99999999",
        "MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME",
        "DATA",
        "RCPT TO:<x@y>",
        "DATA",
        "Message-ID: <g_2.0.1@h>\r\n\r\n..dot\r\n.",
        "RSET",
        "QUIT",
    ]);
    let replies = by_hand(&bench, &spoken).await;
    let codes: Vec<&str> = replies.iter().map(|reply| &reply[..3]).collect();
    assert_eq!(codes, ["220", "503", "250", "500", "503", "552", "250", "503", "250", "354", "250", "250", "221"]);
    assert_eq!(bench.item("g_2.").await["text"], ".dot");
}

#[tokio::test]
async fn oversized_mail_is_refused_and_the_session_goes_on() {
    let bench = Bench::start();
    let big = format!(
        "X: y\r\n\r\n{}.",
        "x".repeat(1_000).repeat(1_100).as_bytes().chunks(1_000).fold(String::new(), |mut text, line| {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push_str("\r\n");
            text
        })
    );
    let spoken =
        lines(&["EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<x@y>", "DATA", &big, "NOOP", &"y".repeat(10_000), "QUIT"]);
    let replies = by_hand(&bench, &spoken).await;
    let codes: Vec<&str> = replies.iter().map(|reply| &reply[..3]).collect();
    assert_eq!(codes, ["220", "250", "250", "250", "354", "552", "250", "500", "221"]);
    assert_eq!(bench.get("/ledger/summary").await["messages"]["requests"], 0);
}
