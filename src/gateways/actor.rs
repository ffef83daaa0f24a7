//! One ractor actor per provider drives its lane core; a supervisor starts it again should it ever fail.
//!
//! The actor only decides: it never waits for a call. Calls run as tasks of their own ([`crate::gateways::desk`]) and
//! come back as messages. Its mailbox holds at most the queue's bound of tickets (a place is taken before the cast)
//! and one message for each open attempt.
//!
//! | message | does |
//! |---|---|
//! | `Request` | queues the ticket |
//! | `Returned`, `Finished` | gives the capacity back to the policy |
//! | `Fleet`, `Quota` | the quota is the fleet's from here on; what the fleet's quota answered |
//! | `Tick` | the clock reached the instant that the core named, or was moved past it |
//! | `Close` | drops what is queued and stops |
//!
//! After each of them everything that may go is granted.

use crate::gateways::desk::Desk;
use crate::gateways::lane::{Hold, LaneCore, Step};
use crate::gateways::meter::Place;
use crate::gateways::policy::{Class, Health};
use crate::gateways::{Asker, GrantSink};
use crate::types::quota::QuotaAnswer;
use crate::types::time::{Clock, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a gateway's actor is told.
pub(crate) enum GatewayMsg {
    Request {
        class: Class,
        due: Timestamp,
        asker: Asker,
        grant: GrantSink,
        place: Place,
    },
    Returned {
        class: Class,
        hold: Hold,
    },
    Finished {
        class: Class,
        hold: Hold,
        health: Health,
    },
    Fleet,
    Quota(QuotaAnswer),
    Tick,
    Close,
    #[cfg(test)]
    Panic,
}

pub(crate) struct GatewayActor;

struct Waiting {
    grant: GrantSink,
    asker: Asker,
    /// Held until the ticket leaves the queue.
    _place: Place,
}

pub(crate) struct GatewayState {
    desk: Arc<Desk>,
    core: LaneCore<Waiting>,
    wake: watch::Sender<Option<Timestamp>>,
    _pacer: AbortOnDrop,
}

pub(crate) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// Local only: never advertised to peers.
impl ractor::Message for GatewayMsg {}
impl ractor::Message for SupervisorMsg {}

impl Actor for GatewayActor {
    type Msg = GatewayMsg;
    type State = GatewayState;
    type Arguments = Arc<Desk>;

    async fn pre_start(
        &self,
        myself: ActorRef<GatewayMsg>,
        desk: Arc<Desk>,
    ) -> Result<GatewayState, ActorProcessingErr> {
        let (wake, wakes) = watch::channel(None);
        let pacer = tokio::spawn(pace(Arc::clone(&desk.clock), wakes, myself));
        let core = LaneCore::new(desk.policy(), desk.queue_bounds(), desk.patience(), desk.open());
        let core = core.with_batches(desk.together()).with_pauses_held(desk.pause_held());
        Ok(GatewayState { desk, core, wake, _pacer: AbortOnDrop(pacer) })
    }

    async fn handle(
        &self,
        myself: ActorRef<GatewayMsg>,
        message: GatewayMsg,
        state: &mut GatewayState,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.desk.clock.now();
        let mut ticked = false;
        match message {
            GatewayMsg::Request { class, due, asker, grant, place } => {
                // A full or closed core drops the ticket, which tells its owner to ask again.
                let _ = state.core.offer(class, (due, Some(asker.shard)), now, Waiting { grant, asker, _place: place });
            }
            GatewayMsg::Returned { class, hold } => state.core.returned(class, hold, now),
            GatewayMsg::Finished { class, hold, health } => state.core.finished(class, hold, health, now),
            GatewayMsg::Fleet => state.core.join_fleet(now),
            GatewayMsg::Quota(answer) => state.core.fleet_answered(answer, now),
            GatewayMsg::Tick => ticked = true,
            GatewayMsg::Close => {
                drop(state.core.close());
                myself.stop(None);
            }
            #[cfg(test)]
            GatewayMsg::Panic => panic!("ordered by a test"),
        }
        state.grant_all(now, ticked);
        Ok(())
    }
}

impl GatewayState {
    fn grant_all(&mut self, now: Timestamp, ticked: bool) {
        let wake = loop {
            match self.core.next(now) {
                Step::Grant { ticket, class, hold } => {
                    let Waiting { grant, asker, _place: place } = ticket;
                    let permit = self.desk.permit(class, hold, asker);
                    drop(place);
                    // A receiver that panics has dropped its permit, which gives the capacity back.
                    if catch_unwind(AssertUnwindSafe(|| grant(permit))).is_err() {
                        tracing::error!(lane = self.desk.name(), "a grant's receiver panicked");
                    }
                }
                Step::Idle { wake } => break wake,
            }
        };
        if let Some(permits) = self.core.ask_fleet(now) {
            self.desk.ask_fleet(permits);
        }
        self.desk.publish(self.core.policy().view(), wake);
        // A pacer that has ticked waits to be told again, even the same instant.
        self.wake.send_if_modified(|current| std::mem::replace(current, wake) != wake || ticked);
    }
}

/// Ticks the actor at the instant it last named, once, on the clock: a moved clock is seen at once.
async fn pace(clock: Arc<dyn Clock>, mut wakes: watch::Receiver<Option<Timestamp>>, actor: ActorRef<GatewayMsg>) {
    let mut moved = clock.moved();
    loop {
        let wake = *wakes.borrow_and_update();
        tokio::select! {
            () = sleep_until(&*clock, &mut moved, wake) => {
                if actor.cast(GatewayMsg::Tick).is_err() || wakes.changed().await.is_err() {
                    return;
                }
            }
            named = wakes.changed() => if named.is_err() { return },
        }
    }
}

/// Returns once the clock is at `at`; never when there is no instant. Cancellation safe.
pub(crate) async fn sleep_until(clock: &dyn Clock, moved: &mut watch::Receiver<u64>, at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    loop {
        moved.mark_unchanged();
        let left = at - clock.now();
        if left.0 <= 0 {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left.to_std()) => {}
            Ok(()) = moved.changed() => {}
        }
    }
}

/// Starts gateway actors, and starts them again when they fail. A new one takes over the open attempts from the desk;
/// the tickets of the failed one are dropped, which tells their owners to ask again.
pub(crate) struct Supervisor;

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = Vec<Arc<Desk>>;
    type Arguments = Vec<Arc<Desk>>;

    async fn pre_start(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        desks: Vec<Arc<Desk>>,
    ) -> Result<Vec<Arc<Desk>>, ActorProcessingErr> {
        Ok(desks)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        _desks: &mut Vec<Arc<Desk>>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Stop => myself.stop(None),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        desks: &mut Vec<Arc<Desk>>,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(who, error) = event {
            let of = |desk: &&Arc<Desk>| desk.actor().is_some_and(|actor| actor.get_id() == who.get_id());
            if let Some(desk) = desks.iter().find(of) {
                tracing::error!(lane = desk.name(), %error, "a gateway failed and is started again");
                desk.serve_with(None);
                serve(desk, &myself);
            }
        }
        Ok(())
    }
}

/// What the supervisor is told.
pub(crate) enum SupervisorMsg {
    Stop,
}

/// Starts a desk's actor under the supervisor. Needs the runtime's context.
pub(crate) fn serve(desk: &Arc<Desk>, supervisor: &ActorRef<SupervisorMsg>) {
    let spawned =
        ractor::ActorRuntime::spawn_linked_instant(None, GatewayActor, Arc::clone(desk), supervisor.get_cell());
    match spawned {
        Ok((actor, _)) => desk.serve_with(Some(actor)),
        Err(error) => tracing::error!(lane = desk.name(), %error, "a gateway does not start"),
    }
}
