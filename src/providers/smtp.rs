//! E-mail through an SMTP relay (RFC 5321), on lettre's connection.
//!
//! SMTP has neither a key nor a lookup, so the line between definite and unknown is drawn by the dialogue itself:
//! before the body is written nothing was taken, and every failure is definite; once its first byte may have been
//! written, only the relay's own reply says what happened, and silence is unknown. The dialogue is therefore driven
//! command by command here and not by lettre's `send`.
//!
//! Idle connections are kept. A kept one that turns out to be dead before the body is replaced once.

use super::settings::{SettingsError, SmtpConfig, SmtpTls};
use super::smtp_mail;
use super::templates::Texts;
use super::wire;
use super::{Ability, LookupAnswer, MessageProvider, PollFailure, Span, WebhookError, WebhookHeaders};
use crate::types::call::{Address, MessageOutcome, MessageRequest, RefusalClass, Report};
use crate::types::effect::Channel;
use crate::types::time::{Clock, Millis};
use futures_util::future::{BoxFuture, join_all};
use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Idle connections kept.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// A connection is given up before its relay would close it under us (Postfix: 300 s between commands).
const IDLE_SPAN_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The client. Cheap to call concurrently.
pub struct Smtp {
    clock: Arc<dyn Clock>,
    texts: Texts,
    host: String,
    port: u16,
    tls: SmtpTls,
    tls_parameters: Option<TlsParameters>,
    credentials: Option<Credentials>,
    from: Mailbox,
    message_id_domain: String,
    idle: Mutex<Vec<(tokio::time::Instant, AsyncSmtpConnection)>>,
}

/// How far a dialogue had come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Envelope,
    Recipient,
    /// The body may have been taken, wholly or in part.
    Body,
}

impl Smtp {
    /// # Errors
    /// [`SettingsError`]
    pub(crate) fn new(config: &SmtpConfig, texts: Texts, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let invalid = |field, cause: &str| SettingsError::Invalid { field, cause: cause.to_owned() };
        let place = config.addr.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let (host, port) = place.ok_or_else(|| invalid("smtp.addr", "not host:port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls_parameters = match config.tls {
            SmtpTls::None => None,
            SmtpTls::Starttls | SmtpTls::Implicit => Some(tls_parameters(&host, config.ca_file.as_deref())?),
        };
        let credentials = match &config.credentials {
            Some(user) => Some(Credentials::new(user.user.clone(), user.password.get("smtp.credentials.password")?.0)),
            None => None,
        };
        if credentials.is_some() && config.tls == SmtpTls::None {
            return Err(invalid("smtp.credentials", "a password is not sent without TLS"));
        }
        Ok(Self {
            clock,
            texts,
            host,
            port,
            tls: config.tls,
            tls_parameters,
            credentials,
            from: config.from.parse().map_err(|_| invalid("smtp.from", "not a mailbox"))?,
            message_id_domain: config.message_id_domain.clone(),
            idle: Mutex::new(Vec::new()),
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let implicit = self.tls_parameters.clone().filter(|_| self.tls == SmtpTls::Implicit);
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &hello, implicit, None).await?;
        if let Some(parameters) = self.tls_parameters.clone().filter(|_| self.tls == SmtpTls::Starttls) {
            connection.starttls(parameters, &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }

    fn kept(&self) -> Option<AsyncSmtpConnection> {
        let now = tokio::time::Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|(since, _)| now.duration_since(*since) < IDLE_SPAN_MAX);
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push((tokio::time::Instant::now(), connection));
        }
    }

    /// Opens the transaction on a kept connection, or on a new one when that is dead.
    async fn begin(&self, stage: &mut Stage, mail: &smtp_mail::Mail) -> Result<AsyncSmtpConnection, SmtpError> {
        if let Some(mut connection) = self.kept() {
            match self.sender(&mut connection, mail).await {
                Ok(()) => {
                    *stage = Stage::Envelope;
                    return Ok(connection);
                }
                // A reply other than 421 (closing) is the relay's answer to this mail.
                Err(error) if error.status().is_some_and(|code| u16::from(code) != 421) => return Err(error),
                Err(_) => {}
            }
        }
        let mut connection = self.connect().await?;
        *stage = Stage::Envelope;
        self.sender(&mut connection, mail).await?;
        Ok(connection)
    }

    async fn sender(&self, connection: &mut AsyncSmtpConnection, mail: &smtp_mail::Mail) -> Result<(), SmtpError> {
        let mut parameters = Vec::new();
        let is_ascii = mail.envelope.to().iter().all(|to| AsRef::<str>::as_ref(to).is_ascii());
        if !is_ascii && connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        connection.command(Mail::new(mail.envelope.from().cloned(), parameters)).await.map(|_| ())
    }

    async fn dialogue(&self, stage: &mut Stage, mail: &smtp_mail::Mail) -> Result<String, SmtpError> {
        let mut connection = self.begin(stage, mail).await?;
        *stage = Stage::Recipient;
        for to in mail.envelope.to() {
            connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
        }
        *stage = Stage::Envelope;
        connection.command(Data).await?;
        *stage = Stage::Body;
        let reply = connection.message(&mail.bytes).await?;
        let receipt = reply.first_line().unwrap_or_default().chars().take(120).collect();
        self.keep(connection);
        Ok(receipt)
    }

    async fn send_one(&self, request: &MessageRequest, deadline: Millis) -> MessageOutcome {
        let Address::Email(to) = &request.to.0 else { return wire::wrong_address() };
        let rendered = match self.texts.render(request) {
            Ok(rendered) => rendered,
            Err(missing) => {
                return MessageOutcome::Refused { code: missing.code(), class: RefusalClass::Permanent };
            }
        };
        let ids = smtp_mail::Ids { reference: &request.reference, domain: &self.message_id_domain };
        let mail = smtp_mail::compose(&self.from, to, request, &rendered, &ids, self.clock.now());
        let Some(mail) = mail else { return wire::wrong_address() };
        let mut stage = Stage::Opening;
        match wire::within(deadline, self.dialogue(&mut stage, &mail)).await {
            Some(Ok(receipt)) => {
                MessageOutcome::Accepted { provider: self.name().to_owned(), receipt, at: self.clock.now() }
            }
            Some(Err(error)) => outcome_of(stage, &error),
            None => silence(stage, "deadline"),
        }
    }
}

/// The public roots, and those of the file.
fn tls_parameters(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, SettingsError> {
    let failed = |cause: String| SettingsError::Tls { cause };
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let unreadable = |cause: &dyn std::fmt::Display| failed(format!("smtp.ca_file {}: {cause}", path.display()));
        let pem = std::fs::read(path).map_err(|cause| unreadable(&cause))?;
        let root = Certificate::from_pem(&pem).map_err(|cause| unreadable(&cause))?;
        builder = builder.add_root_certificate(root);
    }
    builder.build().map_err(|cause| failed(cause.to_string()))
}

/// The relay's reply is always definite; without one the stage decides.
fn outcome_of(stage: Stage, error: &SmtpError) -> MessageOutcome {
    let Some(code) = error.status().map(u16::from) else {
        return silence(stage, if error.is_timeout() { "timeout" } else { "connection lost" });
    };
    let class = match (code, stage) {
        (400..=499, _) => RefusalClass::Retry,
        // 550 no such mailbox, 551 moved, 552 full, 553 name not allowed: this person, not this mail.
        (500..=599, Stage::Recipient) => RefusalClass::NextChannel,
        _ => RefusalClass::Permanent,
    };
    MessageOutcome::Refused { code: code.to_string(), class }
}

fn silence(stage: Stage, cause: &str) -> MessageOutcome {
    match stage {
        Stage::Opening | Stage::Envelope | Stage::Recipient => {
            MessageOutcome::Refused { code: "not_connected".to_owned(), class: RefusalClass::Retry }
        }
        Stage::Body => MessageOutcome::Unknown { cause: format!("no reply to the body: {cause}") },
    }
}

impl MessageProvider for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }
    fn channel(&self) -> Channel {
        Channel::Email
    }
    /// Neither key nor lookup: an unknown outcome is final.
    fn ability(&self) -> Ability {
        Ability { key_window: None, lookup: false, batch_max: 1 }
    }
    fn send<'a>(&'a self, batch: &'a [MessageRequest], deadline: Millis) -> BoxFuture<'a, Vec<MessageOutcome>> {
        Box::pin(join_all(batch.iter().map(move |request| self.send_one(request, deadline))))
    }
    fn lookup<'a>(&'a self, _request: &'a MessageRequest, _deadline: Millis) -> BoxFuture<'a, LookupAnswer> {
        Box::pin(async { LookupAnswer::Unknown { cause: "SMTP has no lookup".to_owned() } })
    }
    fn poll(&self, _span: Span, _deadline: Millis) -> BoxFuture<'_, Result<Vec<Report>, PollFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn webhook(&self, _headers: &WebhookHeaders, _body: &[u8]) -> Result<Vec<Report>, WebhookError> {
        Err(WebhookError::Malformed { what: "SMTP has no webhook".to_owned() })
    }
}
