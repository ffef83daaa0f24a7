//! SMTP on the wire, against a scripted relay.

use super::{is_unknown, provider_of, receipt};
use crate::providers::settings::{ProvidersConfig, SmtpTls};
use crate::providers::testing::{DEADLINE, TINY, gift_mail};
use crate::providers::{LookupAnswer, MessageProvider};
use crate::types::call::{Address, MessageOutcome, RefusalClass};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the relay answers to a command that begins so. An empty answer closes the connection, `hold` never answers.
type Script = Vec<(&'static str, &'static str)>;

struct Relay {
    addr: String,
    /// Every line of every connection; a connection begins with `*`.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(dialogue(stream, script.clone(), Arc::clone(&seen)));
            }
        });
        Self { addr, lines }
    }
    fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
    fn smtp(&self) -> Arc<dyn MessageProvider> {
        provider_of(&ProvidersConfig::sandbox("http://127.0.0.1:1", &self.addr), Channel::Email).0
    }
}

async fn dialogue(stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<String>>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    seen.lock().push("*".to_owned());
    let mut in_body = false;
    write.write_all(b"220 relay ESMTP\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        seen.lock().push(line.clone());
        if in_body && line != "." {
            continue;
        }
        let scripted = script.iter().find(|(start, _)| line.starts_with(start)).map(|(_, answer)| *answer);
        let answer = scripted.unwrap_or_else(|| match line.split(' ').next() {
            Some("EHLO") => "250-relay\r\n250-8BITMIME\r\n250 PIPELINING",
            Some("DATA") => "354 go on",
            Some(".") => "250 2.0.0 queued as 4711",
            Some("QUIT") => "221 bye",
            _ => "250 ok",
        });
        in_body = line == "DATA" && answer.starts_with("354");
        match answer {
            "" => return,
            "hold" => std::future::pending().await,
            answer => write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap(),
        }
    }
}

fn refused(code: &str, class: RefusalClass) -> MessageOutcome {
    MessageOutcome::Refused { code: code.to_owned(), class }
}

async fn outcome(script: Script) -> MessageOutcome {
    Relay::start(script).await.smtp().send(&[gift_mail("g_1.1.1")], DEADLINE).await.remove(0)
}

#[tokio::test]
async fn a_mail_is_handed_over_with_its_reference() {
    let relay = Relay::start(Vec::new()).await;
    let smtp = relay.smtp();
    let outcomes = smtp.send(&[gift_mail("g_1.1.1")], DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "2.0.0 queued as 4711");
    let lines = relay.lines();
    assert_eq!(
        lines[1..5],
        ["EHLO bojagi.example", "MAIL FROM:<gift@bojagi.example>", "RCPT TO:<mina@example.com>", "DATA"]
    );
    for header in [
        "Message-ID: <g_1.1.1@bojagi.example>",
        "X-Bojagi-Reference: g_1.1.1",
        "X-Bojagi-Purpose: gift",
        "To: mina@example.com",
        "Date: Thu, 24 Dec 2026 15:00:00 +0000",
    ] {
        assert!(lines.iter().any(|line| line == header), "{header} in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("Subject: =?utf-8?b?")));
    let kinds = lines.iter().filter(|line| line.starts_with("Content-Type: text/")).count();
    assert_eq!(kinds, 2, "text and HTML");
}

#[tokio::test]
async fn a_connection_is_kept_and_a_dead_one_replaced() {
    let relay = Relay::start(Vec::new()).await;
    let smtp = relay.smtp();
    for reference in ["g_1.1.1", "g_2.1.1"] {
        assert!(matches!(smtp.send(&[gift_mail(reference)], DEADLINE).await[0], MessageOutcome::Accepted { .. }));
    }
    assert_eq!(relay.lines().iter().filter(|line| *line == "*").count(), 1);
    // This relay closes when the second mail begins on the same connection.
    let relay = Relay::start(vec![(".", "250 queued\r\n421 closing")]).await;
    let smtp = relay.smtp();
    for reference in ["g_1.1.1", "g_2.1.1"] {
        assert!(matches!(smtp.send(&[gift_mail(reference)], DEADLINE).await[0], MessageOutcome::Accepted { .. }));
    }
    assert_eq!(relay.lines().iter().filter(|line| *line == "*").count(), 2);
}

#[tokio::test]
async fn a_reply_is_always_definite() {
    assert_eq!(outcome(vec![("RCPT", "550 5.1.1 no such user")]).await, refused("550", RefusalClass::NextChannel));
    assert_eq!(outcome(vec![("RCPT", "450 4.2.1 busy")]).await, refused("450", RefusalClass::Retry));
    assert_eq!(outcome(vec![("MAIL", "553 sender not allowed")]).await, refused("553", RefusalClass::Permanent));
    assert_eq!(outcome(vec![("DATA", "451 later")]).await, refused("451", RefusalClass::Retry));
    assert_eq!(outcome(vec![(".", "554 spam")]).await, refused("554", RefusalClass::Permanent));
    assert_eq!(outcome(vec![(".", "452 full")]).await, refused("452", RefusalClass::Retry));
}

#[tokio::test]
async fn silence_is_definite_before_the_body_and_unknown_after_it() {
    for before in ["EHLO", "MAIL", "RCPT", "DATA"] {
        let outcome = outcome(vec![(before, "")]).await;
        assert_eq!(outcome, refused("not_connected", RefusalClass::Retry), "{before}");
    }
    assert!(is_unknown(&outcome(vec![(".", "")]).await), "the body may have been taken");
    let held = Relay::start(vec![(".", "hold")]).await;
    assert!(is_unknown(&held.smtp().send(&[gift_mail("g_1.1.1")], TINY).await[0]));
    let held = Relay::start(vec![("DATA", "hold")]).await;
    let outcomes = held.smtp().send(&[gift_mail("g_1.1.1")], TINY).await;
    assert_eq!(outcomes[0], refused("not_connected", RefusalClass::Retry));
}

#[tokio::test]
async fn nobody_there_and_a_bad_address_are_definite() {
    let (smtp, _) = provider_of(&ProvidersConfig::sandbox("http://127.0.0.1:1", "127.0.0.1:1"), Channel::Email);
    let mut bad = gift_mail("g_2.1.1");
    bad.to = Private(Address::Email("nobody".to_owned()));
    let outcomes = smtp.send(&[gift_mail("g_1.1.1"), bad], DEADLINE).await;
    assert_eq!(outcomes[0], refused("not_connected", RefusalClass::Retry));
    assert_eq!(outcomes[1], refused("address", RefusalClass::NextChannel));
    assert!(matches!(smtp.lookup(&gift_mail("g_1.1.1"), TINY).await, LookupAnswer::Unknown { .. }));
}

#[tokio::test]
async fn nothing_is_sent_without_the_starttls_that_is_asked_for() {
    let relay = Relay::start(Vec::new()).await;
    let mut config = ProvidersConfig::sandbox("http://127.0.0.1:1", &relay.addr);
    config.smtp.as_mut().unwrap().tls = SmtpTls::Starttls;
    let (smtp, _) = provider_of(&config, Channel::Email);
    let outcomes = smtp.send(&[gift_mail("g_1.1.1")], DEADLINE).await;
    assert_eq!(outcomes[0], refused("not_connected", RefusalClass::Retry));
    assert!(!relay.lines().iter().any(|line| line.starts_with("MAIL")));
}
