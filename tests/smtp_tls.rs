//! E-mail over TLS against a real peer: STARTTLS and TLS from the first byte, with a certificate that only the extra
//! root makes trusted.

use bojagi::providers::settings::SmtpTls;
use bojagi::providers::{FillRandom, MessageProvider, ProvidersConfig, SettingsError, build_message_providers};
use bojagi::sandbox::{MailTls, Sandbox, SandboxHandle, SandboxOptions};
use bojagi::types::call::{Address, MessageOutcome, MessageRequest, Prior, Purpose, RefusalClass, Template};
use bojagi::types::contact::Private;
use bojagi::types::effect::Channel;
use bojagi::types::time::{BootMillis, Clock, Millis, Timestamp};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

struct StillClock(tokio::sync::watch::Sender<u64>);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }
    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }
    fn moved(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A certificate of its own for 127.0.0.1, written where the client may find it.
fn acceptor(folder: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn relay(folder: &Path, tls: MailTls) -> SandboxHandle {
    let options = SandboxOptions {
        http_addr: "127.0.0.1:0".parse().unwrap(),
        smtp_addr: "127.0.0.1:0".parse().unwrap(),
        data_dir: folder.join("sandbox"),
        webhook_targets: Vec::new(),
        clock: clock(),
        seed: 1,
    };
    Sandbox::start_with_mail_tls(options, tls).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(StillClock(tokio::sync::watch::channel(0).0))
}

fn client(relay: &SandboxHandle, tls: SmtpTls, ca: Option<&Path>) -> Result<Arc<dyn MessageProvider>, SettingsError> {
    let mut config = ProvidersConfig::sandbox("http://127.0.0.1:1", &relay.smtp_addr().to_string());
    let smtp = config.smtp.as_mut().unwrap();
    (smtp.tls, smtp.ca_file) = (tls, ca.map(Path::to_owned));
    let random: FillRandom = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
    let all = build_message_providers(&config, &clock(), &random)?;
    Ok(all.into_iter().find(|provider| provider.channel() == Channel::Email).unwrap())
}

async fn send(provider: &Arc<dyn MessageProvider>) -> MessageOutcome {
    let variable = |name: &str, text: &str| (name.to_owned(), Private(text.to_owned()));
    let request = MessageRequest {
        reference: "g_00112233445566778899aabbccddeeff.0.1".to_owned(),
        purpose: Purpose::Gift,
        channel: Channel::Email,
        template: Template::GiftArrived,
        to: Private(Address::Email("mina@example.com".to_owned())),
        variables: vec![
            variable("recipient", "미나"),
            variable("sender", "지민"),
            variable("product", "아메리카노"),
            variable("message", "생일 축하해!"),
        ],
        link: Some(Private("http://127.0.0.1/g/0".to_owned())),
        prior: Prior::None,
    };
    provider.send(&[request], Millis::from_secs(5)).await.remove(0)
}

#[tokio::test]
async fn mail_goes_over_both_sorts_of_tls() {
    for implicit in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = acceptor(folder.path());
        let (offered, asked) = match implicit {
            true => (MailTls::Implicit(acceptor), SmtpTls::Implicit),
            false => (MailTls::Starttls(acceptor), SmtpTls::Starttls),
        };
        let relay = relay(folder.path(), offered);
        let ca = folder.path().join("ca.pem");
        let trusting = client(&relay, asked, Some(&ca)).unwrap();
        for _ in 0..2 {
            let outcome = send(&trusting).await;
            assert!(matches!(outcome, MessageOutcome::Accepted { .. }), "implicit {implicit}: {outcome:?}");
        }
        let strict = client(&relay, asked, None).unwrap();
        assert!(matches!(send(&strict).await, MessageOutcome::Refused { class: RefusalClass::Retry, .. }));
    }
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_when_tls_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path(), MailTls::None);
    for tls in [SmtpTls::Starttls, SmtpTls::Implicit] {
        let outcome = send(&client(&relay, tls, None).unwrap()).await;
        assert!(matches!(outcome, MessageOutcome::Refused { .. }), "{outcome:?}");
    }
    let missing = client(&relay, SmtpTls::Starttls, Some(&folder.path().join("none.pem")));
    assert!(matches!(missing, Err(SettingsError::Tls { .. })));
}
