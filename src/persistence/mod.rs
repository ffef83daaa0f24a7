//! sled adapters. `store` is the trait everything else is written against, `key` the one table of persisted keys.

pub mod log;
pub mod store;
