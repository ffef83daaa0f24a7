//! A mail server: EHLO, MAIL, RCPT, DATA, RSET, NOOP, AUTH, QUIT, with a size limit (RFC 5321, 1870, 4954), in
//! the clear or over TLS.
//!
//! SMTP has neither idempotency nor lookup: each mail that is taken is a mail that somebody gets.

use crate::sandbox::context::Context;
use crate::sandbox::event::{Disposition, Event, Fate, MessageEvent};
use crate::sandbox::faults::Verdict;
use crate::sandbox::mime;
use crate::sandbox::settings::{MAIL_BYTES_MAX, MAIL_LINE_BYTES_MAX, MAIL_RECIPIENTS_MAX, Provider};
use crate::types::effect::Channel;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Commands on one connection that were not understood, before it is closed.
const ERRORS_MAX: usize = 32;
/// A mail that is accepted and never answered: no client waits for longer.
const HANG: std::time::Duration = std::time::Duration::from_secs(600);

const CLOSED_DOOR: &[u8] = b"421 4.3.2 sandbox.bojagi service not available\r\n";

#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// What a command does to the connection.
enum Next {
    Reply(String),
    Data,
    /// The rest of an AUTH exchange: one or two more lines.
    Auth {
        lines: u8,
        prompt: &'static str,
    },
    Quit,
    Starttls,
    /// Ordered to be down: nobody is served any more, on old connections neither.
    Down,
}

struct Session {
    context: Arc<Context>,
    offers_tls: bool,
    greeted: bool,
    envelope: Envelope,
    errors: usize,
}

/// How the mail port is protected.
#[derive(Clone, Default)]
pub enum MailTls {
    #[default]
    None,
    /// Offered after EHLO (RFC 3207).
    Starttls(TlsAcceptor),
    /// From the first byte (RFC 8314).
    Implicit(TlsAcceptor),
}

/// How a dialogue ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Over,
    /// TLS begins, and with it a new dialogue.
    Upgrade,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(context: Arc<Context>, mut stream: TcpStream, tls: MailTls) {
    let session = |offers_tls| Session {
        context: context.clone(),
        offers_tls,
        greeted: false,
        envelope: Envelope::default(),
        errors: 0,
    };
    // A connection that breaks is the caller's affair; whatever was answered is kept.
    let _broken = match tls {
        MailTls::None => talk(session(false), &mut stream, Greeting::First).await.map(|_| ()),
        MailTls::Implicit(acceptor) => match acceptor.accept(stream).await {
            Ok(mut stream) => talk(session(false), &mut stream, Greeting::First).await.map(|_| ()),
            Err(error) => Err(error),
        },
        MailTls::Starttls(acceptor) => match talk(session(true), &mut stream, Greeting::First).await {
            Ok(End::Upgrade) => match acceptor.accept(stream).await {
                Ok(mut stream) => talk(session(false), &mut stream, Greeting::Silent).await.map(|_| ()),
                Err(error) => Err(error),
            },
            Ok(End::Over) => Ok(()),
            Err(error) => Err(error),
        },
    };
}

/// Whether the server speaks first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeting {
    First,
    Silent,
}

async fn talk<S>(session: Session, stream: &mut S, greeting: Greeting) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let end = converse(session, BufReader::new(reader), &mut writer, greeting).await;
    if !matches!(end, Ok(End::Upgrade)) {
        let _closed = writer.shutdown().await;
    }
    end
}

async fn say<W: AsyncWrite + Unpin>(writer: &mut W, reply: &[u8]) -> io::Result<()> {
    writer.write_all(reply).await?;
    writer.flush().await
}

async fn converse<R, W>(
    mut session: Session,
    mut reader: BufReader<R>,
    writer: &mut W,
    greeting: Greeting,
) -> io::Result<End>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if session.verdict().down {
        return say(writer, CLOSED_DOOR).await.map(|()| End::Over);
    }
    if greeting == Greeting::First {
        say(writer, b"220 sandbox.bojagi ESMTP\r\n").await?;
    }
    loop {
        let Some(line) = read_line(&mut reader).await? else { return Ok(End::Over) };
        let next = match line {
            Some(line) => session.command(&line),
            None => Next::Reply("500 5.5.2 line too long\r\n".to_owned()),
        };
        match next {
            Next::Reply(reply) => say(writer, reply.as_bytes()).await?,
            Next::Down => return say(writer, CLOSED_DOOR).await.map(|()| End::Over),
            Next::Quit => return say(writer, b"221 2.0.0 bye\r\n").await.map(|()| End::Over),
            Next::Starttls => return say(writer, b"220 2.0.0 ready\r\n").await.map(|()| End::Upgrade),
            Next::Auth { lines, prompt } => {
                for _ in 0..lines {
                    say(writer, prompt.as_bytes()).await?;
                    if read_line(&mut reader).await?.is_none() {
                        return Ok(End::Over);
                    }
                }
                say(writer, b"235 2.7.0 welcome\r\n").await?;
            }
            Next::Data => {
                say(writer, b"354 end with <CRLF>.<CRLF>\r\n").await?;
                let Some(content) = read_content(&mut reader).await? else { return Ok(End::Over) };
                let Some(reply) = session.take(content).await? else { return Ok(End::Over) };
                say(writer, reply.as_bytes()).await?;
            }
        }
        if session.errors > ERRORS_MAX {
            return say(writer, b"421 4.7.0 too many errors\r\n").await.map(|()| End::Over);
        }
    }
}

/// One command line without its end. `None` at the end of the stream; `Some(None)` when it was too long.
async fn read_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<Option<Option<String>>> {
    let mut line = Vec::new();
    let limit = MAIL_LINE_BYTES_MAX as u64;
    (&mut *reader).take(limit).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        // Swallow the rest in bounded pieces.
        while line.len() >= MAIL_LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            line.clear();
            (&mut *reader).take(limit).read_until(b'\n', &mut line).await?;
        }
        return Ok(if line.is_empty() { None } else { Some(None) });
    }
    Ok(Some(Some(String::from_utf8_lossy(&line).trim_end().to_owned())))
}

/// The content up to the lonely dot, unstuffed; `Err` in the inner result when it is too large (it is read to its end).
async fn read_content<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<Option<Result<Vec<u8>, ()>>> {
    let mut content = Vec::new();
    let mut too_large = false;
    let mut at_line_start = true;
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut *reader).take(MAIL_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        if at_line_start && (line == b".\r\n" || line == b".\n") {
            return Ok(Some(if too_large { Err(()) } else { Ok(content) }));
        }
        let unstuffed = if at_line_start { line.strip_prefix(b".").unwrap_or(&line) } else { &line };
        too_large |= content.len() + unstuffed.len() > MAIL_BYTES_MAX;
        if !too_large {
            content.extend_from_slice(unstuffed);
        }
        at_line_start = line.last() == Some(&b'\n');
    }
}

impl Session {
    fn verdict(&self) -> Verdict {
        self.context.faults.verdict(Provider::Smtp, "", true, self.context.clock.now())
    }

    fn command(&mut self, line: &str) -> Next {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.greeted = true;
                self.envelope = Envelope::default();
                let offer = if self.offers_tls { "250-STARTTLS\r\n" } else { "" };
                format!(
                    "250-sandbox.bojagi\r\n{offer}250-SIZE {MAIL_BYTES_MAX}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n"
                )
            }
            "HELO" => {
                self.greeted = true;
                self.envelope = Envelope::default();
                "250 sandbox.bojagi\r\n".to_owned()
            }
            "STARTTLS" if self.offers_tls => return Next::Starttls,
            "AUTH" => return auth(rest),
            "MAIL" if self.verdict().down => return Next::Down,
            "MAIL" => self.mail(rest),
            "RCPT" => self.recipient(rest),
            "DATA" if self.envelope.to.is_empty() => "503 5.5.1 RCPT first\r\n".to_owned(),
            "DATA" => return Next::Data,
            "RSET" => {
                self.envelope = Envelope::default();
                "250 2.0.0 ok\r\n".to_owned()
            }
            "NOOP" => "250 2.0.0 ok\r\n".to_owned(),
            "VRFY" => "252 2.1.5 send some mail\r\n".to_owned(),
            "QUIT" => return Next::Quit,
            _unknown => {
                self.errors += 1;
                "500 5.5.2 command not recognised\r\n".to_owned()
            }
        };
        Next::Reply(reply)
    }

    fn mail(&mut self, rest: &str) -> String {
        if !self.greeted {
            return "503 5.5.1 EHLO first\r\n".to_owned();
        }
        let Some(address) = address(rest, "FROM:") else { return "501 5.5.4 MAIL FROM:<address>\r\n".to_owned() };
        let sizes =
            rest.split(' ').filter_map(|part| part.to_ascii_uppercase().strip_prefix("SIZE=")?.parse::<usize>().ok());
        if sizes.max().is_some_and(|size| size > MAIL_BYTES_MAX) {
            return "552 5.3.4 message too big\r\n".to_owned();
        }
        self.envelope = Envelope { from: Some(address), to: Vec::new() };
        "250 2.1.0 ok\r\n".to_owned()
    }

    fn recipient(&mut self, rest: &str) -> String {
        if self.envelope.from.is_none() {
            return "503 5.5.1 MAIL first\r\n".to_owned();
        }
        let Some(address) = address(rest, "TO:").filter(|address| address.contains('@')) else {
            return "501 5.1.3 RCPT TO:<address>\r\n".to_owned();
        };
        let ordered = self.context.faults.recipient(Provider::Smtp, "", self.context.clock.now());
        if address.starts_with("bounce@") || ordered.refused.is_some() {
            return "550 5.1.1 no such user\r\n".to_owned();
        }
        if address.starts_with("greylist@") {
            return "451 4.7.1 greylisted, try again later\r\n".to_owned();
        }
        if self.envelope.to.len() >= MAIL_RECIPIENTS_MAX {
            return "452 4.5.3 too many recipients\r\n".to_owned();
        }
        self.envelope.to.push(address);
        "250 2.1.5 ok\r\n".to_owned()
    }

    /// Takes a mail and says what to reply; nothing when the connection is to be closed without a word.
    async fn take(&mut self, content: Result<Vec<u8>, ()>) -> io::Result<Option<String>> {
        let envelope = std::mem::take(&mut self.envelope);
        let Ok(content) = content else { return Ok(Some("552 5.3.4 message too big\r\n".to_owned())) };
        let verdict = self.verdict();
        let full = envelope.to.iter().any(|to| to.starts_with("full@"));
        let refusal = match verdict.turned_away {
            Some((429, _)) => Some((450, "450 4.7.1 too many mails, try again later\r\n")),
            Some(_) => Some((451, "451 4.3.0 local error, try again later\r\n")),
            None if full => Some((552, "552 5.2.2 mailbox full\r\n")),
            None => None,
        };
        let mail = mime::parse(&content);
        let (id, mark) = self.context.decide(|decision| {
            let id = decision.book.next_message();
            for (sequence, to) in (1u32..).zip(&envelope.to) {
                let disposition = match refusal {
                    Some((code, _)) => Disposition::NotTaken { code },
                    None => Disposition::Accepted(Fate { reached: true, ..Fate::default() }),
                };
                decision.record(&Event::Message(MessageEvent {
                    provider: Provider::Smtp,
                    channel: Channel::Email,
                    reference: mail.reference.as_str().into(),
                    to: to.as_str().into(),
                    text: mail.text.as_str().into(),
                    title: mail.subject.as_str().into(),
                    from: envelope.from.as_deref().unwrap_or_default().into(),
                    template: "".into(),
                    extra: "".into(),
                    at: decision.now,
                    sequence,
                    key: None,
                    disposition,
                }));
            }
            id
        });
        if self.context.journal.durable(mark).await.is_err() {
            return Ok(None);
        }
        if verdict.delay.0 > 0 {
            tokio::time::sleep(verdict.delay.to_std()).await;
        }
        if verdict.hangs {
            tokio::time::sleep(HANG).await;
            return Ok(None);
        }
        if verdict.drops_reply {
            return Ok(None);
        }
        if verdict.fails_after.is_some() {
            return Ok(Some("451 4.3.0 local error, try again later\r\n".to_owned()));
        }
        Ok(Some(
            refusal.map_or_else(|| format!("250 2.0.0 ok: queued as {:08X}\r\n", id.0), |(_, text)| text.to_owned()),
        ))
    }
}

/// Any credentials are welcome; the exchange is followed to its end.
fn auth(rest: &str) -> Next {
    let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
    match (mechanism.to_ascii_uppercase().as_str(), initial.is_empty()) {
        ("PLAIN", true) => Next::Auth { lines: 1, prompt: "334 \r\n" },
        ("LOGIN", true) => Next::Auth { lines: 2, prompt: "334 \r\n" },
        ("LOGIN", false) => Next::Auth { lines: 1, prompt: "334 \r\n" },
        ("PLAIN", false) => Next::Reply("235 2.7.0 welcome\r\n".to_owned()),
        (_, _) => Next::Reply("504 5.5.4 mechanism not known\r\n".to_owned()),
    }
}

/// `FROM:<a@b> SIZE=1` → `a@b`.
fn address(rest: &str, keyword: &str) -> Option<String> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (address, _) = rest[keyword.len()..].trim_start().strip_prefix('<')?.split_once('>')?;
    Some(address.to_owned())
}
