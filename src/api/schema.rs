//! Request bodies as the API's description shows them. `gift_body.rs` and its neighbours read the bodies member by
//! member, with pointers; a test holds the two together.

#![expect(dead_code, reason = "these types only describe; nothing constructs them")]

use utoipa::ToSchema;

/// A reservation.
#[derive(ToSchema)]
pub struct NewGiftBody {
    #[schema(example = "americano")]
    product_id: String,
    recipient: RecipientBody,
    /// Who the gift is from; all of it optional.
    sender: Option<SenderBody>,
    /// Up to 500 characters (grapheme clusters) and 4 KB.
    #[schema(max_length = 4096, example = "생일 축하해!")]
    message: Option<String>,
    send_at: SendAtBody,
    /// In the order in which they are tried; the default follows from the contacts.
    #[schema(max_items = 4, example = json!(["kakao", "sms"]))]
    channels: Option<Vec<String>>,
    payment: PaymentBody,
    /// One of the caller's coupons: pays its discount off the price.
    #[schema(example = "c_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    coupon_id: Option<String>,
}

/// Who gets the gift. At least one of phone, e-mail address and push token: KakaoTalk messages are sent to the phone.
#[derive(ToSchema)]
pub struct RecipientBody {
    #[schema(example = "지민")]
    name: String,
    /// Korean mobile number, or E.164.
    #[schema(example = "010-1234-5678")]
    phone: Option<String>,
    /// Kept and shown, never sent to: the senders of KakaoTalk messages take phone numbers. Alone it is no contact.
    kakao_id: Option<String>,
    email: Option<String>,
    /// FCM registration token.
    push_token: Option<String>,
    /// IANA zone; default: that of `send_at`, else Asia/Seoul.
    #[schema(example = "Asia/Seoul")]
    zone: Option<String>,
}

/// Who gives or buys it.
#[derive(ToSchema)]
pub struct SenderBody {
    name: Option<String>,
    phone: Option<String>,
    push_token: Option<String>,
}

/// One of `local` and `zone`; `date` and `zone` (the start of that day); `instant` (with an optional `zone`).
#[derive(ToSchema)]
pub struct SendAtBody {
    #[schema(example = "2026-12-25T00:00")]
    local: Option<String>,
    date: Option<String>,
    instant: Option<String>,
    #[schema(example = "America/New_York")]
    zone: Option<String>,
}

/// How it is paid.
#[derive(ToSchema)]
pub struct PaymentBody {
    /// `card`, `kakao_pay`, `naver_pay`, `bank_transfer`, or `balance`: the caller's wallet.
    #[schema(example = "card")]
    method: String,
    /// The payment provider's key of the payment; for all but `balance`.
    #[schema(max_length = 200, example = "tok_1")]
    payment_key: Option<String>,
}

/// A change: absent members keep what is there, in `recipient` too (RFC 7396). A new person needs a new contact, or the
/// gift still goes to the one before: a `name` alone keeps their phone; `"phone": null` removes it.
#[derive(ToSchema)]
pub struct PatchBody {
    #[schema(nullable = false)]
    recipient: Option<PatchRecipientBody>,
    /// Up to 500 characters (grapheme clusters) and 4 KB; `null` removes it.
    #[schema(max_length = 4096)]
    message: Option<String>,
    #[schema(nullable = false)]
    send_at: Option<SendAtBody>,
    #[schema(nullable = false, max_items = 4, example = json!(["kakao", "sms"]))]
    channels: Option<Vec<String>>,
}

/// What changes of who gets the gift: absent members keep what is there, `null` removes a contact.
#[derive(ToSchema)]
pub struct PatchRecipientBody {
    #[schema(nullable = false, example = "지민")]
    name: Option<String>,
    /// Korean mobile number, or E.164.
    #[schema(example = "010-1234-5678")]
    phone: Option<String>,
    /// Kept and shown, never sent to.
    kakao_id: Option<String>,
    email: Option<String>,
    /// FCM registration token.
    push_token: Option<String>,
    /// IANA zone.
    #[schema(example = "Asia/Seoul")]
    zone: Option<String>,
}

/// A transfer to another recipient.
#[derive(ToSchema)]
pub struct TransferBody {
    recipient: RecipientBody,
}

/// An order.
#[derive(ToSchema)]
pub struct OrderBody {
    #[schema(min_items = 1, max_items = 20)]
    items: Vec<OrderItemBody>,
    payment: OrderPaymentBody,
    /// Where the goods go.
    shipping: Option<ShipToBody>,
    /// One of the caller's coupons: pays its discount off the whole.
    coupon_id: Option<String>,
    /// How the caller is told that the order was placed and how it ended; all of it optional: without a contact, by push
    /// to the caller's topic.
    buyer: Option<SenderBody>,
}

/// Units of one stock-keeping unit; none is named twice.
#[derive(ToSchema)]
pub struct OrderItemBody {
    #[schema(example = "mug-blue", max_length = 64)]
    sku: String,
    #[schema(minimum = 1, maximum = 10_000)]
    quantity: u32,
}

/// How an order is paid.
#[derive(ToSchema)]
pub struct OrderPaymentBody {
    /// `card`, or `balance`: the caller's wallet.
    #[schema(example = "card")]
    method: String,
    /// The payment provider's key of the payment; for `card`.
    #[schema(max_length = 200, example = "tok_1")]
    payment_key: Option<String>,
}

/// Who gets the goods, and where.
#[derive(ToSchema)]
pub struct ShipToBody {
    name: String,
    phone: Option<String>,
    #[schema(max_length = 1024)]
    address: String,
}

/// A charge of the caller's wallet by card.
#[derive(ToSchema)]
pub struct ChargeBody {
    amount: MoneyBody,
    payment: ChargePaymentBody,
}

/// The card payment of a charge.
#[derive(ToSchema)]
pub struct ChargePaymentBody {
    /// `card`.
    method: Option<String>,
    #[schema(max_length = 200, example = "tok_1")]
    payment_key: String,
}

/// A stock.
#[derive(ToSchema)]
pub struct StockBody {
    /// Units that are there, those that orders hold included.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    quantity: u32,
    /// Of one unit; left out: the price of the product of the same name.
    price: Option<MoneyBody>,
}

/// A voucher at a till.
#[derive(ToSchema)]
pub struct RedeemBody {
    /// 16 digits; spaces and hyphens do not count.
    #[schema(example = "0071234567890124")]
    code: String,
    #[schema(max_length = 64)]
    store_id: String,
    #[schema(max_length = 64)]
    terminal_id: String,
    /// The till's id of this sale: the same one again is answered, not redeemed again.
    #[schema(max_length = 64)]
    transaction_id: String,
}

/// A product.
#[derive(ToSchema)]
pub struct ProductBody {
    #[schema(example = "아메리카노 Tall")]
    name: String,
    price: MoneyBody,
    /// Days that a gift stays usable, to the end of the day in the recipient's zone; default 30. `valid_days`, as
    /// coupons call it, is understood too.
    #[schema(minimum = 1, maximum = 1826)]
    validity_days: Option<u16>,
    /// Whether it is on sale; default true.
    active: Option<bool>,
    policy: Option<PolicyBody>,
}

/// An amount in minor units.
#[derive(ToSchema)]
pub struct MoneyBody {
    #[schema(minimum = 1, example = 4500)]
    value: i64,
    #[schema(example = "KRW")]
    currency: String,
}

/// What a product changes of the default policy; absent members keep the default.
#[derive(ToSchema)]
pub struct PolicyBody {
    validity_days: Option<u16>,
    /// Days before expiry, falling.
    #[schema(example = json!([3, 1]))]
    reminder_days: Option<Vec<u8>>,
    /// Local hour.
    reminder_hour: Option<u8>,
    transfers_max: Option<u8>,
    /// `never`, `until_accepted` or `until_used`.
    decline: Option<String>,
    expired_percent: Option<u8>,
    declined_percent: Option<u8>,
    /// `null` turns quiet hours off.
    quiet_hours: Option<QuietHoursBody>,
    #[schema(example = json!([10, 30, 120]))]
    send_retry_seconds: Option<Vec<i64>>,
    notice_retry_seconds: Option<Vec<i64>>,
    report_timeout_seconds: Option<i64>,
    /// Later than this after its instant a gift that could not leave becomes a dead letter; default: never.
    overdue_dead_letter_seconds: Option<i64>,
}

/// Hours of the recipient's day without reminders, across midnight when `from_hour` is larger.
#[derive(ToSchema)]
pub struct QuietHoursBody {
    from_hour: u8,
    to_hour: u8,
}

/// A replay of a dead letter.
#[derive(ToSchema)]
pub struct ReplayBody {
    /// Sends as a new delivery, with its own idempotency key at the provider; default false. Of a gift's own letter alone:
    /// for a notice, an order or a reservation there is no such member.
    new_generation: Option<bool>,
}

/// Why a dead letter is given up.
#[derive(ToSchema)]
pub struct DiscardBody {
    #[schema(max_length = 500)]
    reason: String,
}

/// A coupon campaign.
#[derive(ToSchema)]
pub struct CampaignBody {
    #[schema(example = "첫 주문 쿠폰")]
    name: String,
    #[schema(minimum = 1, maximum = 10_000_000, example = 10_000)]
    quantity: u32,
    /// First instant at which a claim is taken, RFC 3339.
    #[schema(example = "2026-12-25T00:00:00Z")]
    starts_at: String,
    /// First instant at which none is taken any more; at most 366 days later.
    #[schema(example = "2026-12-26T00:00:00Z")]
    ends_at: String,
    discount: DiscountBody,
    /// A coupon is good to the end of the day, in Seoul, that is this many days after the one on which it was issued.
    #[schema(minimum = 1, maximum = 1826, example = 30)]
    valid_days: u16,
    /// Splits the quantity into so many sub-quotas on shards of their own, for a crowd that is too much for one leader;
    /// not more than the quantity. Members are hashed to them, and tried at the next one when theirs is sold out.
    /// Default 1: all claims are decided in one order.
    #[schema(minimum = 1, maximum = 64, example = 1)]
    parts: Option<u8>,
}

/// A show.
#[derive(ToSchema)]
pub struct ShowBody {
    #[schema(example = "2026 연말 콘서트", max_length = 256)]
    title: String,
    /// Nobody is admitted before; RFC 3339.
    #[schema(example = "2026-12-25T00:00:00Z")]
    opens_at: String,
    #[schema(min_items = 1, max_items = 200)]
    seats: Vec<SeatRowBody>,
    #[schema(minimum = 1, maximum = 10_000, example = 100)]
    admission_per_second: u32,
    /// Admitted at one time, at most.
    #[schema(minimum = 1, maximum = 100_000, example = 1_000)]
    active_max: u32,
}

/// Seats side by side. They are named `<section>-<number>`, numbered through the rows of a section; a section has at most
/// 1,500.
#[derive(ToSchema)]
pub struct SeatRowBody {
    #[schema(example = "A", max_length = 32)]
    section: String,
    #[schema(example = "1", max_length = 32)]
    row: Option<String>,
    #[schema(minimum = 1, maximum = 1_500)]
    count: u16,
    price: MoneyBody,
}

/// Seats for five minutes.
#[derive(ToSchema)]
pub struct ReservationBody {
    /// The caller's own, admitted.
    #[schema(example = "qt_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    ticket: String,
    /// Of one section, none twice.
    #[schema(min_items = 1, max_items = 10, example = json!(["A-12"]))]
    seats: Vec<String>,
}

/// How a reservation is paid. The members of `payment` may stand for themselves.
#[derive(ToSchema)]
pub struct ReservationPaymentBody {
    payment: Option<OrderPaymentBody>,
    /// `card`, or `balance`: the caller's wallet.
    #[schema(example = "card")]
    method: Option<String>,
    /// The payment provider's key of the payment; for `card`.
    #[schema(max_length = 200, example = "tok_1")]
    payment_key: Option<String>,
}

/// Either `amount`, or `percent` with an optional `cap`.
#[derive(ToSchema)]
pub struct DiscountBody {
    amount: Option<MoneyBody>,
    #[schema(minimum = 1, maximum = 100, example = 10)]
    percent: Option<u8>,
    cap: Option<MoneyBody>,
}
