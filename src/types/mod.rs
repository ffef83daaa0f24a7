//! Values only: ids, instants, money, contacts, effects, calls and records. No I/O, no clock, no business rule.
//!
//! Everything above may import this module; it imports nothing of the project.

pub mod batch;
pub mod call;
pub mod codec;
pub mod contact;
pub mod effect;
pub mod entity;
pub mod faults;
pub mod hint;
pub mod ids;
pub mod kind;
pub mod level;
pub mod limits;
pub mod money;
pub mod publication;
pub mod quota;
pub mod record;
pub mod start;
pub mod takeovers;
pub mod text;
pub mod time;
