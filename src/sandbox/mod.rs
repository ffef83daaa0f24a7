//! The providers' other side: a server that speaks their own protocols on their own paths, with faults to order and a
//! ledger that judges from outside.
//!
//! It is another process with its own store and links no module of actors, domain, gateways, providers or persistence:
//! whatever it says about "exactly once" it knows from the wire alone.
//!
//! | file | what |
//! |---|---|
//! | `server` | ports, start and stop |
//! | `http`, `people`, `console` | the HTTP port; ledger, faults and the page beside the providers |
//! | `nhn`, `nhn_lookup` | NHN Cloud Alimtalk v2.3 |
//! | `solapi`, `solapi_auth`, `solapi_lookup` | Solapi v4 |
//! | `fcm`, `toss`, `toss_view`, `smtp`, `mime`, `shipping` | the others |
//! | `fate`, `faults`, `template` | magic values; ordered faults; what people read |
//! | `late`, `webhook` | late truth by poll and by webhook |
//! | `event`, `journal`, `book`, `ledger`, `payments`, `shipments`, `context`, `digest` | what is remembered, and how |
//!
//! Invariants: an event is in the hands of the operating system before anything that depends on it is answered; the
//! book is a fold of the journal; windows and results follow the given clock, delays of replies are real time.

mod book;
mod console;
mod context;
mod digest;
mod event;
mod fate;
mod faults;
mod fcm;
mod http;
mod journal;
mod late;
mod ledger;
mod mime;
mod nhn;
mod nhn_lookup;
mod payments;
mod people;
mod server;
mod settings;
mod shipments;
mod shipping;
mod smtp;
mod solapi;
mod solapi_auth;
mod solapi_lookup;
mod template;
mod toss;
mod toss_view;
mod webhook;
mod wire_time;

pub use journal::JournalError;
pub use server::{Sandbox, SandboxError, SandboxHandle, SandboxOptions};
pub use settings::{
    NHN_APP_KEY, NHN_SECRET_KEY, NHN_WEBHOOK_SIGNATURE, Provider, SHIPPING_API_KEY, SOLAPI_API_KEY, SOLAPI_API_SECRET,
    TOSS_SECRET_KEY,
};
pub use smtp::MailTls;
