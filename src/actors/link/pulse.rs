//! Heartbeats and the failure detector.
//!
//! ractor_cluster never gives a silent peer up, so this does: a link from which nothing came for 1.5 s is ended. The same
//! clock shows when this process itself stood still; then every link is ended before anything that waits in its sockets
//! is handed on (see `Hub::receive`), and the pulse's own mark moves only after that.

use super::hub::Hub;
use super::session::{Link, Stage};
use crate::types::limits::{HANDSHAKE_MAX_MS, HEARTBEAT_EVERY_MS, PEER_SILENT_MAX_MS};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is to be done with a link at a pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Opening still, and within its deadline.
    Wait,
    /// Healthy: a heartbeat is due.
    Beat,
    End(&'static str),
}

/// Judges one link: `silent_ms` since anything was heard, `age_ms` since it was made.
fn judge(stage: Stage, silent_ms: u64, age_ms: u64) -> Verdict {
    match stage {
        Stage::Up if silent_ms > PEER_SILENT_MAX_MS => Verdict::End("the peer is silent"),
        Stage::Up => Verdict::Beat,
        Stage::Opening { .. } if age_ms > HANDSHAKE_MAX_MS => Verdict::End("it did not come up in time"),
        Stage::Opening { ready: true, .. } => Verdict::Beat,
        Stage::Opening { ready: false, .. } | Stage::Ended => Verdict::Wait,
    }
}

/// Runs until the hub stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    loop {
        tokio::select! {
            () = hub.stopping.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_EVERY_MS)) => pulse(&hub),
        }
    }
}

fn pulse(hub: &Arc<Hub>) {
    let now_ms = hub.clock.boot().0;
    let stood_still = hub.stood_still(now_ms);
    if stood_still {
        tracing::warn!("this process stood still; its links are ended and made anew");
    }
    for link in hub.links() {
        if stood_still {
            hub.end(&link, "this process stood still");
        } else {
            tend(hub, &link, now_ms);
        }
    }
    hub.pulse_ms.store(now_ms, Ordering::Release);
}

fn tend(hub: &Arc<Hub>, link: &Arc<Link>, now_ms: u64) {
    let silent_ms = now_ms.saturating_sub(link.heard_ms.load(Ordering::Acquire));
    let stage = *link.stage.lock();
    match judge(stage, silent_ms, now_ms.saturating_sub(link.born_ms)) {
        Verdict::Wait => {}
        Verdict::Beat if link.send_now(&hub.ping(link)) && link.acknowledge() => {}
        Verdict::Beat => hub.end(link, "its session takes nothing any more"),
        Verdict::End(why) => hub.end(link, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: Stage = Stage::Opening { ready: false, heard: false };
    const READY: Stage = Stage::Opening { ready: true, heard: false };

    #[test]
    fn a_silent_peer_is_given_up_after_its_time_and_not_before() {
        assert_eq!(judge(Stage::Up, PEER_SILENT_MAX_MS, 0), Verdict::Beat);
        assert!(matches!(judge(Stage::Up, PEER_SILENT_MAX_MS + 1, 0), Verdict::End(_)));
    }

    #[test]
    fn a_link_that_does_not_open_is_ended() {
        for stage in [OPENING, READY] {
            assert!(matches!(judge(stage, 0, HANDSHAKE_MAX_MS + 1), Verdict::End(_)));
        }
        assert_eq!(judge(OPENING, 0, HANDSHAKE_MAX_MS), Verdict::Wait);
        assert_eq!(judge(READY, PEER_SILENT_MAX_MS + 1, 0), Verdict::Beat, "its peer may be slower to be ready");
        assert_eq!(judge(Stage::Ended, u64::MAX, u64::MAX), Verdict::Wait);
    }
}
