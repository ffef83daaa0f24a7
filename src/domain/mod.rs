//! Entity kinds as pure state machines: no async, no I/O, no clock, no random numbers.

pub mod area;
pub mod batch;
pub mod calendar;
pub mod calling;
pub mod campaign;
pub mod coupon;
pub mod entity;
pub mod gift;
pub mod holds;
pub mod inventory;
pub mod kinds;
pub mod notices;
pub mod order;
pub mod policy;
pub mod product;
pub mod queue;
pub mod reservation;
pub mod show;
pub mod steps;
pub mod stored;
pub mod tender;
pub mod ticket;
pub mod voucher;
pub mod wallet;
