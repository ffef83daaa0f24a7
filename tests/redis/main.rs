//! Redis beside a node, with redis-servers of the tests' own: the event stream and the quotas of the fleet.

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod quotas;
mod server;
mod stream;
