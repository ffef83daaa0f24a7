//! Settings of the providers, and the one place where clients are built from them.
//!
//! A secret is never in the settings' text: it is a reference to a file or to an environment variable, which the
//! caller resolves once ([`ProvidersConfig::resolve`]) before it builds.

use super::fcm::Fcm;
use super::nhn_alimtalk::NhnAlimtalk;
use super::shipping::Shipping;
use super::smtp::Smtp;
use super::solapi::Solapi;
use super::templates::{Language, TEMPLATES, TemplateText, Texts, template_named};
use super::toss::Toss;
use super::{MessageProvider, PaymentProvider, ShippingProvider};
use crate::types::call::Template;
use crate::types::contact::Private;
use crate::types::time::Clock;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Fills a buffer from a CSPRNG (salts, jitter).
pub type FillRandom = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// What a client cannot be built with. Said once, at start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("not an http(s) base URL without user, query and fragment: {url}")]
    BaseUrl { url: String },
    #[error("TLS cannot be set up: {cause}")]
    Tls { cause: String },
    #[error("secret of {field} was not resolved")]
    UnresolvedSecret { field: &'static str },
    #[error("secret from {place} cannot be read: {cause}")]
    UnreadableSecret { place: String, cause: String },
    #[error("no template is called {name}")]
    NoSuchTemplate { name: String },
    #[error("{field} is not valid: {cause}")]
    Invalid { field: &'static str, cause: String },
    #[error("no payment provider is configured")]
    NoPaymentProvider,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    File(PathBuf),
    Env(String),
}

/// Read by hand: a derived reader would say in its error what it found in place of a reference, and that is most
/// likely the secret.
impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceReader)
    }
}

struct PlaceReader;

const NOT_A_PLACE: &str =
    "a secret has no place in the configuration: name it as { file = \"/path\" } or { env = \"NAME\" }";

impl<'de> Visitor<'de> for PlaceReader {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file = \"/path\" } or { env = \"NAME\" }")
    }
    fn visit_str<E: Error>(self, _secret: &str) -> Result<SecretRef, E> {
        Err(E::custom(NOT_A_PLACE))
    }
    fn visit_i64<E: Error>(self, _secret: i64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_A_PLACE))
    }
    fn visit_u64<E: Error>(self, _secret: u64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_A_PLACE))
    }
    fn visit_f64<E: Error>(self, _secret: f64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_A_PLACE))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let place = match map.next_key::<String>()?.as_deref() {
            Some("file") => SecretRef::File(map.next_value()?),
            Some("env") => SecretRef::Env(map.next_value()?),
            Some(_) | None => return Err(A::Error::custom(NOT_A_PLACE)),
        };
        match map.next_key::<String>()? {
            None => Ok(place),
            Some(_) => Err(A::Error::custom(NOT_A_PLACE)),
        }
    }
}

/// A secret: a reference as configured, its value once resolved. `Debug` never prints a value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "SecretRef")]
pub enum Secret {
    Ref(SecretRef),
    Value(Private<String>),
}

impl From<SecretRef> for Secret {
    fn from(place: SecretRef) -> Self {
        Self::Ref(place)
    }
}

impl Secret {
    /// A secret whose value is at hand (dev mode, tests).
    #[must_use]
    pub fn value(text: &str) -> Self {
        Self::Value(Private(text.to_owned()))
    }

    pub(crate) fn get(&self, field: &'static str) -> Result<Private<String>, SettingsError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Ref(_) => Err(SettingsError::UnresolvedSecret { field }),
        }
    }
}

/// Reads a secret's text; surrounding white space is cut off by [`ProvidersConfig::resolve`].
pub type ReadSecret<'a> = &'a dyn Fn(&SecretRef) -> Result<String, String>;

/// All providers. A channel without settings has no provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProvidersConfig {
    /// Language of the default texts.
    pub language: Language,
    /// Texts by logical template name, in place of the defaults.
    pub texts: BTreeMap<String, TemplateText>,
    pub nhn_alimtalk: Option<NhnAlimtalkConfig>,
    pub solapi: Option<SolapiConfig>,
    pub smtp: Option<SmtpConfig>,
    pub fcm: Option<FcmConfig>,
    pub toss: Option<TossConfig>,
    /// Without it orders wait before their shipping.
    pub shipping: Option<ShippingConfig>,
}

/// NHN Cloud KakaoTalk Bizmessage v2.3.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NhnAlimtalkConfig {
    #[serde(default = "NhnAlimtalkConfig::production_url")]
    pub base_url: String,
    pub app_key: String,
    pub secret_key: Secret,
    /// The sender profile's key, 40 characters.
    pub sender_key: String,
    /// The fixed string of `X-Toast-Webhook-Signature`; without it no webhook is taken.
    pub webhook_signature: Option<Secret>,
    /// Template codes by logical name; the default code is the logical name itself.
    #[serde(default)]
    pub template_codes: BTreeMap<String, String>,
    /// Part of every link that the templates' WL button already holds (`https://gift.example/g/`); only the rest is
    /// sent as the variable `link`. Empty: the whole link.
    #[serde(default)]
    pub link_prefix: String,
    /// A new sender profile may not substitute more than 14 characters (-1028); refused here when set, so that one
    /// such recipient does not cost its whole batch.
    #[serde(default)]
    pub new_profile: bool,
}

/// Solapi v4, SMS and LMS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolapiConfig {
    #[serde(default = "SolapiConfig::production_url")]
    pub base_url: String,
    pub api_key: String,
    pub api_secret: Secret,
    /// The registered sender number, digits.
    pub from: String,
    /// The webhook's secret; `X-Solapi-Secret` carries its SHA-1. Without it no webhook is taken.
    pub webhook_secret: Option<Secret>,
}

/// How an SMTP connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpTls {
    /// Plain text: for a relay on this host, and the sandbox.
    None,
    /// STARTTLS, and nothing is sent without it.
    #[default]
    Starttls,
    /// TLS from the first byte (port 465).
    Implicit,
}

/// An SMTP relay.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// `host:port`.
    pub addr: String,
    #[serde(default)]
    pub tls: SmtpTls,
    /// Mailbox of the sender, `보자기 <gift@example.com>`.
    pub from: String,
    /// Right side of every Message-ID.
    pub message_id_domain: String,
    /// Certificates (PEM) that are trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    pub credentials: Option<SmtpCredentials>,
}

/// SMTP AUTH (PLAIN or LOGIN).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpCredentials {
    pub user: String,
    pub password: Secret,
}

/// Firebase Cloud Messaging, HTTP v1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FcmConfig {
    #[serde(default = "FcmConfig::production_url")]
    pub base_url: String,
    pub project: String,
    pub auth: FcmAuth,
}

/// Where FCM's bearer token comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FcmAuth {
    /// A token as it is (dev mode).
    Static(Secret),
    /// A signed assertion of the service account is traded for a token at `token_url`.
    ServiceAccount {
        client_email: String,
        /// PKCS#8 or PKCS#1 PEM.
        private_key: Secret,
        #[serde(default = "FcmConfig::production_token_url")]
        token_url: String,
    },
}

/// Toss Payments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TossConfig {
    #[serde(default = "TossConfig::production_url")]
    pub base_url: String,
    pub secret_key: Secret,
}

/// The shipping provider (see [`super::shipping`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippingConfig {
    pub base_url: String,
    pub api_key: Secret,
}

impl NhnAlimtalkConfig {
    fn production_url() -> String {
        "https://kakaotalk-bizmessage.api.nhncloudservice.com".to_owned()
    }
}
impl SolapiConfig {
    fn production_url() -> String {
        "https://api.solapi.com".to_owned()
    }
}
impl FcmConfig {
    fn production_url() -> String {
        "https://fcm.googleapis.com".to_owned()
    }
    fn production_token_url() -> String {
        "https://oauth2.googleapis.com/token".to_owned()
    }
}
impl TossConfig {
    fn production_url() -> String {
        "https://api.tosspayments.com".to_owned()
    }
}

impl ProvidersConfig {
    /// Every provider at the sandbox: their own paths on one HTTP `base_url`, and SMTP at `smtp_addr` (`host:port`).
    #[must_use]
    pub fn sandbox(base_url: &str, smtp_addr: &str) -> Self {
        let base_url = base_url.to_owned();
        Self {
            language: Language::Ko,
            texts: BTreeMap::new(),
            nhn_alimtalk: Some(NhnAlimtalkConfig {
                base_url: base_url.clone(),
                app_key: "dev-app".to_owned(),
                secret_key: Secret::value("dev-secret"),
                sender_key: "0".repeat(40),
                webhook_signature: Some(Secret::value("dev-secret")),
                template_codes: BTreeMap::new(),
                link_prefix: String::new(),
                new_profile: false,
            }),
            solapi: Some(SolapiConfig {
                base_url: base_url.clone(),
                api_key: "dev-key".to_owned(),
                api_secret: Secret::value("dev-secret"),
                from: "0215770000".to_owned(),
                webhook_secret: Some(Secret::value("dev-secret")),
            }),
            smtp: Some(SmtpConfig {
                addr: smtp_addr.to_owned(),
                tls: SmtpTls::None,
                ca_file: None,
                from: "보자기 <gift@bojagi.example>".to_owned(),
                message_id_domain: "bojagi.example".to_owned(),
                credentials: None,
            }),
            fcm: Some(FcmConfig {
                base_url: base_url.clone(),
                project: "dev".to_owned(),
                auth: FcmAuth::Static(Secret::value("dev-secret")),
            }),
            toss: Some(TossConfig { base_url: base_url.clone(), secret_key: Secret::value("test_sk_dev") }),
            shipping: Some(ShippingConfig { base_url, api_key: Secret::value("dev-key") }),
        }
    }

    /// Replaces every reference by the secret that `read` finds there.
    ///
    /// # Errors
    /// [`SettingsError::UnreadableSecret`], with the place and never the secret.
    pub fn resolve(&mut self, read: ReadSecret<'_>) -> Result<(), SettingsError> {
        let nhn = self.nhn_alimtalk.iter_mut();
        let solapi = self.solapi.iter_mut();
        let mut secrets: Vec<&mut Secret> = Vec::new();
        secrets.extend(nhn.flat_map(|nhn| std::iter::once(&mut nhn.secret_key).chain(nhn.webhook_signature.as_mut())));
        secrets.extend(
            solapi.flat_map(|solapi| std::iter::once(&mut solapi.api_secret).chain(solapi.webhook_secret.as_mut())),
        );
        secrets
            .extend(self.smtp.iter_mut().filter_map(|smtp| smtp.credentials.as_mut()).map(|user| &mut user.password));
        secrets.extend(self.fcm.iter_mut().map(|fcm| match &mut fcm.auth {
            FcmAuth::Static(token) => token,
            FcmAuth::ServiceAccount { private_key, .. } => private_key,
        }));
        secrets.extend(self.toss.iter_mut().map(|toss| &mut toss.secret_key));
        secrets.extend(self.shipping.iter_mut().map(|shipping| &mut shipping.api_key));
        for secret in secrets {
            if let Secret::Ref(place) = secret {
                let text = read(place)
                    .map_err(|cause| SettingsError::UnreadableSecret { place: format!("{place:?}"), cause })?;
                *secret = Secret::value(text.trim());
            }
        }
        Ok(())
    }

    fn texts(&self) -> Result<Texts, SettingsError> {
        Texts::new(self.language, &self.texts).map_err(|name| SettingsError::NoSuchTemplate { name })
    }
}

/// Codes of all templates; the logical name where nothing else is configured.
pub(crate) fn template_codes(
    configured: &BTreeMap<String, String>,
) -> Result<BTreeMap<Template, String>, SettingsError> {
    let mut codes: BTreeMap<Template, String> =
        TEMPLATES.into_iter().map(|template| (template, template.name().to_owned())).collect();
    for (name, code) in configured {
        let template = template_named(name).ok_or_else(|| SettingsError::NoSuchTemplate { name: name.clone() })?;
        codes.insert(template, code.clone());
    }
    Ok(codes)
}

/// One client for each configured messaging provider, in the order of the channels.
///
/// # Errors
/// [`SettingsError`]: what the settings cannot be built with; nothing was sent anywhere.
pub fn build_message_providers(
    config: &ProvidersConfig,
    clock: &Arc<dyn Clock>,
    random: &FillRandom,
) -> Result<Vec<Arc<dyn MessageProvider>>, SettingsError> {
    let texts = config.texts()?;
    let mut providers: Vec<Arc<dyn MessageProvider>> = Vec::new();
    if let Some(nhn) = &config.nhn_alimtalk {
        providers.push(Arc::new(NhnAlimtalk::new(nhn, Arc::clone(clock))?));
    }
    if let Some(solapi) = &config.solapi {
        providers.push(Arc::new(Solapi::new(solapi, texts.clone(), Arc::clone(clock), Arc::clone(random))?));
    }
    if let Some(smtp) = &config.smtp {
        providers.push(Arc::new(Smtp::new(smtp, texts.clone(), Arc::clone(clock))?));
    }
    if let Some(fcm) = &config.fcm {
        providers.push(Arc::new(Fcm::new(fcm, texts, Arc::clone(clock), Arc::clone(random))?));
    }
    Ok(providers)
}

/// The payment provider.
///
/// # Errors
/// [`SettingsError`]: what the settings cannot be built with; nothing was sent anywhere.
pub fn build_payment_provider(
    config: &ProvidersConfig,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn PaymentProvider>, SettingsError> {
    let toss = config.toss.as_ref().ok_or(SettingsError::NoPaymentProvider)?;
    Ok(Arc::new(Toss::new(toss, Arc::clone(clock))?))
}

/// The shipping provider; `None` when none is configured.
///
/// # Errors
/// [`SettingsError`]: what the settings cannot be built with; nothing was sent anywhere.
pub fn build_shipping_provider(
    config: &ProvidersConfig,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn ShippingProvider>>, SettingsError> {
    let Some(shipping) = &config.shipping else { return Ok(None) };
    Ok(Some(Arc::new(Shipping::new(shipping, Arc::clone(clock))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        language = "en"
        [texts.gift_arrived]
        subject = "Hi"
        text = "see #{link}"
        [nhn_alimtalk]
        app_key = "app"
        sender_key = "k"
        secret_key = { env = "NHN_SECRET" }
        [nhn_alimtalk.template_codes]
        gift_arrived = "GIFT01"
        [toss]
        secret_key = { file = "/run/secrets/toss" }
    "#;

    #[test]
    fn secrets_come_from_places_and_are_never_printed() {
        let mut config: ProvidersConfig = toml::from_str(TEXT).unwrap();
        assert_eq!(config.toss.as_ref().unwrap().base_url, "https://api.tosspayments.com");
        let unresolved = config.toss.as_ref().unwrap().secret_key.get("toss.secret_key");
        assert_eq!(unresolved.unwrap_err(), SettingsError::UnresolvedSecret { field: "toss.secret_key" });
        config.resolve(&|place| Ok(format!("hidden-{place:?}\n"))).unwrap();
        let secret = config.nhn_alimtalk.as_ref().unwrap().secret_key.get("").unwrap();
        assert_eq!(secret.0, r#"hidden-Env("NHN_SECRET")"#);
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn a_secret_in_the_text_itself_is_refused() {
        for place in ["\"sk_live\"", "4711", "{ file = \"/a\", env = \"B\" }", "{ fil = \"sk_live\" }", "[\"sk_live\"]"]
        {
            let read = toml::from_str::<ProvidersConfig>(&format!("[toss]\nsecret_key = {place}"));
            let error: figment::Error = figment::Figment::new()
                .merge(<figment::providers::Toml as figment::providers::Format>::string(&format!(
                    "secret_key = {place}"
                )))
                .extract::<TossConfig>()
                .unwrap_err();
            assert!(
                read.is_err() && !error.to_string().contains("sk_live") && !error.to_string().contains("4711"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unreadable_secret_names_its_place() {
        let mut config: ProvidersConfig = toml::from_str(TEXT).unwrap();
        let error = config.resolve(&|_| Err("no such file".to_owned())).unwrap_err();
        assert!(error.to_string().contains("NHN_SECRET"), "{error}");
    }

    #[test]
    fn template_codes_default_to_the_logical_name() {
        let codes = template_codes(&BTreeMap::from([("gift_arrived".to_owned(), "GIFT01".to_owned())])).unwrap();
        assert_eq!(codes[&Template::GiftArrived], "GIFT01");
        assert_eq!(codes[&Template::SenderSent], "sender_sent");
        assert!(template_codes(&BTreeMap::from([("x".to_owned(), String::new())])).is_err());
    }
}
