//! The links between nodes: what stands behind `replication::transport` in a cluster, and its twin for tests.

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod memory_tests;
