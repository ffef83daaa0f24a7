//! The HTTP/JSON front door: bodies in, commands out, committed states rendered as JSON. The contract is API.md.
//!
//! Nothing in here decides business: a handler checks the shape of a request, asks the entity through
//! [`crate::actors::door::Door`], and renders what was committed. A reply is a pure function of (state, unsealed
//! personal data), so that a repeat under the same key is the same bytes.
//!
//! | file | what |
//! |---|---|
//! | `server` `connection` `limits` `bucket` | accept, park, bound |
//! | `trace` `problem` `refusal` | span and trace id, every failure as RFC 9457 |
//! | `auth` `extract` `idempotency` `cursor` `json` | reading a request |
//! | `asking` `secrets` `catalogue` | talking to the node |
//! | `gifts` `gift_body` `gift_view` `stream` | the sender |
//! | `links` `page` | the recipient |
//! | `campaigns` `campaign_stream` `claims` `coupons` | coupons |
//! | `items` `tender` | a user's things in one listing, and how they are paid |
//! | `shows` `show_body` `queue` `reservations` `reservation_view` | the concert |
//! | `orders` `order_body` `order_view` `wallet` `inventory` `commerce` | the buyer |
//! | `merchant` `ops` `cluster` `products` `dead_letters` `letters` `reconciliation` `neighbour_books` | tills and operators |
//! | `providers` `dev` `health` `openapi` `refusals` | the rest |

mod asking;
pub mod auth;
mod backup;
mod bucket;
mod campaign_stream;
mod campaigns;
mod catalogue;
mod claims;
mod cluster;
mod commerce;
mod connection;
mod coupons;
mod cursor;
mod dead_letters;
mod dev;
mod dto;
mod erasure;
mod extract;
mod gift_body;
mod gift_view;
mod gifts;
mod health;
mod idempotency;
mod inventory;
mod items;
mod json;
mod letters;
pub mod limits;
mod links;
mod listing;
mod merchant;
mod neighbour_books;
mod openapi;
mod ops;
mod order_body;
mod order_view;
mod orders;
mod page;
mod page_words;
mod patience;
mod problem;
mod products;
mod providers;
mod queue;
mod recent;
mod reconciliation;
mod refusal;
mod refusals;
mod reservation_view;
mod reservations;
mod router;
mod schema;
mod server;
mod show_body;
mod shows;
mod stream;
mod telling;
mod tender;
#[cfg(test)]
mod tests;
mod timeline;
mod trace;
mod upon;
mod wallet;

pub use bucket::BucketRate;
pub use problem::Code;
pub use server::{ServeError, serve};

use crate::domain::policy::RefundWindows;
use auth::TokenKey;
use limits::ServerLimits;
use metrics_exporter_prometheus::PrometheusHandle;

/// Settings of the front door.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Signs and checks bearer tokens.
    pub token_key: TokenKey,
    /// Base of links to recipients, without a trailing slash: `https://gift.example`.
    pub public_url: String,
    pub limits: ServerLimits,
    /// How long payments can be given back.
    pub refund_windows: RefundWindows,
    /// Calls of one caller.
    pub caller_rate: BucketRate,
    /// Wrong voucher codes of one terminal; a merchant as a whole gets ten times as many.
    pub wrong_code_rate: BucketRate,
    /// Rendered at `/metrics`; without it the route answers 404.
    pub metrics: Option<PrometheusHandle>,
}

impl ApiOptions {
    /// The product's defaults: 2,000 calls a second and caller with bursts of 4,000; 10 wrong codes of a terminal
    /// and then one in 30 s.
    #[must_use]
    pub fn new(token_key: TokenKey, public_url: impl Into<String>) -> Self {
        Self {
            token_key,
            public_url: public_url.into().trim_end_matches('/').to_owned(),
            limits: ServerLimits::default(),
            refund_windows: RefundWindows::default(),
            caller_rate: BucketRate { per_sec: 2_000.0, burst: 4_000.0 },
            wrong_code_rate: BucketRate { per_sec: 1.0 / 30.0, burst: 10.0 },
            metrics: None,
        }
    }
}
