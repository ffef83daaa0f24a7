//! `bojagi sandbox`: the providers' other side as a process of its own.

use crate::app::clock::{DevClock, SystemClock};
use crate::app::dev::wait_for_signal;
use crate::app::{AppError, log};
use crate::cli::SandboxArgs;
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::types::time::Clock;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Runs until interrupted, or until standard input closes when asked so.
///
/// # Errors
/// [`AppError::Sandbox`]: a port is taken, or its ledger cannot be opened.
pub async fn run(args: SandboxArgs) -> Result<(), AppError> {
    log::init(log::Format::Text, log::USUAL);
    let clock: Arc<dyn Clock> = match &args.clock {
        Some(path) => {
            let clock = DevClock::open(path).map_err(AppError::io("dev clock"))?;
            clock.watch().map_err(AppError::io("dev clock"))?;
            clock
        }
        None => SystemClock::new(),
    };
    let handle = Sandbox::start(SandboxOptions {
        http_addr: args.http,
        smtp_addr: args.smtp,
        data_dir: args.data,
        webhook_targets: args.webhook,
        clock,
        seed: args.seed,
    })
    .map_err(|error| AppError::Sandbox(error.to_string()))?;
    println!("sandbox on http://{} (SMTP {})", handle.http_addr(), handle.smtp_addr());
    if args.until_stdin_closes {
        tokio::select! {
            biased;
            () = wait_for_signal() => {}
            () = stdin_closed() => {}
        }
    } else {
        wait_for_signal().await;
    }
    handle.shutdown().await;
    Ok(())
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0u8; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(read) if read > 0) {}
}
