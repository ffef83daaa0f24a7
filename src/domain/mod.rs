//! Entity kinds as pure state machines: no async, no I/O, no clock, no random numbers.

pub mod calendar;
pub mod campaign;
pub mod coupon;
pub mod entity;
pub mod gift;
pub mod kinds;
pub mod policy;
pub mod product;
pub mod voucher;
