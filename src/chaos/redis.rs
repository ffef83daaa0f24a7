//! A redis-server of the run's own, when a nemesis needs one. It keeps nothing on disk, so it comes back empty.

use crate::chaos::ChaosError;
use crate::chaos::process::{OwnProcess, Signal};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

const START_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub struct Redis {
    port: u16,
    folder: PathBuf,
    process: Mutex<OwnProcess>,
}

impl Redis {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: it is not installed, or does not come up.
    pub async fn start(port: u16, folder: &Path) -> Result<Self, ChaosError> {
        let process = Mutex::new(launch(port, folder).await?);
        Ok(Self { port, folder: folder.to_owned(), process })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    ///
    /// # Errors
    /// [`ChaosError`]: it had ended before.
    pub async fn kill(&self) -> Result<(), ChaosError> {
        let mut process = self.process.lock().await;
        process.signal(Signal::Kill)?;
        process.ended().await?;
        Ok(())
    }

    /// Starts it again, empty.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub async fn start_again(&self) -> Result<(), ChaosError> {
        let mut process = self.process.lock().await;
        if !process.is_running() {
            *process = launch(self.port, &self.folder).await?;
        }
        Ok(())
    }
}

async fn launch(port: u16, folder: &Path) -> Result<OwnProcess, ChaosError> {
    let port_text = port.to_string();
    let folder_text = folder.display().to_string();
    let arguments =
        ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder_text];
    let arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    let log = folder.join("redis.log");
    let started = OwnProcess::start("redis-server", Path::new("redis-server"), &arguments, &log);
    let mut process = started.map_err(|error| match error {
        ChaosError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            ChaosError::Stand("redis-server is not installed (Debian: apt-get install redis-server)".to_owned())
        }
        other => other,
    })?;
    let give_up = Instant::now() + START_MAX;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        if Instant::now() > give_up || !process.is_running() {
            return Err(ChaosError::Stand(format!("redis-server does not come up at port {port}")));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(process)
}
