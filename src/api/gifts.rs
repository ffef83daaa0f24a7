//! The sender's gifts: reserve, look, change, cancel.
//!
//! A reservation is judged in three steps: the body's shape; what depends on now and on the catalogue; the gift
//! itself. The faults of the first two are told together. Before the second alone refuses, an earlier reply under the
//! same key is looked for: a repeat must find it even when the product has been retired or the send instant has come
//! near since.

use crate::api::asking::OpenGift;
use crate::api::auth::Caller;
use crate::api::dto::{Page, ProblemDocument};
use crate::api::extract::{IfMatch, JsonBody, Segment, User};
use crate::api::gift_body::{self, GiftDraft, GiftPatch, NewGift};
use crate::api::gift_view::{GiftView, gift_view};
use crate::api::idempotency::{Mark, Posted};
use crate::api::json::{self, Faults, Object};
use crate::api::listing::Listing;
use crate::api::patience::all_faults;
use crate::api::problem::{Code, Fault, Problem};
use crate::api::refusal::{REFUND_WINDOW, REFUND_WINDOW_CODE};
use crate::api::router::{App, Shared};
use crate::api::schema::{NewGiftBody, PatchBody};
use crate::api::telling::{With, located, reply};
use crate::api::tender::Tender;
use crate::api::upon::Upon;
use crate::domain::calendar::{self, CalendarFault, ResolvedInstant, SendAt};
use crate::domain::gift::{
    Change, GiftCommand, GiftState, PaymentTerms, Personal, ProductSnapshot, RecipientFacts, Reservation, Status,
    outlives_refund,
};
use crate::domain::kinds;
use crate::domain::policy::PaymentMethod;
use crate::domain::voucher::{LinkToken, VoucherCode};
use crate::types::codec;
use crate::types::ids::{EntityKey, ShardId, Version};
use crate::types::level::NEIGHBOURS_LEVEL;
use crate::types::time::Timestamp;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Times that a change with `If-Match: *` is tried against a gift that moves.
const CHANGE_TRIES_MAX: usize = 3;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(reserve, list)).routes(routes!(detail, change)).routes(routes!(cancel))
}

/// Reserves a gift. The reply leaves when it is on disk on a majority; the payment goes on behind it.
#[utoipa::path(post, path = "/v1/gifts", tag = "gifts", request_body = NewGiftBody,
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 201, body = GiftView, headers(("Location" = String), ("ETag" = String))),
        (status = 409, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn reserve(
    State(app): State<App>,
    User(caller): User,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (draft, canonical, found) = read_reservation(&body)?;
    let secret = app.door.cluster_secret();
    let (key, mark) = (posted.entity(&caller, secret, kinds::GIFT), posted.mark(&caller, secret, &canonical));
    if !found.is_empty() {
        return Err(all_faults(found, judge(&app, &caller, key, &draft)).await);
    }
    app.knows_payment(&draft)?;
    let gift = match judge(&app, &caller, key, &draft).await? {
        Ok(terms) => {
            let new = draft.complete().ok_or_else(|| Problem::new(Code::Internal))?;
            app.reserve(key, mark, &caller, new, terms).await?
        }
        Err(faults) => match app.earlier_gift(key, mark).await? {
            Some(earlier) => earlier,
            None => return Err(Problem::invalid(faults)),
        },
    };
    let response = reply(StatusCode::CREATED, gift.version, gift.replayed, &gift_view(&gift));
    Ok(located(response, &format!("/v1/gifts/{}", gift.id)))
}

/// The body's shape alone, with its faults.
fn read_reservation(body: &JsonBody) -> Result<(GiftDraft, Vec<u8>, Vec<Fault>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let draft = gift_body::read_new(Object::root(value, &faults));
    Ok((draft, canonical, faults.into_found()))
}

/// The product as it is promised, how it is paid, and the instant at which the gift leaves.
type Terms = (ProductSnapshot, Tender, ResolvedInstant);
type Judged = Result<Terms, Vec<Fault>>;

/// What depends on now, on the catalogue and on the caller's coupon, as far as the body names it; every fault of it.
async fn judge(app: &Shared, caller: &Caller, gift: EntityKey, draft: &GiftDraft) -> Result<Judged, Problem> {
    let product = match &draft.product_id {
        Some(id) => app.product_on_sale(id).await?,
        None => None,
    };
    let now = app.clock.now();
    let mut faults = Vec::new();
    let mut note = |pointer: &str, code, detail: String| {
        faults.push(Fault { pointer: pointer.to_owned(), code, detail: detail.into() })
    };
    let resolved = match draft.send_at.as_ref().map(|send_at| resolve_ahead(send_at, now)) {
        Some(Ok(resolved)) => Some(resolved),
        Some(Err(error)) => {
            note("/send_at", error.code(), format!("The send instant {error}."));
            None
        }
        None => None,
    };
    if draft.product_id.is_some() && product.is_none() {
        note("/product_id", "unknown_product", "There is no such product on sale.".to_owned());
    }
    if let (Some(product), Some(resolved), Some(method)) = (&product, &resolved, draft.method)
        && outlives_refund(resolved.instant, &product.policy(), method.refund_by(now, &app.refund_windows))
    {
        note("/payment/method", REFUND_WINDOW_CODE, REFUND_WINDOW.to_owned());
    }
    let price = product.as_ref().map(|product| product.price);
    let tender = match app.tender(gift, &caller.subject, draft.coupon_id.as_deref(), price).await? {
        Ok(tender) => tender,
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    Ok(match (product, tender, resolved) {
        (Some(product), Some(tender), Some(resolved)) if faults.is_empty() => {
            let policy = product.policy();
            let snapshot =
                ProductSnapshot { id: product.id.clone(), name: product.name.clone(), price: product.price, policy };
            Ok((snapshot, tender, resolved))
        }
        (_, _, _) => Err(faults),
    })
}

/// The instant that is meant, when it is as far ahead as a gift may be sent.
fn resolve_ahead(send_at: &SendAt, now: Timestamp) -> Result<ResolvedInstant, CalendarFault> {
    let resolved = send_at.resolve()?;
    calendar::check_ahead(resolved.instant, now)?;
    Ok(resolved)
}

/// Link token and voucher code of a new recipient, drawn from the system's CSPRNG.
pub struct Secrets {
    pub link: LinkToken,
    pub code: VoucherCode,
}

impl Shared {
    /// Whether every member of the cluster knows gifts that are paid so (ADR-10).
    fn knows_payment(&self, draft: &GiftDraft) -> Result<(), Problem> {
        let is_new = draft.coupon_id.is_some() || draft.method == Some(PaymentMethod::Balance);
        if is_new { self.knows(NEIGHBOURS_LEVEL) } else { Ok(()) }
    }

    /// Draws the secrets of a gift of `shard`.
    #[must_use]
    pub fn draw_secrets(&self, shard: ShardId) -> Secrets {
        let (mut link, mut code) = ([0u8; 16], [0u8; 16]);
        self.door.fill_random(&mut link);
        self.door.fill_random(&mut code);
        Secrets { link: LinkToken::compose(shard, link), code: VoucherCode::compose(shard, code) }
    }

    async fn reserve(
        &self,
        key: EntityKey,
        mark: Mark,
        caller: &Caller,
        new: NewGift,
        (product, tender, resolved): Terms,
    ) -> Result<OpenGift, Problem> {
        let secrets = self.draw_secrets(self.door.shard_of(&key));
        let contacts = new.recipient.contact.contacts();
        let zone = new.recipient.zone.unwrap_or_else(|| resolved.zone.clone());
        let sender = new.sender.contacts();
        let personal = Personal {
            recipient: new.recipient.contact,
            sender: new.sender,
            message: new.message,
            link_base: self.public_url.clone(),
            link_token: secrets.link.expose().to_owned(),
            voucher_code: secrets.code.expose().to_owned(),
            payment_key: new.payment_key,
        };
        let (sealed, wrapped) = self.door.seal_new(key, &codec::encode(&personal));
        let now = self.clock.now();
        let refund_by = new.method.refund_by(now, &self.refund_windows);
        let payment = PaymentTerms { method: new.method, amount: tender.amount, refund_by };
        let reservation = Reservation {
            owner: caller.subject.clone(),
            product,
            recipient: RecipientFacts { contacts, zone },
            sender,
            sealed: sealed.clone(),
            link_hash: secrets.link.hash(self.door.cluster_secret()),
            code_hash: secrets.code.hash(self.door.cluster_secret()),
            send_at: new.send_at,
            resolved,
            channels: new.channels,
            payment,
        };
        let with = With { new_key: Some(wrapped), ..With::from(mark) };
        let reservation = Box::new(reservation);
        let command = match tender.coupon {
            None => GiftCommand::Reserve(reservation),
            Some(coupon) => GiftCommand::ReserveWith(reservation, coupon),
        };
        self.ask_gift_sealed(key, &command, with, (sealed, personal)).await
    }

    /// The caller's own gift, without its personal data.
    ///
    /// # Errors
    /// [`Code::NotFound`] also for another's: whether it exists is nobody else's business.
    pub async fn own_gift(&self, caller: &Caller, id: &str) -> Result<(EntityKey, Version, GiftState), Problem> {
        let key = self.gift_key(id)?;
        match self.peek_gift(key).await? {
            Some((version, state)) if state.owner() == caller.subject => Ok((key, version, state)),
            Some(_) | None => Err(Problem::new(Code::NotFound)),
        }
    }

    /// Opens the caller's own gift.
    ///
    /// # Errors
    /// As [`Shared::own_gift`].
    pub async fn open_own_gift(&self, caller: &Caller, id: &str) -> Result<OpenGift, Problem> {
        let (key, version, state) = self.own_gift(caller, id).await?;
        let personal = self.personal(key, &state).await?;
        Ok(OpenGift { key, id: id.to_owned(), version, state, personal, replayed: false })
    }
}

/// One of the caller's gifts.
#[utoipa::path(get, path = "/v1/gifts/{id}", tag = "gifts", params(("id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = GiftView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, User(caller): User, Segment(id): Segment) -> Result<Response, Problem> {
    let gift = app.open_own_gift(&caller, &id).await?;
    Ok(reply(StatusCode::OK, gift.version, false, &gift_view(&gift)))
}

/// The caller's gifts, newest first. With a status, a page may hold fewer items than asked for and still have a
/// next one.
#[utoipa::path(get, path = "/v1/gifts", tag = "gifts", security(("bearer" = [])),
    params(("status" = Option<String>, Query), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<GiftView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    User(caller): User,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<GiftView>>, Problem> {
    let (app, owner) = (&app, caller.subject.as_str());
    let read = |key| async move {
        let mine = app.read_gift(key).await?.filter(|gift| gift.state.owner() == owner);
        Ok(mine.map(|gift| (gift.state.state(), gift_view(&gift))))
    };
    let listing = Listing::of("gifts", kinds::INDEX_OWNER, owner);
    app.list_by_status(listing, query.as_deref(), Status::parse, read).await
}

/// Changes recipient, message, send instant or channels, until an hour before the send instant.
#[utoipa::path(patch, path = "/v1/gifts/{id}", tag = "gifts", request_body = PatchBody, security(("bearer" = [])),
    params(("id" = String, Path), ("If-Match" = String, Header)),
    responses((status = 200, body = GiftView, headers(("ETag" = String))), (status = 409, body = ProblemDocument),
        (status = 410, body = ProblemDocument), (status = 412, body = ProblemDocument),
        (status = 422, body = ProblemDocument), (status = 428, body = ProblemDocument)))]
async fn change(
    State(app): State<App>,
    User(caller): User,
    Segment(id): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let if_match = IfMatch::from_headers(&headers)?;
    for tries in 1.. {
        let before = app.open_own_gift(&caller, &id).await?;
        if !if_match.allows(before.version) {
            return Err(Problem::because(Code::VersionMismatch, format!("The current version is {}.", before.version)));
        }
        match app.change(&before, &body).await {
            Err(problem)
                if problem.code == Code::VersionMismatch && if_match == IfMatch::Any && tries < CHANGE_TRIES_MAX => {}
            Err(problem) => return Err(problem),
            Ok(gift) => return Ok(reply(StatusCode::OK, gift.version, false, &gift_view(&gift))),
        }
    }
    Err(Problem::new(Code::VersionMismatch))
}

impl Shared {
    async fn change(&self, before: &OpenGift, body: &JsonBody) -> Result<OpenGift, Problem> {
        let personal = before.personal.clone().ok_or_else(|| Problem::new(Code::PersonalDataErased))?;
        let (patch, send_at) = read_change(body, &before.state, &personal, self.clock.now())?;
        let facts = patch.recipient.as_ref().map(|recipient| RecipientFacts {
            contacts: recipient.contact.contacts(),
            zone: recipient.zone.clone().unwrap_or_else(|| before.state.recipient().zone.clone()),
        });
        // A recipient who cannot be reached on the old channels gets those of the new contacts.
        let old = before.state.channels();
        let orphaned = facts.as_ref().filter(|facts| !old.iter().all(|channel| facts.contacts.reaches(*channel)));
        let channels = patch.channels.or_else(|| orphaned.map(|facts| facts.contacts.default_channels()));
        let personal_changed = patch.recipient.is_some() || patch.message.is_some();
        let personal = Personal {
            recipient: patch.recipient.map_or(personal.recipient.clone(), |recipient| recipient.contact),
            message: patch.message.unwrap_or(personal.message.clone()),
            ..personal
        };
        let sealed = match personal_changed {
            false => None,
            true => {
                let sealed = self.door.seal(before.key, codec::encode(&personal)).await?;
                Some(sealed.ok_or_else(|| Problem::new(Code::PersonalDataErased))?)
            }
        };
        let change = Change { recipient: facts, sealed, send_at, channels };
        let with = With { if_version: Some(before.version), ..With::default() };
        self.ask_gift(before.key, &GiftCommand::Change(Box::new(change)), with).await
    }
}

type NewSendAt = Option<(SendAt, ResolvedInstant)>;

fn read_change(
    body: &JsonBody,
    before: &GiftState,
    personal: &Personal,
    now: Timestamp,
) -> Result<(GiftPatch, NewSendAt), Problem> {
    let faults = Faults::default();
    let mut patch = gift_body::read_patch(Object::root(body.value(&faults)?, &faults), &personal.recipient);
    let send_at = patch.send_at.take().and_then(|send_at| match resolve_ahead(&send_at, now) {
        Ok(resolved) => Some((send_at, resolved)),
        Err(error) => {
            faults.add("/send_at", error.code(), format!("The send instant {error}."));
            None
        }
    });
    // How it is paid cannot be changed any more: it is the instant that is at fault.
    let outlives = |resolved: &ResolvedInstant| {
        outlives_refund(resolved.instant, &before.product().policy, before.payment().refund_by)
    };
    if send_at.as_ref().is_some_and(|(_, resolved)| outlives(resolved)) {
        faults.add("/send_at", REFUND_WINDOW_CODE, REFUND_WINDOW);
    }
    faults.check()?;
    Ok((patch, send_at))
}

/// Cancels a gift whose send has not begun: no fee, full refund.
#[utoipa::path(post, path = "/v1/gifts/{id}/cancel", tag = "gifts", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = GiftView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument)))]
async fn cancel(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let (key, _, _) = app.own_gift(&asked.caller, &asked.id).await?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let gift = app.ask_gift(key, &GiftCommand::Cancel, with).await?;
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &gift_view(&gift)))
}
