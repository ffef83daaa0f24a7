//! Reads a mail as a recipient's program would: headers, and the first text part decoded.
//!
//! Only what mails of ours need: folded headers, encoded words, multipart, quoted-printable and base64. Anything else
//! is shown as it stands; a mail is never refused for its form.

use base64::Engine as _;

/// Nesting of multiparts that is followed.
const DEPTH_MAX: usize = 4;

/// A mail as a person sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    pub reference: String,
    pub subject: String,
    pub text: String,
}

/// Parses the content of a `DATA` command.
pub(crate) fn parse(content: &[u8]) -> Mail {
    let (head, body) = split(content);
    let headers = headers(head);
    let reference = find(&headers, "x-bojagi-reference")
        .map(str::to_owned)
        .or_else(|| find(&headers, "message-id").map(|id| local_part(id).to_owned()));
    Mail {
        reference: reference.unwrap_or_default(),
        subject: decode_words(find(&headers, "subject").unwrap_or_default()),
        text: text(&headers, body, 0),
    }
}

/// `<g_1.0.1@host>` → `g_1.0.1`.
fn local_part(id: &str) -> &str {
    let id = id.trim().trim_start_matches('<').trim_end_matches('>');
    id.split('@').next().unwrap_or(id)
}

fn split(content: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = content.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match content.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(at) => (&content[..at], &content[at + 4..]),
        None => (content, &[]),
    }
}

/// Lower-case names and unfolded values, in order.
fn headers(head: &[u8]) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in String::from_utf8_lossy(head).split("\r\n") {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    headers
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

/// The first `text/*` part, plain before HTML, decoded.
fn text(headers: &[(String, String)], body: &[u8], depth: usize) -> String {
    let kind = find(headers, "content-type").unwrap_or("text/plain");
    if let Some(boundary) = boundary(kind).filter(|_| depth < DEPTH_MAX) {
        let parts = parts(body, &boundary);
        let parsed: Vec<_> =
            parts.iter().map(|part| split(part)).map(|(head, body)| (self::headers(head), body)).collect();
        let rank = |headers: &[(String, String)]| match find(headers, "content-type").unwrap_or("text/plain") {
            kind if kind.to_ascii_lowercase().starts_with("text/plain") => 0,
            kind if kind.to_ascii_lowercase().starts_with("text/") => 2,
            _multipart_or_other => 1,
        };
        let best = parsed.iter().min_by_key(|(headers, _)| rank(headers));
        return best.map(|(headers, body)| text(headers, body, depth + 1)).unwrap_or_default();
    }
    let decoded = match find(headers, "content-transfer-encoding").unwrap_or("7bit").to_ascii_lowercase().as_str() {
        "quoted-printable" => quoted_printable(body, false),
        "base64" => base64(body),
        _identity => body.to_vec(),
    };
    String::from_utf8_lossy(&decoded).replace("\r\n", "\n").trim_end().to_owned()
}

fn boundary(kind: &str) -> Option<String> {
    if !kind.to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let parameter = kind.split(';').map(str::trim).find(|part| part.to_ascii_lowercase().starts_with("boundary="))?;
    Some(parameter["boundary=".len()..].trim_matches('"').to_owned())
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let marker = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(marker.as_bytes()) {
            if let Some(start) = open {
                let part = &body[start..at];
                parts.push(part.strip_suffix(b"\r\n").unwrap_or(part));
            }
            let last = line[marker.len()..].starts_with(b"--");
            open = (!last).then_some(at + line.len());
        }
        at += line.len();
    }
    parts
}

fn base64(body: &[u8]) -> Vec<u8> {
    let compact: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(compact).unwrap_or_else(|_not_base64| body.to_vec())
}

/// Quoted-printable; in headers `_` stands for a space.
fn quoted_printable(body: &[u8], header: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        if rest.starts_with(b"=\r\n") {
            at += 3;
            continue;
        }
        let pair = rest.get(1..3).and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = pair.filter(|_| rest[0] == b'=').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (rest[0], escaped) {
            (_, Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'_', None) if header => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

/// RFC 2047 encoded words, `=?utf-8?b?…?=` and `=?utf-8?q?…?=`.
fn decode_words(value: &str) -> String {
    let mut decoded = String::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let Some((word, length)) = word(&rest[start..]) else {
            decoded.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            after_word = false;
            continue;
        };
        // Blanks between two encoded words are not part of the text.
        if !(after_word && rest[..start].trim().is_empty()) {
            decoded.push_str(&rest[..start]);
        }
        decoded.push_str(&word);
        rest = &rest[start + length..];
        after_word = true;
    }
    decoded.push_str(rest);
    decoded
}

/// One encoded word at the start of `text`, and its length.
fn word(text: &str) -> Option<(String, usize)> {
    let mut fields = text.strip_prefix("=?")?.splitn(3, '?');
    let (charset, encoding, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let end = rest.find("?=")?;
    let bytes = match encoding {
        "b" | "B" => base64(&rest.as_bytes()[..end]),
        "q" | "Q" => quoted_printable(&rest.as_bytes()[..end], true),
        _unknown => return None,
    };
    let length = 2 + charset.len() + 1 + encoding.len() + 1 + end + 2;
    Some((String::from_utf8_lossy(&bytes).into_owned(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_mail_with_folded_and_encoded_headers() {
        let mail = "Message-ID: <g_1.0.2@bojagi>\r\nSubject: =?utf-8?b?7ISg66y8?=\r\n =?utf-8?q?=EC=9D=B4_!?= ok\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=EC=84=A0=EB=AC=BC http://x/g/=\r\n1=3D2\r\n";
        let mail = parse(mail.as_bytes());
        assert_eq!(mail.reference, "g_1.0.2");
        assert_eq!(mail.subject, "선물이 ! ok");
        assert_eq!(mail.text, "선물 http://x/g/1=2");
    }

    #[test]
    fn multipart_prefers_plain_text_and_own_header_names_the_reference() {
        let mail = "X-Bojagi-Reference: g_2.n.1\r\nMessage-ID: <other@x>\r\nContent-Type: multipart/alternative;\r\n boundary=\"b1\"\r\n\r\npreamble\r\n--b1\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n7ISg\r\n66y8\r\n--b1--\r\n";
        let mail = parse(mail.as_bytes());
        assert_eq!((mail.reference.as_str(), mail.text.as_str()), ("g_2.n.1", "선물"));
    }

    #[test]
    fn odd_mails_are_shown_as_they_stand() {
        assert_eq!(parse(b""), Mail::default());
        assert_eq!(parse(b"\r\nbody").text, "body");
        assert_eq!(parse(b"Subject: =?x?z?y?= =?broken\r\n\r\n=zz").subject, "=?x?z?y?= =?broken");
        assert_eq!(parse(b"Content-Type: multipart/mixed; boundary=q\r\n\r\nnothing").text, "");
    }
}
