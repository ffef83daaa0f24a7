//! Dead letters: calls that were given up and wait for an operator. Replay is a command of the entity, and so is
//! discarding; both name the operator in the journal.

use crate::api::cursor::CursorScope;
use crate::api::dto::{Instant, MoneyView, Page, ProblemDocument};
use crate::api::extract::{JsonBody, Operator};
use crate::api::idempotency::Mark;
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{letter_refusal, order_refusal, reservation_refusal};
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
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::text::TextRule;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
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
        let is_new = |letter: &Letter| told.is_none_or(|told| rank(*letter) > rank(told));
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

/// An entity's own letter comes before those of its notices, which are in the order of their numbers.
fn rank(letter: Letter) -> u32 {
    match letter {
        Letter::Gift => 0,
        Letter::Notice(number) => u32::from(number) + 1,
    }
}

/// The letters of an entity, by rank.
async fn letters_of(app: &Shared, key: EntityKey) -> Result<Vec<(Letter, DeadLetterView)>, Problem> {
    if key.kind == kinds::ORDER {
        let Some((_, state)) = app.peek_order(key).await? else { return Ok(Vec::new()) };
        let own = state.letter().map(|letter| (Letter::Gift, letter));
        let notices = state.notice_letters().into_iter().map(|(number, letter)| (Letter::Notice(number), letter));
        let view = |(letter, told)| (letter, step_letter(key, letter, told, state.status().name()));
        return Ok(own.into_iter().chain(notices).map(view).collect());
    }
    if key.kind == kinds::RESERVATION {
        let found = app.peek_reservation(key).await?;
        let own = found.and_then(|(_, state)| Some((state.letter()?, state.status().name())));
        let view = |(told, status)| (Letter::Gift, step_letter(key, Letter::Gift, told, status));
        return Ok(own.map(view).into_iter().collect());
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

fn letters(app: &Shared, key: EntityKey, state: &GiftState) -> Vec<(Letter, DeadLetterView)> {
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
    state.dead_letters().into_iter().map(|letter| (letter.letter, view(letter))).collect()
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
        (status = 409, body = ProblemDocument), (status = 410, body = ProblemDocument),
        (status = 412, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
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
    let told = app.tell_gift(key, &command(letter), with, letter_refusal).await?;
    Ok(reply(StatusCode::OK, told.version, told.replayed, &outcome(gift_id, letter, &told)))
}

fn outcome(gift_id: &str, letter: Letter, told: &Told<GiftState>) -> LetterOutcome {
    LetterOutcome {
        id: letter_id(gift_id, letter),
        gift_id: Some(gift_id.to_owned()),
        order_id: None,
        reservation_id: None,
        status: told.state.status(),
        version: told.version.0,
        is_dead_letter: told.state.dead_letters().iter().any(|dead| dead.letter == letter),
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
