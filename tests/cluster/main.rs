//! Nodes as real processes over ractor_cluster: gifts taken by any of them while nodes are killed, paused, restarted and
//! replaced. The sandbox's ledger has the last word.

mod backup;
mod clocks;
mod faults;
mod metrics;
mod nodes;
mod planned;
mod production;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
