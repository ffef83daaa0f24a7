//! `bojagi demo`: the life of three gifts, told over HTTP and checked against the providers' ledger.
//!
//! One is accepted and redeemed, one expires and refunds itself, one is cancelled. Every step verifies what it says;
//! the first that finds something else ends the demo with what it found.

mod client;
mod stage;
mod story;

use crate::load::{HttpError, LoadError};
use client::Client;
use stage::Stage;
use story::Story;

/// Where the demo plays: a node in dev mode with its sandbox, and a token for each role.
#[derive(Clone, Debug)]
pub struct DemoTarget {
    /// Base URL of the API.
    pub api: String,
    /// Base URL of the sandbox.
    pub sandbox: String,
    pub user_token: String,
    pub merchant_token: String,
    pub operator_token: String,
}

/// Why the demo ended early. What was reserved up to then goes on living.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// API or sandbox could not be talked to.
    #[error("{step}: {source}")]
    Http { step: &'static str, source: HttpError },
    /// Another answer than the contract promises.
    #[error("{step}: expected {expected}, got {status}: {body}")]
    Answer { step: &'static str, expected: &'static str, status: u16, body: String },
    /// The answer is as promised, what it says is not.
    #[error("{step}: expected {expected}, found {found}")]
    Wrong { step: &'static str, expected: &'static str, found: String },
    /// It did not become so in time.
    #[error("{step}: waited {seconds} s for {expected}, last seen: {found}")]
    Late { step: &'static str, seconds: u64, expected: &'static str, found: String },
    /// The clock or the ledger could not be read.
    #[error("{step}: {source}")]
    World { step: &'static str, source: LoadError },
    #[error("the operating system's random numbers are not available")]
    Random,
}

/// Plays the demo, with a progress display on a terminal and plain lines elsewhere. It moves the dev clock by about a
/// month. Not cancellation safe, and harmless to repeat.
///
/// # Errors
/// [`DemoError`], naming the step that did not hold.
pub async fn demo(target: DemoTarget) -> Result<(), DemoError> {
    let client = Client::new(&target)?;
    let stage = Stage::new(story::STEPS);
    let mut story = Story::new(client, stage)?;
    match story.play().await {
        Ok(()) => {
            story.stage.finish("Three gifts lived their lives; the money adds up to the won.");
            Ok(())
        }
        Err(error) => {
            story.stage.abandon();
            Err(error)
        }
    }
}
