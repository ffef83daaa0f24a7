//! A gift as its sender sees it: a pure function of (id, version, state, personal data).

use crate::api::asking::OpenGift;
use crate::api::dto::{Instant, MoneyView, TenderView};
use crate::domain::gift::{DeliveryView, GiftState, Notice, Personal};
use crate::types::contact::{mask_email, mask_name, mask_phone};
use serde::Serialize;
use utoipa::ToSchema;

/// A gift.
#[derive(Debug, Serialize, ToSchema)]
pub struct GiftView {
    #[schema(example = "g_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    /// `payment_pending`, `scheduled`, `sending`, `sent`, `accepted`, `used`, `payment_failed`, `payment_expired`,
    /// `cancelled`, `declined`, `send_failed`, `expired`, `refunding`, `refunded` or `refund_failed`.
    #[schema(example = "scheduled")]
    pub status: &'static str,
    /// Records of its journal; also its entity tag.
    pub version: u64,
    pub product_id: String,
    pub product_name: String,
    /// To be paid in money: the price, less what the coupon takes off.
    pub amount: MoneyView,
    pub refunded: MoneyView,
    pub recipient: RecipientView,
    /// `null` once personal data is erased.
    pub message: Option<String>,
    pub send_at: SendAtView,
    pub channels: Vec<&'static str>,
    pub payment: PaymentView,
    /// `null` when it is paid in money alone.
    pub coupon: Option<TenderView>,
    pub delivery: Delivery,
    /// Last instant of validity; `null` before the gift has left.
    pub expires_at: Option<Instant>,
    pub transfers_left: u8,
    pub accepted_at: Option<Instant>,
    pub used_at: Option<Instant>,
    /// Why money goes or went back.
    pub refund_reason: Option<&'static str>,
    /// The provider's code for a refused payment, a failed send or a failed refund.
    pub failure_code: Option<String>,
    pub created_at: Instant,
    pub updated_at: Instant,
}

/// A recipient, masked. All `null` once erased, except the zone.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecipientView {
    #[schema(example = "지*")]
    pub name: Option<String>,
    #[schema(example = "010-****-5678")]
    pub phone: Option<String>,
    pub kakao_id: Option<String>,
    #[schema(example = "j***@example.com")]
    pub email: Option<String>,
    #[schema(example = "Asia/Seoul")]
    pub zone: String,
}

/// The send instant with all that explains it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SendAtView {
    pub instant: Instant,
    /// Wall-clock time in `zone`.
    #[schema(example = "2026-12-25T00:00:00")]
    pub local: String,
    #[schema(example = "America/New_York")]
    pub zone: String,
    /// Version of the time-zone data that it was resolved with.
    #[schema(example = "2026e")]
    pub tzdb: String,
}

/// How the gift is paid; never the payment key.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentView {
    #[schema(example = "card")]
    pub method: &'static str,
}

/// The delivery under way or done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Grows by a transfer, or by an operator's resend.
    pub generation: u16,
    pub channel: Option<&'static str>,
    pub attempts: u16,
    /// When a provider took the message.
    pub accepted_at: Option<Instant>,
    pub sent_at: Option<Instant>,
    /// Whether a report confirmed it; `null` before `sent`.
    pub confirmed: Option<bool>,
    /// From the due instant to `accepted_at`.
    pub lateness_ms: Option<i64>,
}

impl From<DeliveryView> for Delivery {
    fn from(delivery: DeliveryView) -> Self {
        Self {
            generation: delivery.generation,
            channel: delivery.channel.map(|channel| channel.name()),
            attempts: delivery.attempts,
            accepted_at: delivery.accepted_at.map(Instant),
            sent_at: delivery.sent_at.map(Instant),
            confirmed: delivery.confirmed,
            lateness_ms: delivery.lateness.map(|lateness| lateness.0),
        }
    }
}

/// The sender's view of a gift.
#[must_use]
pub fn gift_view(gift: &OpenGift) -> GiftView {
    let state = &gift.state;
    let send_at = state.send_at();
    GiftView {
        id: gift.id.clone(),
        status: state.status(),
        version: gift.version.0,
        product_id: state.product().id.clone(),
        product_name: state.product().name.clone(),
        amount: state.amount().into(),
        refunded: state.refunded().into(),
        recipient: recipient_view(state, gift.personal.as_ref()),
        message: gift.personal.as_ref().map(|personal| personal.message.clone()),
        send_at: SendAtView {
            instant: send_at.instant.into(),
            local: send_at.local.clone(),
            zone: send_at.zone.clone(),
            tzdb: send_at.tzdb.clone(),
        },
        channels: state.channels().iter().map(|channel| channel.name()).collect(),
        payment: PaymentView { method: state.payment().method.name() },
        coupon: state.coupon().map(TenderView::from),
        delivery: state.delivery().into(),
        expires_at: state.expires_at().map(Instant),
        transfers_left: state.transfers_left(),
        accepted_at: state.accepted_at().map(Instant),
        used_at: state.redemption().map(|redemption| Instant(redemption.at)),
        refund_reason: state.refund_reason().map(|reason| reason.name()),
        failure_code: state.failure_code().map(str::to_owned),
        created_at: state.created_at().into(),
        updated_at: state.updated_at().into(),
    }
}

fn recipient_view(state: &GiftState, personal: Option<&Personal>) -> RecipientView {
    let zone = state.recipient().zone.clone();
    let Some(personal) = personal else {
        return RecipientView { name: None, phone: None, kakao_id: None, email: None, zone };
    };
    let recipient = &personal.recipient;
    RecipientView {
        name: Some(mask_name(&recipient.name)),
        phone: recipient.phone.as_deref().map(mask_phone),
        kakao_id: recipient.kakao_id.as_deref().map(mask_id),
        email: recipient.email.as_deref().map(mask_email),
        zone,
    }
}

/// `j***` for `jimin_01`.
fn mask_id(id: &str) -> String {
    format!("{}***", id.chars().next().unwrap_or('*'))
}

/// One entry of a notification log.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoticeView {
    pub number: u16,
    /// `expires_in_days`, `sender_reserved`, `order_placed`, …
    pub template: &'static str,
    /// `sender` or `recipient`; `buyer` of an order.
    pub audience: &'static str,
    pub channel: &'static str,
    /// Days before expiry, for a reminder.
    pub days: Option<u8>,
    pub generation: u16,
    /// `pending`, `sent`, `dead_letter` or `dropped`.
    pub status: &'static str,
    /// Tries on this channel, the one that it was sent or given up with included.
    pub attempts: u16,
    pub created_at: Instant,
    pub settled_at: Option<Instant>,
    /// Why it is a dead letter.
    pub failure_code: Option<String>,
}

/// One entry of the notification log.
#[must_use]
pub fn notice_view(notice: &Notice) -> NoticeView {
    use crate::domain::gift::Audience;
    NoticeView {
        number: notice.number,
        template: notice.template.name(),
        audience: match notice.audience() {
            Audience::Sender => "sender",
            Audience::Recipient => "recipient",
            Audience::Buyer => "buyer",
        },
        channel: notice.channel.name(),
        days: notice.days,
        generation: notice.generation,
        status: notice.status(),
        attempts: notice.attempts(),
        created_at: notice.made_at.into(),
        settled_at: notice.settled_at().map(Instant),
        failure_code: notice.death().map(|(_, code)| code.to_owned()),
    }
}
