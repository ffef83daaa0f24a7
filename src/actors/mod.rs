//! The live cluster: node, shards, entities, timers, dispatcher, router, admission.

pub mod door;
