//! CPU time and memory of processes under load, from `/proc` (Linux).

use serde::Serialize;
use std::fs;

/// `USER_HZ`, the unit of CPU time in `/proc/<pid>/stat`; 100 on every Linux that Rust builds for.
const TICKS_PER_SECOND: u64 = 100;

/// What processes have used up to now, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub cpu_ms: u64,
    pub resident_kb: u64,
}

/// `None` when no process was named or one of them cannot be read.
pub(crate) fn of(pids: &[u32]) -> Option<Usage> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().try_fold(Usage::default(), |sum, pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let cpu_ms = sum.cpu_ms + cpu_ms(&stat)?;
        Some(Usage { cpu_ms, resident_kb: sum.resident_kb + resident_kb(&status)? })
    })
}

/// User and system time; the command's name may hold spaces and brackets, so fields count from its last `)`.
fn cpu_ms(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1_000 / TICKS_PER_SECOND)
}

fn resident_kb(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read_past_odd_names() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 4 0 100 1 2";
        assert_eq!(cpu_ms(stat), Some(2_000));
        assert_eq!(resident_kb("Name:\tx\nVmRSS:\t  1234 kB\n"), Some(1_234));
        assert_eq!(cpu_ms("garbage"), None);
    }

    #[test]
    fn an_unreadable_process_gives_no_figure() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[u32::MAX]), None);
    }
}
