//! Load from outside, over HTTP alone: reservations, idle connections, a bare client to compare with, and the demo.
//!
//! Nothing here links the product: what is measured went through the real door, and what arrived is read from the
//! sandbox's ledger.

pub(crate) mod api;
mod args;
mod bare;
pub(crate) mod claims;
mod concert;
mod demo;
pub(crate) mod http;
mod idle;
pub(crate) mod ledger;
mod orders;
mod pace;
mod report;
pub(crate) mod reserve;
mod usage;
mod worker;

pub use args::{BareArgs, ClaimsArgs, ConcertArgs, IdleArgs, LoadArgs, LoadCommand, OrdersArgs, ReserveArgs};
pub use claims::ClaimsReport;
pub use concert::ConcertReport;
pub use demo::{DemoError, DemoTarget, demo};
pub use http::HttpError;
pub use orders::OrdersReport;
pub use report::{BareReport, IdleReport, LatencyMicros, LoadReport, MeasureReport, ReserveReport};

use crate::types::time::Millis;

/// Why a load could not be run. Nothing is said by it about requests that were made before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line asks for something that cannot be.
    #[error("{what}")]
    Usage { what: String },
    /// The API or the sandbox could not be talked to.
    #[error("{what}: {source}")]
    Http { what: &'static str, source: HttpError },
    /// A reply that is not what the API's contract says.
    #[error("{what}: unexpected reply {status}: {body}")]
    Reply { what: &'static str, status: u16, body: String },
    #[error("the operating system's random numbers are not available")]
    Random,
    /// A worker of the load ended by a panic.
    #[error("a load worker broke down")]
    Worker,
}

/// One call of the load generator, at most.
pub(crate) const CALL_DEADLINE: Millis = Millis::from_secs(30);

/// Runs what `bojagi load` was asked for. The caller prints [`LoadReport::render`] and ends with a failure unless
/// [`LoadReport::passed`]. Not cancellation safe: requests in flight are abandoned, their outcome unknown.
///
/// # Errors
/// [`LoadError`]; requests that were made before it stay made.
pub async fn run(args: LoadArgs) -> Result<LoadReport, LoadError> {
    match args.command {
        Some(LoadCommand::Idle(idle)) => Ok(LoadReport::Idle(idle::run(idle).await?)),
        Some(LoadCommand::Bare(bare)) => Ok(LoadReport::Bare(bare::run(bare).await?)),
        Some(LoadCommand::Claims(claims)) => Ok(LoadReport::Claims(claims::run(claims).await?)),
        Some(LoadCommand::Orders(orders)) => Ok(LoadReport::Orders(orders::run(orders).await?)),
        Some(LoadCommand::Concert(concert)) => Ok(LoadReport::Concert(Box::new(concert::run(concert).await?))),
        None => Ok(LoadReport::Reserve(Box::new(reserve::run(args.reserve).await?))),
    }
}
