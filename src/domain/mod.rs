//! Entity kinds as pure state machines: no async, no I/O, no clock, no random numbers.

pub mod entity;
