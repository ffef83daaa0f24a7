//! Asking an entity that many ask at once: what it cannot decide yet, and what is not known to be decided, is asked again
//! within milliseconds. For commands that the entity knows when they are repeated. And how long a refusal that is certain
//! waits for what else is at fault.

use crate::actors::door::{Answer, Ask, AskError};
use crate::api::problem::{Code, Fault, Problem};
use crate::api::router::Shared;
use crate::types::codec;
use crate::types::ids::EntityKey;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a caller may wait for the decision and for what follows from it.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Pauses before an entity that could not say yet is asked again.
const PAUSE_FIRST: Duration = Duration::from_millis(8);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Times that a command is repeated whose outcome is not known.
const REPEATS_MAX: u32 = 3;

/// How long a request whose body is at fault waits for what can be told of what it names.
const MORE_FAULTS: Duration = Duration::from_secs(1);

/// All faults of a request: those of its body, and with them what can be told of what it names. The body is at fault for
/// certain, even when that cannot be looked up now.
pub async fn all_faults<T>(
    found: Vec<Fault>,
    named: impl Future<Output = Result<Result<T, Vec<Fault>>, Problem>>,
) -> Problem {
    let more = match timeout(MORE_FAULTS, named).await {
        Ok(Ok(Err(more))) => more,
        Ok(Ok(Ok(_)) | Err(_)) | Err(_) => Vec::new(),
    };
    Problem::invalid([found, more].concat())
}

/// How an ask ends without a decision, after so many tries whose outcome is not known: the last one does not speak for those.
fn undecided(problem: Problem, repeats: u32) -> Problem {
    if repeats == 0 { problem } else { problem.past_commit() }
}

impl Shared {
    /// Asks until the entity decides. `not_yet`: the problem to end with, for a refusal that passes by itself.
    ///
    /// # Errors
    /// The problem of the last try at the deadline, or what the runtime says; [`Code::OutcomeUnknown`] for either once the
    /// outcome of a try was not known.
    pub async fn ask_patiently<R: DeserializeOwned>(
        &self,
        key: EntityKey,
        command: Vec<u8>,
        deadline: Instant,
        not_yet: fn(&R) -> Option<Problem>,
    ) -> Result<Result<Answer, R>, Problem> {
        let (mut pause, mut repeats) = (PAUSE_FIRST, 0);
        loop {
            let ask = Ask { key, command: command.clone(), idempotency: None, if_version: None, new_key: None };
            let why = match self.door.ask(ask).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(AskError::Rejected { rejection, .. }) => {
                    let refusal: R = codec::decode(&rejection).map_err(|_| Problem::new(Code::Internal))?;
                    match not_yet(&refusal) {
                        Some(problem) => problem,
                        None => return Ok(Err(refusal)),
                    }
                }
                Err(AskError::Unknown) if repeats < REPEATS_MAX => {
                    repeats += 1;
                    Problem::new(Code::OutcomeUnknown)
                }
                Err(error) => return Err(undecided(error.into(), repeats)),
            };
            if Instant::now() + pause >= deadline {
                return Err(undecided(why, repeats));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
