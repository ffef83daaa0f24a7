//! The one place where the simulator touches the real world: settings from the environment, a stopwatch, what was
//! spent, and lines that are shown in any case.
#![allow(clippy::disallowed_methods)]

use bojagi::app::clock::thread_core_seconds;
use std::io::Write;
use std::time::Instant;

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A word from the environment.
pub fn word(name: &str) -> Option<String> {
    std::env::var(name).ok()
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

/// Writes a line that is shown though the test passes: the test harness keeps back only what is printed by macro.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("the standard output is open");
}
