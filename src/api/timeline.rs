//! A gift's past: its journal as a timeline, and its notification log. No personal data in either.

use crate::api::auth::Role;
use crate::api::cursor::{CursorScope, PageAsk, Query};
use crate::api::dto::{Instant, Page, ProblemDocument};
use crate::api::gift_view::{NoticeView, notice_view};
use crate::api::json::Faults;
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::api::upon::PageOf;
use crate::domain::notices::Notice;
use crate::types::ids::{EntityKey, Version};
use crate::types::kind::Live;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(notices))
}

/// One event of a gift.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// The journal's sequence number; events of one step share it.
    pub version: u64,
    pub at: Instant,
    /// What happened: `type` and what belongs to it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub event: Value,
}

/// The journal, oldest first.
#[utoipa::path(get, path = "/v1/gifts/{id}/events", tag = "gifts", security(("bearer" = [])),
    params(("id" = String, Path), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<EventView>), (status = 404, body = ProblemDocument)))]
async fn events(State(app): State<App>, page: PageOf) -> Result<Json<Page<EventView>>, Problem> {
    let (key, _, _) = app.own_gift(&page.caller, &page.id).await?;
    journal_page(&app, key, &page).await
}

/// A page of an entity's journal, oldest first; who may see it was checked before.
///
/// # Errors
/// A fault of the query, or what the runtime says.
pub async fn journal_page(app: &App, key: EntityKey, page: &PageOf) -> Result<Json<Page<EventView>>, Problem> {
    let list = format!("events/{}", page.id);
    let scope = CursorScope { secret: app.door.cluster_secret(), list: &list, caller: &page.caller.subject };
    let ask = read_page(page.query.as_deref(), &scope)?;
    let after = Place::read(ask.after.as_deref());
    // The record of the last event told may hold more events, so it is read again, and one record more than asked for
    // says whether there is another page.
    let before = Version(after.version.0.saturating_sub(1));
    let rows = app.door.journal(key, before, ask.limit + 2).await?;
    let kind = app.door.kinds().get(key.kind).ok_or_else(|| Problem::new(Code::Internal))?;
    let live: Box<dyn Live> = kind.load(key, None).map_err(|_| Problem::new(Code::Internal))?;
    let mut told: Vec<(Place, EventView)> = Vec::new();
    for row in rows {
        let described = live.describe(&row.events).map_err(|_| Problem::new(Code::Internal))?;
        for (number, event) in described.into_iter().enumerate() {
            let place = Place { version: row.version, number: u16::try_from(number).unwrap_or(u16::MAX) };
            let event = told_to(page.caller.role, without_at(event));
            let view = EventView { version: row.version.0, at: row.at.into(), event };
            told.push((place, view));
        }
    }
    told.retain(|(place, _)| *place > after);
    let more = told.len() > ask.limit;
    told.truncate(ask.limit);
    let next_cursor = told.last().filter(|_| more).map(|(place, _)| scope.write(&place.to_bytes()));
    Ok(Json(Page { items: told.into_iter().map(|(_, view)| view).collect(), next_cursor }))
}

/// The record's instant is told once, beside the event.
fn without_at(mut event: Value) -> Value {
    if let Some(members) = event.as_object_mut() {
        members.remove("at");
        members.remove("version");
    }
    event
}

/// An event as a role may see it: which operator acted on a letter, and why, is told to operators alone.
fn told_to(role: Role, mut event: Value) -> Value {
    let of_a_letter = event["type"].as_str().is_some_and(|name| name.starts_with("dead_letter_"));
    if let Some(members) = event.as_object_mut().filter(|_| of_a_letter && role != Role::Operator) {
        members.remove("actor");
        members.remove("reason");
    }
    event
}

/// An event's place in its journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    version: Version,
    number: u16,
}

impl Place {
    fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0u8; 10];
        bytes[..8].copy_from_slice(&self.version.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// The beginning for no cursor; a cursor's tag was checked, so its bytes are ours.
    fn read(bytes: Option<&[u8]>) -> Self {
        let Some(bytes) = bytes.and_then(|bytes| <[u8; 10]>::try_from(bytes).ok()) else { return Self::default() };
        let (version, number) = bytes.split_at(8);
        Self {
            version: Version(u64::from_be_bytes(version.try_into().expect("eight bytes"))),
            number: u16::from_be_bytes(number.try_into().expect("two bytes")),
        }
    }
}

/// The notification log, oldest first: at most the gift's last 32 notices.
#[utoipa::path(get, path = "/v1/gifts/{id}/notices", tag = "gifts", security(("bearer" = [])),
    params(("id" = String, Path), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<NoticeView>), (status = 404, body = ProblemDocument)))]
async fn notices(State(app): State<App>, page: PageOf) -> Result<Json<Page<NoticeView>>, Problem> {
    let (_, _, state) = app.own_gift(&page.caller, &page.id).await?;
    notice_page(&app, state.notices(), &page)
}

/// A page of an entity's notification log; who may see it was checked before.
///
/// # Errors
/// A fault of the query.
pub fn notice_page(app: &App, log: &[Notice], page: &PageOf) -> Result<Json<Page<NoticeView>>, Problem> {
    let list = format!("notices/{}", page.id);
    let scope = CursorScope { secret: app.door.cluster_secret(), list: &list, caller: &page.caller.subject };
    let ask = read_page(page.query.as_deref(), &scope)?;
    let after = ask.after.and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
    let mut rest = log.iter().filter(|notice| after.is_none_or(|after| notice.number > after));
    let items: Vec<NoticeView> = rest.by_ref().take(ask.limit).map(notice_view).collect();
    let more = rest.next().is_some();
    let next_cursor = items.last().filter(|_| more).map(|last| scope.write(&last.number.to_be_bytes()));
    Ok(Json(Page { items, next_cursor }))
}

/// A page of a list that has no other parameter.
///
/// # Errors
/// A fault for each parameter that is not one, or not sound.
pub fn read_page(query: Option<&str>, scope: &CursorScope<'_>) -> Result<PageAsk, Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let page = scope.page(query.take("limit").as_deref(), query.take("cursor").as_deref(), &faults);
    query.done(&faults);
    faults.check()?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_acted_on_a_letter_and_why_is_for_operators() {
        let letter =
            json!({"type": "dead_letter_discarded", "actor": "op-1", "reason": "paid by hand", "letter": "gift"});
        let refund = json!({"type": "refund_started", "reason": "declined"});
        for role in [Role::User, Role::Merchant] {
            assert_eq!(told_to(role, letter.clone()), json!({"type": "dead_letter_discarded", "letter": "gift"}));
            assert_eq!(told_to(role, refund.clone()), refund);
        }
        assert_eq!(told_to(Role::Operator, letter.clone()), letter);
    }

    #[test]
    fn places_keep_their_order_as_bytes() {
        let places = [(0, 0), (1, 0), (1, 1), (2, 0), (300, 7)];
        let places = places.map(|(version, number)| Place { version: Version(version), number });
        for pair in places.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
            assert_eq!(Place::read(Some(&pair[1].to_bytes())), pair[1]);
        }
        assert_eq!(Place::read(None), Place::default());
    }
}
