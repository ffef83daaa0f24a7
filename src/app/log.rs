//! Structured logs on standard error. `RUST_LOG` filters; frames and provider bodies are never printed.

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// The usual filter: what an operator wants to read, and no frame or body of a library.
pub const USUAL: &str = "info,hyper=warn,reqwest=warn,ractor=warn,ractor_cluster=error,sled=warn,lettre=warn";
/// Trouble only, for commands that talk to a person.
pub const QUIET: &str = "warn,ractor_cluster=error,sled=error";

/// Sets the process's log up once; a second call changes nothing. `RUST_LOG` goes before `filter`.
pub fn init(format: Format, filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    if result.is_err() {
        tracing::debug!("the log was set up before");
    }
}
