//! Bodies of gifts: reservation, change and transfer, checked member by member, all faults at once.
//!
//! What depends on the instant of the request or on the catalogue is not judged here: a repeat under the same key must
//! find its first reply even after that has changed (see `gifts.rs`).

use crate::api::commerce::read_payment_key;
use crate::api::json::Object;
use crate::domain::calendar::{self, CalendarFault, SendAt};
use crate::domain::gift::{ContactSet, RecipientContact, SenderContact};
use crate::domain::policy::PaymentMethod;
use crate::types::contact::{ContactFault, Email, KakaoId, PersonName, Phone};
use crate::types::effect::Channel;
use crate::types::text::{MESSAGE, NAME};
use crate::types::time::Timestamp;

/// Longest product id, in bytes.
pub const PRODUCT_ID_BYTES_MAX: usize = 64;
/// Longest push registration token, in bytes; FCM's are about 160.
const PUSH_TOKEN_BYTES_MAX: usize = 512;

/// A reservation as it was asked for, beside its product and coupon.
pub struct NewGift {
    pub recipient: Recipient,
    pub sender: SenderContact,
    pub message: String,
    pub send_at: SendAt,
    pub channels: Vec<Channel>,
    pub method: PaymentMethod,
    /// Empty for a payment from the wallet.
    pub payment_key: String,
}

/// A reservation as far as its body reads: what must be there and is `None` is among the body's faults.
pub struct GiftDraft {
    pub product_id: Option<String>,
    recipient: Option<Recipient>,
    sender: SenderContact,
    message: String,
    pub send_at: Option<SendAt>,
    channels: Vec<Channel>,
    pub method: Option<PaymentMethod>,
    payment_key: Option<String>,
    pub coupon_id: Option<String>,
}

impl GiftDraft {
    /// The reservation, when its body has no fault.
    #[must_use]
    pub fn complete(self) -> Option<NewGift> {
        Some(NewGift {
            recipient: self.recipient?,
            sender: self.sender,
            message: self.message,
            send_at: self.send_at?,
            channels: self.channels,
            method: self.method?,
            payment_key: self.payment_key?,
        })
    }
}

/// A recipient and the zone that was named for them.
pub struct Recipient {
    pub contact: RecipientContact,
    pub zone: Option<String>,
    /// The contacts that it names, those that do not read included: one that is at fault is not missing too.
    named: ContactSet,
}

/// What a sender changes; `None` keeps.
#[derive(Default)]
pub struct GiftPatch {
    pub recipient: Option<Recipient>,
    pub message: Option<String>,
    pub send_at: Option<SendAt>,
    pub channels: Option<Vec<Channel>>,
}

/// Reads `POST /v1/gifts`; what is missing is noted.
pub fn read_new(mut root: Object<'_>) -> GiftDraft {
    let product_id = read_product_id(&mut root);
    let recipient = root.required_object("recipient").map(|object| read_recipient(object, None));
    let sender = root.object("sender").map(read_sender).unwrap_or_default();
    let message = read_message(&mut root).unwrap_or_default();
    let send_at = root.required_object("send_at").and_then(read_send_at);
    let contacts = recipient.as_ref().map(|recipient| recipient.named);
    let asked = read_channels(&mut root);
    let channels = contacts.map(|contacts| choose_channels(&root, asked, contacts)).unwrap_or_default();
    let payment = root.required_object("payment").map(read_payment);
    let coupon_id = root.text("coupon_id");
    root.done();
    let (method, payment_key) = payment.unwrap_or_default();
    GiftDraft { product_id, recipient, sender, message, send_at, channels, method, payment_key, coupon_id }
}

/// Reads `PATCH /v1/gifts/{id}`: members that are absent keep what is there (RFC 7396).
pub fn read_patch(mut root: Object<'_>, before: &RecipientContact) -> GiftPatch {
    for name in ["recipient", "send_at", "channels"] {
        root.refuse_null(name);
    }
    let clears_message = root.has("message");
    let message = read_message(&mut root).or(clears_message.then(String::new));
    let names_recipient = root.has("recipient");
    let recipient = root.object("recipient").map(|object| read_recipient(object, Some(before)));
    let send_at = root.object("send_at").and_then(read_send_at);
    let contacts = recipient.as_ref().map_or_else(|| before.contacts(), |recipient| recipient.named);
    let asked = read_channels(&mut root);
    let channels = match (asked, &recipient) {
        // Who is to be reached does not read, so nothing is said of how.
        (_, None) if names_recipient => None,
        (None, None) => None,
        // Without channels asked for, this only notes a recipient whom nothing reaches any more.
        (None, Some(_)) => {
            choose_channels(&root, None, contacts);
            None
        }
        (Some(asked), _) => Some(choose_channels(&root, Some(asked), contacts)),
    };
    root.done();
    GiftPatch { recipient, message, send_at, channels }
}

/// Reads `POST /v1/links/{token}/transfer`.
pub fn read_transfer(mut root: Object<'_>) -> Option<Recipient> {
    let recipient = root.required_object("recipient").map(|object| {
        let recipient = read_recipient(object, None);
        if recipient.named.default_channels().is_empty() {
            root.fault("recipient", "no_contact", no_contact(recipient.named));
        }
        recipient
    });
    root.done();
    recipient
}

/// Why nothing reaches who has these contacts alone.
fn no_contact(contacts: ContactSet) -> &'static str {
    if contacts.kakao {
        "A Kakao id alone reaches nobody: the senders of KakaoTalk messages take phone numbers. A phone, an e-mail \
         address or a push token is needed beside it."
    } else {
        "A phone, an e-mail address or a push token is needed to reach the recipient."
    }
}

fn read_product_id(root: &mut Object<'_>) -> Option<String> {
    let id = root.required_text("product_id")?;
    if !product_id_is_sound(&id) {
        root.fault("product_id", "unknown_product", "There is no such product.");
        return None;
    }
    Some(id)
}

/// `.` and `..` lead elsewhere when a URL is made of them: a provider's, of a payment key, or ours, of a product.
pub fn climbs(text: &str) -> bool {
    matches!(text, "." | "..")
}

/// Letters, digits, `-`, `_` and `.`, at most [`PRODUCT_ID_BYTES_MAX`]; not `.` and not `..`.
#[must_use]
pub fn product_id_is_sound(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=PRODUCT_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) && !climbs(id)
}

fn read_message(root: &mut Object<'_>) -> Option<String> {
    let text = root.text("message")?;
    match MESSAGE.check(&text) {
        Ok(message) => Some(message),
        Err(fault) => {
            root.fault("message", fault.code(), format!("The message {fault}."));
            None
        }
    }
}

/// One contact member: absent keeps `before`, `null` clears it.
fn contact<T>(
    object: &mut Object<'_>,
    name: &str,
    before: Option<&String>,
    parse: fn(&str) -> Result<T, ContactFault>,
    expose: fn(T) -> String,
) -> Option<String> {
    if !object.has(name) {
        return before.cloned();
    }
    let text = object.text(name)?;
    match parse(&text) {
        Ok(value) => Some(expose(value)),
        Err(fault) => {
            object.fault(name, fault.code(), format!("This {fault}."));
            None
        }
    }
}

fn read_recipient(mut object: Object<'_>, before: Option<&RecipientContact>) -> Recipient {
    let name = if before.is_some() && !object.has("name") { None } else { object.required_text("name") };
    let name = name.and_then(|text| match PersonName::parse(&text) {
        Ok(name) => Some(name.into_exposed()),
        Err(fault) => {
            object.fault("name", fault.code(), format!("The name {fault}."));
            None
        }
    });
    let old = before.cloned().unwrap_or_default();
    let given = ContactSet {
        phone: object.given("phone"),
        kakao: object.given("kakao_id"),
        email: object.given("email"),
        push: object.given("push_token"),
    };
    let contact = RecipientContact {
        name: name.unwrap_or(old.name),
        phone: contact(&mut object, "phone", old.phone.as_ref(), Phone::parse, Phone::into_exposed),
        kakao_id: contact(&mut object, "kakao_id", old.kakao_id.as_ref(), KakaoId::parse, KakaoId::into_exposed),
        email: contact(&mut object, "email", old.email.as_ref(), Email::parse, Email::into_exposed),
        push_token: push_token(&mut object, old.push_token),
    };
    let zone = object.text("zone").and_then(|zone| checked_zone(&object, &zone));
    object.done();
    let read = contact.contacts();
    let named = ContactSet {
        phone: read.phone || given.phone,
        kakao: read.kakao || given.kakao,
        email: read.email || given.email,
        push: read.push || given.push,
    };
    Recipient { contact, zone, named }
}

/// `{"name", "phone", "push_token"}`, all optional.
pub fn read_sender(mut object: Object<'_>) -> SenderContact {
    let name = object.text("name").and_then(|text| match NAME.check(&text) {
        Ok(name) => Some(name),
        Err(fault) => {
            object.fault("name", fault.code(), format!("The name {fault}."));
            None
        }
    });
    let phone = contact(&mut object, "phone", None, Phone::parse, Phone::into_exposed);
    let push_token = push_token(&mut object, None);
    object.done();
    SenderContact { name, phone, push_token }
}

fn push_token(object: &mut Object<'_>, before: Option<String>) -> Option<String> {
    if !object.has("push_token") {
        return before;
    }
    let token = object.text("push_token")?;
    let sound = (1..=PUSH_TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    // A topic would reach everyone who follows it.
    if !sound || token.starts_with('/') {
        object.fault("push_token", "invalid_push_token", "This is not a registration token.");
        return None;
    }
    Some(token)
}

fn checked_zone(object: &Object<'_>, zone: &str) -> Option<String> {
    match calendar::parse_zone(zone) {
        Ok(zone) => Some(zone),
        Err(fault) => {
            object.fault("zone", fault.code(), format!("This {fault}."));
            None
        }
    }
}

fn read_send_at(mut object: Object<'_>) -> Option<SendAt> {
    let forms = ["local", "date", "instant"];
    let (given, absent): (Vec<&str>, Vec<&str>) = forms.into_iter().partition(|name| object.given(name));
    for name in absent {
        // `null` is the same as nothing, and not unknown.
        let _null = object.take(name);
    }
    let send_at = match given.as_slice() {
        ["local"] => read_civil(&mut object, "local", SendAt::local),
        ["date"] => read_civil(&mut object, "date", SendAt::date),
        ["instant"] => read_instant(&mut object),
        [] => {
            object.fault_here("required", "One of local and zone, date and zone, or instant.");
            None
        }
        [..] => {
            object.fault_here("ambiguous", "Only one of local, date and instant.");
            None
        }
    };
    if send_at.is_none() {
        // What was not read because of another fault is not unknown.
        for name in ["local", "date", "instant", "zone"] {
            let _dropped = object.take(name);
        }
    }
    object.done();
    send_at
}

type CivilParser = fn(&str, &str) -> Result<SendAt, CalendarFault>;

fn read_civil(object: &mut Object<'_>, name: &str, parse: CivilParser) -> Option<SendAt> {
    let text = object.required_text(name);
    let zone = object.required_text("zone").and_then(|zone| checked_zone(object, &zone));
    // With an unknown zone the time is still judged, so that both faults are named at once.
    let judged = parse(text.as_deref()?, zone.as_deref().unwrap_or(calendar::ZONE_DEFAULT));
    match judged {
        Ok(send_at) => zone.map(|_| send_at),
        Err(fault) => {
            object.fault(name, fault.code(), format!("This {fault}."));
            None
        }
    }
}

fn read_instant(object: &mut Object<'_>) -> Option<SendAt> {
    let text = object.required_text("instant")?;
    let zone = match object.text("zone") {
        Some(zone) => Some(checked_zone(object, &zone)?),
        None => None,
    };
    let Some(instant) = Timestamp::parse_rfc3339(&text) else {
        object.fault("instant", "invalid_instant", "RFC 3339 with an offset, such as 2026-12-25T05:00:00Z.");
        return None;
    };
    SendAt::instant(instant, zone.as_deref()).ok()
}

/// The channels that are asked for, each with its place in the list.
fn read_channels(root: &mut Object<'_>) -> Option<Vec<(usize, Channel)>> {
    let names = root.texts("channels", Channel::ALL.len())?;
    let mut channels: Vec<(usize, Channel)> = Vec::with_capacity(names.len());
    for (position, name) in names.iter().enumerate() {
        let Some(name) = name else { continue };
        let at = format!("channels/{position}");
        match Channel::parse(name) {
            Some(channel) if channels.iter().any(|(_, known)| *known == channel) => {
                root.fault_below(&at, "duplicate", "This channel is named twice.");
            }
            Some(channel) => channels.push((position, channel)),
            None => root.fault_below(&at, "unknown_value", "kakao, sms, email or push."),
        }
    }
    if names.is_empty() {
        root.fault("channels", "required", "At least one channel; leave it out for the default.");
    }
    Some(channels)
}

/// The channels asked for, each with a contact; or the default of the contacts.
fn choose_channels(root: &Object<'_>, asked: Option<Vec<(usize, Channel)>>, contacts: ContactSet) -> Vec<Channel> {
    let default = contacts.default_channels();
    if default.is_empty() {
        root.fault("recipient", "no_contact", no_contact(contacts));
        return default;
    }
    let Some(channels) = asked else { return default };
    for (position, channel) in &channels {
        if !contacts.reaches(*channel) {
            let detail = format!("The recipient has no contact for {}.", channel.name());
            root.fault_below(&format!("channels/{position}"), "no_contact", detail);
        }
    }
    channels.into_iter().map(|(_, channel)| channel).collect()
}

/// The method, and the payment provider's key: empty for the wallet.
fn read_payment(mut object: Object<'_>) -> (Option<PaymentMethod>, Option<String>) {
    let method = object.required_text("method").and_then(|name| {
        let method = PaymentMethod::parse(&name);
        if method.is_none() {
            let known: Vec<&str> = PaymentMethod::ALL.iter().map(|method| method.name()).collect();
            object.fault("method", "unknown_value", format!("One of {}.", known.join(", ")));
        }
        method
    });
    if method == Some(PaymentMethod::Balance) {
        // The wallet needs no key; one that is given is not looked at.
        let _unused = object.take("payment_key");
        object.done();
        return (method, Some(String::new()));
    }
    let payment_key = read_payment_key(&mut object);
    object.done();
    (method, payment_key)
}
