//! What is taken of the machine: of the disk below the data folder, and of its processors.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The share of a folder's file system that is taken, of what a process without privileges may ever take, as `df` says
/// it. `None` when the kernel does not say.
#[must_use]
pub fn used_share(folder: &Path) -> Option<f64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string that outlives the call, and the answer is written before it is read: the call says so.
    let answer = unsafe {
        if libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) != 0 {
            return None;
        }
        answer.assume_init()
    };
    let used = answer.f_blocks.saturating_sub(answer.f_bfree);
    let all = used + answer.f_bavail;
    (all > 0).then(|| used as f64 / all as f64)
}

/// Processor time of the whole machine since it started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorTime {
    all: u64,
    idle: u64,
}

/// As the kernel counts it; `None` where it does not.
#[must_use]
pub fn processor_time() -> Option<ProcessorTime> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests got is in user.
fn parse(text: &str) -> Option<ProcessorTime> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(ProcessorTime { all: ticks.iter().sum(), idle })
}

impl ProcessorTime {
    /// The share that was taken since then; `None` when no time has passed.
    #[must_use]
    pub fn share_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let idle = self.idle.saturating_sub(before.idle).min(all);
        Some((all - idle) as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_what_was_not_idle() {
        let before = parse("cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 1\n").unwrap();
        let after = parse("cpu  130 0 60 840 70 0 0 0 9 0\n").unwrap();
        assert_eq!(after.share_since(before), Some(0.4));
        assert_eq!(before.share_since(before), None);
        assert_eq!(before.share_since(after), None, "another machine's");
        assert_eq!((parse(""), parse("cpu  1 2"), parse("cpu  a b c d e")), (None, None, None));
    }

    #[test]
    fn a_folder_has_a_disk_and_what_is_none_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let share = used_share(folder.path()).unwrap();
        assert!((0.0..=1.0).contains(&share), "{share}");
        assert_eq!(used_share(Path::new("/nowhere/at/all")), None);
    }
}
