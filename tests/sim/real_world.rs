//! The one place where the simulator touches the real world: settings from the environment, a stopwatch, and what was spent.
#![allow(clippy::disallowed_methods)]

use bojagi::app::clock::thread_core_seconds;
use std::time::Instant;

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Seconds since it was made.
pub fn stopwatch() -> impl Fn() -> f64 {
    let start = Instant::now();
    move || start.elapsed().as_secs_f64()
}

/// Seconds of this thread on a core since it was made.
pub fn cpu_seconds() -> impl Fn() -> f64 {
    let start = thread_core_seconds();
    move || thread_core_seconds() - start
}
