//! Redis beside a node, with redis-servers of the tests' own: the event stream and the quotas of the fleet.

#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "../cluster/nodes.rs"]
mod nodes;
#[path = "../support/mod.rs"]
mod support;

mod batches;
mod failover;
mod quotas;
mod server;
mod stream;
