//! The pure core of an entity kind. It lives with the values, because the meta group's machine is one as well.

pub use crate::types::entity::{Decision, Entity, Typed};
