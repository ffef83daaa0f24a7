//! The progress display: a bar on a terminal, one line for each step elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// Where the story is told.
pub(crate) struct Stage {
    bar: ProgressBar,
    steps: u64,
    step: u64,
    title: &'static str,
}

impl Stage {
    pub(crate) fn new(steps: u64) -> Self {
        let style = ProgressStyle::with_template("{spinner} [{pos}/{len}] {msg} {wide_bar} {elapsed}");
        let bar = ProgressBar::new(steps).with_style(style.expect("the template is a constant"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, steps, step: 0, title: "" }
    }

    /// Begins a step.
    pub(crate) fn begin(&mut self, title: &'static str) {
        self.step += 1;
        self.title = title;
        self.bar.set_message(title);
    }

    /// Ends the step with what was found.
    pub(crate) fn done(&self, found: &str) {
        self.say(&format!("[{:>2}/{}] {:<34} {found}", self.step, self.steps, self.title));
        self.bar.set_position(self.step);
    }

    pub(crate) fn finish(&self, text: &str) {
        self.say(text);
        self.bar.finish_and_clear();
    }

    pub(crate) fn abandon(&self) {
        self.bar.abandon();
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            println!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}
