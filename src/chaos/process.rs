//! A process that this run started: the only kind that is ever signalled.

use crate::chaos::ChaosError;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Kill,
    Stop,
    Continue,
    Terminate,
}

/// A child of this process. It ends with this process, and when it is dropped.
pub struct OwnProcess {
    name: String,
    child: Child,
}

/// Turns an I/O error into one of a run, with what it was about.
pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ChaosError {
    let what = what.into();
    move |cause| ChaosError::Io { what, cause }
}

impl OwnProcess {
    /// Starts a program; what it says goes to the end of a log file.
    ///
    /// # Errors
    /// [`ChaosError::Io`]: the log cannot be opened, or the program not be started.
    pub fn start(name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Self, ChaosError> {
        let open = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = open.map_err(io(log.display().to_string()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // SAFETY: only prctl(2) is called between fork and exec, which is async-signal-safe and touches no memory.
        unsafe { command.pre_exec(end_with_parent) };
        Ok(Self { name: name.to_owned(), child: command.spawn().map_err(io(name))? })
    }

    /// Its id, while it was not waited for.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// # Errors
    /// [`ChaosError::Stand`]: it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ChaosError> {
        let gone = || ChaosError::Stand(format!("{} does not run", self.name));
        let pid = self.pid().ok_or_else(gone)?;
        let number = match signal {
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
            Signal::Terminate => libc::SIGTERM,
        };
        // SAFETY: kill(2) with the id of a child that was not waited for: no other process can have it.
        let sent = unsafe { libc::kill(pid, number) };
        if sent == 0 { Ok(()) } else { Err(gone()) }
    }

    /// Whether it has not ended. A stopped one runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`ChaosError::Io`]: it cannot be waited for.
    pub async fn ended(&mut self) -> Result<ExitStatus, ChaosError> {
        self.child.wait().await.map_err(io(self.name.clone()))
    }
}

/// In the child: SIGKILL when the run's process ends, however it ends.
fn end_with_parent() -> std::io::Result<()> {
    // SAFETY: prctl(2) with a signal number; no memory is touched.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_signalled_until_it_was_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = OwnProcess::start("a sleeper", Path::new("sleep"), &["600".to_owned()], &log).unwrap();
        assert!(child.is_running());
        child.signal(Signal::Stop).unwrap();
        assert!(child.is_running(), "a stopped one has not ended");
        child.signal(Signal::Kill).unwrap();
        assert!(!child.ended().await.unwrap().success());
        assert!(!child.is_running() && child.pid().is_none());
        assert!(child.signal(Signal::Kill).is_err(), "its id may be another's by now");
    }
}
