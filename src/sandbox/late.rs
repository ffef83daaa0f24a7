//! Late truth: lets results come out when they are due by the given clock, and hands them to the webhooks.

use crate::sandbox::book::Book;
use crate::sandbox::context::Context;
use crate::sandbox::event::{Event, Fired, MessageEvent, MessageNumber};
use crate::sandbox::journal::FrameAt;
use crate::sandbox::settings::{Provider, RESULT_TICK, RESULTS_MAX};
use crate::sandbox::{nhn_lookup, solapi_lookup, toss_view};
use crate::types::time::{Millis, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Runs until `stop` changes, or the journal cannot be written any more.
pub(crate) async fn run(context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let mut moved = context.clock.moved();
    loop {
        let fired = context.fire_results(RESULTS_MAX);
        let more = fired.0.len() == RESULTS_MAX;
        if !fired.0.is_empty() {
            let kept = context.journal.durable(fired.1).await.is_ok();
            if kept && context.hooks.wanted() {
                tell(&context, &fired.0);
            }
            context.results_open.fetch_sub(1, Ordering::AcqRel);
            if !kept {
                return;
            }
        }
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        let next = arm(&context);
        tokio::select! {
            () = tokio::time::sleep(next.to_std().max(RESULT_TICK.to_std())) => {}
            () = context.results_wake.notified() => {}
            // A clock that is gone never moves again.
            Ok(()) = moved.changed() => {}
            _ended = stop.changed() => return,
        }
    }
}

/// Says until when this task sleeps, under the lock that earlier results are added under.
fn arm(context: &Context) -> Millis {
    context.glance(|book, now| {
        let next = book.next_due();
        context.results_armed.store(next.map_or(i64::MAX, |at| at.0), Ordering::Release);
        next.map_or(Millis::from_hours(1), |at| at - now)
    })
}

fn tell(context: &Context, fired: &[Fired]) {
    let now = context.clock.now();
    for fired in fired {
        let fact = match fired {
            Fired::Message { number, step, code } => message(context, *number, *step, *code),
            Fired::Capture { payment } => {
                let view = context.glance(|book, now| {
                    let payment = book.payments.get(*payment)?;
                    Some(toss_view::of(book, payment, now, &[]).json())
                });
                if let Some(view) = view {
                    context.hooks.payment(&context.faults, now, &view);
                }
                None
            }
        };
        if let Some((provider, fact)) = fact {
            context.hooks.push(&context.faults, now, provider, &fact);
        }
    }
}

fn message(context: &Context, number: MessageNumber, step: u8, code: u16) -> Option<(Provider, Value)> {
    let (provider, frame) = context.glance(|book, _| {
        let message = book.get(number)?;
        Some((message.provider, message.frame))
    })?;
    let event = read(context, frame)?;
    let fact = context.glance(|book, _| fact(book, provider, (number, step, code), &event))?;
    Some((provider, fact))
}

fn read(context: &Context, frame: FrameAt) -> Option<MessageEvent<'static>> {
    match context.read(frame) {
        Ok(Event::Message(event)) => Some(event),
        Ok(_) | Err(_) => None,
    }
}

fn fact(
    book: &Book,
    provider: Provider,
    (number, step, code): (MessageNumber, u8, u16),
    event: &MessageEvent<'_>,
) -> Option<Value> {
    match provider {
        Provider::Nhn => {
            let hook_id = format!("sandbox-{:08x}-{step}", number.0);
            Some(nhn_lookup::see(book, number)?.hook(event, code, &hook_id))
        }
        Provider::Solapi => solapi_lookup::hook(book, number, event, code),
        // These accept, and say no more.
        Provider::Smtp | Provider::Fcm | Provider::Toss | Provider::Shipping => None,
    }
}

/// No result is due or on its way to the webhooks.
pub(crate) fn quiet(context: &Context) -> bool {
    let due = context.glance(|book, now| book.next_due().is_some_and(|at| at <= now));
    !due && context.results_open.load(Ordering::Acquire) == 0
}

/// When the next result or webhook is due.
pub(crate) fn next_due(context: &Context) -> Option<Timestamp> {
    let result = context.glance(|book, _| book.next_due());
    result.into_iter().chain(context.hooks.next_due()).min()
}
