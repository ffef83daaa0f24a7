//! The recipient's side: no login, the link's token is the right.
//!
//! A token leads to its gift through the derived index of its shard; only its keyed hash is ever looked up. Whoever
//! holds the link sees the message and, once accepted, the voucher; never what the sender's other gifts are, nor a
//! phone number in full.

use crate::api::asking::OpenGift;
use crate::api::dto::{Instant, ProblemDocument};
use crate::api::extract::{JsonBody, Segment};
use crate::api::gift_body::{self, Recipient};
use crate::api::idempotency::{Mark, Posted};
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::router::{App, Shared};
use crate::api::schema::TransferBody;
use crate::api::telling::{With, reply};
use crate::api::upon::read_empty;
use crate::domain::gift::{GiftCommand, GiftState, Personal, RecipientFacts, RefundReason, Status, Transfer};
use crate::domain::kinds;
use crate::domain::policy::DeclineRule;
use crate::domain::voucher::LinkToken;
use crate::types::codec;
use crate::types::contact::mask_name;
use crate::types::ids::EntityKey;
use crate::types::level::FOURTH_LEVEL;
use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(look))
        .routes(routes!(accept))
        .routes(routes!(decline))
        .routes(routes!(transfer))
}

/// A gift as its recipient sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinkedGift {
    /// `arrived`, `accepted`, `used`, `declined`, `expired`, `transferred` or `withdrawn`.
    #[schema(example = "arrived")]
    pub state: &'static str,
    /// The gift's own status, as its sender sees it.
    #[schema(example = "sent")]
    pub status: &'static str,
    pub version: u64,
    pub product_id: String,
    pub product_name: String,
    pub sender_name: Option<String>,
    #[schema(example = "지*")]
    pub recipient_name: Option<String>,
    pub message: Option<String>,
    pub expires_at: Option<Instant>,
    /// IANA zone of the recipient, for showing `expires_at`.
    pub zone: String,
    pub transfers_left: u8,
    /// Once accepted, until used.
    pub voucher: Option<Voucher>,
    pub used_at: Option<Instant>,
    /// Which calls make sense now.
    pub actions: Vec<&'static str>,
}

/// What the till reads.
#[derive(Debug, Serialize, ToSchema)]
pub struct Voucher {
    /// 16 digits.
    #[schema(example = "0071234567890124")]
    pub code: String,
    /// Barcode symbology.
    #[schema(example = "code128")]
    pub format: &'static str,
}

/// A link that was followed.
pub struct Linked {
    pub gift: OpenGift,
    pub hash: [u8; 16],
}

impl Shared {
    async fn resolve_link(&self, token: &str) -> Result<(EntityKey, [u8; 16]), Problem> {
        let token = LinkToken::parse(token).filter(|token| token.shard().0 < self.door.shard_count());
        let token = token.ok_or_else(|| Problem::new(Code::NotFound))?;
        let hash = token.hash(self.door.cluster_secret());
        let key = self.door.resolve(token.shard(), kinds::INDEX_LINK, hash.to_vec()).await?;
        let key = key.ok_or_else(|| Problem::new(Code::NotFound))?;
        tracing::Span::current().record("entity", tracing::field::display(self.door.kinds().format(key)));
        Ok((key, hash))
    }

    /// Follows a link to look at the gift, which proves that its message arrived: by `GET`. A `HEAD` shows nobody
    /// anything; mail and chat programs send one to try a link before a person does.
    ///
    /// # Errors
    /// [`Code::NotFound`] for a token that leads nowhere, or to a gift that has not left yet.
    pub async fn follow_link(&self, method: &Method, token: &str) -> Result<Linked, Problem> {
        let (key, hash) = self.resolve_link(token).await?;
        let gift = self.read_gift(key).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
        if !has_left(&gift.state) {
            return Err(Problem::new(Code::NotFound));
        }
        let mut linked = Linked { gift, hash };
        let state = &linked.gift.state;
        // A message that was given up has arrived after all when its link is followed.
        let is_out = matches!(state.state(), Status::Sending | Status::Sent | Status::SendFailed);
        let unproven = is_out && state.delivery().confirmed != Some(true);
        if method == Method::GET && unproven && state.is_current_link(&hash) {
            let opened = GiftCommand::Opened { link_hash: hash };
            // Showing the gift does not depend on noting that it was seen.
            if let Ok(gift) = self.ask_gift(key, &opened, With::default()).await {
                linked.gift = gift;
            }
        }
        Ok(linked)
    }

    async fn transfer(&self, linked: &Linked, with: With, recipient: Recipient) -> Result<OpenGift, Problem> {
        let gift = &linked.gift;
        let old = gift.personal.clone().ok_or_else(|| Problem::new(Code::PersonalDataErased))?;
        let secrets = self.draw_secrets(self.door.shard_of(&gift.key));
        let recipient_facts = RecipientFacts {
            contacts: recipient.contact.contacts(),
            zone: recipient.zone.unwrap_or_else(|| gift.state.recipient().zone.clone()),
        };
        let personal = Personal {
            recipient: recipient.contact,
            link_token: secrets.link.expose().to_owned(),
            voucher_code: secrets.code.expose().to_owned(),
            ..old
        };
        let sealed = self.door.seal(gift.key, codec::encode(&personal)).await?;
        let transfer = Transfer {
            link_hash: linked.hash,
            recipient: recipient_facts,
            sealed: sealed.ok_or_else(|| Problem::new(Code::PersonalDataErased))?,
            new_link_hash: secrets.link.hash(self.door.cluster_secret()),
            new_code_hash: secrets.code.hash(self.door.cluster_secret()),
        };
        // A build of before does not know the other.
        let remembers = self.door.feature_level() >= FOURTH_LEVEL;
        let command = if remembers { GiftCommand::HandOn } else { GiftCommand::Transfer }(Box::new(transfer));
        self.ask_gift(gift.key, &command, with).await
    }
}

/// Whether the recipient may know of it: before it leaves a gift is its sender's secret.
fn has_left(state: &GiftState) -> bool {
    match state.state() {
        Status::PaymentPending | Status::Scheduled | Status::PaymentFailed | Status::PaymentExpired => false,
        Status::Sending | Status::Sent | Status::Accepted | Status::Used => true,
        Status::Declined | Status::Expired => true,
        Status::Cancelled | Status::SendFailed | Status::Refunding | Status::Refunded | Status::RefundFailed => {
            state.expires_at().is_some()
        }
    }
}

/// A gift as the holder of the link with `hash` sees it.
#[must_use]
pub fn linked_view(gift: &OpenGift, hash: &[u8; 16]) -> LinkedGift {
    let state = &gift.state;
    let (shown, personal) = match state.is_current_link(hash) {
        true => (shown_state(state), gift.personal.as_ref()),
        false => ("transferred", None),
    };
    let accepted = shown == "accepted";
    LinkedGift {
        state: shown,
        status: state.status(),
        version: gift.version.0,
        product_id: state.product().id.clone(),
        product_name: state.product().name.clone(),
        sender_name: personal.and_then(|personal| personal.sender.name.clone()),
        recipient_name: personal.map(|personal| mask_name(&personal.recipient.name)),
        message: personal.map(|personal| personal.message.clone()),
        expires_at: state.expires_at().map(Instant),
        zone: state.recipient().zone.clone(),
        transfers_left: state.transfers_left(),
        voucher: personal
            .filter(|_| accepted)
            .map(|personal| Voucher { code: personal.voucher_code.clone(), format: "code128" }),
        used_at: state.redemption().map(|redemption| Instant(redemption.at)),
        actions: actions(state, shown),
    }
}

fn shown_state(state: &GiftState) -> &'static str {
    match state.state() {
        Status::PaymentPending | Status::Scheduled | Status::Sending | Status::Sent | Status::SendFailed => "arrived",
        Status::Accepted => "accepted",
        Status::Used => "used",
        Status::Declined => "declined",
        Status::Expired => "expired",
        Status::Refunding | Status::Refunded | Status::RefundFailed => shown_refund(state.refund_reason()),
        Status::PaymentFailed | Status::PaymentExpired | Status::Cancelled => "withdrawn",
    }
}

/// Where its money goes is the sender's business; why it does is what became of the gift.
fn shown_refund(reason: Option<RefundReason>) -> &'static str {
    match reason {
        Some(RefundReason::Declined) => "declined",
        Some(RefundReason::Expired) => "expired",
        Some(
            RefundReason::Cancelled
            | RefundReason::PaymentExpired
            | RefundReason::AmountMismatch
            | RefundReason::SendFailed
            | RefundReason::CancelledByProvider,
        )
        | None => "withdrawn",
    }
}

fn actions(state: &GiftState, shown: &str) -> Vec<&'static str> {
    let decline = state.product().policy.decline;
    let mut actions = Vec::new();
    match shown {
        "arrived" => {
            actions.push("accept");
            if decline != DeclineRule::Never {
                actions.push("decline");
            }
        }
        "accepted" if decline == DeclineRule::UntilUsed => actions.push("decline"),
        _nothing_to_do => {}
    }
    if state.transfers_left() > 0 && (shown == "arrived" || shown == "accepted") {
        actions.push("transfer");
    }
    actions
}

/// The gift behind a link. Looking at it counts as its message having arrived.
#[utoipa::path(get, path = "/v1/links/{token}", tag = "recipient", params(("token" = String, Path)),
    responses((status = 200, body = LinkedGift), (status = 404, body = ProblemDocument),
        (status = 410, body = ProblemDocument)))]
async fn look(State(app): State<App>, method: Method, Segment(token): Segment) -> Result<Response, Problem> {
    let linked = app.follow_link(&method, &token).await?;
    let view = linked_view(&linked.gift, &linked.hash);
    if view.state == "transferred" {
        return Err(Problem::new(Code::LinkDead));
    }
    Ok(reply(StatusCode::OK, linked.gift.version, false, &view))
}

/// Accepts the gift: its voucher becomes usable.
#[utoipa::path(post, path = "/v1/links/{token}/accept", tag = "recipient",
    params(("token" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = LinkedGift), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 410, body = ProblemDocument)))]
async fn accept(
    State(app): State<App>,
    Segment(token): Segment,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let canonical = read_empty(&body)?;
    answer(&app, &token, &posted, canonical, |link_hash| GiftCommand::Accept { link_hash }).await
}

/// Declines the gift; its money goes back.
#[utoipa::path(post, path = "/v1/links/{token}/decline", tag = "recipient",
    params(("token" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = LinkedGift), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 410, body = ProblemDocument)))]
async fn decline(
    State(app): State<App>,
    Segment(token): Segment,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let canonical = read_empty(&body)?;
    answer(&app, &token, &posted, canonical, |link_hash| GiftCommand::Decline { link_hash }).await
}

async fn answer(
    app: &App,
    token: &str,
    posted: &Posted,
    canonical: Vec<u8>,
    command: impl FnOnce([u8; 16]) -> GiftCommand,
) -> Result<Response, Problem> {
    let mark = link_mark(app, token, posted, &canonical);
    let (key, hash) = app.resolve_link(token).await?;
    let with = app.holding(posted, key, mark).await?;
    let gift = app.ask_gift(key, &command(hash), with).await?;
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &linked_view(&gift, &hash)))
}

/// The token is the caller: whoever holds the link is one and the same.
fn link_mark(app: &App, token: &str, posted: &Posted, canonical: &[u8]) -> Mark {
    posted.scope(token).mark(app.door.cluster_secret(), canonical)
}

/// Hands the gift on: this link and its voucher die, the new recipient gets their own.
#[utoipa::path(post, path = "/v1/links/{token}/transfer", tag = "recipient", request_body = TransferBody,
    params(("token" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = LinkedGift), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 410, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn transfer(
    State(app): State<App>,
    Segment(token): Segment,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (recipient, canonical) = read_transfer(&body)?;
    let mark = link_mark(&app, &token, &posted, &canonical);
    let (key, hash) = app.resolve_link(&token).await?;
    let gift = app.read_gift(key).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
    let with = app.holding(&posted, key, mark).await?;
    let gift = app.transfer(&Linked { gift, hash }, with, recipient).await?;
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &linked_view(&gift, &hash)))
}

fn read_transfer(body: &JsonBody) -> Result<(Recipient, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let recipient = gift_body::read_transfer(Object::root(value, &faults));
    faults.check()?;
    let recipient = recipient.ok_or_else(|| Problem::new(Code::Internal))?;
    Ok((recipient, canonical))
}
