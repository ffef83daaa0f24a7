//! All gateways of a node, behind one handle.

use crate::gateways::actor::{AbortOnDrop, GatewayMsg, Supervisor, SupervisorMsg, serve};
use crate::gateways::batch_book::BatchBook;
use crate::gateways::desk::{Carrier, Desk};
use crate::gateways::meter::{GatewayState, LaneStatus};
use crate::gateways::options::{GatewayOptions, OptionsError};
use crate::gateways::policy::Class;
use crate::gateways::reports::{Heard, HintSink, ReportSink, WebhookResult, hand_on, start_polls};
use crate::gateways::{Busy, Ticket};
use crate::providers::{MessageProvider, PaymentProvider, ShippingProvider, WebhookError, WebhookHeaders};
use crate::types::effect::{Channel, Lane};
use crate::types::quota::FleetQuota;
use crate::types::time::{Clock, Timestamp};
use parking_lot::Mutex;
use ractor::ActorRef;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The gateways of a node. Cheap to clone; the last clone that is dropped stops them without waiting.
#[derive(Clone)]
pub struct Gateways {
    house: Arc<House>,
}

struct House {
    kakao: Arc<Desk>,
    sms: Arc<Desk>,
    email: Arc<Desk>,
    push: Arc<Desk>,
    payment: Arc<Desk>,
    shipment: Arc<Desk>,
    supervisor: ActorRef<SupervisorMsg>,
    messages: Vec<Arc<dyn MessageProvider>>,
    payments: Arc<dyn PaymentProvider>,
    polls: Mutex<Vec<AbortOnDrop>>,
    reports: ReportSink,
    hint: HintSink,
    window: u32,
}

impl House {
    fn desks(&self) -> [&Arc<Desk>; 6] {
        [&self.kakao, &self.sms, &self.email, &self.push, &self.payment, &self.shipment]
    }

    fn stop(&self) {
        self.polls.lock().clear();
        for desk in self.desks() {
            desk.shut();
            if let Some(actor) = desk.actor() {
                // An actor that is gone has nothing left to close.
                let _ = actor.cast(GatewayMsg::Close);
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
        // A supervisor that is gone needs no stop.
        let _ = self.supervisor.cast(SupervisorMsg::Stop);
    }
}

impl Gateways {
    /// Starts one gateway for each channel, one for payments and one for shipments (which wait without a provider). Call it within the tokio runtime that is to make the
    /// calls. The first provider of a channel sends; further ones of it only still deliver reports (a move from one to
    /// another). A channel without a provider refuses with `no_provider` towards the next channel.
    ///
    /// # Errors
    /// [`OptionsError`]: nothing was started.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[allow(clippy::too_many_arguments, reason = "each is another way out of the gateways or into them")]
    pub fn start(
        options: &GatewayOptions,
        messages: Vec<Arc<dyn MessageProvider>>,
        payments: Arc<dyn PaymentProvider>,
        shipping: Option<Arc<dyn ShippingProvider>>,
        clock: Arc<dyn Clock>,
        reports: ReportSink,
        hint: HintSink,
    ) -> Result<Self, OptionsError> {
        options.check()?;
        let runtime = Handle::current();
        let desk = |channel: Channel, number| {
            let carrier = match messages.iter().find(|provider| provider.channel() == channel) {
                Some(provider) => Carrier::Message(Arc::clone(provider)),
                None => Carrier::Absent(channel),
            };
            Desk::new(carrier, options, options.channel(channel), number, Arc::clone(&clock), runtime.clone())
        };
        let [kakao, sms, email, push] =
            [desk(Channel::Kakao, 1), desk(Channel::Sms, 2), desk(Channel::Email, 3), desk(Channel::Push, 4)];
        let carrier = Carrier::Payment(Arc::clone(&payments));
        let payment = Desk::new(carrier, options, &options.payment, 5, Arc::clone(&clock), runtime.clone());
        let carrier = Carrier::Shipment(shipping);
        let shipment = Desk::new(carrier, options, &options.shipment, 6, Arc::clone(&clock), runtime.clone());
        let desks = [&kakao, &sms, &email, &push, &payment, &shipment].map(Arc::clone).to_vec();
        let (supervisor, _) = ractor::ActorRuntime::spawn_instant(None, Supervisor, desks.clone())
            .expect("an actor without a name has no name to clash");
        for desk in &desks {
            serve(desk, &supervisor);
        }
        let poll = |provider: &Arc<dyn MessageProvider>| {
            start_polls(Arc::clone(provider), options.poll.clone(), Arc::clone(&clock), Arc::clone(&reports))
        };
        let polls = Mutex::new(messages.iter().map(poll).collect());
        let window = options.window();
        let house = House {
            kakao,
            sms,
            email,
            push,
            payment,
            shipment,
            supervisor,
            messages,
            payments,
            polls,
            reports,
            hint,
            window,
        };
        Ok(Self { house: Arc::new(house) })
    }

    /// From here on the rates are quotas of the whole fleet, of which this node asks for its part. Once.
    pub fn share_quota(&self, quota: &Arc<dyn FleetQuota>) {
        for desk in self.house.desks() {
            desk.share_quota(quota);
        }
    }

    /// From here on attempts leave in batches where their provider takes them and the options say so, and the batches
    /// of an earlier life are found. Before, nothing whose earlier try is in doubt leaves on such a channel. Once.
    pub fn keep_batches(&self, book: &Arc<dyn BatchBook>) {
        for desk in self.house.desks() {
            desk.keep_batches(book);
        }
    }

    /// Queues a ticket; its permit comes when capacity allows, in `due` order within its lane. The instant itself is
    /// the asker's business: a ticket is asked for when its call is due. From any thread, without waiting.
    ///
    /// # Errors
    /// [`Busy`]: the lane's queue is full or the gateway is closed; the want stays in the outbox. Always so for
    /// [`Lane::Entity`], which has no gateway.
    pub fn request(&self, ticket: Ticket) -> Result<(), Busy> {
        let Ticket { lane, due, asker, grant } = ticket;
        let (desk, class) = match lane {
            Lane::Send(channel) => (self.desk(channel), Class::Send),
            Lane::Notice(channel) => (self.desk(channel), Class::Notice),
            Lane::Payment => (&self.house.payment, Class::Send),
            Lane::Shipment => (&self.house.shipment, Class::Send),
            Lane::Entity => return Err(Busy),
        };
        desk.request(class, (due, asker), grant)
    }

    /// Hands on what a provider's webhook reports. Names with lower-case headers; nothing is believed unverified.
    #[must_use]
    pub fn webhook(&self, provider: &str, headers: &WebhookHeaders, body: &[u8]) -> WebhookResult {
        let refused = |error: WebhookError| match error {
            WebhookError::Unsigned => WebhookResult::Unsigned,
            WebhookError::Malformed { .. } => WebhookResult::Malformed,
        };
        if self.house.payments.name() == provider {
            return match self.house.payments.webhook(headers, body) {
                Ok(orders) => {
                    let count = orders.len();
                    orders.into_iter().for_each(|order| (self.house.hint)(order));
                    WebhookResult::Taken { count }
                }
                Err(error) => refused(error),
            };
        }
        // One vendor may serve several channels under one name: the first that knows the body takes it.
        let mut result = WebhookResult::UnknownProvider;
        for client in self.house.messages.iter().filter(|client| client.name() == provider) {
            match client.webhook(headers, body) {
                Ok(reports) => match hand_on(reports, Heard::Webhook, &self.house.reports) {
                    Ok(count) => return WebhookResult::Taken { count },
                    Err(Busy) => return WebhookResult::Busy,
                },
                Err(error) => result = refused(error),
            }
        }
        result
    }

    /// Each lane as operators see it: sends and notices of each channel, then payments and shipments.
    #[must_use]
    pub fn status(&self) -> Vec<LaneStatus> {
        self.house.desks().into_iter().flat_map(|desk| desk.status()).collect()
    }

    /// Each gateway's breaker: the channels, then payments and shipments.
    #[must_use]
    pub fn states(&self) -> Vec<GatewayState> {
        self.house.desks().into_iter().map(|desk| desk.state()).collect()
    }

    /// Calls at providers now. A call counts until its outcome was handed over.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.house.desks().into_iter().map(|desk| desk.in_flight()).sum()
    }

    /// Attempts granted and not finished, calls in flight included.
    #[must_use]
    pub fn open_attempts(&self) -> usize {
        let total = |desk: &Arc<Desk>| usize::try_from(desk.open().total()).unwrap_or(usize::MAX);
        self.house.desks().into_iter().map(total).sum()
    }

    /// Tickets that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.house.desks().into_iter().map(|desk| desk.queued()).sum()
    }

    /// The earliest instant at which a lane that holds tickets back goes on by itself (rate, pause, breaker). With no
    /// open attempt and this in the future, the gateways are at rest until then.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.house.desks().into_iter().filter_map(|desk| desk.wake()).min()
    }

    /// W: attempts that may be open at once on this node.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.house.window
    }

    /// Grants nothing more, drops what is queued (and so the grant sinks), lets the calls at providers finish, stops.
    /// A permit performed from here on answers `NotSent`. Takes as long as the longest call, about `CALL_DEADLINE`.
    /// Cancellation safe: it may be called again.
    pub async fn close(&self) {
        self.house.stop();
        for desk in self.house.desks() {
            desk.drained().await;
        }
    }

    fn desk(&self, channel: Channel) -> &Arc<Desk> {
        match channel {
            Channel::Kakao => &self.house.kakao,
            Channel::Sms => &self.house.sms,
            Channel::Email => &self.house.email,
            Channel::Push => &self.house.push,
        }
    }
}

#[cfg(test)]
mod tests;
