//! A user's things in one listing: gifts, coupons, orders and seats, newest first.
//!
//! Each kind keeps an index row for each entity of an owner: owner's digest (8 bytes) ‖ newest-first instant (8) ‖ id
//! (16). The rows of all kinds are merged by what follows the digest, so one cursor serves all of them: the place of the
//! last row told. Lists are read behind the leaders' read barriers, so what a caller was answered is on it.
//!
//! A kind is listed by a line in [`LISTED`].

use crate::actors::door::IndexPage;
use crate::api::asking::OpenGift;
use crate::api::cursor::{CursorScope, Query};
use crate::api::dto::{Instant, Page, ProblemDocument};
use crate::api::extract::User;
use crate::api::gift_view::gift_view;
use crate::api::json::Faults;
use crate::api::order_view::order_view;
use crate::api::problem::{Code, Problem};
use crate::api::reservation_view::reservation_view;
use crate::api::router::{App, Shared};
use crate::domain::gift::owner_prefix;
use crate::domain::kinds;
use crate::types::effect::IndexTag;
use crate::types::ids::{EntityKey, Version};
use crate::types::time::Timestamp;
use axum::Json;
use axum::extract::{RawQuery, State};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of the owner's digest at the head of a row.
const OWNER_BYTES: usize = 8;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// One of a user's things.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemView {
    /// `gift`, `coupon`, `order`, …: which of the contract's resources this is.
    #[schema(example = "gift")]
    pub kind: &'static str,
    #[schema(example = "g_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    #[schema(example = "scheduled")]
    pub status: &'static str,
    pub version: u64,
    pub created_at: Instant,
    pub updated_at: Instant,
    /// The resource as its own address shows it.
    #[schema(value_type = Object)]
    pub item: Value,
}

/// One entity as its owner sees it.
struct Owned {
    owner: String,
    status: &'static str,
    version: Version,
    created_at: Timestamp,
    updated_at: Timestamp,
    item: Value,
}

type Read = for<'a> fn(&'a Shared, EntityKey) -> BoxFuture<'a, Found>;
type Found = Result<Option<Owned>, Problem>;

/// A kind whose entities have owners.
struct Listed {
    /// As [`ItemView::kind`] and the parameter `kind` write it.
    name: &'static str,
    index: IndexTag,
    /// Reads an entity; `None` when there is none any more.
    read: Read,
}

const LISTED: [Listed; 4] = [
    Listed { name: "gift", index: kinds::INDEX_OWNER, read: |app, key| read_gift(app, key).boxed() },
    Listed { name: "coupon", index: kinds::INDEX_COUPON_OWNER, read: |app, key| read_coupon(app, key).boxed() },
    Listed { name: "order", index: kinds::INDEX_ORDER_OWNER, read: |app, key| read_order(app, key).boxed() },
    Listed {
        name: "reservation",
        index: kinds::INDEX_RESERVATION_OWNER,
        read: |app, key| read_reservation(app, key).boxed(),
    },
];

async fn read_gift(app: &Shared, key: EntityKey) -> Found {
    let Some(gift) = app.read_gift(key).await? else { return Ok(None) };
    let OpenGift { state, version, .. } = &gift;
    let (owner, status) = (state.owner().to_owned(), state.status());
    let (created_at, updated_at, version) = (state.created_at(), state.updated_at(), *version);
    Ok(Some(Owned { owner, status, version, created_at, updated_at, item: as_json(&gift_view(&gift))? }))
}

async fn read_coupon(app: &Shared, key: EntityKey) -> Found {
    let Some(open) = app.read_coupon(key).await? else { return Ok(None) };
    let coupon = &open.coupon;
    Ok(Some(Owned {
        owner: coupon.owner.clone(),
        status: coupon.phase.name(),
        version: open.version,
        created_at: coupon.issued_at,
        updated_at: coupon.updated_at,
        item: as_json(&open.view())?,
    }))
}

async fn read_order(app: &Shared, key: EntityKey) -> Found {
    let Some((version, state)) = app.peek_order(key).await? else { return Ok(None) };
    Ok(Some(Owned {
        owner: state.owner().to_owned(),
        status: state.status().name(),
        version,
        created_at: state.created_at(),
        updated_at: state.updated_at(),
        item: as_json(&order_view(&kinds::text_id(key), version, &state))?,
    }))
}

async fn read_reservation(app: &Shared, key: EntityKey) -> Found {
    let Some((version, state)) = app.peek_reservation(key).await? else { return Ok(None) };
    let Some(assignment) = state.assignment() else { return Ok(None) };
    Ok(Some(Owned {
        owner: assignment.owner.clone(),
        status: state.status().name(),
        version,
        created_at: assignment.assigned_at,
        updated_at: state.updated_at(),
        item: as_json(&reservation_view(&kinds::text_id(key), version, &state)?)?,
    }))
}

fn as_json<T: Serialize>(view: &T) -> Result<Value, Problem> {
    serde_json::to_value(view).map_err(|_| Problem::new(Code::Internal))
}

/// Everything that is the caller's, newest first: gifts, coupons, orders and reservations. What a reply has told is on it.
#[utoipa::path(get, path = "/v1/me/items", tag = "me", security(("bearer" = [])),
    params(("kind" = Option<String>, Query), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<ItemView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    User(caller): User,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<ItemView>>, Problem> {
    let scope = CursorScope { secret: app.door.cluster_secret(), list: "items", caller: &caller.subject };
    let ask = read_query(query.as_deref(), &scope)?;
    let prefix = owner_prefix(&caller.subject);
    let after = ask.after.map(|place| [prefix.as_slice(), &place].concat());
    let one = |listed: &'static Listed| app.door.list(listed.index, prefix.to_vec(), after.clone(), ask.limit);
    let pages = try_join_all(ask.kinds.iter().map(|listed| one(listed))).await?;
    let (rows, next) = merge(pages, ask.limit);
    let read = |row: &Row| (ask.kinds[row.listed].read)(&app, row.key);
    let found = try_join_all(rows.iter().map(read)).await?;
    let mut items = Vec::with_capacity(rows.len());
    for (row, owned) in rows.iter().zip(found) {
        // The digest of another's name may be the same.
        let Some(owned) = owned.filter(|owned| owned.owner == caller.subject) else { continue };
        let Owned { owner: _, status, version, created_at, updated_at, item } = owned;
        let (kind, id) = (ask.kinds[row.listed].name, kinds::text_id(row.key));
        let (created_at, updated_at) = (created_at.into(), updated_at.into());
        items.push(ItemView { kind, id, status, version: version.0, created_at, updated_at, item });
    }
    Ok(Json(Page { items, next_cursor: next.map(|place| scope.write(&place)) }))
}

struct ListAsk {
    limit: usize,
    /// Place of the last row that was told.
    after: Option<Vec<u8>>,
    kinds: Vec<&'static Listed>,
}

fn read_query(query: Option<&str>, scope: &CursorScope<'_>) -> Result<ListAsk, Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let page = scope.page(query.take("limit").as_deref(), query.take("cursor").as_deref(), &faults);
    let wanted = query.take("kind");
    let kinds: Vec<&Listed> =
        LISTED.iter().filter(|listed| wanted.as_ref().is_none_or(|name| name == listed.name)).collect();
    if kinds.is_empty() {
        let names: Vec<&str> = LISTED.iter().map(|listed| listed.name).collect();
        faults.add("/kind", "unknown_value", format!("One of {}.", names.join(", ")));
    }
    query.done(&faults);
    faults.check()?;
    Ok(ListAsk { limit: page.limit, after: page.after, kinds })
}

/// One row of the merged list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    /// What follows the owner's digest.
    place: Vec<u8>,
    key: EntityKey,
    /// Position of its kind among those asked for.
    listed: usize,
}

/// The first `limit` rows of all pages in the order of their places, and the place to go on after.
fn merge(pages: Vec<IndexPage>, limit: usize) -> (Vec<Row>, Option<Vec<u8>>) {
    let mut more = pages.iter().any(|page| page.next.is_some());
    let mut rows: Vec<Row> = Vec::new();
    for (listed, page) in pages.into_iter().enumerate() {
        let row = |(key, entity): (Vec<u8>, EntityKey)| Row {
            place: key.get(OWNER_BYTES..).unwrap_or_default().to_vec(),
            key: entity,
            listed,
        };
        rows.extend(page.rows.into_iter().map(row));
    }
    rows.sort_unstable();
    more |= rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.place.clone());
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(places: &[u8], next: bool) -> IndexPage {
        let row = |place: &u8| {
            let key = EntityKey { kind: kinds::GIFT, id: [*place; 16] };
            ([&[0; OWNER_BYTES][..], &[*place]].concat(), key)
        };
        let rows: Vec<(Vec<u8>, EntityKey)> = places.iter().map(row).collect();
        let next = rows.last().filter(|_| next).map(|(key, _)| key.clone());
        IndexPage { rows, next }
    }

    #[test]
    fn pages_of_several_kinds_are_merged_by_place_and_end_when_all_of_them_do() {
        let told = |pages: Vec<IndexPage>, limit| {
            let (rows, next) = merge(pages, limit);
            (rows.iter().map(|row| (row.place[0], row.listed)).collect::<Vec<_>>(), next.map(|place| place[0]))
        };
        assert_eq!(told(vec![page(&[1, 4], false), page(&[2, 3], false)], 3), (vec![(1, 0), (2, 1), (3, 1)], Some(3)));
        assert_eq!(told(vec![page(&[4], false), page(&[], false)], 3), (vec![(4, 0)], None));
        // The page is full and one kind has more: those behind are read again from there.
        assert_eq!(told(vec![page(&[1, 2], true), page(&[], false)], 2), (vec![(1, 0), (2, 0)], Some(2)));
        assert_eq!(told(vec![page(&[5, 6], true), page(&[1, 2], true)], 2), (vec![(1, 1), (2, 1)], Some(2)));
    }
}
