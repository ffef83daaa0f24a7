//! The caller's wallet: what is on it, and charging it by card. The charge is accepted at once; the payment goes on
//! behind the reply.

use crate::api::auth::Caller;
use crate::api::commerce::{read_money, read_payment_key};
use crate::api::dto::{Instant, MoneyView, ProblemDocument};
use crate::api::extract::{JsonBody, User};
use crate::api::idempotency::{Mark, Posted};
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::wallet_refusal;
use crate::api::router::{App, Shared};
use crate::api::schema::ChargeBody;
use crate::api::telling::{Told, With, reply};
use crate::domain::kinds;
use crate::domain::wallet::{
    CHARGE_MINOR_MAX, ChargeResult, ChargeView, PaymentKey, WalletCommand, WalletState, charge_id, wallet_key,
};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::ids::{EntityKey, Version};
use crate::types::level::FOURTH_LEVEL;
use crate::types::money::Money;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Times that a charge is tried against a wallet that moves.
const TRIES_MAX: usize = 8;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(charge))
}

/// A wallet.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalletView {
    #[schema(example = "w_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    pub version: u64,
    /// What can be paid with.
    pub balance: MoneyView,
    /// Held for orders that are under way.
    pub held: MoneyView,
    pub charged: MoneyView,
    pub spent: MoneyView,
    /// Newest first: those that wait, and the last that settled.
    pub charges: Vec<ChargeOf>,
}

/// One charge.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChargeOf {
    #[schema(example = "w_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c-1")]
    pub id: String,
    /// `payment_pending`, `charged` or `payment_failed`.
    pub status: &'static str,
    pub amount: MoneyView,
    /// The provider's code for a refused payment.
    pub failure_code: Option<String>,
    pub created_at: Instant,
}

fn charge_of(key: EntityKey, charge: ChargeView) -> ChargeOf {
    let (status, failure_code) = match charge.result {
        None => ("payment_pending", None),
        Some(ChargeResult::Charged) => ("charged", None),
        Some(ChargeResult::Failed { code }) => ("payment_failed", Some(code)),
    };
    let (id, amount) = (charge_id(key, charge.number), charge.amount.into());
    ChargeOf { id, status, amount, failure_code, created_at: charge.asked_at.into() }
}

fn wallet_view(key: EntityKey, version: Version, state: &WalletState) -> WalletView {
    WalletView {
        id: kinds::text_id(key),
        version: version.0,
        balance: state.balance().into(),
        held: state.held().into(),
        charged: state.charged().into(),
        spent: state.spent().into(),
        charges: state.charges().into_iter().map(|charge| charge_of(key, charge)).collect(),
    }
}

/// The caller's wallet; one that was never charged is empty.
#[utoipa::path(get, path = "/v1/wallet", tag = "wallet", security(("bearer" = [])),
    responses((status = 200, body = WalletView)))]
async fn get(State(app): State<App>, User(caller): User) -> Result<Response, Problem> {
    let key = wallet_key(&caller.subject);
    let told = app.look::<WalletState>(key).await?;
    let Told { version, state, .. } =
        told.unwrap_or(Told { version: Version(0), state: WalletState::default(), replayed: false });
    Ok(reply(StatusCode::OK, version, false, &wallet_view(key, version, &state)))
}

/// Charges the wallet. The reply says that it is accepted; `GET /v1/wallet` what became of it.
#[utoipa::path(post, path = "/v1/wallet/charges", tag = "wallet", request_body = ChargeBody,
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 202, body = ChargeOf), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn charge(
    State(app): State<App>,
    User(caller): User,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (asked, canonical) = read_charge(&body)?;
    let mark = posted.mark(&caller, app.door.cluster_secret(), &canonical);
    for _try in 0..TRIES_MAX {
        match app.charge(&caller, mark, &asked).await {
            Err(problem) if problem.code == Code::VersionMismatch => {}
            Err(problem) => return Err(problem),
            Ok(told) => return charged(wallet_key(&caller.subject), &told),
        }
    }
    Err(Problem::new(Code::Overloaded))
}

/// The charge that the reply's record added: the last that was made by then.
fn charged(key: EntityKey, told: &Told<WalletState>) -> Result<Response, Problem> {
    let number = told.state.charges_made();
    let made = told.state.charges().into_iter().find(|charge| charge.number == number);
    let made = made.ok_or_else(|| Problem::new(Code::Internal))?;
    let mut response = reply(StatusCode::ACCEPTED, told.version, told.replayed, &charge_of(key, made));
    // The tag is the wallet's, and what is here is a charge.
    response.headers_mut().remove(http::header::ETAG);
    Ok(response)
}

struct NewCharge {
    amount: Money,
    payment_key: String,
}

impl Shared {
    async fn charge(&self, caller: &Caller, mark: Mark, asked: &NewCharge) -> Result<Told<WalletState>, Problem> {
        let key = wallet_key(&caller.subject);
        let personal = codec::encode(&PaymentKey(Private(asked.payment_key.clone())));
        // The first charge brings the data key, and must be the first: hence the version.
        let before = self.look::<WalletState>(key).await?;
        let version = before.as_ref().map_or(Version(0), |told| told.version);
        let known = before.is_some_and(|told| told.state.charges_made() > 0);
        let sealed = if known { self.door.seal(key, personal.clone()).await? } else { None };
        let (sealed, new_key) = match sealed {
            Some(sealed) => (sealed, None),
            None => {
                let (sealed, wrapped) = self.door.seal_new(key, &personal);
                (sealed, Some(wrapped))
            }
        };
        let (owner, amount) = (caller.subject.clone(), asked.amount);
        // A build of before knows no list of wallets.
        let command = match self.knows(FOURTH_LEVEL) {
            Ok(()) => WalletCommand::ChargeListed { owner, amount, sealed },
            Err(_) => WalletCommand::Charge { owner, amount, sealed },
        };
        let with = With { mark: Some(mark), if_version: Some(version), new_key };
        self.tell(key, &command, with, wallet_refusal).await
    }
}

fn read_charge(body: &JsonBody) -> Result<(NewCharge, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let amount = root.required_object("amount").and_then(|object| read_money(object, CHARGE_MINOR_MAX));
    let payment_key = root.required_object("payment").and_then(|mut payment| {
        if payment.text("method").is_some_and(|method| method != "card") {
            payment.fault("method", "unknown_value", "A wallet is charged by card.");
        }
        let key = read_payment_key(&mut payment);
        payment.done();
        key
    });
    root.done();
    faults.check()?;
    match (amount, payment_key) {
        (Some(amount), Some(payment_key)) => Ok((NewCharge { amount, payment_key }, canonical)),
        (_, _) => Err(Problem::new(Code::Internal)),
    }
}
