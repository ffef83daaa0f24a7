//! What goes wrong at the in-memory door, when a test wants it to.

use crate::actors::door::{Answer, AskError};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the next commands are answered with instead of being decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    Fail(&'static str),
    /// One after the other, and then none.
    Each(&'static [&'static str]),
    Hang,
}

impl Trouble {
    /// What the next command meets; `None`: it is decided.
    pub fn meet(&mut self) -> Option<BoxFuture<'static, Result<Answer, AskError>>> {
        match *self {
            Self::None | Self::Each([]) => None,
            Self::Fail(what) => Some(failure(what)),
            Self::Each([first, rest @ ..]) => {
                *self = Self::Each(rest);
                Some(failure(first))
            }
            Self::Hang => Some(pending().boxed()),
        }
    }
}

fn failure(what: &str) -> BoxFuture<'static, Result<Answer, AskError>> {
    let error = match what {
        "unknown" => AskError::Unknown,
        "overloaded" => AskError::Overloaded { retry_after_secs: 7 },
        "in_flight" => AskError::KeyInFlight,
        "panic" => return async { panic!("on purpose") }.boxed(),
        _ => AskError::Unavailable,
    };
    ready(Err(error)).boxed()
}

/// What fails from the next answer to a command on: the reply that needs it cannot be made.
#[derive(Debug, Default)]
pub struct Loss {
    what: Mutex<Option<&'static str>>,
    answered: AtomicBool,
}

impl Loss {
    /// `read`, `changed`, `unseal`, or nothing any more.
    pub fn behind_an_answer(&self, what: Option<&'static str>) {
        *self.what.lock() = what;
        self.answered.store(false, Ordering::SeqCst);
    }

    /// A command was answered.
    pub fn begin(&self) {
        self.answered.store(true, Ordering::SeqCst);
    }

    /// # Errors
    /// `Unavailable` when `what` is lost.
    pub fn check(&self, what: &str) -> Result<(), AskError> {
        let lost = self.answered.load(Ordering::SeqCst) && *self.what.lock() == Some(what);
        if lost { Err(AskError::Unavailable) } else { Ok(()) }
    }
}
