//! The till: redeem a voucher once, and take a lost approval back.
//!
//! The transaction is the idempotency key, so none is asked for. A code is in the body only: never in a URL, a log or
//! an error. Wrong codes of a terminal are limited, so that codes cannot be tried out; they are counted on this node.

use crate::api::asking::OpenGift;
use crate::api::auth::Caller;
use crate::api::dto::{Instant, MoneyView, ProblemDocument};
use crate::api::extract::{JsonBody, Merchant};
use crate::api::idempotency::{Key, Scope};
use crate::api::json::{Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::router::{App, Shared};
use crate::api::schema::RedeemBody;
use crate::api::telling::reply;
use crate::domain::gift::{GiftCommand, RedemptionKey, Store};
use crate::domain::kinds;
use crate::domain::voucher::VoucherCode;
use crate::types::ids::EntityKey;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest store, terminal and transaction id, in bytes.
const TILL_ID_BYTES_MAX: usize = 64;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(redeem)).routes(routes!(cancel))
}

/// What came of a redemption. No personal data: a till does not learn who gave or who got.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedemptionView {
    pub gift_id: String,
    /// `used`, or `cancelled` for a redemption that was taken back.
    #[schema(example = "used")]
    pub status: &'static str,
    pub product_id: String,
    pub product_name: String,
    pub amount: MoneyView,
    pub store_id: String,
    pub terminal_id: String,
    pub transaction_id: String,
    /// `null` for a redemption that was taken back.
    pub used_at: Option<Instant>,
}

/// A till's request, read.
struct TillAsk {
    /// `None`: not a code at all.
    code: Option<VoucherCode>,
    redemption: RedemptionKey,
}

fn read_till(body: &JsonBody, merchant: &str) -> Result<TillAsk, Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let mut root = Object::root(value, &faults);
    let code = root.required_text("code").map(|text| VoucherCode::parse(&text));
    let mut id = |name: &str| {
        let text = root.required_text(name)?;
        let sound = (1..=TILL_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            root.fault(name, "invalid_id", "1 to 64 visible ASCII characters.");
        }
        sound.then_some(text)
    };
    let (store_id, terminal_id, transaction_id) = (id("store_id"), id("terminal_id"), id("transaction_id"));
    root.done();
    faults.check()?;
    match (code, store_id, terminal_id, transaction_id) {
        (Some(code), Some(store_id), Some(terminal_id), Some(transaction_id)) => {
            let redemption = RedemptionKey { store: Store::of(merchant, &store_id), terminal_id, transaction_id };
            Ok(TillAsk { code, redemption })
        }
        (_, _, _, _) => Err(Problem::new(Code::Internal)),
    }
}

/// Wrong codes are counted for the terminal as the till names it, and for the merchant, who cannot name itself.
struct WrongCodes<'a> {
    app: &'a Shared,
    terminal: String,
    merchant: String,
}

impl<'a> WrongCodes<'a> {
    fn of(app: &'a Shared, caller: &Caller, redemption: &RedemptionKey) -> Self {
        let merchant = caller.subject.clone();
        let terminal = format!("{merchant}\0{}\0{}", redemption.store.id(), redemption.terminal_id);
        Self { app, terminal, merchant }
    }

    /// # Errors
    /// [`Code::TooManyWrongCodes`], before anything is looked up.
    fn check(&self) -> Result<(), Problem> {
        let now = self.app.clock.boot();
        let terminal = self.app.wrong_codes_terminal.peek(&self.terminal, now);
        let merchant = self.app.wrong_codes_merchant.peek(&self.merchant, now);
        terminal.and(merchant).map_err(|seconds| Problem::new(Code::TooManyWrongCodes).retry_after(seconds))
    }

    fn wrong(&self) -> Problem {
        let now = self.app.clock.boot();
        // A bucket found empty here was emptied by a request beside this one; `check` refuses the next.
        let _counted = self.app.wrong_codes_terminal.take(&self.terminal, now);
        let _counted = self.app.wrong_codes_merchant.take(&self.merchant, now);
        metrics::counter!("bojagi_wrong_codes_total").increment(1);
        Problem::new(Code::VoucherUnknown)
    }
}

impl Shared {
    /// The gift behind a code.
    ///
    /// # Errors
    /// [`Code::VoucherUnknown`], counted; [`Code::TooManyWrongCodes`].
    async fn resolve_code(&self, caller: &Caller, ask: &TillAsk) -> Result<(EntityKey, [u8; 16]), Problem> {
        let wrong = WrongCodes::of(self, caller, &ask.redemption);
        wrong.check()?;
        let code = ask.code.as_ref().filter(|code| code.shard().0 < self.door.shard_count());
        let code = code.ok_or_else(|| wrong.wrong())?;
        let hash = code.hash(self.door.cluster_secret());
        let key = self.door.resolve(code.shard(), kinds::INDEX_CODE, hash.to_vec()).await?;
        let key = key.ok_or_else(|| wrong.wrong())?;
        tracing::Span::current().record("entity", tracing::field::display(self.door.kinds().format(key)));
        Ok((key, hash))
    }

    /// Asks under the transaction's mark. The code's hash is part of the key: one sale may take several vouchers. All that the
    /// body says is, so that a code that is typed with hyphens the second time is no other request.
    async fn ask_till(
        &self,
        caller: &Caller,
        path: &str,
        ask: &TillAsk,
        (key, hash): (EntityKey, [u8; 16]),
        command: GiftCommand,
    ) -> Result<OpenGift, Problem> {
        let RedemptionKey { store, terminal_id, transaction_id } = &ask.redemption;
        let till = Key::made_of(&["till", store.id(), terminal_id, transaction_id, &hex::encode(hash)]);
        let scope = caller.scope();
        let scope = Scope { caller: &scope, method: "POST", path, key: &till };
        let mark = scope.mark(self.door.cluster_secret(), &[]);
        let asked = self.ask_gift(key, &command, mark).await;
        // A code that nobody can know yet, or that died with a transfer a moment ago, is no voucher to a till.
        asked.map_err(|problem| match problem.code {
            Code::NotFound => Problem::new(Code::VoucherUnknown),
            _other => problem,
        })
    }
}

/// Redeems a voucher, once. The same transaction again gets the same answer.
#[utoipa::path(post, path = "/v1/vouchers/redeem", tag = "merchant", request_body = RedeemBody,
    security(("bearer" = [])),
    responses((status = 200, body = RedemptionView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 410, body = ProblemDocument),
        (status = 429, body = ProblemDocument)))]
async fn redeem(
    State(app): State<App>,
    Merchant(caller): Merchant,
    OriginalUri(uri): OriginalUri,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ask = read_till(&body, &caller.subject)?;
    let at = app.resolve_code(&caller, &ask).await?;
    let command = GiftCommand::Redeem { code_hash: at.1, redemption: ask.redemption.clone() };
    let gift = app.ask_till(&caller, uri.path(), &ask, at, command).await?;
    if gift.replayed {
        still_redeemed(&app, at.0, &ask.redemption).await?;
    }
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &redemption_view(&gift, &ask.redemption)))
}

/// A replayed approval must not outlive its cancel: the till would hand out goods that are not paid for.
async fn still_redeemed(app: &Shared, key: EntityKey, redemption: &RedemptionKey) -> Result<(), Problem> {
    let now = app.peek_gift(key).await.map_err(Problem::past_commit)?;
    let holds = now.is_some_and(|(_, state)| state.redemption().is_some_and(|current| current.key.is_same(redemption)));
    if holds { Ok(()) } else { Err(Problem::new(Code::TransactionCancelled)) }
}

/// Takes a redemption back whose approval was lost. Also of one that never arrived: it is then refused for good.
#[utoipa::path(post, path = "/v1/vouchers/redeem/cancel", tag = "merchant", request_body = RedeemBody,
    security(("bearer" = [])),
    responses((status = 200, body = RedemptionView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 429, body = ProblemDocument)))]
async fn cancel(
    State(app): State<App>,
    Merchant(caller): Merchant,
    OriginalUri(uri): OriginalUri,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ask = read_till(&body, &caller.subject)?;
    let at = app.resolve_code(&caller, &ask).await?;
    let command = GiftCommand::CancelRedeem { code_hash: at.1, redemption: ask.redemption.clone() };
    let gift = app.ask_till(&caller, uri.path(), &ask, at, command).await?;
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &redemption_view(&gift, &ask.redemption)))
}

fn redemption_view(gift: &OpenGift, asked: &RedemptionKey) -> RedemptionView {
    let state = &gift.state;
    let current = state.redemption().filter(|redemption| redemption.key.is_same(asked));
    RedemptionView {
        gift_id: gift.id.clone(),
        status: if current.is_some() { "used" } else { "cancelled" },
        product_id: state.product().id.clone(),
        product_name: state.product().name.clone(),
        amount: state.amount().into(),
        store_id: asked.store.id().to_owned(),
        terminal_id: asked.terminal_id.clone(),
        transaction_id: asked.transaction_id.clone(),
        used_at: current.map(|redemption| Instant(redemption.at)),
    }
}
