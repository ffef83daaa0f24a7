//! A thread that the node cannot do without ends the process when it panics: a node that has lost one would go on
//! taking work that nobody finishes.

/// Kept on the stack of such a thread.
pub struct EndsProcess(pub &'static str);

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                thread = self.0,
                "a thread failed: ending the process so that nothing more is acknowledged"
            );
            std::process::abort();
        }
    }
}
