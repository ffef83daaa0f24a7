//! Redis beside a node, with redis-servers of the tests' own: the event stream, the
//! quotas of the fleet and its hints.

#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "../cluster/nodes.rs"]
mod nodes;
#[path = "../support/mod.rs"]
mod support;

mod batches;
mod failover;
mod hints;
mod quotas;
mod server;
mod stream;
