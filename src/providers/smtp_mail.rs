//! The bytes of a mail: text and HTML, Korean subject, and ids that follow from the reference alone, so that the same
//! attempt always has the same Message-ID. SMTP itself does not dedupe by it; mail clients and people can.

use super::templates::Rendered;
use crate::types::call::MessageRequest;
use crate::types::time::Timestamp;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, MultiPartBuilder, SinglePart};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

/// What the Message-ID is made of: `<reference@domain>`.
pub(crate) struct Ids<'a> {
    pub reference: &'a str,
    pub domain: &'a str,
}

/// A composed mail and whom it is for.
pub(crate) struct Mail {
    pub envelope: Envelope,
    pub bytes: Vec<u8>,
}

/// `None`: the address is not one.
pub(crate) fn compose(
    from: &Mailbox,
    to: &str,
    request: &MessageRequest,
    rendered: &Rendered,
    ids: &Ids<'_>,
    now: Timestamp,
) -> Option<Mail> {
    let to: Mailbox = to.parse().ok()?;
    let link = request.link.as_ref().map(|link| link.0.as_str());
    let boundary = hex::encode(&Sha256::digest(ids.reference.as_bytes())[..12]);
    let body: MultiPartBuilder = MultiPart::alternative().boundary(boundary);
    let body = body.singlepart(SinglePart::plain(rendered.text.clone())).singlepart(SinglePart::html(html(
        &rendered.subject,
        &rendered.text,
        link,
    )));
    let mut message = Message::builder()
        .from(from.clone())
        .to(to)
        .subject(rendered.subject.clone())
        .date(system_time(now))
        .message_id(Some(format!("<{}@{}>", ids.reference, ids.domain)))
        .multipart(body)
        .ok()?;
    for (name, value) in [("X-Bojagi-Reference", ids.reference), ("X-Bojagi-Purpose", request.purpose.name())] {
        let name = HeaderName::new_from_ascii_str(name);
        message.headers_mut().insert_raw(HeaderValue::new(name, value.to_owned()));
    }
    Some(Mail { envelope: message.envelope().clone(), bytes: message.formatted() })
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

/// The text as HTML: escaped, line by line, with the link as a button in place of its line.
fn html(title: &str, text: &str, link: Option<&str>) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        if Some(line.trim()) == link {
            let link = escape(line.trim());
            lines.push_str(&format!(
                "<p><a href=\"{link}\" style=\"display:inline-block;padding:12px 24px;border-radius:8px;\
                 background:#7b2d43;color:#fff;text-decoration:none\">{}</a></p>",
                escape(title)
            ));
        } else {
            lines.push_str(&format!("<p>{}</p>", escape(line)));
        }
    }
    format!("<!doctype html><html><head><meta charset=\"utf-8\"></head><body>{lines}</body></html>")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::testing::{christmas, gift_mail};

    fn composed(text: &str) -> Mail {
        let from: Mailbox = "보자기 <gift@bojagi.example>".parse().unwrap();
        let rendered = Rendered { subject: "선물이 도착했어요".to_owned(), text: text.to_owned() };
        let ids = Ids { reference: "g_1.1.1", domain: "bojagi.example" };
        compose(&from, "mina@example.com", &gift_mail("g_1.1.1"), &rendered, &ids, christmas()).unwrap()
    }

    #[test]
    fn the_same_attempt_renders_to_the_same_bytes() {
        let mail = composed("안녕\nhttp://127.0.0.1:8080/g/001abc");
        assert_eq!(mail.bytes, composed("안녕\nhttp://127.0.0.1:8080/g/001abc").bytes);
        let text = String::from_utf8(mail.bytes).unwrap();
        assert!(text.contains("Message-ID: <g_1.1.1@bojagi.example>\r\n"), "{text}");
        assert!(text.contains("X-Bojagi-Reference: g_1.1.1\r\n") && text.contains("X-Bojagi-Purpose: gift\r\n"));
        assert!(text.contains("Subject: =?utf-8?b?"), "{text}");
        assert!(text.contains("Date: Thu, 24 Dec 2026 15:00:00 +0000\r\n"), "{text}");
        assert!(text.is_ascii());
    }

    #[test]
    fn names_cannot_write_html_or_headers() {
        let page = html("a", "<script>'\"&\nhttp://x/y", Some("http://x/y"));
        assert!(page.contains("&lt;script&gt;&#39;&quot;&amp;") && page.contains("href=\"http://x/y\""));
        let from: Mailbox = "gift@bojagi.example".parse().unwrap();
        let rendered = Rendered { subject: "a\r\nBcc: all@example.com".to_owned(), text: "t".to_owned() };
        let ids = Ids { reference: "g_1.1.1", domain: "d" };
        let request = gift_mail("g_1.1.1");
        let mail = compose(&from, "mina@example.com", &request, &rendered, &ids, christmas()).unwrap();
        assert!(!String::from_utf8(mail.bytes).unwrap().contains("\r\nBcc:"));
        assert!(compose(&from, "no address", &request, &rendered, &ids, christmas()).is_none());
    }
}
