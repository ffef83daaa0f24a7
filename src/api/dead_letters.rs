//! Dead letters: calls that were given up and wait for an operator. Replay is a command of the entity, and so is
//! discarding; both name the operator in the journal.

use crate::actors::door::{AskError, IndexPage};
use crate::api::asking::OpenGift;
use crate::api::cursor::CursorScope;
use crate::api::dto::{Instant, MoneyView, Page, ProblemDocument};
use crate::api::extract::{JsonBody, Operator};
use crate::api::idempotency::Mark;
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{order_refusal, reservation_refusal};
use crate::api::router::{App, Shared};
use crate::api::schema::{DiscardBody, ReplayBody};
use crate::api::telling::{Told, With, reply};
use crate::api::timeline::read_page;
use crate::api::upon::Upon;
use crate::domain::gift::{DeadLetter, GiftCommand, GiftState, Letter};
use crate::domain::kinds;
use crate::domain::order::{OrderCommand, OrderState};
use crate::domain::reservation::{ReservationCommand, ReservationState};
use crate::domain::steps::StepLetter;
use crate::types::ids::{EntityKey, Version};
use crate::types::text::TextRule;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Why a letter is given up, in an operator's words.
const REASON: TextRule = TextRule { graphemes_max: 500, bytes_max: 2_000, multi_line: true, may_be_empty: false };

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(replay)).routes(routes!(discard))
}

/// A call that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    /// The gift's or the order's id, with `.n<number>` behind it for a notice; or the reservation's.
    #[schema(example = "g_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    /// `null` for any other's; so are the next two.
    pub gift_id: Option<String>,
    pub order_id: Option<String>,
    pub reservation_id: Option<String>,
    /// The status of the gift, order or reservation.
    pub status: &'static str,
    /// `send`, `refund` or `notice`; `notice` or the step of an order; the step of a reservation.
    pub command: &'static str,
    /// The last refusal's code.
    pub cause: String,
    pub attempts: u16,
    pub money_held: MoneyView,
    pub since: Instant,
}

/// A gift, an order or a reservation after an operator acted on its letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterOutcome {
    pub id: String,
    pub gift_id: Option<String>,
    pub order_id: Option<String>,
    pub reservation_id: Option<String>,
    pub status: &'static str,
    pub version: u64,
    /// Whether the letter is still there.
    pub is_dead_letter: bool,
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
    let scope = CursorScope { secret: app.door.cluster_secret(), list: "dead-letters", caller: "" };
    let ask = read_page(query.as_deref(), &scope)?;
    let page: Result<IndexPage, AskError> =
        app.door.list(kinds::INDEX_DEAD_LETTER, Vec::new(), ask.after, ask.limit).await;
    let page = page?;
    let found = try_join_all(page.rows.iter().map(|(_, key)| letters_of(&app, *key))).await?;
    let items = found.into_iter().flatten().collect();
    Ok(Json(Page { items, next_cursor: page.next.map(|key| scope.write(&key)) }))
}

async fn letters_of(app: &Shared, key: EntityKey) -> Result<Vec<DeadLetterView>, Problem> {
    if key.kind == kinds::ORDER {
        let Some((_, state)) = app.peek_order(key).await? else { return Ok(Vec::new()) };
        let own = state.letter().map(|letter| (Letter::Gift, letter));
        let notices = state.notice_letters().into_iter().map(|(number, letter)| (Letter::Notice(number), letter));
        let view = |(letter, told)| step_letter(key, letter, told, state.status().name());
        return Ok(own.into_iter().chain(notices).map(view).collect());
    }
    if key.kind == kinds::RESERVATION {
        let found = app.peek_reservation(key).await?;
        let letter =
            found.and_then(|(_, state)| Some(step_letter(key, Letter::Gift, state.letter()?, state.status().name())));
        return Ok(letter.into_iter().collect());
    }
    Ok(app.peek_gift(key).await?.map(|(_, state)| letters(app, key, &state)).unwrap_or_default())
}

fn step_letter(key: EntityKey, which: Letter, letter: StepLetter, status: &'static str) -> DeadLetterView {
    let id = kinds::text_id(key);
    DeadLetterView {
        id: letter_id(&id, which),
        gift_id: None,
        order_id: (key.kind == kinds::ORDER).then(|| id.clone()),
        reservation_id: (key.kind == kinds::RESERVATION).then_some(id),
        status,
        command: letter.command,
        cause: letter.cause,
        attempts: letter.attempts,
        money_held: letter.money_held.into(),
        since: letter.since.into(),
    }
}

fn letters(app: &Shared, key: EntityKey, state: &GiftState) -> Vec<DeadLetterView> {
    let gift_id = app.door.kinds().format(key);
    let view = |letter: DeadLetter| DeadLetterView {
        id: letter_id(&gift_id, letter.letter),
        gift_id: Some(gift_id.clone()),
        order_id: None,
        reservation_id: None,
        status: state.status(),
        command: letter.command,
        cause: letter.cause,
        attempts: letter.attempts,
        money_held: letter.money_held.into(),
        since: letter.since.into(),
    };
    state.dead_letters().into_iter().map(view).collect()
}

fn letter_id(gift_id: &str, letter: Letter) -> String {
    match letter {
        Letter::Gift => gift_id.to_owned(),
        Letter::Notice(number) => format!("{gift_id}.n{number}"),
    }
}

/// The inverse of [`letter_id`].
fn parse_letter_id(id: &str) -> Option<(&str, Letter)> {
    let Some((gift_id, number)) = id.split_once(".n") else { return Some((id, Letter::Gift)) };
    let canonical = number.bytes().all(|b| b.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    canonical.then(|| number.parse().ok()).flatten().map(|number| (gift_id, Letter::Notice(number)))
}

/// Tries again what was given up: a gift's send in the same delivery generation unless asked otherwise.
#[utoipa::path(post, path = "/v1/ops/dead-letters/{id}/replay", tag = "operator", request_body = Option<ReplayBody>,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 200, body = LetterOutcome), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn replay(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let id = asked.id.as_str();
    let order = order_letter(&app, id);
    let of_a_gift = order.is_none() && app.key_of(kinds::RESERVATION, id).is_err();
    let sends = of_a_gift && parse_letter_id(id).is_none_or(|(_, letter)| letter == Letter::Gift);
    let (new_generation, canonical) = read_replay(&asked.body, sends)?;
    let mark = asked.mark(&app, &canonical);
    let actor = asked.caller.subject.clone();
    if let Some((key, letter)) = order {
        let command = match letter {
            Letter::Gift => OrderCommand::Replay { actor },
            Letter::Notice(number) => OrderCommand::ReplayNotice { actor, number },
        };
        let with = app.holding(&asked.posted, key, mark).await?;
        return act_on_order(&app, (key, letter), with, &command).await;
    }
    if let Ok(key) = app.key_of(kinds::RESERVATION, id) {
        let with = app.holding(&asked.posted, key, mark).await?;
        return act_on_reservation(&app, key, with, &ReservationCommand::Replay { actor }).await;
    }
    act(&app, &asked, mark, |letter| GiftCommand::Replay { actor, letter, new_generation }).await
}

/// Gives a letter up. A send that is given up is refunded; a refund that is given up stays on the books as held. The
/// step of an order or a reservation counts as done by hand, and it goes on.
#[utoipa::path(post, path = "/v1/ops/dead-letters/{id}/discard", tag = "operator", request_body = DiscardBody,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 200, body = LetterOutcome), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn discard(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let (reason, canonical) = read_discard(&asked.body)?;
    let (id, mark) = (asked.id.as_str(), asked.mark(&app, &canonical));
    let actor = asked.caller.subject.clone();
    if let Some((key, letter)) = order_letter(&app, id) {
        let command = match letter {
            Letter::Gift => OrderCommand::Discard { actor, reason },
            Letter::Notice(number) => OrderCommand::DiscardNotice { actor, number, reason },
        };
        let with = app.holding(&asked.posted, key, mark).await?;
        return act_on_order(&app, (key, letter), with, &command).await;
    }
    if let Ok(key) = app.key_of(kinds::RESERVATION, id) {
        let with = app.holding(&asked.posted, key, mark).await?;
        return act_on_reservation(&app, key, with, &ReservationCommand::Discard { actor, reason }).await;
    }
    act(&app, &asked, mark, |letter| GiftCommand::Discard { actor, letter, reason }).await
}

/// An order's letter, or that of one of its notices.
fn order_letter(app: &App, id: &str) -> Option<(EntityKey, Letter)> {
    let (order, letter) = parse_letter_id(id)?;
    Some((app.order_key(order).ok()?, letter))
}

async fn act_on_order(
    app: &App,
    (key, letter): (EntityKey, Letter),
    with: With,
    command: &OrderCommand,
) -> Result<Response, Problem> {
    let told: Told<OrderState> = app.tell(key, command, with, order_refusal).await?;
    let is_dead_letter = match letter {
        Letter::Gift => told.state.letter().is_some(),
        Letter::Notice(number) => told.state.notice_letters().iter().any(|(dead, _)| *dead == number),
    };
    let status = told.state.status().name();
    Ok(step_outcome((key, letter), (told.version, told.replayed), status, is_dead_letter))
}

async fn act_on_reservation(
    app: &App,
    key: EntityKey,
    with: With,
    command: &ReservationCommand,
) -> Result<Response, Problem> {
    let told: Told<ReservationState> = app.tell(key, command, with, reservation_refusal).await?;
    let (status, is_dead_letter) = (told.state.status().name(), told.state.letter().is_some());
    Ok(step_outcome((key, Letter::Gift), (told.version, told.replayed), status, is_dead_letter))
}

fn step_outcome(
    (key, letter): (EntityKey, Letter),
    (version, replayed): (Version, bool),
    status: &'static str,
    is_dead_letter: bool,
) -> Response {
    let id = kinds::text_id(key);
    let outcome = LetterOutcome {
        id: letter_id(&id, letter),
        gift_id: None,
        order_id: (key.kind == kinds::ORDER).then(|| id.clone()),
        reservation_id: (key.kind == kinds::RESERVATION).then_some(id),
        status,
        version: version.0,
        is_dead_letter,
    };
    reply(StatusCode::OK, version, replayed, &outcome)
}

async fn act(
    app: &App,
    asked: &Upon<Operator>,
    mark: Mark,
    command: impl FnOnce(Letter) -> GiftCommand,
) -> Result<Response, Problem> {
    let (gift_id, letter) = parse_letter_id(&asked.id).ok_or_else(|| Problem::new(Code::NotFound))?;
    let key = app.gift_key(gift_id)?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let gift = app.ask_gift(key, &command(letter), with).await?;
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &outcome(&gift, letter)))
}

fn outcome(gift: &OpenGift, letter: Letter) -> LetterOutcome {
    LetterOutcome {
        id: letter_id(&gift.id, letter),
        gift_id: Some(gift.id.clone()),
        order_id: None,
        reservation_id: None,
        status: gift.state.status(),
        version: gift.version.0,
        is_dead_letter: gift.state.dead_letters().iter().any(|dead| dead.letter == letter),
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
    fn letter_ids_name_the_gift_or_one_of_its_notices() {
        for letter in [Letter::Gift, Letter::Notice(0), Letter::Notice(12)] {
            assert_eq!(parse_letter_id(&letter_id("g_1", letter)), Some(("g_1", letter)));
        }
        for bad in ["g_1.n", "g_1.n01", "g_1.nx", "g_1.n70000", "g_1.n-1"] {
            assert_eq!(parse_letter_id(bad), None, "{bad}");
        }
    }
}
