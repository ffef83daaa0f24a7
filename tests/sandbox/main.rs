//! The sandbox over real sockets: each protocol's happy path, refusal and unknown outcome, idempotency windows under a
//! moved clock, the ledger's counts, and a restart that forgets nothing.

mod common;
mod fcm;
mod nhn;
mod people;
mod restart;
mod smtp;
mod solapi;
mod toss;
mod webhook;
