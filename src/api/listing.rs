//! Lists: pages of an index, with each row's entity read and told, in the index's order.

use crate::api::cursor::{CursorScope, PageAsk, Query};
use crate::api::dto::Page;
use crate::api::json::Faults;
use crate::api::problem::Problem;
use crate::api::router::Shared;
use crate::api::timeline::read_page;
use crate::domain::gift::owner_prefix;
use crate::types::effect::IndexTag;
use crate::types::ids::EntityKey;
use axum::Json;
use futures_util::future::try_join_all;
use std::future::Future;

/// Pages of the index that one list looks through before it answers with what it has.
const SCAN_PAGES_MAX: usize = 10;

/// A list of the front door.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// As its cursors name it.
    name: &'static str,
    index: IndexTag,
    /// Whose rows; `None` for everybody's.
    owner: Option<&'a str>,
}

impl<'a> Listing<'a> {
    /// Of everybody's.
    #[must_use]
    pub fn all(name: &'static str, index: IndexTag) -> Self {
        Self { name, index, owner: None }
    }

    /// Of one owner's: the index's rows begin with the owner's digest.
    #[must_use]
    pub fn of(name: &'static str, index: IndexTag, owner: &'a str) -> Self {
        Self { name, index, owner: Some(owner) }
    }

    fn scope<'b>(&'b self, app: &'b Shared) -> CursorScope<'b> {
        CursorScope { secret: app.door.cluster_secret(), list: self.name, caller: self.owner.unwrap_or_default() }
    }

    fn prefix(&self) -> Vec<u8> {
        self.owner.map(|owner| owner_prefix(owner).to_vec()).unwrap_or_default()
    }
}

impl Shared {
    /// One page of a list that has no other parameter. `read`: what is told of an entity; `None` leaves it out, so that a
    /// page may hold fewer items than asked for.
    ///
    /// # Errors
    /// A fault of the query, or what the runtime says.
    pub async fn list<T, F>(
        &self,
        listing: Listing<'_>,
        query: Option<&str>,
        read: impl Fn(EntityKey) -> F,
    ) -> Result<Json<Page<T>>, Problem>
    where
        F: Future<Output = Result<Option<T>, Problem>>,
    {
        let ask = read_page(query, &listing.scope(self))?;
        self.scan(listing, ask, read).await
    }

    /// One page of a list that `?status=` narrows. A page may hold fewer items than asked for and still have a next one.
    ///
    /// # Errors
    /// A fault of the query, or what the runtime says.
    pub async fn list_by_status<T, S, F>(
        &self,
        listing: Listing<'_>,
        query: Option<&str>,
        parse: fn(&str) -> Option<S>,
        read: impl Fn(EntityKey) -> F,
    ) -> Result<Json<Page<T>>, Problem>
    where
        S: PartialEq,
        F: Future<Output = Result<Option<(S, T)>, Problem>>,
    {
        let (ask, wanted) = read_status(query, &listing.scope(self), parse)?;
        let wanted = &wanted;
        let narrowed = |key| {
            let found = read(key);
            async move {
                let found = found.await?;
                Ok(found
                    .filter(|(status, _)| wanted.as_ref().is_none_or(|wanted| wanted == status))
                    .map(|(_, item)| item))
            }
        };
        self.scan(listing, ask, narrowed).await
    }

    /// Pages of the index, at most [`SCAN_PAGES_MAX`], until the page that was asked for is full.
    async fn scan<T, F>(
        &self,
        listing: Listing<'_>,
        ask: PageAsk,
        read: impl Fn(EntityKey) -> F,
    ) -> Result<Json<Page<T>>, Problem>
    where
        F: Future<Output = Result<Option<T>, Problem>>,
    {
        let (mut items, mut after) = (Vec::new(), ask.after);
        for _page in 0..SCAN_PAGES_MAX {
            let wanted = ask.limit - items.len();
            let page = self.door.list(listing.index, listing.prefix(), after, wanted).await?;
            let found = try_join_all(page.rows.iter().map(|(_, key)| read(*key))).await?;
            items.extend(found.into_iter().flatten());
            after = page.next;
            if after.is_none() || items.len() >= ask.limit {
                break;
            }
        }
        let scope = listing.scope(self);
        Ok(Json(Page { items, next_cursor: after.map(|key| scope.write(&key)) }))
    }
}

fn read_status<S>(
    query: Option<&str>,
    scope: &CursorScope<'_>,
    parse: fn(&str) -> Option<S>,
) -> Result<(PageAsk, Option<S>), Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let page = scope.page(query.take("limit").as_deref(), query.take("cursor").as_deref(), &faults);
    let status = query.take("status").and_then(|name| {
        let status = parse(&name);
        if status.is_none() {
            faults.add("/status", "unknown_value", "There is no such status.");
        }
        status
    });
    query.done(&faults);
    faults.check()?;
    Ok((page, status))
}
