//! Dead letters: calls that were given up and wait for an operator. Replay is a command of the entity, and so is
//! discarding; both name the operator in the journal.

use crate::api::cursor::CursorScope;
use crate::api::dto::{Page, ProblemDocument};
use crate::api::extract::{JsonBody, Operator};
use crate::api::json::{self, Faults, Object};
use crate::api::letters::{DeadLetterView, LetterId, LetterOutcome, charge_status, letters_of};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{letter_refusal, order_refusal, reservation_refusal, wallet_refusal};
use crate::api::router::App;
use crate::api::schema::{DiscardBody, ReplayBody};
use crate::api::telling::{Told, reply};
use crate::api::timeline::read_page;
use crate::api::upon::Upon;
use crate::domain::gift::{GiftCommand, Letter};
use crate::domain::kinds;
use crate::domain::order::{OrderCommand, OrderState};
use crate::domain::reservation::{ReservationCommand, ReservationState};
use crate::domain::wallet::{WalletCommand, WalletState};
use crate::types::codec;
use crate::types::ids::EntityKey;
use crate::types::level::FOURTH_LEVEL;
use crate::types::text::TextRule;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Why a letter is given up, in an operator's words.
const REASON: TextRule = TextRule { graphemes_max: 500, bytes_max: 2_000, multi_line: true, may_be_empty: false };
/// As the list's cursors name it. Those under `dead-letters` held no [`Place`].
const CURSORS: &str = "dead-letters/2";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(replay)).routes(routes!(discard))
}

/// What waits for an operator, oldest gift or order first.
#[utoipa::path(get, path = "/v1/ops/dead-letters", tag = "operator", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<DeadLetterView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    Operator(_caller): Operator,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<DeadLetterView>>, Problem> {
    let scope = CursorScope { secret: app.door.cluster_secret(), list: CURSORS, caller: "" };
    let ask = read_page(query.as_deref(), &scope)?;
    let begin = Place::read(ask.after.as_deref());
    let after = begin.as_ref().map(|place| place.after.clone());
    let page = app.door.list(kinds::INDEX_DEAD_LETTER, Vec::new(), after, ask.limit).await?;
    // What is left of the entity within which the last page ended comes before the rest of the index.
    let rest = begin.and_then(|Place { after, within }| within.map(|(key, told)| (after, key, Some(told))));
    let rows = page.rows.into_iter().map(|(at, key)| (at, key, None));
    let entities: Vec<(Vec<u8>, EntityKey, Option<Letter>)> = rest.into_iter().chain(rows).collect();
    let found = try_join_all(entities.iter().map(|(_, key, _)| letters_of(&app, *key))).await?;
    let mut letters = Vec::new();
    for ((at, key, told), of_entity) in entities.into_iter().zip(found) {
        let is_new = |letter: &Letter| told.is_none_or(|told| LetterId::rank(*letter) > LetterId::rank(told));
        let new = of_entity.into_iter().filter(|(letter, _)| is_new(letter));
        letters.extend(new.map(|(letter, view)| (Place { after: at.clone(), within: Some((key, letter)) }, view)));
    }
    let more = letters.len() > ask.limit;
    letters.truncate(ask.limit);
    let next = match letters.last() {
        Some((place, _)) if more => Some(place.to_bytes()),
        Some(_) | None => page.next.map(|after| Place { after, within: None }.to_bytes()),
    };
    let items = letters.into_iter().map(|(_, view)| view).collect();
    Ok(Json(Page { items, next_cursor: next.map(|place| scope.write(&place)) }))
}

/// Where a page ended: an entity may have more letters than a page holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The index key to go on after.
    after: Vec<u8>,
    /// The entity there, and the last of its letters that was told, when it may have more.
    within: Option<(EntityKey, Letter)>,
}

impl Place {
    fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// `None` is the beginning; a cursor's tag was checked, so its bytes are ours.
    fn read(bytes: Option<&[u8]>) -> Option<Self> {
        codec::decode(bytes?).ok()
    }
}

/// Tries again what was given up: a gift's send in the same delivery generation unless asked otherwise.
#[utoipa::path(post, path = "/v1/ops/dead-letters/{id}/replay", tag = "operator", request_body = Option<ReplayBody>,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 200, body = LetterOutcome), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 410, body = ProblemDocument),
        (status = 412, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn replay(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let id = LetterId::parse(&app, &asked.id);
    let (new_generation, canonical) = read_replay(&asked.body, id.is_none_or(LetterId::is_a_gifts_own))?;
    act(&app, &asked, id, &canonical, Act::Replay { new_generation }).await
}

/// Gives a letter up. A send that is given up is refunded; a refund that is given up stays on the books as held. The
/// step of an order or a reservation counts as done by hand, and it goes on; a wallet's charge counts as failed.
#[utoipa::path(post, path = "/v1/ops/dead-letters/{id}/discard", tag = "operator", request_body = DiscardBody,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 200, body = LetterOutcome), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn discard(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let (reason, canonical) = read_discard(&asked.body)?;
    act(&app, &asked, LetterId::parse(&app, &asked.id), &canonical, Act::Discard { reason }).await
}

/// What an operator does with a letter.
enum Act {
    Replay { new_generation: bool },
    Discard { reason: String },
}

async fn act(
    app: &App,
    asked: &Upon<Operator>,
    id: Option<LetterId>,
    canonical: &[u8],
    act: Act,
) -> Result<Response, Problem> {
    let id = id.ok_or_else(|| Problem::new(Code::NotFound))?;
    let LetterId { key, letter } = id;
    tracing::Span::current().record("entity", tracing::field::display(&asked.id));
    let with = app.holding(&asked.posted, key, asked.mark(app, canonical)).await?;
    let actor = asked.caller.subject.clone();
    let (version, replayed, outcome) = match key.kind {
        kinds::ORDER => {
            let told: Told<OrderState> = app.tell(key, &act.on_order(actor, letter), with, order_refusal).await?;
            let notices = told.state.notice_letters();
            let is_dead = match letter {
                Letter::Gift => told.state.letter().is_some(),
                Letter::Notice(number) => notices.iter().any(|(dead, _)| *dead == number),
            };
            (told.version, told.replayed, id.outcome(told.state.status().name(), told.version, is_dead))
        }
        kinds::RESERVATION => {
            let command = act.on_reservation(actor);
            let told: Told<ReservationState> = app.tell(key, &command, with, reservation_refusal).await?;
            let (status, is_dead) = (told.state.status().name(), told.state.letter().is_some());
            (told.version, told.replayed, id.outcome(status, told.version, is_dead))
        }
        kinds::WALLET => {
            app.knows(FOURTH_LEVEL)?;
            let told: Told<WalletState> = app.tell(key, &act.on_wallet(actor), with, wallet_refusal).await?;
            let is_dead = told.state.letter().is_some();
            (told.version, told.replayed, id.outcome(charge_status(&told.state), told.version, is_dead))
        }
        _ => {
            let told = app.tell_gift(key, &act.on_gift(actor, letter), with, letter_refusal).await?;
            let is_dead = told.state.dead_letters().iter().any(|dead| dead.letter == letter);
            (told.version, told.replayed, id.outcome(told.state.status(), told.version, is_dead))
        }
    };
    Ok(reply(StatusCode::OK, version, replayed, &outcome))
}

impl Act {
    fn on_gift(self, actor: String, letter: Letter) -> GiftCommand {
        match self {
            Self::Replay { new_generation } => GiftCommand::Replay { actor, letter, new_generation },
            Self::Discard { reason } => GiftCommand::Discard { actor, letter, reason },
        }
    }

    fn on_order(self, actor: String, letter: Letter) -> OrderCommand {
        match (self, letter) {
            (Self::Replay { .. }, Letter::Gift) => OrderCommand::Replay { actor },
            (Self::Replay { .. }, Letter::Notice(number)) => OrderCommand::ReplayNotice { actor, number },
            (Self::Discard { reason }, Letter::Gift) => OrderCommand::Discard { actor, reason },
            (Self::Discard { reason }, Letter::Notice(number)) => OrderCommand::DiscardNotice { actor, number, reason },
        }
    }

    fn on_reservation(self, actor: String) -> ReservationCommand {
        match self {
            Self::Replay { .. } => ReservationCommand::Replay { actor },
            Self::Discard { reason } => ReservationCommand::Discard { actor, reason },
        }
    }

    fn on_wallet(self, actor: String) -> WalletCommand {
        match self {
            Self::Replay { .. } => WalletCommand::Replay { actor },
            Self::Discard { reason } => WalletCommand::Discard { actor, reason },
        }
    }
}

/// `sends`: the letter is a gift's own, which alone has a delivery to begin anew.
fn read_replay(body: &JsonBody, sends: bool) -> Result<(bool, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let new_generation = sends && root.flag("new_generation").unwrap_or(false);
    root.done();
    faults.check()?;
    Ok((new_generation, canonical))
}

fn read_discard(body: &JsonBody) -> Result<(String, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let reason = root.required_text("reason").and_then(|text| match REASON.check(&text) {
        Ok(reason) => Some(reason),
        Err(fault) => {
            root.fault("reason", fault.code(), format!("The reason {fault}."));
            None
        }
    });
    root.done();
    faults.check()?;
    Ok((reason.ok_or_else(|| Problem::new(Code::Internal))?, canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let key = EntityKey { kind: kinds::GIFT, id: [7; 16] };
        for within in [None, Some((key, Letter::Gift)), Some((key, Letter::Notice(31)))] {
            let place = Place { after: vec![1; 24], within };
            assert_eq!(Place::read(Some(&place.to_bytes())), Some(place));
        }
        assert_eq!(Place::read(None), None);
    }
}
