//! What is asked of the one entity that the path names, in one piece: who asks, of which, under which key, with what.

use crate::api::auth::Caller;
use crate::api::extract::{JsonBody, Segment, User};
use crate::api::idempotency::{Mark, Posted};
use crate::api::json::{self, Faults, Object};
use crate::api::problem::Problem;
use crate::api::router::{App, Shared};
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use std::marker::PhantomData;

/// A POST upon an entity by a caller of one role: `Upon<User>`. Who may do it is judged before anything else.
#[derive(Debug)]
pub struct Upon<R> {
    pub caller: Caller,
    /// As the path has it.
    pub id: String,
    pub posted: Posted,
    pub body: JsonBody,
    role: PhantomData<R>,
}

impl<R> FromRequest<App> for Upon<R>
where
    R: FromRequestParts<App, Rejection = Problem> + Into<Caller>,
{
    type Rejection = Problem;
    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = R::from_request_parts(&mut parts, app).await?.into();
        let Segment(id) = Segment::from_request_parts(&mut parts, app).await?;
        let posted = Posted::from_request_parts(&mut parts, app).await?;
        let body = JsonBody::from_request(Request::from_parts(parts, body), app).await?;
        Ok(Self { caller, id, posted, body, role: PhantomData })
    }
}

impl<R> Upon<R> {
    /// The mark of the request, whose body reads as `canonical`.
    #[must_use]
    pub fn mark(&self, app: &Shared, canonical: &[u8]) -> Mark {
        self.posted.mark(&self.caller, app.door.cluster_secret(), canonical)
    }

    /// The mark of a request that says all by its path.
    ///
    /// # Errors
    /// As of [`read_empty`].
    pub fn mark_empty(&self, app: &Shared) -> Result<Mark, Problem> {
        Ok(self.mark(app, &read_empty(&self.body)?))
    }
}

/// A user's GET of a page of what belongs to an entity.
#[derive(Debug)]
pub struct PageOf {
    pub caller: Caller,
    /// As the path has it.
    pub id: String,
    pub query: Option<String>,
}

impl FromRequestParts<App> for PageOf {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let User(caller) = User::from_request_parts(parts, app).await?;
        let Segment(id) = Segment::from_request_parts(parts, app).await?;
        Ok(Self { caller, id, query: parts.uri.query().map(str::to_owned) })
    }
}

/// A body without members; its canonical form.
///
/// # Errors
/// [`crate::api::problem::Code::MalformedJson`], or a fault for each member.
pub fn read_empty(body: &JsonBody) -> Result<Vec<u8>, Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    Object::root(value, &faults).done();
    faults.check()?;
    Ok(canonical)
}
